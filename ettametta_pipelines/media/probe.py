"""The probe: is this file a video that can be taken, and what is it?

`probe_file` looks at a regular local file in a confined child (`inspection.py`), holds the facts against the intake
policy and answers with a verdict; a bad file is an answer, not an exception. Intake, the render engine (for its
source and for what it made) and `ettametta probe` call it.
"""

import json
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from ettametta_pipelines.confinement.running import Ended, Limits, run_confined
from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.media.reasons import state_reason

INSPECTOR = Path(__file__).with_name("inspection.py")

# Decoders a source may need; everything else stays out of reach of strangers' files.
VIDEO_CODECS = frozenset(
    ("h264", "hevc", "vp8", "libvpx", "vp9", "libvpx-vp9", "av1", "libdav1d", "mpeg4", "mjpeg", "prores")
)
AUDIO_CODECS = frozenset(
    (
        "aac", "mp3", "mp3float", "opus", "libopus", "vorbis", "ac3", "eac3", "alac", "flac",
        "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_f32le",
    )
)  # fmt: skip
CODEC_WHITELIST = tuple(sorted(VIDEO_CODECS | AUDIO_CODECS))

HDR_TRANSFERS = frozenset((16, 18))  # SMPTE ST 2084 (PQ) and ARIB STD-B67 (HLG), ITU-T H.273 table 3


@dataclass(frozen=True)
class Probe:
    """What a video is. Width and height are after rotation; times in seconds from the earliest start of a stream.

    `entry_points_s` are keyframes two seconds or more apart at which decoding can begin; the start is not among them.
    """

    container: str
    video_codec: str
    audio_codec: str | None
    width: int
    height: int
    rotation: int
    sample_aspect: tuple[int, int]
    fps: float
    variable_rate: bool
    duration_s: float
    frames: int
    has_audio: bool
    audio_channels: int
    audio_duration_s: float
    bit_depth: int
    pixel_format: str
    full_range: bool
    color_matrix: int
    color_transfer: int
    color_primaries: int
    video_index: int
    audio_index: int | None
    size_bytes: int
    starts_s: float = 0.0
    audio_starts_s: float = 0.0
    entry_points_s: tuple[float, ...] = ()

    @property
    def is_hdr(self) -> bool:
        return self.color_transfer in HDR_TRANSFERS

    @property
    def display_aspect(self) -> Fraction:
        """Width to height as shown, non-square pixels accounted for."""
        return Fraction(self.width, self.height) * Fraction(*self.sample_aspect)

    @property
    def extension(self) -> str:
        return {"mov": "mp4", "matroska": "mkv"}[self.container]

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> "Probe":
        """The inverse of `as_dict`, also through JSON; raises KeyError or TypeError for anything else."""
        pairs = {name: tuple(document[name]) for name in ("sample_aspect", "entry_points_s")}
        return cls(**document | pairs)


@dataclass(frozen=True)
class ProbeVerdict:
    """Accepted with a probe, or rejected with a stable reason code, a sentence and a remedy."""

    name: str
    accepted: bool
    probe: Probe | None = None
    reason_code: str | None = None
    reason: str | None = None
    remedy: str | None = None

    @property
    def summary(self) -> str:
        """One line about an accepted file."""
        if self.probe is None:
            return self.reason or ""
        p = self.probe
        sound = f"{p.audio_codec} sound" if p.has_audio else "no sound"
        rate = f"{p.fps:.4g} fps" + (" on average" if p.variable_rate else "")
        return f"{p.video_codec} {p.width}x{p.height}, {rate}, {p.duration_s:.2f} s, {sound}"

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; `verdict` is `accepted` or `rejected`."""
        return {
            "file": self.name,
            "verdict": "accepted" if self.accepted else "rejected",
            "reason_code": self.reason_code,
            "reason": self.reason,
            "remedy": self.remedy,
            "probe": self.probe.as_dict() if self.probe else None,
        }


@dataclass(frozen=True)
class IntakePolicy:
    """What is taken in. The picture limit is 4096x2304: DCI 4K with room for odd encoders' padding."""

    max_duration_s: float = 3 * 3600
    min_duration_s: float = 1.0
    max_side: int = 4096
    max_pixels: int = 4096 * 2304
    min_side: int = 64
    max_streams: int = 16
    min_fps: float = 5.0
    max_fps: float = 121.0
    max_gap_s: float = 30.0
    max_bytes: int = 16 << 30


POLICY = IntakePolicy()


def probe_file(path: Path, *, name: str | None = None, policy: IntakePolicy = POLICY) -> ProbeVerdict:
    """Judge a local file; `name` is what the verdict calls it when that is not the path's own name.

    Raises PermanentError `file_not_found`, and TransientError `probe_killed` when the machine, not the file, ended
    the inspector.
    """
    shown = name or path.name
    try:
        status = path.lstat()
    except FileNotFoundError as error:
        raise PermanentError(
            f"There is no file {path}.", code="file_not_found", remedy="Check the path."
        ) from error
    if not stat.S_ISREG(status.st_mode):
        return _rejected(shown, "not_a_regular_file", _KINDS.get(stat.S_IFMT(status.st_mode), "special file"))
    if status.st_size == 0:
        return _rejected(shown, "empty_file")
    if status.st_size > policy.max_bytes:
        return _rejected(shown, "too_large_file", f"{status.st_size / 1e9:.1f} GB")
    ended = _run_inspector(path, status.st_size)
    facts = _read_answer(ended, shown)
    if "error" in facts:
        return _rejected(shown, facts["error"], _worded(facts["error"], facts["detail"]))
    for code, check in POLICY_CHECKS.items():
        detail = check(facts, policy)
        if detail:
            return _rejected(shown, code, detail)
    return ProbeVerdict(shown, True, _probe_of(facts, status.st_size))


def require_probe(path: Path, *, name: str | None = None, policy: IntakePolicy = POLICY) -> Probe:
    """Probe of a file that has to be good; raises PermanentError with the verdict's code, sentence and remedy."""
    verdict = probe_file(path, name=name, policy=policy)
    if verdict.probe is None:
        raise PermanentError(str(verdict.reason), code=str(verdict.reason_code), remedy=str(verdict.remedy))
    return verdict.probe


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFBLK: "a device",
    stat.S_IFCHR: "a device",
}


def _rejected(name: str, code: str, detail: str = "") -> ProbeVerdict:
    sentence, remedy = state_reason(code, name=name, detail=detail)
    return ProbeVerdict(name, False, None, code, sentence, remedy)


def _worded(code: str, detail: str) -> str:
    return f" but {detail}" if code == "not_a_video" and detail else detail


def _run_inspector(path: Path, size: int) -> Ended:
    # Every packet is read once; 20 MB/s is what a slow network disk gives.
    wall_s = 30 + size / 20e6
    limits = Limits(wall_s=wall_s, cpu_s=wall_s, memory_bytes=3 << 30, file_bytes=0)
    arguments = ["-I", "-B", str(INSPECTOR), str(path.absolute()), ",".join(CODEC_WHITELIST)]
    return run_confined(Path(sys.executable), arguments, limits=limits, workdir=Path("/"))


def _read_answer(ended: Ended, name: str) -> dict[str, Any]:
    """The inspector's facts. How it died is an answer too: only a kill from outside is nobody's fault."""
    if ended.timed_out:
        return {"error": "too_complex", "detail": f"reading took more than {ended.wall_s:.0f} s"}
    if ended.returncode == 0:
        answer: dict[str, Any] = json.loads(ended.stdout)
        return answer
    if ended.returncode == -9:
        raise TransientError(
            f"The machine ended the examination of {name}, most likely for want of memory.",
            code="probe_killed",
            remedy="Give the worker more memory, or run fewer renders at once.",
        )
    if ended.returncode < 0:
        return {"error": "unreadable", "detail": f"its reader crashed (signal {-ended.returncode})"}
    if "MemoryError" in ended.stderr:
        return {"error": "too_complex", "detail": "reading took too much memory"}
    last = ended.stderr.strip().splitlines()[-1:] or ["no message"]
    raise PermanentError(
        f"The examination of {name} failed: {last[0][:200]}",
        code="probe_failed",
        remedy="This is a fault of the program, not of the file; run `ettametta doctor`.",
    )


Facts = Mapping[str, Any]


def _too_many_streams(facts: Facts, policy: IntakePolicy) -> str | None:
    count = facts["stream_count"]
    return f"{count}, at most {policy.max_streams}" if count > policy.max_streams else None


def _unsupported_codec(facts: Facts, policy: IntakePolicy) -> str | None:
    for kind, known in (("video", VIDEO_CODECS), ("audio", AUDIO_CODECS)):
        codec = facts[f"{kind}_codec"]
        if facts[f"{kind}_index"] is not None and codec not in known:
            return f"{kind} in {codec or 'an unknown codec'}"
    return None


def _too_large_frame(facts: Facts, policy: IntakePolicy) -> str | None:
    width, height = facts["coded_width"], facts["coded_height"]
    if max(width, height) > policy.max_side or width * height > policy.max_pixels:
        return f"{width}x{height}"
    return None


def _too_small_frame(facts: Facts, policy: IntakePolicy) -> str | None:
    width, height = facts["coded_width"], facts["coded_height"]
    return f"{width}x{height}" if min(width, height) < policy.min_side else None


def _truncated(facts: Facts, policy: IntakePolicy) -> str | None:
    stated = facts["stated_duration_s"] or 0.0
    # Matroska states its end, not its length: a recording whose clock starts at 5 s states 5 s more than it holds.
    found = max(facts["duration_s"], facts["audio_duration_s"]) + max(0.0, facts["clock_starts_s"])
    if facts["damaged_packets"]:
        return f"{facts['damaged_packets']} of its packets are incomplete"
    # A second, longer track may stretch what the file states; half of it missing is no such case.
    if found < 0.5 * stated - 1:
        return f"it states {stated:.1f} s and holds {found:.1f} s"
    return None


def _broken_timestamps(facts: Facts, policy: IntakePolicy) -> str | None:
    gap, duration = facts["longest_gap_s"], facts["duration_s"]
    if max(gap, facts["starts_s"]) > policy.max_gap_s:
        return f"no frame for {max(gap, facts['starts_s']):.0f} s"
    if duration <= 0:
        return f"it lasts {duration:.1f} s"
    return None


def _too_long(facts: Facts, policy: IntakePolicy) -> str | None:
    duration = facts["duration_s"]
    if duration > policy.max_duration_s:
        return f"{duration / 3600:.1f} h, at most {policy.max_duration_s / 3600:g} h"
    return None


def _too_short(facts: Facts, policy: IntakePolicy) -> str | None:
    duration = facts["duration_s"]
    if duration < policy.min_duration_s:
        return f"{duration:.2f} s, at least {policy.min_duration_s:g} s"
    return None


def _bad_frame_rate(facts: Facts, policy: IntakePolicy) -> str | None:
    fps = facts["fps"]
    return None if policy.min_fps <= fps <= policy.max_fps else f"{fps:.4g} frames a second"


def _unsupported_rotation(facts: Facts, policy: IntakePolicy) -> str | None:
    rotation = facts["rotation"]
    return f"{rotation} degrees" if rotation % 90 else None


# In this order: the first that objects names the verdict. Cheap facts come before those that need packets, which the
# inspector leaves out where a file is hopeless.
POLICY_CHECKS: dict[str, Callable[[Facts, IntakePolicy], str | None]] = {
    "too_many_streams": _too_many_streams,
    "unsupported_codec": _unsupported_codec,
    "too_large_frame": _too_large_frame,
    "too_small_frame": _too_small_frame,
    "truncated_media": _truncated,
    "broken_timestamps": _broken_timestamps,
    "too_long": _too_long,
    "too_short": _too_short,
    "bad_frame_rate": _bad_frame_rate,
    "unsupported_rotation": _unsupported_rotation,
}


def _probe_of(facts: Facts, size: int) -> Probe:
    turned = facts["rotation"] % 180 == 90
    width, height = facts["frame_width"], facts["frame_height"]
    across, down = facts["sample_aspect"]
    has_audio = facts["audio_packets"] > 0
    return Probe(
        container=facts["container"],
        video_codec=facts["video_codec"],
        audio_codec=facts["audio_codec"] if has_audio else None,
        width=height if turned else width,
        height=width if turned else height,
        rotation=facts["rotation"],
        sample_aspect=(down, across) if turned else (across, down),
        fps=facts["fps"],
        variable_rate=facts["variable_rate"],
        duration_s=facts["duration_s"],
        frames=facts["frames"],
        has_audio=has_audio,
        audio_channels=facts["audio_channels"] if has_audio else 0,
        audio_duration_s=facts["audio_duration_s"],
        bit_depth=facts["bit_depth"],
        pixel_format=facts["pixel_format"],
        full_range=facts["full_range"],
        color_matrix=facts["color_matrix"],
        color_transfer=facts["color_transfer"],
        color_primaries=facts["color_primaries"],
        video_index=facts["video_index"],
        audio_index=facts["audio_index"] if has_audio else None,
        size_bytes=size,
        starts_s=facts["starts_s"],
        audio_starts_s=facts["audio_starts_s"] if has_audio else 0.0,
        entry_points_s=tuple(facts["entry_points_s"]),
    )
