"""A TCP line with faults: every answer late, cut after so many bytes, or silent from some moment on.

Between a client and any server of the tests. `DroppingLink` of `link.py` counts bytes up, for long uploads; this one
changes its mood while it runs.
"""

import contextlib
import socket
import threading
import time
from enum import StrEnum
from types import TracebackType


class Mood(StrEnum):
    GOOD = "good"
    LATE = "late"
    CUT = "cut"
    # The connection stands, what is sent is taken, and nothing ever comes back.
    SILENT = "silent"


class Line:
    """Forwards to 127.0.0.1:`to_port`; `mood` may be set at any time, also for connections that stand."""

    def __init__(self, to_port: int, *, late_s: float = 0.2) -> None:
        self._to_port, self._late_s = to_port, late_s
        self.mood = Mood.GOOD
        self.connections = 0
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "Line":
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(timeout=5)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            server = socket.create_connection(("127.0.0.1", self._to_port))
            for one, other, is_answer in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pass_on, args=(one, other, is_answer), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, is_answer: bool) -> None:
        with contextlib.suppress(OSError):
            while piece := one.recv(65_536):
                if self.mood is Mood.SILENT:
                    self._over.wait()
                    break
                if is_answer and self.mood is Mood.CUT:
                    other.sendall(piece[: len(piece) // 2])
                    break
                if is_answer and self.mood is Mood.LATE:
                    time.sleep(self._late_s)
                other.sendall(piece)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
