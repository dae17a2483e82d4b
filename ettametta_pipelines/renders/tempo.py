"""The speed ramp's curve and the time map it makes: where each moment of the source lands in the rendition.

Picture (`graph.py`), sound (`sound.py`), expected length (`engine.py`, `library.py`) and anything that stands at a
moment of the source, such as a caption, ask the same map. What is not ramped has the identity.
"""

import math
import random
from dataclasses import dataclass

from ettametta_pipelines.renders.recipe import Recipe

# How the whole departure is shared among the waves, and how long each is beside the recipe's period. Lengths without
# a common multiple never repeat the same swell.
WAVES = ((0.55, 1.0), (0.3, 0.618), (0.15, 0.414))
# Sound follows in steps this short; the curve changes by less than 0.5 % within one.
SOUND_STEP_S = 0.125


@dataclass(frozen=True)
class Wave:
    """One sine of the curve: its height, in output seconds per source second, frequency in Hz, phase in radians."""

    amplitude: float
    frequency: float
    phase: float


@dataclass(frozen=True)
class TimeMap:
    """Source seconds to output seconds and back; strictly rising, 0 stays 0.

    What varies is the stretch, output seconds per source second, as a sum of sines: its integral is exact and as
    long an expression for three hours as for three seconds.
    """

    mean_stretch: float = 1.0
    waves: tuple[Wave, ...] = ()

    @property
    def is_identity(self) -> bool:
        return not self.waves and self.mean_stretch == 1.0

    def speed(self, source_s: float) -> float:
        """How fast the source runs there: 1.05 is five percent faster."""
        swing = (w.amplitude * math.sin(math.tau * w.frequency * source_s + w.phase) for w in self.waves)
        return 1 / (self.mean_stretch + sum(swing))

    def output_time(self, source_s: float) -> float:
        """When a moment of the source is seen and heard."""
        return self.mean_stretch * source_s + sum(
            w.amplitude
            / (math.tau * w.frequency)
            * (math.cos(w.phase) - math.cos(math.tau * w.frequency * source_s + w.phase))
            for w in self.waves
        )

    def source_time(self, output_s: float) -> float:
        """The moment of the source seen at this time of the rendition, to a microsecond."""
        source_s = output_s / self.mean_stretch
        # Newton's steps: the slope lies within 6 % of 1, so a handful reaches the limit of floats.
        for _ in range(8):
            source_s += (output_s - self.output_time(source_s)) * self.speed(source_s)
        return source_s

    def expression(self, seconds: str) -> str:
        """`output_time` as an ffmpeg expression of a variable."""
        terms = [f"{self.mean_stretch:.12g}*{seconds}"]
        for w in self.waves:
            turn = math.tau * w.frequency
            shift = w.amplitude / turn
            terms.append(f"{shift:.12g}*({math.cos(w.phase):.12g}-cos({turn:.12g}*{seconds}+{w.phase:.12g}))")
        return "+".join(terms)

    def tempo_commands(self, source_duration_s: float) -> str:
        """A script for asendcmd that has `rubberband` follow the map: each step gets its mean speed."""
        lines = []
        for step in range(math.ceil((source_duration_s + 1) / SOUND_STEP_S)):
            begin, end = step * SOUND_STEP_S, (step + 1) * SOUND_STEP_S
            tempo = SOUND_STEP_S / (self.output_time(end) - self.output_time(begin))
            lines.append(f"{begin:.3f} rubberband tempo {tempo:.9f};\n")
        return "".join(lines)


def time_map(recipe: Recipe, seed: int) -> TimeMap:
    """The map of a recipe: the curve's phases come from the seed, its speeds stay within 1 ± strength."""
    ramp = recipe.speed_ramp
    if ramp is None:
        return TimeMap()
    rng = random.Random(f"speed ramp {seed}")
    slowest, fastest = 1 / (1 - ramp.strength), 1 / (1 + ramp.strength)
    swing = (slowest - fastest) / 2
    waves = tuple(
        Wave(swing * share, 1 / (ramp.period_s * length), rng.uniform(0, math.tau)) for share, length in WAVES
    )
    return TimeMap((slowest + fastest) / 2, waves)


def rendered_duration(recipe: Recipe, seed: int, source_duration_s: float) -> float:
    """Seconds a rendition of this recipe must last."""
    return time_map(recipe, seed).output_time(source_duration_s)
