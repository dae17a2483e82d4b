"""Runs the gateway in the foreground; used by `ettametta gateway` and, as a child process, by `ettametta dev`."""

from contextlib import closing, suppress

from ettametta_pipelines.ports import listen_on
from ettametta_pipelines.settings import Settings


def serve_gateway(settings: Settings, host: str, port: int) -> None:
    """Serve until interrupted. Raises NeedsPersonError `port_in_use` before anything is started."""
    import uvicorn

    from ettametta_pipelines.gateway.app import create_gateway

    with closing(listen_on(host, port, service="gateway", variable="ETTAMETTA_GATEWAY_PORT")) as listener:
        config = uvicorn.Config(create_gateway(settings), log_level="warning", access_log=False)
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
