"""`ettametta dev` as a process with a home and ports of its own, for tests that use it as an operator does."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from ettametta_pipelines.commands.devserver import project_root
from ettametta_pipelines_tests.servers import free_port

WAIT_S = 240.0


class Dev:
    """A running `ettametta dev`."""

    def __init__(self, home: Path) -> None:
        self.home = home
        ui, gateway, sandbox = (free_port() for _ in range(3))
        self.ui, self.gateway, self.sandbox = (f"http://127.0.0.1:{port}" for port in (ui, gateway, sandbox))
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ETTAMETTA_HOME": str(home),
            "ETTAMETTA_UI_PORT": str(ui),
            "ETTAMETTA_GATEWAY_PORT": str(gateway),
            "ETTAMETTA_SANDBOX_PORT": str(sandbox),
        }
        self.log = home / "dev.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ettametta_pipelines.cli", "dev"],
            cwd=project_root(), env=self.environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def wait_until_ready(self) -> None:
        for address in (f"{self.ui}/server_info", f"{self.gateway}/readyz", f"{self.sandbox}/healthz"):
            self.wait_for(address, lambda address=address: self.answers(address))  # type: ignore[misc]

    def wait_for(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log.read_text()
            if ready():
                return
            time.sleep(0.5)
        pytest.fail(f"{what} did not happen in {WAIT_S:.0f} s:\n{self.log.read_text()[-3000:]}")

    def answers(self, url: str) -> bool:
        try:
            return httpx.get(url, timeout=5, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    def run(self, *arguments: str) -> str:
        """An `ettametta` command on this home; what it printed."""
        done = subprocess.run(
            [sys.executable, "-m", "ettametta_pipelines.cli", *arguments],
            env=self.environment, cwd=self.home, check=False, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def renditions(self) -> list[Path]:
        """The finished files, as paths below the store."""
        store = self.home / "store"
        return [file.relative_to(store) for file in sorted(store.glob("media/renditions/*/*/*.mp4"))]

    def processes(self) -> list[int]:
        """Pids of everything that runs with this home, by its environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    environment = (entry / "environ").read_bytes()
                except OSError:
                    continue
                if f"ETTAMETTA_HOME={self.home}".encode() in environment.split(b"\0"):
                    found.append(int(entry.name))
        return found

    def stop(self) -> int:
        """End it as Ctrl-C would; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)
