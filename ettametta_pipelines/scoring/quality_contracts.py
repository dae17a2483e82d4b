"""Tables of calibration: outcomes of our own posts, what they say about the score, and which weights rank.

Declarations only; the work is in `outcomes.py`, `calibration.py`, `learning.py` and `champions.py`.
"""

from ettametta_pipelines.storage.contracts import Column, TableContract

_DAY = Column("day", "date", "Day at whose end things were looked at")


def _outcome_columns(horizon: str) -> tuple[Column, ...]:
    return (
        Column(
            f"status_{horizon}",
            "string",
            "known, or why not: not_public, too_young, not_observed (no two readings close enough around it), "
            "no_usual (too few other posts of the channel)",
        ),
        Column(f"views_{horizon}", "float64", f"Views {horizon} after publication, between readings", nullable=True),
        Column(
            f"usual_views_{horizon}",
            "float64",
            "The same of the channel's usual post: median of its nearest others",
            nullable=True,
        ),
        Column(
            f"lift_{horizon}",
            "float64",
            "Ours: natural log of views over the usual; 0 is usual, 0.69 twice as many",
            nullable=True,
        ),
        Column(
            f"engagement_lift_{horizon}",
            "float64",
            "Ours: natural log of likes and comments per view over the channel's usual",
            nullable=True,
        ),
    )  # fmt: skip


POST_OUTCOMES = TableContract(
    "post_outcomes",
    "Our own posts of the last 180 days with what became of them, beside the candidate each was made after.",
    columns=(
        _DAY,
        Column("publication_id", "string", "Row of the publication ledger"),
        Column("source_id", "string", "Source video the post was made from"),
        Column("platform", "string", "Platform of the post"),
        Column("account", "string", "Account whose channel it is"),
        Column("channel_id", "string", "Channel the post is on"),
        Column("privacy", "string", "Who may see it, in the platform's words"),
        Column("published_at", "timestamp", "When the platform was known to have it (UTC)"),
        Column(
            "link",
            "string",
            "linked, or why no score belongs to it: no_brief, brief_unknown, candidate_unknown, "
            "observed_later (the candidate's figures are from after the post)",
        ),
        Column("brief_id", "string", "Creative brief it was made after", nullable=True),
        Column("candidate_day", "date", "Day of the candidate", nullable=True),
        Column("niche", "string", "Niche of the candidate", nullable=True),
        Column("candidate_platform", "string", "Platform of the candidate", nullable=True),
        Column("candidate_video_id", "string", "The candidate", nullable=True),
        Column("score", "float64", "Its score, by which it was picked", nullable=True),
        Column("weights_version", "string", "Weights of that score", nullable=True),
        Column("challenger_score", "float64", "What the challenger gave it in shadow", nullable=True),
        Column("challenger_version", "string", "That challenger", nullable=True),
        *(
            Column(f"{part}_part", "float64", f"Its {part}, percentile 0..1; empty if unknown", nullable=True)
            for part in ("velocity", "outlier", "engagement", "hook", "aesthetics")
        ),
        *_outcome_columns("24h"),
        *_outcome_columns("7d"),
    ),
    key=("publication_id",),
)

SCORE_QUALITY = TableContract(
    "score_quality",
    "How well the score told beforehand what became of our posts, one measure per row.",
    columns=(
        _DAY,
        Column("niche", "string", "Niche slug, or all"),
        Column("horizon", "string", "Age of the posts: 24h or 7d"),
        Column(
            "scorer",
            "string",
            "champion (the score that ranked), challenger (its shadow), or less_variants (the champion, with what "
            "variants of decided experiments brought taken off the outcomes)",
        ),
        Column(
            "measure",
            "string",
            "rank_correlation (Spearman), top_lift (views of the top fifth over a random pick, as a factor), "
            "brier_skill (share of the error that calibration on earlier posts takes away), "
            "reliability (share of posts above the usual in a bin of scores), isotonic (the same, monotone)",
        ),
        Column("bin", "int64", "1 is the lowest scores; 0 where there are no bins"),
        Column("score_low", "float64", "Lowest score of the bin", nullable=True),
        Column("score_high", "float64", "Highest score of the bin", nullable=True),
        Column("value", "float64", "The measure; empty when too few outcomes are known", nullable=True),
        Column("low", "float64", "Lower end of its 95 % interval", nullable=True),
        Column("high", "float64", "Upper end of its 95 % interval", nullable=True),
        Column("n", "int64", "Posts it rests on"),
        Column("missing", "int64", "How many more outcomes it takes; 0 when it could be computed"),
    ),
    key=("niche", "horizon", "scorer", "measure", "bin"),
)

SCORE_CHALLENGER = TableContract(
    "score_challenger",
    "Champion and challenger on posts that neither has seen, and what was decided.",
    columns=(
        _DAY,
        Column("role", "string", "champion, challenger, or enlisted for one trained on this day"),
        Column("version", "string", "Version of the weights"),
        Column(
            "trained_through", "date", "Last day of its training; empty for stated weights", nullable=True
        ),
        *(
            Column(f"{part}_share", "float64", f"Share of {part} in the score, 0..1")
            for part in ("velocity", "outlier", "engagement", "hook", "aesthetics")
        ),
        Column("training_posts", "int64", "Posts it was trained on; 0 for stated weights"),
        Column("test_posts", "int64", "Posts of the test, all made after its training"),
        Column("rank_correlation", "float64", "Spearman on those; empty before the test", nullable=True),
        Column("p_value", "float64", "Chance of such a gain without one; challenger only", nullable=True),
        Column("decision", "string", "What happened to it on this day"),
        Column("reason", "string", "Why, in a sentence"),
    ),
    key=("role", "version"),
)

SCORE_WEIGHTS = TableContract(
    "score_weights",
    "Every decision about which weights rank, the newest first.",
    columns=(
        Column("number", "int64", "1 is the first decision ever"),
        Column("at", "timestamp", "When it was made (UTC)"),
        Column("day", "date", "Day whose outcomes led to it; empty when a person decided", nullable=True),
        Column("action", "string", "enlist, promote, retire, pin, unpin or rollback"),
        Column("version", "string", "Weights it is about"),
        Column("champion_after", "string", "Weights that rank from then on"),
        Column("reason", "string", "Why"),
        Column("by", "string", "test or operator, and the run"),
    ),
    key=("number",),
)

QUALITY_CONTRACTS: tuple[TableContract, ...] = (POST_OUTCOMES, SCORE_QUALITY, SCORE_CHALLENGER, SCORE_WEIGHTS)
