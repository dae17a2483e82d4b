"""The formats and how their sound is encoded, as data: one row per screen shape. Video encoders are in `encoders.py`.

A change here changes the render key of what it touches. Nothing is computed from footage here except the frame
rate, which is a property of the output.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

from ettametta_pipelines.failures import PermanentError


@dataclass(frozen=True)
class Format:
    """One output shape. `folder` is its name in object keys."""

    name: str
    width: int
    height: int
    purpose: str

    @property
    def aspect(self) -> Fraction:
        return Fraction(self.width, self.height)

    def as_dict(self) -> dict[str, Any]:
        """What decides the bytes."""
        return {"width": self.width, "height": self.height}


FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format("9x16", 1080, 1920, "Shorts, TikTok, Reels"),
        Format("16x9", 1920, 1080, "YouTube, web"),
        Format("1x1", 1080, 1080, "feeds"),
    )
}


@dataclass(frozen=True)
class Sound:
    """Loudness target and AAC settings. The limiter stops at -2 dB since AAC overshoots by about one."""

    target_lufs: float = -14.0
    ceiling_db: float = -2.0
    max_peak_dbtp: float = -1.2
    max_gain_db: float = 20.0
    kbps: int = 160
    sample_rate: int = 48_000
    channels: int = 2

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


SOUND = Sound()

# Rates every platform takes.
OUTPUT_RATES = tuple(
    Fraction(*pair)
    for pair in (
        (24000, 1001),
        (24, 1),
        (25, 1),
        (30000, 1001),
        (30, 1),
        (48, 1),
        (50, 1),
        (60000, 1001),
        (60, 1),
    )
)
# Timestamps in milliseconds put a one-second clip a thousandth off; the rates themselves lie as close as that.
RATE_TOLERANCE = 0.002


def output_rate(fps: float, *, variable: bool) -> Fraction:
    """Constant frame rate of the outputs, 23.976 to 60.

    A steady source keeps its rate, or goes to a multiple (slow) or an integer part (fast) of it, so that motion stays
    even; an uneven source gets the next round rate above its mean.
    """
    if not variable:
        ratios = ((known, max(float(known) / fps, fps / float(known))) for known in OUTPUT_RATES)
        fitting = [
            (round(ratio), abs(ratio / round(ratio) - 1), known)
            for known, ratio in ratios
            if abs(ratio / round(ratio) - 1) < RATE_TOLERANCE
        ]
        if fitting:
            return min(fitting)[2]
    even = (known for known in OUTPUT_RATES if known.denominator == 1 and float(known) >= fps * 0.999)
    return next(even, OUTPUT_RATES[-1])


def choose_formats(names: Iterable[str]) -> list[Format]:
    """Formats by name, in the order of the table and each once; raises PermanentError `unknown_format`."""
    wanted = {name.strip() for name in names}
    unknown = sorted(wanted - FORMATS.keys())
    if unknown or not wanted:
        raise PermanentError(
            f"{', '.join(map(repr, unknown)) or 'An empty list'} names no format.",
            code="unknown_format",
            remedy=f"Use any of {', '.join(FORMATS)}.",
        )
    return [row for row in FORMATS.values() if row.name in wanted]
