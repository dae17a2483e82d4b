-- Booked rows of some days for the operator. Grain: day, category, class and currency. Input: booked.
SELECT
    day,
    reporting_category,
    booking_class,
    currency,
    count(*) AS rows,
    sum(amount_minor) AS amount_minor,
    sum(fee_minor) AS fee_minor,
    sum(net_minor) AS net_minor,
    count(*) FILTER (payout_id IS NULL) AS without_payout
FROM booked
GROUP BY ALL
ORDER BY ALL
