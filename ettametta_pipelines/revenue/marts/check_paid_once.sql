-- Movements that more than one payout says it paid. Input: stripe_raw; parameters $lookback_day, $to_day.
WITH latest AS MATERIALIZED (
    SELECT object_id AS payout_id, from_json(payload, '{"rows":[["VARCHAR"]]}') AS said
    FROM stripe_raw
    WHERE day BETWEEN $lookback_day AND $to_day AND object_type = 'payout_rows' AND kind = 'others'
    QUALIFY row_number() OVER (PARTITION BY object_id ORDER BY fetched_at DESC, payload_sha256 DESC) = 1
)

SELECT entry_id || ' was paid by ' || min(payout_id) || ' and ' || max(payout_id) AS said
FROM (SELECT payout_id, unnest(said.rows)[1] AS entry_id FROM latest)
GROUP BY entry_id
HAVING count(*) > 1
