"""How steadily a picture moves, measured on decoded frames, for the tests and the benchmark of cinematic motion."""

import io
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np

PATCH = 160


def drawn_still(width: int, height: int, seed: int = 3) -> bytes:
    """A JPEG with detail of every size, as a photograph has, so that motion can be followed everywhere."""
    import cv2
    from PIL import Image

    rng = np.random.default_rng(seed)
    picture = np.zeros((height, width, 3), np.float32)
    for size in (6, 12, 24, 48, 96, 192, 384):
        coarse = rng.random((height // size + 2, width // size + 2, 3)).astype(np.float32)
        picture += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * size**0.7
    low, high = picture.min(), picture.max()
    buffer = io.BytesIO()
    Image.fromarray(((picture - low) / (high - low) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def zoompan(still: bytes, path: Path, size: tuple[int, int], fps: int, count: int, closest: float) -> None:
    """ffmpeg's own push-in on the same still: the usual way, for comparison."""
    from ettametta_pipelines.renders.ffmpeg import ffmpeg_path

    picture = path.with_suffix(".jpg")
    picture.write_bytes(still)
    width, height = size
    graph = (
        f"zoompan=z='pow({closest},on/{count - 1})':x='iw/2-iw/zoom/2':y='ih/2-ih/zoom/2':d={count}:"
        f"s={width}x{height}:fps={fps},format=yuv420p"
    )
    subprocess.run(
        [
            ffmpeg_path(), "-v", "error", "-y", "-i", picture, "-vf", graph, "-c:v", "libx264", "-preset", "ultrafast",
            "-crf", "16", "-threads", "1", path,
        ],
        check=True,
    )  # fmt: skip


def tremble(path: Path, first: int = 0, last: int | None = None) -> float:
    """Variance of the motion from frame to frame about its own trend, in square pixels.

    Nine places of the picture are followed by phase correlation; of each one's steps across and down a parabola in
    time is taken away, since a camera may gather speed. What is left is what an eye sees as trembling.
    """
    import av
    import cv2

    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)][first:last]
    height, width = frames[0].shape
    side = min(PATCH, int(0.2 * min(width, height)) * 2)
    window = cv2.createHanningWindow((side, side), cv2.CV_32F)
    places = [
        (int(width * x) - side // 2, int(height * y) - side // 2)
        for x in (0.2, 0.5, 0.8)
        for y in (0.2, 0.5, 0.8)
    ]
    time = np.arange(len(frames) - 1)
    left: list[float] = []
    for x, y in places:
        cut = [frame[y : y + side, x : x + side].astype(np.float32) for frame in frames]
        steps = np.array([cv2.phaseCorrelate(one, other, window)[0] for one, other in pairwise(cut)])
        for axis in (0, 1):
            trend = np.polyval(np.polyfit(time, steps[:, axis], 2), time)
            left.append(float(np.var(steps[:, axis] - trend)))
    return float(np.mean(left))
