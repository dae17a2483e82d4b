"""Judging pictures from their pixels alone: contrast, colourfulness, sharpness, faces; of own media motion and cuts.

The local stand-in for a vision model, used only where the run's configuration asks for it; its measures stand beside
every judgement. It knows nothing of hooks, subjects or safety, and says so by leaving them empty. The same pixels give
the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from ettametta_pipelines.failures import PermanentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL.Image import Image

    Pixels = NDArray[np.float64]

PROVIDER = "heuristics"
MODEL = "pixels-2"
UNREADABLE = "picture_unreadable"

WIDTH = 320
MAX_PIXELS = 40_000_000
# A strip of a few pixels' width would grow to gigabytes at the one width.
MAX_HEIGHT = 8 * WIDTH

# Value at which each measure counts as half of what is possible: x / (x + half) rises for ever and never
# saturates. Set at what ordinary phone footage shows, on a 0..255 scale.
HALF_CONTRAST = 50.0
HALF_COLOURFULNESS = 40.0
HALF_SHARPNESS = 300.0

# Mean shot length in seconds up to which footage counts as cut fast, and from which as slow. Feature films of today
# have shots of about 4 s (Cutting, DeLong and Nothelfer 2010), which lies between.
FAST_SHOT_S = 2.0
SLOW_SHOT_S = 6.0


@dataclass(frozen=True)
class PixelFacts:
    """Measures of a picture, or their means over several; `faces` are counted on the one that shows most of them."""

    contrast: float
    colourfulness: float
    sharpness: float
    faces: int

    @property
    def aesthetics(self) -> float:
        """Picture quality in (0, 1): mean of the three measures, each brought to 0..1 without a ceiling."""
        measures = (
            (self.contrast, HALF_CONTRAST),
            (self.colourfulness, HALF_COLOURFULNESS),
            (self.sharpness, HALF_SHARPNESS),
        )
        return sum(value / (value + half) for value, half in measures) / len(measures)


def look_at(pictures: Sequence[bytes]) -> PixelFacts:
    """Measure pictures (encoded, at least one). Raises PermanentError `picture_unreadable` for bytes that are none."""
    from ettametta_pipelines.media.faces import find_faces

    looks = []
    for data in pictures:
        small = _small(data)
        pixels = _pixels(small)
        looks.append(
            (contrast(pixels), colourfulness(pixels), sharpness(pixels), len(find_faces(_bytes(small))))
        )
    count = len(looks)
    return PixelFacts(
        contrast=sum(look[0] for look in looks) / count,
        colourfulness=sum(look[1] for look in looks) / count,
        sharpness=sum(look[2] for look in looks) / count,
        faces=max(look[3] for look in looks),
    )


def cuts_per_minute(shot_count: int, duration_s: float) -> float:
    """Cuts, one fewer than shots, over the duration in minutes."""
    return 60 * max(0, shot_count - 1) / duration_s if duration_s > 0 else 0.0


def pacing_of(mean_shot_s: float) -> str:
    """slow, steady or fast by the mean shot length (the thresholds above say where from)."""
    if mean_shot_s <= FAST_SHOT_S:
        return "fast"
    return "slow" if mean_shot_s >= SLOW_SHOT_S else "steady"


def decode(data: bytes) -> "Pixels":
    """Picture as float64 array (height, 320, 3), values 0..255: one width, so that sharpness compares."""
    return _pixels(_small(data))


def luma(pixels: "Pixels") -> "Pixels":
    """Brightness by the weights of ITU-R BT.709."""
    return pixels @ [0.2126, 0.7152, 0.0722]


def contrast(pixels: "Pixels") -> float:
    """Standard deviation of luma, 0..127.5 (RMS contrast, Peli 1990)."""
    return float(luma(pixels).std())


def colourfulness(pixels: "Pixels") -> float:
    """Spread and distance from grey of the opponent colours (Hasler and Süsstrunk 2003); 0 is grey, 100 vivid."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = float((red_green.var() + yellow_blue.var()) ** 0.5)
    distance = float((red_green.mean() ** 2 + yellow_blue.mean() ** 2) ** 0.5)
    return spread + 0.3 * distance


def sharpness(pixels: "Pixels") -> float:
    """Variance of luma's Laplacian (Pech-Pacheco et al. 2000): blur is near 0, crisp pictures are in the hundreds."""
    y = luma(pixels)
    laplacian = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:] - 4 * y[1:-1, 1:-1]
    return float(laplacian.var())


def _small(data: bytes) -> "Image":
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _unreadable(f"it has {image.width} x {image.height} pixels")
            height = max(3, round(image.height * WIDTH / image.width))
            if height > MAX_HEIGHT:
                raise _unreadable(f"it is {image.width} pixels wide and {image.height} high")
            return image.convert("RGB").resize((WIDTH, height))
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise _unreadable(type(error).__name__) from error


def _bytes(image: "Image") -> "NDArray[np.uint8]":
    import numpy as np

    return np.asarray(image, dtype=np.uint8)


def _pixels(image: "Image") -> "Pixels":
    import numpy as np

    return np.asarray(image, dtype=np.float64)


def _unreadable(why: str) -> PermanentError:
    return PermanentError(
        f"The picture cannot be judged: {why}.",
        code=UNREADABLE,
        remedy="The other candidates are not affected.",
    )
