-- Readings of the Stripe balance between which it moved by another sum than the ledger's net. Pairs of readings with a
-- day between them that is not booked are left out.
-- Inputs: stripe_raw, stripe_ledger, booked_days, currencies; macro shown; parameters $timezone, $lookback_day, $last_day.
WITH parts AS (
    SELECT
        occurred_at,
        unnest(json_extract(payload, '$.available[*]') || json_extract(payload, '$.pending[*]')) AS part
    FROM stripe_raw
    WHERE day BETWEEN $lookback_day AND $last_day AND object_type = 'balance' AND kind = 'others'
),

balances AS (
    SELECT
        occurred_at,
        upper(part ->> '$.currency') AS currency,
        sum((part ->> '$.amount')::BIGINT) AS balance
    FROM parts
    GROUP BY ALL
),

pairs AS (
    SELECT
        currency,
        lag(occurred_at) OVER earlier AS opened_at,
        lag(balance) OVER earlier AS opening,
        occurred_at AS closed_at,
        balance AS closing
    FROM balances
    WINDOW earlier AS (PARTITION BY currency ORDER BY occurred_at)
),

dated AS (
    SELECT
        pairs.*,
        (opened_at AT TIME ZONE $timezone)::DATE AS opened_on,
        (closed_at AT TIME ZONE $timezone)::DATE AS closed_on
    FROM pairs
    WHERE opened_at IS NOT NULL
),

moved AS (
    SELECT dated.*, coalesce(sum(ledger.net_minor), 0) AS net
    FROM dated
    LEFT JOIN (
        SELECT currency, occurred_at, net_minor
        FROM stripe_ledger
        WHERE day BETWEEN $lookback_day AND $last_day AND booking_class <> 'test'
    ) AS ledger
        ON ledger.currency = dated.currency
        AND ledger.occurred_at >= opened_at
        AND ledger.occurred_at < closed_at
    WHERE
        (
            SELECT count(*) FROM booked_days
            WHERE source = 'stripe' AND day BETWEEN opened_on AND closed_on
        ) = closed_on - opened_on + 1
    GROUP BY ALL
)

SELECT
    'from ' || opened_at || ' to ' || closed_at || ' the balance went from '
    || shown(opening, currency, exponent) || ' to ' || shown(closing, currency, exponent)
    || ', the ledger moved by ' || shown(net, currency, exponent) || ': off by '
    || shown(closing - opening - net, currency, exponent) AS said
FROM moved
JOIN currencies USING (currency)
WHERE closing - opening <> net
