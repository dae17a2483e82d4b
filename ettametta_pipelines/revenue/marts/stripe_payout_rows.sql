-- What a payout lists, as one JSON list of [id, created, net, type], sorted by id. Input: pages(page).
WITH listed AS (
    SELECT unnest(json_extract(page, '$.data[*]')) AS row FROM pages
)

SELECT
    '[' || coalesce(
        string_agg(
            '[' || concat_ws(', ', row -> '$.id', row -> '$.created', row -> '$.net', row -> '$.type') || ']',
            ', ' ORDER BY row ->> '$.id'
        ),
        ''
    ) || ']' AS rows
FROM listed
