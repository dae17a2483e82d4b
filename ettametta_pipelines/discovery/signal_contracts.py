"""Tables of the signals: snapshots at fixed ages, candidates that stand aside, and what was deleted by age.

Declarations only, and the columns that signals add to `trend_candidates`. Columns marked Ours are derived by us;
views, likes and comments are the platform's and leave the tables after 30 days.
"""

from ettametta_pipelines.storage.contracts import Column, TableContract

STATISTICS_DELETED = Column(
    "statistics_deleted_at",
    "timestamp",
    "When the platform's counters were deleted from this row by age (UTC); empty while they are there",
    nullable=True,
)

# Nullable throughout: files written before a column existed stay readable.
SIGNAL_COLUMNS = (
    Column("velocity_basis", "string", "last_interval, or lifetime_mean from one observation", nullable=True),
    Column("velocity_interval_h", "float64", "Hours the velocity is the mean of", nullable=True),
    Column(
        "speed_now_per_hour",
        "float64",
        "Ours: the velocity carried on to the last observation along the growth curve; what velocity_part ranks",
        nullable=True,
    ),
    Column(
        "view_acceleration_per_hour2",
        "float64",
        "Ours: change of the velocity per hour; empty below three observations",
        nullable=True,
    ),
    Column("observations", "int64", "Observations at least an hour apart the motion rests on", nullable=True),
    Column(
        "unshrunk_outlier_ratio", "float64", "Ours: the outlier ratio before it was shrunk", nullable=True
    ),
    Column(
        "expected_views",
        "float64",
        "Ours: what the channel usually has at this age, as assumed",
        nullable=True,
    ),
    Column(
        "baseline_basis",
        "string",
        "snapshots: other uploads seen at the same age; growth_curve: brought to the age by the curve; or both",
        nullable=True,
    ),
    Column(
        "baseline_weight",
        "float64",
        "Weight of the channel's own uploads against the niche's median channel, 0..1",
        nullable=True,
    ),
    Column(
        "outlier_certainty",
        "float64",
        "How much of the difference counts as the video's own, 0..1: what the log ratio was multiplied by",
        nullable=True,
    ),
    Column("outlier_uploads", "int64", "Other uploads the ratio rests on", nullable=True),
    Column("velocity_part", "float64", "Percentile of the speed now on its platform, 0..1", nullable=True),
    Column(
        "outlier_part",
        "float64",
        "Percentile of the outlier ratio on its platform; empty if unknown",
        nullable=True,
    ),
    Column("also_in", "string_list", "Other niches that found the same video that day", nullable=True),
    Column(
        "reupload_of",
        "string",
        "platform:video_id of an earlier upload of the same title, length and channel name",
        nullable=True,
    ),
    Column("why", "string", "Why it stands at its rank, in words", nullable=True),
    Column(
        "methodology_version",
        "string",
        "How the platform counted these views; baselines never mix versions",
        nullable=True,
    ),
)

VIDEO_SNAPSHOTS = TableContract(
    "video_snapshots",
    "Statistics of candidates at fixed ages after publication, by day of observation.",
    columns=(
        Column("day", "date", "Day of observation"),
        Column("niche", "string", "Niche that found it first"),
        Column("platform", "string", "youtube"),
        Column("video_id", "string", "The platform's id of the video"),
        Column("channel_id", "string", "The platform's id of the channel"),
        Column("published_at", "timestamp", "When the video was published (UTC)"),
        Column("slot_h", "int64", "Age the snapshot stands for, in hours"),
        Column("age_h", "float64", "Exact age when it was taken, in hours"),
        Column("observed_at", "timestamp", "When the statistics were read (UTC)"),
        Column("status", "string", "seen; views_unknown; or gone: deleted, private or unlisted since"),
        Column("duration_s", "float64", "Length in seconds", nullable=True),
        Column("views", "int64", "View count; empty unless seen", nullable=True),
        Column("likes", "int64", "Like count; empty when hidden", nullable=True),
        Column("comments", "int64", "Comment count; empty when hidden", nullable=True),
        STATISTICS_DELETED,
    ),
    key=("platform", "video_id", "slot_h"),
)

QUARANTINED_CANDIDATES = TableContract(
    "quarantined_candidates",
    "Raw candidates that cannot be ranked, each with its reason.",
    columns=(
        Column("day", "date", "Partition day"),
        Column("niche", "string", "Niche slug"),
        Column("platform", "string", "youtube or tiktok"),
        Column("video_id", "string", "The platform's id of the video"),
        Column("url", "string", "Public page of the video"),
        Column("title", "string", "Title as published, control characters removed"),
        Column("channel_id", "string", "The platform's id of the channel or creator"),
        Column("observed_at", "timestamp", "When its statistics were read (UTC)"),
        Column("reason_code", "string", "Why it stands aside, for filters"),
        Column("reason", "string", "The same in a sentence"),
    ),
    key=("platform", "video_id"),
)

STATISTICS_RETENTION = TableContract(
    "statistics_retention",
    "Every stored partition that may hold others' statistics: what it holds, until when, and what was deleted.",
    columns=(
        Column("table_name", "string", "Table"),
        Column("partition", "string", "Object key of the partition"),
        Column("version", "string", "Version of the object this line is about; another means it changed"),
        Column("rows", "int64", "Rows"),
        Column("rows_with_statistics", "int64", "Rows that still hold others' counters"),
        Column("delete_after", "timestamp", "When the next of them have to go (UTC)", nullable=True),
        Column("deleted_rows", "int64", "Rows whose counters have been deleted so far"),
        Column("last_deleted_at", "timestamp", "When that happened last (UTC)", nullable=True),
    ),
    key=("partition",),
)
