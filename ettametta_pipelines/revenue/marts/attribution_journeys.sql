-- Visits before the orders with a movement on these days. Grain: order; one filed under two days is taken once.
-- Inputs: shopify_orders, shopify_ledger; parameters $first_day, $last_day.
SELECT order_id, ordered_at, is_ready, visits
FROM shopify_orders
WHERE order_id IN (SELECT order_id FROM shopify_ledger WHERE day BETWEEN $first_day AND $last_day)
QUALIFY row_number() OVER (PARTITION BY order_id ORDER BY is_ready DESC, fetched_at, day) = 1
