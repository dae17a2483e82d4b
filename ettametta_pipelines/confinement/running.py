"""Runs a program on files from strangers: limits, empty environment, no leftovers.

The one place that starts a media process. `renders/ffmpeg.py` runs ffmpeg through it, `media/probe.py` its
inspector. What a failed run means is the caller's to say; here it only ends, in bounded time, memory and output.
"""

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

LAUNCHER = Path(__file__).with_name("launcher.py")
STDERR_KEPT = 32 * 1024
STDOUT_KEPT = 4 * 1024 * 1024
STALE_AFTER_S = 24 * 3600
# Version 2 of control groups, as every Kubernetes since 1.25 has them; in a container this is its own.
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")

# What programs, their libraries and drivers are made of. Nothing of ours or of a tenant lies there; /proc/self is the
# child's own, since the launcher becomes the program.
SYSTEM_PATHS = (
    "/usr", "/bin", "/lib", "/lib64", "/nix", "/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime",
    "/etc/alternatives", "/etc/fonts", "/etc/OpenCL", "/etc/vulkan", "/proc/self", "/proc/cpuinfo", "/proc/meminfo",
    "/proc/stat", "/proc/driver", "/sys/devices", "/sys/dev", "/sys/class", "/sys/bus", "/sys/fs/cgroup",
)  # fmt: skip
DEVICES = ("null", "zero", "full", "random", "urandom", "dri", "nvidia*")


@dataclass(frozen=True)
class Limits:
    """What a child may use. Seconds and bytes; `memory_bytes` bounds address space, not resident memory."""

    wall_s: float
    cpu_s: float
    memory_bytes: int
    file_bytes: int
    open_files: int = 64

    def as_rlimits(self) -> dict[str, int]:
        # No limit on processes: the kernel counts those of the whole user, so other runs would trip it.
        return {
            "RLIMIT_CPU": max(1, round(self.cpu_s)),
            "RLIMIT_AS": self.memory_bytes,
            "RLIMIT_FSIZE": self.file_bytes,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_CORE": 0,
        }


@dataclass(frozen=True)
class Ended:
    """How a confined child ended. `returncode` is negative for a signal, as in subprocess.

    `stdout` is empty when it was streamed to a consumer; `stderr` holds the last 32 KB. `peak_memory_bytes` is read
    while the child runs, at least twice a second: what it took in its last half second may be missing.
    """

    returncode: int
    timed_out: bool
    stdout: bytes
    stderr: str
    wall_s: float
    cpu_s: float
    peak_memory_bytes: int


def run_confined(
    program: Path,
    arguments: Sequence[str],
    *,
    limits: Limits,
    workdir: Path,
    on_stdout: Callable[[bytes], None] | None = None,
    tell_walls: bool = False,
) -> Ended:
    """Run `program` in `workdir` with an empty environment and no stdin; its process group never outlives the call.

    Where the kernel allows, it has no network, and of files only the system's, those its arguments name, and what is
    below `workdir` (unless that is `/`); with `tell_walls` its first line of output says, as JSON, what could not be
    had. `on_stdout` gets chunks as they come; without it the first 4 MB are kept. Raises only OSError, when the
    program cannot be started, and whatever `on_stdout` raises.
    """
    spec = json.dumps(
        {
            "limits": limits.as_rlimits(),
            "parent": os.getpid(),
            "readable": [
                *_OWN_PATHS,
                str(program),
                str(program.parent.parent / "lib"),
                *_named_files(arguments),
            ],
            "usable": [str(device) for name in DEVICES for device in Path("/dev").glob(name)],
            "tell_walls": tell_walls,
        }
    )
    started = time.monotonic()
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", str(LAUNCHER), spec, str(program), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=workdir,
        env={},
        start_new_session=True,
    )
    try:
        return _attend(child, started, limits.wall_s, on_stdout)
    finally:
        _end_group(child)


_OWN_PATHS = (*SYSTEM_PATHS, sys.prefix, sys.base_prefix, str(LAUNCHER.parent))


def _named_files(arguments: Sequence[str]) -> list[str]:
    """Files that arguments name by an absolute path, perhaps behind `file:`; others' files are in none of ours."""
    paths = [argument.removeprefix("file:") for argument in arguments]
    return [path for path in paths if path.startswith("/") and os.path.exists(path)]


def _attend(
    child: "subprocess.Popen[bytes]",
    started: float,
    wall_s: float,
    on_stdout: Callable[[bytes], None] | None,
) -> Ended:
    """Drain both pipes until the child ends or its time is up, then reap it with its resource usage."""
    assert child.stdout is not None
    assert child.stderr is not None
    kept, tail = bytearray(), bytearray()

    def take_stdout(chunk: bytes) -> None:
        if on_stdout is not None:
            on_stdout(chunk)
        elif len(kept) < STDOUT_KEPT:
            kept.extend(chunk)

    def take_stderr(chunk: bytes) -> None:
        tail.extend(chunk)
        del tail[:-STDERR_KEPT]

    deadline = started + wall_s
    seen_bytes = 0
    with selectors.DefaultSelector() as pipes:
        pipes.register(child.stdout, selectors.EVENT_READ, take_stdout)
        pipes.register(child.stderr, selectors.EVENT_READ, take_stderr)
        while pipes.get_map() and (left := deadline - time.monotonic()) > 0:
            seen_bytes = max(seen_bytes, _resident_peak(child.pid))
            for key, _ in pipes.select(min(left, 0.5)):
                chunk = os.read(key.fd, 1 << 16)
                if chunk:
                    key.data(chunk)
                else:
                    pipes.unregister(key.fileobj)
    timed_out = time.monotonic() >= deadline
    if timed_out:
        _kill_group(child)
    status, usage, reaped_late = _reap(child, deadline)
    return Ended(
        returncode=status,
        timed_out=timed_out or reaped_late,
        stdout=bytes(kept),
        stderr=tail.decode("utf-8", "replace"),
        wall_s=time.monotonic() - started,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_memory_bytes=_peak_memory(usage, seen_bytes),
    )


def _resident_peak(pid: int) -> int:
    """Most memory a running process has held since its program began, in bytes; 0 where that is not told."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def _peak_memory(usage: resource.struct_rusage, seen_bytes: int) -> int:
    """Linux counts what the child's own parent held when it was started: only what exceeds that is the child's.

    Of one that ended before it was looked at nothing is known then, which is 0.
    """
    if sys.platform == "darwin":
        return usage.ru_maxrss
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return usage.ru_maxrss * 1024 if usage.ru_maxrss > ours else seen_bytes


def _reap(child: "subprocess.Popen[bytes]", deadline: float) -> tuple[int, resource.struct_rusage, bool]:
    """Exit status, resource usage, and whether a child that had closed its pipes still had to be killed."""
    killed = False
    while True:
        pid, status, usage = os.wait4(child.pid, os.WNOHANG)
        if pid:
            child.returncode = os.waitstatus_to_exitcode(status)
            return child.returncode, usage, killed
        if not killed and time.monotonic() >= deadline:
            _kill_group(child)
            killed = True
        time.sleep(0.002)


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    # Only while the child is unreaped: a reaped child's number may already belong to someone else.
    if child.returncode is None:
        try:
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            child.kill()


def _end_group(child: "subprocess.Popen[bytes]") -> None:
    """Whatever happened above (timeout, consumer failed, interrupt), nothing keeps running and no pipe stays open."""
    if child.returncode is None:
        _kill_group(child)
        child.wait()
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()


def processors() -> int:
    """How many processors this process may use: those it may run on, or fewer where its container has a quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = CPU_QUOTA.read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))


@contextmanager
def private_dir(root: Path, purpose: str) -> Iterator[Path]:
    """An empty directory only this user can enter, under `root`, removed at the end.

    What a killed process left under `root` for the same purpose is removed once it is a day old.
    """
    import shutil

    root.mkdir(parents=True, exist_ok=True)
    for leftover in root.glob(f"{purpose}-*"):
        if leftover.is_dir() and time.time() - leftover.stat().st_mtime > STALE_AFTER_S:
            shutil.rmtree(leftover, ignore_errors=True)
    with TemporaryDirectory(prefix=f"{purpose}-", dir=root) as directory:
        yield Path(directory)
