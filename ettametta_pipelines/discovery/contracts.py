"""Tables of the discovery room: raw candidates, trend candidates and the per-niche roll-up.

Declarations only. Raw tables hold what a platform answered, at the instant it answered; derived columns
(velocity, outlier ratio, rank) are ours and live in `trend_candidates`, so that they can be computed again
from stored rows without a single call.
"""

from ettametta_pipelines.discovery.signal_contracts import (
    QUARANTINED_CANDIDATES,
    SIGNAL_COLUMNS,
    STATISTICS_DELETED,
    STATISTICS_RETENTION,
    VIDEO_SNAPSHOTS,
)
from ettametta_pipelines.storage.contracts import Column, TableContract

_IDENTITY = (
    Column("day", "date", "Partition day the candidate was found for"),
    Column("niche", "string", "Niche slug"),
    Column("platform", "string", "youtube or tiktok", few_values=True),
    Column("video_id", "string", "The platform's id of the video"),
    Column("url", "string", "Public page of the video"),
    Column("title", "string", "Title as published, control characters removed, at most 300 characters"),
    Column("channel_id", "string", "The platform's id of the channel or creator"),
    Column("channel_title", "string", "Name of the channel or creator"),
    Column("published_at", "timestamp", "When the video was published (UTC)"),
    Column("observed_at", "timestamp", "When its statistics were read (UTC); never the partition day"),
)

_BASELINE = (
    Column(
        "baseline_views",
        "float64",
        "Median long-run views of the channel's other recent uploads, each corrected for its age; "
        "empty when too few are known",
        nullable=True,
    ),
    Column("baseline_uploads", "int64", "How many uploads the baseline rests on"),
)

_THUMBNAIL = Column("thumbnail_url", "string", "Address of the preview picture", nullable=True)


def _raw_candidates(name: str, description: str) -> TableContract:
    return TableContract(
        name,
        description,
        columns=(
            *_IDENTITY,
            Column("duration_s", "float64", "Length in seconds; empty for live streams", nullable=True),
            Column("views", "int64", "View count; empty when hidden or not read", nullable=True),
            Column("likes", "int64", "Like count; empty when hidden", nullable=True),
            Column("comments", "int64", "Comment count; empty when hidden or switched off", nullable=True),
            Column("live", "bool", "Whether it is, or will be, a live stream", nullable=True),
            *_BASELINE,
            Column("found_by", "string_list", "Queries, watched channels or accounts that led to it"),
            _THUMBNAIL,
            STATISTICS_DELETED,
        ),
        key=("platform", "video_id"),
        partitioned_by=("day", "niche"),
    )


YOUTUBE_CANDIDATES = _raw_candidates(
    "youtube_candidates", "Videos YouTube returned for a niche, with statistics at observation time."
)
TIKTOK_CANDIDATES = _raw_candidates(
    "tiktok_candidates", "Posts of our own connected TikTok accounts, with statistics at observation time."
)

TREND_CANDIDATES = TableContract(
    "trend_candidates",
    "Candidates of all platforms in one schema, deduplicated, with velocity, outlier ratio and rank.",
    columns=(
        *_IDENTITY,
        Column("age_h", "float64", "Hours between publication and observation"),
        Column("duration_s", "float64", "Length in seconds", nullable=True),
        Column("views", "int64", "View count when observed; empty once deleted by age", nullable=True),
        Column("likes", "int64", "Like count; empty when hidden", nullable=True),
        Column("comments", "int64", "Comment count; empty when hidden", nullable=True),
        Column(
            "view_velocity_per_hour",
            "float64",
            "Ours: views per hour between the last two observations, or since publication where there is one",
        ),
        Column(
            "engagement_rate", "float64", "Ours: (likes + comments) / views; empty if hidden", nullable=True
        ),
        Column(
            "outlier_ratio",
            "float64",
            "Ours: views divided by what the channel's other uploads had at the same age, shrunk towards 1 as far "
            "as the channel is little known; empty if unknown",
            nullable=True,
        ),
        *_BASELINE,
        Column("trend_strength", "float64", "Ours: mean percentile of velocity and outlier ratio, 0..1"),
        Column("rank", "int64", "1 is the strongest of the partition; no two share a rank"),
        Column("found_by", "string_list", "Queries, watched channels or accounts that led to it"),
        Column("methodology", "string", "Version of our formulas"),
        _THUMBNAIL,
        *SIGNAL_COLUMNS,
        STATISTICS_DELETED,
    ),
    key=("platform", "video_id"),
    partitioned_by=("day", "niche"),
)

NICHE_TRENDS = TableContract(
    "niche_trends",
    "One row per niche and day: how much moves, how fast, and what leads.",
    columns=(
        Column("day", "date", "Day"),
        Column("niche", "string", "Niche slug"),
        Column("candidates", "int64", "Trend candidates found"),
        Column("channels", "int64", "Different channels among them"),
        Column(
            "views", "int64", "Views of all candidates together; empty once deleted by age", nullable=True
        ),
        Column("median_velocity_per_hour", "float64", "Median view velocity"),
        Column("top_decile_velocity_per_hour", "float64", "View velocity that one candidate in ten exceeds"),
        Column("median_outlier_ratio", "float64", "Median of the known outlier ratios", nullable=True),
        Column("outliers", "int64", "Candidates with at least three times their channel's usual views"),
        Column("baseline_share", "float64", "Share of candidates whose channel baseline is known, 0..1"),
        Column("top_video_id", "string", "Video of rank 1"),
        Column("top_title", "string", "Its title"),
        Column("top_url", "string", "Its public page"),
        Column("top_velocity_per_hour", "float64", "Its view velocity"),
        Column("last_observed_at", "timestamp", "Latest observation among the candidates (UTC)"),
        STATISTICS_DELETED,
    ),
    key=("day", "niche"),
    partitioned_by=("day",),
)

CONTRACTS: tuple[TableContract, ...] = (
    YOUTUBE_CANDIDATES,
    TIKTOK_CANDIDATES,
    TREND_CANDIDATES,
    NICHE_TRENDS,
    VIDEO_SNAPSHOTS,
    QUARANTINED_CANDIDATES,
    STATISTICS_RETENTION,
)
