-- What earned more than it cost, over the window that ends on each day.
--
-- Grain: day, mode, dimension, value, currency. Money in millionths of the currency, whole.
-- Inputs: revenue_attribution, content_costs; windows(day, since), posts(publication_id, source_id, platform, format,
--   recipe, filters, published_on), sources(source_id, niche); parameters $first_day, $last_day (of all windows),
--   $enough (videos from which on an interval is told).
-- Invariants: every dimension but filter divides: its revenue is what was attributed, its cost what was spent, in whole
--   units. A post with three filters counts under each of them. A video's cost is shared by its posts in equal parts.
--   Videos that were posted in the window and earned nothing count as such.
WITH revenue AS (
    SELECT
        windows.day,
        CASE WHEN livemode THEN 'live' ELSE 'sandbox' END AS mode,
        currency,
        source_id,
        publication_id,
        platform,
        format,
        recipe,
        niche,
        sum(net_minor * (10 ** (6 - exponent))::BIGINT)::BIGINT AS revenue_micro,
        0::BIGINT AS cost_micro
    FROM revenue_attribution
    JOIN windows ON revenue_attribution.day BETWEEN windows.since AND windows.day
    WHERE revenue_attribution.day BETWEEN $first_day AND $last_day
    GROUP BY ALL
),

spent AS (
    SELECT windows.day, mode, source_id, niche, sum(cost_microusd)::BIGINT AS cost_micro
    FROM content_costs
    JOIN windows ON content_costs.day BETWEEN windows.since AND windows.day
    WHERE content_costs.day BETWEEN $first_day AND $last_day
    GROUP BY ALL
),

posted AS (
    SELECT
        windows.day,
        posts.* EXCLUDE (filters),
        row_number() OVER (PARTITION BY windows.day, source_id ORDER BY published_on, publication_id) AS place,
        count(*) OVER (PARTITION BY windows.day, source_id) AS places
    FROM posts
    JOIN windows ON posts.published_on <= windows.day
),

costs AS (
    SELECT
        spent.day,
        mode,
        'USD' AS currency,
        spent.source_id,
        posted.publication_id,
        posted.platform,
        posted.format,
        posted.recipe,
        coalesce(sources.niche, spent.niche) AS niche,
        0::BIGINT AS revenue_micro,
        -- Equal parts; what is left over goes to the first posts, one each.
        CASE
            WHEN places IS NULL THEN cost_micro
            ELSE cost_micro // places + CASE WHEN place <= cost_micro % places THEN 1 ELSE 0 END
        END::BIGINT AS cost_micro
    FROM spent
    LEFT JOIN posted ON posted.day = spent.day AND posted.source_id = spent.source_id
    LEFT JOIN sources ON sources.source_id = spent.source_id
),

present AS (
    SELECT DISTINCT day, mode, currency FROM (SELECT * FROM revenue UNION ALL BY NAME SELECT * FROM costs)
),

silent AS (
    SELECT
        present.day,
        present.mode,
        present.currency,
        posted.source_id,
        posted.publication_id,
        posted.platform,
        posted.format,
        posted.recipe,
        sources.niche,
        0::BIGINT AS revenue_micro,
        0::BIGINT AS cost_micro
    FROM present
    JOIN windows USING (day)
    JOIN posted ON posted.day = present.day AND posted.published_on >= windows.since
    LEFT JOIN sources ON sources.source_id = posted.source_id
),

facts AS (
    SELECT all_of.*, filters
    FROM (
        SELECT * FROM revenue
        UNION ALL BY NAME
        SELECT * FROM costs
        UNION ALL BY NAME
        SELECT * FROM silent
    ) AS all_of
    LEFT JOIN posts USING (publication_id)
),

told AS (
    SELECT
        *,
        CASE
            WHEN source_id IS NOT NULL THEN '(unknown)'
            WHEN cost_micro <> 0 THEN '(shared)'
            ELSE '(unattributed)'
        END AS otherwise
    FROM facts
),

placed AS (
    SELECT 'video' AS dimension, coalesce(source_id, otherwise) AS value, * FROM told
    UNION ALL
    SELECT 'niche', coalesce(niche, otherwise), * FROM told
    UNION ALL
    SELECT 'format', coalesce(format, otherwise), * FROM told
    UNION ALL
    SELECT 'recipe', coalesce(recipe, otherwise), * FROM told
    UNION ALL
    SELECT 'platform', coalesce(platform, otherwise), * FROM told
    UNION ALL
    SELECT
        'filter',
        unnest(CASE WHEN recipe IS NULL THEN [otherwise] WHEN len(filters) = 0 THEN ['(none)'] ELSE filters END),
        *
    FROM told
),

by_video AS (
    SELECT
        day,
        mode,
        dimension,
        value,
        currency,
        source_id,
        sum(revenue_micro) AS revenue_micro,
        sum(cost_micro) AS cost_micro
    FROM placed
    GROUP BY ALL
),

summed AS (
    SELECT
        day,
        mode,
        dimension,
        value,
        currency,
        sum(revenue_micro)::BIGINT AS revenue_micro,
        sum(cost_micro)::BIGINT AS cost_micro,
        (sum(revenue_micro) - sum(cost_micro))::BIGINT AS margin_micro,
        count(source_id) AS videos,
        count(source_id) FILTER (revenue_micro > 0) AS earning_videos,
        stddev_samp((revenue_micro - cost_micro) / 1e6) FILTER (source_id IS NOT NULL) AS spread
    FROM by_video
    GROUP BY ALL
),

judged AS (
    SELECT
        *,
        CASE WHEN videos > 0 THEN margin_micro / 1e6 / videos END AS mean_margin,
        CASE WHEN videos >= $enough THEN 1.96 * spread / sqrt(videos) END AS half
    FROM summed
)

SELECT
    day,
    mode,
    dimension,
    value,
    currency,
    revenue_micro,
    cost_micro,
    margin_micro,
    videos,
    earning_videos,
    mean_margin,
    mean_margin - half AS low,
    mean_margin + half AS high,
    CASE
        WHEN half IS NULL THEN 'too few'
        WHEN mean_margin - half > 0 THEN 'earns'
        WHEN mean_margin + half < 0 THEN 'loses'
        ELSE 'unclear'
    END AS verdict
FROM judged
ORDER BY day, mode, dimension, currency, margin_micro DESC, value
