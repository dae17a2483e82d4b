"""Own media before a judge: a few small frames of an accepted source, and the row of `source_assessments`.

Frames are decoded by ffmpeg in confinement (`renders/thumbnails.py`); only small JPEGs leave this machine. Called by
`assets.py`; the judgement itself is `assessment.py`'s.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.scoring.assessment import ChainJudge, Evidence, judge_one
from ettametta_pipelines.scoring.heuristics import PROVIDER, cuts_per_minute, pacing_of
from ettametta_pipelines.vendors.pictures import Picture

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore

Row = dict[str, Any]

# As many as the strictest link takes (Groq); the first shows the opening, which decides the hook.
FRAMES = 5
OPENING_S = 0.5
LONG_SIDE = 512
BUDGET = 60 * 1024


@dataclass(frozen=True)
class Frame:
    """One frame as a JPEG of at most 60 KB, the longer side 512, and its time in seconds."""

    time_s: float
    jpeg: bytes


def frame_times(duration_s: float, count: int = FRAMES) -> list[float]:
    """The middles of equal shares of the video, of the first share rather its opening."""
    middles = [duration_s * (place + 0.5) / count for place in range(count)]
    return sorted({round(time, 3) for time in (min(OPENING_S, middles[0]), *middles[1:])})


def sample_frames(store: "ObjectStore", object_key: str, *, scratch: Path) -> list[Frame]:
    """Frames of a stored source. Raises PermanentError with the probe's reason code, or by ffmpeg's table."""
    from ettametta_pipelines.confinement.running import private_dir
    from ettametta_pipelines.media.intake import fetch
    from ettametta_pipelines.media.pictures import jpeg_within
    from ettametta_pipelines.media.probe import require_probe
    from ettametta_pipelines.renders.thumbnails import full_frame

    frames = []
    with private_dir(scratch, "frames") as workdir:
        path = fetch(store, object_key, workdir)
        probe = require_probe(path, name=object_key)
        for time_s in frame_times(probe.duration_s):
            image = full_frame(path, probe, time_s, workdir)
            image.thumbnail((LONG_SIDE, LONG_SIDE))
            frames.append(Frame(time_s, jpeg_within(image, BUDGET)))
    return frames


def assess_source(
    source: Mapping[str, Any],
    analysis: Mapping[str, Any],
    frames: Sequence[Frame],
    *,
    niche_title: str,
    judge: ChainJudge,
    pixels_may_judge: bool,
    clock: Clock,
) -> tuple[Row, PipelineError | None]:
    """The row of one source (rows of `source_media` and `media_analysis`), and the failure where nobody judged it.

    The local heuristic also tells the pacing, from the mean length of its shots.
    """
    candidate = {
        "platform": "own footage",
        "video_id": source["source_id"],
        "source_id": source["source_id"],
        "niche": source["niche"],
        "title": source["title"],
        "channel_title": "",
        "duration_s": source["duration_s"],
    }
    evidence = Evidence(tuple(Picture("image/jpeg", frame.jpeg) for frame in frames), "frames")
    judged, failure = judge_one(niche_title, candidate, evidence, judge, pixels_may_judge, clock)
    if judged["provider"] == PROVIDER:
        judged["pacing"] = pacing_of(float(analysis["mean_shot_s"]))
    row = {name: source[name] for name in ("source_id", "account", "niche", "title")}
    row |= {
        "frame_times_s": [f"{frame.time_s:.3f}" for frame in frames],
        "motion_energy": float(analysis["mean_motion"]),
        "cuts_per_minute": cuts_per_minute(int(analysis["shot_count"]), float(source["duration_s"])),
    }
    return row | judged, failure
