"""Starts the GPU worker as a process of this machine, in the environment that has torch, and sees to its end.

The worker ends by itself when this process is gone: it watches its standard input, whose other end is here. Called
by the local runner (`WorkerProcess`, a process a job) and by the render node (`ServingWorker`, job after job).
"""

import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from ettametta_pipelines.failures import NeedsPersonError, TransientError
from ettametta_pipelines.synthesis.serving import BEGUN, Order

MODULE = "ettametta_pipelines.synthesis.worker"
# For the shot that is being made when it is told to stop.
STOP_GRACE_S = 90.0


class WorkerProcess:
    """One worker on one job. Leaving the `with` block ends it."""

    def __init__(
        self, python: Path, job: str, env: Mapping[str, str], *, grace_s: float = STOP_GRACE_S
    ) -> None:
        """Raises NeedsPersonError `gpu_python_missing`."""
        self._grace_s = grace_s
        self._process = _started(python, ["--job", job, "--with-parent"], env)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait(self, deadline_s: float, on_tick: Callable[[], None], tick_s: float) -> int:
        """Its exit code. `on_tick` is called every `tick_s`; what it raises ends the worker.

        Raises TransientError `gpu_worker_overran` after `deadline_s`.
        """
        deadline = time.monotonic() + deadline_s
        while True:
            try:
                return self._process.wait(tick_s)
            except subprocess.TimeoutExpired:
                on_tick()
            _keep_to(deadline, deadline_s)

    def stop(self) -> None:
        """Have it finish its shot, then end it in any case."""
        _end(self._process, self._grace_s)

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class ServingWorker:
    """A worker that makes job after job. It is started with the first, and anew when it is not there any more."""

    def __init__(self, python: Path, env: Mapping[str, str], *, grace_s: float = STOP_GRACE_S) -> None:
        self._python, self._env, self._grace_s = python, env, grace_s
        self._process: subprocess.Popen[bytes] | None = None
        self._answers = -1

    def run(self, order: Order, deadline_s: float, on_tick: Callable[[], None], tick_s: float) -> int:
        """The exit code of this job; below 0 the signal that ended the process meanwhile.

        `on_tick` is called every `tick_s`; what it raises ends the worker. Raises NeedsPersonError
        `gpu_python_missing`, TransientError `gpu_worker_overran` after `deadline_s`.
        """
        line = order.as_line()
        try:
            if self._process is not None:
                code, has_begun = self._tried(self._process, line, deadline_s, on_tick, tick_s)
                if has_begun:
                    return code
            # None was there, or one that is gone and never heard of this job, which is no failure of it.
            return self._tried(self._start(), line, deadline_s, on_tick, tick_s)[0]
        except BaseException:
            self.stop()
            raise

    def _tried(
        self,
        process: "subprocess.Popen[bytes]",
        line: bytes,
        deadline_s: float,
        on_tick: Callable[[], None],
        tick_s: float,
    ) -> tuple[int, bool]:
        """The job's exit code, or that of the process where it ended; and whether it began the job."""
        deadline, said = time.monotonic() + deadline_s, b""
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.write(line)
            process.stdin.flush()
        while not said.endswith(b"\n"):
            if select.select([self._answers], [], [], tick_s)[0]:
                read = os.read(self._answers, 64)
                if not read:
                    return self.stop(), said.startswith(BEGUN)
                said += read
            else:
                on_tick()
                _keep_to(deadline, deadline_s)
        return int(said.removeprefix(BEGUN)), True

    def _start(self) -> "subprocess.Popen[bytes]":
        self._answers, theirs = os.pipe()
        try:
            self._process = _started(self._python, ["--serve", str(theirs)], self._env, theirs)
        finally:
            os.close(theirs)
        return self._process

    def stop(self) -> int:
        """Have it finish its shot, then end it in any case; its exit code, 0 when there was none."""
        process, answers = self._process, self._answers
        self._process, self._answers = None, -1
        code = 0
        if process is not None:
            code = _end(process, self._grace_s)
        if answers >= 0:
            os.close(answers)
        return code


def _started(
    python: Path, arguments: list[str], env: Mapping[str, str], *passed: int
) -> "subprocess.Popen[bytes]":
    try:
        return subprocess.Popen(
            [str(python), "-m", MODULE, *arguments],
            stdin=subprocess.PIPE,
            env={**os.environ, **env},
            pass_fds=passed,
        )
    except OSError as error:
        raise NeedsPersonError(
            f"The GPU worker's interpreter {python} cannot be started: {error.strerror}.",
            code="gpu_python_missing",
            remedy="Set ETTAMETTA_GPU_PYTHON to the interpreter of an environment with the gpu extra.",
        ) from error


def _end(process: "subprocess.Popen[bytes]", grace_s: float) -> int:
    assert process.stdin is not None
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    code = process.wait()
    # What could not be written to one that is gone is tried again by closing.
    with suppress(BrokenPipeError):
        process.stdin.close()
    return code


def _keep_to(deadline: float, deadline_s: float) -> None:
    if time.monotonic() > deadline:
        raise TransientError(
            f"The GPU worker was at it for {deadline_s:.0f} s without coming to an end.",
            code="gpu_worker_overran",
            remedy="Order fewer shots a job, or raise ETTAMETTA_GPU_RUN_S; finished clips are kept.",
        )
