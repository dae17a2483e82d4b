"""Tables of what became of posts: the vendor's daily figures, and variants compared. Declarations only."""

from ettametta_pipelines.storage.contracts import Column, TableContract

PUBLICATION_ANALYTICS = TableContract(
    "publication_analytics",
    "Our posts day by day as the platform's own analytics tell them, every revision kept",
    (
        Column("day", "date", "The platform's day (Pacific) the figures are about"),
        Column("platform", "string", "youtube"),
        Column("account", "string", "Account whose channel it is"),
        Column("source_id", "string", "Source video the post was made from"),
        Column("publication_id", "string", "Row of the publication ledger"),
        Column("remote_id", "string", "Video id on the platform"),
        Column("revision", "int64", "1 is what was told first; the highest is what holds"),
        Column("as_of", "timestamp", "When this was told"),
        Column("is_final", "bool", "Told 30 days or more after the day: no longer revised"),
        Column("views", "int64", "Times it was started that day"),
        Column("engaged_views", "int64", "Views beyond a start"),
        Column("minutes_watched", "float64", "Minutes"),
        Column("average_view_s", "float64", "Seconds watched per view"),
        Column("average_view_percent", "float64", "Share of the video watched per view, 0 to 100 and more"),
        Column("likes", "int64", "Likes given that day, less those taken back"),
        Column("comments", "int64", "Comments that day"),
        Column("shares", "int64", "Shares that day"),
        Column("subscribers_gained", "int64", "Subscribers gained from it that day"),
    ),
    key=("day", "publication_id", "revision"),
    partitioned_by=("day",),
)

VARIANT_RESULTS = TableContract(
    "variant_results",
    "Experiments with titles and hooks: each variant's outcomes, and whether one has won",
    (
        Column("day", "date", "Day on which it was computed"),
        Column("account", "string", "Account whose channel it is"),
        Column("platform", "string", "youtube or tiktok"),
        Column("experiment", "string", "Name in the channels file"),
        Column("kind", "string", "title or hook"),
        Column("arm", "string", "The variant"),
        Column("share", "float64", "Probability of a post to get it, as of the newest post", nullable=True),
        Column("posts", "int64", "Posts that got it"),
        Column("outcomes", "int64", "Of these, posts whose views after 24 hours are known"),
        Column("mean_lift", "float64", "Mean natural log of views over the channel's usual", nullable=True),
        Column("evidence", "float64", "Its e-process: 1 says nothing, more speaks for it"),
        Column("peak", "float64", "The highest the e-process has been"),
        Column("threshold", "float64", "It wins when it reaches this"),
        Column("wins", "bool", "Whether it has won"),
        Column(
            "more_posts",
            "int64",
            "About how many posts until one wins; empty if untold",
            nullable=True,
        ),
        Column("sentence", "string", "The experiment in plain words"),
    ),
    key=("account", "platform", "experiment", "arm"),
)

FIGURES_CONTRACTS: tuple[TableContract, ...] = (PUBLICATION_ANALYTICS, VARIANT_RESULTS)
