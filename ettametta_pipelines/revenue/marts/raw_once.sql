-- Each object once: of one that was listed twice the later page counts. Input: listed.
SELECT *
FROM listed
QUALIFY row_number() OVER (PARTITION BY object_type, object_id ORDER BY place DESC) = 1
