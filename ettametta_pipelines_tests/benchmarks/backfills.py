"""Two backfills as an operator launches them, by GraphQL on a running `ettametta dev`.

A year of `niche_trends` over ten niches, which is one run, and `thumbnails` of 20 videos, ten a run. Seconds from the
launch until Dagster says that the backfill is complete; the daemon of `ettametta dev` looks at backfills every five
seconds, which is in them. `make bench` runs it and keeps the figures in `bench/backfills.json`; two processors are used
whatever the machine has.

    python -m ettametta_pipelines_tests.benchmarks.backfills [--days 365] [--videos 20]
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ettametta_pipelines_tests.benchmarks.server import Server, load

PROCESSORS = 2
NICHES, CANDIDATES = 10, 60
LIMIT_S = 900.0
BAR_S = 60.0
ENDED = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}

LAUNCH = """
mutation Launch($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
STATUS = """
query Status($id: String!) {
  partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
  runsOrError(filter: {tags: [{key: "dagster/backfill", value: $id}]}) {
    ... on Runs { results { status creationTime endTime } }
  }
}
"""


def put_trends(store: Path, days: list[date]) -> None:
    """What `niche_trends` reads of these days, as discovery leaves it."""
    from ettametta_pipelines_tests.benchmarks.lake import _write_day

    for day in days:
        _write_day(store, NICHES, CANDIDATES, day)


def put_niches(home: Path) -> Path:
    """A niches file that has those of the candidates, each like the first of the product's own."""
    from importlib.resources import files

    import yaml

    from ettametta_pipelines_tests.benchmarks.lake import niche_name

    own = yaml.safe_load(files("ettametta_pipelines.discovery").joinpath("niches.yaml").read_text())
    alike = next(iter(own["niches"].values()))
    target = home / "niches.yaml"
    target.write_text(yaml.safe_dump({"niches": {niche_name(number): alike for number in range(NICHES)}}))
    return target


def put_videos(root: Path, number: int) -> list[str]:
    """An accepted source video, under as many partitions; their keys."""
    from ettametta_pipelines.media.analysis import analyse_source
    from ettametta_pipelines.media.contracts import MEDIA_ANALYSIS, SOURCE_MEDIA
    from ettametta_pipelines.media.intake import Upload, accept_upload
    from ettametta_pipelines.storage.addressing import file_sha256
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.storage.parquet import write_table
    from ettametta_pipelines_tests.benchmarks.renders import footage

    store, scratch = ObjectStore.from_url((root / "store").as_uri()), root / "scratch"
    scratch.mkdir()
    clip = footage(scratch, 10)
    sha256 = file_sha256(clip)
    upload = Upload(
        f"bench--{sha256[:16]}", "uploads/bench/travel/2026/01/01/clip.mp4", "bench", "travel", sha256, None
    )
    store.put_file(upload.object_key, clip)
    source = accept_upload(store, upload, scratch=scratch, clock=lambda: datetime.now(UTC))
    analysis, _ = analyse_source(store, upload.source_id, str(source["object_key"]), scratch=scratch)
    keys = [f"bench--{one:016x}" for one in range(number)]
    for key in keys:
        for contract, row in ((SOURCE_MEDIA, source), (MEDIA_ANALYSIS, analysis)):
            write_table(store, contract, contract.frame([row | {"source_id": key}]), key)
    return keys


def add_videos(home: Path, keys: list[str]) -> None:
    import dagster as dg

    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        instance.add_dynamic_partitions("source_video", keys)


def backfill(server: Server, asset: str, partitions: list[str]) -> dict[str, Any]:
    started, began = time.monotonic(), time.time()
    cpu_before = sum(process.cpu_s for process in server.processes())
    params = {"assetSelection": [{"path": [asset]}], "partitionNames": partitions}
    launched = server.ask(LAUNCH, params=params)["launchPartitionBackfill"]
    if launched["__typename"] != "LaunchBackfillSuccess":
        raise RuntimeError(launched)

    def status() -> dict[str, Any]:
        return server.ask(STATUS, id=launched["backfillId"])

    server.wait_for(lambda: status()["partitionBackfillOrError"]["status"] in ENDED, LIMIT_S, 0.5)
    seconds, runs = time.monotonic() - started, status()["runsOrError"]["results"]
    return {
        "seconds": seconds,
        "until_first_run_s": min(run["creationTime"] for run in runs) - began,
        "until_last_run_ended_s": max(run["endTime"] for run in runs) - began,
        "runs": len(runs),
        "by_status": dict(Counter(run["status"] for run in runs)),
        "cpu_s": sum(process.cpu_s for process in server.processes()) - cpu_before,
    }


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--days", type=int, default=365)
    options.add_argument("--videos", type=int, default=20)
    chosen = options.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])

    from ettametta_pipelines.partitions import DAY

    days = DAY.get_partition_keys()[-chosen.days - 1 : -1]
    home = Path(tempfile.mkdtemp(prefix="ettametta-backfills-"))
    figures: dict[str, Any] = {"load": load()}
    server = None
    try:
        put_trends(home / "store", [date.fromisoformat(day) for day in days])
        videos = put_videos(home, chosen.videos)
        server = Server(home, ETTAMETTA_NICHES=str(put_niches(home)))
        server.wait_for(server.is_up)
        server.wait_for(server.daemons_beat)
        add_videos(home, videos)
        figures[f"niche_trends, {len(days)} days x {NICHES} niches"] = backfill(server, "niche_trends", days)
        figures[f"thumbnails, {len(videos)} videos"] = backfill(server, "thumbnails", videos)
    finally:
        if server is not None:
            server.stop()
        shutil.rmtree(home)
    show(figures)
    target = Path("bench")
    target.mkdir(exist_ok=True)
    (target / "backfills.json").write_text(json.dumps(figures, indent=2) + "\n")


def show(figures: dict[str, Any]) -> None:
    table = Table(
        "", "seconds", "bar", "until its first run", "until its last run ended", "runs", "CPU seconds"
    )
    for name, found in figures.items():
        if isinstance(found, dict):
            waits = [f"{found[part]:.1f}" for part in ("until_first_run_s", "until_last_run_ended_s")]
            runs = ", ".join(f"{count} {status}" for status, count in found["by_status"].items())
            table.add_row(
                name, f"{found['seconds']:.1f}", f"{BAR_S:.0f}", *waits, runs, f"{found['cpu_s']:.0f}"
            )
    Console().print(table)
    Console().print(figures["load"])


if __name__ == "__main__":
    main()
