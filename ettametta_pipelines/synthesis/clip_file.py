"""Clips as files: H.264 with AAC from frames in memory, and the look at a finished file that decides whether it counts.

Through PyAV, so that the GPU image needs no ffmpeg program. Called by `worker.py` and by tests; no torch here.
"""

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import TransientError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Sounds like the source at this rate; AAC frames are 1024 samples.
AUDIO_BITRATE = 192_000
CRF = "16"


@dataclass(frozen=True)
class ClipFacts:
    """What decoding a clip found."""

    width: int
    height: int
    fps: float
    frames: int
    has_audio: bool
    sha256: str


def encode_clip(
    path: Path,
    frames: "NDArray[np.uint8]",
    fps: int,
    audio: "NDArray[np.float32] | None" = None,
    audio_rate: int = 0,
) -> None:
    """Write frames (count, height, width, 3; RGB) and sound (channels, samples; -1 to 1) as one MP4.

    The sound is cut or filled with silence to the picture's length: models make it a little shorter.
    """
    import av

    with av.open(str(path), "w", options={"movflags": "+faststart"}) as container:
        picture: Any = container.add_stream("libx264", rate=fps)
        picture.width, picture.height = frames.shape[2], frames.shape[1]
        picture.pix_fmt = "yuv420p"
        picture.options = {"crf": CRF, "preset": "veryfast"}
        picture.codec_context.color_primaries = picture.codec_context.color_trc = 1
        picture.codec_context.colorspace = picture.codec_context.color_range = 1
        sound: Any = None
        if audio is not None:
            layout = "stereo" if audio.shape[0] == 2 else "mono"
            sound = container.add_stream("aac", rate=audio_rate, layout=layout, bit_rate=AUDIO_BITRATE)
        for pixels in frames:
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            container.mux(picture.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))
        container.mux(picture.encode())
        if sound is not None and audio is not None:
            _add_sound(container, sound, _fitted(audio, round(len(frames) * audio_rate / fps)), audio_rate)


def _fitted(audio: "NDArray[np.float32]", samples: int) -> "NDArray[np.float32]":
    import numpy as np

    cut = audio[:, :samples]
    return np.pad(cut, ((0, 0), (0, samples - cut.shape[1])))


def _add_sound(container: Any, stream: Any, audio: "NDArray[np.float32]", rate: int) -> None:
    import av
    import numpy as np

    layout = "stereo" if audio.shape[0] == 2 else "mono"
    for start in range(0, audio.shape[1], 1024):
        piece = np.ascontiguousarray(np.clip(audio[:, start : start + 1024], -1, 1), dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(piece, format="fltp", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def examine_clip(path: Path) -> ClipFacts:
    """Decode every frame of a clip that `encode_clip` has just written here; others' clips are for `media/probe.py`.

    Raises TransientError `clip_unreadable` for what does not play to its end.
    """
    import av

    try:
        with av.open(f"file:{path}", format="mp4") as container:
            picture = container.streams.video[0]
            picture.thread_type = "AUTO"
            frames = sum(1 for _ in container.decode(picture))
            rate = float(picture.average_rate or 0)
            width, height = picture.codec_context.width, picture.codec_context.height
            has_audio = bool(container.streams.audio)
    except (av.FFmpegError, IndexError) as error:
        raise TransientError(
            f"The clip {path.name} cannot be played: {error}.",
            code="clip_unreadable",
            remedy="It is made again by the next run.",
        ) from error
    return ClipFacts(width, height, rate, frames, has_audio, hashlib.sha256(path.read_bytes()).hexdigest())
