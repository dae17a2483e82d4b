-- What a reading brings that was not known: versions that are new, and movements that are no longer listed.
-- Grain: one row per object; sorted by day. Inputs: listed, raw (known versions); parameters $start and $end of the
-- window whose movements are listed completely, $fetched_at of this reading, $timezone.
-- Every object is in listed once. Invariant: versions seen after this reading are not looked at, so
-- that the order of filing does not matter.
WITH known AS (
    SELECT *
    FROM raw
    WHERE fetched_at <= $fetched_at AND object_type <> 'reading'
    QUALIFY row_number() OVER (
        PARTITION BY object_type, object_id ORDER BY fetched_at DESC, payload_sha256 DESC
    ) = 1
),

seen_later AS (
    SELECT DISTINCT object_id FROM raw WHERE fetched_at > $fetched_at AND object_type = 'balance_transaction'
),

different AS (
    SELECT
        listed.object_type,
        listed.object_id,
        listed.occurred_at,
        listed.payload_sha256,
        listed.facts,
        listed.about,
        listed.payload,
        CASE WHEN known.object_id IS NULL THEN 'added' ELSE 'changed' END AS change,
        known.facts AS facts_before
    FROM listed
    LEFT JOIN known USING (object_type, object_id)
    WHERE known.payload_sha256 IS DISTINCT FROM listed.payload_sha256
),

missing AS (
    SELECT
        object_type,
        object_id,
        occurred_at,
        'gone' AS payload_sha256,
        NULL::VARCHAR AS facts,
        NULL::VARCHAR AS about,
        NULL::VARCHAR AS payload,
        'gone' AS change,
        facts AS facts_before
    FROM known
    WHERE
        object_type = 'balance_transaction'
        AND payload_sha256 <> 'gone'
        AND occurred_at >= $start
        AND occurred_at < $end
        AND fetched_at < $fetched_at
        AND NOT EXISTS (
            SELECT 1 FROM listed
            WHERE listed.object_id = known.object_id AND listed.object_type = known.object_type
        )
        AND object_id NOT IN (SELECT object_id FROM seen_later)
)

SELECT (news.occurred_at AT TIME ZONE $timezone)::DATE AS day, news.*
FROM (SELECT * FROM different UNION ALL BY NAME SELECT * FROM missing) AS news
ORDER BY day, object_type, object_id
