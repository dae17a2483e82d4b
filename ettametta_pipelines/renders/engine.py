"""The render engine: a source and a recipe in, finished and checked files out. Knows no orchestrator and no store.

The rendition assets call `render`, the command line `render_file`. Work happens in a private directory next to the
target; a file appears under its final name only after it passed every quality check.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol

from ettametta_pipelines.confinement.running import private_dir, processors
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.media.analysis import analyse
from ettametta_pipelines.media.fingerprint import distance_to, samples_of, to_bytes
from ettametta_pipelines.media.imprint import Imprint
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.media.subject import SubjectTrack, in_words
from ettametta_pipelines.renders.broll import BrollReport, Cutaway
from ettametta_pipelines.renders.caption_check import CaptionSight
from ettametta_pipelines.renders.caption_drawing import drawing_key, examine, write_captions
from ettametta_pipelines.renders.captions import Cue, read_captions_file, retimed
from ettametta_pipelines.renders.encoders import X264, Encoder, choose_encoder
from ettametta_pipelines.renders.ffmpeg import (
    RenderProgress,
    ffmpeg_build,
    run_ffmpeg,
    source_options,
)
from ettametta_pipelines.renders.fidelity import Reference
from ettametta_pipelines.renders.formats import Format, choose_formats
from ettametta_pipelines.renders.framing import Framed, plan_paths, shows_a_part
from ettametta_pipelines.renders.glitch import command_script, script_name
from ettametta_pipelines.renders.graph import RenderPlan, framing_scripts, render_arguments
from ettametta_pipelines.renders.plates import bar_height, needs_plate, paint_plate
from ettametta_pipelines.renders.platforms import require_fit
from ettametta_pipelines.renders.quality import (
    Expectation,
    Finding,
    Footage,
    findings_document,
    judge_rendition,
)
from ettametta_pipelines.renders.recipe import (
    Captions,
    Recipe,
    canonical_json,
    load_recipe,
    render_key,
    seed_for,
    with_broll,
    with_voice_over,
)
from ettametta_pipelines.renders.segments import (
    MadeSegment,
    Segment,
    cut_arguments,
    join_arguments,
    segment_key,
    write_join_list,
)
from ettametta_pipelines.renders.sound import Loudness, make_sound, measure_loudness
from ettametta_pipelines.renders.tempo import time_map
from ettametta_pipelines.renders.voiceover import Narration, VoiceStudio, VoiceWish, mix_key, narrated
from ettametta_pipelines.storage.addressing import file_sha256
from ettametta_pipelines.storage.object_errors import os_errors

if TYPE_CHECKING:
    from ettametta_pipelines.renders.broll_file import FileBroll

__all__ = ["QualityFailure", "RenderProgress", "RenderedFile", "poster", "render", "render_file"]

MOST_WORKERS = 4
POSTER_HEIGHT = 360
POSTER_BUDGET = 14 * 1024
# A dozen may hang on one run; as text in an event each grows by a third.
FRAME_BUDGET = 10 * 1024


@dataclass(frozen=True)
class RenderedFile:
    """One finished file. `render_seconds` is the wall time of the whole render, which all its formats share.

    `segments` are what it is made of, known where there was a shelf; `segments_made` how many had to be rendered;
    `imprint` is what it is known again by, `preview` a short animated WebP of it.
    """

    format: Format
    path: Path
    sha256: str
    size_bytes: int
    probe: Probe
    findings: tuple[Finding, ...]
    render_seconds: float
    peak_memory_bytes: int
    segments: tuple[MadeSegment, ...]
    segments_made: int
    imprint: Imprint | None = None
    preview: bytes = b""

    @property
    def speed(self) -> float:
        """Seconds of video made per second."""
        return self.probe.duration_s / self.render_seconds if self.render_seconds else 0.0


class QualityFailure(PermanentError):
    """A rendition was made but failed a check; nothing was kept.

    `findings` holds every format's checks, `frames` small JPEGs of what failed, by format and check.
    """

    def __init__(
        self, findings: dict[str, list[Finding]], frames: dict[tuple[str, str], bytes] | None = None
    ) -> None:
        failed = [
            f"{name}: {finding.sentence}"
            for name, of_format in findings.items()
            for finding in of_format
            if not finding.passed
        ]
        super().__init__(
            "The rendition failed its quality checks. " + " ".join(failed),
            code="quality_check_failed",
            remedy="Export the source again as MP4 with H.264 video; if it fails again, report the sentence above.",
        )
        self.findings = findings
        self.frames = frames or {}


class SegmentShelf(Protocol):
    """Where segments of earlier renditions of the same source are found."""

    source_sha256: str

    def find(self, format: Format, key: str) -> tuple[Path, MadeSegment] | None:
        """A finished rendition with the segment of this key, and where in it that is."""


def render(
    source: Path,
    probe: Probe,
    recipe: Recipe,
    formats: Iterable[str],
    seed: int,
    out_dir: Path,
    *,
    loudness: Loudness | None = None,
    captions: Sequence[Cue] = (),
    cutaways: Sequence[Cutaway] = (),
    voice: Narration | None = None,
    subject: SubjectTrack | None = None,
    progress: Callable[[RenderProgress], None] | None = None,
    shelf: SegmentShelf | None = None,
    workers: int | None = None,
    fingerprint: bytes | None = None,
    encoder: Encoder = X264,
) -> list[RenderedFile]:
    """Render a probed source to `out_dir/{format}.mp4`, all formats from one decode.

    The same source, recipe, seed and ffmpeg build give the same bytes of video, whatever other formats are rendered
    along and whatever the `shelf` already has. `loudness` spares measuring it again; `captions` are drawn where the
    recipe asks for them, `cutaways` shown where they state; `subject` is followed unless the recipe keeps to the
    centre; a fetched `voice` is spoken over the source's sound; `fingerprint` is the source's, to tell how far from it
    the outputs are. `workers` is how many segments are made at once, by default as many as the processors are good
    for. Raises QualityFailure, PermanentError for captions that cannot be drawn, or PipelineError by
    the runner's table.
    """
    chosen = choose_formats(formats)
    examine(recipe.captions, captions, probe.duration_s)
    started = time.monotonic()
    # ffmpeg runs in the directory itself, where a relative path would name another.
    out_dir = out_dir.absolute()
    with os_errors("write", "the rendition", str(out_dir)), private_dir(out_dir, ".render") as workdir:
        plan = _prepare(source, probe, recipe, chosen, seed, captions, voice, subject, workdir)
        plan = replace(plan, cutaways=tuple(cutaways), encoder=encoder)
        made = _make(plan, workdir, loudness, progress, shelf, workers or default_workers(len(chosen)))
        sights = caption_sights(plan, captions, workdir)
        return _judge_and_keep(plan, made, workdir, out_dir, started, loudness, sights, fingerprint)


def default_workers(formats: int) -> int:
    """Segments to make at once: an ffmpeg has a busy thread for each format and one for all, and 200 MB a format."""
    return min(MOST_WORKERS, max(1, processors() // (formats + 1)))


def _prepare(
    source: Path,
    probe: Probe,
    recipe: Recipe,
    formats: list[Format],
    seed: int,
    captions: Sequence[Cue],
    voice: Narration | None,
    subject: SubjectTrack | None,
    workdir: Path,
) -> RenderPlan:
    """Plates, and the scripts of glitch, camera and captions, made before the picture."""
    plates = {f.name: f"{f.name}.yuva" for f in formats} if needs_plate(recipe) else {}
    for format in formats:
        if format.name in plates:
            paint_plate(workdir / plates[format.name], recipe, format, seed)
    plan = RenderPlan(source.absolute(), probe, recipe, seed, formats, plates, subject=subject, voice=voice)
    for segment in plan.segments:
        for name, expression in framing_scripts(plan, segment).items():
            (workdir / name).write_text(expression)
        if bursts := plan.bursts_in(segment):
            script = command_script(bursts, plan.rate, probe.width)
            (workdir / script_name(segment)).write_text(script)
    scripts = write_captions(
        workdir, captions, recipe.captions, formats, plan.times_of_segments, plan.time_map.output_time
    )
    return replace(plan, captions=scripts)


@dataclass(frozen=True)
class _Made:
    """What the runs of one render left in the working directory, and what they took.

    `levelled` is how loud the sound was before it was brought to the target, None for silence.
    """

    outputs: Mapping[str, Path]
    segments: Mapping[str, tuple[MadeSegment, ...]]
    reused: Mapping[str, int]
    peak_memory_bytes: int
    levelled: Loudness | None


def _make(
    plan: RenderPlan,
    workdir: Path,
    loudness: Loudness | None,
    progress: Callable[[RenderProgress], None] | None,
    shelf: SegmentShelf | None,
    workers: int,
) -> _Made:
    """Every segment that is not on the shelf, the sound beside them, then one file for each format."""
    followed = _Follower(plan, progress or (lambda update: None))
    sound = workdir / "sound.m4a" if plan.has_sound else None
    # Sound leaves a processor idle half the time and hardly uses memory: it is made along with the first segments.
    with ThreadPoolExecutor(workers) as pool, ThreadPoolExecutor(1) as beside:
        sounding = beside.submit(_make_sound, plan, loudness, sound, workdir) if sound else None
        running = [
            pool.submit(_make_segment, plan, segment, workdir, followed.reader(segment), shelf)
            for segment in plan.segments
        ]
        try:
            pieces = [future.result() for future in running]
            levelled = sounding.result() if sounding is not None else None
        except BaseException:
            followed.stopped = True
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    outputs = {format.name: workdir / f"{format.name}.mp4" for format in plan.formats}
    with ThreadPoolExecutor(len(plan.formats)) as together:
        list(together.map(lambda f: _join(plan, f, sound, outputs[f.name], workdir), plan.formats))
    return _Made(
        outputs=outputs,
        segments={f.name: tuple(p.keys[f.name] for p in pieces if f.name in p.keys) for f in plan.formats},
        reused={f.name: sum(f.name in piece.taken for piece in pieces) for f in plan.formats},
        peak_memory_bytes=workers * max(piece.peak_memory_bytes for piece in pieces),
        levelled=levelled,
    )


def _join(plan: RenderPlan, format: Format, sound: Path | None, target: Path, workdir: Path) -> None:
    parts = [(workdir / part_name(format, segment), segment.frames) for segment in plan.segments]
    listing = write_join_list(workdir, parts, plan.rate, format.name)
    run_ffmpeg(
        join_arguments(listing, sound, target),
        doing="joining the segments",
        workdir=workdir,
        timeout_s=60 + plan.duration_s,
    )
    for path, _ in parts:
        path.unlink()


@dataclass(frozen=True)
class _Piece:
    """One segment in all formats: keys by format (where there is a shelf), formats taken from it, memory used."""

    keys: Mapping[str, MadeSegment]
    taken: frozenset[str]
    peak_memory_bytes: int


def part_name(format: Format, segment: Segment) -> str:
    return f"{format.name}_{segment.index}.mp4"


def _make_segment(
    plan: RenderPlan,
    segment: Segment,
    workdir: Path,
    progress: Callable[[RenderProgress], None],
    shelf: SegmentShelf | None,
) -> _Piece:
    targets = {format.name: workdir / part_name(format, segment) for format in plan.formats}
    keys: dict[str, MadeSegment] = {}
    taken = set()
    if shelf is not None:
        for format in plan.formats:
            alone = render_arguments(plan, segment, {format.name: Path(format.name)})
            clips = {str(cutaway.path.absolute()): cutaway.sha256 for cutaway in plan.cutaways}
            key = segment_key(alone, workdir, {str(plan.source): shelf.source_sha256} | clips)
            keys[format.name] = MadeSegment(key, segment.first, segment.end)
            if (found := shelf.find(format, key)) is not None:
                run_ffmpeg(
                    cut_arguments(*found, plan.rate, targets[format.name]),
                    doing="taking a segment of an earlier rendition",
                    workdir=workdir,
                    timeout_s=60,
                )
                taken.add(format.name)
    wanted = {name: target for name, target in targets.items() if name not in taken}
    if not wanted:
        progress(RenderProgress(100.0, 0.0, 0.0))
        return _Piece(keys, frozenset(taken), 0)
    run = run_ffmpeg(
        render_arguments(plan, segment, wanted),
        doing=f"rendering {', '.join(wanted)}",
        workdir=workdir,
        timeout_s=_timeout_s(plan, segment),
        expected_s=segment.frames / float(plan.rate),
        progress=progress,
        address_space_bytes=plan.encoder.address_space_bytes,
    )
    return _Piece(keys, frozenset(taken), run.peak_memory_bytes)


def _make_sound(plan: RenderPlan, loudness: Loudness | None, target: Path, workdir: Path) -> Loudness | None:
    measured = loudness or measure_loudness(plan.source, plan.probe, workdir)
    return make_sound(plan.source, plan.probe, measured, target, workdir, plan.time_map, plan.voice)


def _timeout_s(plan: RenderPlan, segment: Segment) -> float:
    """About ten times what two cores need: 0.02 s for each frame of each format, more where the source is 4K."""
    size = max(1.0, plan.probe.width * plan.probe.height / (1920 * 1080))
    return 120 + 0.2 * segment.frames * (len(plan.formats) + size)


class _Stopped(Exception):
    """Another segment failed, or the whole was cancelled: what still runs need not go on."""


class _Follower:
    """Adds up the progress of segments that may run side by side, and ends them once `stopped` is set."""

    def __init__(self, plan: RenderPlan, report: Callable[[RenderProgress], None]) -> None:
        self.report = report
        self.frames = plan.frame_count
        self.done: dict[int, float] = {}
        self.started = time.monotonic()
        self.lock = Lock()
        self.stopped = False

    def reader(self, segment: Segment) -> Callable[[RenderProgress], None]:
        def take(update: RenderProgress) -> None:
            if self.stopped:
                raise _Stopped
            with self.lock:
                self.done[segment.index] = segment.frames * update.percent / 100
                done = sum(self.done.values())
                fps = done / max(time.monotonic() - self.started, 1e-3)
                eta_s = (self.frames - done) / fps if fps > 0 else None
                self.report(RenderProgress(100 * done / self.frames, fps, eta_s))

        return take


def caption_sights(plan: RenderPlan, cues: Sequence[Cue], workdir: Path) -> dict[str, CaptionSight]:
    """What must be seen of the captions in each format; empty where none are drawn."""
    settings = plan.recipe.captions
    if settings is None or not cues:
        return {}
    timed = retimed(cues, plan.time_map.output_time)
    return {
        format.name: CaptionSight(timed, settings, format, plan.rate, plan.frame_count, workdir)
        for format in plan.formats
    }


def _judge_and_keep(
    plan: RenderPlan,
    made: _Made,
    workdir: Path,
    out_dir: Path,
    started: float,
    loudness: Loudness | None,
    sights: Mapping[str, CaptionSight],
    fingerprint: bytes | None,
) -> list[RenderedFile]:
    times = plan.time_map
    footage = Footage(plan.source, plan.probe, loudness, times.source_time, times.output_time, plan.cutaways)
    reference = Reference(plan, workdir)
    distance = distance_to(fingerprint, times.source_time) if fingerprint else None
    imprints: dict[str, Imprint] = {}
    previews: dict[str, bytes] = {}

    def judge(format: Format) -> tuple[Probe | None, list[Finding]]:
        def keep(imprint: Imprint, preview: bytes) -> None:
            imprints[format.name], previews[format.name] = imprint, preview

        bars = bar_height(plan.recipe, format)
        spoken, mixed = (plan.voice.spoken, made.levelled) if plan.voice else ((), None)
        wanted = Expectation(
            format, plan.duration_s, plan.has_sound, bars, footage,
            spoken=spoken, mixed=mixed, framed=Framed(plan.subject, plan.framing.get(format.name), plan.recipe),
            reference=reference, captions=sights.get(format.name), distance=distance,
            keep_imprint=keep,
        )  # fmt: skip
        return judge_rendition(made.outputs[format.name], wanted)

    # Each is one decoder thread's work; side by side they take the time of the largest.
    with ThreadPoolExecutor(len(plan.formats)) as together:
        judged = dict(zip((f.name for f in plan.formats), together.map(judge, plan.formats), strict=True))
    findings = {name: of_format for name, (_, of_format) in judged.items()}
    if not all(finding.passed for of_format in findings.values() for finding in of_format):
        raise QualityFailure(findings, _failing_frames(made.outputs, judged))
    probes = {name: probe for name, (probe, _) in judged.items() if probe is not None}
    seconds = time.monotonic() - started
    finished = []
    for format in plan.formats:
        name, target = format.name, out_dir / f"{format.name}.mp4"
        sha256 = file_sha256(made.outputs[name])
        os.replace(made.outputs[name], target)
        finished.append(
            RenderedFile(
                format=format,
                path=target,
                sha256=sha256,
                size_bytes=probes[name].size_bytes,
                probe=probes[name],
                findings=tuple(findings[name]),
                render_seconds=seconds,
                peak_memory_bytes=made.peak_memory_bytes,
                segments=made.segments[name],
                segments_made=len(plan.segments) - made.reused[name],
                imprint=imprints.get(name),
                preview=previews.get(name, b""),
            )
        )
    return finished


def _failing_frames(
    outputs: Mapping[str, Path], judged: Mapping[str, tuple[Probe | None, list[Finding]]]
) -> dict[tuple[str, str], bytes]:
    """A frame for each failed check of a format that can be shown at all."""
    frames = {}
    for name, (probe, findings) in judged.items():
        for finding in findings:
            if finding.passed or probe is None:
                continue
            at_s = 0.4 * probe.duration_s if finding.look_at_s is None else finding.look_at_s
            try:
                frames[name, finding.name] = frame_at(outputs[name], probe, at_s, outputs[name].parent)
            except PipelineError:
                # The finding is what counts; a file this broken has no frame to show.
                continue
    return frames


def poster(path: Path, probe: Probe, scratch: Path) -> bytes:
    """A JPEG of at most 14 KB from two fifths into a finished rendition."""
    return frame_at(path, probe, 0.4 * probe.duration_s, scratch, budget=POSTER_BUDGET)


def frame_at(path: Path, probe: Probe, at_s: float, scratch: Path, *, budget: int = FRAME_BUDGET) -> bytes:
    """A JPEG of at most `budget` bytes of what a finished rendition shows at a time. Raises by the runner's table."""
    from io import BytesIO

    from PIL import Image

    from ettametta_pipelines.media.pictures import jpeg_within

    png = bytearray()
    options = source_options(probe) | {"ss": f"{max(0.0, min(at_s, probe.duration_s - 2 / probe.fps)):.3f}"}
    with private_dir(scratch, "poster") as workdir:
        run_ffmpeg(
            [
                *(part for name, value in options.items() for part in (f"-{name}", value)),
                "-i", f"file:{path.absolute()}", "-map", f"0:{probe.video_index}", "-frames:v", "1",
                "-vf", f"scale=-2:{POSTER_HEIGHT}", "-c:v", "png", "-f", "image2pipe", "pipe:1",
            ],
            doing="taking a poster frame",
            workdir=workdir,
            timeout_s=60,
            on_stdout=png.extend,
        )  # fmt: skip
    with Image.open(BytesIO(png)) as image:
        return jpeg_within(image.convert("RGB"), budget)


def render_file(
    file: Path,
    recipe: str,
    formats: Iterable[str],
    out_dir: Path,
    *,
    seed: int | None = None,
    captions: Path | None = None,
    platform: str | None = None,
    broll: "FileBroll | None" = None,
    voice: VoiceWish | None = None,
    studio: VoiceStudio | None = None,
    encoder: str = X264.name,
    progress: Callable[[RenderProgress], None] | None = None,
) -> dict[str, Any]:
    """Render any local file to `out_dir/{stem}_{format}.mp4` and report as one JSON-able document.

    A `captions` file (.srt, .vtt, .json of words) is drawn as the recipe says, or in the default style where it says
    nothing; a `voice` is spoken in `studio` likewise; `broll` finds the clips of cutaways, of which there are none
    without it. The footage is looked at for its subject only where a format shows a part of it. What `platform` would
    refuse is not made. Raises PermanentError: the intake's reason code for a file that is no good, `unknown_recipe`,
    `bad_recipe`, `unknown_format`, a code of `captions.PROBLEMS` or of `platforms.REMEDIES`, or what the engine raises.
    """
    chosen = [format.name for format in choose_formats(formats)]
    encoding = choose_encoder(encoder)
    wanted = load_recipe(recipe)
    cues: Sequence[Cue] = read_captions_file(captions) if captions is not None else ()
    if cues and wanted.captions is None:
        wanted = wanted.model_copy(update={"captions": Captions()})
    wanted = broll.asked_of(wanted) if broll is not None else with_broll(wanted, "none")
    probe = require_probe(file)
    sha256 = file_sha256(file)
    used_seed = seed_for(wanted, sha256, seed)
    if platform is not None:
        require_fit(platform, time_map(wanted, used_seed).output_time(probe.duration_s))
    stem = re.sub(r"[^\w.-]+", "_", file.stem, flags=re.ASCII).strip("._-") or "video"
    narration = None
    if voice is not None and studio is not None:
        wanted = with_voice_over(wanted)
        narration, cues = narrated(studio, voice, wanted, used_seed, probe.duration_s, cues)
    report = examine(wanted.captions, cues, probe.duration_s)
    outputs = []
    with private_dir(out_dir, ".render-out") as workdir:
        partial = shows_a_part(float(probe.display_aspect), wanted, choose_formats(chosen))
        seen = analyse(file, probe, workdir) if partial or wanted.broll else None
        subject = seen.subject if seen and partial else None
        paths = plan_paths(subject, wanted, choose_formats(chosen))
        found: BrollReport | None = None
        cutaways: list[Cutaway] = []
        if broll is not None and wanted.broll is not None and seen is not None:
            found = broll.obtain(file, probe, sha256, wanted, used_seed, seen.shot_starts_s, workdir)
            cutaways = broll.load(found, workdir)
        spoken = narration.fetched(studio.store, workdir) if narration and studio else None
        made = render(
            file, probe, wanted, chosen, used_seed, workdir,
            loudness=seen.loudness if seen else None, captions=cues, cutaways=cutaways, subject=subject, voice=spoken,
            progress=progress, fingerprint=to_bytes(samples_of(seen.thumbs)) if seen else None, encoder=encoding,
        )  # fmt: skip
        for one in made:
            if platform is not None:
                require_fit(platform, one.probe.duration_s, fps=one.probe.fps, size_bytes=one.size_bytes)
        for one in made:
            target = out_dir / f"{stem}_{one.format.name}.mp4"
            os.replace(one.path, target)
            drawn = drawing_key(wanted.captions, cues)
            shown = found.digest if found else None
            path = paths.get(one.format.name)
            key = render_key(
                sha256, wanted, used_seed, one.format.name, ffmpeg_build(), drawn,
                voice=mix_key(narration), framing=path.digest if path else None, cutaways=shown, encoder=encoding,
            )  # fmt: skip
            outputs.append(_output_document(one, target, key))
    return {
        "source": {"path": str(file), "sha256": sha256, "probe": probe.as_dict()},
        "recipe": wanted.name,
        "recipe_json": canonical_json(wanted),
        "seed": used_seed,
        "captions": asdict(report) if report else None,
        "broll": found.document() | {"said": found.in_words, "credits": found.credits} if found else None,
        "voice_over": narration.document() if narration else None,
        "subject": in_words(subject) if subject else None,
        "ffmpeg_build": ffmpeg_build(),
        "encoder": encoding.name,
        "render_seconds": round(made[0].render_seconds, 3),
        "speed": round(made[0].speed, 3),
        "peak_memory_bytes": made[0].peak_memory_bytes,
        "outputs": outputs,
    }


def _output_document(one: RenderedFile, path: Path, key: str) -> dict[str, Any]:
    return {
        "format": one.format.name,
        "path": str(path),
        "render_key": key,
        "sha256": one.sha256,
        "size_bytes": one.size_bytes,
        "width": one.probe.width,
        "height": one.probe.height,
        "fps": one.probe.fps,
        "duration_s": one.probe.duration_s,
        "has_audio": one.probe.has_audio,
        "checks": findings_document(one.findings),
        "probe": one.probe.as_dict(),
    }
