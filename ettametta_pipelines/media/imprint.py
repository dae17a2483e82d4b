"""The imprint of a finished video: landmarks of its picture and the course of its sound, some kilobytes.

By it a video is known again in other clothes: mirrored, cut to another format, zoomed, faster or slower, in other
colours, with captions or bars, with another sound or as sound alone. `renders/playback.py` takes it while a rendition
is played for its checks, the library keeps it beside the file, `publishing/posted_before.py` asks what it resembles.
For whole sources from beginning to end there is the shorter fingerprint of `fingerprint.py`.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.media import landmarks, melody
from ettametta_pipelines.media.landmarks import PictureMatch
from ettametta_pipelines.media.melody import SoundMatch
from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, source_options

if TYPE_CHECKING:
    from ettametta_pipelines.media.landmarks import Marks
    from ettametta_pipelines.media.melody import Course

HEAD = struct.Struct("<4sIII")
MAGIC = b"IMP1"
FRAMES_FILE, SOUND_FILE = "imprint.gray", "imprint.pcm"


@dataclass(frozen=True)
class Imprint:
    """What a video looks and sounds like; either may be empty."""

    marks: "Marks"
    course: "Course"

    def to_bytes(self) -> bytes:
        head = HEAD.pack(MAGIC, len(self.marks), len(self.course), 0)
        return head + self.marks.tobytes() + self.course.tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Imprint":
        """Raises ValueError when it is none, or one of another revision."""
        import numpy as np

        form = np.dtype(landmarks.FORM)
        if len(data) < HEAD.size:
            raise ValueError("too short for an imprint")
        magic, marks, beats, _ = HEAD.unpack_from(data)
        if magic != MAGIC or len(data) != HEAD.size + marks * form.itemsize + beats * melody.BANDS:
            raise ValueError("not an imprint of this revision")
        course = np.frombuffer(data, np.int8, offset=HEAD.size + marks * form.itemsize)
        return cls(np.frombuffer(data, form, marks, HEAD.size), course.reshape(-1, melody.BANDS))


@dataclass(frozen=True)
class Likeness:
    """How one video resembles another."""

    picture: PictureMatch
    sound: SoundMatch

    @property
    def resembles(self) -> bool:
        return self.picture.resembles or self.sound.resembles

    @property
    def kind(self) -> str:
        """picture, mirrored picture, sound, or both; empty where there is no resemblance."""
        shown = ("mirrored picture" if self.picture.mirrored else "picture") if self.picture.resembles else ""
        return " and ".join(filter(None, [shown, "sound" if self.sound.resembles else ""]))


def kept_arguments(probe: Probe) -> list[str]:
    """ffmpeg's outputs for an imprint, beside whatever else is made of the first input; read by `read_imprint`."""
    picture = landmarks.frame_chain(probe.width, probe.height, probe.duration_s)
    raw = ("-sn", "-dn", "-fps_mode", "passthrough", "-f", "rawvideo")
    # Rounding may give one frame more; a broken clock no thousands.
    most = ("-frames:v", str(landmarks.MAX_FRAMES + 1))
    arguments = ["-map", f"0:{probe.video_index}", "-an", "-vf", picture, *most, *raw, FRAMES_FILE]
    if probe.has_audio:
        arguments += ["-map", f"0:{probe.audio_index}", "-vn", "-sn", "-dn", "-af", melody.SOUND_CHAIN]
        arguments += ["-t", str(melody.MAX_S), "-f", "s16le", SOUND_FILE]
    return arguments


def read_imprint(workdir: Path, probe: Probe) -> Imprint:
    """The imprint of what `kept_arguments` has left in a directory."""
    import numpy as np

    across, down = landmarks.frame_size(probe.width, probe.height)
    frames = np.fromfile(workdir / FRAMES_FILE, np.uint8)
    pictures = frames[: len(frames) // (across * down) * across * down].reshape(-1, down, across)
    sound = np.fromfile(workdir / SOUND_FILE, "<i2") if probe.has_audio else np.empty(0, np.int16)
    marks = landmarks.landmarks_of(pictures, landmarks.frame_rate(probe.duration_s))
    return Imprint(marks, melody.course_of(sound))


def imprint_of(path: Path, probe: Probe, scratch: Path) -> Imprint:
    """The imprint of a file that is not played anyway. Raises PipelineError by the runner's table."""
    with private_dir(scratch, "imprint") as workdir:
        run_ffmpeg(
            [
                *(part for name, value in source_options(probe).items() for part in (f"-{name}", value)),
                "-i", f"file:{path.absolute()}", *kept_arguments(probe),
            ],
            doing="taking an imprint",
            workdir=workdir,
            timeout_s=60 + 2 * probe.duration_s,
        )  # fmt: skip
        return read_imprint(workdir, probe)


def compare(own: Imprint, others: Sequence[Imprint]) -> list[Likeness]:
    """How each of the others resembles `own`; a thousand of half a minute take about a second."""
    sounds = melody.find_sound(own.course, [other.course for other in others])
    pictures = landmarks.find_picture(own.marks, [other.marks for other in others])
    return [Likeness(*pair) for pair in zip(pictures, sounds, strict=True)]
