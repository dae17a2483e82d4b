-- Where the mart and the ledgers it was made from differ. Grain: one row per check that fails.
-- Inputs: daily_revenue, stripe_ledger, shopify_ledger, youtube_revenue; parameters $first_day, $last_day; currencies; macro shown.
WITH entries AS (
    SELECT day, source, currency, net_minor, booking_class FROM stripe_ledger
    WHERE day BETWEEN $first_day AND $last_day
    UNION ALL
    SELECT day, source, currency, net_minor, booking_class FROM shopify_ledger
    WHERE day BETWEEN $first_day AND $last_day
    UNION ALL
    SELECT day, 'youtube', currency, booked_minor, 'revenue' FROM youtube_revenue
    WHERE day BETWEEN $first_day AND $last_day AND basis = 'finalised' AND valid_to IS NULL
),

booked AS (
    SELECT day, source, currency, sum(net_minor) AS net_minor, count(*) AS rows
    FROM entries
    WHERE booking_class <> 'test'
    GROUP BY ALL
),

mart AS (
    SELECT
        day,
        source,
        currency,
        sum(net_minor + transfers_minor) AS net_minor,
        sum(transactions + transfers) AS rows
    FROM daily_revenue
    WHERE day BETWEEN $first_day AND $last_day
    GROUP BY ALL
),

wrong AS (
    SELECT
        'mart_equals_ledger' AS check_name,
        day || ' ' || source || ' ' || currency || ': the ledger has '
        || shown(coalesce(booked.net_minor, 0), currency, exponent) || ' in ' || coalesce(booked.rows, 0)
        || ' rows, the mart ' || shown(coalesce(mart.net_minor, 0), currency, exponent) || ' in '
        || coalesce(mart.rows, 0) AS said
    FROM booked
    FULL JOIN mart USING (day, source, currency)
    JOIN currencies USING (currency)
    WHERE booked.net_minor IS DISTINCT FROM mart.net_minor OR booked.rows IS DISTINCT FROM mart.rows

    UNION ALL
    SELECT
        'net_is_gross_minus_fee',
        day || ' ' || source || ' ' || currency || ' has gross ' || shown(gross_minor, currency, exponent)
        || ', fees ' || shown(fee_minor, currency, exponent) || ' and net '
        || shown(net_minor, currency, exponent)
    FROM daily_revenue
    WHERE day BETWEEN $first_day AND $last_day AND net_minor <> gross_minor - fee_minor
)

SELECT check_name, count(*) AS wrong, min(said, 5) AS named FROM wrong GROUP BY check_name
