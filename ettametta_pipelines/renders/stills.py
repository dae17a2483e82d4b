"""Stills: single frames of a video as numpy planes at half size, as `playback.py` and `fidelity.py` take them.

Only how they are chosen, written and read back; what they show is judged by `fidelity.py` and `caption_check.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]

# Half of every side: a quarter of the bytes, and every stroke of a caption is still two pixels wide.
SHRINK = 2
STILL_CHAIN = f"scale=iw/{SHRINK}:ih/{SHRINK}:flags=area+accurate_rnd+bitexact,format=yuv420p"


@dataclass(frozen=True)
class Still:
    """Planes of one frame in yuv420p of limited range; `luma` has half the frame's sides, chroma a quarter."""

    luma: "Plane"
    blue: "Plane"
    red: "Plane"


Stills = Mapping[int, Still]


def chosen(numbers: Sequence[int]) -> str:
    """The frames of these numbers, in ffmpeg's terms: one range for each run of neighbours."""
    runs = [
        [number for _, number in run]
        for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0])
    ]
    return "+".join(f"between(n,{run[0]},{run[-1]})" for run in runs)


def read_stills(path: Path, numbers: Sequence[int], width: int, height: int) -> dict[int, Still]:
    """Stills of a raw file in the order of `numbers`, fewer where the file ends; width and height are the frames'."""
    import numpy as np

    across, down = width // SHRINK, height // SHRINK
    small = ((across + 1) // 2, (down + 1) // 2)
    sizes = (across * down, small[0] * small[1], small[0] * small[1])
    data = np.fromfile(path, np.uint8)
    found = {}
    for place, number in enumerate(numbers[: len(data) // sum(sizes)]):
        luma, blue, red, _ = np.split(data[place * sum(sizes) :], np.cumsum(sizes))
        found[number] = Still(luma.reshape(down, across), blue.reshape(small[::-1]), red.reshape(small[::-1]))
    return found
