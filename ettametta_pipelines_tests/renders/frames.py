"""Decoded frames and sound of finished files as numpy arrays, for tests that measure what a render did."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]

# Settings with which x264 loses hardly anything.
NEARLY_LOSSLESS: dict[str, str | int] = {"crf": 2, "maxrate": "90M", "bufsize": "90M"}


def planes(path: Path, *, limit: int = 10_000) -> list[tuple[Plane, Plane, Plane]]:
    """Y, U and V planes of each frame as stored (limited range)."""
    return list(islice(frames_of(path), limit))


def frames_of(path: Path) -> Iterator[tuple[Plane, Plane, Plane]]:
    """The same one by one, for files whose frames together are too many."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.format.name == "yuv420p"
            yield _plane(frame, 0), _plane(frame, 1), _plane(frame, 2)


def _plane(frame: av.VideoFrame, place: int) -> Plane:
    plane = frame.planes[place]
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width].astype(np.float64)


def luma(path: Path, *, limit: int = 10_000) -> NDArray[np.float64]:
    """Y planes as one array of frames x rows x columns."""
    return np.stack([y for y, _, _ in planes(path, limit=limit)])


def sound(path: Path) -> tuple[NDArray[np.float64], int, float]:
    """Mean of the channels, sample rate, and the time of the first sample in seconds."""
    with av.open(str(path)) as container:
        frames = list(container.decode(audio=0))
    samples = np.concatenate([frame.to_ndarray().mean(axis=0) for frame in frames])
    return samples, frames[0].sample_rate, float(frames[0].time or 0)
