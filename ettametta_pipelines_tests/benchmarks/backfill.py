"""A backfill of 30 days x 5 niches as an operator launches it: by GraphQL on a running `ettametta dev`.

Not part of `make bench`: it takes ten minutes and more, and its figure is mostly Dagster's start of each run. It
uses a temporary home, free ports on 127.0.0.1 and the sandbox.

    python -m ettametta_pipelines_tests.benchmarks.backfill [--days 30] [--keep]
"""

import argparse
import json
import shutil
import sqlite3
import tempfile
import time
from collections import Counter
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ettametta_pipelines.automation.jobs import DISCOVERY_JOB
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.discovery.niches import load_niches
from ettametta_pipelines_tests.benchmarks.server import Server

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
        server.wait_for(server.is_up)
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
