-- How each niche moved, day by day.
--
-- Grain: one row per day and niche with any trend candidate on that day.
-- Key: (day, niche).
-- Inputs: trend_candidates; parameters $first_day and $last_day (inclusive; the lake reads these days' files only),
--   $outlier_ratio (from which ratio on a candidate counts as an outlier).
-- Invariants:
--   candidates = number of rows; outliers <= candidates whose outlier ratio is known
--   every (day, niche) has exactly one leader, the row of rank 1: ranks are 1..n without gaps in a partition
--   views are the sum of all rows, or unknown where any is
--   an outlier ratio that is unknown is left out of median and count, never zero

WITH moves AS (
    SELECT
        day,
        niche,
        count(*) AS candidates,
        -- Hashes of 64 bits: two of a niche's channels share one less often than once in a billion nights.
        count(DISTINCT hash(platform, channel_id)) AS channels,
        -- A sum of what is left after some were deleted by age would look like a quiet day.
        CASE WHEN count(views) = count(*) THEN CAST(sum(views) AS BIGINT) END AS views,
        -- Both from one sorted list. Interpolated between neighbours, as NumPy does by default.
        quantile_cont(view_velocity_per_hour, [0.5, 0.9]) AS velocities,
        quantile_cont(outlier_ratio, 0.5) AS median_outlier_ratio,
        count(*) FILTER (outlier_ratio >= $outlier_ratio) AS outliers,
        count(baseline_views) / count(*) AS baseline_share,
        -- One value of four fields: four values would be four comparisons per row.
        arg_min((video_id, title, url, view_velocity_per_hour), rank) AS leader,
        max(observed_at) AS last_observed_at
    FROM trend_candidates
    WHERE day BETWEEN $first_day AND $last_day
    GROUP BY day, niche
)

SELECT
    day,
    niche,
    candidates,
    channels,
    views,
    velocities[1] AS median_velocity_per_hour,
    velocities[2] AS top_decile_velocity_per_hour,
    median_outlier_ratio,
    outliers,
    baseline_share,
    leader[1] AS top_video_id,
    leader[2] AS top_title,
    leader[3] AS top_url,
    leader[4] AS top_velocity_per_hour,
    last_observed_at
FROM moves
ORDER BY day, niche
