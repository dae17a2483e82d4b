-- What is missing among the candidates as the platforms returned them.
--
-- Grain: one row per niche with any raw YouTube candidate on that day.
-- Key: (niche).
-- Inputs: youtube_candidates; parameter $day.
-- Invariants: every count <= candidates. A hidden count and one that was not read are both missing here.

SELECT
    niche,
    count(*) AS candidates,
    count(*) - count(views) AS without_views,
    count(*) - count(likes) AS without_likes,
    count(*) - count(comments) AS without_comments
FROM youtube_candidates
WHERE day = $day
GROUP BY niche
ORDER BY niche
