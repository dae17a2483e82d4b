-- Objects in pages of Shopify's JSON.
-- Grain: one row per object and page it was listed on. Inputs: pages(place, page); parameter $object_type.
WITH listed AS (
    SELECT place, unnest(json_extract(page, '$.data[*]'))::VARCHAR AS payload FROM pages
)

SELECT
    place,
    $object_type AS object_type,
    payload ->> '$.id' AS object_id,
    (payload ->> '$.transactionDate')::TIMESTAMPTZ AS occurred_at,
    sha256(payload) AS payload_sha256,
    '[' || concat_ws(
        ', ',
        payload -> '$.type',
        payload -> '$.amount.amount',
        payload -> '$.fee.amount',
        payload -> '$.amount.currencyCode'
    ) || ']' AS facts,
    NULL::VARCHAR AS about,
    payload
FROM listed
