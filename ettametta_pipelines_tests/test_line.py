"""The line with faults that other tests lay between a client and a server."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ettametta_pipelines_tests.line import Line, Mood


@pytest.fixture
def echo() -> Iterator[int]:
    """Port of a server that sends back what it gets, piece by piece."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer(client: socket.socket) -> None:
        with client, suppress(OSError):
            while piece := client.recv(100_000):
                client.sendall(piece)

    def serve() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def _client(line: Line) -> socket.socket:
    return socket.create_connection(("127.0.0.1", line.port), timeout=60)


def _read(client: socket.socket, size: int) -> bytes:
    """So many bytes, or what came before the end."""
    data = b""
    while len(data) < size and (piece := client.recv(size - len(data))):
        data += piece
    return data


def test_what_is_late_is_late_once_however_much_it_is_and_keeps_its_order(echo: int) -> None:
    told: list[bytes] = []
    with (
        Line(echo, mood=Mood.LATE, late_s=0.5, listening=lambda: told.append) as line,
        _client(line) as client,
    ):
        client.sendall(b"0")
        while not told:
            time.sleep(0.01)
        client.sendall(b"1")
        begun = time.monotonic()
        assert _read(client, 2) == b"01"
        assert time.monotonic() - begun >= 0.4
    assert b"".join(told) == b"01"


def test_a_cut_line_ends_in_the_middle_of_an_answer(echo: int) -> None:
    with Line(echo) as line, _client(line) as client:
        client.sendall(b"whole")
        assert _read(client, 5) == b"whole"
        line.mood = Mood.CUT
        client.sendall(b"only half")
        assert _read(client, 9) == b"only"


def test_a_silent_line_takes_what_is_sent_and_answers_nothing(echo: int) -> None:
    with Line(echo, mood=Mood.SILENT) as line, _client(line) as client:
        client.sendall(b"anybody")
        client.settimeout(0.3)
        with pytest.raises(TimeoutError):
            client.recv(1)


def test_a_line_that_breaks_does_so_each_time_so_many_bytes_have_gone_up(echo: int) -> None:
    with Line(breaks_every=1000) as line:
        line.to_port = echo
        for run in (1, 2):
            with _client(line) as client:
                client.sendall(b"x" * 1000)
                _read(client, 1001)
            assert (line.sent, line.breaks, line.connections) == (1000 * run, run, run)


def test_a_line_to_nobody_closes(echo: int) -> None:
    with Line() as line, _client(line) as client:
        assert client.recv(1) == b""
