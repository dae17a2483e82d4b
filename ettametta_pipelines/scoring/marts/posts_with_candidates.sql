-- Our own posts, each beside the candidate it was made after.
--
-- Grain: one row per post that was on its platform by $as_of and not before $since.
-- Key: publication_id.
-- Inputs: youtube_publications, tiktok_publications, source_media, creative_briefs, scored_candidates.
-- Invariants:
--   a post appears once, with or without a brief; what is not known of its candidate is null
--   the link is the one stated at upload: source_media.brief_id -> creative_briefs -> scored_candidates

WITH posts AS (
    SELECT publication_id, source_id, platform, account, channel_id, privacy, published_at FROM youtube_publications
    UNION ALL BY NAME
    SELECT publication_id, source_id, platform, account, channel_id, privacy, published_at FROM tiktok_publications
)

SELECT
    posts.*,
    source_media.brief_id,
    creative_briefs.day AS candidate_day,
    creative_briefs.niche,
    creative_briefs.platform AS candidate_platform,
    creative_briefs.video_id AS candidate_video_id,
    scored_candidates.score,
    scored_candidates.weights_version,
    scored_candidates.challenger_score,
    scored_candidates.challenger_version,
    scored_candidates.observed_at,
    scored_candidates.velocity_part,
    scored_candidates.outlier_part,
    scored_candidates.engagement_part,
    scored_candidates.hook_part,
    scored_candidates.aesthetics_part
FROM posts
LEFT JOIN source_media ON source_media.source_id = posts.source_id
LEFT JOIN creative_briefs ON creative_briefs.brief_id = source_media.brief_id
LEFT JOIN scored_candidates
    ON scored_candidates.day = creative_briefs.day
    AND scored_candidates.niche = creative_briefs.niche
    AND scored_candidates.platform = creative_briefs.platform
    AND scored_candidates.video_id = creative_briefs.video_id
WHERE posts.published_at BETWEEN $since AND $as_of
ORDER BY posts.published_at, posts.publication_id
