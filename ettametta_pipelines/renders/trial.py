"""A recipe tried on a piece of one video: cut, rendered and checked as a rendition would be, and kept apart from them.

Called by `trial_assets.py`. A trial lies under `media/trials/`, which nothing publishes from, and is never a rendition:
library, tables of renditions and posts do not know it. Voice-over and cutaways are left out, since they cost money.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.animation import keep_preview
from ettametta_pipelines.media.intake import fetch
from ettametta_pipelines.media.probe import Probe, require_probe
from ettametta_pipelines.renders.captions import Cue, from_canonical
from ettametta_pipelines.renders.engine import QualityFailure, poster, render_file
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, source_options
from ettametta_pipelines.renders.quality import Finding, findings_from
from ettametta_pipelines.renders.recipe import Recipe, RecipeError
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.untrusted import plain_text

TRIALS_PREFIX = "media/trials"
# What may be changed of a preset from the launchpad, and where it stands in a recipe. Zero takes a treatment away.
CHANGES: Mapping[str, tuple[str, ...]] = {
    "mirror": ("originality", "mirror"),
    "zoom": ("originality", "zoom"),
    "saturation": ("originality", "colour", "saturation"),
    "contrast": ("originality", "colour", "contrast"),
    "brightness": ("originality", "colour", "brightness"),
    "warmth": ("originality", "colour", "warmth"),
    "fit": ("fit",),
    "framing": ("framing",),
    "letterbox": ("letterbox", "height"),
    "vignette": ("vignette", "strength"),
    "grain": ("grain", "strength"),
    "grayscale": ("grayscale",),
    "speed_ramp": ("speed_ramp", "strength"),
    "jitter": ("jitter", "strength"),
    "glitch": ("glitch", "strength"),
    "captions": ("captions", "style"),
}
TAKEN_AWAY_BY_ZERO = ("letterbox", "vignette", "grain", "speed_ramp", "jitter", "glitch")


@dataclass(frozen=True)
class TrialOrder:
    """What is tried on which accepted source. Without `length_s` the video is tried from `start_s` to its end."""

    source_id: str
    source_key: str
    recipe: Recipe
    format: str
    start_s: float
    length_s: float | None
    seed: int | None = None
    captions_key: str | None = None


@dataclass(frozen=True)
class Trial:
    """What came out. Where a check failed nothing is kept, and the file's fields are None."""

    findings: Sequence[Finding]
    seconds: float
    object_key: str | None = None
    preview_key: str | None = None
    poster: bytes | None = None
    render_key: str | None = None
    seed: int | None = None
    size_bytes: int | None = None
    duration_s: float | None = None

    @property
    def failed(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.passed]


def changed_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with these of CHANGES; None leaves as it is, zero or `none` takes the treatment away.

    Raises RecipeError `bad_recipe` naming what cannot be used and its range.
    """
    document = recipe.model_dump()
    for name, value in changes.items():
        *path, last = CHANGES[name]
        if value is None:
            continue
        if (name in TAKEN_AWAY_BY_ZERO and value == 0) or value == "none":
            document[path[0]] = None
            continue
        part = document
        for step in path:
            part[step] = part[step] or {}
            part = part[step]
        part[last] = None if name == "zoom" and value == 0 else value
    try:
        return Recipe.model_validate(document)
    except ValidationError as error:
        wrong = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}"
            for item in error.errors(include_url=False, include_context=False)
        )
        raise RecipeError(
            f"This cannot be tried: {plain_text(wrong, 400)}.",
            code="bad_recipe",
            remedy="Correct the value in the launchpad; its description says what it may be.",
        ) from error


def try_recipe(store: ObjectStore, order: TrialOrder, scratch: Path) -> Trial:
    """Render the piece and keep it as a trial, unless a check failed. Raises `trial_outside`, or as a render."""
    with private_dir(scratch, "trial") as workdir:
        source = fetch(store, order.source_key, workdir)
        probe = require_probe(source, name=order.source_key)
        length_s = _length(order, probe)
        piece = _cut(source, probe, order.start_s, length_s, workdir)
        recipe = workdir / "recipe.json"
        spoken_apart = order.recipe.model_copy(update={"voice_over": None, "broll": None})
        recipe.write_text(spoken_apart.model_dump_json())
        captions = _captions(store, order, length_s, workdir)
        started = time.monotonic()
        try:
            made = render_file(
                piece, str(recipe), [order.format], workdir / "made", seed=order.seed, captions=captions
            )
        except QualityFailure as failure:
            return Trial(failure.findings[order.format], time.monotonic() - started)
        output = made["outputs"][0]
        file, shown = Path(output["path"]), Probe.from_dict(output["probe"])
        key = f"{TRIALS_PREFIX}/{order.source_id}/{order.format}/{output['render_key']}.mp4"
        store.put_file(key, file, content_type="video/mp4")
        return Trial(
            findings=findings_from(output["checks"]),
            seconds=made["render_seconds"],
            object_key=key,
            preview_key=keep_preview(store, key, file, shown, workdir),
            poster=poster(file, shown, workdir),
            render_key=output["render_key"],
            seed=made["seed"],
            size_bytes=output["size_bytes"],
            duration_s=output["duration_s"],
        )


def _length(order: TrialOrder, probe: Probe) -> float:
    left_s = probe.duration_s - order.start_s
    if left_s < 0.5:
        raise PermanentError(
            f"The video lasts {probe.duration_s:.1f} s; nothing is left of it at {order.start_s:g} s.",
            code="trial_outside",
            remedy="Choose an earlier `start_s`.",
        )
    return min(left_s, order.length_s or left_s)


def _cut(source: Path, probe: Probe, start_s: float, length_s: float, workdir: Path) -> Path:
    """The piece as a file of its own, as good as not changed; the whole file where all of it is tried."""
    if start_s == 0 and length_s >= probe.duration_s:
        return source
    options = source_options(probe) | {"ss": f"{start_s:.3f}", "t": f"{length_s:.3f}"}
    sound = ["-map", f"0:{probe.audio_index}", "-c:a", "aac", "-b:a", "256k"] if probe.has_audio else ["-an"]
    run_ffmpeg(
        [
            *(part for name, value in options.items() for part in (f"-{name}", value)),
            "-i", f"file:{source.absolute()}", "-map", f"0:{probe.video_index}",
            "-c:v", "libx264", "-preset", "ultrafast", "-crf", "8", *sound, "piece.mp4",
        ],
        doing="cutting out the piece to be tried",
        workdir=workdir,
        timeout_s=120 + 10 * length_s,
    )  # fmt: skip
    return workdir / "piece.mp4"


def _captions(store: ObjectStore, order: TrialOrder, length_s: float, workdir: Path) -> Path | None:
    """The captions of the piece, where the recipe draws any."""
    if order.captions_key is None or order.recipe.captions is None:
        return None
    cues = [
        Cue(max(0.0, cue.start_s - order.start_s), min(length_s, cue.end_s - order.start_s), cue.text)
        for cue in from_canonical(store.get(order.captions_key))
        if cue.end_s > order.start_s and cue.start_s < order.start_s + length_s
    ]
    if not cues:
        return None
    path = workdir / "piece.srt"
    path.write_text(
        "\n\n".join(f"{n}\n{_at(c.start_s)} --> {_at(c.end_s)}\n{c.text}" for n, c in enumerate(cues, 1))
    )
    return path


def _at(seconds: float) -> str:
    whole, milliseconds = divmod(round(1000 * seconds), 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02},{milliseconds:03}"
