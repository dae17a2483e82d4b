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
              "amount":"BIGINT","currency":"VARCHAR","amount_refunded":"BIGINT","created":"BIGINT"}}'
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
    CASE
        WHEN itself.id IS NOT NULL THEN to_json(itself)
        WHEN said.source.id IS NOT NULL THEN to_json(said.source)
    END::VARCHAR AS about,
    payload
FROM read

UNION ALL
-- A dispute is an object of its own, so that its outcome can be looked up without its movements.
SELECT
    place,
    'dispute',
    said.source.id,
    to_timestamp(said.source.created),
    sha256(payload ->> '$.source'),
    NULL,
    to_json(said.source)::VARCHAR,
    payload ->> '$.source'
FROM (
    SELECT *
    FROM read
    WHERE starts_with(said.reporting_category, 'dispute') AND said.source.id IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY said.source.id ORDER BY place DESC) = 1
)
