"""Tables of the publishing queue: what is posted when, and who decided what. Declarations only."""

from ettametta_pipelines.storage.contracts import Column, TableContract

PUBLISH_QUEUE = TableContract(
    "publish_queue",
    "What waits to be posted, with its date or with what it waits for, as of the last look",
    (
        Column("position", "int64", "1 is the next; held ones come last, oldest first"),
        Column(
            "planned_at", "timestamp", "When it will be posted (UTC); empty while it is held", nullable=True
        ),
        Column("why", "string", "What it waits for, in words"),
        Column("platform", "string", "youtube or tiktok"),
        Column("account", "string", "Account whose channel it is"),
        Column("time_zone", "string", "The channel's time zone"),
        Column("source_id", "string", "Source video"),
        Column("intent_no", "int64", "1, or higher where the same video is posted again on purpose"),
        Column("title", "string", "Title or caption"),
        Column("preview_url", "string", "Where the rendition can be watched"),
        Column("sha256", "string", "Hash of the rendition"),
        Column("ready_at", "timestamp", "When its source video was accepted (UTC): the queue's age"),
        Column("not_before", "timestamp", "Not posted before this, as approved", nullable=True),
        Column("attempts", "int64", "Runs that were started for it since its approval"),
        Column("tell", "string_list", "Who is told about the channel's posts"),
        Column("observed_at", "timestamp", "When the queue was looked at"),
    ),
    key=("platform", "account", "source_id"),
)

PUBLICATION_APPROVALS = TableContract(
    "publication_approvals",
    "Every decision on posts of one source video, newest first; none is ever changed or removed",
    (
        Column("decision_id", "int64", "Rises with every decision"),
        Column("platform", "string", "youtube or tiktok"),
        Column("account", "string", "Account whose channel it is"),
        Column("source_id", "string", "Source video"),
        Column("intent_no", "int64", "1, or higher where the same video is posted again on purpose"),
        Column("decision", "string", "approve, reject or hold"),
        Column("stands", "bool", "Whether it is the newest on its post"),
        Column("decided_at", "timestamp", "When, by the database's clock"),
        Column("decided_by", "string", "Who launched the run, as far as known"),
        Column("run_id", "string", "The run in which it was decided", nullable=True),
        Column("title", "string", "Title or caption that was shown"),
        Column("description", "string", "Text that was shown, credit included"),
        Column("tags", "string_list", "Tags or hashtags that were shown"),
        Column("privacy", "string", "Who may see it, in the platform's words"),
        Column("synthetic", "bool", "Declared as synthetic media"),
        Column("paid", "bool", "Declared as a paid promotion"),
        Column("made_for_kids", "bool", "Declared as made for kids"),
        Column("not_before", "timestamp", "Not to be posted before this", nullable=True),
        Column("comment", "string", "What the person said"),
        Column("sha256", "string", "Hash of the rendition that was shown"),
        Column("content_hash", "string", "Hash of file, words and flags: what the decision is about"),
    ),
    key=("decision_id",),
)

QUEUE_CONTRACTS: tuple[TableContract, ...] = (PUBLISH_QUEUE, PUBLICATION_APPROVALS)
