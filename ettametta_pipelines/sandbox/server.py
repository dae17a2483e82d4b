"""Runs the sandbox: in a thread for tests and the demo, in the foreground for `ettametta sandbox`.

Owns the socket, so that the address is known before the app is made, and the connections, so that a fault can
close one without an answer.
"""

import asyncio
import contextlib
import socket
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.ports import listen_on
from ettametta_pipelines.sandbox.app import create_app

STOP_GRACE_S = 0.5
TICK_S = 0.1
START_TIMEOUT_S = 15.0


class SandboxServer:
    """Sandbox in a thread: `with SandboxServer(home) as server: server.url`. Port 0 takes a free one.

    `latency_s` is added to every answer; `public_url` is where clients reach it, when not directly. Raises
    NeedsPersonError `port_in_use` when the port is taken.
    """

    def __init__(
        self,
        home: Path,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        clock: Clock = utc_now,
        latency_s: float = 0.0,
        public_url: str | None = None,
    ) -> None:
        self._socket = _bind(host, port)
        self.port: int = self._socket.getsockname()[1]
        self.url = public_url or _url(host, self.port)
        self._app = create_app(home, public_url=self.url, clock=clock, latency_s=latency_s)
        self._server = _Server(_config(self._app))
        self._thread = threading.Thread(target=self._serve, name="sandbox", daemon=True)

    def start(self) -> "SandboxServer":
        """Return once requests are answered."""
        self._thread.start()
        if not self._server.ready.wait(START_TIMEOUT_S) or not self._server.started:
            raise PermanentError(
                f"The sandbox did not start on {self.url}.",
                code="sandbox_not_started",
                remedy="Run `ettametta sandbox` to see why.",
            )
        return self

    def stop(self) -> None:
        """Stop, cutting off requests that are still held after a moment. A second call does nothing."""
        if self._thread.is_alive():
            self._server.stop()
            self._thread.join(timeout=STOP_GRACE_S + 10)
        self._socket.close()
        self._app.state.store.close()

    def _serve(self) -> None:
        try:
            self._server.run(sockets=[self._socket])
        finally:
            self._server.ready.set()

    def __enter__(self) -> "SandboxServer":
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def serve(home: Path, host: str = "127.0.0.1", port: int = 8400, *, latency_s: float = 0.0) -> None:
    """Run in the foreground until interrupted. Raises NeedsPersonError `port_in_use` when the port is taken."""
    with contextlib.closing(_bind(host, port)) as listener:
        url = _url(host, listener.getsockname()[1])
        app = create_app(home, public_url=url, latency_s=latency_s)
        server = _Server(_config(app))
        with contextlib.suppress(KeyboardInterrupt):
            server.run(sockets=[listener])
        app.state.store.close()


def _bind(host: str, port: int) -> socket.socket:
    return listen_on(host, port, service="sandbox", variable="ETTAMETTA_SANDBOX_PORT")


def _url(host: str, port: int) -> str:
    """Where this machine reaches the sandbox; a server on all addresses is named by the loopback one."""
    names = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    return f"http://{names.get(host, f'[{host}]' if ':' in host else host)}:{port}"


class _Server(uvicorn.Server):
    """uvicorn that says when it is ready and stops at once, instead of being polled and pausing.

    Tests start hundreds of sandboxes; the stock server takes a fifth of a second to end.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        await super().startup(sockets=sockets)
        self.ready.set()

    def stop(self) -> None:
        """Ask the server to end; callable from any thread once it is ready."""
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._stopping.set)

    async def main_loop(self) -> None:
        ticks = 0
        while not await self.on_tick(ticks):
            ticks += 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_GRACE_S):
                while self.server_state.connections or self.server_state.tasks:
                    await asyncio.sleep(0.005)
        for task in self.server_state.tasks:
            task.cancel()


def _config(app: FastAPI) -> uvicorn.Config:
    connections: dict[tuple[str, int], asyncio.Transport] = {}

    class Protocol(H11Protocol):
        """Keeps the open transports by peer address; ASGI itself gives an app no way to hang up."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client:
                connections[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client:
                connections.pop(self.client, None)
            super().connection_lost(exc)

    def drop_connection(client: tuple[str, int]) -> None:
        # A client that was killed has hung up by itself.
        if client in connections:
            connections[client].abort()

    app.state.drop_connection = drop_connection
    settings: dict[str, Any] = {
        "http": Protocol,
        "loop": "asyncio",
        "ws": "none",
        "lifespan": "off",
        "log_level": "warning",
        "access_log": False,
    }
    return uvicorn.Config(app, **settings)
