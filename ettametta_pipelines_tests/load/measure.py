"""What a video costs the servers, and what large partition sets and listings take: the measured inputs of scale.py.

The line of `make demo` runs twice on fresh servers of a production installation, once with one video and once with
three; half the difference is what a video adds, without what a day does anyhow. Writes `measured.json`, from which
`scale.py` takes its inputs; times among them are of the machine it ran on, counts are not.

    python -m ettametta_pipelines_tests.load.measure        (make scale-measured)
"""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ettametta_pipelines_tests.production.__main__ import INSTANCE, STATE, Servers, _environment

FILE = Path(__file__).with_name("measured.json")
FEW, MANY = 1, 3
PARTITION_SETS = (10_000, 100_000, 1_000_000)
LISTINGS = (10_000, 100_000)
REQUEST = re.compile(r'"(GET|HEAD|PUT|POST|DELETE) [^"]*" \d{3} ')
WRITES = {"PUT", "POST", "DELETE"}
COUNTED = {
    "runs": (INSTANCE, "SELECT count(*) FROM runs"),
    "event_rows": (INSTANCE, "SELECT count(*) FROM event_logs"),
    "event_bytes": (INSTANCE, "SELECT pg_total_relation_size('event_logs')"),
    # Only a transaction that writes is given a number: these are what a server has to bring to its disk.
    "writing_transactions": (STATE, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"),
    "state_transactions": (STATE, f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{STATE}'"),
    "instance_transactions": (
        STATE,
        f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{INSTANCE}'",
    ),
}


def line(videos: int) -> dict[str, int]:
    """Totals of one line with so many of the samples, from the servers' own counters."""
    from rich.console import Console

    from ettametta_pipelines.commands.demo import run_demo
    from ettametta_pipelines.media.samples import make_samples
    from ettametta_pipelines.settings import get_settings

    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ettametta-measure-")))
        servers = Servers(stack)
        stack.enter_context(_environment(servers.environment(home)))
        samples = make_samples(home / "own-samples")[:videos]
        before = _counts(servers, is_fresh=True)
        said = io.StringIO()
        if run_demo(get_settings(), samples, Console(file=said, width=200)):
            raise RuntimeError(f"The line failed:\n{said.getvalue()}")
        after = _counts(servers)
        return {name: after[name] - before.get(name, 0) for name in after}


def _counts(servers: Servers, *, is_fresh: bool = False) -> dict[str, int]:
    time.sleep(2.0)  # Postgres tells its statistics a second late.
    methods = REQUEST.findall(servers.s3.log.read_text(errors="replace"))
    counts = {
        "s3_requests": len(methods),
        "s3_writes": sum(method in WRITES for method in methods),
        "objects": servers.objects("store/"),
        "media_objects": servers.objects("store/media/") + servers.objects("store/uploads/"),
    }
    for name, (database, statement) in COUNTED.items():
        # Before the line there are no tables, and nothing in them.
        if not is_fresh or database == STATE:
            counts[name] = servers.count(database, statement)
    return counts


def partition_sets() -> dict[str, float]:
    """Seconds in which Dagster reads all keys of a dynamic partition set from Postgres, by how many there are."""
    import dagster as dg

    found: dict[str, float] = {}
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ettametta-measure-")))
        servers = Servers(stack)
        address = servers.postgres.url(INSTANCE).replace("+psycopg:", "+psycopg2:")
        (home / "dagster.yaml").write_text(f"storage: {{postgres: {{postgres_url: '{address}'}}}}\n")
        with dg.DagsterInstance.from_config(str(home)) as instance:
            instance.get_dynamic_partitions("none")
            for count in PARTITION_SETS:
                name = f"set_of_{count}"
                servers.count(
                    INSTANCE,
                    "WITH made AS (INSERT INTO dynamic_partitions (partitions_def_name, partition, create_timestamp) "
                    f"SELECT '{name}', 'studio-' || n % 1000 || '--' || substr(md5(n::text), 1, 16), now() "
                    f"FROM generate_series(1, {count}) AS n RETURNING 1) SELECT count(*) FROM made",
                )
                found[str(count)] = _seconds(lambda name=name: instance.get_dynamic_partitions(name), count)
    return found


def listings() -> dict[str, float]:
    """Seconds in which a directory store lists so many objects: our own part of a listing, without S3's."""
    from ettametta_pipelines.settings import Settings
    from ettametta_pipelines.storage.objects import open_store

    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="ettametta-measure-") as home:
        store = open_store(Settings(ETTAMETTA_HOME=home, ETTAMETTA_STORE=f"file://{home}/store"))
        made = 0
        for count in LISTINGS:
            for number in range(made, count):
                path = Path(home, "store/media/sources", f"{number % 256:02x}", f"{number}.mp4")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
            made = count
            found[str(count)] = _seconds(lambda: list(store.list("media")), count)
    return found


def _seconds(read: Callable[[], Any], wanted: int) -> float:
    """The least of five: what it takes where nothing else is in the way."""
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        if len(read()) != wanted:
            raise RuntimeError(f"not all of {wanted} were read")
        took.append(time.perf_counter() - begun)
    return round(min(took), 4)


def main() -> None:
    if len(sys.argv) == 3:
        Path(sys.argv[2]).write_text(json.dumps(line(int(sys.argv[1]))))
        return
    totals = {}
    for videos in (FEW, MANY):
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            # A process of its own: what the line opened stays open within a process.
            subprocess.run([sys.executable, "-m", __spec__.name, str(videos), out.name], check=True)
            totals[videos] = json.loads(Path(out.name).read_text())
    added = {name: (totals[MANY][name] - totals[FEW][name]) / (MANY - FEW) for name in totals[MANY]}
    measured = {
        "a_video": added,
        "a_line_of_one": totals[FEW],
        "event_row_bytes": round(totals[MANY]["event_bytes"] / totals[MANY]["event_rows"]),
        "partition_set_s": partition_sets(),
        "listing_s": listings(),
        "processors": os.cpu_count(),
    }
    FILE.write_text(json.dumps(measured, indent=1) + "\n")
    sys.stdout.write(FILE.read_text())


if __name__ == "__main__":
    main()
