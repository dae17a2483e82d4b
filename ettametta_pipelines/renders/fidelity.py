"""Is the finished file what the graph made? A few windows of the graph's own frames, beside the file's.

The frames are made once more for a moment here and there, without an encoder, and compared with those the file shows
at the same places: that finds a broken encoder, muxer or join, a wrong matrix or range, shifted and swapped frames.
Grain is left out and both are compared at a quarter of the size, where grain has averaged out. `quality.py` asks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import ffmpeg

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg
from ettametta_pipelines.renders.formats import Format
from ettametta_pipelines.renders.graph import (
    MATRICES,
    SHRINKER,
    RenderPlan,
    color_matrix,
    segment_pictures,
)
from ettametta_pipelines.renders.segments import Segment
from ettametta_pipelines.renders.stills import SHRINK, Still, Stills, read_stills

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.float64]

# Where windows are looked for, as shares of the video: the beginning, the middle, and what would have drifted apart.
PLACES = (0.0, 0.45, 0.9)
WINDOW_FRAMES = 4
# A source is decoded from a keyframe on: no farther from one than this, or looking would cost as much as rendering.
FARTHEST_S = 2.0

# Measured over all presets, three formats and the clips at hand, at crf 21: SSIM 0.989 or more and a shift of 0.5 or
# less; 0.92 and 0.9 with the heaviest grain; 0.64 and 1.4 where noise uses up the bit rate. At crf 45 one of the two is
# beyond the limits throughout. A wrong matrix shifts by 1.2 to 6, a wrong range by 6 to 9.
LEAST_SSIM, SSIM_PER_GRAIN, MOST_SHIFT = 0.975, 0.006, 1.0
LEAST_SSIM_CAPPED, MOST_SHIFT_CAPPED = 0.5, 2.5
CAPPED_SHARE = 0.85
# Frames out of their place before it counts: one may be an encoder's thrift.
MISPLACED = 2
# ITU-T H.273, by ffmpeg's names.
MATRIX_CODES = {name: code for code, name in MATRICES.items()}


def plan_windows(plan: RenderPlan) -> list[Segment]:
    """A few frames to render once more, near the places; each has the number of the segment it lies in, and with it
    its scripts."""
    # The frame after the keyframe's own, whose time may be rounded either way.
    entries = [(0, None)] + [
        (math.ceil(plan.time_map.output_time(entry_s) * plan.rate) + 1, entry_s)
        for entry_s in plan.probe.entry_points_s
    ]
    windows: dict[int, Segment] = {}
    for share in PLACES:
        place = int(share * plan.frame_count)
        begin, entry_s = max((entry for entry in entries if entry[0] <= place), key=lambda entry: entry[0])
        first = min(place, begin + round(FARTHEST_S * plan.rate))
        around = next(s for s in plan.segments if s.first <= first < s.end)
        windows[first] = Segment(around.index, first, min(first + WINDOW_FRAMES, around.end), entry_s)
    return list(windows.values())


def window_arguments(plan: RenderPlan, window: Segment, outputs: Mapping[str, Path]) -> list[str]:
    """ffmpeg's arguments for the raw frames of a window as stills, one file for each format `outputs` names."""
    formats = [format for format in plan.formats if format.name in outputs]
    written = []
    for format, picture in zip(formats, segment_pictures(plan, window, formats), strict=True):
        still = picture.filter("scale", format.width // SHRINK, format.height // SHRINK, flags=SHRINKER)
        options = {"f": "rawvideo", "fps_mode": "passthrough", "frames:v": window.frames}
        written.append(
            ffmpeg.output(still.filter("format", "yuv420p"), f"file:{outputs[format.name]}", **options)
        )
    arguments: list[str] = ffmpeg.merge_outputs(*written).get_args()
    return ["-copyts", "-start_at_zero", *arguments]


class Reference:
    """What the graph made of a plan at a few places, rendered once for all its formats when first asked for.

    `workdir` is the directory of the render, with its plates and scripts.
    """

    def __init__(self, plan: RenderPlan, workdir: Path) -> None:
        without_grain = plan.recipe.model_copy(update={"grain": None})
        self.plan = plan
        self._graph = replace(plan, recipe=without_grain)
        self._windows = plan_windows(plan)
        self._workdir = workdir.absolute()
        self._stills: dict[str, dict[int, Still]] | None = None
        self._lock = Lock()

    @property
    def numbers(self) -> list[int]:
        """Frames that are compared."""
        return [number for window in self._windows for number in range(window.first, window.end)]

    def stills(self, format: Format) -> Stills:
        """Frames of the graph by number. Raises PipelineError by the runner's table."""
        with self._lock:
            if self._stills is None:
                self._stills = self._rendered()
        return self._stills[format.name]

    def _rendered(self) -> dict[str, dict[int, Still]]:
        found: dict[str, dict[int, Still]] = {format.name: {} for format in self.plan.formats}
        for window in self._windows:
            with private_dir(self._workdir, "reference") as kept:
                outputs = {format.name: kept / f"{format.name}.yuv" for format in self.plan.formats}
                run_ffmpeg(
                    window_arguments(self._graph, window, outputs),
                    doing="making frames to compare with",
                    workdir=self._workdir,
                    timeout_s=120,
                )
                numbers = range(window.first, window.end)
                for format in self.plan.formats:
                    read = read_stills(outputs[format.name], numbers, format.width, format.height)
                    found[format.name] |= read
        return found


@dataclass(frozen=True)
class EncodingVerdict:
    """`measured` are the numbers behind the sentence, `look_at` the frame where it shows."""

    passed: bool
    sentence: str
    measured: Mapping[str, float]
    look_at: int | None = None


def judge_encoding(reference: Reference, format: Format, made: Probe, stills: Stills) -> EncodingVerdict:
    """Compare a finished file's stills with the graph's; raises PipelineError by the runner's table."""
    wanted = MATRIX_CODES[color_matrix(reference.plan.probe)]
    if made.color_matrix != wanted or made.full_range:
        stated = "full range" if made.full_range else f"matrix {made.color_matrix}"
        return EncodingVerdict(False, f"It is tagged with {stated}, its colours are in matrix {wanted}.", {})
    found = compare(stills, reference.stills(format))
    if not found:
        return EncodingVerdict(False, "None of its frames could be compared with what was encoded.", {})
    likeness = min((mean_likeness(window) for window in runs(found)), key=lambda one: one.ssim)
    shift = max(mean_likeness(window).shift for window in runs(found))
    misplaced = [one for one in found if one.out_of_place]
    least, most = limits(reference.plan, made)
    measured = {
        "ssim": likeness.ssim, "least_ssim": least, "tone_shift": shift, "frames": len(found),
        "out_of_place": len(misplaced),
    }  # fmt: skip
    if len(misplaced) >= MISPLACED:
        sentence = f"{len(misplaced)} of {len(found)} frames looked at are not the ones that belong there."
        return EncodingVerdict(False, sentence, measured, misplaced[0].number)
    if likeness.ssim < least or shift > most:
        sentence = (
            f"Its frames differ from what was encoded: SSIM {likeness.ssim:.3f} (at least {least:.3f} is wanted), "
            f"tones off by {shift:.1f} steps of 255 ({most:g} are allowed)."
        )
        worst = min(found, key=lambda one: one.ssim / least - one.shift / most)
        return EncodingVerdict(False, sentence, measured, worst.number)
    sentence = f"{len(found)} frames looked at are as they were encoded: SSIM {likeness.ssim:.3f}."
    return EncodingVerdict(True, sentence, measured)


def limits(plan: RenderPlan, made: Probe) -> tuple[float, float]:
    """The least SSIM and the largest shift of tone of a good file.

    Grain is not in the reference and costs some of both. An encoder at the top of its bit rate has to blur, which
    happens with heavy noise only.
    """
    if 8 * made.size_bytes > CAPPED_SHARE * 1000 * plan.encoder.maxrate_kbps * made.duration_s:
        return LEAST_SSIM_CAPPED, MOST_SHIFT_CAPPED
    grain = plan.recipe.grain.strength if plan.recipe.grain else 0
    return LEAST_SSIM - SSIM_PER_GRAIN * grain, MOST_SHIFT


def runs(found: Sequence["Likeness"]) -> list[list["Likeness"]]:
    """Frames in runs of neighbours: one for each window."""
    parted: list[list[Likeness]] = []
    for one in found:
        if parted and parted[-1][-1].number == one.number - 1:
            parted[-1].append(one)
        else:
            parted.append([one])
    return parted


@dataclass(frozen=True)
class Likeness:
    """How one frame of the file resembles the graph's: SSIM of brightness 0..1, shift of tone in steps of 255."""

    number: int
    ssim: float
    shift: float
    out_of_place: bool


def mean_likeness(window: Sequence[Likeness]) -> Likeness:
    """One for all frames of a window: single frames, such as coarse ones beside a cut, weigh no more than others."""
    count = len(window)
    return Likeness(
        window[0].number,
        sum(one.ssim for one in window) / count,
        sum(one.shift for one in window) / count,
        False,
    )


def compare(made: Stills, reference: Stills) -> list[Likeness]:
    """Frames that both have, by number."""
    numbers = sorted(made.keys() & reference.keys())
    files = {number: _quarter(made[number]) for number in numbers}
    graphs = {number: _quarter(reference[number]) for number in numbers}
    return [
        Likeness(
            number,
            ssim(files[number][0], graphs[number][0]),
            _shift(files[number], graphs[number]),
            _out_of_place(files[number][0], number, {n: planes[0] for n, planes in graphs.items()}),
        )
        for number in numbers
    ]


def ssim(one: "Picture", other: "Picture") -> float:
    """Structural similarity (Wang et al. 2004) over blocks of 8x8, brightness 0 to 255."""
    import numpy as np

    a, b = _blocks(one), _blocks(other)
    mean_a, mean_b = a.mean(axis=-1), b.mean(axis=-1)
    both = (a * b).mean(axis=-1) - mean_a * mean_b
    spread = a.var(axis=-1) + b.var(axis=-1)
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return float(np.mean(luminance * (2 * both + c2) / (spread + c2)))


def _quarter(still: Still) -> "tuple[Picture, Picture, Picture]":
    """Planes of the same size, a quarter of the frame's sides."""
    rows, columns = (side // 2 * 2 for side in still.luma.shape)
    halves = still.luma[:rows, :columns].astype(float).reshape(rows // 2, 2, columns // 2, 2)
    return halves.mean(axis=(1, 3)), still.blue.astype(float), still.red.astype(float)


def _blocks(plane: "Picture") -> "Picture":
    """The plane in blocks of 8x8, each as one row of 64."""
    rows, columns = plane.shape[0] // 8, plane.shape[1] // 8
    whole = plane[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8)
    return whole.swapaxes(1, 2).reshape(rows * columns, 64)


def _shift(one: "Sequence[Picture]", other: "Sequence[Picture]") -> float:
    """Mean shift of the blocks' tone in the plane where it is largest: matrix and range move it, coding does not."""
    import numpy as np

    return max(
        float(np.abs(_blocks(a).mean(axis=-1) - _blocks(b).mean(axis=-1)).mean())
        for a, b in zip(one, other, strict=True)
    )


def _out_of_place(shown: "Picture", number: int, graphs: "dict[int, Picture]") -> bool:
    """Whether a neighbour of the frame that belongs here is plainly nearer to what is shown."""
    own = float(((shown - graphs[number]) ** 2).mean())
    beside = [
        float(((shown - graphs[near]) ** 2).mean()) for near in (number - 1, number + 1) if near in graphs
    ]
    return bool(beside) and own > 4.0 and min(beside) < own / 2
