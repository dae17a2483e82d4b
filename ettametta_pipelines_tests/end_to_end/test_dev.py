"""`ettametta dev` as an operator uses it: an upload leads to renditions with no further hand, and it ends clean."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ettametta_pipelines.devserver import project_root

WAIT_S = 240.0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Dev:
    """A running `ettametta dev` with a home and ports of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.ui, self.gateway, self.sandbox = (free_port() for _ in range(3))
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "ETTAMETTA_HOME": str(home),
            "ETTAMETTA_UI_PORT": str(self.ui),
            "ETTAMETTA_GATEWAY_PORT": str(self.gateway),
            "ETTAMETTA_SANDBOX_PORT": str(self.sandbox),
        }
        self.log = home / "dev.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ettametta_pipelines.cli", "dev"],
            cwd=project_root(), env=self.environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip

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
            return httpx.get(url, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def children(self) -> list[int]:
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


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Dev]:
    running = Dev(tmp_path)
    yield running
    if running.process.poll() is None:
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for left-over processes under /proc")
def test_an_upload_leads_to_renditions_and_nothing_is_left_running(
    dev: Dev, make_clip: Callable[..., Path]
) -> None:
    dev.wait_for("the UI", lambda: dev.answers(f"http://127.0.0.1:{dev.ui}/server_info"))
    dev.wait_for("the gateway", lambda: dev.answers(f"http://127.0.0.1:{dev.gateway}/readyz"))
    dev.wait_for("the sandbox", lambda: dev.answers(f"http://127.0.0.1:{dev.sandbox}/healthz"))
    upload = ["upload", str(make_clip("clip.mp4", seed=7)), "--account", "studio", "--niche", "travel"]
    subprocess.run(
        [sys.executable, "-m", "ettametta_pipelines.cli", *upload],
        env=dev.environment, cwd=dev.home, check=True, capture_output=True,
    )  # fmt: skip
    renditions = dev.home / "store" / "media" / "renditions"
    dev.wait_for("three renditions", lambda: len(list(renditions.glob("*/*/*.mp4"))) == 3)
    file = next(renditions.glob("*/9x16/*.mp4")).relative_to(dev.home / "store")
    answer = httpx.get(f"http://127.0.0.1:{dev.gateway}/{file}", headers={"Range": "bytes=0-99"})
    assert (answer.status_code, len(answer.content)) == (206, 100)

    dev.process.send_signal(signal.SIGTERM)
    assert dev.process.wait(timeout=60) == 0, dev.log.read_text()
    assert dev.children() == []
