-- Where estimates and finals of YouTube's revenue are mixed, or a channel's day is not booked as it was told.
-- Inputs: youtube_revenue, currencies; macro shown; parameters $first_day, $last_day.
WITH told AS (
    SELECT *, (10 ** (6 - exponent))::BIGINT AS unit
    FROM youtube_revenue
    WHERE day BETWEEN $first_day AND $last_day
),

holding AS (SELECT * FROM told WHERE valid_to IS NULL),

channel_days AS (
    SELECT
        day,
        channel_id,
        currency,
        exponent,
        unit,
        count(DISTINCT basis) AS bases,
        min(basis) AS basis,
        sum(amount_micro)::BIGINT AS amount_micro,
        sum(booked_minor)::BIGINT AS booked_minor
    FROM holding
    GROUP BY ALL
),

rounded AS (
    SELECT
        *,
        -- Floor division, then half to even; DuckDB's // rounds toward zero.
        (amount_micro - ((amount_micro % unit) + unit) % unit) // unit AS whole,
        ((amount_micro % unit) + unit) % unit AS rest
    FROM channel_days
),

expected AS (
    SELECT *, whole + CASE WHEN 2 * rest > unit OR (2 * rest = unit AND whole % 2 <> 0) THEN 1 ELSE 0 END AS wanted
    FROM rounded
)

SELECT day || ' ' || channel_id || ' ' || video_id || ' holds ' || count(*) || ' figures at once' AS said
FROM holding
GROUP BY day, channel_id, video_id
HAVING count(*) > 1

UNION ALL
SELECT day || ' ' || channel_id || ' holds estimates beside finals' FROM channel_days WHERE bases > 1

UNION ALL
SELECT
    day || ' ' || channel_id || ' ' || video_id || ' is an estimate and booked with '
    || shown(booked_minor, currency, exponent)
FROM told
WHERE basis = 'estimated' AND booked_minor <> 0

UNION ALL
SELECT
    day || ' ' || channel_id || ' is booked with ' || shown(booked_minor, currency, exponent)
    || ', what was told rounds to ' || shown(wanted, currency, exponent)
FROM expected
WHERE bases = 1 AND basis = 'finalised' AND booked_minor <> wanted

UNION ALL
SELECT
    day || ' ' || channel_id || ' ' || video_id || ' held until ' || valid_to || ' and was replaced at '
    || coalesce(next_from::VARCHAR, 'no time')
FROM (
    SELECT
        *,
        (
            SELECT min(other.valid_from) FROM told AS other
            WHERE other.day = told.day AND other.channel_id = told.channel_id
                AND other.valid_from > told.valid_from
        ) AS next_from
    FROM told
)
WHERE valid_to IS NOT NULL AND valid_to IS DISTINCT FROM next_from
