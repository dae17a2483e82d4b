"""A render node as a process of its own, its Redis, and somebody who takes its webhooks."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

from ettametta_pipelines_tests.servers import free_port, listens, wait_until

SECRET = "a secret of the tests"
FAKE_WORKER = Path(__file__).with_name("fake_worker.py")


# For what surely comes about, however busy the machine: only what hangs takes this long.
PATIENCE_S = 240


def wait_for(what: Callable[[], Any], seconds: float = PATIENCE_S) -> Any:
    """What is true at last; AssertionError when it does not become so."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found


class Redis:
    """A Redis server that keeps nothing on disk: killed, it has lost every message."""

    def __init__(self, directory: Path) -> None:
        self._directory, self.port = directory, free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        program = shutil.which("redis-server") or "/usr/bin/redis-server"
        options = [
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self._directory),
        ]
        self._process = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        assert wait_until(lambda: listens(self.port), self._process), "Redis did not start"

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


class Receiver:
    """Takes webhooks; the first one about a job of `refused` is answered with 500."""

    def __init__(self) -> None:
        self.taken: list[tuple[dict[str, str], bytes]] = []
        self.refused: set[str] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.taken.append(({name.lower(): value for name, value in self.headers.items()}, body))
                job = json.loads(body)["job_id"]
                self.send_response(500 if job in receiver.refused else 200)
                receiver.refused.discard(job)
                self.end_headers()

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/webhooks/render-node"

    def about(self, job: str) -> list[tuple[dict[str, str], bytes]]:
        return [taken for taken in self.taken if json.loads(taken[1])["job_id"] == job]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Node:
    """`ettametta render-node` with the GPU worker of the tests."""

    def __init__(self, home: Path, redis: Redis, receiver: Receiver) -> None:
        self.home, self.port = home, free_port()
        home.mkdir(parents=True, exist_ok=True)
        python = home / "gpu-python"
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE_WORKER}" "$@"\n')
        python.chmod(0o755)
        self.env = {
            **os.environ,
            "ETTAMETTA_HOME": str(home),
            "ETTAMETTA_GPU_PYTHON": str(python),
            "ETTAMETTA_RENDER_NODE_REDIS": redis.url,
            "ETTAMETTA_RENDER_NODE_WEBHOOK": receiver.url,
            # A worker that only has to wait for a processor is not lost.
            "ETTAMETTA_RENDER_NODE_LEASE_S": "6",
            "RENDER_NODE_SECRET": SECRET,
        }
        self.http = httpx.Client(
            base_url=self.url,
            headers={"Authorization": f"Bearer {SECRET}"},
            trust_env=False,
            verify=False,
            timeout=60,
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "ettametta_pipelines.cli", "render-node", "--port", str(self.port)]
        with (self.home / "node.log").open("ab") as log:
            self.process = subprocess.Popen(command, env=self.env, stdout=log, stderr=log, cwd=self.home)
        wait_for(self.healthy)

    def healthy(self) -> bool:
        try:
            return bool(self.http.get("/health").is_success)
        except httpx.TransportError:
            return False

    def release(self, name: str) -> None:
        """Let a shot that holds for this name go on."""
        (self.home / "released").mkdir(exist_ok=True)
        (self.home / "released" / name).touch()

    def said(self, job: str) -> str:
        """What the GPU worker printed at a job."""
        log = self.home / "render-node/logs" / f"{job}.log"
        return log.read_text() if log.exists() else ""

    def state(self, job: str) -> dict[str, Any]:
        return dict(self.http.get(f"/jobs/{job}").raise_for_status().json())

    def children(self, of: int | None = None) -> list[int]:
        """Processes that a process started, from /proc."""
        parent = of or (self.process.pid if self.process else 0)
        # A thread's children are listed with that thread.
        return [
            int(child)
            for found in Path(f"/proc/{parent}/task").glob("*/children")
            for child in found.read_text().split()
        ]

    def worker(self) -> int:
        """The Celery worker's process."""
        return int(wait_for(self.children)[0])

    def gpu_process(self) -> int:
        return int(wait_for(lambda: self.children(self.worker()))[0])

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        self.process = None

    def stop(self) -> None:
        if self.process is not None:
            self.signal(signal.SIGTERM)
        self.http.close()


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1].startswith("Z")
    except OSError:
        return True
