"""Tables of the scoring room: judgements, scores with their parts, and creative briefs.

Declarations only; the judgement, the blend and the brief live in `assessment.py`, `blend.py` and `briefs.py`.
"""

from ettametta_pipelines.scoring.quality_contracts import QUALITY_CONTRACTS
from ettametta_pipelines.storage.contracts import Column, TableContract

_IDENTITY = (
    Column("day", "date", "Partition day"),
    Column("niche", "string", "Niche slug"),
    Column("platform", "string", "youtube or tiktok"),
    Column("video_id", "string", "The platform's id of the video"),
    Column("url", "string", "Public page of the video"),
    Column("title", "string", "Title of the video"),
)

# Columns that came later are nullable, so that tables stored before them are still read.
_ANSWERED = (
    Column(
        "provider", "string", "Who answered: gemini, openai, groq, or heuristics or template without a model"
    ),
    Column("model", "string", "Model that answered, as the provider names it"),
    Column("requested_model", "string", "Model that was asked for"),
    Column("mode", "string", "Who was asked: sandbox or live; empty in rows from before", nullable=True),
    Column(
        "links_left",
        "string_list",
        "Who was asked before and did not answer: provider and code",
        nullable=True,
    ),
    Column("prompt_version", "string", "Version of the question asked"),
)
_PAID = (
    Column("cost_microusd", "int64", "What all answers to this question cost, in millionths of a US dollar"),
    Column("cost_usd", "float64", "The same in US dollars, for reading", nullable=True),
)

_JUDGED = (
    Column("status", "string", "assessed or failed"),
    Column("reason_code", "string", "Why no model judged, e.g. budget_spent; else empty", nullable=True),
    Column("reason", "string", "The same in a sentence", nullable=True),
    Column(
        "evidence",
        "string",
        "What was looked at: video, thumbnail or frames; empty when failed",
        nullable=True,
    ),
    Column("hook_strength", "float64", "How well the opening holds a viewer, 0..1", nullable=True),
    Column("hook_reason", "string", "Why the hook is judged so", nullable=True),
    Column("subjects", "string_list", "What is to be seen", nullable=True),
    Column("mood", "string", "Mood in one word", nullable=True),
    Column("pacing", "string", "slow, steady, fast, or unclear from a still", nullable=True),
    Column("text_on_screen", "string", "Words to be read in the picture; empty when none", nullable=True),
    Column("aesthetics", "float64", "Quality of the picture, 0..1", nullable=True),
    Column("safety", "string", "safe, unsafe, or unjudged by a local heuristic", nullable=True),
    Column("safety_reason", "string", "Why it is unsafe; empty when safe", nullable=True),
    Column("edit_direction", "string", "What an editor should make of it", nullable=True),
    Column("contrast", "float64", "Standard deviation of luma, 0..127.5", nullable=True),
    Column("colourfulness", "float64", "Hasler and Süsstrunk 2003; 0 grey, 100 vivid", nullable=True),
    Column("sharpness", "float64", "Variance of luma's Laplacian at 320 pixels width", nullable=True),
    Column("faces", "int64", "Faces found, most in one picture", nullable=True),
    *_ANSWERED,
    Column("prompt_tokens", "int64", "Tokens sent"),
    Column("output_tokens", "int64", "Tokens answered"),
    *_PAID,
    Column("assessed_at", "timestamp", "When it was judged (UTC)"),
)

CANDIDATE_ASSESSMENTS = TableContract(
    "candidate_assessments",
    "What a vision model saw in each of the strongest candidates, and what asking it cost.",
    columns=(
        *_IDENTITY,
        Column("rank", "int64", "Rank among the partition's trend candidates when judged"),
        *_JUDGED,
    ),
    key=("platform", "video_id"),
    partitioned_by=("day", "niche"),
)

SOURCE_ASSESSMENTS = TableContract(
    "source_assessments",
    "What a vision model saw in frames of an own source video, beside what its pixels and cuts say.",
    columns=(
        Column("source_id", "string", "The source video"),
        Column("account", "string", "Account whose budget paid"),
        Column("niche", "string", "Niche slug it was uploaded under"),
        Column("title", "string", "Its title"),
        Column("frame_times_s", "string_list", "Times of the frames that were shown, in seconds"),
        Column("motion_energy", "float64", "Mean change of brightness from frame to frame, 0 still to 1"),
        Column("cuts_per_minute", "float64", "Cuts over its duration in minutes"),
        *_JUDGED,
    ),
    key=("source_id",),
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
        Column(
            "challenger_score",
            "float64",
            "What the challenger would say, in shadow: ranks nothing; empty without one",
            nullable=True,
        ),
        Column("challenger_version", "string", "Weights of that score", nullable=True),
        Column("observed_at", "timestamp", "When its statistics were read (UTC)", nullable=True),
        Column("rank", "int64", "Rank among trend candidates, before judgement"),
        Column("views", "int64", "View count when observed; empty once deleted by age", nullable=True),
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
        Column(
            "title_candidates", "string_list", "Titles to choose from, at most 100 characters", nullable=True
        ),
        Column("broll_keywords", "string_list", "Search words for supporting footage"),
        Column("hashtags", "string_list", "Hashtags with their #"),
        Column("recipe", "string", "Suggested render recipe: clean, cinematic or punchy"),
        Column("written_by", "string", "model, or template where none answered", nullable=True),
        Column("reason_code", "string", "Why no model wrote it; else empty", nullable=True),
        *_ANSWERED,
        Column("prompt_tokens", "int64", "Tokens sent", nullable=True),
        Column("output_tokens", "int64", "Tokens answered", nullable=True),
        *_PAID,
        Column("written_at", "timestamp", "When it was written (UTC)"),
    ),
    key=("brief_id",),
    partitioned_by=("day", "niche"),
)

CONTRACTS: tuple[TableContract, ...] = (
    CANDIDATE_ASSESSMENTS,
    SCORED_CANDIDATES,
    CREATIVE_BRIEFS,
    SOURCE_ASSESSMENTS,
    *QUALITY_CONTRACTS,
)
