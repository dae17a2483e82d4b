-- Days on which what is attributed and what is not differ from the books, in gross, fees or net.
-- Inputs: revenue_attribution, daily_revenue, affiliate_earnings, currencies; macro shown; parameters $first_day,
--   $last_day.
WITH booked AS (
    SELECT day, source, currency, gross_minor, fee_minor, net_minor
    FROM daily_revenue
    WHERE day BETWEEN $first_day AND $last_day

    UNION ALL
    SELECT day, 'affiliate', currency, sum(amount_minor)::BIGINT, 0, sum(amount_minor)::BIGINT
    FROM affiliate_earnings
    WHERE day BETWEEN $first_day AND $last_day AND status = 'approved'
    GROUP BY day, currency
),

attributed AS (
    SELECT
        day,
        source,
        currency,
        sum(gross_minor)::BIGINT AS gross_minor,
        sum(fee_minor)::BIGINT AS fee_minor,
        sum(net_minor)::BIGINT AS net_minor,
        count(DISTINCT item_id) AS items,
        -- Where to begin looking; all are in the table.
        arg_max(item_id, abs(net_minor), 3) AS largest
    FROM revenue_attribution
    WHERE day BETWEEN $first_day AND $last_day
    GROUP BY ALL
)

SELECT
    day || ' ' || source || ' ' || currency || ': the books have '
    || shown(coalesce(booked.net_minor, 0), currency, exponent) || ' net of fees of '
    || shown(coalesce(booked.fee_minor, 0), currency, exponent) || ', the parts come to '
    || shown(coalesce(attributed.net_minor, 0), currency, exponent) || ' net of '
    || shown(coalesce(attributed.fee_minor, 0), currency, exponent) || ', off by '
    || shown(coalesce(attributed.net_minor, 0) - coalesce(booked.net_minor, 0), currency, exponent) || ', in '
    || coalesce(items, 0) || ' items, such as ' || coalesce(array_to_string(largest, ', '), 'none') AS said
FROM booked
FULL JOIN attributed USING (day, source, currency)
JOIN currencies USING (currency)
WHERE
    coalesce(booked.net_minor, 0) <> coalesce(attributed.net_minor, 0)
    OR coalesce(booked.fee_minor, 0) <> coalesce(attributed.fee_minor, 0)
    OR coalesce(booked.gross_minor, 0) <> coalesce(attributed.gross_minor, 0)
