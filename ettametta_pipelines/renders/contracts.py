"""Tables of the renders room: finished renditions of a source video, and the thumbnails to choose from.

Declarations only. The three formats have a table each, of the same shape, since each is an asset of its own.
"""

from ettametta_pipelines.storage.contracts import Column, TableContract

FORMAT_NAMES = ("9x16", "16x9", "1x1")

_COLUMNS = (
    Column("source_id", "string", "The source video"),
    Column("format", "string", "9x16, 16x9 or 1x1"),
    Column("object_key", "string", "The finished file in the object store, immutable"),
    Column("sha256", "string", "SHA-256 of the file, lower-case hex"),
    Column("size_bytes", "int64", "Size of the file"),
    Column("render_key", "string", "Names source, recipe, seed, format, ffmpeg build: same key, same bytes"),
    Column("recipe_name", "string", "Recipe that was asked for"),
    Column("recipe_json", "string", "What of the recipe decides the picture, as canonical JSON"),
    Column("seed", "int64", "Seed of everything random"),
    Column("width", "int64", "Pixels"),
    Column("height", "int64", "Pixels"),
    Column("fps", "float64", "Frames per second, constant"),
    Column("duration_s", "float64", "Length in seconds"),
    Column("has_audio", "bool", "Whether it has sound"),
    Column("ffmpeg_build", "string", "Version of the ffmpeg that made it"),
    Column("encoder", "string", "Encoder of its video: x264, nvenc, qsv or vaapi"),
    Column(
        "source_distance",
        "float64",
        "How far its picture is from the source's: share of the fingerprint's bits that differ, 0 to 1, about 0.5 for "
        "pictures with nothing in common; empty where not measured",
        nullable=True,
    ),
    Column("rendered", "bool", "Whether this run made it; false when it was there already"),
    Column(
        "render_seconds", "float64", "Wall time of the render, shared by formats made together; 0 if not made"
    ),
    Column(
        "broll_json",
        "string",
        "Clips it cuts away to with times, rights and credits, and what was skipped, as JSON; empty without any",
        nullable=True,
    ),
    Column(
        "voice_json",
        "string",
        "Its voice-over as JSON: engine, voice, times, levels, cost, synthetic; empty without one",
        nullable=True,
    ),
)


def rendition_asset(format_name: str) -> str:
    """Asset and table of a format."""
    return f"rendition_{format_name}"


RENDITIONS: tuple[TableContract, ...] = tuple(
    TableContract(
        rendition_asset(name),
        f"One row per source video: its finished {name.replace('x', ':')} rendition.",
        columns=_COLUMNS,
        key=("source_id",),
    )
    for name in FORMAT_NAMES
)

THUMBNAILS = TableContract(
    "thumbnails",
    "One row per picture: the best frames of a source video, each cut wide and upright, plain and titled.",
    columns=(
        Column("source_id", "string", "The source video"),
        Column("rank", "int64", "1 is the best frame"),
        Column("shape", "string", "16x9 or 9x16"),
        Column("variant", "string", "plain, or how the title is drawn: headline or block", nullable=True),
        Column(
            "object_key", "string", "JPEG in the object store, immutable; its name holds the content's hash"
        ),
        Column("sha256", "string", "SHA-256 of the JPEG, lower-case hex"),
        Column("time_s", "float64", "When in the source the frame is shown, seconds"),
        Column(
            "sharpness", "float64", "Variance of the Laplacian of the small frame's brightness (0 to 255)"
        ),
        Column("exposure", "float64", "1 is evenly lit, 0 all black or white"),
        Column("width", "int64", "Pixels"),
        Column("height", "int64", "Pixels"),
    ),
    key=("object_key",),
)

RECIPE_TRIALS = TableContract(
    "recipe_trials",
    "The latest trial of a recipe on a source video. Never published.",
    columns=(
        Column("source_id", "string", "The source video"),
        Column("format", "string", "9x16, 16x9 or 1x1"),
        Column("recipe_name", "string", "Preset it began with"),
        Column("recipe_json", "string", "What was tried, as canonical JSON"),
        Column("start_s", "float64", "Where in the source the piece begins"),
        Column("length_s", "float64", "Longest piece asked for; empty for all the rest", nullable=True),
        Column(
            "object_key", "string", "The file in the object store; empty where a check failed", nullable=True
        ),
        Column("render_key", "string", "Names piece, recipe, seed and format", nullable=True),
        Column("seed", "int64", "Seed of everything random", nullable=True),
        Column("size_bytes", "int64", "Size of the file", nullable=True),
        Column("duration_s", "float64", "Length of the file in seconds", nullable=True),
        Column("render_seconds", "float64", "Wall time of the render"),
        Column("failed_checks", "string_list", "Checks a rendition made like this would fail"),
    ),
    key=("source_id",),
)

CONTRACTS: tuple[TableContract, ...] = (*RENDITIONS, THUMBNAILS, RECIPE_TRIALS)
