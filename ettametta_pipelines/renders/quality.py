"""Quality checks of one rendition: what must hold before anything may be stored or published.

Each check answers in a plain sentence. They look at the finished file with the same probe that judged the source;
that ffmpeg exited 0 proves nothing. `engine.py` raises when one fails, `assets.py` shows them as asset checks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ettametta_pipelines.media.probe import POLICY, Probe, probe_file
from ettametta_pipelines.renders.formats import Format

DURATION_TOLERANCE = 0.02
# A speed ramp may carry the shortest and the longest source just past what an upload may last.
RENDITION_POLICY = replace(
    POLICY, min_duration_s=0.9 * POLICY.min_duration_s, max_duration_s=1.1 * POLICY.max_duration_s
)


@dataclass(frozen=True)
class Finding:
    """Outcome of one check; `name` is the asset check's name."""

    name: str
    passed: bool
    sentence: str


@dataclass(frozen=True)
class Expectation:
    """What a rendition must be."""

    format: Format
    duration_s: float
    has_audio: bool


def _exact_size(made: Probe, wanted: Expectation) -> Finding:
    size, exact = (made.width, made.height), (wanted.format.width, wanted.format.height)
    square = made.sample_aspect == (1, 1)
    sentence = f"It is {size[0]}x{size[1]}, wanted {exact[0]}x{exact[1]}" + (
        "." if square else ", pixels not square."
    )
    return Finding("exact_size", size == exact and square, sentence)


def _duration(made: Probe, wanted: Expectation) -> Finding:
    off = abs(made.duration_s - wanted.duration_s)
    # One frame is the grain of time: a two-second clip may not fail for it.
    allowed = max(DURATION_TOLERANCE * wanted.duration_s, 1.01 / made.fps if made.fps else 0.0)
    sentence = f"It lasts {made.duration_s:.2f} s, wanted {wanted.duration_s:.2f} s within {allowed:.2f} s."
    return Finding("duration_matches", off <= allowed, sentence)


def _sound(made: Probe, wanted: Expectation) -> Finding:
    if not wanted.has_audio:
        return Finding("sound_present", not made.has_audio, "The source has no sound.")
    short = made.duration_s - made.audio_duration_s
    if not made.has_audio:
        return Finding("sound_present", False, "The source has sound, the rendition has none.")
    allowed = max(DURATION_TOLERANCE * wanted.duration_s, 0.1)
    sentence = f"Sound lasts {made.audio_duration_s:.2f} s beside {made.duration_s:.2f} s of picture."
    return Finding("sound_present", abs(short) <= allowed, sentence)


CHECKS: dict[str, Callable[[Probe, Expectation], Finding]] = {
    "exact_size": _exact_size,
    "duration_matches": _duration,
    "sound_present": _sound,
}
CHECK_NAMES = ("readable", *CHECKS)


def judge_rendition(path: Path, wanted: Expectation) -> tuple[Probe | None, list[Finding]]:
    """Probe a finished file and run every check; without a probe every check has failed."""
    verdict = probe_file(path, policy=RENDITION_POLICY)
    if verdict.probe is None:
        unreadable = f"It cannot be read back: {verdict.reason}"
        return None, [Finding(name, False, unreadable) for name in CHECK_NAMES]
    readable = Finding("readable", True, f"Read back as {verdict.summary}.")
    return verdict.probe, [readable, *(check(verdict.probe, wanted) for check in CHECKS.values())]
