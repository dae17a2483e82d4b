"""A tick of the upload sensor beside a million old objects on moto's S3 server, by queue and by listing.

`make bench` runs it and keeps the figures in `bench/uploads.json`. moto runs in a process of its own, filled in place:
its keys share one body. Listing a bucket takes moto time for every key in it, whatever the prefix; S3's index does not.
So the listing is measured twice: on moto as it is for one request, and for whole ticks with an ordered index put in.

    python -m ettametta_pipelines_tests.benchmarks.uploads [--objects 1000000] [--new 100]
"""

import argparse
import bisect
import gc
import json
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ettametta_pipelines_tests.benchmarks.server import Measured, load

BUCKET = "uploads-bench"
ACCOUNTS, NICHES = 10, ("home-cooking", "travel", "fitness", "personal-finance")
TICKS = 5
SWEEP_TICKS = 5


def old_keys(objects: int) -> Iterator[str]:
    """Keys of `objects` uploads, evenly over accounts, niches and the three years before yesterday."""
    last = date.today() - timedelta(days=5)  # noqa: DTZ011 (a key's day has no zone)
    for number in range(objects):
        account, niche = number % ACCOUNTS, NICHES[number // ACCOUNTS % len(NICHES)]
        day = last - timedelta(days=number // (ACCOUNTS * len(NICHES)) % 1000)
        yield f"uploads/account-{account}/{niche}/{day:%Y/%m/%d}/clip-{number}.mp4"


# --- the server, in its own process ------------------------------------------------------------------------------


def serve(objects: int, indexed: bool) -> None:
    from moto.s3.models import FakeKey, S3Backend, s3_backends
    from moto.server import ThreadedMotoServer

    template = FakeKey("template", b"old", account_id="123456789012", region_name="us-east-1")

    class OldKey(FakeKey):
        # moto keeps a list of its instances by the module of their class.
        __module__ = FakeKey.__module__

        def __init__(self, name: str) -> None:
            self.name = name

        def __getattr__(self, attribute: str) -> Any:
            return getattr(template, attribute)

    if indexed:
        put_index(S3Backend, FakeKey)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    backend = s3_backends["123456789012"]["aws"]
    backend.create_bucket(BUCKET, "us-east-1")
    keys = backend.buckets[BUCKET].keys
    for key in old_keys(objects):
        dict.__setitem__(keys, key, [OldKey(key)])
    # A million objects are no garbage; looking through them for some takes Python a second now and then.
    gc.freeze()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)  # noqa: T201
    sys.stdin.read()
    server.stop()


def put_index(backend: Any, fake_key: Any) -> None:
    """moto's listing on an ordered list of names, as S3 has one; kept up by comparing the number of keys."""
    names: dict[int, list[str]] = {}

    def list_objects_v2(
        self: Any, bucket: Any, prefix: str | None, delimiter: str | None, continuation_token: str | None,
        start_after: str | None, max_keys: int,
    ) -> tuple[list[Any], bool, str | None]:  # fmt: skip
        index = names.get(id(bucket), [])
        if len(index) != len(bucket.keys):
            index = names[id(bucket)] = sorted(dict.keys(bucket.keys))
        prefix = prefix or ""
        after = self._pagination_tokens.get(continuation_token) if continuation_token else start_after
        at = bisect.bisect_left(index, prefix)
        if after:
            at = max(at, bisect.bisect_right(index, after))
        found: list[Any] = []
        while at < len(index) and index[at].startswith(prefix) and len(found) <= max_keys:
            rest = index[at][len(prefix) :]
            if delimiter and delimiter in rest:
                folder = prefix + rest.split(delimiter)[0] + delimiter
                at = bisect.bisect_left(index, folder + "\U0010ffff")
                if not (after and folder <= after):
                    found.append(folder)
            else:
                found.append(bucket.keys[index[at]])
                at += 1
        truncated: tuple[list[Any], bool, str | None] = self._truncate_result(found, max_keys)
        return truncated

    backend.list_objects_v2 = list_objects_v2


# --- the measuring process ----------------------------------------------------------------------------------------


class Server:
    def __init__(self, objects: int, *, indexed: bool) -> None:
        command = [
            sys.executable,
            "-m",
            __spec__.name if __spec__ else __name__,
            "--serve",
            "--objects",
            str(objects),
        ]
        self.process = subprocess.Popen(
            [*command, *(["--indexed"] if indexed else [])],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(timeout=60)


class Bench:
    """One home, one store, one sensor; `measure` evaluates the sensor and counts what it asked of S3."""

    def __init__(self, home: Path, server: Server, objects: int, queue: str = "") -> None:
        os.environ |= {
            "ETTAMETTA_HOME": str(home), "ETTAMETTA_STORE": f"s3://{BUCKET}", "AWS_ENDPOINT_URL": server.url,
            "AWS_ACCESS_KEY_ID": "AKIATESTTESTTESTTEST", "AWS_SECRET_ACCESS_KEY": "notarealsecret",
            "ETTAMETTA_UPLOAD_QUEUE": queue,
        }  # fmt: skip
        import dagster as dg

        from ettametta_pipelines.definitions import build_definitions
        from ettametta_pipelines.settings import get_settings
        from ettametta_pipelines.state.session import open_state
        from ettametta_pipelines.storage.objects import open_store

        get_settings.cache_clear()
        settings = get_settings()
        (home / "dagster").mkdir(parents=True)
        self.instance = dg.DagsterInstance.local_temp(str(home / "dagster"))
        self.definitions = build_definitions(settings)
        self.store = open_store(settings)
        self.state = open_state(settings)
        self.server = Path("/proc", str(server.process.pid))
        self.cursor: list[str] = []
        self.lists = 0
        self.requests = 0
        assert self.store.bucket is not None
        self.store.bucket.client.meta.events.register("before-call.s3.ListObjectsV2", self._count)
        know_old(self.state, self.store, objects)

    def _count(self, **_: Any) -> None:
        self.lists += 1

    def swept(self) -> None:
        """The sweep's turn is over until tonight."""
        from ettametta_pipelines.media.inbox import SWEEP_KEYS, Position

        now = datetime.now(UTC)
        self.cursor = [Position(ticked_at=now, sweep_began=now, sweep_ended=now, swept=SWEEP_KEYS + 1).dump()]

    def measure(self) -> dict[str, Any]:
        import dagster as dg

        from ettametta_pipelines.automation.sensors import tick_upload_sensor

        self.lists = 0
        started, own, moto = time.perf_counter(), time.process_time(), Measured(self.server).cpu_s
        requests, _ = tick_upload_sensor(self.instance, self.definitions, self.cursor)
        seconds = time.perf_counter() - started
        cpu = {"cpu_s": time.process_time() - own, "moto_cpu_s": Measured(self.server).cpu_s - moto}
        for request in requests:
            # As far as a sensor can tell a run: creating one in full costs Dagster half a second on a busy disk.
            self.instance.add_run(
                dg.DagsterRun(
                    job_name="ingest_upload",
                    run_id=str(uuid.uuid4()),
                    tags={**request.tags, "dagster/run_key": str(request.run_key)},
                )
            )
        figures = {"seconds": seconds, "list_calls": self.lists, "runs_asked_for": len(requests)} | cpu
        return {name: round(value, 3) for name, value in figures.items()}

    def place_new(self, number: int, mark: str) -> None:
        today = datetime.now(UTC).date()
        for n in range(number):
            account, niche = n % ACCOUNTS, NICHES[n // ACCOUNTS % len(NICHES)]
            key = f"uploads/account-{account}/{niche}/{today:%Y/%m/%d}/{mark}-{n}.mp4"
            self.store.put(key, f"{mark} {n}".encode())


def know_old(state: Any, store: Any, objects: int) -> None:
    """The old objects' rows of the seen-table, settled."""
    import sqlalchemy as sa

    from ettametta_pipelines.state.models import Upload

    etag = next(iter(store.list("uploads"))).etag
    seen = datetime.now(UTC) - timedelta(days=100)
    same = {
        "etag": etag,
        "size": 3,
        "status": "accepted",
        "seen_at": seen,
        "settled_at": seen,
        "captions_key": "",
    }
    rows: list[dict[str, Any]] = []
    for number, key in enumerate(old_keys(objects)):
        account, niche = key.split("/")[1:3]
        rows.append(
            same
            | {
                "object_key": key,
                "account_id": account,
                "niche": niche,
                "source_id": f"{account}--{number:016x}",
            }
        )
        if len(rows) == 20_000:
            with state.session() as session:
                session.execute(sa.insert(Upload), rows)
            rows = []
    with state.session() as session:
        session.execute(sa.insert(Upload), rows) if rows else None


def several(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The quickest of several; the first, which opens connections, is left out."""
    measure()
    return min((measure() for _ in range(TICKS)), key=lambda one: float(one["seconds"]))


def with_new(bench: Bench, new: int, *, indexed: bool = False) -> Callable[[], dict[str, Any]]:
    turn = iter(range(100))

    def measure() -> dict[str, Any]:
        bench.place_new(new, f"new-{next(turn)}")
        if indexed:
            # The server's index takes the new names in, which S3 has done when it answers a write.
            bench.store.folders("uploads")
        return bench.measure()

    return measure


def by_listing(home: Path, objects: int, new: int) -> dict[str, Any]:
    server = Server(objects, indexed=True)
    try:
        bench = Bench(home, server, objects)
        list(bench.store.folders("uploads"))
        started = time.perf_counter()
        sweeping = [bench.measure() for _ in range(SWEEP_TICKS)]
        seconds = time.perf_counter() - started
        swept = json.loads(bench.cursor[-1])["swept"]
        bench.swept()
        return {
            "listing: empty tick": several(bench.measure),
            f"listing: tick with {new} new": several(with_new(bench, new, indexed=True)),
            "sweep: its longest tick": max(sweeping, key=lambda one: one["seconds"]),
            f"sweep: a million objects, from {swept:,}": {"seconds": round(seconds * 1e6 / max(1, swept))},
        }
    finally:
        server.stop()


def by_queue(home: Path, objects: int, new: int) -> dict[str, Any]:
    import boto3

    server = Server(objects, indexed=False)
    try:
        options: Any = {
            "endpoint_url": server.url, "region_name": "us-east-1", "aws_access_key_id": "AKIATESTTESTTESTTEST",
            "aws_secret_access_key": "notarealsecret",
        }  # fmt: skip
        session: Any = boto3.session.Session()
        queue = session.client("sqs", **options).create_queue(QueueName="uploads")["QueueUrl"]
        s3 = session.client("s3", **options)
        started = time.perf_counter()
        s3.list_objects_v2(Bucket=BUCKET, Prefix="uploads/account-1/travel/2099/")
        one_list = time.perf_counter() - started
        arn = "arn:aws:sqs:us-east-1:123456789012:uploads"
        s3.put_bucket_notification_configuration(
            Bucket=BUCKET,
            NotificationConfiguration={
                "QueueConfigurations": [{"QueueArn": arn, "Events": ["s3:ObjectCreated:*"]}]
            },
        )
        bench = Bench(home, server, objects, queue)
        bench.swept()
        return {
            "moto as it is: one list call": {"seconds": round(one_list, 3), "list_calls": 1},
            "queue: empty tick": several(bench.measure),
            f"queue: tick with {new} new": several(with_new(bench, new)),
        }
    finally:
        server.stop()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--objects", type=int, default=1_000_000)
    options.add_argument("--new", type=int, default=100)
    options.add_argument("--serve", action="store_true")
    options.add_argument("--indexed", action="store_true")
    chosen = options.parse_args()
    if chosen.serve:
        serve(chosen.objects, chosen.indexed)
        return
    figures: dict[str, Any] = {"objects": chosen.objects, "folders": ACCOUNTS * len(NICHES)}
    with tempfile.TemporaryDirectory(prefix="ettametta-uploads-") as home:
        figures |= by_queue(Path(home, "queue"), chosen.objects, chosen.new)
        figures |= by_listing(Path(home, "listing"), chosen.objects, chosen.new)
    columns = {
        "seconds": "seconds", "cpu_s": "our CPU", "moto_cpu_s": "moto's CPU", "list_calls": "list calls",
        "runs_asked_for": "runs asked for",
    }  # fmt: skip
    table = Table("bar: under 1 s, fewer than 2 list calls more than an empty tick", *columns.values())
    for name, found in figures.items():
        if isinstance(found, dict):
            table.add_row(name, *(str(found.get(column, "")) for column in columns))
    Console().print(f"{chosen.objects:,} old objects in {figures['folders']} folders")
    Console().print(table)
    Console().print(load())
    target = Path("bench")
    target.mkdir(exist_ok=True)
    (target / "uploads.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
