"""What operators see in the Dagster UI beside numbers: markdown tables and strips of small pictures.

Text from outside (titles, names, model answers) passes `cell`, so that it cannot break a table or become a
link. Pictures become JPEG data URIs within a budget, since they are stored in the event log. For assets only.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from ettametta_pipelines.untrusted import plain_text

if TYPE_CHECKING:
    from PIL import Image

STRIP_BUDGET_BYTES = 48 * 1024
MAX_PIXELS = 40_000_000
MAX_ASPECT = 8

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+!|~$])")


@dataclass(frozen=True)
class Thumb:
    """One picture of a strip: its bytes and the words under it."""

    caption: str
    data: bytes


def cell(text: object, *, limit: int = 80) -> str:
    """Text that is safe and short in a markdown table; None becomes an en dash."""
    if text is None:
        return "–"
    return _MARKUP.sub(r"\\\1", plain_text(str(text), limit))


def link(text: object, url: str | None, *, limit: int = 60) -> str:
    """Markdown link for a web address; only the text where the address is not one."""
    if not url or not re.fullmatch(r"https?://[^\s()<>\[\]|\"'`\\]+", url):
        return cell(text, limit=limit)
    return f"[{cell(text, limit=limit)}]({url})"


def number(value: float | None, *, digits: int = 0) -> str:
    """`12,345.6`; an en dash for None: unknown is not zero."""
    return "–" if value is None else f"{value:,.{digits}f}"


def markdown_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """GitHub-flavoured table of cells that are markdown already (see `cell`, `link`, `number`); "none" if empty."""
    body = ["| " + " | ".join(row) + " |" for row in rows]
    if not body:
        return "none"
    return "\n".join(["| " + " | ".join(headers) + " |", "|" + " --- |" * len(headers), *body])


def picture_strip(
    thumbs: Sequence[Thumb], *, height: int = 120, budget: int = STRIP_BUDGET_BYTES
) -> str | None:
    """One markdown image: pictures side by side as a JPEG data URI of at most `budget` bytes, with numbers.

    Pictures that cannot be decoded are left out; None when none is left. Captions follow as a numbered line.
    """
    from PIL import Image, ImageDraw

    drawn: list[tuple[str, Image.Image]] = []
    for thumb in thumbs:
        image = _decoded(thumb.data, height)
        if image is not None:
            drawn.append((thumb.caption, image))
    if not drawn:
        return None
    strip = Image.new("RGB", (sum(i.width for _, i in drawn) + 4 * (len(drawn) - 1), height), "white")
    pen = ImageDraw.Draw(strip)
    left = 0
    for place, (_, image) in enumerate(drawn, start=1):
        strip.paste(image, (left, 0))
        pen.rectangle((left, 0, left + 8 + 7 * len(str(place)), 15), fill="black")
        pen.text((left + 4, 2), str(place), fill="white")
        left += image.width + 4
    words = " · ".join(
        f"{place} {cell(caption, limit=40)}" for place, (caption, _) in enumerate(drawn, start=1)
    )
    for quality in (80, 65, 50, 35, 20, 10):
        buffer = BytesIO()
        strip.save(buffer, "JPEG", quality=quality, optimize=True)
        encoded = b64encode(buffer.getvalue()).decode()
        text = f"![{len(drawn)} pictures](data:image/jpeg;base64,{encoded})\n\n{words}"
        if len(text.encode()) <= budget:
            return text
    return picture_strip(thumbs[: len(thumbs) // 2], height=height, budget=budget)


def _decoded(data: bytes, height: int) -> "Image.Image | None":
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data)) as image:
            # A few kilobytes can unpack to gigabytes; the size stands in the header.
            if image.width * image.height > MAX_PIXELS or image.width > MAX_ASPECT * image.height:
                return None
            rgb = image.convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError):
        return None
    return rgb.resize((max(1, round(rgb.width * height / rgb.height)), height))
