"""What pixels alone say about a picture."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.scoring.heuristics import aesthetics, colourfulness, contrast, decode, sharpness


def png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def scene(seed: int = 7) -> Image.Image:
    """Coloured blocks with hard edges."""
    blocks = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return Image.fromarray(blocks).resize((640, 480), Image.Resampling.NEAREST)


def test_a_flat_grey_picture_has_no_contrast_colour_or_detail() -> None:
    pixels = decode(png(Image.new("RGB", (640, 480), (120, 120, 120))))
    assert contrast(pixels) == pytest.approx(0, abs=1e-9)
    assert colourfulness(pixels) == pytest.approx(0, abs=1e-9)
    assert sharpness(pixels) == pytest.approx(0, abs=1e-9)


def test_blur_lowers_sharpness_and_draining_colour_lowers_colourfulness() -> None:
    sharp = decode(png(scene()))
    assert sharpness(decode(png(scene().filter(ImageFilter.GaussianBlur(12))))) < sharpness(sharp) / 2
    assert colourfulness(decode(png(scene().convert("L")))) < colourfulness(sharp) / 10


def test_a_crisp_colourful_picture_looks_better_than_a_dull_blurred_one() -> None:
    dull = scene().convert("L").filter(ImageFilter.GaussianBlur(20))
    assert 0 < aesthetics(png(dull)) < aesthetics(png(scene())) < 1


def test_bytes_that_are_no_picture_are_refused() -> None:
    with pytest.raises(PermanentError) as refused:
        aesthetics(b"<html>not a picture</html>")
    assert refused.value.code == "picture_unreadable"
