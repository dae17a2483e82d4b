-- Movements that Stripe lists under a payout and the ledger does not have, or has with another net; payouts whose own
-- movement is not minus their amount. Days that are not booked are left out.
-- Inputs: stripe_raw, stripe_ledger, booked_days, currencies; macro shown; parameters $timezone, $from_day, $to_day,
-- $lookback_day.
WITH latest AS MATERIALIZED (
    SELECT
        object_id AS payout_id,
        from_json(payload, '{"currency":"VARCHAR","amount":"BIGINT","rows":[["VARCHAR"]]}') AS said
    FROM stripe_raw
    WHERE day BETWEEN $from_day AND $to_day AND object_type = 'payout_rows' AND kind = 'others'
    QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY fetched_at DESC, payload_sha256 DESC) = 1
),

listed AS (
    SELECT payout_id, upper(said.currency) AS currency, -said.amount AS own_net, unnest(said.rows) AS entry
    FROM latest
),

placed AS (
    SELECT
        payout_id,
        currency,
        entry[1] AS entry_id,
        CASE entry[4] WHEN 'payout' THEN own_net ELSE entry[3]::BIGINT END AS net_minor,
        (to_timestamp(entry[2]::BIGINT) AT TIME ZONE $timezone)::DATE AS day
    FROM listed
),

ledger AS (
    SELECT
        entry_id,
        CASE reporting_category WHEN 'payout' THEN amount_minor ELSE net_minor END AS net_minor
    FROM stripe_ledger
    WHERE day BETWEEN $lookback_day AND $to_day
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
