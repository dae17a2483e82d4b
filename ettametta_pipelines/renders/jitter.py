"""Dynamic jitter: a handheld sway of the picture, the same in every format, as expressions for ffmpeg's crop.

`graph.py` scales the picture a margin larger than the format and lets this motion choose which part is seen. Moving
after the scale rather than before makes the step one pixel of the output whatever the source's size.
"""

import math
import random
from dataclasses import dataclass

from ettametta_pipelines.renders.recipe import Jitter

# Weights of an axis's sines, slow to fast; they sum to 1, so that the sway never exceeds the recipe's strength.
WEIGHTS = (0.4, 0.3, 0.2, 0.1)
# The slowest sine as a share of the fastest.
SLOWEST = 0.2


@dataclass(frozen=True)
class Sway:
    """Motion along one axis: (weight, Hz, phase) of each sine."""

    sines: tuple[tuple[float, float, float], ...]

    def offset(self, seconds: float) -> float:
        """-1 to 1."""
        return sum(
            weight * math.sin(math.tau * hertz * seconds + phase) for weight, hertz, phase in self.sines
        )

    def expression(self, margin: int, reach: float) -> str:
        """Pixels from the edge at time `t`; always within 0 and twice the margin."""
        terms = "+".join(
            f"{weight * reach:.6f}*sin({math.tau * hertz:.9f}*t+{phase:.9f})"
            for weight, hertz, phase in self.sines
        )
        return f"round({margin}+{terms})"


def sway(jitter: Jitter, seed: int) -> tuple[Sway, Sway]:
    """Across and down, from the seed; no frequency above the recipe's."""
    rng = random.Random(f"jitter {seed}")
    return _axis(jitter, rng), _axis(jitter, rng)


def _axis(jitter: Jitter, rng: random.Random) -> Sway:
    # Each sine has a band of its own: two of nearly the same frequency would beat, and stand still in between.
    width = (1 - SLOWEST) / len(WEIGHTS)
    bands = [SLOWEST + width * place for place in range(len(WEIGHTS))]
    return Sway(
        tuple(
            (weight, jitter.hertz * rng.uniform(low, low + width), rng.uniform(0, math.tau))
            for weight, low in zip(WEIGHTS, bands, strict=True)
        )
    )


def reach(jitter: Jitter, width: int, height: int) -> float:
    """Farthest way from the centre in pixels of a picture of this size, the same both ways."""
    return jitter.strength * min(width, height)


def margin(jitter: Jitter, width: int, height: int) -> int:
    """Pixels the picture needs beyond each edge, so that no way leads out of it."""
    return math.ceil(reach(jitter, width, height))
