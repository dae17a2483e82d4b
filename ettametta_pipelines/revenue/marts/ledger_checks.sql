-- What is wrong with booked rows of some days. Grain: one row per check that fails: its name, how many rows, some named.
-- Inputs: booked (ledger rows as computed), calendar; macro shown.
WITH wrong AS (
    SELECT
        'net_is_amount_minus_fee' AS check_name,
        entry_id || ' has amount ' || shown(amount_minor, currency, exponent) || ', fee '
        || shown(fee_minor, currency, exponent) || ' and net ' || shown(net_minor, currency, exponent)
        || ', which is off by ' || shown(net_minor - amount_minor + fee_minor, currency, exponent) AS said
    FROM booked
    WHERE net_minor <> amount_minor - fee_minor

    UNION ALL
    SELECT
        'fee_details_add_up',
        entry_id || ' has fee ' || shown(fee_minor, currency, exponent) || ', its parts come to '
        || shown(parts, currency, exponent)
    FROM (
        SELECT
            *,
            list_sum(
                list_transform(
                    json_extract(fee_details, '$[*]')::JSON[], lambda part: (part ->> '$[1]')::BIGINT
                )
            )::BIGINT AS parts
        FROM booked
        WHERE fee_details <> '[]'
    )
    WHERE parts <> fee_minor

    UNION ALL
    SELECT 'fee_details_add_up', entry_id || ' has fee ' || shown(fee_minor, currency, exponent) || ' without parts'
    FROM booked
    WHERE fee_details = '[]' AND fee_minor <> 0

    UNION ALL
    SELECT 'entry_ids_are_unique', entry_id || ' is booked ' || count(*) || ' times'
    FROM booked
    GROUP BY entry_id
    HAVING count(*) > 1

    UNION ALL
    SELECT 'rows_post_on_their_day', entry_id || ' was posted at ' || occurred_at || ' and stands under ' || booked.day
    FROM booked
    LEFT JOIN calendar USING (day)
    WHERE day_start IS NULL OR occurred_at < day_start OR occurred_at >= day_end

    UNION ALL
    SELECT
        'categories_are_known',
        entry_id || ' is ' || reporting_category || ' (' || type || '), which is not placed'
    FROM booked
    WHERE booking_class = 'unclassified'

    UNION ALL
    SELECT 'test_rows_stay_out', entry_id || ' is a test row booked as ' || booking_class
    FROM booked
    WHERE
        NOT livemode
        AND booking_class <> 'test'
        AND booked.day IN (SELECT day FROM booked WHERE livemode)
)

SELECT check_name, count(*) AS wrong, min(said, 5) AS named FROM wrong GROUP BY check_name
