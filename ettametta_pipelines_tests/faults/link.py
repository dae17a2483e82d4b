"""A line that breaks: a TCP proxy that closes the connection each time so many bytes have gone up through it."""

import contextlib
import socket
import threading
from types import TracebackType

# Small, so that what a client wrote into a line that broke is little more than what was counted.
BUFFER = 65_536


class DroppingLink:
    """Forwards to `target` (host, port), which may be set later; `sent` counts bytes from clients."""

    def __init__(self, every: int) -> None:
        self._every = every
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.target = ("127.0.0.1", 0)
        self.sent = 0
        self.drops = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "DroppingLink":
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
                server = socket.create_connection(self.target)
            except OSError:
                client.close()
                continue
            threading.Thread(target=self._up, args=(client, server), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := client.recv(BUFFER):
                left = self._every * (self.drops + 1) - self.sent
                server.sendall(piece[:left])
                self.sent += len(piece)
                if left <= len(piece):
                    self.drops += 1
                    break
        _close(client, server)

    def _down(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := server.recv(BUFFER):
                client.sendall(piece)
        _close(client, server)


def _close(*ends: socket.socket) -> None:
    for end in ends:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
        end.close()
