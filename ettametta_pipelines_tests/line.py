"""A TCP line with faults between a client and any server of the tests: late, cut, silent, or breaking every so often.

python -m ettametta_pipelines_tests.line TO_PORT DELAY_MS     answers that much later; prints the port it listens on
"""

import contextlib
import queue
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Self

# Small, so that what a client wrote into a line that broke is little more than what was counted.
BUFFER = 65_536


class Mood(StrEnum):
    GOOD = "good"
    # What comes back is later by a fixed time, in order, however much it is.
    LATE = "late"
    # Half of the next answer comes back, then the connection ends.
    CUT = "cut"
    # The connection stands, what is sent is taken, and nothing ever comes back.
    SILENT = "silent"


class Line:
    """Forwards to 127.0.0.1:`to_port`, which may be set later; so may `mood`, also for connections that stand.

    With `breaks_every` the connection is closed each time so many bytes have gone up; `sent` counts them, `breaks` how
    often. `listening` is called for each connection; what it returns is told every piece that comes back.
    """

    def __init__(
        self,
        to_port: int = 0,
        *,
        mood: Mood = Mood.GOOD,
        late_s: float = 0.2,
        breaks_every: int | None = None,
        listening: Callable[[], Callable[[bytes], None]] | None = None,
    ) -> None:
        self.to_port, self.mood = to_port, mood
        self.connections = self.sent = self.breaks = 0
        self._late_s, self._breaks_every, self._listening = late_s, breaks_every, listening
        self._over = threading.Event()
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.port = int(self._listener.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        # Closing alone does not wake a thread that waits in accept.
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
            try:
                server = socket.create_connection(("127.0.0.1", self.to_port))
            except OSError:
                client.close()
                continue
            self.connections += 1
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for pump in (self._up, self._down):
                threading.Thread(target=pump, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(BUFFER):
                if self.mood is Mood.SILENT:
                    self._over.wait()
                    break
                left = self._left()
                server.sendall(piece[:left])
                self.sent += len(piece)
                if left is not None and left <= len(piece):
                    self.breaks += 1
                    break
        _close(client, server)

    def _left(self) -> int | None:
        """Bytes that go up until the line breaks; None where it does not."""
        return None if self._breaks_every is None else self._breaks_every * (self.breaks + 1) - self.sent

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        tell = self._listening() if self._listening else None
        # What is late is not slept for here: the next piece would then be late twice.
        pieces: queue.SimpleQueue[tuple[float, bytes]] = queue.SimpleQueue()
        threading.Thread(target=self._deliver, args=(pieces, client, server), daemon=True).start()
        with contextlib.suppress(OSError):
            while piece := server.recv(BUFFER):
                if self.mood is Mood.SILENT:
                    self._over.wait()
                    break
                if tell:
                    tell(piece)
                due = time.monotonic() + self._late_s if self.mood is Mood.LATE else 0.0
                if self.mood is Mood.CUT:
                    pieces.put((due, piece[: len(piece) // 2]))
                    break
                pieces.put((due, piece))
        pieces.put((0.0, b""))

    def _deliver(
        self, pieces: "queue.SimpleQueue[tuple[float, bytes]]", client: socket.socket, server: socket.socket
    ) -> None:
        with contextlib.suppress(OSError):
            while (late := pieces.get())[1]:
                time.sleep(max(0.0, late[0] - time.monotonic()))
                client.sendall(late[1])
        _close(client, server)


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()


def main() -> None:
    with Line(int(sys.argv[1]), mood=Mood.LATE, late_s=float(sys.argv[2]) / 1000) as line:
        sys.stdout.write(f"{line.port}\n")
        sys.stdout.flush()
        signal.pause()


if __name__ == "__main__":
    main()
