-- Payouts that failed or were cancelled and whose money has not come back to the unit.
-- Inputs: stripe_ledger, shopify_ledger, stripe_raw, booked_days; macro shown; parameters $first_day, $last_day,
-- $lookback_day, $to_day.
WITH moves AS (
    SELECT source, source_object_id, reporting_category, amount_minor, currency, exponent, day
    FROM (
        SELECT * FROM stripe_ledger WHERE day BETWEEN $lookback_day AND $last_day
        UNION ALL BY NAME
        SELECT * FROM shopify_ledger WHERE day BETWEEN $lookback_day AND $last_day
    )
    WHERE reporting_category IN ('payout', 'payout_reversal') AND booking_class <> 'test'
),

failed AS (
    SELECT object_id
    FROM (
        SELECT object_id, about
        FROM stripe_raw
        WHERE day BETWEEN $lookback_day AND $to_day AND object_type = 'payout' AND kind = 'others'
        QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY fetched_at DESC, payload_sha256 DESC) = 1
    )
    WHERE about ->> '$.status' IN ('failed', 'canceled')
),

per_payout AS (
    SELECT
        source,
        source_object_id,
        currency,
        exponent,
        sum(amount_minor) AS left_over,
        count(*) FILTER (reporting_category = 'payout') AS payouts,
        count(*) FILTER (reporting_category = 'payout_reversal' AND day >= $first_day) AS reversals
    FROM moves
    GROUP BY ALL
)

SELECT
    source_object_id || CASE WHEN payouts = 0 THEN ' came back without having been paid, by '
    ELSE ' failed, and what left and what came back differ by ' END
    || shown(left_over, currency, exponent) AS said
FROM per_payout
WHERE
    left_over <> 0
    -- A reversal is judged with the days it was posted on, when its payout is in sight too.
    AND (reversals > 0 OR source_object_id IN (SELECT object_id FROM failed))
    AND (
        payouts > 0
        OR EXISTS (
            SELECT 1 FROM booked_days WHERE booked_days.source = per_payout.source AND day <= $lookback_day
        )
    )
