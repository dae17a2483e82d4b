-- Movements that stand under more than one day. Inputs: stripe_ledger, shopify_ledger; parameters $lookback_day, $last_day.
SELECT
    source || ' ' || entry_id || ' is booked on ' || min(day) || ' and ' || max(day) AS said
FROM (
    SELECT source, entry_id, day FROM stripe_ledger WHERE day BETWEEN $lookback_day AND $last_day
    UNION ALL
    SELECT source, entry_id, day FROM shopify_ledger WHERE day BETWEEN $lookback_day AND $last_day
)
GROUP BY source, entry_id
HAVING count(*) > 1
