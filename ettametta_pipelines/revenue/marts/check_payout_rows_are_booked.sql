-- Movements that Stripe lists under a payout and the ledger does not have, or has with another net; payouts whose own
-- movement is not minus their amount. Days that are not booked are left out.
-- Inputs: stripe_raw, stripe_ledger, booked_days, calendar, currencies; macro shown; parameters $from_day, $to_day,
-- $lookback_day, $last_day.
WITH latest AS (
    SELECT object_id AS payout_id, payload
    FROM stripe_raw
    WHERE day BETWEEN $from_day AND $to_day AND object_type = 'payout_rows'
    QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY fetched_at DESC, payload_sha256 DESC) = 1
),

listed AS (
    SELECT
        payout_id,
        upper(payload ->> '$.currency') AS currency,
        -(payload ->> '$.amount')::BIGINT AS own_net,
        unnest(json_extract(payload, '$.rows[*]')) AS entry
    FROM latest
),

placed AS (
    SELECT
        payout_id,
        currency,
        entry ->> '$[0]' AS entry_id,
        CASE entry ->> '$[3]' WHEN 'payout' THEN own_net ELSE (entry ->> '$[2]')::BIGINT END AS net_minor,
        day
    FROM listed
    ASOF JOIN calendar ON to_timestamp((entry ->> '$[1]')::BIGINT) >= calendar.day_start
),

ledger AS (
    SELECT
        entry_id,
        CASE reporting_category WHEN 'payout' THEN amount_minor ELSE net_minor END AS net_minor
    FROM stripe_ledger
    WHERE day BETWEEN $lookback_day AND $last_day
)

SELECT
    placed.entry_id || ' of ' || payout_id || ': Stripe lists '
    || shown(placed.net_minor, currency, exponent) || ', '
    || coalesce('the ledger has ' || shown(ledger.net_minor, currency, exponent), 'the ledger does not have it')
        AS said
FROM placed
JOIN booked_days ON booked_days.source = 'stripe' AND booked_days.day = placed.day
JOIN currencies USING (currency)
LEFT JOIN ledger USING (entry_id)
WHERE placed.day >= $lookback_day AND placed.net_minor IS DISTINCT FROM ledger.net_minor
