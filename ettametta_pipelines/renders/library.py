"""The library of finished renditions in the object store: finds what exists, renders what does not, keeps it.

A rendition's key names everything that decides its bytes, so an object that is there and passes its checks is the
rendition. What the checks found is kept beside it, so that a file that has not changed is not read again. The
renditions asset calls `obtain_renditions`; how a file is made is `engine.py`'s.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.media.animation import keep_preview, preview_key
from ettametta_pipelines.media.intake import fetch
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.media.subject import track_from_json
from ettametta_pipelines.renders.broll import BrollReport
from ettametta_pipelines.renders.broll_clips import BrollOrder, Shelf, load_cutaways, obtain_broll
from ettametta_pipelines.renders.caption_drawing import CaptionReport, drawing_key, examine
from ettametta_pipelines.renders.captions import Cue, from_canonical
from ettametta_pipelines.renders.encoders import X264, choose_encoder
from ettametta_pipelines.renders.engine import RenderedFile, poster, render
from ettametta_pipelines.renders.ffmpeg import RenderProgress, ffmpeg_build
from ettametta_pipelines.renders.formats import Format, choose_formats
from ettametta_pipelines.renders.framing import CropPath, plan_paths
from ettametta_pipelines.renders.platforms import require_fit
from ettametta_pipelines.renders.quality import (
    CHECK_NAMES,
    CHECKS_REVISION,
    Finding,
    findings_document,
    findings_from,
)
from ettametta_pipelines.renders.recipe import Recipe, render_key
from ettametta_pipelines.renders.segments import MadeSegment, segments_document, segments_from
from ettametta_pipelines.renders.sound import Loudness
from ettametta_pipelines.renders.tempo import time_map
from ettametta_pipelines.renders.voiceover import Narration, VoiceStudio, VoiceWish, mix_key, narrated
from ettametta_pipelines.storage.addressing import file_sha256
from ettametta_pipelines.storage.objects import ObjectStore

SEGMENTS_SUFFIX = ".segments.json"
IMPRINT_SUFFIX = ".imprint"


@dataclass(frozen=True)
class RenditionOrder:
    """What is wanted of which accepted source. `duration_s` and `has_audio` are the source's, from its row.

    `captions_key` is the object with its captions, `subject_key` the one with its subject's track, `fingerprint_key`
    with its fingerprint; None where there is none. `broll` is needed where the recipe has cutaways. What a `platform`
    would refuse is not made.
    """

    source_id: str
    source_key: str
    source_sha256: str
    duration_s: float
    has_audio: bool
    recipe: Recipe
    seed: int
    loudness: Loudness | None
    captions_key: str | None = None
    fingerprint_key: str | None = None
    platform: str | None = None
    broll: BrollOrder | None = None
    voice: VoiceWish | None = None
    subject_key: str | None = None
    encoder: str = X264.name


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
    captions: CaptionReport | None = None
    broll: BrollReport | None = None
    voice: Narration | None = None
    path: CropPath | None = None
    encoder: str = X264.name

    @property
    def source_distance(self) -> float | None:
        """How far its picture is from the source's, 0 to 1; None where that is not known."""
        measured = (finding.measured for finding in self.findings if finding.name == "distance_from_source")
        return next((one["source_distance"] for one in measured if "source_distance" in one), None)


def obtain_renditions(
    store: ObjectStore,
    order: RenditionOrder,
    formats: Iterable[str],
    *,
    scratch: Path,
    shelves: Sequence[Shelf] = (),
    studio: VoiceStudio | None = None,
    progress: Callable[[RenderProgress], None] | None = None,
) -> list[Rendition]:
    """Every wanted format, those missing made from one decode; `shelves` are where clips for cutaways come from.

    An object that is there but fails its checks is made again and replaced. Raises QualityFailure when what was
    made is no good, and then stores none of it; PermanentError for captions that cannot be drawn, or what `narrate`
    and `obtain_broll` raise. The order's voice-over is spoken in `studio` (by default the local voice).
    """
    if order.platform is not None:
        lasts_s = time_map(order.recipe, order.seed).output_time(order.duration_s)
        require_fit(order.platform, lasts_s)
    build, encoder = ffmpeg_build(), choose_encoder(order.encoder)
    chosen = choose_formats(formats)
    wanted = order.recipe.captions is not None and order.captions_key is not None
    cues: Sequence[Cue] = from_canonical(store.get(str(order.captions_key))) if wanted else ()
    narration, cues = narrated(
        studio or VoiceStudio(store, scratch), order.voice, order.recipe, order.seed, order.duration_s, cues
    )
    report = examine(order.recipe.captions, cues, order.duration_s)
    drawn = drawing_key(order.recipe.captions, cues)
    broll = None
    if order.recipe.broll is not None and order.broll is not None:
        broll = obtain_broll(store, order.broll, order.recipe, order.seed, shelves, scratch=scratch)
    cutaways = broll.digest if broll else None
    subject = track_from_json(store.get(order.subject_key)) if order.subject_key else None
    paths = plan_paths(subject, order.recipe, chosen)
    framing = {name: path.digest for name, path in paths.items()}
    keys = {
        f.name: render_key(
            order.source_sha256,
            order.recipe,
            order.seed,
            f.name,
            build,
            drawn,
            voice=mix_key(narration),
            framing=framing.get(f.name),
            cutaways=cutaways,
            encoder=encoder,
        )
        for f in chosen
    }
    with private_dir(scratch, "render") as workdir:
        found = {f.name: _find(store, order, f, keys[f.name], build, workdir) for f in chosen}
        missing = [name for name, rendition in found.items() if rendition is None]
        if missing:
            source = fetch(store, order.source_key, workdir)
            probe = require_probe(source, name=order.source_key)
            voice = narration.fetched(store, workdir) if narration else None
            made = render(
                source, probe, order.recipe, missing, order.seed, workdir / "made",
                loudness=order.loudness, captions=cues, subject=subject, voice=voice, progress=progress,
                shelf=_Shelf(store, order, workdir),
                fingerprint=store.get(order.fingerprint_key) if order.fingerprint_key else None,
                cutaways=load_cutaways(store, broll, workdir) if broll else (),
                encoder=encoder,
            )  # fmt: skip
            for one in made:
                found[one.format.name] = _keep(store, order, one, keys[one.format.name], build, workdir)
    return [
        replace(
            rendition,
            captions=report,
            voice=narration,
            path=paths.get(name),
            broll=broll,
            encoder=encoder.name,
        )
        for name, rendition in found.items()
        if rendition is not None
    ]


def rendition_object_key(source_id: str, format_name: str, key: str) -> str:
    return f"media/renditions/{source_id}/{format_name}/{key}.mp4"


def report_key(object_key: str) -> str:
    """Where the findings about a rendition are kept."""
    return object_key.removesuffix(".mp4") + ".checks.json"


def imprint_key(object_key: str) -> str:
    """Where it is kept what a rendition is known again by."""
    return object_key.removesuffix(".mp4") + IMPRINT_SUFFIX


def segments_key(object_key: str) -> str:
    """Where it is kept what a rendition is made of."""
    return object_key.removesuffix(".mp4") + SEGMENTS_SUFFIX


class _Shelf:
    """Segments of the renditions of one source that are in the library; each file is fetched at most once."""

    def __init__(self, store: ObjectStore, order: RenditionOrder, workdir: Path) -> None:
        self.store = store
        self.source_id = order.source_id
        self.source_sha256 = order.source_sha256
        self.workdir = workdir
        self.index: dict[str, dict[str, tuple[str, str, MadeSegment]]] = {}
        self.files: dict[str, Path | None] = {}
        self.lock = Lock()

    def find(self, format: Format, key: str) -> tuple[Path, MadeSegment] | None:
        """A finished rendition with the segment of this key, and where in it that is."""
        with self.lock:
            if format.name not in self.index:
                self.index[format.name] = self._read_index(format)
            if key not in self.index[format.name]:
                return None
            object_key, sha256, segment = self.index[format.name][key]
            if object_key not in self.files:
                self.files[object_key] = self._fetch(object_key, sha256)
            rendition = self.files[object_key]
        return (rendition, segment) if rendition is not None else None

    def _read_index(self, format: Format) -> dict[str, tuple[str, str, MadeSegment]]:
        index: dict[str, tuple[str, str, MadeSegment]] = {}
        for info in self.store.list(f"media/renditions/{self.source_id}/{format.name}/"):
            if info.key.endswith(SEGMENTS_SUFFIX):
                sha256, segments = segments_from(self.store.get(info.key))
                object_key = info.key.removesuffix(SEGMENTS_SUFFIX) + ".mp4"
                index |= {segment.key: (object_key, sha256, segment) for segment in segments}
        return index

    def _fetch(self, object_key: str, sha256: str) -> Path | None:
        """The rendition if it is still what its list of segments speaks of."""
        if not self.store.exists(object_key):
            return None
        folder = self.workdir / f"shelf-{len(self.files)}"
        folder.mkdir()
        path = fetch(self.store, object_key, folder)
        return path if file_sha256(path) == sha256 else None


def _find(
    store: ObjectStore, order: RenditionOrder, format: Format, key: str, build: str, workdir: Path
) -> Rendition | None:
    """The rendition of this key if it is there, unchanged since it passed its checks."""
    object_key = rendition_object_key(order.source_id, format.name, key)
    if not store.exists(object_key) or not store.exists(report_key(object_key)):
        return None
    (workdir / format.name).mkdir()
    path = fetch(store, object_key, workdir / format.name)
    sha256 = file_sha256(path)
    passed = _Passed.read(store.get(report_key(object_key)), sha256)
    if passed is None:
        return None
    # Of a rendition made before there were previews it is made now.
    keep_preview(store, object_key, path, passed.probe, workdir)
    return Rendition(
        format=format,
        object_key=object_key,
        render_key=key,
        sha256=sha256,
        size_bytes=passed.probe.size_bytes,
        probe=passed.probe,
        findings=passed.findings,
        rendered=False,
        render_seconds=0.0,
        speed=0.0,
        poster=passed.poster,
        ffmpeg_build=build,
    )


@dataclass(frozen=True)
class _Passed:
    """What is kept of a rendition that passed its checks: the findings, how it reads, its poster (a JPEG)."""

    findings: tuple[Finding, ...]
    probe: Probe
    poster: bytes

    def report(self, sha256: str) -> bytes:
        document = {
            "revision": CHECKS_REVISION,
            "sha256": sha256,
            "findings": findings_document(self.findings),
            "probe": self.probe.as_dict(),
            "poster": b64encode(self.poster).decode(),
        }
        return json.dumps(document, indent=1).encode()

    @classmethod
    def read(cls, report: bytes, sha256: str) -> "_Passed | None":
        """What a report says if it speaks of these bytes, by today's checks, and all passed; else None."""
        try:
            document = json.loads(report)
            if (document["revision"], document["sha256"]) != (CHECKS_REVISION, sha256):
                return None
            findings = tuple(findings_from(document["findings"]))
            passed = cls(findings, Probe.from_dict(document["probe"]), b64decode(document["poster"]))
        except (ValueError, KeyError, TypeError):
            return None
        complete = [finding.name for finding in findings] == list(CHECK_NAMES)
        return passed if complete and all(finding.passed is True for finding in findings) else None


def _keep(
    store: ObjectStore, order: RenditionOrder, made: RenderedFile, key: str, build: str, workdir: Path
) -> Rendition:
    object_key = rendition_object_key(order.source_id, made.format.name, key)
    picture = poster(made.path, made.probe, workdir)
    store.put(preview_key(object_key), made.preview, content_type="image/webp")
    store.put_file(object_key, made.path, content_type="video/mp4")
    # After the file: a report without its file could vouch for another.
    report = _Passed(made.findings, made.probe, picture).report(made.sha256)
    store.put(report_key(object_key), report, content_type="application/json")
    parts = segments_document(made.sha256, made.segments)
    store.put(segments_key(object_key), parts, content_type="application/json")
    if made.imprint is not None:
        store.put(imprint_key(object_key), made.imprint.to_bytes(), content_type="application/octet-stream")
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
