-- Disputes whose money does not end where their outcome says. Fees are rows' fees and not looked at here.
-- Inputs: stripe_ledger, shopify_ledger, stripe_raw, booked_days; macro shown; parameters $first_day,
-- $last_day, $since_day, $to_day.
WITH moves AS (
    SELECT
        source,
        source_object_id,
        currency,
        exponent,
        -coalesce(sum(amount_minor) FILTER (reporting_category = 'dispute'), 0) AS taken,
        coalesce(sum(amount_minor) FILTER (reporting_category = 'dispute_reversal'), 0) AS returned,
        max(day) AS moved_on
    FROM (
        SELECT * FROM stripe_ledger WHERE day BETWEEN $since_day AND $last_day
        UNION ALL BY NAME
        SELECT * FROM shopify_ledger WHERE day BETWEEN $since_day AND $last_day
    )
    WHERE reporting_category IN ('dispute', 'dispute_reversal') AND booking_class <> 'test'
    GROUP BY ALL
),

outcomes AS (
    SELECT object_id AS dispute_id, max_by(about ->> '$.status', fetched_at) AS status
    FROM stripe_raw
    WHERE day BETWEEN $since_day AND $to_day AND kind = 'others' AND object_type = 'dispute'
    GROUP BY object_id
)

SELECT
    source_object_id || CASE
        WHEN status = 'lost' THEN ' was lost'
        WHEN status = 'won' THEN ' was won'
        ELSE ' is open'
    END || ': ' || shown(taken, currency, exponent) || ' was taken and ' || shown(returned, currency, exponent)
    || ' came back' AS said
FROM moves
LEFT JOIN outcomes ON source = 'stripe' AND dispute_id = source_object_id
WHERE
    moved_on >= $first_day
    AND (
        returned > taken
        OR (status = 'lost' AND returned <> 0)
        OR (status = 'won' AND returned <> 0 AND returned <> taken)
    )
    AND (
        taken > 0
        OR EXISTS (SELECT 1 FROM booked_days WHERE booked_days.source = moves.source AND day <= $since_day)
    )
