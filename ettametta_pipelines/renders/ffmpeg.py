"""The one ffmpeg runner: which binary, under which limits, with what progress, and what its failures mean.

Rendering, analysis and the sample maker all run ffmpeg through `run_ffmpeg`. What to ask of ffmpeg is theirs
(`graph.py`); that a run which exits 0 also made what it should is checked by `quality.py`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ettametta_pipelines.confinement.running import Ended, Limits, run_confined
from ettametta_pipelines.failures import PermanentError, PipelineError, TransientError
from ettametta_pipelines.media.probe import CODEC_WHITELIST, POLICY, Probe
from ettametta_pipelines.untrusted import plain_text

# -xerror: a broken packet ends the run; without it a truncated file renders short and exits 0.
COMMON = ("-hide_banner", "-nostdin", "-y", "-xerror", "-filter_threads", "1", "-filter_complex_threads", "1")
DEMUXER_WHITELIST = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm"

MEMORY_BYTES = 6 << 30
MAX_OUTPUT_BYTES = 32 << 30


@dataclass(frozen=True)
class RenderProgress:
    """How far a run is: percent 0..100, encoded frames per second, seconds left (None until known)."""

    percent: float
    fps: float
    eta_s: float | None


@dataclass(frozen=True)
class FfmpegRun:
    """A run that exited 0. `stderr` is its log's last 32 KB."""

    stderr: str
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int


@lru_cache(maxsize=1)
def ffmpeg_path() -> Path:
    """The bundled static binary, or the one `IMAGEIO_FFMPEG_EXE` names. Raises PermanentError `ffmpeg_missing`."""
    import imageio_ffmpeg

    try:
        return Path(imageio_ffmpeg.get_ffmpeg_exe()).resolve()
    except RuntimeError as error:
        raise PermanentError(
            "No ffmpeg binary was found.",
            code="ffmpeg_missing",
            remedy="Reinstall the imageio-ffmpeg package, or set IMAGEIO_FFMPEG_EXE to an ffmpeg 7 or newer.",
        ) from error


@lru_cache(maxsize=1)
def ffmpeg_build() -> str:
    """Version string of the binary, part of every render key: another build may give other bytes."""
    limits = Limits(wall_s=20, cpu_s=10, memory_bytes=MEMORY_BYTES, file_bytes=0)
    try:
        ended = run_confined(ffmpeg_path(), ["-version"], limits=limits, workdir=Path("/"))
    except OSError as error:
        raise _ffmpeg_unusable(str(error.strerror)) from error
    words = ended.stdout.decode("utf-8", "replace").split()
    if ended.returncode != 0 or words[:2] != ["ffmpeg", "version"]:
        raise _ffmpeg_unusable(ended.stderr.strip()[-200:] or f"exit status {ended.returncode}")
    return words[2]


def _ffmpeg_unusable(said: str) -> PermanentError:
    return PermanentError(
        f"{ffmpeg_path()} cannot be run: {said}.",
        code="ffmpeg_unusable",
        remedy="Reinstall the imageio-ffmpeg package, or set IMAGEIO_FFMPEG_EXE to an ffmpeg that runs here.",
    )


def source_options(probe: Probe) -> dict[str, str]:
    """Input options for a stranger's file: its own demuxer, known decoders, local files only."""
    # One decoder thread keeps 1080p under 600 MB and is fast enough; 4K is not.
    threads = 1 if probe.width * probe.height <= 1920 * 1088 else 2
    return {
        "protocol_whitelist": "file",
        "format_whitelist": DEMUXER_WHITELIST,
        "codec_whitelist": ",".join(CODEC_WHITELIST),
        "max_streams": "64",
        # Pictures may grow on the way; twice the policy's leaves room for encoders' padding.
        "max_pixels": str(2 * POLICY.max_pixels),
        "threads": str(threads),
        "f": probe.container,
    }


def size_guard(probe: Probe) -> dict[str, str | int]:
    """Options of a crop that ends the run, as `picture_size_changes`, at a picture that is not of the probed size.

    What follows it would cut the wrong part out of such a picture, or count anew from zero. 0/0 is no width.
    """
    width = f"if(eq(in_w,{probe.width})*eq(in_h,{probe.height}),in_w,0/0)"
    return {"w": width, "h": "in_h", "x": 0, "y": 0, "exact": 1}


def run_ffmpeg(
    arguments: Sequence[str],
    *,
    doing: str,
    workdir: Path,
    timeout_s: float,
    expected_s: float = 0.0,
    progress: Callable[[RenderProgress], None] | None = None,
    on_stdout: Callable[[bytes], None] | None = None,
    log_level: str = "error",
    address_space_bytes: int | None = None,
) -> FfmpegRun:
    """Run ffmpeg in `workdir`; `doing` names the work in errors, e.g. `rendering holiday.mp4`.

    With `expected_s` (length of the output) and `progress`, progress is reported about twice a second and once at
    100 percent. `on_stdout` gets raw output written to `pipe:1` instead. Raises PipelineError by `FAILURES`.
    """
    follow = ProgressReader(expected_s, progress) if progress is not None and on_stdout is None else None
    extra = ("-progress", "pipe:1", "-stats_period", "0.5") if follow else ()
    memory = address_space_bytes or MEMORY_BYTES
    limits = Limits(wall_s=timeout_s, cpu_s=timeout_s * 8, memory_bytes=memory, file_bytes=MAX_OUTPUT_BYTES)
    try:
        ended = run_confined(
            ffmpeg_path(),
            [*COMMON, "-v", log_level, "-nostats", *extra, *arguments],
            limits=limits,
            workdir=workdir,
            on_stdout=follow or on_stdout,
        )
    except OSError as error:
        raise _ffmpeg_unusable(str(error.strerror)) from error
    if ended.timed_out or ended.returncode != 0:
        raise failure_of(ended, doing, workdir)
    return FfmpegRun(ended.stderr, ended.wall_s, ended.cpu_s, ended.peak_memory_bytes)


class ProgressReader:
    """Turns the blocks of `-progress` into RenderProgress; called with chunks of ffmpeg's stdout."""

    def __init__(self, expected_s: float, report: Callable[[RenderProgress], None]) -> None:
        self.expected_s = expected_s
        self.report = report
        self.rest = b""
        self.block: dict[str, str] = {}

    def __call__(self, chunk: bytes) -> None:
        *lines, self.rest = (self.rest + chunk).split(b"\n")
        for line in lines:
            key, _, value = line.decode("ascii", "replace").strip().partition("=")
            self.block[key] = value.strip()
            if key == "progress":
                self._report_block(ended=value == "end")
                self.block = {}

    def _report_block(self, *, ended: bool) -> None:
        fps = _number(self.block.get("fps"))
        if ended:
            self.report(RenderProgress(100.0, fps, 0.0))
            return
        done_s = max(0.0, _number(self.block.get("out_time_us")) / 1e6)
        speed = _number(self.block.get("speed", "").removesuffix("x"))
        percent = min(99.9, 100 * done_s / self.expected_s) if self.expected_s else 0.0
        eta_s = max(0.0, self.expected_s - done_s) / speed if speed > 0 else None
        self.report(RenderProgress(percent, fps, eta_s))


def _number(text: str | None) -> float:
    """ffmpeg writes N/A until it knows."""
    try:
        return float(text or 0)
    except ValueError:
        return 0.0


@dataclass(frozen=True)
class FailureClass:
    error: type[PipelineError]
    code: str
    sentence: str
    remedy: str


_DISK_FULL = FailureClass(
    TransientError, "disk_full", "the disk is full", "Free space under ETTAMETTA_HOME, then run it again."
)
_NO_MEMORY = FailureClass(
    TransientError,
    "out_of_memory",
    "there was not enough memory",
    "Give the worker more memory, or run fewer renders at once.",
)
_TOO_LARGE = FailureClass(
    PermanentError, "output_too_large", "its output grew past the limit", "Cut the source into parts."
)
_DECODE = FailureClass(
    PermanentError,
    "decode_failed",
    "the source is damaged and cannot be decoded to its end",
    "Export the source again as MP4 with H.264 video and upload it again.",
)
_SIZE_CHANGES = FailureClass(
    PermanentError,
    "picture_size_changes",
    "the source's picture changes its size on the way, as recorded calls do",
    "Export the source again as MP4 with H.264 video, all of it in one size, and upload it again.",
)
_TIMEOUT = FailureClass(
    PermanentError,
    "render_timeout",
    "it took longer than its time limit",
    "Run it again when the machine is less busy, or cut the source into parts.",
)
_KILLED = FailureClass(
    TransientError,
    "ffmpeg_killed",
    "ffmpeg was killed, most likely for want of memory",
    "Give the worker more memory, or run fewer renders at once.",
)
_CRASHED = FailureClass(
    PermanentError, "ffmpeg_crashed", "ffmpeg crashed", "Export the source again with another program."
)
_FAILED = FailureClass(
    PermanentError, "ffmpeg_failed", "ffmpeg failed", "See the message; run `ettametta doctor`."
)

# ffmpeg's exit statuses are truncated error numbers and no stable API; its words are. First match wins.
FAILURES: tuple[tuple[re.Pattern[str], FailureClass], ...] = (
    (re.compile(r"No space left on device|Disk quota exceeded"), _DISK_FULL),
    (re.compile(r"File too large"), _TOO_LARGE),
    (
        re.compile(
            r"Cannot allocate memory|malloc of size|Error allocating|bad_alloc|Resource temporarily unavailable|"
            # zimg's ZIMG_ERROR_OUT_OF_MEMORY, which comes without a word
            r"zscale_\d+ @ \w+\] code 1:"
        ),
        _NO_MEMORY,
    ),
    (re.compile(r"expression 'if\(eq\(in_w"), _SIZE_CHANGES),
    (
        re.compile(
            r"Error submitting packet to decoder|Decode error rate|Error while decoding|Decoding error|"
            r"Invalid data found|Error during demuxing|partial file|stream .* offset .*: partial|corrupt"
        ),
        _DECODE,
    ),
)
SIGNALS: dict[int, FailureClass] = {9: _KILLED, 15: _KILLED, 2: _KILLED, 24: _TIMEOUT, 25: _TOO_LARGE}


def failure_of(ended: Ended, doing: str, workdir: Path) -> PipelineError:
    """The error a failed run means."""
    said = ended.stderr.replace(str(workdir), "").strip()
    if ended.timed_out:
        meaning = _TIMEOUT
    elif ended.returncode < 0:
        meaning = SIGNALS.get(-ended.returncode, _CRASHED)
    else:
        meaning = next((m for pattern, m in FAILURES if pattern.search(said)), _FAILED)
    detail = ""
    if meaning in (_FAILED, _DECODE, _CRASHED):
        detail = f" ({_most_telling_line(said) or f'exit status {ended.returncode}'})"
    return meaning.error(
        f"While {doing}, {meaning.sentence}{detail}.", code=meaning.code, remedy=meaning.remedy
    )


def _most_telling_line(said: str) -> str:
    """The first line that names an error, without addresses; the last lines only repeat that something failed."""
    lines = [re.sub(r"^\[[^\]]*\]\s*", "", line) for line in said.splitlines() if line.strip()]
    telling = next((line for line in lines if re.search(r"error|invalid|fail", line, re.IGNORECASE)), "")
    return plain_text(telling or (lines[-1] if lines else ""), 200)
