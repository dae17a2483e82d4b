"""Glitch: seeded bursts in which colours slip apart, slices of the picture change places, and all turns to blocks.

Planned here frame by frame and carried out by a script of commands: the filters stand in the graph once, switched off
and free outside the bursts, whatever the video's length. `graph.py` places them, `engine.py` writes the script.
"""

import random
from dataclasses import dataclass
from fractions import Fraction

from ettametta_pipelines.renders.recipe import Glitch
from ettametta_pipelines.renders.segments import Segment

SLICERS = ("swaprect@one", "swaprect@two")
# A tear stands this many frames, and one more where a single frame would be left: one alone is hardly seen.
TEAR_FRAMES = (2, 3)
BLOCKY_SHARE = 0.35
# Shares of the picture's size at full strength.
LARGEST_SLIP = 0.02
LARGEST_BLOCK = 0.04
LARGEST_SLIDE = 0.25
SLICE_HEIGHTS = (0.03, 0.12)
# Slices stay away from top and bottom, where a letterbox would hide them.
SLICE_MARGIN = 0.1


@dataclass(frozen=True)
class Slice:
    """Two bands of equal height trade places, each moved sideways by `slide` pixels; all numbers are even."""

    upper: int
    lower: int
    height: int
    slide: int


@dataclass(frozen=True)
class Tear:
    """What frames `first` to `end` (exclusive) look like. Slips are pixels of the chroma planes, `block` of luma."""

    first: int
    end: int
    slip_blue: int
    slip_red: int
    slices: tuple[Slice, ...]
    block: int | None


@dataclass(frozen=True)
class Burst:
    """Output frames `first` to `end` (exclusive) are glitched, in tears that follow without a gap."""

    first: int
    end: int
    tears: tuple[Tear, ...]

    def times(self, rate: Fraction) -> tuple[float, float]:
        """Start and end in seconds of the rendition."""
        return float(self.first / rate), float(self.end / rate)


def plan_bursts(
    glitch: Glitch | None, seed: int, frame_count: int, rate: Fraction, width: int, height: int
) -> tuple[Burst, ...]:
    """Every burst of a video with pictures of this size; at least one where there are frames for it."""
    if glitch is None:
        return ()
    rng = random.Random(f"glitch {seed}")
    bursts = []
    start_s = rng.uniform(0.15, 0.6) * min(glitch.every_s, frame_count / float(rate))
    while (first := max(1, round(start_s * rate))) < frame_count - 1:
        frames = max(TEAR_FRAMES[0], round(rng.uniform(0.5, 1) * glitch.burst_s * float(rate)))
        bursts.append(_burst(glitch, rng, first, min(first + frames, frame_count), width, height))
        start_s += glitch.burst_s + rng.uniform(0.5, 1.5) * glitch.every_s
    return tuple(bursts)


def _burst(glitch: Glitch, rng: random.Random, first: int, end: int, width: int, height: int) -> Burst:
    tears, at = [], first
    while at < end:
        until = at + rng.randint(*TEAR_FRAMES)
        until = end if until >= end - 1 else until
        tears.append(_tear(glitch, rng, at, until, width, height))
        at = until
    return Burst(first, end, tuple(tears))


def _tear(glitch: Glitch, rng: random.Random, first: int, end: int, width: int, height: int) -> Tear:
    slip = max(1.0, LARGEST_SLIP * glitch.strength * width / 2)
    direction = rng.choice((-1, 1))
    blocky = rng.random() < BLOCKY_SHARE
    return Tear(
        first=first,
        end=end,
        slip_blue=_clip_slip(direction * rng.uniform(0.5, 1) * slip),
        slip_red=_clip_slip(-direction * rng.uniform(0.5, 1) * slip),
        slices=tuple(_slice(glitch, rng, width, height) for _ in SLICERS),
        block=max(4, round(LARGEST_BLOCK * glitch.strength * height)) if blocky else None,
    )


def _clip_slip(pixels: float) -> int:
    """At least one pixel, at most what chromashift takes."""
    return round(min(255.0, max(1.0, abs(pixels)))) * (1 if pixels > 0 else -1)


def _slice(glitch: Glitch, rng: random.Random, width: int, height: int) -> Slice:
    tall = max(2, _even(rng.uniform(*SLICE_HEIGHTS) * height))
    upper = _even(rng.uniform(SLICE_MARGIN * height, (1 - SLICE_MARGIN) * height - 2 * tall))
    lower = min(upper + tall + _even(rng.uniform(0, 0.5) * tall), _even(height - tall))
    slide = max(2, _even(rng.uniform(0.3, 1) * LARGEST_SLIDE * glitch.strength * width))
    return Slice(upper, lower, tall, slide)


def _even(number: float) -> int:
    return int(number) // 2 * 2


def script_name(segment: Segment) -> str:
    """The file with a segment's commands, in the directory ffmpeg runs in."""
    return f"glitch_{segment.index}.cmd"


def command_script(bursts: tuple[Burst, ...], rate: Fraction, width: int) -> str:
    """The bursts as a script for sendcmd; each command stands a quarter frame before the frame it is for."""
    lines = []
    for burst in bursts:
        for tear in burst.tears:
            lines.append(f"{_instant(tear.first, rate)} {', '.join(_commands(tear, width))};\n")
        off = ("chromashift enable 0", "pixelize enable 0", *(f"{name} enable 0" for name in SLICERS))
        lines.append(f"{_instant(burst.end, rate)} {', '.join(off)};\n")
    return "".join(lines)


def _instant(frame: int, rate: Fraction) -> str:
    return f"{(frame - 0.25) / float(rate):.6f}"


def _commands(tear: Tear, width: int) -> list[str]:
    commands = [
        f"chromashift cbh {tear.slip_blue}",
        f"chromashift crh {tear.slip_red}",
        "chromashift enable 1",
        f"pixelize enable {int(tear.block is not None)}",
    ]
    if tear.block is not None:
        commands += [f"pixelize w {tear.block}", f"pixelize h {tear.block}"]
    for name, one in zip(SLICERS, tear.slices, strict=True):
        options = {
            "w": _even(width) - one.slide, "h": one.height, "x1": 0, "y1": one.upper, "x2": one.slide, "y2": one.lower,
        }  # fmt: skip
        commands += [f"{name} {option} {value}" for option, value in options.items()]
        commands.append(f"{name} enable 1")
    return commands
