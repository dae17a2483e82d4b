-- All movements up to $last_day of the orders with one between $first_day and $last_day, as the mart counts them.
-- Grain: order, currency and day, in that order. Input: shopify_ledger.
WITH placed AS (
    SELECT
        *,
        CASE WHEN booking_class = 'revenue' THEN amount_minor ELSE 0 END AS gross_part,
        CASE WHEN booking_class = 'cost' THEN fee_minor - amount_minor ELSE fee_minor END AS fee_part
    FROM shopify_ledger
    WHERE day <= $last_day AND order_id IS NOT NULL AND booking_class IN ('revenue', 'cost', 'transfer')
)

SELECT
    day,
    'shopify' AS source,
    order_id,
    currency,
    exponent,
    bool_and(livemode) AS livemode,
    sum(gross_part)::BIGINT AS gross_minor,
    sum(fee_part)::BIGINT AS fee_minor,
    (sum(gross_part) - sum(fee_part))::BIGINT AS net_minor
FROM placed
WHERE order_id IN (SELECT order_id FROM placed WHERE day BETWEEN $first_day AND $last_day)
GROUP BY day, order_id, currency, exponent
ORDER BY order_id, currency, day
