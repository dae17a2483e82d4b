-- What affiliate networks say of the transactions of some business days: the latest word on each.
--
-- Grain: one row per transaction. Key: (network, transaction_id). Sorted by day.
-- Input: affiliate_raw; parameters $first_day, $last_day, $timezone.
-- Invariants: a transaction whose day was corrected later stands under its last day only; pending, approved, declined
-- and reversed are told apart by status and must not be added up; a pending that comes late, with an older export or
-- a postback that was held up, never takes a decision back.
WITH touched AS (
    SELECT DISTINCT network, transaction_id FROM affiliate_raw WHERE day BETWEEN $first_day AND $last_day
),

latest AS (
    SELECT affiliate_raw.*
    FROM affiliate_raw
    SEMI JOIN touched USING (network, transaction_id)
    QUALIFY row_number() OVER (
        PARTITION BY network, transaction_id ORDER BY status = 'pending', received_at DESC, batch DESC
    ) = 1
)

SELECT
    day,
    network,
    transaction_id,
    status,
    amount_minor,
    currency,
    exponent,
    link_id,
    order_id,
    occurred_at,
    $timezone AS business_timezone,
    received_at,
    file
FROM latest
WHERE day BETWEEN $first_day AND $last_day
ORDER BY day, network, transaction_id
