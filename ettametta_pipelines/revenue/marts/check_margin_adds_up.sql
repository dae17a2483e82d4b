-- Dimensions whose revenue is not what was attributed in the window, or whose cost is not what was spent.
-- Inputs: made (rows of content_margin), revenue_attribution, content_costs; windows, currencies; parameters $first_day,
--   $last_day.
WITH wanted AS (
    SELECT day, mode, currency, sum(revenue_micro)::BIGINT AS revenue_micro, sum(cost_micro)::BIGINT AS cost_micro
    FROM (
        SELECT
            windows.day,
            CASE WHEN livemode THEN 'live' ELSE 'sandbox' END AS mode,
            currency,
            net_minor * (10 ** (6 - exponent))::BIGINT AS revenue_micro,
            0 AS cost_micro
        FROM revenue_attribution
        JOIN windows ON revenue_attribution.day BETWEEN windows.since AND windows.day
        WHERE revenue_attribution.day BETWEEN $first_day AND $last_day

        UNION ALL
        SELECT windows.day, mode, 'USD', 0, cost_microusd
        FROM content_costs
        JOIN windows ON content_costs.day BETWEEN windows.since AND windows.day
        WHERE content_costs.day BETWEEN $first_day AND $last_day
    )
    GROUP BY ALL
),

divided AS (
    SELECT
        day,
        mode,
        currency,
        dimension,
        sum(revenue_micro)::BIGINT AS revenue_micro,
        sum(cost_micro)::BIGINT AS cost_micro,
        bool_or(margin_micro <> revenue_micro - cost_micro) AS is_crooked
    FROM made
    WHERE dimension <> 'filter'
    GROUP BY ALL
),

expected AS (
    SELECT wanted.*, dimension
    FROM wanted
    CROSS JOIN (SELECT unnest(['video', 'niche', 'format', 'recipe', 'platform']) AS dimension)
)

SELECT
    coalesce(expected.day, divided.day) || ' ' || mode || ' ' || currency || ' by ' || dimension || ': revenue off by '
    || (coalesce(divided.revenue_micro, 0) - coalesce(expected.revenue_micro, 0)) || ' and cost by '
    || (coalesce(divided.cost_micro, 0) - coalesce(expected.cost_micro, 0)) || ' millionths' AS said
FROM expected
FULL JOIN divided USING (day, mode, currency, dimension)
WHERE
    expected.revenue_micro IS DISTINCT FROM divided.revenue_micro
    OR expected.cost_micro IS DISTINCT FROM divided.cost_micro
    OR is_crooked
