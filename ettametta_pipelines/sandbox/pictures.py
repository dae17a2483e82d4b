"""Pictures the sandbox serves: thumbnails drawn from a key and a title, the same bytes for the same arguments.

They differ in what a viewer, or a model, would judge: light, colour, how busy they are, how large the words are.
"""

import io
import textwrap
from typing import TYPE_CHECKING

from ettametta_pipelines.sandbox.core import seeded_rng

if TYPE_CHECKING:
    import random

    from PIL.Image import Image

JPEG_QUALITY = 82
CANVAS = (640, 360)

Colour = tuple[int, int, int]


def thumbnail_jpeg(key: str, title: str, size: tuple[int, int]) -> bytes:
    """JPEG of `size` (width, height): gradient, shapes and the title's words, all chosen by `key`."""
    picture = _draw(seeded_rng("thumbnail", key), title)
    return to_jpeg(picture, size)


def to_jpeg(picture: "Image", size: tuple[int, int]) -> bytes:
    """JPEG of a picture scaled to fill `size`, cut at the edges where the shape differs."""
    from PIL import ImageOps

    buffer = io.BytesIO()
    ImageOps.fit(picture.convert("RGB"), size).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


def _draw(rng: "random.Random", title: str) -> "Image":
    from PIL import Image, ImageDraw, ImageOps

    light = rng.uniform(0.35, 1.0)
    vividness = rng.uniform(0.15, 1.0)
    hue = rng.random()
    gradient = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize(CANVAS)
    dark, bright = _colour(hue, vividness, light * 0.35), _colour(hue + 0.12, vividness * 0.8, light)
    picture = ImageOps.colorize(gradient, dark, bright)
    draw = ImageDraw.Draw(picture, "RGBA")
    for _ in range(rng.randint(1, 11)):
        _draw_shape(draw, rng, (*_colour(rng.random(), vividness, light), rng.randint(90, 230)))
    _draw_words(draw, rng, title)
    return picture


def _draw_shape(draw: "object", rng: "random.Random", fill: tuple[int, int, int, int]) -> None:
    from PIL.ImageDraw import ImageDraw

    assert isinstance(draw, ImageDraw)
    width, height = CANVAS
    x, y, reach = rng.randint(0, width), rng.randint(0, height), rng.randint(20, 150)
    box = (x - reach, y - reach, x + reach, y + reach)
    match rng.choice(("disc", "block", "wedge")):
        case "disc":
            draw.ellipse(box, fill=fill)
        case "block":
            draw.rectangle(box, fill=fill)
        case _:
            draw.regular_polygon((x, y, reach), 3, rotation=rng.randint(0, 359), fill=fill)


def _draw_words(draw: "object", rng: "random.Random", title: str) -> None:
    from PIL import ImageFont
    from PIL.ImageDraw import ImageDraw

    assert isinstance(draw, ImageDraw)
    points = rng.choice((34, 46, 58))
    font = ImageFont.load_default(size=points)
    lines = textwrap.wrap(title, width=int(CANVAS[0] / (points * 0.55)))[:3]
    for number, line in enumerate(lines):
        at = (24, 24 + number * points * 1.15)
        draw.text(at, line, font=font, fill=(255, 255, 255), stroke_width=3, stroke_fill=(12, 12, 12))


def _colour(hue: float, saturation: float, value: float) -> Colour:
    import colorsys

    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)
