-- Payouts as last read, over some days. Input: stripe_raw; parameters $from_day, $to_day.
-- Open: automatic, and neither itemised by Stripe yet nor failed nor cancelled.
WITH latest AS (
    SELECT object_type, object_id, about
    FROM stripe_raw
    WHERE day BETWEEN $from_day AND $to_day AND object_type IN ('payout', 'payout_rows') AND kind = 'others'
    QUALIFY row_number() OVER (
        PARTITION BY object_type, object_id ORDER BY fetched_at DESC, payload_sha256 DESC
    ) = 1
)

SELECT
    object_id AS payout_id,
    bool_or(object_type = 'payout_rows') AS is_itemised,
    NOT bool_or(object_type = 'payout_rows')
    AND coalesce(
        bool_or(
            object_type = 'payout'
            AND (about ->> '$.automatic')::BOOLEAN
            AND (about ->> '$.status') NOT IN ('failed', 'canceled')
        ),
        FALSE
    ) AS is_open
FROM latest
GROUP BY object_id
