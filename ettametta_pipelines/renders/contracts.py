"""Tables of the renders room: one row for each finished rendition of a source video.

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
    Column("rendered", "bool", "Whether this run made it; false when it was there already"),
    Column(
        "render_seconds", "float64", "Wall time of the render, shared by formats made together; 0 if not made"
    ),
)


def rendition_asset(format_name: str) -> str:
    """Asset and table of a format."""
    return f"rendition_{format_name}"


CONTRACTS: tuple[TableContract, ...] = tuple(
    TableContract(
        rendition_asset(name),
        f"One row per source video: its finished {name.replace('x', ':')} rendition.",
        columns=_COLUMNS,
        key=("source_id",),
    )
    for name in FORMAT_NAMES
)
