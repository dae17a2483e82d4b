"""A running `ettametta dev` with a home and ports of its own, and what it takes of the machine."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

from ettametta_pipelines.commands.devserver import project_root
from ettametta_pipelines_tests.servers import free_port

START_S = 240.0


class Server:
    """`ettametta dev`, started by making this, with these settings besides, and ended by `stop`."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.ui, self.gateway, self.sandbox = (free_port() for _ in range(3))
        self.home = home
        self.log = home / "dev.log"
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(home), "ETTAMETTA_HOME": str(home),
            "ETTAMETTA_UI_PORT": str(self.ui), "ETTAMETTA_GATEWAY_PORT": str(self.gateway),
            "ETTAMETTA_SANDBOX_PORT": str(self.sandbox), **settings,
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ettametta_pipelines.cli", "dev"],
            cwd=project_root(), env=self.environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(
            f"http://127.0.0.1:{self.ui}/graphql", json={"query": query, "variables": variables}, timeout=60
        )
        document = answer.raise_for_status().json()
        if "errors" in document:
            raise RuntimeError(document["errors"])
        data: dict[str, Any] = document["data"]
        return data

    def is_up(self) -> bool:
        """The UI answers and has the definitions."""
        try:
            found = self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
        except (httpx.HTTPError, RuntimeError):
            return False
        return bool(found["repositoriesOrError"].get("nodes"))

    def daemons_beat(self) -> bool:
        """Every daemon that is needed has reported."""
        try:
            found = self.ask("{ instance { daemonHealth { allDaemonStatuses { required healthy } } } }")
        except (httpx.HTTPError, RuntimeError):
            return False
        statuses = found["instance"]["daemonHealth"]["allDaemonStatuses"]
        return bool(statuses) and all(one["healthy"] for one in statuses if one["required"])

    def wait_for(self, ready: Callable[[], bool], limit_s: float = START_S, every_s: float = 1.0) -> None:
        deadline = time.monotonic() + limit_s
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"It did not happen in {limit_s:.0f} s:\n{self.log.read_text()[-3000:]}")
            time.sleep(every_s)

    def processes(self) -> list["Measured"]:
        """Everything that runs with this home, in the order of starting."""
        mine = f"ETTAMETTA_HOME={self.home}".encode()
        found = []
        for entry in sorted(
            (e for e in Path("/proc").iterdir() if e.name.isdigit()), key=lambda e: int(e.name)
        ):
            try:
                if mine in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(Measured(entry))
            except OSError:
                continue
        return found

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=90)


class Measured:
    """One process: MiB of memory, its own (RSS) and with shared pages divided (PSS), and CPU seconds of it and of
    its children that have ended."""

    def __init__(self, entry: Path) -> None:
        lines = (entry / "smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}
        self.pss, self.rss = sizes["Pss"], sizes["Rss"]
        times = (entry / "stat").read_text().rpartition(")")[2].split()[11:15]
        self.cpu_s = sum(map(int, times)) / os.sysconf("SC_CLK_TCK")
        self.command = _in_short((entry / "cmdline").read_text().split("\0"))


def _in_short(arguments: Sequence[str]) -> str:
    words = [word for word in arguments[1:] if word and not word.startswith("-")]
    return " ".join(words[:2])


def load() -> str:
    """How busy the machine is, for the foot of a table."""
    return f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} of {os.cpu_count()} processors"
