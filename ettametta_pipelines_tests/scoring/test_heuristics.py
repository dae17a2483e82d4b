"""What pixels alone say about a picture."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageFilter

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.scoring.heuristics import (
    colourfulness,
    contrast,
    cuts_per_minute,
    decode,
    look_at,
    pacing_of,
    sharpness,
)
from ettametta_pipelines_tests.media.people import backdrop, shipped, with_person


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
    dull = look_at([png(scene().convert("L").filter(ImageFilter.GaussianBlur(20)))])
    assert 0 < dull.aesthetics < look_at([png(scene())]).aesthetics < 1


def test_colourfulness_is_the_published_formula() -> None:
    """Half red, half blue: the opponent colours by hand (Hasler and Süsstrunk 2003, equations 4 to 7)."""
    halves = np.zeros((320, 320, 3), np.uint8)
    halves[:, :160, 0] = 255
    halves[:, 160:, 2] = 255
    red_green, yellow_blue = np.array([255.0, 0.0]), np.array([127.5, -255.0])
    expected = np.hypot(red_green.std(), yellow_blue.std()) + 0.3 * np.hypot(
        red_green.mean(), yellow_blue.mean()
    )
    assert colourfulness(decode(png(Image.fromarray(halves)))) == pytest.approx(expected, rel=1e-6)


def test_faces_are_counted_on_the_picture_that_shows_most() -> None:
    nobody = shipped("coffee.png").resize((640, 360))
    somebody = Image.fromarray(with_person(backdrop(640, 360), 0.5, 0.5, 0.18))
    assert look_at([png(nobody)]).faces == 0
    assert look_at([png(nobody), png(somebody)]).faces == 1


def test_the_same_pixels_give_the_same_numbers() -> None:
    assert look_at([png(scene()), png(scene(8))]) == look_at([png(scene()), png(scene(8))])


@pytest.mark.parametrize(("mean_shot_s", "pacing"), [(0.8, "fast"), (4.0, "steady"), (12.0, "slow")])
def test_pacing_follows_the_mean_shot(mean_shot_s: float, pacing: str) -> None:
    assert pacing_of(mean_shot_s) == pacing


def test_cuts_are_counted_by_the_minute() -> None:
    assert cuts_per_minute(1, 30.0) == 0
    assert cuts_per_minute(11, 30.0) == 20


def test_bytes_that_are_no_picture_are_refused() -> None:
    with pytest.raises(PermanentError) as refused:
        look_at([b"<html>not a picture</html>"])
    assert refused.value.code == "picture_unreadable"


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (8, 20_000)])
def test_a_small_file_that_unpacks_to_gigabytes_is_refused(width: int, height: int) -> None:
    with pytest.raises(PermanentError) as caught:
        look_at([png(Image.new("1", (width, height)))])
    assert caught.value.code == "picture_unreadable"
