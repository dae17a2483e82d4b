"""Stills of a finished rendition, for the eyes of whoever decides about the post. Called by `queue_assets.py`."""

from io import BytesIO

# Enough to see what the video is about at a glance.
STILLS = 8
WIDTH = 240


def stills_of(data: bytes, duration_s: float) -> list[tuple[float, bytes]]:
    """(second, JPEG) of evenly spaced pictures, in order; fewer where the video ends early."""
    import av

    found: list[tuple[float, bytes]] = []
    with av.open(BytesIO(data), "r") as container:
        stream = container.streams.video[0]
        for number in range(STILLS):
            wanted = duration_s * (number + 0.5) / STILLS
            container.seek(int(wanted * av.time_base))
            for picture in container.decode(stream):
                if picture.time is not None and picture.time + 0.05 >= wanted:
                    found.append((wanted, _jpeg(picture)))
                    break
    return found


def _jpeg(picture: object) -> bytes:
    image = picture.to_image()  # type: ignore[attr-defined]
    image.thumbnail((WIDTH, WIDTH * 2))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()
