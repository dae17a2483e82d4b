"""Runs the gateway in the foreground; used by `ettametta gateway` and, as a child process, by `ettametta dev`."""

from contextlib import closing, suppress

from ettametta_pipelines.ports import listen_on
from ettametta_pipelines.settings import Settings

# Longer than proxies and vendors keep an idle connection (60 s mostly): with uvicorn's five, a message now and then was
# sent into a connection that was just being closed, and lost until the vendor sent it again.
KEEP_ALIVE_S = 75


def serve_gateway(settings: Settings, host: str, port: int) -> None:
    """Serve until interrupted. Raises NeedsPersonError `port_in_use` before anything is started."""
    import uvicorn

    from ettametta_pipelines.gateway.app import create_gateway
    from ettametta_pipelines.gateway.limits import log_requests
    from ettametta_pipelines.tracing import start_tracing

    start_tracing("ettametta-gateway")
    with closing(listen_on(host, port, service="gateway", variable="ETTAMETTA_GATEWAY_PORT")) as listener:
        # Behind PRODUCTION_DOMAIN that is the address; else the loopback one, with the port that was taken.
        local = f"http://127.0.0.1:{listener.getsockname()[1]}"
        gateway = create_gateway(settings, url=settings.gateway_url if settings.production_domain else local)
        log_requests()
        # The peer's own address is looked at, so no header may replace it.
        config = uvicorn.Config(
            gateway,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        with suppress(KeyboardInterrupt):
            uvicorn.Server(config).run(sockets=[listener])
