-- Commissions that networks have approved; others are no revenue (yet). Grain: transaction.
-- Input: affiliate_earnings; parameters $first_day, $last_day.
SELECT
    day,
    'affiliate' AS source,
    network,
    transaction_id,
    link_id,
    currency,
    exponent,
    TRUE AS livemode,
    amount_minor AS gross_minor,
    0::BIGINT AS fee_minor,
    amount_minor AS net_minor
FROM affiliate_earnings
WHERE day BETWEEN $first_day AND $last_day AND status = 'approved'
ORDER BY day, network, transaction_id
