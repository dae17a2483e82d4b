-- Payouts posted on some days beside what they paid.
--
-- Grain: one row per payout. Key: (source, payout_id). Sorted by day.
-- Inputs: stripe_ledger, shopify_ledger, stripe_raw; booked_days(source, day); parameters $first_day, $last_day,
--   $lookback_day (how far back a payout's rows may lie), $from_day, $to_day (where its own objects may be filed).
-- Stripe lists a payout's rows itself; Shopify's rows name their payout, so there all days before it must be booked.
WITH own AS (
    SELECT
        day,
        source,
        -- One that no id is known of is shown all the same.
        coalesce(payout_id, source_object_id, entry_id) AS payout_id,
        currency,
        exponent,
        -sum(amount_minor) AS amount_minor
    FROM (
        SELECT * FROM stripe_ledger WHERE day BETWEEN $first_day AND $last_day
        UNION ALL BY NAME
        SELECT * FROM shopify_ledger WHERE day BETWEEN $first_day AND $last_day
    )
    WHERE reporting_category = 'payout' AND booking_class <> 'test'
    GROUP BY ALL
),

latest AS MATERIALIZED (
    SELECT object_id AS payout_id, from_json(payload, '{"rows":[["VARCHAR"]]}') AS said
    FROM stripe_raw
    WHERE day BETWEEN $from_day AND $to_day AND object_type = 'payout_rows' AND kind = 'others'
    QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY fetched_at DESC, payload_sha256 DESC) = 1
),

paid AS (
    SELECT
        'stripe' AS source,
        payout_id,
        count(*) AS rows_listed,
        sum(entry[3]::BIGINT) AS paid_minor
    FROM (SELECT payout_id, unnest(said.rows) AS entry FROM latest)
    WHERE entry[4] <> 'payout'
    GROUP BY payout_id

    UNION ALL
    SELECT source, payout_id, count(*), sum(net_minor)
    FROM shopify_ledger
    WHERE
        day BETWEEN $lookback_day AND $last_day
        AND reporting_category <> 'payout'
        AND booking_class <> 'test'
        AND payout_id IS NOT NULL
    GROUP BY ALL
),

compared AS (
    SELECT
        own.*,
        CASE WHEN own.source = 'shopify' THEN coalesce(rows_listed, 0) ELSE rows_listed END AS rows_listed,
        CASE WHEN own.source = 'shopify' THEN coalesce(paid_minor, 0) ELSE paid_minor END AS paid_minor,
        (
            SELECT count(*) FROM booked_days
            WHERE booked_days.source = own.source AND booked_days.day BETWEEN own.day - 35 AND own.day
        ) = 36 AS history_is_complete
    FROM own
    LEFT JOIN paid USING (source, payout_id)
)

SELECT
    day,
    source,
    payout_id,
    currency,
    exponent,
    amount_minor::BIGINT AS amount_minor,
    rows_listed,
    paid_minor::BIGINT AS paid_minor,
    (amount_minor - paid_minor)::BIGINT AS difference_minor,
    CASE
        WHEN paid_minor IS NULL THEN 'not itemised yet'
        WHEN paid_minor = amount_minor THEN 'agrees'
        WHEN source = 'shopify' AND NOT history_is_complete THEN 'history incomplete'
        ELSE 'differs'
    END AS standing
FROM compared
ORDER BY day, source, payout_id
