-- Charges that say another sum was refunded than their refunds come to, in the currency the customer paid in.
-- A charge is compared once every day from its own to the one it was last read on is booked; refunds that failed do
-- not count. Inputs: stripe_raw, booked_days, currencies; macro shown; parameters $lookback_day,
-- $timezone.
WITH latest AS MATERIALIZED (
    SELECT
        day,
        occurred_at,
        fetched_at,
        facts,
        from_json(
            about,
            '{"id":"VARCHAR","charge":"VARCHAR","currency":"VARCHAR","amount":"BIGINT","amount_refunded":"BIGINT",
              "status":"VARCHAR"}'
        ) AS said
    FROM stripe_raw
    WHERE
        day >= $lookback_day
        AND kind = 'entries'
        AND (starts_with(facts, '["charge"') OR starts_with(facts, '["refund') OR payload_sha256 = 'gone')
    QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY fetched_at DESC, payload_sha256 DESC) = 1
),

charges AS (
    SELECT
        said.id AS charge_id,
        upper(said.currency) AS currency,
        said.amount_refunded,
        day AS first_day,
        (fetched_at AT TIME ZONE $timezone)::DATE AS last_day
    FROM latest
    WHERE starts_with(facts, '["charge"') AND said.amount_refunded IS NOT NULL
),

refunds AS (
    SELECT charge_id, sum(amount) AS refunded, string_agg(refund_id, ', ' ORDER BY refund_id) AS named
    FROM (
        SELECT
            said.id AS refund_id,
            said.charge AS charge_id,
            said.amount,
            said.status
        FROM latest
        WHERE starts_with(facts, '["refund')
        QUALIFY row_number() OVER (PARTITION BY refund_id ORDER BY fetched_at DESC, occurred_at DESC) = 1
    )
    WHERE status NOT IN ('failed', 'canceled')
    GROUP BY charge_id
),

compared AS (
    SELECT charges.*, coalesce(refunded, 0) AS refunded, coalesce(named, 'no refund') AS named
    FROM charges
    LEFT JOIN refunds USING (charge_id)
    WHERE amount_refunded <> coalesce(refunded, 0)
)

SELECT
    charge_id || ' says ' || shown(amount_refunded, currency, exponent) || ' was refunded, ' || named
    || ' come to ' || shown(refunded, currency, exponent) AS said
FROM compared
JOIN currencies USING (currency)
WHERE (
    SELECT count(*) FROM booked_days
    WHERE source = 'stripe' AND day BETWEEN compared.first_day AND compared.last_day
) = compared.last_day - compared.first_day + 1
