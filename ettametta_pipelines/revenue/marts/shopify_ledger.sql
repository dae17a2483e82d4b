-- The Shopify Payments ledger of some business days, in the columns and categories of the Stripe ledger.
--
-- Grain: one row per balance transaction. Key: entry_id. Sorted by day, instant and id.
-- Inputs: shopify_raw; currencies(currency, exponent), booking_classes(reporting_category, booking_class),
--   shopify_categories(type, reporting_category); the macro minor_units; parameters as of stripe_ledger.sql.
-- Invariants: as many rows as movements; amounts are read exactly, one that cannot be is null and refused.
WITH latest AS (
    SELECT *
    FROM shopify_raw
    WHERE
        day BETWEEN $from_day AND $to_day
        AND kind = 'entries'
        AND occurred_at >= $start
        AND occurred_at < $end
    QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY fetched_at DESC, payload_sha256 DESC) = 1
),

entries AS (
    SELECT
        object_id,
        (occurred_at AT TIME ZONE $timezone)::DATE AS day,
        occurred_at,
        fetched_at,
        livemode,
        from_json(
            payload,
            '{"type":"VARCHAR","test":"BOOLEAN","sourceId":"VARCHAR",
              "amount":{"amount":"VARCHAR","currencyCode":"VARCHAR"},"fee":{"amount":"VARCHAR"},
              "net":{"amount":"VARCHAR"},"associatedPayout":{"id":"VARCHAR","status":"VARCHAR"},
              "associatedOrder":{"id":"VARCHAR"}}'
        ) AS said
    FROM latest
    WHERE payload IS NOT NULL
)

SELECT
    entries.day,
    'shopify' AS source,
    entries.object_id AS entry_id,
    said.type,
    coalesce(shopify_categories.reporting_category, 'unclassified') AS reporting_category,
    CASE
        WHEN said.test AND livemode THEN 'test'
        WHEN NOT livemode AND bool_or(livemode) OVER (PARTITION BY entries.day) THEN 'test'
        ELSE coalesce(booking_classes.booking_class, 'unclassified')
    END AS booking_class,
    minor_units(said.amount.amount, currencies.exponent) AS amount_minor,
    minor_units(said.fee.amount, currencies.exponent) AS fee_minor,
    minor_units(said.net.amount, currencies.exponent) AS net_minor,
    said.amount.currencyCode AS currency,
    currencies.exponent,
    NULL::VARCHAR AS fee_details,
    said.sourceId AS source_object_id,
    NULL::BIGINT AS presented_minor,
    NULL::VARCHAR AS presented_currency,
    NULL::VARCHAR AS exchange_rate,
    entries.occurred_at,
    $timezone AS business_timezone,
    entries.livemode AND NOT said.test AS livemode,
    NULL::TIMESTAMPTZ AS available_on,
    said.associatedPayout.status AS status,
    said.associatedPayout.id AS payout_id,
    entries.fetched_at,
    said.associatedOrder.id AS order_id
FROM entries
LEFT JOIN currencies ON currencies.currency = said.amount.currencyCode
LEFT JOIN shopify_categories ON shopify_categories.type = said.type
LEFT JOIN booking_classes ON booking_classes.reporting_category = shopify_categories.reporting_category
ORDER BY entries.day, entries.occurred_at, entry_id
