-- What stands in the mart. Input: daily_revenue; parameters $first_day, $last_day.
SELECT day, source, currency, net_minor
FROM daily_revenue
WHERE day BETWEEN $first_day AND $last_day
