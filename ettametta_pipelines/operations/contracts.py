"""Tables of the operations room. Declarations only."""

from ettametta_pipelines.storage.contracts import Column, TableContract

API_QUOTA_USAGE = TableContract(
    "api_quota_usage",
    "One row per bucket of a vendor's quota and day: limit, used, reserved, left.",
    columns=(
        Column("quota_day", "date", "Day as the vendor counts it: it turns at midnight Pacific"),
        Column("vendor", "string", "youtube"),
        Column("bucket", "string", "search, videos_insert, batch_get_stats or units (all other methods)"),
        Column("limit", "int64", "What the vendor grants a day"),
        Column("used", "int64", "Spent by our book: calls that were sent, refused ones included"),
        Column("reserved", "int64", "Held by runs under way, or by calls whose run died before it could say"),
        Column("left", "int64", "What can still be granted; 0 once the vendor said that the bucket is spent"),
        Column("closed_at", "timestamp", "When the vendor said so; empty when it did not", nullable=True),
        Column("observed_at", "timestamp", "When this was read (UTC)"),
    ),
    key=("quota_day", "vendor", "bucket"),
)

TABLE_PACKS = TableContract(
    "table_packs",
    "Months of small files that were put together in one file, as of the last run.",
    columns=(
        Column("table_name", "string", "Table"),
        Column("month", "string", "Month, as in 2026-01"),
        Column("files", "int64", "Files of the month"),
        Column("rows", "int64", "Rows in the pack"),
        Column("size_bytes", "int64", "Size of the pack"),
        Column("written", "bool", "Whether this run wrote the pack; otherwise it was up to date"),
        Column("problem", "string", "Why the month could not be packed; empty when it was", nullable=True),
    ),
    key=("table_name", "month"),
)

OPERATIONS_OVERVIEW = TableContract(
    "operations_overview",
    "The morning page: one row per section, in words and as a number, as of the last look.",
    columns=(
        Column(
            "section", "string", "finds, failures, waiting, queue, quota, spend, revenue, storage or alerts"
        ),
        Column("position", "int64", "Place on the page"),
        Column("count", "int64", "What there is of it", nullable=True),
        Column("says", "string", "The section in one sentence"),
        Column("page", "string", "The section as Markdown"),
        Column("observed_at", "timestamp", "When this was read (UTC)"),
    ),
    key=("section",),
)

VIDEO_CATALOG = TableContract(
    "video_catalog",
    "One row per source video: whose, where it stands, where it can be watched, what it cost and earned.",
    columns=(
        Column("source_id", "string", "Source video"),
        Column("title", "string", "Its title; the file's name until it was accepted"),
        Column("account", "string", "Account it belongs to", nullable=True),
        Column("niche", "string", "Niche it was uploaded under", nullable=True),
        Column("arrived_at", "timestamp", "When it was accepted, or first seen (UTC)", nullable=True),
        Column("state", "string", "In one word: arrived, rejected, failed, accepted, rendered, waiting, planned, "
               "posting, posted, review", few_values=True),
        Column("says", "string", "Where it stands, in words"),
        Column("renditions", "string_list", "Format and address of every finished file"),
        Column("posts", "string_list", "Platform and address of every post that has one"),
        Column("cost_microusd", "int64", "What models and footage cost, in millionths of a dollar", nullable=True),
        Column("revenue", "string_list", "What it earned, by currency; empty where nothing is known"),
    ),
    key=("source_id",),
)  # fmt: skip
STORAGE_LIFECYCLE = TableContract(
    "storage_lifecycle",
    "What leaves the object store, and when: one row per rule, and what is due by it.",
    columns=(
        Column("rule", "string", "abort uploads, cold sources, or expire and a prefix"),
        Column("after_days", "int64", "Days after which it takes effect; 0 when it is not configured"),
        Column("carried_out_by", "string", "The bucket's rule, or this job"),
        Column("what", "string", "Which objects may go"),
        Column("due_objects", "int64", "Objects due now; empty where only S3 knows", nullable=True),
        Column("due_bytes", "int64", "Their size", nullable=True),
        Column("removed", "int64", "Removed by this run"),
        Column(
            "known_since", "timestamp", "When a run first saw the rule like this; the next run applies it"
        ),
    ),
    key=("rule",),
)

STORAGE_INVENTORY = TableContract(
    "storage_inventory",
    "Objects and bytes in the store by prefix and account, once a day.",
    columns=(
        Column("day", "date", "Business day"),
        Column("prefix", "string", "First part of the keys, of media the first two", few_values=True),
        Column("account", "string", "Whose they are; empty where the keys do not tell", few_values=True),
        Column("objects", "int64", "Objects"),
        Column("bytes", "int64", "Their size"),
        Column(
            "objects_grown", "int64", "More than on the day counted before; empty on the first", nullable=True
        ),
        Column("bytes_grown", "int64", "Bytes more than on the day counted before", nullable=True),
    ),
    key=("day", "prefix", "account"),
    partitioned_by=("day",),
)

ARCHIVED_VIDEOS = TableContract(
    "archived_videos",
    "Source videos that left the live partitions: finished, and old.",
    columns=(
        Column("source_id", "string", "The source video"),
        Column("account", "string", "Account it belongs to"),
        Column("archived_at", "timestamp", "When it was archived (UTC)"),
    ),
    key=("source_id",),
)

PRUNED_HISTORY = TableContract(
    "pruned_history",
    "What the last pruning let go of Dagster's own history, by job.",
    columns=(
        Column("job", "string", "The job the runs were of, as Dagster names it"),
        Column("pruned", "int64", "Runs deleted, with their events and logs"),
        Column("kept", "int64", "Old runs that stay, because a fact hangs on them"),
        Column("before", "timestamp", "Runs created earlier were looked at (UTC)"),
    ),
    key=("job",),
)

WEBHOOK_MESSAGES = TableContract(
    "webhook_messages",
    "One row per sender and kind of message of the last 30 days, and of whatever still waits or is parked.",
    columns=(
        Column("source", "string", "stripe, shopify, tiktok or render-node"),
        Column("kind", "string", "Kind of message, as the sender names it"),
        Column("has_effect", "bool", "Whether anything is done with it; others are counted only"),
        Column("received", "int64", "Messages, each counted once however often it was sent"),
        Column("waiting", "int64", "Not applied yet"),
        Column("parked", "int64", "Failed too often; a person has to look"),
        Column("newest_at", "timestamp", "When the newest came"),
        Column("oldest_waiting_at", "timestamp", "When the oldest that waits came", nullable=True),
        Column("problem", "string", "Why one of them failed", nullable=True),
        Column("observed_at", "timestamp", "When this row was made"),
    ),
    key=("source", "kind"),
)

CONTRACTS: tuple[TableContract, ...] = (
    API_QUOTA_USAGE, TABLE_PACKS, WEBHOOK_MESSAGES, OPERATIONS_OVERVIEW, VIDEO_CATALOG,
    STORAGE_LIFECYCLE, STORAGE_INVENTORY, ARCHIVED_VIDEOS, PRUNED_HISTORY,
)  # fmt: skip
