-- Disputes that were not decided when they were last read. Input: stripe_raw; parameters $from_day, $to_day.
-- A dispute is known by the movement that took the money, and from then on by its own versions.
WITH said AS (
    SELECT
        about ->> '$.id' AS dispute_id,
        about ->> '$.status' AS status,
        occurred_at,
        fetched_at
    FROM stripe_raw
    WHERE
        day BETWEEN $from_day AND $to_day
        AND (
            object_type = 'dispute'
            OR (object_type = 'balance_transaction' AND starts_with(facts, '["dispute"'))
        )
)

SELECT dispute_id, max(occurred_at) AS posted_at
FROM said
WHERE dispute_id IS NOT NULL
GROUP BY dispute_id
HAVING max_by(status, fetched_at) NOT IN ('won', 'lost', 'warning_closed', 'prevented')
ORDER BY dispute_id
