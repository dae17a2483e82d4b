-- Days that an earlier reading has closed. Input: raw; parameter $fetched_at of this reading.
SELECT DISTINCT day
FROM raw
WHERE object_type = 'reading' AND object_id = 'closed' AND fetched_at < $fetched_at
