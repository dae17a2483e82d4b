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
)  # fmt: skip
