"""Is the finished file what the graph made? A few windows of the graph's own frames, beside the file's.

The frames are made once more for a moment here and there, without an encoder, and compared with those the file shows
at the same places: that finds a broken encoder, muxer or join, a wrong matrix or range, shifted and swapped frames.
Grain is left out and both are compared at a quarter of the size, where grain has averaged out. `quality.py` asks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

import ffmpeg

from ettametta_pipelines.confinement import private_dir
from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, source_options
from ettametta_pipelines.renders.formats import Format
from ettametta_pipelines.renders.graph import (
    MATRICES,
    SHRINKER,
    RenderPlan,
    color_matrix,
    common_chain,
    format_branch,
)
from ettametta_pipelines.renders.recipe import Recipe
from ettametta_pipelines.renders.stills import SHRINK, Still, Stills, read_stills

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Picture = NDArray[np.float64]

# Where windows begin, as shares of the video. The first costs no seeking, the last finds what drifts apart.
PLACES = (0.0, 0.45, 0.9)
WINDOW_FRAMES = 5
# Read before a window, so that the frame shown at its beginning is known where frames come unevenly.
LEAD_S = 0.5
UNEVEN_LEAD_S = 4.0


def window_arguments(plan: RenderPlan, first: int, count: int, outputs: Sequence[Path]) -> list[str]:
    """ffmpeg's arguments for `count` raw frames of every format from frame `first` on, as stills."""
    start = first / plan.rate
    lead = UNEVEN_LEAD_S if plan.probe.variable_rate else LEAD_S
    seek = max(0.0, plan.time_map.source_time(float(start)) - lead)
    # The offset puts back what seeking takes off: all of the graph counts in the time of the whole.
    options = source_options(plan.probe) | {"ss": f"{seek:.6f}", "itsoffset": f"{seek:.6f}", "threads": "2"}
    source = ffmpeg.input(f"file:{plan.source}", **options)
    picture = common_chain(source[str(plan.probe.video_index)], plan, start)
    branches = picture.filter_multi_output("split") if len(plan.formats) > 1 else [picture]
    written = []
    for place, (format, path) in enumerate(zip(plan.formats, outputs, strict=True)):
        still = format_branch(branches[place], plan, format)
        still = still.filter("scale", format.width // SHRINK, format.height // SHRINK, flags=SHRINKER)
        written.append(
            ffmpeg.output(
                still.filter("format", "yuv420p"), f"file:{path}",
                f="rawvideo", fps_mode="passthrough", **{"frames:v": count},
            )
        )  # fmt: skip
    arguments: list[str] = ffmpeg.merge_outputs(*written).get_args()
    return arguments


def _without_grain(plan: RenderPlan) -> Recipe:
    return plan.recipe.model_copy(update={"grain": None})


WindowArguments = Callable[[RenderPlan, int, int, Sequence[Path]], list[str]]


class Reference:
    """What the graph made of a plan at a few places, rendered once for all formats when first asked for."""

    def __init__(
        self, plan: RenderPlan, scratch: Path, arguments: WindowArguments = window_arguments
    ) -> None:
        self.plan = plan if plan.recipe.grain is None else replace(plan, recipe=_without_grain(plan))
        self.matrix = color_matrix(plan.probe)
        self._scratch = scratch
        self._arguments = arguments
        self._stills: dict[str, dict[int, Still]] | None = None
        self._lock = Lock()

    @property
    def windows(self) -> list[range]:
        """Numbers of the frames that are compared, in runs of neighbours."""
        count = min(WINDOW_FRAMES, self.plan.frame_count)
        last = self.plan.frame_count - count
        return [range(first, first + count) for first in sorted({round(share * last) for share in PLACES})]

    def stills(self, format: Format) -> Stills:
        """Frames of the graph by number. Raises PipelineError by the runner's table."""
        with self._lock:
            if self._stills is None:
                self._stills = self._rendered()
        return self._stills[format.name]

    def _rendered(self) -> dict[str, dict[int, Still]]:
        found: dict[str, dict[int, Still]] = {format.name: {} for format in self.plan.formats}
        for window in self.windows:
            with private_dir(self._scratch, "reference") as kept:
                outputs = [kept.absolute() / f"{format.name}.yuv" for format in self.plan.formats]
                run_ffmpeg(
                    self._arguments(self.plan, window.start, len(window), outputs),
                    doing="making frames to compare with",
                    # Scripts of captions and glitches have names inside the directory of the render.
                    workdir=self._scratch,
                    timeout_s=120,
                )
                for format, path in zip(self.plan.formats, outputs, strict=True):
                    found[format.name] |= read_stills(path, window, format.width, format.height)
        return found


@dataclass(frozen=True)
class Likeness:
    """How one frame of the file resembles the graph's: SSIM of brightness 0..1, shift of tone in steps of 255."""

    number: int
    ssim: float
    shift: float
    out_of_place: bool


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
