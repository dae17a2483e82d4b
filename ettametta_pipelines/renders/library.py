"""The library of finished renditions in the object store: finds what exists, renders what does not, keeps it.

A rendition's key names everything that decides its bytes, so an object that is there and passes its checks is the
rendition. The renditions asset calls `obtain_renditions`; how a file is made is `engine.py`'s.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from ettametta_pipelines.confinement import private_dir
from ettametta_pipelines.media.intake import fetch
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.renders.engine import RenderedFile, poster, render, sha256_of
from ettametta_pipelines.renders.ffmpeg import RenderProgress, ffmpeg_build
from ettametta_pipelines.renders.formats import Format, choose_formats
from ettametta_pipelines.renders.quality import Expectation, Finding, judge_rendition
from ettametta_pipelines.renders.recipe import Recipe, render_key
from ettametta_pipelines.renders.sound import Loudness
from ettametta_pipelines.renders.tempo import rendered_duration
from ettametta_pipelines.storage.objects import ObjectStore


@dataclass(frozen=True)
class RenditionOrder:
    """What is wanted of which accepted source. `duration_s` and `has_audio` are the source's, from its row."""

    source_id: str
    source_key: str
    source_sha256: str
    duration_s: float
    has_audio: bool
    recipe: Recipe
    seed: int
    loudness: Loudness | None


@dataclass(frozen=True)
class Rendition:
    """A rendition in the library. `rendered` says whether this call made it; the poster is a small JPEG."""

    format: Format
    object_key: str
    render_key: str
    sha256: str
    size_bytes: int
    probe: Probe
    findings: tuple[Finding, ...]
    rendered: bool
    render_seconds: float
    speed: float
    poster: bytes
    ffmpeg_build: str


def obtain_renditions(
    store: ObjectStore,
    order: RenditionOrder,
    formats: Iterable[str],
    *,
    scratch: Path,
    progress: Callable[[RenderProgress], None] | None = None,
) -> list[Rendition]:
    """Every wanted format, those missing made from one decode.

    An object that is there but fails its checks is made again and replaced. Raises QualityFailure when what was
    made is no good, and then stores none of it.
    """
    build = ffmpeg_build()
    chosen = choose_formats(formats)
    keys = {f.name: render_key(order.source_sha256, order.recipe, order.seed, f.name, build) for f in chosen}
    with private_dir(scratch, "render") as workdir:
        found = {f.name: _find(store, order, f, keys[f.name], build, workdir) for f in chosen}
        missing = [name for name, rendition in found.items() if rendition is None]
        if missing:
            source = fetch(store, order.source_key, workdir)
            probe = require_probe(source, name=order.source_key)
            made = render(
                source, probe, order.recipe, missing, order.seed, workdir / "made",
                loudness=order.loudness, progress=progress,
            )  # fmt: skip
            for one in made:
                found[one.format.name] = _keep(store, order, one, keys[one.format.name], build, workdir)
    return [rendition for rendition in found.values() if rendition is not None]


def rendition_object_key(source_id: str, format_name: str, key: str) -> str:
    return f"media/renditions/{source_id}/{format_name}/{key}.mp4"


def _find(
    store: ObjectStore, order: RenditionOrder, format: Format, key: str, build: str, workdir: Path
) -> Rendition | None:
    """The rendition of this key if it is there and still good."""
    object_key = rendition_object_key(order.source_id, format.name, key)
    if not store.exists(object_key):
        return None
    (workdir / format.name).mkdir()
    path = fetch(store, object_key, workdir / format.name)
    lasts_s = rendered_duration(order.recipe, order.seed, order.duration_s)
    probe, findings = judge_rendition(path, Expectation(format, lasts_s, order.has_audio))
    if probe is None or not all(finding.passed for finding in findings):
        return None
    return Rendition(
        format=format,
        object_key=object_key,
        render_key=key,
        sha256=sha256_of(path),
        size_bytes=probe.size_bytes,
        probe=probe,
        findings=tuple(findings),
        rendered=False,
        render_seconds=0.0,
        speed=0.0,
        poster=poster(path, probe, workdir),
        ffmpeg_build=build,
    )


def _keep(
    store: ObjectStore, order: RenditionOrder, made: RenderedFile, key: str, build: str, workdir: Path
) -> Rendition:
    object_key = rendition_object_key(order.source_id, made.format.name, key)
    picture = poster(made.path, made.probe, workdir)
    store.put_file(object_key, made.path, content_type="video/mp4")
    return Rendition(
        format=made.format,
        object_key=object_key,
        render_key=key,
        sha256=made.sha256,
        size_bytes=made.size_bytes,
        probe=made.probe,
        findings=made.findings,
        rendered=True,
        render_seconds=made.render_seconds,
        speed=made.speed,
        poster=picture,
        ffmpeg_build=build,
    )
