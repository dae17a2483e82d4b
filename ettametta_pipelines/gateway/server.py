"""Runs the gateway in the foreground; used by `ettametta gateway` and, as a child process, by `ettametta dev`."""

from ettametta_pipelines.ports import require_free_port
from ettametta_pipelines.settings import Settings


def serve_gateway(settings: Settings, host: str, port: int) -> None:
    """Serve until interrupted. Raises PermanentError `port_in_use` before anything is started."""
    import uvicorn

    from ettametta_pipelines.gateway.app import create_gateway

    require_free_port(host, port, variable="ETTAMETTA_GATEWAY_PORT", service="gateway")
    uvicorn.run(create_gateway(settings), host=host, port=port, log_level="warning", access_log=False)
