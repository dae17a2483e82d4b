-- First and last instant a reading is about. Input: listed; parameters $start, $end of its window.
SELECT
    least($start, min(occurred_at)) AS first,
    greatest($end::TIMESTAMPTZ - INTERVAL 1 MICROSECOND, max(occurred_at)) AS last
FROM listed
