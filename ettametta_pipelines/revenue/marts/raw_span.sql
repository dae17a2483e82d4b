-- First and last instant a reading is about, and whether pages shifted while it was made. Input: listed; parameters $start, $end of its window.
SELECT
    least($start, min(occurred_at)) AS first,
    greatest($end::TIMESTAMPTZ - INTERVAL 1 MICROSECOND, max(occurred_at)) AS last,
    count(*) > count(DISTINCT (object_type, object_id)) AS has_repeats
FROM listed
