-- What is known of the objects around some days: every version without its payload.
-- Input: stripe_raw; parameters $from_day, $to_day.
SELECT day, object_type, object_id, occurred_at, fetched_at, payload_sha256, facts
FROM stripe_raw
WHERE day BETWEEN $from_day AND $to_day
