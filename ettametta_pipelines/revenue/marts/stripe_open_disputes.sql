-- Disputes that were not decided when they were last read. Input: stripe_raw; parameters $from_day, $to_day.
SELECT object_id AS dispute_id, max(occurred_at) AS posted_at
FROM stripe_raw
WHERE day BETWEEN $from_day AND $to_day AND kind = 'others' AND object_type = 'dispute'
GROUP BY object_id
HAVING max_by(about ->> '$.status', fetched_at) NOT IN ('won', 'lost', 'warning_closed', 'prevented')
ORDER BY dispute_id
