"""Cinematic motion: a still becomes a smooth move, on any machine and for nothing.

The camera's way is a function of time and seed (`camera`); every frame is sampled anew from the still at fractions of a
pixel and handed to the encoder while the next ones are drawn. `zoompan` of ffmpeg steps by whole pixels, which trembles
at slow speeds; that difference is measured in `benchmarks/cinematic.py`. Pictures come as bytes and are bounded before
they are unpacked; where they come from is `stills.py`'s.
"""

import io
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.synthesis.requests import ClipRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Plane = NDArray[np.uint8]
    Matrix = NDArray[np.float64]

ENGINE = "cinematic"
MAX_PIXELS = 80_000_000
# The closest the camera comes, as a share of the whole picture: what is enlarged beyond this shows its pixels.
CLOSEST = 1.2
# Share of the way at either end in which the camera gathers speed.
RAMP = 0.15
# Enough for clips that are rendered again; the preset is the only one fast enough beside the sampling.
ENCODING = {"preset": "ultrafast", "crf": "16", "threads": "1"}
WORKERS = 2
# Longest way across a panorama, as a share of the clip's side: more goes by too fast to be looked at.
LONGEST_WAY = 0.7


@dataclass(frozen=True)
class View:
    """What the camera sees: `zoom` (1 is all that fits), where it looks within what is free (-1 to 1), and its turn.

    `turn` and `nod` tilt the picture's plane, as shares of its size by which near and far differ.
    """

    zoom: float
    x: float = 0.0
    y: float = 0.0
    turn: float = 0.0
    nod: float = 0.0


@dataclass(frozen=True)
class Move:
    """A way from one view to another. `wide` is how much longer the still has to be than the clip for it to suit."""

    start: View
    end: View
    wide: float = 0.0

    def at(self, share: float) -> View:
        """The view after this share of the way; zooms by equal factors in equal times, as an eye expects."""

        def between(one: float, other: float) -> float:
            return one + (other - one) * share

        start, end = self.start, self.end
        zoom = start.zoom * (end.zoom / start.zoom) ** share
        return View(
            zoom,
            between(start.x, end.x),
            between(start.y, end.y),
            between(start.turn, end.turn),
            between(start.nod, end.nod),
        )


# Moves that turn the plane need room at the edges, which their zoom gives.
MOVES: dict[str, Move] = {
    "push_in": Move(View(1.0), View(CLOSEST)),
    "pull_out": Move(View(CLOSEST), View(1.0)),
    "drift": Move(View(1.12, -0.7, 0.5), View(1.16, 0.7, -0.5)),
    "rise": Move(View(1.15, 0.0, 1.0), View(1.15, 0.0, -1.0)),
    "orbit": Move(View(1.16, -0.5, 0.0, -0.07), View(1.18, 0.5, 0.0, 0.07)),
    "crane": Move(View(1.12, 0.0, 0.6, 0.0, 0.06), View(1.18, 0.0, -0.4, 0.0, -0.05)),
    "pan": Move(View(1.04, -1.0), View(1.04, 1.0), wide=1.35),
    "sweep": Move(View(1.04, 0.0, 1.0), View(1.04, 0.0, -1.0), wide=1.35),
}
# Along which side the still has to be longer for a move that needs it.
_LONGER = {"pan": "width", "sweep": "height"}


def eased(share: float) -> float:
    """Share of the way after this share of the time: steady in the middle, no jerk at the ends."""
    if share <= 0 or share >= 1:
        return min(1.0, max(0.0, share))
    if share > 0.5:
        return 1 - eased(1 - share)
    cruise = 1 / (1 - RAMP)
    if share >= RAMP:
        return cruise * (share - RAMP / 2)
    return cruise * (share / 2 - RAMP * math.sin(math.pi * share / RAMP) / (2 * math.pi))


def choose_move(seed: int, still: tuple[int, int], clip: tuple[int, int]) -> tuple[str, Move]:
    """The move of a seed among those that suit a still of this width and height; half of the seeds go backwards."""
    rng = random.Random(f"cinematic {seed}")
    longer = {"width": still[0] * clip[1] / (still[1] * clip[0])}
    longer["height"] = 1 / longer["width"]
    must = [name for name, move in MOVES.items() if move.wide and longer[_LONGER[name]] >= move.wide]
    name = rng.choice(must or [name for name, move in MOVES.items() if not move.wide])
    move = MOVES[name]
    if move.wide:
        reach = min(1.0, LONGEST_WAY / (longer[_LONGER[name]] - 1))
        start, end = move.start, move.end
        move = Move(
            replace(start, x=start.x * reach, y=start.y * reach),
            replace(end, x=end.x * reach, y=end.y * reach),
        )
    return (name, move) if rng.random() < 0.5 else (f"{name}, backwards", Move(move.end, move.start))


def camera(view: View, still: tuple[int, int], clip: tuple[int, int]) -> "Matrix":
    """3 x 3 matrix from pixels of the clip to pixels of the still; both are (width, height).

    What is seen lies wholly within the still as long as the zoom makes up for turn and nod.
    """
    import numpy as np

    width, height = clip
    # Pixels of the still per pixel of the clip at zoom 1.
    fit = min(still[0] / width, still[1] / height)
    scale = fit / view.zoom
    # A plane tilted by this much is seen larger at the far edge, so less of the still is free there.
    room = 1 / (1 - abs(view.turn)) / (1 - abs(view.nod))
    free_x = max(0.0, still[0] - scale * width * room) / 2
    free_y = max(0.0, still[1] - scale * height * room) / 2
    middle = (still[0] / 2 + view.x * free_x, still[1] / 2 + view.y * free_y)
    # Centres of pixels lie at halves.
    to_middle = np.array([[1, 0, 0.5 - width / 2], [0, 1, 0.5 - height / 2], [0, 0, 1]], float)
    tilt = np.array(
        [[1, 0, 0], [0, 1, 0], [2 * view.turn / width, 2 * view.nod / height, 1]],
        float,
    )
    look = np.array([[scale, 0, middle[0] - 0.5], [0, scale, middle[1] - 0.5], [0, 0, 1]], float)
    return np.asarray(look @ tilt @ to_middle)


def open_still(data: bytes, clip: tuple[int, int]) -> "tuple[Plane, Plane, Plane]":
    """Luma and both chroma planes (BT.709, limited range) of a picture, large enough for the closest view.

    Raises PermanentError `still_unreadable` for what is no picture, or one too large to be unpacked.
    """
    import numpy as np
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                raise _unreadable(f"it has {opened.width}x{opened.height} pixels")
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, ValueError, SyntaxError) as error:
        raise _unreadable(type(error).__name__) from None
    cover = max(clip[0] / picture.width, clip[1] / picture.height) * CLOSEST
    # Even sides: the chroma planes are half of them.
    width, height = (
        max(side, math.ceil(length * cover / 2 - 1e-6) * 2)
        for length, side in zip(picture.size, clip, strict=True)
    )
    scaled = np.asarray(picture.resize((width, height), Image.Resampling.LANCZOS), np.float32)
    red, green, blue = (scaled[..., place] for place in range(3))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = [16 + luma * (219 / 255)]
    for channel, span in ((blue, 1.8556), (red, 1.5748)):
        full = (channel - luma) * (224 / 255 / span)
        planes.append(128 + full.reshape(full.shape[0] // 2, 2, full.shape[1] // 2, 2).mean(axis=(1, 3)))
    first, second, third = (np.clip(np.rint(plane), 0, 255).astype(np.uint8) for plane in planes)
    return first, second, third


def frames(
    planes: "tuple[Plane, Plane, Plane]", move: Move, clip: tuple[int, int], count: int
) -> "Iterator[NDArray[np.uint8]]":
    """Frames of the move in yuv420p, one array of height * 3 / 2 by width each, drawn ahead by two threads."""
    import numpy as np

    width, height = clip
    still = planes[0].shape[1], planes[0].shape[0]
    # Between positions in luma and in chroma, which has one sample for two by two.
    halve = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])

    def draw(number: int) -> "NDArray[np.uint8]":
        luma = camera(move.at(eased(number / max(1, count - 1))), still, clip)
        chroma = halve @ luma @ np.linalg.inv(halve)
        frame = np.empty((height * 3 // 2, width), np.uint8)
        _sample(planes[:1], luma, frame[None, :height])
        _sample(planes[1:], chroma, frame[height:].reshape(2, height // 2, width // 2))
        return frame

    with _one_thread_a_call(), ThreadPoolExecutor(WORKERS) as pool:
        ahead: deque[Future[NDArray[np.uint8]]] = deque()
        for number in range(count):
            ahead.append(pool.submit(draw, number))
            if len(ahead) > 2 * WORKERS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


@contextmanager
def _one_thread_a_call() -> Iterator[None]:
    """OpenCV's own threads beside ours and the encoder's would only wait for one another."""
    import cv2

    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _sample(planes: "Sequence[Plane]", matrix: "Matrix", into: "Plane") -> None:
    """Draw the planes as the matrix sees them, each into its own of `into` (planes, height, width).

    An untilted camera is drawn in half the time of a tilted one.
    """
    import cv2

    size = into.shape[2], into.shape[1]
    if matrix[2, 0] == matrix[2, 1] == 0:
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        for plane, drawn in zip(planes, into, strict=True):
            cv2.warpAffine(plane, matrix[:2], size, drawn, how, cv2.BORDER_REPLICATE)
        return
    across, down = _places(matrix, size)
    for plane, drawn in zip(planes, into, strict=True):
        cv2.remap(plane, across, down, cv2.INTER_LINEAR, drawn, cv2.BORDER_REPLICATE)


def _places(matrix: "Matrix", size: tuple[int, int]) -> "tuple[NDArray[np.float32], NDArray[np.float32]]":
    """Where in the still each pixel of a view lies that is tilted about one axis.

    Then the divisor depends on one coordinate alone, and a tenth of the work of a general perspective is left.
    """
    import numpy as np

    x, y = (np.arange(side, dtype=np.float64) for side in size)
    turned, nodded = matrix[2, :2]
    if turned and nodded:
        raise ValueError("a camera that turns and nods at once is not drawn")
    # Rows of the matrix: x' = (a x + b y + c) / divisor. The camera does not roll, so the coordinate that the divisor
    # does not depend on stands in one row only, and is drawn as an outer product.
    along, beside = (x, y) if turned else (y, x)
    first, second = (0, 1) if turned else (1, 0)
    divisor = matrix[2, 2] + matrix[2, first] * along
    line = ((matrix[first, first] * along + matrix[first, 2]) / divisor).astype(np.float32)
    offset = ((matrix[second, first] * along + matrix[second, 2]) / divisor).astype(np.float32)
    slope = (matrix[second, second] / divisor).astype(np.float32)
    beside = beside.astype(np.float32)
    if turned:
        plane = np.multiply.outer(beside, slope)
        plane += offset
        return np.tile(line, (size[1], 1)), plane
    plane = np.multiply.outer(slope, beside)
    plane += offset[:, None]
    return plane, np.repeat(line[:, None], size[0], axis=1)


def make_clip(
    request: ClipRequest, still: bytes, path: Path, *, progress: Callable[[int, int], None] | None = None
) -> str:
    """Write the clip of a request to `path` as MP4 without sound; returns the move's name. The same in, the same out.

    Raises PermanentError `still_unreadable`. `progress` hears of frames made and in all, once a second of video.
    """
    clip = request.width, request.height
    planes = open_still(still, clip)
    name, move = choose_move(request.seed, (planes[0].shape[1], planes[0].shape[0]), clip)
    count = max(2, round(request.seconds * request.fps))
    write_video(frames(planes, move, clip, count), path, clip, request.fps, count, progress)
    return name


def write_video(
    drawn: "Iterator[NDArray[np.uint8]]",
    path: Path,
    size: tuple[int, int],
    fps: int,
    count: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Encode yuv420p frames to H.264 in MP4 at `path`."""
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=fps, options=ENCODING)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, fps)
        stream.codec_context.gop_size = 2 * fps
        for name in ("colorspace", "color_primaries", "color_trc"):
            setattr(stream.codec_context, name, 1)
        stream.codec_context.color_range = 1
        for number, array in enumerate(drawn):
            # The encoder reads the frame where it was drawn.
            frame = av.VideoFrame.from_numpy_buffer(array, format="yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
            if progress is not None and number % fps == fps - 1:
                progress(number + 1, count)
        container.mux(stream.encode())


def _unreadable(why: str) -> PermanentError:
    return PermanentError(
        f"The still cannot be used ({why}).",
        code="still_unreadable",
        remedy="Take another picture: JPEG, PNG or WebP of at most 80 megapixels.",
    )
