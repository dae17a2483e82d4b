-- Source videos that name the brief they were made after, with what the brief was written for.
-- Grain: source video. Inputs: source_media, creative_briefs.
SELECT
    source_media.source_id,
    source_media.brief_id,
    creative_briefs.platform || ':' || creative_briefs.video_id AS subject,
    creative_briefs.niche
FROM source_media
JOIN creative_briefs USING (brief_id)
ORDER BY source_media.source_id
