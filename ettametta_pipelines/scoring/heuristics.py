"""Judging a picture from its pixels alone: contrast, colourfulness, sharpness.

The local stand-in for a vision model, used only where the run's configuration asks for it. It knows nothing of
hooks, subjects or safety, and says so by leaving them empty. Pure functions over decoded pixels.
"""

from io import BytesIO
from typing import TYPE_CHECKING

from ettametta_pipelines.failures import PermanentError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Pixels = NDArray[np.float64]

PROVIDER = "heuristics"
MODEL = "pixels-1"

WIDTH = 320
MAX_PIXELS = 40_000_000

# Value at which each measure counts as half of what is possible: x / (x + half) rises for ever and never
# saturates. Set at what ordinary phone footage shows, on a 0..255 scale.
HALF_CONTRAST = 50.0
HALF_COLOURFULNESS = 40.0
HALF_SHARPNESS = 300.0


def aesthetics(data: bytes) -> float:
    """Picture quality in (0, 1): mean of the three measures, each brought to 0..1 without a ceiling.

    Raises PermanentError `picture_unreadable` for bytes that are no picture.
    """
    pixels = decode(data)
    measures = (
        (contrast(pixels), HALF_CONTRAST),
        (colourfulness(pixels), HALF_COLOURFULNESS),
        (sharpness(pixels), HALF_SHARPNESS),
    )
    return sum(value / (value + half) for value, half in measures) / len(measures)


def decode(data: bytes) -> "Pixels":
    """Picture as float64 array (height, 320, 3), values 0..255: one width, so that sharpness compares."""
    import numpy as np
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _unreadable(f"it has {image.width} x {image.height} pixels")
            height = max(3, round(image.height * WIDTH / image.width))
            return np.asarray(image.convert("RGB").resize((WIDTH, height)), dtype=np.float64)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise _unreadable(type(error).__name__) from error


def luma(pixels: "Pixels") -> "Pixels":
    return pixels @ [0.2126, 0.7152, 0.0722]


def contrast(pixels: "Pixels") -> float:
    """Standard deviation of luma, 0..127.5."""
    return float(luma(pixels).std())


def colourfulness(pixels: "Pixels") -> float:
    """Spread and distance from grey of the opponent colours (Hasler and Süsstrunk 2003); 0 is grey, 100 vivid."""
    red, green, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = float((red_green.var() + yellow_blue.var()) ** 0.5)
    distance = float((red_green.mean() ** 2 + yellow_blue.mean() ** 2) ** 0.5)
    return spread + 0.3 * distance


def sharpness(pixels: "Pixels") -> float:
    """Variance of luma's Laplacian: little detail or blur is near 0, crisp pictures are in the hundreds."""
    y = luma(pixels)
    laplacian = y[:-2, 1:-1] + y[2:, 1:-1] + y[1:-1, :-2] + y[1:-1, 2:] - 4 * y[1:-1, 1:-1]
    return float(laplacian.var())


def _unreadable(why: str) -> PermanentError:
    return PermanentError(
        f"The picture cannot be judged: {why}.",
        code="picture_unreadable",
        remedy="The other candidates are not affected.",
    )
