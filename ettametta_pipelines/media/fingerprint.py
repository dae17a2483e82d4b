"""The perceptual fingerprint: what a video shows, in 64 bits for every half second, and how far two videos are apart.

Each sample is the sign pattern of the picture's lowest frequencies (a DCT hash), so that size, bit rate and colour
hardly move it and framing does. `analysis.py` makes one of every source, `renders/playback.py` of every rendition. It
tells a person what resembles what; it decides nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Samples = NDArray[np.uint64]
    Pictures = NDArray[np.uint8]

RATE = 2
SIDE = 32
THUMB_BYTES = SIDE * SIDE
# Rounded up, a sample is the frame shown at its time, whatever the frame rate.
THUMB_CHAIN = f"fps={RATE}:start_time=0:round=up,scale={SIDE}:{SIDE}:flags=area,format=gray"
BITS = 64
LOW = 8
# Below this spread of brightness (0 to 255) a picture shows nothing: its signs would be noise.
BLANK_SPREAD = 1.5
BLANK = 0

# Samples of a digest, evenly spaced: enough to find candidates by, short enough for an object's name.
DIGEST_SAMPLES = 8
# Measured on the clips at hand: copies at other sizes, bit rates and frame rates stay within 5 bits, other footage
# starts at 19.
SAME_PICTURE_BITS = 9.0


@dataclass(frozen=True)
class Distance:
    """Median of differing bits, 0 to 64 (about 32 for pictures that have nothing to do with each other)."""

    bits: float
    mirrored: bool
    compared: int

    @property
    def resembles(self) -> bool:
        return self.compared > 0 and self.bits <= SAME_PICTURE_BITS


class Sampler:
    """Collects thumbs from luma planes of a steady `rate`, for who decodes small frames anyway."""

    def __init__(self, rate: Fraction) -> None:
        self.rate = rate
        self.thumbs = bytearray()

    def look_at(self, number: int, luma: "Pictures") -> None:
        """Takes the frame of this number (from 0) where a sample is due; every number must come, in order."""
        if number == int(len(self.thumbs) // THUMB_BYTES * self.rate / RATE):
            from PIL import Image

            small = Image.fromarray(luma).resize((SIDE, SIDE), Image.Resampling.BOX)
            self.thumbs += small.tobytes()


def samples_of(thumbs: bytes) -> "Samples":
    """Hashes of grey pictures of 32x32, one after another, as `THUMB_CHAIN` gives them; 0 for a blank one."""
    import numpy as np

    pictures = np.frombuffer(thumbs, np.uint8).reshape(-1, SIDE, SIDE).astype(np.float64)
    waves = _waves()
    low = waves @ pictures @ waves.T
    signs = (low > 0).reshape(-1, BITS)
    # The first coefficient is the mean brightness. Its bit is always set, so that no hash is mistaken for a blank.
    signs[:, 0] = True
    hashes = signs @ (np.uint64(1) << np.arange(BITS, dtype=np.uint64))
    return np.where(pictures.std(axis=(1, 2)) < BLANK_SPREAD, np.uint64(BLANK), hashes)


@lru_cache(maxsize=1)
def _waves() -> "NDArray[np.float64]":
    """The first eight cosines of a DCT over 32 samples; rows are frequencies."""
    import numpy as np

    return np.cos(np.pi * np.outer(np.arange(LOW), np.arange(SIDE) + 0.5) / SIDE)


@lru_cache(maxsize=1)
def _odd_columns() -> int:
    """Bits whose sign turns when a picture is mirrored: the odd horizontal frequencies."""
    return sum(1 << (row * LOW + column) for row in range(LOW) for column in range(1, LOW, 2))


def distance(one: "Samples", other: "Samples") -> Distance:
    """How far two fingerprints are apart, sample by sample from the start; the nearer of as it is and mirrored.

    Blank samples say nothing and are passed over; what is longer in one of them, too.
    """
    import numpy as np

    length = min(len(one), len(other))
    one, other = one[:length], other[:length]
    telling = (one != BLANK) & (other != BLANK)
    if not telling.any():
        return Distance(float(BITS), False, 0)
    differing = one[telling] ^ other[telling]
    plain = float(np.median(np.bitwise_count(differing)))
    turned = float(np.median(np.bitwise_count(differing ^ np.uint64(_odd_columns()))))
    return Distance(min(plain, turned), turned < plain, int(telling.sum()))


def distance_to(source: bytes, source_time: Callable[[float], float]) -> Callable[[bytes], Distance]:
    """How far a rendition's thumbs are from the stored fingerprint of its source.

    `source_time` takes seconds of the rendition to seconds of the source.
    """

    def measure(thumbs: bytes) -> Distance:
        shown, known = samples_of(thumbs), from_bytes(source)
        places = [round(source_time(number / RATE) * RATE) for number in range(len(shown))]
        kept = [number for number, place in enumerate(places) if place < len(known)]
        return distance(shown[kept], known[[places[number] for number in kept]])

    return measure


def to_bytes(samples: "Samples") -> bytes:
    """The form that is stored: eight bytes a sample, the first byte the lowest frequencies."""
    return samples.astype("<u8").tobytes()


def from_bytes(data: bytes) -> "Samples":
    import numpy as np

    return np.frombuffer(data, "<u8").astype(np.uint64)


def digest(samples: "Samples") -> str:
    """Eight samples at the middles of eight equal parts, as 128 hex digits; zeros where there are none."""
    import numpy as np

    if not len(samples):
        return "0" * (DIGEST_SAMPLES * BITS // 4)
    places = ((np.arange(DIGEST_SAMPLES) + 0.5) * len(samples) / DIGEST_SAMPLES).astype(int)
    return "".join(f"{int(sample):016x}" for sample in samples[places])


def from_digest(text: str) -> "Samples":
    """The samples of a digest; raises ValueError when it is none."""
    import numpy as np

    if len(text) != DIGEST_SAMPLES * BITS // 4:
        raise ValueError("a digest has 128 hex digits")
    return np.array([int(text[at : at + 16], 16) for at in range(0, len(text), 16)], np.uint64)
