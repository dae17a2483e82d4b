"""Tables of publishing: what became of each video on each platform, and how its posts are doing."""

from ettametta_pipelines.publishing.figures_contracts import FIGURES_CONTRACTS
from ettametta_pipelines.publishing.queue_contracts import QUEUE_CONTRACTS
from ettametta_pipelines.storage.contracts import Column, TableContract

_PUBLICATION_COLUMNS = (
    Column("source_id", "string", "Source video the post was made from"),
    Column("platform", "string", "youtube or tiktok"),
    Column("account", "string", "Account whose channel it is"),
    Column("channel_id", "string", "Channel or creator id on the platform"),
    Column("publication_id", "string", "Row of the publication ledger"),
    Column("state", "string", "State in the ledger when this row was written, for example PUBLISHED"),
    Column("remote_id", "string", "Video id on the platform; TikTok gives none to private posts", nullable=True),
    Column("url", "string", "Where the post can be watched, as far as it may be seen", nullable=True),
    Column("privacy", "string", "Who may see it, in the platform's words"),
    Column("posted", "bool", "True when the run that wrote this row made the post"),
    Column("intent_no", "int64", "1, or higher where a person ordered the same video to be posted again"),
    Column("title", "string", "Title or caption"),
    Column("object_key", "string", "File that was posted, in the object store"),
    Column("sha256", "string", "Hash of the posted file; differs from the rendition's when it was re-rendered since"),
    Column("published_at", "timestamp", "When the platform was known to have it", nullable=True),
    Column("error_code", "string", "Why it is held or failed", nullable=True),
)  # fmt: skip

YOUTUBE_PUBLICATIONS = TableContract(
    "youtube_publications",
    "The post of one source video on YouTube, as the ledger knows it",
    _PUBLICATION_COLUMNS,
    key=("publication_id",),
)

TIKTOK_PUBLICATIONS = TableContract(
    "tiktok_publications",
    "The post of one source video on TikTok, as the ledger knows it",
    _PUBLICATION_COLUMNS,
    key=("publication_id",),
)

YOUTUBE_THUMBNAILS = TableContract(
    "youtube_thumbnails",
    "The picture each published YouTube video is shown by, as set by us",
    (
        Column("source_id", "string", "Source video the post was made from"),
        Column("publication_id", "string", "Row of the publication ledger"),
        Column("object_key", "string", "Picture in the object store; empty without one", nullable=True),
        Column("sha256", "string", "Hash of the picture", nullable=True),
        Column("is_set", "bool", "Whether YouTube has it"),
        Column("set_now", "bool", "True when the run that wrote this row set it"),
    ),
    key=("publication_id",),
)

PUBLICATION_METRICS = TableContract(
    "publication_metrics",
    "Statistics of our own posts as the platforms gave them on one day",
    (
        Column("day", "date", "Partition day"),
        Column("platform", "string", "youtube or tiktok"),
        Column("source_id", "string", "Source video the post was made from"),
        Column("publication_id", "string", "Row of the publication ledger"),
        Column("remote_id", "string", "Video id on the platform", nullable=True),
        Column("observed_at", "timestamp", "When the platform was asked"),
        Column("views", "int64", "Views so far; empty while the platform shows none for the post", nullable=True),
        Column("likes", "int64", "Likes so far", nullable=True),
        Column("comments", "int64", "Comments so far", nullable=True),
        Column("shares", "int64", "Shares so far; YouTube does not tell", nullable=True),
    ),
    key=("day", "publication_id"),
    partitioned_by=("day",),
)  # fmt: skip

CONNECTED_CHANNELS = TableContract(
    "connected_channels",
    "Every connected channel and how its consent stands",
    (
        Column("account", "string", "Account that posts on it"),
        Column("platform", "string", "youtube or tiktok"),
        Column("channel_id", "string", "Channel or creator id on the platform"),
        Column("channel_title", "string", "Its name there"),
        Column("state", "string", "active, or reauth_required: nothing is posted until it is connected again"),
        Column("reason", "string", "Why consent has ended", nullable=True),
        Column("scopes", "string", "What was granted, separated by spaces"),
        Column("not_granted", "string", "What was asked for and left out; empty when everything was granted"),
        Column("token_expires_at", "timestamp", "End of the access token, which is renewed before"),
        Column("consent_expires_at", "timestamp", "End of the refresh token where it has one", nullable=True),
        Column("last_refresh_at", "timestamp", "When the tokens were last renewed", nullable=True),
        Column("next_refresh_at", "timestamp", "When they are renewed next", nullable=True),
        Column("failed_refreshes", "int64", "Attempts that failed since the last renewal"),
        Column("connected_at", "timestamp", "When consent was last given"),
        Column("observed_at", "timestamp", "When this was read (UTC)"),
    ),
    key=("account", "platform"),
)  # fmt: skip

CONTRACTS: tuple[TableContract, ...] = (
    YOUTUBE_PUBLICATIONS,
    TIKTOK_PUBLICATIONS,
    YOUTUBE_THUMBNAILS,
    PUBLICATION_METRICS,
    CONNECTED_CHANNELS,
    *QUEUE_CONTRACTS,
    *FIGURES_CONTRACTS,
)
