"""Counting of round trips to Postgres on the wire: how often a client waits for its database.

The server ends every answer to a query, or to queries that were sent together, with ReadyForQuery. So the counts hold
whatever sends them: pings, BEGIN, settings, statements and COMMIT are all seen.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ettametta_pipelines_tests.databases import PostgresServer
from ettametta_pipelines_tests.line import Line

READY = ord("Z")


class Trips:
    """`count` of trips so far; opening a connection is not among them, `Line.connections` counts that."""

    def __init__(self) -> None:
        self.count = 0

    def listen(self) -> Callable[[bytes], None]:
        """For one connection without TLS: told what the server says, piece by piece."""
        unread, is_open = bytearray(), False

        def told(piece: bytes) -> None:
            nonlocal is_open
            unread.extend(piece)
            while len(unread) >= 5 and len(unread) > (length := int.from_bytes(unread[1:5])):
                if unread[0] == READY:
                    # The first one ends the opening.
                    self.count += is_open
                    is_open = True
                del unread[: 1 + length]

        return told


@contextmanager
def counted(server: PostgresServer, database: str) -> Iterator[tuple[str, Trips]]:
    """The URL of a database behind a line that counts."""
    trips = Trips()
    with Line(server.port, listening=trips.listen) as line:
        address = server.url(database).replace(f":{server.port}/", f":{line.port}/")
        yield f"{address}?sslmode=disable&gssencmode=disable", trips
