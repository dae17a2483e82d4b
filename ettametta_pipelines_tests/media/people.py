"""Pictures with a real face in them: the portrait that scikit-image, which comes with the face model, ships."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Where the face is in the portrait, as shares of its side.
FACE_X, FACE_Y, FACE_HALF = 0.44, 0.235, 0.115

Picture = NDArray[np.uint8]


def shipped(name: str) -> Image.Image:
    """One of scikit-image's pictures by file name."""
    package = find_spec("skimage")
    assert package is not None
    (folder,) = package.submodule_search_locations or []
    return Image.open(Path(folder) / "data" / name).convert("RGB")


def backdrop(width: int, height: int) -> Picture:
    """Coffee on a table: edges and colours, nobody in it."""
    return np.asarray(shipped("coffee.png").resize((width, height)))


def with_person(picture: Picture, x: float, y: float, half_height: float) -> Picture:
    """The picture with the portrait in it, its face here and this large (shares of the picture)."""
    height, width = picture.shape[:2]
    side = round(half_height * height / FACE_HALF)
    image = Image.fromarray(picture)
    at = (round(x * width - FACE_X * side), round(y * height - FACE_Y * side))
    image.paste(shipped("astronaut.png").resize((side, side), Image.Resampling.LANCZOS), at)
    return np.asarray(image)
