-- What the books hold of no order: all of Stripe, and the store's fees, adjustments and payouts without one.
-- Grain: day, source, currency. Inputs: daily_revenue, shopify_ledger; parameters $first_day, $last_day.
SELECT day, source, currency, exponent, livemode, gross_minor, fee_minor, net_minor
FROM daily_revenue
WHERE day BETWEEN $first_day AND $last_day AND source = 'stripe'

UNION ALL
SELECT
    day,
    'shopify',
    currency,
    exponent,
    bool_and(livemode),
    sum(CASE WHEN booking_class = 'revenue' THEN amount_minor ELSE 0 END)::BIGINT AS gross_minor,
    sum(CASE WHEN booking_class = 'cost' THEN fee_minor - amount_minor ELSE fee_minor END)::BIGINT AS fee_minor,
    (
        sum(CASE WHEN booking_class = 'revenue' THEN amount_minor ELSE 0 END)
        - sum(CASE WHEN booking_class = 'cost' THEN fee_minor - amount_minor ELSE fee_minor END)
    )::BIGINT AS net_minor
FROM shopify_ledger
WHERE
    day BETWEEN $first_day AND $last_day
    AND order_id IS NULL
    AND booking_class IN ('revenue', 'cost', 'transfer')
GROUP BY day, currency, exponent
