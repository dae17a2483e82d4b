"""A backfill of 30 days x 5 niches as an operator launches it: by GraphQL on a running `ettametta dev`.

Not part of `make bench`: it takes ten minutes and more, and its figure is mostly Dagster's start of each run. It
uses a temporary home, free ports on 127.0.0.1 and the sandbox.

    python -m ettametta_pipelines_tests.benchmarks.backfill [--days 30] [--keep]
"""

import argparse
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.table import Table

from ettametta_pipelines.automation.jobs import DISCOVERY_JOB
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.devserver import project_root
from ettametta_pipelines.discovery.niches import load_niches

START_S = 240.0
LIMIT_S = 3 * 3600.0

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
RUNS = """
query Runs($id: String!) {
  runsOrError(filter: {tags: [{key: "dagster/backfill", value: $id}]}) {
    ... on Runs { results { status startTime endTime tags { key value } } }
  }
}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A running `ettametta dev` with a home and ports of its own."""

    def __init__(self, home: Path) -> None:
        self.ui, gateway, sandbox = (free_port() for _ in range(3))
        self.home = home
        self.log = home / "dev.log"
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(home), "ETTAMETTA_HOME": str(home),
            "ETTAMETTA_UI_PORT": str(self.ui), "ETTAMETTA_GATEWAY_PORT": str(gateway),
            "ETTAMETTA_SANDBOX_PORT": str(sandbox),
        }  # fmt: skip
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ettametta_pipelines.cli", "dev"],
            cwd=project_root(), env=environment, stdout=self.log.open("w"), stderr=subprocess.STDOUT,
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
        try:
            found = self.ask("{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }")
        except httpx.HTTPError:
            return False
        return bool(found["repositoriesOrError"].get("nodes"))

    def wait_for(self, ready: Callable[[], bool], limit_s: float, every_s: float = 1.0) -> None:
        deadline = time.monotonic() + limit_s
        while not ready():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"It did not happen in {limit_s:.0f} s:\n{self.log.read_text()[-3000:]}")
            time.sleep(every_s)

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(timeout=90)


def backfill(
    server: Server, partitions: list[str], every_s: float = 5.0
) -> tuple[float, list[dict[str, Any]]]:
    """Launch, wait until it has ended, and return its wall time and its runs."""
    locations = server.ask(
        "{ repositoriesOrError { ... on RepositoryConnection { nodes { name location { name } } } } }"
    )["repositoriesOrError"]["nodes"]
    repository = {
        "repositoryName": locations[0]["name"],
        "repositoryLocationName": locations[0]["location"]["name"],
    }
    started = time.monotonic()
    launched = server.ask(
        LAUNCH,
        params={
            "selector": {
                "repositorySelector": repository,
                "partitionSetName": f"{DISCOVERY_JOB}_partition_set",
            },
            "partitionNames": partitions,
        },
    )["launchPartitionBackfill"]
    if launched["__typename"] != "LaunchBackfillSuccess":
        raise RuntimeError(launched)
    backfill_id = launched["backfillId"]
    open_states = {"NOT_STARTED", "QUEUED", "STARTING", "STARTED", "CANCELING"}

    def runs() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = server.ask(RUNS, id=backfill_id)["runsOrError"]["results"]
        return found

    def ended() -> bool:
        states = [run["status"] for run in runs()]
        return len(states) >= len(partitions) and not open_states.intersection(states)

    server.wait_for(ended, LIMIT_S, every_s)
    return time.monotonic() - started, runs()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--days", type=int, default=30)
    options.add_argument(
        "--keep", action="store_true", help="keep the home, to be looked at with `ettametta dev`"
    )
    chosen = options.parse_args()
    niches = sorted(load_niches())
    today: date = utc_now().date()
    days = [(today - timedelta(days=n)).isoformat() for n in range(chosen.days, 0, -1)]
    partitions = [f"{day}|{niche}" for day in days for niche in niches]
    home = Path(tempfile.mkdtemp(prefix="ettametta-backfill-"))
    server = Server(home)
    try:
        server.wait_for(server.is_up, START_S)
        seconds, runs = backfill(server, partitions)
    finally:
        server.stop()
    figures = describe(home, partitions, seconds, runs)
    table = Table("", "")
    for name, value in figures.items():
        table.add_row(name, json.dumps(value))
    Console().print(table)
    target = Path("bench")
    target.mkdir(exist_ok=True)
    (target / "backfill.json").write_text(json.dumps(figures, indent=2) + "\n")
    if chosen.keep:
        Console().print(f"home: {home}")
    else:
        shutil.rmtree(home)


def describe(home: Path, partitions: list[str], seconds: float, runs: list[dict[str, Any]]) -> dict[str, Any]:
    tags = [{tag["key"]: tag["value"] for tag in run["tags"]} for run in runs]
    with sqlite3.connect(home / "state" / "state.db") as state:
        quota = state.execute(
            'SELECT bucket, SUM(used), MAX("limit") FROM api_quota GROUP BY bucket'
        ).fetchall()
    stored = {
        f"{file.parent.name}|{file.stem}"
        for file in (home / "store/tables/trend_candidates").glob("*/*.parquet")
    }
    lengths = sorted(run["endTime"] - run["startTime"] for run in runs if run["endTime"] and run["startTime"])
    return {
        "partitions": len(partitions),
        "wall_s": round(seconds),
        "runs": len(runs),
        "by_status": dict(Counter(run["status"] for run in runs)),
        "failure_codes": dict(Counter(t.get("ettametta/failure_code", "none") for t in tags)),
        "failed_without_a_code": sum(
            run["status"] == "FAILURE" and "ettametta/failure_code" not in t
            for run, t in zip(runs, tags, strict=True)
        ),
        "partitions_with_candidates": len(stored),
        "median_run_s": round(lengths[len(lengths) // 2], 1) if lengths else None,
        "quota": {bucket: f"{used} of {limit}" for bucket, used, limit in quota},
    }


if __name__ == "__main__":
    main()
