"""Taking a port: the one place where a port that is not free becomes one sentence with a remedy.

Used by the sandbox and the gateway, which serve on the socket they get here, and by `ettametta dev`, which looks
before it starts anything.
"""

import errno
import socket

from ettametta_pipelines.failures import NeedsPersonError


def listen_on(host: str, port: int, *, service: str, variable: str) -> socket.socket:
    """A bound socket to serve on; port 0 takes a free one.

    Raises NeedsPersonError `port_in_use` naming the variable that changes the port, or `cannot_listen`.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, not 0: asyncio switches Nagle's delay off only where it sees TCP, and each answer would wait 40 ms for it.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        if error.errno != errno.EADDRINUSE:
            raise NeedsPersonError(
                f"The {service} cannot listen on {host}:{port}: {error.strerror}.",
                code="cannot_listen",
                remedy="Choose an address of this machine and a port above 1023.",
            ) from error
        raise NeedsPersonError(
            f"Port {port} on {host} is taken, so the {service} cannot start there.",
            code="port_in_use",
            remedy=f"Stop the program that holds it, or set {variable} to a free port.",
        ) from error
    return listener
