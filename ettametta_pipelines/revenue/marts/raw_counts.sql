-- Movements listed per day of a reading's window, and how many came twice because pages shifted meanwhile.
-- Input: listed; parameters $start, $end, $timezone.
SELECT
    (occurred_at AT TIME ZONE $timezone)::DATE AS day,
    count(DISTINCT object_id) AS listed,
    count(*) - count(DISTINCT object_id) AS repeated
FROM listed
WHERE object_type = 'balance_transaction' AND occurred_at >= $start AND occurred_at < $end
GROUP BY day
