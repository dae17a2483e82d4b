"""Tables of the synthesis room: what is planned for how much, and what became of it.

Declarations only; plans are made in `planning.py`, clips in `making.py`.
"""

from ettametta_pipelines.storage.contracts import Column, TableContract

_WANTED = (
    Column("day", "date", "Partition day"),
    Column("niche", "string", "Niche slug"),
    Column("plan_id", "string", "The brief's id, or the name of an order from a prompt"),
    Column("origin", "string", "brief or prompt"),
    Column("brief_id", "string", "The creative brief; empty for a prompt", nullable=True),
    Column("account", "string", "Whose clip it is, and who pays"),
    Column("title", "string", "Title the clip is handed in under"),
    Column("prompt", "string", "What is to be seen"),
    Column("recipe", "string", "Suggested render recipe", nullable=True),
    Column("keywords", "string_list", "Search words for supporting footage", nullable=True),
)
_CHOSEN = (
    Column("engine", "string", "Engine that makes it; empty when none may", nullable=True),
    Column("model", "string", "Its model", nullable=True),
    Column("mode", "string", "sandbox, live, or local for machines of our own", nullable=True),
    Column("instead_of", "string", "First choice, where another engine took its place", nullable=True),
    Column("why", "string", "Why this engine and not another, in a sentence"),
    Column(
        "quote_microusd", "int64", "List price before the order, millionths of a US dollar", nullable=True
    ),
    Column("quote_usd", "float64", "The same in US dollars, for reading", nullable=True),
)
_KEPT = (
    Column(
        "wanted_json", "string", "Request before an engine was chosen, and its still with rights, as JSON"
    ),
    Column("considered_json", "string", "Every engine looked at: price and why it was not taken, as JSON"),
    Column("request_json", "string", "Request as the chosen engine makes it, as JSON", nullable=True),
    Column("next_engines", "string_list", "Engines that may follow if it fails", nullable=True),
    Column("still_key", "string", "Still it starts from, in the object store", nullable=True),
    Column("still_origin", "string", "Where the still is from", nullable=True),
    Column("ask_again", "bool", "Whether a clip that failed for good is ordered again"),
    Column("planned_at", "timestamp", "When it was planned (UTC)"),
)

SYNTHESIS_PLANS = TableContract(
    "synthesis_plans",
    "What will be synthesised, by which engine and for how much, as decided before anything is spent.",
    columns=(
        *_WANTED,
        Column("status", "string", "planned, or not_planned where no engine may make it"),
        Column("reason_code", "string", "Why none may; else empty", nullable=True),
        *_CHOSEN,
        *_KEPT,
    ),
    key=("plan_id", "account"),
    partitioned_by=("day", "niche"),
)

SYNTHESIZED_CLIPS = TableContract(
    "synthesized_clips",
    "Clips that were synthesised and handed in as source videos, and those there are not (yet), with why.",
    columns=(
        *_WANTED,
        Column("status", "string", "made, pending, parked (a person must look at the vendor), or failed"),
        Column("reason_code", "string", "Why there is no clip; else empty", nullable=True),
        Column("reason", "string", "The same in a sentence with its remedy", nullable=True),
        *_CHOSEN,
        Column("request_key", "string", "Name of the clip by engine, model and request", nullable=True),
        Column("operation_id", "string", "The vendor's name for the order", nullable=True),
        Column("cost_microusd", "int64", "What it cost by the answer; empty when not told", nullable=True),
        Column("cost_usd", "float64", "The same in US dollars, for reading", nullable=True),
        Column("drift_microusd", "int64", "Cost less quote; empty when the cost is not told", nullable=True),
        Column("object_key", "string", "The clip in the object store", nullable=True),
        Column("sha256", "string", "SHA-256 of its content", nullable=True),
        Column("source_id", "string", "Source video it became", nullable=True),
        Column("upload_key", "string", "Where it was handed in", nullable=True),
        Column("seed", "int64", "Seed it was made with", nullable=True),
        Column("width", "int64", "Pixels", nullable=True),
        Column("height", "int64", "Pixels", nullable=True),
        Column("fps", "float64", "Frames a second", nullable=True),
        Column("frames", "int64", "Frames", nullable=True),
        Column("has_audio", "bool", "Whether it has sound", nullable=True),
        Column("synthetic", "bool", "Whether a machine made it; posts of it say so", nullable=True),
        Column(
            "rights",
            "string",
            "generated; undeclared for a sandbox's clip beside live channels",
            nullable=True,
        ),
        Column("attribution", "string", "Credit of the still it was made of", nullable=True),
        Column("provenance_json", "string", "How it was made, as JSON", nullable=True),
        *_KEPT,
    ),
    key=("plan_id", "account"),
    partitioned_by=("day", "niche"),
)

CONTRACTS: tuple[TableContract, ...] = (SYNTHESIS_PLANS, SYNTHESIZED_CLIPS)
