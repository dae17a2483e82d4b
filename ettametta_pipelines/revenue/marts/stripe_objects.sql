-- Objects in pages of Stripe's JSON.
-- Grain: one row per object and page it was listed on. Inputs: pages(place, page); parameter $object_type.
WITH listed AS (
    SELECT place, unnest(json_extract(page, '$.data[*]'))::VARCHAR AS payload FROM pages
)

SELECT
    place,
    $object_type AS object_type,
    payload ->> '$.id' AS object_id,
    to_timestamp((payload ->> '$.created')::BIGINT) AS occurred_at,
    sha256(payload) AS payload_sha256,
    CASE
        WHEN $object_type = 'balance_transaction'
        THEN '[' || concat_ws(
            ', ',
            payload -> '$.reporting_category',
            payload -> '$.amount',
            payload -> '$.fee',
            payload -> '$.currency'
        ) || ']'
    END AS facts,
    payload
FROM listed
