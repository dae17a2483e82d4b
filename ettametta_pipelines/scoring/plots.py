"""The picture of `score_quality`: reliability of the score, and rank correlation by niche, as a small PNG.

Drawn with Pillow alone; a plotting library would weigh more than everything else in this room. For assets only.
"""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import ImageDraw

Row = dict[str, Any]
Point = tuple[float, float]

WIDTH, HEIGHT = 760, 300
TOP, BOTTOM = 40, 256
LEFT_PANEL, RIGHT_PANEL = (46, 350), (500, 740)
MOST_NICHES = 8
BLUE, GREY, BLACK, FAINT = "#1f5fbf", "#8a8a8a", "#222222", "#dddddd"


def quality_plot(rows: Sequence[Row], *, horizon: str, scorer: str = "champion") -> str | None:
    """Markdown image of one scorer's reliability (all niches) and correlations; None while there is nothing to draw."""
    from PIL import Image, ImageDraw

    mine = [r for r in rows if r["horizon"] == horizon and r["scorer"] == scorer and r["value"] is not None]
    bins = [r for r in mine if r["measure"] == "reliability" and r["niche"] == "all"]
    steps = [r for r in mine if r["measure"] == "isotonic" and r["niche"] == "all"]
    ranks = [r for r in mine if r["measure"] == "rank_correlation"][: MOST_NICHES + 1]
    if not ranks:
        return None
    image = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(image)
    _reliability(pen, bins, steps, horizon)
    _correlations(pen, ranks, horizon)
    buffer = BytesIO()
    image.quantize(32).save(buffer, "PNG", optimize=True)
    return f"![score quality](data:image/png;base64,{b64encode(buffer.getvalue()).decode()})"


def _reliability(pen: "ImageDraw.ImageDraw", bins: Sequence[Row], steps: Sequence[Row], horizon: str) -> None:
    left, right = LEFT_PANEL
    _text(pen, (left, 12), f"Posts above their channel's usual after {horizon}, by score", BLACK)
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = _at(share, 0, 1, BOTTOM, TOP)
        pen.line([(left, y), (right, y)], FAINT if share != 0.5 else GREY)
        _text(pen, (8, y - 7), f"{share:.0%}", GREY)
    if not bins:
        _text(pen, (left + 12, TOP + 20), "too few outcomes for bins yet", GREY)
        return
    middle = {row["bin"]: _at(row["bin"], 0.5, len(bins) + 0.5, left, right) for row in bins}
    pen.line([(middle[r["bin"]], _at(r["value"], 0, 1, BOTTOM, TOP)) for r in steps], GREY, 2)
    for row in bins:
        x = middle[row["bin"]]
        if row["low"] is not None:
            _whisker(pen, *((x, _at(row[end], 0, 1, BOTTOM, TOP)) for end in ("low", "high")))
        _dot(pen, (x, _at(row["value"], 0, 1, BOTTOM, TOP)))
        _text(pen, (x - 26, BOTTOM + 6), f"{row['score_low']:.2f}-{row['score_high']:.2f}", BLACK)
        _text(pen, (x - 16, BOTTOM + 21), f"n={row['n']}", GREY)


def _correlations(pen: "ImageDraw.ImageDraw", ranks: Sequence[Row], horizon: str) -> None:
    left = RIGHT_PANEL[0]
    _text(pen, (left - 116, 12), f"Rank correlation after {horizon}, 95 % intervals", BLACK)
    for value in (-0.5, 0.0, 0.5, 1.0):
        x = _along(value)
        pen.line([(x, TOP), (x, BOTTOM)], GREY if value == 0 else FAINT)
        _text(pen, (x - 8, BOTTOM + 4), f"{value:g}", GREY)
    for place, row in enumerate(ranks):
        y = TOP + 14 + place * 24
        _text(pen, (left - 116, y - 7), f"{row['niche'][:13]} ({row['n']})", BLACK)
        if row["low"] is not None:
            _whisker(pen, *((_along(row[end]), y) for end in ("low", "high")))
        _dot(pen, (_along(row["value"]), y))


def _along(correlation: float) -> float:
    """Where a correlation lies in the right panel, which starts at -0.5."""
    return _at(max(-0.5, correlation), -0.5, 1, *RIGHT_PANEL)


def _at(value: float, low: float, high: float, start: float, end: float) -> float:
    """Where a value lies in pixels; in the middle when the axis has no length."""
    share = 0.5 if high <= low else (value - low) / (high - low)
    return start + share * (end - start)


def _dot(pen: "ImageDraw.ImageDraw", at: Point) -> None:
    pen.ellipse((at[0] - 4, at[1] - 4, at[0] + 4, at[1] + 4), fill=BLUE)


def _whisker(pen: "ImageDraw.ImageDraw", start: Point, end: Point) -> None:
    pen.line([start, end], BLUE, 2)


def _text(pen: "ImageDraw.ImageDraw", at: Point, words: str, colour: str) -> None:
    from PIL import ImageFont

    pen.text(at, words, fill=colour, font=ImageFont.load_default(12))
