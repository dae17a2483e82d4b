-- Objects in pages of Stripe's JSON.
-- Grain: one row per object and page it was listed on. Inputs: pages(place, page); parameter $object_type.
WITH listed AS (
    SELECT place, unnest(json_extract(page, '$.data[*]'))::VARCHAR AS payload FROM pages
),

read AS MATERIALIZED (
    SELECT
        place,
        payload,
        from_json(
            payload,
            '{"id":"VARCHAR","created":"BIGINT","reporting_category":"VARCHAR","amount":"BIGINT","fee":"BIGINT",
              "currency":"VARCHAR","source":{"id":"VARCHAR","status":"VARCHAR","charge":"VARCHAR",
              "amount":"BIGINT","currency":"VARCHAR","amount_refunded":"BIGINT"}}'
        ) AS said,
        CASE
            WHEN $object_type <> 'balance_transaction'
            THEN from_json(
                payload, '{"id":"VARCHAR","status":"VARCHAR","amount":"BIGINT","automatic":"BOOLEAN"}'
            )
        END AS itself
    FROM listed
)

SELECT
    place,
    $object_type AS object_type,
    said.id AS object_id,
    to_timestamp(said.created) AS occurred_at,
    sha256(payload) AS payload_sha256,
    CASE
        WHEN $object_type = 'balance_transaction'
        THEN '[' || concat_ws(
            ', ', to_json(said.reporting_category), said.amount, said.fee, to_json(said.currency)
        ) || ']'
    END AS facts,
    coalesce(to_json(itself), to_json(said.source))::VARCHAR AS about,
    payload
FROM read
