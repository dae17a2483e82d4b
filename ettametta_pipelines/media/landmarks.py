"""Landmarks of a video's picture: what stands out in its frames, where and how large, in a dozen bytes each.

Made to be found again after cuts of the frame, zooms, mirroring, other colours, captions, bars and another pace: these
move or cover single landmarks and leave others. Each is an upright SIFT descriptor (Lowe 2004) reduced to the signs of
64 of its own waves; in a mirrored picture a known half of them turn. Two videos show the same where landmarks agree in
size and place in frames that follow each other on one line of time. `imprint.py` keeps and compares them, together
with `melody.py`'s sound.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Marks = NDArray[np.void]
    Pictures = NDArray[np.uint8]
    Times = NDArray[np.float64]

MOST_FRAMES_A_SECOND = 2
SHORT_SIDE = 216
MAX_FRAMES = 32
PER_FRAME = 36
GRID = 4
# A quarter of what is usual, for soft footage; where there is more to choose from, the choice is the same.
LEAST_CONTRAST = 0.01
PLACE_UNITS = 100
SIZE_UNITS = 16
TIME_UNITS = 8
# One landmark; places in hundredths of the shorter side, size in sixteenths of an octave, time in eighths of a second.
FORM = [("hash", "<u8"), ("x", "u1"), ("y", "u1"), ("size", "u1"), ("time", "<u2")]

# Waves of a descriptor (4 down x 4 across x 8 of direction), steadiest first: measured over blur, noise, scale and
# shift of generated and filmed footage. Their signs turn in 6 to 16 percent of copies and are evenly split.
WAVES = (
    1, 50, 73, 42, 9, 17, 33, 4, 10, 66, 2, 49, 41, 74, 65, 34, 12, 18, 105, 26, 43, 3, 25, 58, 36, 11, 44, 97, 5,
    82, 51, 90, 40, 20, 113, 75, 19, 6, 57, 68, 52, 81, 76, 14, 28, 100, 35, 89, 37, 13, 106, 98, 114, 24, 7, 107,
    84, 38, 67, 8, 77, 69, 27, 54,
)  # fmt: skip
ACROSS_IS_ODD = (False, True, False, True)
DIRECTION_IS_ODD = (False, True, False, False, True, True, False, False)

# Bits two landmarks may differ by: three of four copies are within 10, one stranger in a thousand within 13.
SAME_BITS = 10
SCALE_TOLERANCE = 0.3
PLACE_TOLERANCE = 6.0
# Nearest to the same pace first: of equals the first counts.
PACES = (1.0, 0.95, 1.05, 0.91, 1.1, 0.87, 1.15, 0.83, 1.2, 0.8, 1.25, 0.77, 1.3)
LINE_REACH_S = 0.75
OFF_LINE_S = 2.0
LINES = 6
# Videos that are looked at closely, those with most landmarks in common first.
LOOKED_AT = 40
WORTH_A_LOOK = 4
# Measured on generated and filmed footage: films of different places agree in at most two landmarks, 98 of 100 copies
# in four or more. Films of one room agree in dozens; the share beyond the next best line tells 99 of 100 of them apart.
# A larger one would tell more, and lose copies of what hardly moves.
LEAST_FRAMES, LEAST_MARKS, LEAST_SHARE = 2, 4, 0.2


def frame_rate(duration_s: float) -> float:
    """Frames a second that are looked at: two, fewer where that would be more than 32."""
    return min(MOST_FRAMES_A_SECOND, MAX_FRAMES / max(duration_s, 1.0))


def frame_chain(width: int, height: int, duration_s: float) -> str:
    """ffmpeg's filters for the frames that `landmarks_of` takes."""
    across, down = frame_size(width, height)
    rate = f"fps={frame_rate(duration_s):.6f}:start_time=0:round=up"
    return f"{rate},scale={across}:{down}:flags=area,format=gray"


def frame_size(width: int, height: int) -> tuple[int, int]:
    """Pixels across and down, the shorter side 216."""
    shrink = SHORT_SIDE / min(width, height)
    return max(2, round(width * shrink)), max(2, round(height * shrink))


def landmarks_of(pictures: "Pictures", rate: float) -> "Marks":
    """Landmarks of grey frames (number, down, across), `rate` a second from the beginning."""
    import cv2
    import numpy as np

    finder = cv2.SIFT.create(nOctaveLayers=3, contrastThreshold=LEAST_CONTRAST)
    found = [np.empty(0, FORM)]
    for number, picture in enumerate(pictures[: MAX_FRAMES + 1]):
        spots = _choose(finder.detect(picture, None), pictures.shape[2], pictures.shape[1])
        if not spots:
            continue
        spots, descriptors = finder.compute(picture, spots)
        marks = np.empty(len(spots), FORM)
        marks["hash"] = _hashes(descriptors)
        places = np.array([spot.pt for spot in spots]) * PLACE_UNITS / SHORT_SIDE
        marks["x"], marks["y"] = np.clip(places.round(), 0, 255).T
        sizes = np.log2([spot.size for spot in spots]) * SIZE_UNITS
        marks["size"] = np.clip(sizes.round() + 64, 0, 255)
        marks["time"] = min(round(TIME_UNITS * number / rate), 0xFFFF)
        found.append(marks)
    return np.concatenate(found)


def _choose(spots: Any, width: int, height: int) -> list[Any]:
    """Upright spots, each place once: the strongest of every cell of a grid, then the second of every cell, and so on.

    A line of letters or a busy corner has the strongest by far, and must not stand for the whole frame.
    """
    cells: dict[tuple[int, int], int] = {}
    ranked: dict[tuple[int, int], tuple[int, float, Any]] = {}
    for spot in sorted(spots, key=lambda spot: (-spot.response, spot.pt)):
        x, y = spot.pt
        place = (round(x), round(y))
        if place not in ranked:
            cell = (int(GRID * x / width), int(GRID * y / height))
            cells[cell] = cells.get(cell, 0) + 1
            spot.angle = 0
            ranked[place] = (cells[cell], -spot.response, spot)
    chosen = sorted(ranked.values(), key=lambda one: one[:2])[:PER_FRAME]
    return [spot for _, _, spot in chosen]


def _hashes(descriptors: "NDArray[np.float32]") -> "NDArray[np.uint64]":
    import numpy as np

    total = descriptors.sum(axis=1, keepdims=True)
    even = np.sqrt(descriptors / np.where(total > 0, total, 1))
    signs = even @ _waves().T > 0
    return signs @ (np.uint64(1) << np.arange(64, dtype=np.uint64))


@lru_cache(maxsize=1)
def _waves() -> "NDArray[np.float64]":
    import numpy as np

    walsh = np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, -1, 1], [1, -1, 1, -1]], float)
    turn = np.arange(8) * np.pi / 4
    rounds = [np.ones(8)] + [wave(number * turn) for number in (1, 2, 3) for wave in (np.cos, np.sin)]
    directions = np.array([*rounds, np.cos(4 * turn)])
    every = np.einsum("ai,bj,ck->abcijk", walsh, walsh, directions).reshape(128, 128)
    chosen: NDArray[np.float64] = every[list(WAVES)]
    return chosen


@lru_cache(maxsize=1)
def mirror_mask() -> int:
    """Bits of a hash that turn when the picture is mirrored."""
    odd = [ACROSS_IS_ODD[wave // 8 % 4] != DIRECTION_IS_ODD[wave % 8] for wave in WAVES]
    return sum(1 << place for place, turns in enumerate(odd) if turns)


@dataclass(frozen=True)
class PictureMatch:
    """What of one video another shows: landmarks in agreement and in how many of its frames, on the best line of time.

    `elsewhere` is how many would agree on the best line beside it: nearly as many in one and the same room, whatever
    happens there.
    """

    marks: int = 0
    frames: int = 0
    elsewhere: float = 0.0
    mirrored: bool = False
    pace: float = 1.0

    @property
    def resembles(self) -> bool:
        own = self.marks - self.elsewhere
        return self.frames >= LEAST_FRAMES and own >= LEAST_MARKS and own >= LEAST_SHARE * self.marks


def find_picture(own: "Marks", others: "list[Marks]") -> list[PictureMatch]:
    """How well each of the others shows the same picture; as many answers as others."""
    import numpy as np

    found = [PictureMatch()] * len(others)
    if not len(own) or not others:
        return found
    times = _times(own)
    owner = np.repeat(np.arange(len(others)), [len(other) for other in others])
    index = _Index(np.concatenate([other["hash"] for other in others]))
    for mirrored in (False, True):
        wanted = own["hash"] ^ np.uint64(mirror_mask() if mirrored else 0)
        likely = np.bincount(owner[index.near(wanted)], minlength=len(others))
        for place in np.argsort(-likely, kind="stable")[:LOOKED_AT]:
            if likely[place] < WORTH_A_LOOK:
                break
            other = others[place]
            one, two = _alike(wanted, other["hash"])
            match = line_up(own[one], other[two], times, _times(other), mirrored=mirrored)
            if match.marks > found[place].marks:
                found[place] = match
    return found


def _times(marks: "Marks") -> "Times":
    import numpy as np

    times: Times = np.unique(marks["time"]) / TIME_UNITS
    return times


class _Index:
    """Hashes by each of their quarters, to find near ones without looking at all: most that differ in few bits have a
    quarter that differs in one at most.
    """

    def __init__(self, hashes: "NDArray[np.uint64]") -> None:
        import numpy as np

        self.hashes = hashes
        quarters = [((hashes >> np.uint64(16 * n)) & np.uint64(0xFFFF)).astype(np.uint16) for n in range(4)]
        self.orders = [np.argsort(quarter, kind="stable") for quarter in quarters]
        self.starts = [
            np.concatenate([[0], np.cumsum(np.bincount(quarter, minlength=1 << 16))]) for quarter in quarters
        ]

    def near(self, wanted: "NDArray[np.uint64]") -> "NDArray[np.intp]":
        """Places of hashes near a wanted one, as often as they were found."""
        import numpy as np

        flips = np.array([0, *(1 << bit for bit in range(16))], np.uint64)
        found = []
        for number, (order, starts) in enumerate(zip(self.orders, self.starts, strict=True)):
            probes = ((wanted >> np.uint64(16 * number)) & np.uint64(0xFFFF))[:, None] ^ flips
            first = starts[probes].ravel()
            counts = starts[probes + np.uint64(1)].ravel() - first
            asked = np.repeat(np.repeat(wanted, len(flips)), counts)
            begun = np.repeat(np.cumsum(counts) - counts, counts)
            places = order[np.repeat(first, counts) + np.arange(counts.sum()) - begun]
            found.append(places[np.bitwise_count(self.hashes[places] ^ asked) <= SAME_BITS])
        return np.concatenate(found)


def _alike(
    wanted: "NDArray[np.uint64]", known: "NDArray[np.uint64]"
) -> "tuple[NDArray[np.intp], NDArray[np.intp]]":
    """All pairs of hashes that are near, as places in the one and in the other."""
    import numpy as np

    return np.nonzero(np.bitwise_count(wanted[:, None] ^ known) <= SAME_BITS)  # type: ignore[return-value]


def line_up(own: "Marks", other: "Marks", times: "Times", known: "Times", *, mirrored: bool) -> PictureMatch:
    """How well pairs of landmarks, row by row of the same length, agree in size, place and time.

    `times` and `known` are the seconds of all frames of the one and the other video.
    """
    import numpy as np

    agreed = _agreed_frames(own, other, mirrored)
    if not agreed:
        return PictureMatch(mirrored=mirrored)
    at, then = np.array(list(agreed)).T / TIME_UNITS
    counts = np.array(list(agreed.values()))
    gap = float(np.median(np.diff(known))) if len(known) > 1 else 0.0
    reach = max(LINE_REACH_S, 0.6 * gap)

    def on_line(pace: float, offset: float) -> tuple[int, int, int]:
        """Landmarks and frames that agree near a line, and frames that could."""
        near = np.abs(then - pace * at - offset) <= reach
        there = pace * times + offset
        possible = int(((there >= known[0] - reach) & (there <= known[-1] + reach)).sum())
        return *_best_a_frame(at[near], counts[near]), possible

    lines = [(on_line(pace, offset), pace, offset) for pace, offset in _likely_lines(at, then, counts, reach)]
    (marks, frames, possible), pace, offset = max(lines, key=lambda line: line[0][0])
    elsewhere = 0.0
    for shift in np.arange(OFF_LINE_S, known[-1] - known[0], reach):
        for other_offset in (offset - shift, offset + shift):
            off_marks, _, could = on_line(pace, other_offset)
            if could >= LEAST_FRAMES and 2 * could >= possible:
                elsewhere = max(elsewhere, off_marks / could * possible)
    return PictureMatch(marks, frames, elsewhere, mirrored, pace)


def _likely_lines(
    at: "Times", then: "Times", counts: "NDArray[np.int64]", reach: float
) -> list[tuple[float, float]]:
    """Pace and offset of the lines of time with most agreement near them."""
    import numpy as np

    lines = []
    for pace in PACES:
        places = np.round((then - pace * at) / reach).astype(int)
        low = int(places.min())
        votes = np.convolve(np.bincount(places - low, counts), (0.5, 1, 0.5), "same")
        place = int(votes.argmax())
        lines.append((float(votes[place]), pace, (place + low) * reach))
    lines.sort(key=lambda line: -line[0])
    return [(pace, offset) for _, pace, offset in lines[:LINES]]


def _agreed_frames(own: "Marks", other: "Marks", mirrored: bool) -> dict[tuple[int, int], int]:
    """Landmarks of one size and shift, by pair of frames; pairs with only one are chance and left out."""
    import numpy as np

    if not len(own):
        return {}
    sizes = (own["size"].astype(int) - other["size"]) / SIZE_UNITS
    fitting = np.abs(sizes - _most(sizes, SCALE_TOLERANCE)) <= SCALE_TOLERANCE
    if not fitting.any():
        return {}
    own, other = own[fitting], other[fitting]
    grown = (-1 if mirrored else 1) * 2 ** np.median(sizes[fitting])
    across = own["x"] - grown * other["x"]
    down = own["y"] - abs(grown) * other["y"]
    agreed = {}
    pairs = own["time"].astype(np.int64) << 16 | other["time"]
    order = np.argsort(pairs, kind="stable")
    values, starts = np.unique(pairs[order], return_index=True)
    for pair, rows in zip(values, np.split(order, starts[1:]), strict=True):
        count = _together(across[rows], down[rows], own[rows], other[rows]) if len(rows) > 1 else 0
        if count > 1:
            agreed[int(pair) >> 16, int(pair) & 0xFFFF] = count
    return agreed


def _best_a_frame(at: "Times", counts: "NDArray[np.int64]") -> tuple[int, int]:
    """Sum over frames of the best pair of each, and how many frames."""
    import numpy as np

    order = np.lexsort((-counts, at))
    frames, first = np.unique(at[order], return_index=True)
    return int(counts[order][first].sum()), len(frames)


def _most(values: "NDArray[np.float64]", width: float) -> float:
    """Where most values lie within `width`."""
    import numpy as np

    if not len(values):
        return 0.0
    middles = np.arange(-3, 3.01, width / 2)
    counts = [(np.abs(values - middle) <= width).sum() for middle in middles]
    return float(middles[int(np.argmax(counts))])


def _together(across: Any, down: Any, own: "Marks", other: "Marks") -> int:
    """Landmarks of one pair of frames that are shifted alike, each counted once on either side."""
    import numpy as np

    alike = (np.abs(across[:, None] - across) <= PLACE_TOLERANCE) & (
        np.abs(down[:, None] - down) <= PLACE_TOLERANCE
    )
    rows = np.nonzero(alike[int(alike.sum(axis=1).argmax())])[0]
    return min(len({(mark["x"], mark["y"], mark["size"]) for mark in side[rows]}) for side in (own, other))
