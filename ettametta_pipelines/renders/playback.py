"""Plays a file once and notes what a viewer would: black, frozen and silent stretches, loudness, true peak.

One ffmpeg run a file, over small frames and the null muxer. Detectors write to files of their own, since a long
film's events outgrow the log; whatever cannot be read back to the last line is an error, never "nothing found".
The same run keeps what other checks look at: stills of the frames they ask for, thumbs for the fingerprint, and what
the imprint is taken from.
`quality.py` plays finished renditions and, where it has to, their source; what is good enough is decided there.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media import animation
from ettametta_pipelines.media.fingerprint import THUMB_BYTES, THUMB_CHAIN
from ettametta_pipelines.media.imprint import Imprint, kept_arguments, read_imprint
from ettametta_pipelines.media.probe import Probe
from ettametta_pipelines.renders.ffmpeg import run_ffmpeg, source_options
from ettametta_pipelines.renders.formats import SOUND, output_rate
from ettametta_pipelines.renders.sound import STEREO, Loudness, parse_ebur128
from ettametta_pipelines.renders.stills import STILL_CHAIN, Stills, chosen, read_stills
from ettametta_pipelines.storage.object_errors import os_errors

SMALL_SIDE = 160
# More than a file system can hide in a block that is half full.
ROOM_BYTES = 64 * 1024
SUMMARY = re.compile(
    r"Integrated loudness:\s+I:\s+(?:-?[\d.]+|-?inf|nan) LUFS.*Peak:\s+(?:-?[\d.]+|-?inf|nan) dBFS", re.DOTALL
)
FRAME_LINE = re.compile(r"frame:\d+ +pts:-?\d+ +pts_time:-?[\d.e+-]+")
EVENT_LINE = re.compile(
    r"lavfi\.(?:freezedetect\.)?(black|freeze|silence)_(start|end|duration)=(-?[\d.]+(?:e[+-]?\d+)?)"
)


@dataclass(frozen=True)
class Stretch:
    """A piece of time, in seconds from the start."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        return self.end_s - self.start_s

    @property
    def middle_s(self) -> float:
        return (self.start_s + self.end_s) / 2


@dataclass(frozen=True)
class Sensitivity:
    """What counts as black (luma, 0 to 1), frozen (mean change of a pixel, 0 to 1), silent (dBFS), and for how long."""

    black_luma: float
    frozen_change: float
    silent_dbfs: float
    shortest_s: float


@dataclass(frozen=True)
class Playback:
    """What one playing showed; loudness is None without sound or when it is silent throughout.

    `thumbs` are the raw grey pictures a fingerprint is made of, `stills` the frames that were asked for, `preview` a
    short animation, which is taken with the imprint.
    """

    frames: int
    black: tuple[Stretch, ...]
    frozen: tuple[Stretch, ...]
    silent: tuple[Stretch, ...]
    loudness: Loudness | None
    thumbs: bytes = b""
    stills: Stills = field(default_factory=dict)
    imprint: Imprint | None = None
    preview: bytes = b""


class PlaybackUnreadable(PermanentError):
    """A playing ended well and what it noted makes no sense: nothing is known about the file."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"What ffmpeg noted while playing cannot be read: {what}.",
            code="playback_unreadable",
            remedy="This is a fault of the program or of its ffmpeg; run `ettametta doctor`.",
        )


def play(
    path: Path,
    probe: Probe,
    sensitivity: Sensitivity,
    scratch: Path,
    *,
    bars: int = 0,
    stills: Iterable[int] = (),
    imprint: bool = False,
) -> Playback:
    """Play a finished file; `bars` is the height in pixels of its letterbox bars, which are not looked at.

    `stills` are the numbers of frames to keep, the first is 0; an `imprint`, and a preview with it, is taken where one
    is wanted. Raises
    PlaybackUnreadable, also when not every frame was shown, and PipelineError by the runner's table.
    """
    crop = [f"crop=in_w:{probe.height - 2 * bars}:0:{bars}"] if bars else []
    wanted = sorted({number for number in stills if 0 <= number < probe.frames})
    shown = _play(path, probe, crop, [], sensitivity, scratch, stills=wanted, imprint=imprint)
    if shown.frames != probe.frames:
        raise PlaybackUnreadable(f"{shown.frames} frames were shown of {probe.frames}")
    return shown


def play_source(
    path: Path,
    probe: Probe,
    sensitivity: Sensitivity,
    scratch: Path,
    *,
    window: tuple[float, float, float, float] | None = None,
) -> Playback:
    """Play a source as its renditions are made from it: at their frame rate, sound as long as the picture.

    `window` is the part to look at: left, top, width and height as shares of the picture.
    """
    left, top, wide, high = window or (0.0, 0.0, 1.0, 1.0)
    part = [f"crop=iw*{wide:.6f}:ih*{high:.6f}:iw*{left:.6f}:ih*{top:.6f}"] if window else []
    rate = output_rate(probe.fps, variable=probe.variable_rate)
    sound = [*STEREO, "apad", f"atrim=end={probe.duration_s:.6f}"]
    frames = max(1, round(probe.duration_s * rate))
    return _play(path, probe, [f"fps={rate}:start_time=0", *part], sound, sensitivity, scratch, frames=frames)


def _play(
    path: Path,
    probe: Probe,
    picture: Sequence[str],
    sound: Sequence[str],
    sensitivity: Sensitivity,
    scratch: Path,
    *,
    frames: int | None = None,
    stills: Sequence[int] | None = None,
    imprint: bool = False,
) -> Playback:
    # Deblocking is a quarter of the decoder's work and moves no pixel by what would count here.
    options = source_options(probe) | {"skip_loop_filter": "noref", "t": f"{probe.duration_s + 1:.3f}"}
    told = bytearray()
    with private_dir(scratch, "playback") as workdir:
        run = run_ffmpeg(
            [
                *(part for name, value in options.items() for part in (f"-{name}", value)),
                "-i", f"file:{path.absolute()}", "-map", f"0:{probe.video_index}", "-sn", "-dn",
                "-vf", ",".join(_picture_chain(probe, picture, sensitivity)),
                *(("-frames:v", str(frames)) if frames else ()),
                *_sound_arguments(probe, sound, sensitivity),
                "-fps_mode", "passthrough", "-progress", "pipe:1", "-f", "null", "-",
                *(_kept_arguments(probe, stills) if stills is not None else ()),
                *((*kept_arguments(probe), *animation.kept_arguments(probe)) if imprint else ()),
            ],
            doing="playing the file",
            workdir=workdir,
            timeout_s=60 + 2 * probe.duration_s,
            on_stdout=told.extend,
            log_level="info",
        )  # fmt: skip
        _require_room(workdir)
        seen = read_events(_noted(workdir / "picture.txt"), probe.duration_s)
        heard = read_events(_noted(workdir / "sound.txt"), probe.duration_s) if probe.has_audio else {}
        thumbs = (workdir / "thumbs.gray").read_bytes() if stills is not None else b""
        kept = read_stills(workdir / "stills.yuv", stills, probe.width, probe.height) if stills else {}
        taken = read_imprint(workdir, probe) if imprint else None
        preview = animation.read_preview(workdir, probe) if imprint else b""
    if len(thumbs) % THUMB_BYTES or len(kept) != len(stills or ()):
        raise PlaybackUnreadable("a picture of it is missing")
    return Playback(
        frames=_frames_shown(bytes(told)),
        black=seen.get("black", ()),
        frozen=seen.get("freeze", ()),
        silent=heard.get("silence", ()),
        loudness=_loudness(run.stderr) if probe.has_audio else None,
        thumbs=thumbs,
        stills=kept,
        imprint=taken,
        preview=preview,
    )


def _kept_arguments(probe: Probe, stills: Sequence[int]) -> list[str]:
    """Outputs beside the null muxer's, from the same decoded frames."""
    raw = ("-an", "-sn", "-dn", "-fps_mode", "passthrough", "-f", "rawvideo")
    picture = ("-map", f"0:{probe.video_index}")
    arguments = [*picture, "-vf", THUMB_CHAIN, *raw, "thumbs.gray"]
    if stills:
        chain = f"select='{chosen(stills)}',{STILL_CHAIN}"
        # The stream would go on to its end after the last frame that is wanted.
        arguments += [*picture, "-vf", chain, "-frames:v", str(len(stills)), *raw, "stills.yuv"]
    return arguments


def _picture_chain(probe: Probe, before: Sequence[str], sensitivity: Sensitivity) -> list[str]:
    shrink = Fraction(SMALL_SIDE, max(probe.width, probe.height))
    width, height = (max(16, 2 * round(side * shrink / 2)) for side in (probe.width, probe.height))
    return [
        # A photograph's EXIF travels with its frame; only what the detectors say may reach the file.
        "metadata=mode=delete",
        *before,
        # Averaging takes grain out: a frozen picture with grain over it is frozen.
        f"scale={width}:{height}:flags=area",
        "format=yuv420p",
        f"blackdetect=d={sensitivity.shortest_s}:pix_th={sensitivity.black_luma}",
        f"freezedetect=d={sensitivity.shortest_s}:n={sensitivity.frozen_change}",
        "metadata=mode=print:file=picture.txt",
    ]


def _sound_arguments(probe: Probe, before: Sequence[str], sensitivity: Sensitivity) -> list[str]:
    if not probe.has_audio:
        return ["-an"]
    chain = [
        "ametadata=mode=delete",
        *before,
        f"silencedetect=d={sensitivity.shortest_s}:n={sensitivity.silent_dbfs:.2f}dB",
        "ametadata=mode=print:file=sound.txt",
        "ebur128=peak=true:framelog=quiet",
    ]
    return [
        "-map",
        f"0:{probe.audio_index}",
        "-af",
        ",".join(chain),
        "-c:a",
        "pcm_s16le",
        "-ar",
        str(SOUND.sample_rate),
    ]


def _require_room(workdir: Path) -> None:
    """Raises TransientError `disk_full`: ffmpeg ends well although it could not write its notes, which then read as
    "nothing found".
    """
    with os_errors("write", "the notes of a playing", str(workdir)):
        (workdir / "room").write_bytes(bytes(ROOM_BYTES))


def _noted(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise PlaybackUnreadable(f"{path.name}: {error.__class__.__name__}") from error


def read_events(lines: Iterable[str], end_s: float) -> dict[str, tuple[Stretch, ...]]:
    """Stretches by kind (black, freeze, silence) from the lines of ffmpeg's `metadata=print`.

    A stretch that is open at the end lasts to the end. Raises PlaybackUnreadable for any line or order of events
    that is not understood.
    """
    found: dict[str, list[Stretch]] = {}
    starts: dict[str, float] = {}
    for line in lines:
        if FRAME_LINE.fullmatch(line.strip()):
            continue
        event = EVENT_LINE.fullmatch(line.strip())
        if event is None:
            raise PlaybackUnreadable(f"the line {line[:80]!r}")
        kind, edge, at = event[1], event[2], float(event[3])
        if edge == "start":
            if kind in starts:
                raise PlaybackUnreadable(f"{kind} starts twice")
            starts[kind] = max(0.0, at)
        elif edge == "end":
            if kind not in starts:
                raise PlaybackUnreadable(f"{kind} ends before it starts")
            found.setdefault(kind, []).append(Stretch(starts.pop(kind), at))
    for kind, start in starts.items():
        found.setdefault(kind, []).append(Stretch(start, max(start, end_s)))
    return {kind: tuple(stretches) for kind, stretches in found.items()}


def _frames_shown(progress: bytes) -> int:
    """The count in the last block of `-progress`, which must say that it is the last."""
    frames = re.findall(rb"^frame=\s*(\d+)\s*$", progress, re.MULTILINE)
    if not frames or not progress.rstrip().endswith(b"progress=end"):
        raise PlaybackUnreadable("it was not played to its end")
    return int(frames[-1])


def _loudness(log: str) -> Loudness | None:
    if SUMMARY.search(log[log.rfind("Integrated loudness:") :]) is None:
        raise PlaybackUnreadable("the summary of its loudness is missing")
    return parse_ebur128(log)
