"""Titles drawn on thumbnails: two styles that can be read on any picture, in the bundled font, away from the subject.

Words come from outside and are only ever drawn: characters the font has not are left out, and whatever the length of
a title, it stays inside the part of the picture that platforms keep free. `thumbnails.py` calls.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ettametta_pipelines.renders.caption_drawing import FONT_FILE, face
from ettametta_pipelines.untrusted import plain_text

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont

LONGEST_TITLE = 100
MAX_LINES = {"16x9": 3, "9x16": 5}
# Largest and smallest letters as shares of the picture's width; in between the largest at which the title fits.
SIZES = {"16x9": (0.1, 0.045), "9x16": (0.15, 0.065)}
STEPS = 16
LINE_HEIGHT = 1.16


@dataclass(frozen=True)
class Zone:
    """Shares of a thumbnail's height and width kept free of words at its edges."""

    top: float
    bottom: float
    sides: float


# YouTube writes a video's length into the lower right corner; Shorts and TikTok cover top, bottom and the right side.
ZONES = {
    "16x9": Zone(top=0.06, bottom=0.14, sides=0.05),
    "9x16": Zone(top=0.12, bottom=0.22, sides=0.08),
}


@dataclass(frozen=True)
class Style:
    """Colours are RRGGBB. A block stands behind each line, or an outline around letters on a darkened side."""

    text: str
    edge: str
    outline: float = 0.0
    block: str | None = None
    shade: float = 0.0


STYLES: dict[str, Style] = {
    "headline": Style(text="FFFFFF", edge="000000", outline=0.08, shade=0.65),
    "block": Style(text="101010", edge="101010", block="FFE600"),
}


def drawable_title(title: str) -> str:
    """What of a title can be drawn; empty when no letter or digit of it can."""
    known = face().characters
    text = " ".join("".join(c for c in plain_text(title, LONGEST_TITLE) if c in known or c == " ").split())
    return text if any(character.isalnum() for character in text) else ""


def draw_title(picture: "Image", title: str, style_name: str, shape: str, *, at_top: bool) -> "Image":
    """The picture with a drawable title at its top or bottom; the same picture for the same arguments."""
    from PIL import ImageDraw

    style, zone = STYLES[style_name], ZONES[shape]
    width, height = picture.size
    left, right = round(zone.sides * width), round((1 - zone.sides) * width)
    sizes = [round(share * width) for share in SIZES[shape]]
    font, lines = _fit(title, sizes, MAX_LINES[shape], right - left, style)
    line_height = round(font.size * LINE_HEIGHT)
    tall = line_height * len(lines)
    top = round(zone.top * height) if at_top else height - round(zone.bottom * height) - tall
    drawn = _shaded(picture, style.shade, top, top + tall, at_top=at_top) if style.shade else picture.copy()
    canvas = ImageDraw.Draw(drawn)
    padding = _padding(style, font.size)
    for place, line in enumerate(lines):
        y = top + place * line_height
        if style.block is not None:
            end = left + 2 * padding + round(font.getlength(line))
            canvas.rectangle((left, y, end, y + line_height), fill=f"#{style.block}")
        canvas.text(
            (left + padding, y + line_height / 2),
            line,
            font=font,
            anchor="lm",
            fill=f"#{style.text}",
            stroke_width=round(style.outline * font.size),
            stroke_fill=f"#{style.edge}",
        )
    return drawn


def _padding(style: Style, size: float) -> int:
    """What goes beyond the letters to either side: the block's air or the outline."""
    return round((0.22 if style.block is not None else style.outline) * size) + 1


def _fit(
    title: str, sizes: Sequence[int], most: int, room: int, style: Style
) -> tuple["FreeTypeFont", list[str]]:
    """The largest letters at which the title has few enough lines; at the smallest, what is too much is left out."""
    from PIL import ImageFont

    largest, smallest = sizes
    for step in range(STEPS + 1):
        size = largest - step * (largest - smallest) // STEPS
        font = ImageFont.truetype(str(FONT_FILE), size, layout_engine=ImageFont.Layout.BASIC)
        inside = room - 2 * _padding(style, size)
        lines = _balanced(title, font, inside)
        if len(lines) <= most and all(font.getlength(line) <= inside for line in lines):
            return font, lines
    kept = lines[:most]
    if len(lines) > most:
        kept[-1] += "…"
    return font, [_shortened(line, font, inside) for line in kept]


def _balanced(title: str, font: "FreeTypeFont", room: float) -> list[str]:
    """As few lines as fit, of about the same length: broken at the least width that takes no more of them."""
    lines = _broken(title, font, room)
    for share in range(95, 40, -5):
        narrower = _broken(title, font, room * share / 100)
        if len(narrower) > len(lines):
            break
        lines = narrower
    return lines


def _broken(title: str, font: "FreeTypeFont", room: float) -> list[str]:
    """Lines broken between words; one that holds a single word may be too wide."""
    lines: list[str] = []
    for word in title.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _shortened(line: str, font: "FreeTypeFont", room: float) -> str:
    if font.getlength(line) <= room:
        return line
    kept = line.rstrip("…")
    while kept and font.getlength(f"{kept}…") > room:
        kept = kept[:-1]
    return f"{kept.rstrip()}…"


def _shaded(picture: "Image", depth: float, top: int, bottom: int, *, at_top: bool) -> "Image":
    """Darkest behind the words and at their edge of the picture, fading out beyond them."""
    import numpy as np
    from PIL import Image

    rows = np.arange(picture.height, dtype=np.float64)
    fade = 0.2 * (bottom - top) + 0.12 * picture.height
    beyond = rows - bottom if at_top else top - rows
    share = depth * np.clip(1 - beyond / fade, 0, 1) ** 1.5
    dark, touched = np.array(picture), share > 0
    dark[touched] = (dark[touched] * (1 - share[touched])[:, np.newaxis, np.newaxis]).round()
    return Image.fromarray(dark)
