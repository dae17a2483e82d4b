-- What was earned per business day.
--
-- Grain: one row per day, source and currency with any ledger row on that day.
-- Key: (day, source, currency).
-- Inputs: stripe_ledger and shopify_ledger (same columns); youtube_revenue, of which what is finalised and holds is
--   booked; parameters $first_day, $last_day.
-- Invariants:
--   net_minor = gross_minor - fee_minor
--   net_minor + transfers_minor = sum of the ledger's net_minor, per source and currency (test rows left out)
--   transactions + transfers = number of ledger rows, so nothing is counted twice or lost
-- Payouts and other moves of our own money are transfers: shown beside revenue, never in it. The fee of a transfer
-- (an instant payout, say) is a cost all the same. Sums of BIGINT are HUGEINT in DuckDB, hence the casts back.

WITH entries AS (
    SELECT * FROM stripe_ledger WHERE day BETWEEN $first_day AND $last_day
    UNION ALL BY NAME
    SELECT * FROM shopify_ledger WHERE day BETWEEN $first_day AND $last_day
    UNION ALL BY NAME
    SELECT
        day,
        'youtube' AS source,
        'revenue' AS booking_class,
        'youtube_revenue' AS reporting_category,
        booked_minor AS amount_minor,
        0 AS fee_minor,
        currency,
        exponent,
        'America/Los_Angeles' AS business_timezone,
        livemode
    FROM youtube_revenue
    WHERE day BETWEEN $first_day AND $last_day AND basis = 'finalised' AND valid_to IS NULL
),

placed AS (
    SELECT
        *,
        booking_class = 'transfer' AS is_transfer,
        -- A cost the service books on its own arrives as a negative amount; here it is a fee.
        CASE WHEN booking_class = 'revenue' THEN amount_minor ELSE 0 END AS gross_part,
        CASE WHEN booking_class = 'cost' THEN fee_minor - amount_minor ELSE fee_minor END AS fee_part
    FROM entries
    WHERE booking_class IN ('revenue', 'cost', 'transfer')
)

SELECT
    day,
    source,
    currency,
    exponent,
    CAST(sum(gross_part) AS BIGINT) AS gross_minor,
    CAST(sum(fee_part) AS BIGINT) AS fee_minor,
    CAST(sum(gross_part) - sum(fee_part) AS BIGINT) AS net_minor,
    CAST(coalesce(sum(gross_part) FILTER (reporting_category = 'refund'), 0) AS BIGINT) AS refunds_minor,
    CAST(
        coalesce(sum(gross_part) FILTER (reporting_category IN ('dispute', 'dispute_reversal')), 0) AS BIGINT
    ) AS disputes_minor,
    count(*) FILTER (NOT is_transfer) AS transactions,
    CAST(coalesce(sum(amount_minor) FILTER (is_transfer), 0) AS BIGINT) AS transfers_minor,
    count(*) FILTER (is_transfer) AS transfers,
    business_timezone,
    bool_and(livemode) AS livemode
FROM placed
GROUP BY day, source, currency, exponent, business_timezone
ORDER BY day, source, currency
