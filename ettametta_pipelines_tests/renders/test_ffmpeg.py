"""The runner: progress as it happens, every failure named, nothing left running."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from ettametta_pipelines.confinement.running import Ended, Limits, private_dir, run_confined
from ettametta_pipelines.failures import FailureKind, PermanentError, TransientError
from ettametta_pipelines.renders.ffmpeg import (
    ProgressReader,
    RenderProgress,
    failure_of,
    ffmpeg_build,
    ffmpeg_path,
    run_ffmpeg,
)

ENDLESS = ["-re", "-f", "lavfi", "-i", "testsrc2=s=320x240:r=30", "-f", "null", "-"]


def test_the_build_is_named() -> None:
    assert ffmpeg_build().startswith("n")


def test_progress_is_reported_and_ends_at_100(tmp_path: Path) -> None:
    seen: list[RenderProgress] = []
    arguments = ["-f", "lavfi", "-i", "testsrc2=s=1280x720:r=30:d=4", "-c:v", "libx264", "-f", "null", "-"]
    run_ffmpeg(arguments, doing="x", workdir=tmp_path, timeout_s=60, expected_s=4, progress=seen.append)
    percents = [update.percent for update in seen]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert all(0 <= percent <= 100 for percent in percents)


def test_progress_blocks_may_arrive_in_pieces_and_without_numbers() -> None:
    seen: list[RenderProgress] = []
    reader = ProgressReader(10, seen.append)
    text = (
        b"frame=0\nfps=0.00\nout_time_us=N/A\nspeed=N/A\nprogress=continue\n"
        b"frame=60\nfps=30.0\nout_time_us=5000000\nspeed=2.5x\nprogress=continue\nfps=31\nprogress=end\n"
    )
    for place in range(0, len(text), 7):
        reader(text[place : place + 7])
    assert seen == [
        RenderProgress(0, 0, None),
        RenderProgress(50, 30, 2),
        RenderProgress(100, 31, 0),
    ]


def test_a_run_past_its_time_limit_is_ended_with_everything_it_started(tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as caught:
        run_ffmpeg(ENDLESS, doing="rendering", workdir=tmp_path, timeout_s=0.5)
    assert caught.value.code == "render_timeout"


def test_a_killed_ffmpeg_is_worth_another_try(tmp_path: Path) -> None:
    killed = threading.Event()

    def kill_at_first_sight(chunk: bytes) -> None:
        if not killed.is_set():
            killed.set()
            (child,) = _children_running(ffmpeg_path())
            os.kill(child, signal.SIGKILL)

    arguments = ["-f", "lavfi", "-i", "testsrc2=s=320x240:r=30", "-f", "rawvideo", "pipe:1"]
    with pytest.raises(TransientError) as caught:
        run_ffmpeg(
            arguments, doing="rendering", workdir=tmp_path, timeout_s=60, on_stdout=kill_at_first_sight
        )
    assert caught.value.code == "ffmpeg_killed"


def _children_running(program: Path, parent: int | None = None) -> list[int]:
    """Processes of this program whose parent is ours."""
    wanted = parent or os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            status = (entry / "stat").read_text()
            if (entry / "exe").resolve() == program and int(status.rsplit(")", 1)[1].split()[1]) == wanted:
                found.append(int(entry.name))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_ffmpeg_dies_with_a_worker_that_is_killed(tmp_path: Path) -> None:
    program = (
        "from pathlib import Path\n"
        "from ettametta_pipelines.renders.ffmpeg import run_ffmpeg\n"
        f"run_ffmpeg({ENDLESS!r}, doing='x', workdir=Path({str(tmp_path)!r}), timeout_s=60)\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", program])
    deadline = time.monotonic() + 30
    while not (children := _children_running(ffmpeg_path(), worker.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    worker.kill()
    worker.wait()
    (child,) = children
    while Path(f"/proc/{child}").exists() and "Z" not in _state_of(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not Path(f"/proc/{child}").exists() or "Z" in _state_of(child)


def _state_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "Z"


def test_an_interrupted_caller_leaves_no_ffmpeg(tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(chunk: bytes) -> None:
        raise Interrupted

    arguments = ["-f", "lavfi", "-i", "testsrc2=s=320x240:r=30", "-f", "rawvideo", "pipe:1"]
    with pytest.raises(Interrupted):
        run_ffmpeg(arguments, doing="x", workdir=tmp_path, timeout_s=60, on_stdout=interrupt)
    assert _children_running(ffmpeg_path()) == []


@pytest.mark.parametrize(
    ("stderr", "returncode", "code", "kind"),
    [
        ("av_interleaved_write_frame(): No space left on device", 228, "disk_full", FailureKind.TRANSIENT),
        ("Error writing trailer: File too large", 229, "output_too_large", FailureKind.PERMANENT),
        ("Error: Cannot allocate memory", 244, "out_of_memory", FailureKind.TRANSIENT),
        (
            "[vist#0:0/h264 @ 0x1] Error submitting packet to decoder",
            183,
            "decode_failed",
            FailureKind.PERMANENT,
        ),
        ("Unknown encoder 'x'", 8, "ffmpeg_failed", FailureKind.PERMANENT),
        ("", -9, "ffmpeg_killed", FailureKind.TRANSIENT),
        ("", -11, "ffmpeg_crashed", FailureKind.PERMANENT),
        ("", -25, "output_too_large", FailureKind.PERMANENT),
    ],
)
def test_failures_have_a_class_and_a_plain_sentence(
    stderr: str, returncode: int, code: str, kind: FailureKind, tmp_path: Path
) -> None:
    ended = Ended(returncode, False, b"", stderr, 1, 1, 1)
    error = failure_of(ended, "rendering 9x16", tmp_path)
    assert (error.code, error.kind) == (code, kind)
    assert error.message.startswith("While rendering 9x16, ")
    assert error.remedy


def test_a_full_disk_is_told_from_other_failures(tmp_path: Path) -> None:
    """A file size limit stands in for the disk: the same write fails, with a neighbouring error."""
    limits = Limits(wall_s=30, cpu_s=30, memory_bytes=4 << 30, file_bytes=50_000)
    arguments = [
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc2=s=640x480:d=5",
        "-f",
        "mp4",
        str(tmp_path / "a.mp4"),
    ]
    ended = run_confined(ffmpeg_path(), arguments, limits=limits, workdir=tmp_path)
    assert failure_of(ended, "x", tmp_path).code == "output_too_large"


def test_the_child_sees_no_environment_and_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-secret")
    program = "import os; print(sorted(os.environ), [i for _, i in __import__('socket').if_nameindex()])"
    limits = Limits(wall_s=20, cpu_s=20, memory_bytes=1 << 30, file_bytes=0)
    ended = run_confined(Path(sys.executable), ["-I", "-c", program], limits=limits, workdir=tmp_path)
    assert b"AWS" not in ended.stdout
    assert ended.returncode == 0, ended.stderr


def test_memory_is_limited(tmp_path: Path) -> None:
    limits = Limits(wall_s=20, cpu_s=20, memory_bytes=300 << 20, file_bytes=0)
    ended = run_confined(
        Path(sys.executable), ["-I", "-c", "x = bytearray(1 << 30)"], limits=limits, workdir=tmp_path
    )
    assert ended.returncode == 1
    assert "MemoryError" in ended.stderr


def test_output_that_nobody_asked_for_does_not_fill_memory(tmp_path: Path) -> None:
    noisy = (
        "import sys\nfor _ in range(20000): sys.stderr.write('x' * 999 + '\\n'); sys.stdout.write('y' * 1000)"
    )
    limits = Limits(wall_s=30, cpu_s=30, memory_bytes=1 << 30, file_bytes=0)
    ended = run_confined(Path(sys.executable), ["-I", "-c", noisy], limits=limits, workdir=tmp_path)
    assert len(ended.stderr) <= 32 * 1024
    assert len(ended.stdout) <= 5 * 1024 * 1024


def test_leftovers_of_killed_processes_are_cleared_once_they_are_old(tmp_path: Path) -> None:
    old, fresh, foreign = tmp_path / "render-old", tmp_path / "render-fresh", tmp_path / "other-old"
    for directory in (old, fresh, foreign):
        directory.mkdir()
    for directory in (old, foreign):
        os.utime(directory, (1, 1))
    with private_dir(tmp_path, "render") as mine:
        assert oct(mine.stat().st_mode)[-3:] == "700"
        assert not old.exists()
        assert fresh.exists()
        assert foreign.exists()
    assert not mine.exists()
