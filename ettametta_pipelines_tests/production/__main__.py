"""`make demo-production`: the whole line as `make demo` runs it, on the servers of a production installation.

State through PgBouncer in transaction mode, Dagster's instance in Postgres, media, tables and compute logs in S3, the
gateway's cache in Redis: all of them started here on 127.0.0.1, in fresh directories, and stopped by their process ids.
Then the line again, which must change nothing, and a look through the gateway as a browser takes it. Exit 0 only if
every part did its work. What it needs is installed by scripts/install_test_servers.sh.
"""

import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dagster as dg
import httpx
from rich.console import Console
from rich.table import Table

from ettametta_pipelines.automation.served import set_pool_limits
from ettametta_pipelines.commands.demo import run_demo
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines_tests.databases import PostgresServer, find_postgres_binaries
from ettametta_pipelines_tests.production.servers import S3, PgBouncer, Redis, find_pgbouncer
from ettametta_pipelines_tests.servers import end, free_port, serves, wait_until

ROOT = Path(__file__).resolve().parents[2]
BUCKET = "ettametta"
STATE, INSTANCE = "ettametta", "dagster"
UNCHANGED = "0 new renders, 0 new uploads."
# Settings that would lead the line to somebody's real servers and vendors.
KEPT_FROM_OUTSIDE = {
    "HOME",
    "PATH",
    "LANG",
    "LC_ALL",
    "TMPDIR",
    "VIRTUAL_ENV",
    "PYTHONPATH",
    "TERM",
    "COLUMNS",
}


class Servers:
    """What runs, and how it is asked what it holds."""

    def __init__(self, stack: ExitStack) -> None:
        binaries = find_postgres_binaries()
        if binaries is None or find_pgbouncer() is None:
            raise RuntimeError("Postgres or PgBouncer is missing: run scripts/install_test_servers.sh")
        self.postgres = PostgresServer(binaries, durable=True)
        stack.callback(self.postgres.stop)
        self.postgres.start()
        for name in (STATE, INSTANCE):
            self.postgres.execute(f"CREATE DATABASE {name}")
        self.pooler = stack.enter_context(PgBouncer(self.postgres.port))
        self.redis = stack.enter_context(Redis())
        self.s3 = stack.enter_context(S3())
        self.bucket().create_bucket(Bucket=BUCKET)

    def environment(self, home: Path) -> dict[str, str]:
        return {
            "ETTAMETTA_HOME": str(home),
            "ETTAMETTA_INSTANCE_FILE": str(ROOT / "k8s/single-machine/dagster.yaml"),
            "ETTAMETTA_SANDBOX_PORT": str(free_port()),
            "ETTAMETTA_GATEWAY_PORT": str(free_port()),
            "ETTAMETTA_STORE": f"s3://{BUCKET}/store",
            "DATABASE_URL": self.pooler.url(STATE),
            "DAGSTER_POSTGRES_URL": self.postgres.url(INSTANCE).replace("+psycopg:", "+psycopg2:"),
            "CACHE_URL": self.redis.url,
            "MEDIA_SIGNING_KEYS": os.urandom(24).hex(),
            "AWS_STORAGE_BUCKET_NAME": BUCKET,
            "AWS_ENDPOINT_URL": self.s3.url,
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo-production",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "DAGSTER_HOME": str(home / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
        }

    def bucket(self) -> Any:
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.s3.url, aws_access_key_id="demo", aws_secret_access_key="demo",
            region_name="us-east-1",
        )  # fmt: skip

    def objects(self, prefix: str) -> int:
        pages = self.bucket().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
        return sum(page["KeyCount"] for page in pages)

    def count(self, database: str, statement: str) -> int:
        import psycopg

        with psycopg.connect(self.postgres.url(database).replace("+psycopg", "")) as connection:
            found = connection.execute(statement.encode()).fetchone()
        return int(found[0]) if found else 0


def main(videos: list[Path]) -> int:
    console, began = Console(), time.monotonic()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ettametta-production-")))
        console.print("Starting Postgres, PgBouncer, Redis and an S3 server on 127.0.0.1 ...")
        servers = Servers(stack)
        stack.enter_context(_environment(servers.environment(home)))
        settings = get_settings()
        if run_demo(settings, videos, console):
            return 1
        with dg.DagsterInstance.get() as instance:
            set_pool_limits(instance)
        console.print("The line once more, which must change nothing ...")
        said = io.StringIO()
        code = run_demo(settings, videos, Console(file=said, width=200))
        if code or UNCHANGED not in said.getvalue():
            console.print(said.getvalue(), markup=False)
            console.print("[red]Running it again was not the same as once.[/]")
            return 1
        console.print(f"Again: {UNCHANGED}")
        with _gateway(settings) as url:
            served = look_through(settings, url)
        print_what_ran(console, servers, served)
        console.print(f"{time.monotonic() - began:.0f} s in all.")
    return 0


def look_through(settings: Settings, url: str) -> dict[str, str]:
    """A film by its signed link and by bytes, and not without; pages whose second reading comes from Redis."""
    from ettametta_pipelines.media_links import media_url
    from ettametta_pipelines.storage.objects import open_store

    key = next(iter(open_store(settings).list("media/renditions"))).key
    with httpx.Client(trust_env=False, timeout=60) as browser:
        ready = browser.get(f"{url}/readyz").raise_for_status().json()
        part = browser.get(media_url(settings, key), headers={"Range": "bytes=0-1023"})
        bare = browser.get(f"{url}/{key}")
        for _ in range(2):
            browser.get(f"{url}/publications").raise_for_status()
    if not ready["ready"] or part.status_code != 206 or len(part.content) != 1024 or bare.status_code != 403:
        raise RuntimeError(f"The gateway answered {ready}, {part.status_code} and {bare.status_code}.")
    return {
        "ready": "store and state answer",
        "film": f"1024 of {part.headers['content-range'].rpartition('/')[2]} bytes by signed link; 403 without",
    }


def print_what_ran(console: Console, servers: Servers, served: Mapping[str, str]) -> None:
    import redis

    with redis.Redis.from_url(servers.redis.url) as cache:
        facts: Any = cache.info("stats")
    posts = servers.count(STATE, "select count(*) from publications")
    runs = servers.count(INSTANCE, "select count(*) from runs")
    events = servers.count(INSTANCE, "select count(*) from event_logs")
    logs, store = servers.objects("dagster/"), servers.objects("store/")
    # Runs within this process are quiet, and empty logs are not stored: test_instance.py looks at one that speaks.
    if not (posts and runs and store and facts["keyspace_hits"]):
        raise RuntimeError(
            f"Something was not used: {posts} posts, {runs} runs, {store} objects, "
            f"{facts['keyspace_hits']} hits of the cache."
        )
    table = Table("part", "on", "holds", title="What ran on what", title_justify="left")
    for row in (
        ("state", f"Postgres through PgBouncer, 127.0.0.1:{servers.pooler.port}, pooled by transaction",
         f"{posts} posts; {servers.pooler.transactions()} transactions passed on"),
        ("Dagster's instance", f"Postgres, 127.0.0.1:{servers.postgres.port}", f"{runs} runs, {events} events"),
        ("compute logs", f"S3, {servers.s3.url}", f"{logs} files; quiet runs leave none"),
        ("media and tables", f"S3, {servers.s3.url}", f"{store} objects"),
        ("gateway's cache", f"Redis, 127.0.0.1:{servers.redis.port}",
         f"{facts['keyspace_hits']} hits, {facts['keyspace_misses']} misses"),
        ("gateway", "a process of its own", "; ".join(served.values())),
    ):  # fmt: skip
        table.add_row(*row)
    console.print(table)


@contextmanager
def _environment(wanted: Mapping[str, str]) -> Iterator[None]:
    """The environment of the line: nothing of ours but what is wanted, and no `.env` of the directory we are in."""
    before, here = dict(os.environ), Path.cwd()
    os.environ.clear()
    os.environ.update(
        {name: value for name, value in before.items() if name in KEPT_FROM_OUTSIDE} | dict(wanted)
    )
    os.chdir(wanted["ETTAMETTA_HOME"])
    get_settings.cache_clear()
    try:
        yield
    finally:
        os.chdir(here)
        os.environ.clear()
        os.environ.update(before)
        get_settings.cache_clear()


@contextmanager
def _gateway(settings: Settings) -> Iterator[str]:
    url = settings.gateway_url
    with (settings.home_dir / "gateway.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ettametta_pipelines.cli", "gateway", "--port", str(settings.gateway_port)],
            stdout=log, stderr=log,
        )  # fmt: skip
        try:
            if not wait_until(lambda: serves(f"{url}/livez"), process):
                raise RuntimeError(f"The gateway did not start:\n{Path(log.name).read_text()}")
            yield url
        finally:
            end(process)


if __name__ == "__main__":
    sys.exit(main([Path(name).resolve() for name in sys.argv[1:]]))
