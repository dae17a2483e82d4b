"""Port checks shared by the servers, so that a taken port gives one sentence instead of a stack trace."""

import socket

from ettametta_pipelines.failures import NeedsPersonError


def require_free_port(host: str, port: int, *, variable: str, service: str) -> None:
    """Raise NeedsPersonError `port_in_use` when nothing can be bound there. Port 0 always passes."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise NeedsPersonError(
                f"The {service} cannot use port {port} on {host}: {error.strerror}.",
                code="port_in_use",
                remedy=f"Stop what uses the port, or set {variable} to a free one.",
            ) from error
