-- What a payout lists, as one JSON list of [id, created, net, type], sorted by id. Input: pages(page).
WITH listed AS (
    SELECT
        unnest(
            from_json(
                page, '{"data":[{"id":"VARCHAR","created":"BIGINT","net":"BIGINT","type":"VARCHAR"}]}'
            ).data
        ) AS entry
    FROM pages
)

SELECT
    '[' || coalesce(
        string_agg(
            '[' || concat_ws(', ', to_json(entry.id), entry.created, entry.net, to_json(entry.type)) || ']',
            ', ' ORDER BY entry.id
        ),
        ''
    ) || ']' AS rows
FROM listed
