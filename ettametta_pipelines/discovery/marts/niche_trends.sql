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
-- The leader's texts are read in a scan of their own: carrying three strings of every row through the aggregation
-- costs more than reading rank twice.

WITH moves AS (
    SELECT
        day,
        niche,
        count(*) AS candidates,
        count(DISTINCT (platform, channel_id)) AS channels,
        -- A sum of what is left after some were deleted by age would look like a quiet day.
        CASE WHEN count(views) = count(*) THEN CAST(sum(views) AS BIGINT) END AS views,
        -- Both from one sorted list. Interpolated between neighbours, as NumPy does by default.
        quantile_cont(view_velocity_per_hour, [0.5, 0.9]) AS velocities,
        quantile_cont(outlier_ratio, 0.5) AS median_outlier_ratio,
        count(*) FILTER (outlier_ratio >= $outlier_ratio) AS outliers,
        count(baseline_views) / count(*) AS baseline_share,
        max(observed_at) AS last_observed_at
    FROM trend_candidates
    WHERE day BETWEEN $first_day AND $last_day
    GROUP BY day, niche
),

leaders AS (
    SELECT
        day,
        niche,
        video_id,
        title,
        url,
        view_velocity_per_hour
    FROM trend_candidates
    WHERE day BETWEEN $first_day AND $last_day AND rank = 1
)

SELECT
    moves.day,
    moves.niche,
    moves.candidates,
    moves.channels,
    moves.views,
    moves.velocities[1] AS median_velocity_per_hour,
    moves.velocities[2] AS top_decile_velocity_per_hour,
    moves.median_outlier_ratio,
    moves.outliers,
    moves.baseline_share,
    leaders.video_id AS top_video_id,
    leaders.title AS top_title,
    leaders.url AS top_url,
    leaders.view_velocity_per_hour AS top_velocity_per_hour,
    moves.last_observed_at
FROM moves
INNER JOIN leaders ON leaders.day = moves.day AND leaders.niche = moves.niche
ORDER BY moves.day, moves.niche
