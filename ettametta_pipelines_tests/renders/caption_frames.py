"""Captions found again on decoded frames: what differs from the same render without them.

`caption_paint` gives one mask per frame, `outside_zone` and `shown_spans` judge it. The difference must be plain: the
encoder spends its bits elsewhere when there are captions, which moves other pixels by a few steps.
"""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from ettametta_pipelines.renders.formats import FORMATS
from ettametta_pipelines.renders.platforms import SAFE_ZONES

PLAIN_DIFFERENCE = 24
# Fewer pixels than this are no letter.
LEAST_PAINT = 40

Mask = NDArray[np.bool_]


def caption_paint(captioned: Path, without: Path) -> Mask:
    """Frames x rows x columns: where the captioned render shows something else."""
    pairs = zip(_luma(captioned), _luma(without), strict=True)
    return np.stack([np.abs(one.astype(np.int16) - two) > PLAIN_DIFFERENCE for one, two in pairs])


def _luma(path: Path) -> Iterator[NDArray[np.uint8]]:
    """Y planes one by one: two renders at once would be gigabytes as numbers of `frames.py`."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            plane = frame.planes[0]
            yield np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, : plane.width]


def outside_zone(paint: Mask, format_name: str) -> int:
    """Painted pixels outside the format's safe zone, of all frames together."""
    left, top, right, bottom = SAFE_ZONES[format_name].box(FORMATS[format_name])
    return int(paint.sum() - paint[:, top:bottom, left:right].sum())


def shown_spans(paint: Mask) -> list[tuple[int, int]]:
    """First frame and first frame after of each stretch in which anything is painted."""
    shown = np.concatenate([[False], paint.sum(axis=(1, 2)) >= LEAST_PAINT, [False]])
    changes = np.flatnonzero(np.diff(shown.astype(np.int8)))
    return [(int(start), int(end)) for start, end in zip(changes[::2], changes[1::2], strict=True)]


def paint_box(paint: Mask) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of all paint."""
    rows, columns = np.flatnonzero(paint.any(axis=(0, 2))), np.flatnonzero(paint.any(axis=(0, 1)))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
