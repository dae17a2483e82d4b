-- How many candidates a niche usually has.
--
-- Grain: one row per niche with any morning look in the days given.
-- Key: (niche).
-- Inputs: niche_trends; parameters $first_day and $last_day (inclusive).
-- Invariants: days >= 1. The median, since one night without quota must not lower what is usual.

SELECT
    niche,
    count(*) AS days,
    CAST(median(candidates) AS DOUBLE) AS candidates
FROM niche_trends
WHERE day BETWEEN $first_day AND $last_day
GROUP BY niche
ORDER BY niche
