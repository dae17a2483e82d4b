"""Where a format looks when it shows only a part of the source: a camera path laid through the subject's track.

The path is a cubic B-spline in source time whose control points a linear programme chooses (after Grundmann, Kwatra
and Essa 2011, "Auto-directed video stabilization with robust L1 optimal camera paths"): as sums of absolute values are
made small, the camera stands exactly still while the subject stays in its comfort zone, pans at a steady pace where it
must, and eases between. It jumps only at cuts. `plan_path` lays it; `Following` turns it into what ffmpeg's crop reads,
an expression of nothing but the frame's time, so that a render may begin anywhere. `graph.py` places it; whether the
subject was kept is judged by `judge_framing`.
"""

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.subject import Extent, ShotTrack, Sighting, SubjectTrack
from ettametta_pipelines.renders.formats import Format
from ettametta_pipelines.renders.recipe import Recipe
from ettametta_pipelines.renders.tempo import TimeMap

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Axis = Literal["x", "y"]

# A format this near to the source's shape is not worth a moving camera: no one sees 4 %.
SAME_SHAPE = 0.04

# Seconds between control points.
STEP_S = 0.25
# Everything below counts in lengths of the window. The camera may rest while the subject is this far from its middle,
CALM = 0.18
# and moves rather than let it go farther than this; the subject's own half-extent counts with a little air.
FARTHEST = 0.3
AIR = 1.15
# A face speaks for head and shoulders.
HEAD_AND_SHOULDERS = 2.0
FASTEST_PER_S = 1.2
QUICKEST_PER_S2 = 4.0
# What the programme pays for each, per control point: leaving the comfort zone, leaving the calm zone, not being in the
# middle, moving, changing pace, jerking. Moving against not being in the middle: a place must be kept for 15 s before
# the camera goes there for beauty's sake alone.
COSTS = {"lost": 30.0, "off": 1.0, "centre": 0.1, "move": 6.0, "pace": 10.0, "jerk": 20.0}
# Long shots are solved in pieces of this many control points, of which the last ones are looked at but not kept.
PIECE, AHEAD = 240, 40
# A company is shown as a whole when it fits into the window in this share of a shot.
FITTING_SHARE = 0.9
# Control points are kept to a hundred-thousandth of the picture, a fiftieth of a pixel of HD.
DECIMALS = 5
# A path that never leaves the middle by more than this is none.
STILL_CENTRE = 0.002

# A check counts the subject as cut off when less than this of what could be shown of it is.
LEAST_SHOWN = 0.7
AIR_PIXELS = 2


@dataclass(frozen=True)
class ShotPath:
    """Control points every `STEP_S` seconds of the source from `start_s` on: shares the window's middle is at."""

    start_s: float
    points: tuple[float, ...]

    def centre(self, source_s: float) -> float:
        at = min(max(0.0, (source_s - self.start_s) / STEP_S), len(self.points) - 1.0)
        place = min(int(at), max(0, len(self.points) - 2))
        a, b, c, d = self.coefficients(place)
        u = at - place
        return a + u * (b + u * (c + u * d))

    def coefficients(self, place: int) -> tuple[float, float, float, float]:
        """Of the cubic between two control points, in 0..1; beyond the ends the last point goes on."""
        last = len(self.points) - 1
        p, q, r, s = (self.points[min(max(0, place + shift), last)] for shift in (-1, 0, 1, 2))
        return (p + 4 * q + r) / 6, (r - p) / 2, (p - 2 * q + r) / 2, (s - 3 * r + 3 * q - p) / 6


@dataclass(frozen=True)
class CropPath:
    """The middle of the window along `axis` over the source's time; `shown` is the window's share of the picture."""

    axis: Axis
    shown: float
    shots: tuple[ShotPath, ...]

    def centre(self, source_s: float) -> float:
        """Share of the displayed picture, 0 left or top; before mirroring."""
        return self.shots[self.shot_index(source_s)].centre(source_s)

    def shot_index(self, source_s: float) -> int:
        return max(0, bisect_right(self._starts, source_s) - 1)

    @cached_property
    def _starts(self) -> list[float]:
        return [shot.start_s for shot in self.shots]

    @cached_property
    def digest(self) -> str:
        """Names the path in the render key."""
        parts = [
            self.axis,
            round(self.shown, 6),
            STEP_S,
            [[shot.start_s, shot.points] for shot in self.shots],
        ]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def shows_a_part(aspect: float, recipe: Recipe, formats: Sequence[Format]) -> bool:
    """Whether any of the formats cuts off so much of a picture of this shape that where it looks matters."""
    return recipe.framing == "subject" and any(_window(aspect, recipe, float(f.aspect)) for f in formats)


def _window(aspect: float, recipe: Recipe, wanted: float) -> tuple[Axis, float] | None:
    """The axis that is cut and the share shown of it, when a picture of an aspect fills one of another."""
    ratio = wanted / aspect
    if recipe.fit == "blur" or abs(1 / ratio - 1) <= SAME_SHAPE:
        return None
    return "x" if ratio < 1 else "y", min(ratio, 1 / ratio) / (recipe.originality.zoom or 1.0)


def plan_path(track: SubjectTrack | None, recipe: Recipe, format: Format) -> CropPath | None:
    """The path of a format; None where nothing is cut off, no subject is known, or the centre serves it."""
    if track is None or recipe.framing == "centre" or not track.confident():
        return None
    window = _window(track.aspect, recipe, float(format.aspect))
    if window is None:
        return None
    axis, shown = window
    bars = 2 * recipe.letterbox.height if recipe.letterbox and axis == "y" else 0.0
    shots = tuple(_shot_path(shot, axis, shown, 1 - bars) for shot in track.shots)
    moves = any(abs(point - 0.5) > STILL_CENTRE for shot in shots for point in shot.points)
    return CropPath(axis, shown, shots) if moves else None


def plan_paths(track: SubjectTrack | None, recipe: Recipe, formats: Sequence[Format]) -> dict[str, CropPath]:
    """Paths by format, of those that have one."""
    paths = ((format.name, plan_path(track, recipe, format)) for format in formats)
    return {name: path for name, path in paths if path is not None}


# --- the programme ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Target:
    """Where the subject's middle is at a control point, and how far the window's may be from it; in windows."""

    place: int
    x: float
    room: float


def _shot_path(shot: ShotTrack, axis: Axis, shown: float, uncovered: float) -> ShotPath:
    count = max(2, math.ceil((shot.end_s - shot.start_s) / STEP_S) + 1)
    targets = list(_targets(shot, axis, shown, uncovered))
    if not targets:
        return ShotPath(shot.start_s, (0.5,) * count)
    points: list[float] = []
    while len(points) < count:
        begin = max(0, len(points) - 3)
        size = min(PIECE, count - begin)
        near = [t for t in targets if begin <= t.place < begin + size]
        fixed = points[begin:]
        solved = _solve(size, begin, near, [point / shown for point in fixed], 1 / shown)
        kept = size if begin + size >= count else size - AHEAD
        points[begin:] = [round(point * shown, DECIMALS) for point in solved[:kept].tolist()]
        points[begin : begin + len(fixed)] = fixed
    return ShotPath(shot.start_s, tuple(points))


def _targets(shot: ShotTrack, axis: Axis, shown: float, uncovered: float) -> Iterator[_Target]:
    sightings = [s for s in shot.sightings if s.is_confident]
    whole = [s for s in sightings if 2 * AIR * _along(s.company, axis)[1] <= shown * uncovered]
    together = len(whole) >= FITTING_SHARE * len(sightings)
    # The outline of what moves or stands out is vague: no reason to stir.
    air, least = (AIR * HEAD_AND_SHOULDERS, CALM / 2) if shot.method == "faces" else (AIR, CALM)
    for sighting in sightings:
        middle, half = _along(sighting.company if together else sighting.subject, axis)
        if shot.method == "faces" and axis == "y":
            # Shoulders are below.
            middle += half
        room = min(FARTHEST, max(least, uncovered / 2 - air * half / shown))
        yield _Target(round((sighting.time_s - shot.start_s) / STEP_S), middle / shown, room)


def _along(extent: Extent, axis: Axis) -> tuple[float, float]:
    return (extent.x, extent.half_width) if axis == "x" else (extent.y, extent.half_height)


def _solve(
    count: int, begin: int, targets: Sequence[_Target], fixed: Sequence[float], length: float
) -> "NDArray[np.float64]":
    """Control points of least cost, in windows; `fixed` are the first ones, `length` is the whole picture's.

    Every absolute value |v| in the cost becomes a variable that is at least v and at least -v.
    """
    import numpy as np
    from scipy.optimize import linprog
    from scipy.sparse import csr_array, eye_array, hstack, vstack

    identity = eye_array(count, format="csr")
    if not targets:
        return np.full(count, fixed[-1] if fixed else length / 2)
    at_targets = identity[[target.place - begin for target in targets]]
    middles = np.array([target.x for target in targets])
    rooms = np.array([target.room for target in targets])
    differences = [identity]
    for _ in range(3):
        differences.append(differences[-1][1:] - differences[-1][:-1])
    _, velocity, acceleration, jerk = differences
    # (matrix, offset, allowance, cost): the cost of |matrix @ points - offset| beyond the allowance.
    terms: list[tuple[Any, Any, Any, float]] = [
        (at_targets, middles, rooms, COSTS["lost"]),
        (at_targets, middles, np.minimum(CALM, rooms), COSTS["off"]),
        (at_targets, middles, 0.0, COSTS["centre"]),
        (velocity, 0.0, 0.0, COSTS["move"]),
        (acceleration, 0.0, 0.0, COSTS["pace"]),
        (jerk, 0.0, 0.0, COSTS["jerk"]),
    ]
    extra = sum(matrix.shape[0] for matrix, *_ in terms)
    rows, limits, costs, used = [], [], [np.zeros(count)], 0
    for matrix, offset, allowance, cost in terms:
        size = matrix.shape[0]
        slack = csr_array((-np.ones(size), (np.arange(size), used + np.arange(size))), shape=(size, extra))
        for sign in (1, -1):
            rows.append(hstack([sign * matrix, slack]))
            limits.append(np.broadcast_to(sign * np.asarray(offset) + allowance, (size,)))
        costs.append(np.full(size, cost))
        used += size
    # Fixed points are rounded and may be a hair beyond these bounds: only rows with a point to choose count.
    ordered = [
        (velocity[max(0, len(fixed) - 1) :], FASTEST_PER_S * STEP_S),
        (acceleration[max(0, len(fixed) - 2) :], QUICKEST_PER_S2 * STEP_S**2),
    ]
    for matrix, most in ordered:
        for sign in (1, -1):
            rows.append(hstack([sign * matrix, csr_array((matrix.shape[0], extra))]))
            limits.append(np.full(matrix.shape[0], most))
    bounds = [(0.5, length - 0.5)] * count + [(0.0, None)] * extra
    bounds[: len(fixed)] = [(point, point) for point in fixed]
    solution = linprog(
        np.concatenate(costs), A_ub=vstack(rows), b_ub=np.concatenate(limits), bounds=bounds, method="highs"
    )
    if solution.x is None:
        raise PermanentError(
            f"No camera path could be laid: {solution.message}",
            code="framing_unsolved",
            remedy="Use a recipe with framing: centre, and report the message.",
        )
    points: NDArray[np.float64] = np.clip(solution.x[:count], 0.5, length - 0.5)
    return points


# --- what ffmpeg reads -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Following:
    """A path carried out in two crops around the scale that a format needs anyway.

    The first takes the window with two pixels of air to either side, on even pixels of the source; the second, after
    the scale, the exact part of it. So the picture moves by single pixels of the output, at no cost, where a crop
    alone would move it by one of the source, 1.8 of the output between HD and an upright format.

    `length` is the source's along the axis, `window` what is shown of it, `target` what becomes of the window; pixels.
    """

    path: CropPath
    length: int
    window: int
    target: int
    mirrored: bool
    times: TimeMap
    rate: Fraction

    @property
    def cut(self) -> int:
        """Pixels of the source the first crop takes; even, as the window is."""
        return min(self.length // 2 * 2, self.window + 2 * AIR_PIXELS)

    @property
    def scaled(self) -> int:
        """Pixels those become; even."""
        return 2 * round(self.cut * self.target / self.window / 2)

    def first_crop(self, during: tuple[float, float]) -> str:
        """The first crop's offset as an expression of `t`, good for this part of the rendition, in seconds."""
        return f"st(0,{self._edge(during)});{self._first()}"

    def second_crop(self, during: tuple[float, float]) -> str:
        """The second crop's offset: what the first left over, in pixels of the output."""
        exact = f"clip(ld(0),0,{self.length - self.window})-{self._first()}"
        beyond = self.scaled - self.target
        return f"st(0,{self._edge(during)});clip(round(({exact})*{self.scaled / self.cut:.9f}),0,{beyond})"

    def _first(self) -> str:
        return f"2*floor(clip(ld(0)-{AIR_PIXELS},0,{self.length - self.cut})/2)"

    def _edge(self, during: tuple[float, float]) -> str:
        """First pixel of the window, in fractions of one; may lie outside of the picture by the width of a hair."""
        return _tree(list(self._pieces(during)))

    def _pieces(self, during: tuple[float, float]) -> Iterator[tuple[float, str]]:
        """Expressions in order of time, each with the rendition's second it begins at; a few more than are needed."""
        scale, offset = float(self.length), -self.window / 2
        if self.mirrored:
            scale, offset = -scale, self.length + offset
        begin_s, end_s = (self.times.source_time(at) for at in during)
        first, last = self.path.shot_index(begin_s - 2 * STEP_S), self.path.shot_index(end_s + 2 * STEP_S)
        before = None
        for shot in self.path.shots[first : last + 1]:
            # Half a frame before the shot's first frame, so that the jump is on that frame and on no other.
            begins = (round(self.times.output_time(shot.start_s) * self.rate) - 0.5) / float(self.rate)
            lowest = max(0, math.floor((begin_s - shot.start_s) / STEP_S) - 2)
            highest = min(len(shot.points) - 1, math.ceil((end_s - shot.start_s) / STEP_S) + 2)
            for place in range(min(lowest, highest - 1), highest):
                a, b, c, d = (scale * number for number in shot.coefficients(place))
                since, until = (
                    self.times.output_time(shot.start_s + STEP_S * at) for at in (place, place + 1)
                )
                if max(abs(b), abs(c), abs(d)) < 1e-4 * STEP_S:
                    piece = f"{a + offset:.4f}"
                else:
                    into = f"(t-{since:.6f})*{1 / (until - since):.6f}"
                    piece = f"(st(1,{into});{a + offset:.4f}+ld(1)*({b:.4f}+ld(1)*({c:.4f}+ld(1)*({d:.4f}))))"
                if piece != before:
                    yield (begins if place == 0 else since), piece
                before = piece


def _tree(pieces: Sequence[tuple[float, str]]) -> str:
    """Finds the piece of a time in as many steps as the number of pieces has binary digits."""
    if len(pieces) == 1:
        return pieces[0][1]
    half = len(pieces) // 2
    return f"if(lt(t,{pieces[half][0]:.6f}),{_tree(pieces[:half])},{_tree(pieces[half:])})"


# --- was the subject kept? -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Framed:
    """How the subject of a source was framed: what a check needs to know. `path` None is the middle."""

    track: SubjectTrack | None
    path: CropPath | None
    recipe: Recipe


def shown_window(
    framed: Framed, aspect: float, width: int, height: int, source_s: float
) -> tuple[float, float, float, float] | None:
    """What a picture of this size shows of a source of this aspect at a moment: left, top, width, height as shares.

    None where it shows the whole. Before mirroring; a zoom takes its share off along the cut axis alone.
    """
    window = _window(aspect, framed.recipe, width / height)
    if window is None:
        return None
    axis, shown = window
    centre = framed.path.centre(source_s) if framed.path else 0.5
    start = round(min(max(0.0, centre - shown / 2), 1 - shown), 3)
    return (start, 0.0, shown, 1.0) if axis == "x" else (0.0, start, 1.0, shown)


@dataclass(frozen=True)
class Kept:
    """Sightings that count, and those of them at which the subject is cut off; in source time."""

    seen: int
    cut_off: tuple[Sighting, ...]

    @property
    def share_cut_off(self) -> float:
        return len(self.cut_off) / self.seen if self.seen else 0.0


def judge_framing(framed: Framed, width: int, height: int, bars: int = 0) -> Kept:
    """Hold the subject against what a picture of this size shows; `bars` are rows covered above and below."""
    track, path = framed.track, framed.path
    if track is None:
        return Kept(0, ())
    sightings = track.confident()
    window = _window(track.aspect, framed.recipe, width / height)
    if window is None:
        return Kept(len(sightings), ())
    axis, shown = window
    if axis == "y":
        shown *= 1 - 2 * bars / height

    def is_cut_off(sighting: Sighting) -> bool:
        middle, half = _along(sighting.subject, axis)
        centre = 0.5 if path is None else path.centre(sighting.time_s)
        inside = min(middle + half, centre + shown / 2) - max(middle - half, centre - shown / 2)
        return inside < LEAST_SHOWN * min(2 * half, shown)

    return Kept(len(sightings), tuple(s for s in sightings if is_cut_off(s)))
