-- Instant of the newest movement. Input: shopify_ledger; parameter $since_day.
SELECT max(occurred_at) AS newest FROM shopify_ledger WHERE day >= $since_day
