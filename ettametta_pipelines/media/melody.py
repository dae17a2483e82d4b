"""The course of a video's sound: which of 26 bands of pitch rise and fall when, in a hundred bytes a second.

Made to be found again at another loudness, bit rate and pace, whether or not the pitch went along, and under other
sound laid over it. Two sounds are the same where their courses correlate along one line of time. `imprint.py` keeps
and compares them, together with `landmarks.py`'s picture.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Course = NDArray[np.int8]
    Floats = NDArray[np.float32]

SAMPLE_RATE = 8000
RATE = 5
WINDOW = 2048
BANDS_PER_OCTAVE = 6
LOWEST_HZ = 140.0
BANDS = 26
MAX_S = 90
SOUND_CHAIN = f"aresample={SAMPLE_RATE},aformat=sample_fmts=s16:channel_layouts=mono"
# Above and below its surroundings, in sixteenths of the natural logarithm of power.
STEP = 16
AROUND_S = 3.0
QUIET = 1e-7

PIECE_S = 8.0
SHORTEST_S = 4.0
PACES = tuple(0.78 * 1.025**number for number in range(21))
LOOKED_AT_ONCE = 128
FOLLOWED_S = 3
LEAST_LIKENESS, LEAST_SHARE, FOLLOWS = 0.45, 0.5, 0.45


def course_of(samples: "NDArray[np.int16]") -> "Course":
    """The course of mono sound at 8 kHz, shape (fifths of a second, 26); zeros where it is silent."""
    import numpy as np

    hop = SAMPLE_RATE // RATE
    sound = samples[: MAX_S * SAMPLE_RATE].astype(np.float32) / 32768
    count = len(sound) // hop
    if count < 2:
        return np.zeros((0, BANDS), np.int8)
    padded = np.pad(sound, (WINDOW // 2, WINDOW))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[: count * hop : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(WINDOW).astype(np.float32), axis=1)) ** 2 / WINDOW
    bands = power @ _filters().T
    loud = bands.sum(axis=1) > QUIET * BANDS
    levels = np.log(bands + QUIET)
    # Each frame beside its own mean: loudness falls out. Each band beside its time: timbre and hum do.
    levels -= levels.mean(axis=1, keepdims=True)
    levels -= _smoothed(levels, round(AROUND_S * RATE))
    levels[~loud] = 0
    return np.clip(np.round(levels * STEP), -127, 127).astype(np.int8)


def _smoothed(levels: "Floats", width: int) -> "Floats":
    import numpy as np

    total = np.cumsum(np.pad(levels, ((1, 0), (0, 0))), axis=0)
    places = np.arange(len(levels))
    first, last = np.maximum(0, places - width // 2), np.minimum(len(levels), places + width // 2 + 1)
    means: Floats = (total[last] - total[first]) / (last - first)[:, None]
    return means


@lru_cache(maxsize=1)
def _filters() -> "Floats":
    """Triangles over the bins of the spectrum, each reaching to the middle of its neighbours."""
    import numpy as np

    bins = np.fft.rfftfreq(WINDOW, 1 / SAMPLE_RATE)
    places = BANDS_PER_OCTAVE * np.log2(np.maximum(bins, 1) / LOWEST_HZ)
    heights: Floats = np.maximum(0, 1 - np.abs(places - np.arange(BANDS)[:, None])).astype(np.float32)
    return heights


@dataclass(frozen=True)
class SoundMatch:
    """How far one sound follows another: mean correlation, share of its pieces that follow, and the pace."""

    likeness: float = 0.0
    share: float = 0.0
    pace: float = 1.0

    @property
    def resembles(self) -> bool:
        return self.likeness >= LEAST_LIKENESS and self.share >= LEAST_SHARE


def find_sound(own: "Course", others: "list[Course]") -> list[SoundMatch]:
    """How well each of the others holds the same sound; as many answers as others, a likeness of 0 for none."""
    found = [SoundMatch()] * len(others)
    wanted = _pieces(own)
    usable = [place for place, other in enumerate(others) if len(other) >= SHORTEST_S * RATE]
    if not wanted or not usable:
        return found
    # Similar lengths together: the transform is as long as the longest.
    usable.sort(key=lambda place: len(others[place]))
    for start in range(0, len(usable), LOOKED_AT_ONCE):
        places = usable[start : start + LOOKED_AT_ONCE]
        for place, match in zip(places, _best(own, wanted, [others[p] for p in places]), strict=True):
            found[place] = match
    return found


def _pieces(own: "Course") -> list[tuple[int, int]]:
    """The two pieces of about eight seconds with most in them, or the whole where it is short."""
    import numpy as np

    length = round(PIECE_S * RATE)
    if len(own) < SHORTEST_S * RATE or not own.any():
        return []
    if len(own) <= length:
        return [(0, len(own))]
    energy = np.cumsum(np.pad((own.astype(np.float32) ** 2).sum(axis=1), (1, 0)))
    half = max(1, (len(own) - length) // 2)
    first = int(np.argmax(energy[length : length + half] - energy[:half]))
    rest = energy[half + length :] - energy[half : len(own) + 1 - length]
    return [(first, first + length), (half + int(np.argmax(rest)), half + int(np.argmax(rest)) + length)]


def _best(own: "Course", wanted: list[tuple[int, int]], others: "list[Course]") -> list[SoundMatch]:
    import numpy as np
    import scipy.fft

    templates = [
        (begin, pace, bent, _template(own[begin:end], pace, bent))
        for begin, end in wanted
        for pace in PACES
        for bent in (False, True)
    ]
    longest = max(len(other) for other in others)
    reach = max(len(one[3]) for one in templates)
    size = scipy.fft.next_fast_len(longest + reach, real=True)
    stacked = np.zeros((len(others), size, BANDS), np.float32)
    for place, other in enumerate(others):
        stacked[place, : len(other)] = other
    known = scipy.fft.rfft(stacked, axis=1)
    cut = np.zeros((len(templates), size, BANDS), np.float32)
    for place, (_, _, _, template) in enumerate(templates):
        cut[place, : len(template)] = template
    asked = scipy.fft.rfft(cut, axis=1).conj()
    # Not matmul: many small products in a multi-threaded BLAS take a hundred times as long on a crowded machine.
    product = np.einsum("tfb,ofb->fto", asked, known, optimize=False)
    matched = scipy.fft.irfft(product, n=size, axis=0)[:longest]
    energy = np.cumsum(np.pad((stacked**2).sum(axis=2), ((0, 0), (1, 0))), axis=1)
    best_at = np.zeros(len(others), int)
    best_offset, best = np.zeros(len(others), int), np.zeros(len(others))
    for place, (_, _, _, template) in enumerate(templates):
        length = len(template)
        ends = np.minimum(np.arange(longest) + length, size)
        heard = (energy[:, ends] - energy[:, :longest]).T
        norm = np.sqrt(np.maximum(heard, 0.25 * heard.max(axis=0) + 1)) * (np.linalg.norm(template) + 1e-6)
        likeness = matched[:, place] / norm
        peak = likeness.argmax(axis=0)
        value = likeness[peak, np.arange(len(others))]
        better = value > best
        best_at[better], best_offset[better], best[better] = place, peak[better], value[better]
    return [
        _followed(own, other, templates[best_at[n]][:3], int(best_offset[n]), float(best[n]))
        for n, other in enumerate(others)
    ]


def _template(piece: "Course", pace: float, bent: bool) -> "Floats":
    """The piece as it would sound in the other: `pace` times as long; where the pitch went along, shifted back."""
    import numpy as np

    length = max(2, round(len(piece) * pace))
    times = np.linspace(0, len(piece) - 1, length)
    low = np.minimum(times.astype(int), len(piece) - 2)
    part = (times - low)[:, None].astype(np.float32)
    stretched: Floats = piece[low] * (1 - part) + piece[low + 1] * part
    if not bent:
        return stretched
    shift = BANDS_PER_OCTAVE * np.log2(pace)
    bands = np.arange(BANDS)
    rows = [np.interp(bands + shift, bands, row, left=0, right=0) for row in stretched]
    return np.array(rows, np.float32)


def _followed(
    own: "Course", other: "Course", how: tuple[int, float, bool], offset: int, likeness: float
) -> SoundMatch:
    """The best piece's line of time, held against the whole: three seconds at a time, a little to either side."""
    import numpy as np

    begin, pace, bent = how
    if likeness < 0.3:
        return SoundMatch(likeness, pace=pace)
    whole = _template(own, pace, bent)
    start = offset - round(begin * pace)
    step = FOLLOWED_S * RATE
    values = []
    for at in range(0, len(whole) - step + 1, step):
        piece = whole[at : at + step]
        if not piece.any():
            continue
        scores = [0.0]
        for wiggle in range(-3, 4):
            there = start + at + wiggle
            if there >= 0 and there + step <= len(other):
                known = other[there : there + step].astype(np.float32)
                scores.append(
                    float((piece * known).sum() / (np.linalg.norm(piece) * np.linalg.norm(known) + 1e-6))
                )
        values.append(max(scores))
    if not values:
        return SoundMatch(likeness, pace=pace)
    return SoundMatch(float(np.mean(values)), float(np.mean([value > FOLLOWS for value in values])), pace)
