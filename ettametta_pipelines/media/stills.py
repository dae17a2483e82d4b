"""How good each of a video's frames would be as its picture: how sharp it is, how evenly lit.

Measured on small grey frames, by the analysis as it looks at the footage anyway, or by `renders/thumbnails.py` where an
older analysis has not; the choice among them is made there.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_RATE = 8
MAX_FRAMES = 600


@dataclass(frozen=True)
class Candidate:
    """A scored frame. Sharpness is the variance of the Laplacian of 8-bit brightness, exposure 0..1."""

    time_s: float
    sharpness: float
    exposure: float


def looks_per_s(duration_s: float) -> Fraction:
    """Eight a second, less for a video that would have more than 600."""
    return min(Fraction(MAX_RATE), Fraction(1000 * MAX_FRAMES, max(1, round(1000 * duration_s))))


@dataclass
class StillScorer:
    """Scores some of the frames of a constant `rate`, as many as `looks_per_s` says."""

    rate: Fraction
    duration_s: float
    candidates: list[Candidate] = field(default_factory=list)

    def look(self, frame: int, luma: "NDArray[np.uint8]") -> None:
        """`luma` is the frame's brightness in limited range, 16 black to 235 white."""
        import numpy as np

        if frame * looks_per_s(self.duration_s) < len(self.candidates) * self.rate:
            return
        full = np.clip((luma.astype(np.float32) - 16) * (255 / 219), 0, 255).astype(np.uint8)
        # A constant rate shows the frame nearest in time. A quarter on, the last frame before is that one also where
        # the source has more frames or fewer.
        time_s = float((frame + Fraction(1, 4)) / self.rate)
        self.candidates.append(Candidate(time_s, sharpness_of(full), exposure_of(full)))


def as_words(candidates: Iterable[Candidate]) -> list[str]:
    """For a table's column: `time sharpness exposure` of each."""
    return [f"{one.time_s:.3f} {one.sharpness:.1f} {one.exposure:.4f}" for one in candidates]


def from_words(words: Iterable[str] | None) -> list[Candidate]:
    """What `as_words` wrote; nothing of an analysis that is older than the column."""
    return [Candidate(*map(float, one.split())) for one in (words if words is not None else ())]


def sharpness_of(luma: "NDArray[np.uint8]") -> float:
    """Variance of the Laplacian: small where edges are soft, from lack of focus, motion or darkness."""
    return float(_laplacian(luma).var())


def _laplacian(luma: "NDArray[np.uint8]") -> "NDArray[np.int32]":
    import numpy as np

    values = luma.astype(np.int32)
    inner = values[1:-1, 1:-1]
    return values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * inner


def exposure_of(luma: "NDArray[np.uint8]") -> float:
    """1 for a mean in the middle with nothing clipped, falling to 0 for all black or all white."""
    import numpy as np

    mean = float(luma.mean()) / 255
    clipped = float(np.mean((luma <= 8) | (luma >= 247)))
    return max(0.0, 1 - 2 * abs(mean - 0.5)) * (1 - clipped)
