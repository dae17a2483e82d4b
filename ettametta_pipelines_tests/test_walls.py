"""The walls of the house: what may import what."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ettametta_pipelines

PACKAGE = Path(ettametta_pipelines.__file__).parent
ROOMS = {
    "discovery", "scoring", "media", "renders", "synthesis", "publishing", "commerce", "revenue", "billing",
}  # fmt: skip
# Where Dagster is spoken: assets beside their logic, and what sits on top of the rooms or binds them to it.
DAGSTER_SPOKEN = {
    "automation", "catalog.py", "commands", "definitions.py", "orchestration", "partitions.py",
}  # fmt: skip

SPEAKING_FILES = {
    "publishing/post_choices.py",
    "storage/tables.py",
    "synthesis/local.py",
    "synthesis/pipes.py",
    "synthesis/pod.py",
    "synthesis/runners.py",
}
# Run in the GPU image, by an interpreter of its own, and imported by nothing of the code location.
GPU_SIDE = {"synthesis/worker.py", "synthesis/diffusion.py", "synthesis/resident.py"}
GPU_PACKAGES = {"torch", "diffusers", "transformers", "accelerate"}


# The one wall with doors on both sides. Media looks at captions, frames and sound with tools that stand in renders; no
# other may come to these, and each that goes to media, or to a floor below both, is struck off.
TOOLS_OF_MEDIA = {
    "renders.caption_drawing", "renders.captions", "renders.ffmpeg", "renders.formats", "renders.recipe",
    "renders.sound", "renders.stills",
}  # fmt: skip


def imports_of(path: Path) -> Iterator[str]:
    """Full names of the modules a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def modules(folder: str = "") -> list[Path]:
    return sorted((PACKAGE / folder).rglob("*.py"))


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "ettametta_pipelines" and len(parts) > 1 else None


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_domain_code_knows_nothing_of_dagster(path: Path) -> None:
    place = path.relative_to(PACKAGE)
    if place.parts[0] in DAGSTER_SPOKEN or place.name.endswith("assets.py") or str(place) in SPEAKING_FILES:
        return
    assert not [name for name in imports_of(path) if name.split(".")[0] == "dagster"]


@pytest.mark.parametrize("floor", ["vendors", "storage", "state"])
def test_lower_floors_know_no_room(floor: str) -> None:
    above = ROOMS | {"gateway", "automation", "sandbox"} | ({"vendors", "storage", "state"} - {floor})
    known = {(path.name, room_of(name)) for path in modules(floor) for name in imports_of(path)}
    assert not {(file, room) for file, room in known if room in above}


def test_the_gpu_side_and_its_packages_are_imported_by_the_gpu_side_only() -> None:
    gpu_modules = {f"ettametta_pipelines.{place.removesuffix('.py').replace('/', '.')}" for place in GPU_SIDE}
    users = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if any(name in gpu_modules or name.split(".")[0] in GPU_PACKAGES for name in imports_of(path))
    }
    assert users == GPU_SIDE


def test_the_sandbox_is_imported_by_its_entry_points_only() -> None:
    users = {
        str(path.relative_to(PACKAGE))
        for path in modules()
        if path.relative_to(PACKAGE).parts[0] != "sandbox"
        and any(room_of(name) == "sandbox" for name in imports_of(path))
    }
    assert users == {"cli.py", "commands/demo.py"}


def rooms_known() -> dict[str, set[str]]:
    """Room -> modules of other rooms it imports, as `room.module`."""
    known: dict[str, set[str]] = {room: set() for room in ROOMS}
    files = {".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in modules()}
    for room in ROOMS:
        names = {
            name.removeprefix("ettametta_pipelines.") for path in modules(room) for name in imports_of(path)
        }
        known[room] = {name for name in names & files if name.split(".")[0] in ROOMS - {room}}
    return known


def test_what_media_takes_from_renders_becomes_no_more() -> None:
    assert {name for name in rooms_known()["media"] if name.startswith("renders.")} == TOOLS_OF_MEDIA


def test_rooms_know_one_another_in_one_direction() -> None:
    known = {
        room: {name.split(".")[0] for name in names - TOOLS_OF_MEDIA} if room == "media"
        else {name.split(".")[0] for name in names}
        for room, names in rooms_known().items()
    }  # fmt: skip
    # Raises CycleError with the rooms of the circle.
    order = list(TopologicalSorter(known).static_order())
    assert order.index("media") < order.index("renders") < order.index("publishing")
