"""Small JPEG pictures of videos, within a budget, and the markdown that shows them in the Dagster UI.

Event metadata is stored with every run, so pictures there are counted in kilobytes. Pictures of strangers' files
are decoded by ffmpeg in confinement before they come here; this module sees raw pixels and our own renditions.
"""

from base64 import b64encode
from io import BytesIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

QUALITIES = (82, 70, 58, 46, 34, 24, 16)


def jpeg_within(image: "Image", budget: int) -> bytes:
    """The image as JPEG of at most `budget` bytes: first at lower quality, then smaller."""
    while True:
        for quality in QUALITIES:
            buffer = BytesIO()
            image.save(buffer, "JPEG", quality=quality, optimize=True)
            if buffer.tell() <= budget:
                return buffer.getvalue()
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)))


def inline_picture(jpeg: bytes, caption: str) -> str:
    """Markdown with the picture in it; `caption` is words of ours."""
    return f"![{caption}](data:image/jpeg;base64,{b64encode(jpeg).decode()})"
