-- Orders whose refunds were not taken from the videos that the order went to. Looked at are orders with a movement on
-- these days, over all their days up to the last; what is left of a full refund only where all of these are attributed.
-- Inputs: revenue_attribution, shopify_ledger, currencies; macro shown; parameters $first_day, $last_day.
WITH parts AS (
    SELECT
        item_id,
        currency,
        day,
        coalesce(source_id, 'unattributed') AS went_to,
        sum(gross_minor)::BIGINT AS gross_minor
    FROM revenue_attribution
    WHERE
        source = 'shopify'
        AND day <= $last_day
        AND item_id IN (SELECT order_id FROM shopify_ledger WHERE day BETWEEN $first_day AND $last_day)
    GROUP BY ALL
),

by_video AS (
    SELECT item_id, currency, went_to, min(day) AS since, sum(gross_minor)::BIGINT AS gross_minor
    FROM parts
    GROUP BY ALL
),

orders AS (
    SELECT item_id, currency, min(day) AS since, count(DISTINCT day) AS days FROM parts GROUP BY ALL
),

refunded AS (
    SELECT order_id AS item_id, currency, count(DISTINCT day) AS days
    FROM shopify_ledger
    WHERE day <= $last_day AND booking_class IN ('revenue', 'cost', 'transfer')
    GROUP BY ALL
    HAVING sum(CASE WHEN booking_class = 'revenue' THEN amount_minor ELSE 0 END) = 0
)

SELECT
    item_id || ' took ' || shown(gross_minor, currency, exponent) || ' from ' || went_to
    || ', which the order of ' || orders.since || ' did not go to' AS said
FROM by_video
JOIN orders USING (item_id, currency)
JOIN currencies USING (currency)
WHERE by_video.since > orders.since AND gross_minor <> 0

UNION ALL
SELECT
    item_id || ' was refunded in full and leaves ' || shown(gross_minor, currency, exponent) || ' with ' || went_to
FROM by_video
JOIN orders USING (item_id, currency)
JOIN refunded USING (item_id, currency)
JOIN currencies USING (currency)
WHERE orders.days = refunded.days AND gross_minor <> 0
