-- The Stripe ledger of some business days: the latest version of every movement, cut into days by its instant.
--
-- Grain: one row per balance transaction. Key: entry_id. Sorted by day, instant and id.
-- Inputs: stripe_raw; currencies(currency, exponent), booking_classes(reporting_category, booking_class);
--   parameters $start, $end (instants), $from_day, $to_day (where those instants may be filed), $paid_until (last day
--   whose payouts are looked at), $timezone.
-- Invariants: as many rows as movements; a row posted in two payouts takes the first and stays one row (the
--   reconciliation names it).
WITH versions AS (
    SELECT
        object_id,
        (occurred_at AT TIME ZONE $timezone)::DATE AS day,
        occurred_at,
        fetched_at,
        livemode,
        payload_sha256,
        from_json(
            payload,
            '{"type":"VARCHAR","reporting_category":"VARCHAR","amount":"BIGINT","fee":"BIGINT","net":"BIGINT",
              "currency":"VARCHAR","available_on":"BIGINT","status":"VARCHAR","exchange_rate":"VARCHAR",
              "source":{"id":"VARCHAR","amount":"BIGINT","currency":"VARCHAR"},
              "fee_details":[{"type":"VARCHAR","amount":"BIGINT"}]}'
        ) AS said,
        -- A source that was not expanded is its id alone.
        CASE WHEN about IS NULL THEN payload ->> '$.source' END AS source_id
    FROM stripe_raw
    WHERE
        day BETWEEN $from_day AND $to_day
        AND kind = 'entries'
        AND occurred_at >= $start
        AND occurred_at < $end
),

entries AS MATERIALIZED (
    SELECT *
    FROM versions
    QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY fetched_at DESC, payload_sha256 DESC) = 1
),

payouts AS MATERIALIZED (
    SELECT object_id AS payout_id, from_json(payload, '{"rows":[["VARCHAR"]]}') AS said
    FROM stripe_raw
    WHERE day BETWEEN $from_day AND $paid_until AND object_type = 'payout_rows' AND kind = 'others'
    QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY fetched_at DESC, payload_sha256 DESC) = 1
),

paid AS (
    SELECT entry_id, min(payout_id) AS payout_id
    FROM (SELECT payout_id, unnest(said.rows)[1] AS entry_id FROM payouts)
    GROUP BY ALL
)

SELECT
    entries.day,
    'stripe' AS source,
    entries.object_id AS entry_id,
    said.type,
    said.reporting_category,
    CASE
        WHEN NOT livemode AND bool_or(livemode) OVER (PARTITION BY entries.day) THEN 'test'
        ELSE coalesce(booking_classes.booking_class, 'unclassified')
    END AS booking_class,
    said.amount AS amount_minor,
    said.fee AS fee_minor,
    said.net AS net_minor,
    upper(said.currency) AS currency,
    currencies.exponent,
    '[' || array_to_string(
        list_transform(
            said.fee_details, lambda part: '[' || to_json(part.type) || ', ' || part.amount || ']'
        ),
        ', '
    ) || ']' AS fee_details,
    coalesce(said.source.id, source_id) AS source_object_id,
    CASE WHEN said.source.currency IS NOT NULL THEN said.source.amount END AS presented_minor,
    CASE WHEN said.source.amount IS NOT NULL THEN upper(said.source.currency) END AS presented_currency,
    said.exchange_rate,
    entries.occurred_at,
    $timezone AS business_timezone,
    entries.livemode,
    to_timestamp(said.available_on) AS available_on,
    said.status,
    CASE said.type
        WHEN 'payout' THEN coalesce(said.source.id, source_id)
        ELSE paid.payout_id
    END AS payout_id,
    entries.fetched_at,
    NULL::VARCHAR AS order_id
FROM entries
LEFT JOIN currencies ON currencies.currency = upper(said.currency)
LEFT JOIN booking_classes ON booking_classes.reporting_category = said.reporting_category
LEFT JOIN paid ON paid.entry_id = entries.object_id
WHERE entries.payload_sha256 <> 'gone'
ORDER BY entries.day, entries.occurred_at, entry_id
