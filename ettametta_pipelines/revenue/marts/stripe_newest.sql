-- Instant of the newest movement. Input: stripe_ledger; parameter $since_day.
SELECT max(occurred_at) AS newest FROM stripe_ledger WHERE day >= $since_day
