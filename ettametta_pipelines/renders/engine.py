"""The render engine: a source and a recipe in, finished and checked files out. Knows no orchestrator and no store.

The rendition assets call `render`, the command line `render_file`. Work happens in a private directory next to the
target; a file appears under its final name only after it passed every quality check.
"""

import os
import re
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.confinement import private_dir
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.renders.broll import BrollReport, Cutaway
from ettametta_pipelines.renders.caption_drawing import drawing_key, examine, write_captions
from ettametta_pipelines.renders.captions import Cue, read_captions_file
from ettametta_pipelines.renders.ffmpeg import (
    FfmpegRun,
    RenderProgress,
    ffmpeg_build,
    run_ffmpeg,
    source_options,
)
from ettametta_pipelines.renders.formats import Format, choose_formats
from ettametta_pipelines.renders.glitch import SCRIPT_NAME, command_script
from ettametta_pipelines.renders.graph import RenderPlan, render_arguments
from ettametta_pipelines.renders.plates import bar_height, needs_plate, paint_plate
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
)
from ettametta_pipelines.renders.sound import Loudness, make_sound, measure_loudness
from ettametta_pipelines.renders.tempo import time_map
from ettametta_pipelines.storage.addressing import file_sha256

if TYPE_CHECKING:
    from ettametta_pipelines.renders.broll_file import FileBroll

__all__ = ["QualityFailure", "RenderProgress", "RenderedFile", "poster", "render", "render_file"]

POSTER_HEIGHT = 360
POSTER_BUDGET = 14 * 1024
# A dozen may hang on one run; as text in an event each grows by a third.
FRAME_BUDGET = 10 * 1024


@dataclass(frozen=True)
class RenderedFile:
    """One finished file. `render_seconds` is the wall time of the whole render, which all its formats share."""

    format: Format
    path: Path
    sha256: str
    size_bytes: int
    probe: Probe
    findings: tuple[Finding, ...]
    render_seconds: float
    peak_memory_bytes: int

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
    progress: Callable[[RenderProgress], None] | None = None,
) -> list[RenderedFile]:
    """Render a probed source to `out_dir/{format}.mp4`, all formats from one decode.

    The same source, recipe, seed and ffmpeg build give the same bytes, whatever other formats are rendered along.
    `loudness` spares measuring it again; `captions` are drawn where the recipe asks for them, `cutaways` shown where
    they state. Raises QualityFailure, PermanentError for captions that cannot be drawn, or PipelineError by the
    runner's table.
    """
    chosen = choose_formats(formats)
    examine(recipe.captions, captions, probe.duration_s)
    started = time.monotonic()
    out_dir.mkdir(parents=True, exist_ok=True)
    with private_dir(out_dir, ".render") as workdir:
        plan = _prepare(source, probe, recipe, chosen, seed, loudness, captions, workdir)
        plan = replace(plan, cutaways=tuple(cutaways))
        run = run_ffmpeg(
            render_arguments(plan),
            doing=f"rendering {', '.join(f.name for f in chosen)}",
            workdir=workdir,
            timeout_s=_timeout_s(plan),
            expected_s=plan.frame_count / float(plan.rate),
            progress=progress or (lambda update: None),
        )
        return _judge_and_keep(plan, run, out_dir, started, loudness)


def _prepare(
    source: Path,
    probe: Probe,
    recipe: Recipe,
    formats: list[Format],
    seed: int,
    loudness: Loudness | None,
    captions: Sequence[Cue],
    workdir: Path,
) -> RenderPlan:
    """Sound, plates, the glitch's script and the captions', made before the picture."""
    times = time_map(recipe, seed)
    source, workdir = source.absolute(), workdir.absolute()
    sound = workdir / "sound.m4a" if probe.has_audio else None
    if sound is not None:
        measured = loudness or measure_loudness(source, probe, workdir)
        make_sound(source, probe, measured, sound, workdir, times)
    plates = {f.name: workdir / f"{f.name}.yuva" for f in formats} if needs_plate(recipe) else {}
    for format in formats:
        if format.name in plates:
            paint_plate(plates[format.name], recipe, format, seed)
    outputs = {format.name: workdir / f"{format.name}.mp4" for format in formats}
    lasts_s = times.output_time(probe.duration_s)
    scripts = write_captions(workdir, captions, recipe.captions, formats, lasts_s, times.output_time)
    plan = RenderPlan(source, probe, recipe, seed, formats, plates, sound, outputs, scripts)
    if plan.bursts:
        (workdir / SCRIPT_NAME).write_text(command_script(plan.bursts, plan.rate, probe.width))
    return plan


def _timeout_s(plan: RenderPlan) -> float:
    """About ten times what two cores need: 0.02 s for each frame of each format, more where the source is 4K."""
    size = max(1.0, plan.probe.width * plan.probe.height / (1920 * 1080))
    return 120 + 0.2 * plan.frame_count * (len(plan.formats) + size)


def _judge_and_keep(
    plan: RenderPlan, run: FfmpegRun, out_dir: Path, started: float, loudness: Loudness | None
) -> list[RenderedFile]:
    footage = Footage(plan.source, plan.probe, loudness, plan.time_map.source_time, plan.cutaways)

    def judge(format: Format) -> tuple[Probe | None, list[Finding]]:
        bars = bar_height(plan.recipe, format)
        wanted = Expectation(format, plan.duration_s, plan.probe.has_audio, bars, footage)
        return judge_rendition(plan.outputs[format.name], wanted)

    # Each is one decoder thread's work; side by side they take the time of the largest.
    with ThreadPoolExecutor(len(plan.formats)) as together:
        judged = dict(zip((f.name for f in plan.formats), together.map(judge, plan.formats), strict=True))
    findings = {name: of_format for name, (_, of_format) in judged.items()}
    if not all(finding.passed for of_format in findings.values() for finding in of_format):
        raise QualityFailure(findings, _failing_frames(plan, judged))
    probes = {name: probe for name, (probe, _) in judged.items() if probe is not None}
    seconds = time.monotonic() - started
    made = []
    for format in plan.formats:
        finished, target = plan.outputs[format.name], out_dir / f"{format.name}.mp4"
        sha256 = file_sha256(finished)
        os.replace(finished, target)
        made.append(
            RenderedFile(
                format=format,
                path=target,
                sha256=sha256,
                size_bytes=probes[format.name].size_bytes,
                probe=probes[format.name],
                findings=tuple(findings[format.name]),
                render_seconds=seconds,
                peak_memory_bytes=run.peak_memory_bytes,
            )
        )
    return made


def _failing_frames(
    plan: RenderPlan, judged: dict[str, tuple[Probe | None, list[Finding]]]
) -> dict[tuple[str, str], bytes]:
    """A frame for each failed check of a format that can be shown at all."""
    frames = {}
    for name, (probe, findings) in judged.items():
        for finding in findings:
            if finding.passed or probe is None:
                continue
            at_s = 0.4 * probe.duration_s if finding.look_at_s is None else finding.look_at_s
            try:
                frames[name, finding.name] = frame_at(
                    plan.outputs[name], probe, at_s, plan.outputs[name].parent
                )
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
    broll: "FileBroll | None" = None,
    progress: Callable[[RenderProgress], None] | None = None,
) -> dict[str, Any]:
    """Render any local file to `out_dir/{stem}_{format}.mp4` and report as one JSON-able document.

    A `captions` file (.srt, .vtt, .json of words) is drawn as the recipe says, or in the default style where it says
    nothing; `broll` finds the clips of cutaways, without it there are none. Raises PermanentError: the intake's reason
    code for a file that is no good, `unknown_recipe`, `bad_recipe`, `unknown_format`, a code of `captions.PROBLEMS`, or
    what `obtain_broll` and the engine raise.
    """
    chosen = [format.name for format in choose_formats(formats)]
    wanted = load_recipe(recipe)
    cues = read_captions_file(captions) if captions is not None else ()
    if cues and wanted.captions is None:
        wanted = wanted.model_copy(update={"captions": Captions()})
    wanted = broll.asked_of(wanted) if broll is not None else with_broll(wanted, "none")
    probe = require_probe(file)
    sha256 = file_sha256(file)
    used_seed = seed_for(wanted, sha256, seed)
    stem = re.sub(r"[^\w.-]+", "_", file.stem, flags=re.ASCII).strip("._-") or "video"
    report = examine(wanted.captions, cues, probe.duration_s)
    outputs = []
    with private_dir(out_dir, ".render-out") as workdir:
        found: BrollReport | None = None
        cutaways: list[Cutaway] = []
        if broll is not None and wanted.broll is not None:
            found, cutaways = broll.obtain(file, probe, sha256, wanted, used_seed, workdir)
        made = render(
            file, probe, wanted, chosen, used_seed, workdir,
            captions=cues, cutaways=cutaways, progress=progress,
        )  # fmt: skip
        for one in made:
            target = out_dir / f"{stem}_{one.format.name}.mp4"
            os.replace(one.path, target)
            drawn = drawing_key(wanted.captions, cues)
            shown = found.digest if found else None
            key = render_key(sha256, wanted, used_seed, one.format.name, ffmpeg_build(), drawn, shown)
            outputs.append(_output_document(one, target, key))
    return {
        "source": {"path": str(file), "sha256": sha256, "probe": probe.as_dict()},
        "recipe": wanted.name,
        "recipe_json": canonical_json(wanted),
        "seed": used_seed,
        "captions": asdict(report) if report else None,
        "broll": found.document() | {"said": found.in_words, "credits": found.credits} if found else None,
        "ffmpeg_build": ffmpeg_build(),
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
