"""Which encoder makes the video: x264, or one of the machine's hardware where it is asked for and works.

`x264` is the default and the only one whose bytes are the same everywhere. A hardware encoder is tried on a second of
video with the very options a render uses before it is believed to be there; what it makes passes the same checks. The
engine takes an `Encoder`; settings, launchpad and command line speak of it by name.
"""

import re
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ettametta_pipelines.confinement.running import Limits, run_confined
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.probe import probe_file
from ettametta_pipelines.renders.ffmpeg import COMMON, MEMORY_BYTES, ffmpeg_path
from ettametta_pipelines.untrusted import plain_text

AUTO = "auto"
# CUDA reserves addresses for all memory it might ever use, of the card and of the machine.
WITHOUT_LIMIT = 1 << 46
TRIED_FRAMES = 45


@dataclass(frozen=True)
class Encoder:
    """An H.264 encoder with its settings, as ffmpeg takes them.

    `quality` are its own options, `device` arguments before all inputs. `upload` says that frames have to be put on
    the device first. `address_space_bytes` bounds the process that encodes, None as any other.
    """

    name: str
    codec: str
    quality: dict[str, str | int]
    pixel_format: str = "yuv420p"
    device: tuple[str, ...] = ()
    upload: bool = False
    maxrate_kbps: int = 14_000
    buffer_kbits: int = 28_000
    keyframe_every_s: int = 2
    address_space_bytes: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """What decides the bytes."""
        return {name: value for name, value in asdict(self).items() if name != "address_space_bytes"}

    def options(self, rate: Fraction) -> dict[str, Any]:
        """Output options of ffmpeg for video of this rate."""
        return {
            "c:v": self.codec,
            "profile:v": "high",
            **({} if self.upload else {"pix_fmt": self.pixel_format}),
            "maxrate": f"{self.maxrate_kbps}k",
            "bufsize": f"{self.buffer_kbits}k",
            "g": round(rate * self.keyframe_every_s),
            **self.quality,
        }


# One thread: the bytes depend on the number, so it may not follow the machine or what is rendered along. Two would
# make one output alone a fifth faster and three at once no faster, for 130 MB more. Each frame of lookahead holds
# 20 MB over three formats; from the preset's 10 to 6, size falls by 3 to 11 % and SSIM by 0.2 to 0.6 dB.
X264 = Encoder("x264", "libx264", {"preset": "veryfast", "crf": 21, "threads": 1, "rc-lookahead": 6})

# In the order in which `auto` tries them.
HARDWARE = (
    Encoder(
        "nvenc",
        "h264_nvenc",
        {"preset": "p5", "tune": "hq", "rc": "vbr", "cq": 23, "b:v": 0, "spatial-aq": 1, "bf": 2},
        address_space_bytes=WITHOUT_LIMIT,
    ),
    Encoder("qsv", "h264_qsv", {"preset": "medium", "global_quality": 22, "bf": 2}, pixel_format="nv12"),
    Encoder(
        "vaapi",
        "h264_vaapi",
        {"rc_mode": "QVBR", "global_quality": 22, "b:v": "10M", "bf": 2},
        pixel_format="nv12",
        device=("-vaapi_device", "/dev/dri/renderD128"),
        upload=True,
    ),
)
ENCODERS: dict[str, Encoder] = {encoder.name: encoder for encoder in (X264, *HARDWARE)}
NAMES = (AUTO, *ENCODERS)


def choose_encoder(name: str) -> Encoder:
    """The encoder of this name, tried; `auto` is the first hardware encoder that works here, else x264.

    Raises PermanentError `unknown_encoder`, or `encoder_unavailable` with what ffmpeg said: one that was asked for by
    its name is not replaced by another.
    """
    if name == AUTO:
        return next((encoder for encoder in HARDWARE if why_not(encoder) is None), X264)
    encoder = ENCODERS.get(name)
    if encoder is None:
        raise PermanentError(
            f"There is no encoder {plain_text(name, 40)!r}.",
            code="unknown_encoder",
            remedy=f"Use one of {', '.join(NAMES)}.",
        )
    reason = why_not(encoder)
    if reason is not None:
        raise PermanentError(
            f"The encoder {name} does not work on this machine: {reason}",
            code="encoder_unavailable",
            remedy="Run it on a machine that has the hardware and its driver, or use x264; auto uses what is there.",
        )
    return encoder


def why_not(encoder: Encoder) -> str | None:
    """Why this encoder cannot be used here, None where it can."""
    return None if encoder.name == X264.name else _tried(encoder.name)


@lru_cache(maxsize=len(NAMES))
def _tried(name: str) -> str | None:
    encoder = ENCODERS[name]
    memory = encoder.address_space_bytes or MEMORY_BYTES
    limits = Limits(wall_s=30, cpu_s=60, memory_bytes=memory, file_bytes=64 << 20)
    with TemporaryDirectory(prefix="encoder-") as folder:
        target = Path(folder) / "tried.mp4"
        arguments = [*COMMON, "-v", "error", *_trial(encoder, target)]
        ended = run_confined(ffmpeg_path(), arguments, limits=limits, workdir=Path(folder))
        if ended.returncode != 0:
            # The first line is the driver's; all that follow are consequences.
            said = re.sub(r"^(\[[^\]]*\]\s*)+", "", ended.stderr.strip().partition("\n")[0])
            return plain_text(said or f"ffmpeg ended with status {ended.returncode}", 200)
        verdict = probe_file(target)
    frames = verdict.probe.frames if verdict.probe else 0
    return None if frames == TRIED_FRAMES else f"it made {frames} of {TRIED_FRAMES} frames."


def _trial(encoder: Encoder, target: Path) -> list[str]:
    options = [
        part for name, value in encoder.options(Fraction(30)).items() for part in (f"-{name}", str(value))
    ]
    upload = ["-vf", f"format={encoder.pixel_format},hwupload"] if encoder.upload else []
    source = ["-f", "lavfi", "-i", f"testsrc2=size=640x360:rate=30:duration={TRIED_FRAMES / 30}"]
    return [*encoder.device, *source, *upload, *options, "-f", "mp4", f"file:{target}"]
