-- Movements listed per day of a reading's window, and how many came twice because pages shifted meanwhile.
-- Inputs: listed, calendar; parameters $start, $end.
SELECT
    calendar.day,
    count(DISTINCT object_id) AS listed,
    count(*) - count(DISTINCT object_id) AS repeated
FROM listed
ASOF JOIN calendar ON listed.occurred_at >= calendar.day_start
WHERE object_type = 'balance_transaction' AND occurred_at >= $start AND occurred_at < $end
GROUP BY calendar.day
