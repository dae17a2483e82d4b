"""Tables of the scoring room: judgements, scores with their parts, and creative briefs.

Declarations only; the judgement, the blend and the brief live in `assessment.py`, `blend.py` and `briefs.py`.
"""

from ettametta_pipelines.storage.contracts import Column, TableContract

_IDENTITY = (
    Column("day", "date", "Partition day"),
    Column("niche", "string", "Niche slug"),
    Column("platform", "string", "youtube or tiktok"),
    Column("video_id", "string", "The platform's id of the video"),
    Column("url", "string", "Public page of the video"),
    Column("title", "string", "Title of the video"),
)

CANDIDATE_ASSESSMENTS = TableContract(
    "candidate_assessments",
    "What a vision model saw in each of the strongest candidates, and what asking it cost.",
    columns=(
        *_IDENTITY,
        Column("rank", "int64", "Rank among the partition's trend candidates when judged"),
        Column("status", "string", "assessed or failed"),
        Column("reason_code", "string", "Why it failed; empty when assessed", nullable=True),
        Column("reason", "string", "The failure in a sentence; empty when assessed", nullable=True),
        Column(
            "evidence", "string", "What was looked at: video or thumbnail; empty when failed", nullable=True
        ),
        Column("hook_strength", "float64", "How well the opening holds a viewer, 0..1", nullable=True),
        Column("hook_reason", "string", "Why the hook is judged so", nullable=True),
        Column("subjects", "string_list", "What is to be seen", nullable=True),
        Column("mood", "string", "Mood in one word", nullable=True),
        Column("aesthetics", "float64", "Quality of the picture, 0..1", nullable=True),
        Column("safety", "string", "safe, unsafe, or unjudged by a local heuristic", nullable=True),
        Column("safety_reason", "string", "Why it is unsafe; empty when safe", nullable=True),
        Column("provider", "string", "Who judged: gemini or heuristics"),
        Column("model", "string", "Model that answered, as the provider names it"),
        Column("requested_model", "string", "Model that was asked for"),
        Column("prompt_version", "string", "Version of the question asked"),
        Column("prompt_tokens", "int64", "Tokens sent"),
        Column("output_tokens", "int64", "Tokens answered"),
        Column("cost_microusd", "int64", "Price of the judgement in millionths of a US dollar"),
        Column("assessed_at", "timestamp", "When it was judged (UTC)"),
    ),
    key=("platform", "video_id"),
    partitioned_by=("day", "niche"),
)

SCORED_CANDIDATES = TableContract(
    "scored_candidates",
    "Every trend candidate with its parts as percentiles; a score where it was judged and is safe.",
    columns=(
        *_IDENTITY,
        Column("score", "float64", "Weighted mean of the parts, 0..1; empty when excluded", nullable=True),
        Column("score_rank", "int64", "1 is the best of the partition; empty when excluded", nullable=True),
        Column("excluded", "string", "Why it has no score; empty when it has one", nullable=True),
        Column("excluded_reason", "string", "The same in a sentence", nullable=True),
        Column("velocity_part", "float64", "Percentile of view velocity on its platform, 0..1"),
        Column("outlier_part", "float64", "Percentile of the outlier ratio; empty if unknown", nullable=True),
        Column("engagement_part", "float64", "Percentile of engagement; empty if hidden", nullable=True),
        Column("hook_part", "float64", "Percentile of hook strength; empty if not judged", nullable=True),
        Column("aesthetics_part", "float64", "Percentile of aesthetics; empty if not judged", nullable=True),
        Column("neutral_parts", "string_list", "Parts that were unknown and counted as the middle, 0.5"),
        Column("weights_version", "string", "Which weights were used"),
        Column("rank", "int64", "Rank among trend candidates, before judgement"),
        Column("views", "int64", "View count when observed"),
        Column("view_velocity_per_hour", "float64", "Mean views per hour since publication"),
        Column(
            "outlier_ratio", "float64", "Views against the channel's usual; empty if unknown", nullable=True
        ),
        Column("hook_strength", "float64", "As judged, 0..1", nullable=True),
        Column("hook_reason", "string", "Why the hook is judged so", nullable=True),
        Column("subjects", "string_list", "What is to be seen", nullable=True),
        Column("mood", "string", "Mood in one word", nullable=True),
        Column("aesthetics", "float64", "As judged, 0..1", nullable=True),
        Column("safety", "string", "As judged; empty if not judged", nullable=True),
        Column("thumbnail_url", "string", "Address of the preview picture", nullable=True),
    ),
    key=("platform", "video_id"),
    partitioned_by=("day", "niche"),
)

CREATIVE_BRIEFS = TableContract(
    "creative_briefs",
    "What to make next: one brief for each of the best candidates.",
    columns=(
        Column("day", "date", "Partition day"),
        Column("niche", "string", "Niche slug"),
        Column("brief_id", "string", "Stable id: the same day, niche and video give the same id"),
        Column("platform", "string", "Platform of the video that inspired it"),
        Column("video_id", "string", "Video that inspired it"),
        Column("score", "float64", "Its score, 0..1"),
        Column("prompt", "string", "Prompt for synthesis of original footage"),
        Column("hook_text", "string", "Words for the first two seconds, at most 80 characters"),
        Column("broll_keywords", "string_list", "Search words for supporting footage"),
        Column("hashtags", "string_list", "Hashtags with their #"),
        Column("recipe", "string", "Suggested render recipe: clean, cinematic or punchy"),
        Column("provider", "string", "Who wrote it"),
        Column("model", "string", "Model that answered, as the provider names it"),
        Column("requested_model", "string", "Model that was asked for"),
        Column("prompt_version", "string", "Version of the question asked"),
        Column("cost_microusd", "int64", "Price of the brief in millionths of a US dollar"),
        Column("written_at", "timestamp", "When it was written (UTC)"),
    ),
    key=("brief_id",),
    partitioned_by=("day", "niche"),
)

CONTRACTS: tuple[TableContract, ...] = (CANDIDATE_ASSESSMENTS, SCORED_CANDIDATES, CREATIVE_BRIEFS)
