-- Orders whose refunds were not taken from the videos that the order went to. Looked at are orders with a movement on
-- these days, over all days that are attributed.
-- Inputs: revenue_attribution, currencies; macro shown; parameters $first_day, $last_day.
WITH touched AS (
    SELECT DISTINCT item_id
    FROM revenue_attribution
    WHERE source = 'shopify' AND day BETWEEN $first_day AND $last_day AND item_id <> '(rest)'
),

parts AS (
    SELECT
        item_id,
        currency,
        coalesce(source_id, 'unattributed') AS went_to,
        min(day) AS since,
        sum(gross_minor)::BIGINT AS gross_minor
    FROM revenue_attribution
    SEMI JOIN touched USING (item_id)
    WHERE source = 'shopify'
    GROUP BY ALL
),

orders AS (
    SELECT item_id, currency, min(since) AS since, sum(gross_minor) AS gross_minor
    FROM parts
    GROUP BY ALL
)

SELECT
    parts.item_id || ' took ' || shown(parts.gross_minor, currency, exponent) || ' from ' || went_to
    || ', which the order of ' || orders.since || ' did not go to' AS said
FROM parts
JOIN orders USING (item_id, currency)
JOIN currencies USING (currency)
WHERE parts.since > orders.since AND parts.gross_minor <> 0

UNION ALL
SELECT
    parts.item_id || ' was refunded in full and leaves ' || shown(parts.gross_minor, currency, exponent) || ' with '
    || went_to
FROM parts
JOIN orders USING (item_id, currency)
JOIN currencies USING (currency)
WHERE orders.gross_minor = 0 AND parts.gross_minor <> 0
