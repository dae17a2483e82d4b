"""The GPU worker's serving mode: one process, job after job, so that a model stays loaded between them.

An order is a line of JSON on standard input, answered on a pipe of its own: BEGUN, and then the exit code of that job
and the end of the line. What a job prints goes to the file its order names. A closed standard input means that whoever
ordered is gone, and ends the process at once; SIGTERM ends it after the current shot, or at once when there is none.
The worker's side is `serve`, called by `worker.py`; the other side is `worker_process.ServingWorker`.
"""

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from queue import Empty, SimpleQueue

from ettametta_pipelines.synthesis.job import Exit

BEGUN = b"+"


@dataclass(frozen=True)
class Order:
    """`job` as `--job` has it; `log` takes what is printed, `progress` the newest figures."""

    job: str
    log: str
    progress: str

    def as_line(self) -> bytes:
        return json.dumps(asdict(self)).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Order":
        return cls(**json.loads(line))


class Orders:
    """What is ordered on standard input. `wake` may be called by a signal handler."""

    def __init__(self) -> None:
        self._lines: SimpleQueue[bytes] = SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()

    def wake(self) -> None:
        self._lines.put(b"")

    def next(self, patience_s: float | None) -> Order | None:
        """The next order; None after `wake`. Raises queue.Empty after `patience_s`."""
        line = self._lines.get(timeout=patience_s)
        return Order.from_line(line) if line else None

    def _listen(self) -> None:
        # Not by sys.stdin, whose lock a thread that waits holds while the interpreter shuts down.
        unfinished = b""
        while read := os.read(0, 1 << 16):
            *lines, unfinished = (unfinished + read).split(b"\n")
            for line in lines:
                self._lines.put(line)
        # A job whose holder is gone is begun anew elsewhere, so this one must not go on beside it.
        os._exit(Exit.STOPPED)


def serve(
    orders: Orders,
    answers: int,
    work: Callable[[Order], int],
    is_stopped: Callable[[], bool],
    idle_s: float,
    on_idle: Callable[[], None],
) -> Exit:
    """Work orders off until told to stop. `on_idle` is called once when nothing was ordered for `idle_s`."""
    os.set_inheritable(answers, False)
    while not is_stopped():
        try:
            order = orders.next(idle_s)
        except Empty:
            on_idle()
            order = orders.next(None)
        if order is None:
            break
        os.write(answers, BEGUN)
        with _printed_to(order.log):
            try:
                code = work(order)
            except Exception:
                # Nobody knows what state it left the model in: this process ends, the next job has a new one.
                traceback.print_exc()
                raise
        os.write(answers, f"{code}\n".encode())
    return Exit.STOPPED


@contextmanager
def _printed_to(log: str) -> Iterator[None]:
    """Standard output and error, also of what is not Python, at the end of that file."""
    before = os.dup(1), os.dup(2)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        for number in (1, 2):
            os.dup2(file, number)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, plain in enumerate(before, start=1):
            os.dup2(plain, number)
            os.close(plain)
        os.close(file)
