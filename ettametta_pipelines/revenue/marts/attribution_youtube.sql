-- YouTube's booked revenue by channel and video. Input: youtube_revenue; parameters $first_day, $last_day.
SELECT
    day,
    'youtube' AS source,
    account,
    channel_id,
    video_id,
    source_id,
    publication_id,
    currency,
    exponent,
    livemode,
    booked_minor AS gross_minor,
    0::BIGINT AS fee_minor,
    booked_minor AS net_minor
FROM youtube_revenue
WHERE day BETWEEN $first_day AND $last_day AND basis = 'finalised' AND valid_to IS NULL
ORDER BY day, channel_id, video_id
