"""Starts the GPU worker as a process of this machine, in the environment that has torch, and sees to its end.

The worker ends by itself when this process is gone: it watches its standard input, whose other end is here. Called
by the local runner and by the render node.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from ettametta_pipelines.failures import NeedsPersonError, TransientError

MODULE = "ettametta_pipelines.synthesis.worker"
# For the shot that is being made when it is told to stop.
STOP_GRACE_S = 90.0


class WorkerProcess:
    """One worker on one job. Leaving the `with` block ends it."""

    def __init__(
        self,
        python: Path,
        job: str,
        env: Mapping[str, str],
        *,
        output: "IO[bytes] | None" = None,
        grace_s: float = STOP_GRACE_S,
    ) -> None:
        """`output` takes what it prints; None leaves that to this process's own standard output.

        Raises NeedsPersonError `gpu_python_missing`.
        """
        self._grace_s = grace_s
        command = [str(python), "-m", MODULE, "--job", job, "--with-parent"]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, env={**os.environ, **env}
            )
        except OSError as error:
            raise NeedsPersonError(
                f"The GPU worker's interpreter {python} cannot be started: {error.strerror}.",
                code="gpu_python_missing",
                remedy="Set ETTAMETTA_GPU_PYTHON to the interpreter of an environment with the gpu extra.",
            ) from error

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
            if time.monotonic() > deadline:
                raise TransientError(
                    f"The GPU worker was at it for {deadline_s:.0f} s without coming to an end.",
                    code="gpu_worker_overran",
                    remedy="Order fewer shots a job, or raise ETTAMETTA_GPU_RUN_S; finished clips are kept.",
                )

    def stop(self) -> None:
        """Have it finish its shot, then end it in any case."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(self._grace_s)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        self._process.stdin.close()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
