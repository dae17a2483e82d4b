"""What a load runs against: Postgres, the gateway's process, a line that is slow, and a run that writes beside it.

Servers get the first two processors and the driver the last, where there are that many. All are ended by their handle.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import psycopg

from ettametta_pipelines.commands.devserver import project_root
from ettametta_pipelines_tests.databases import PostgresServer, find_postgres_binaries
from ettametta_pipelines_tests.servers import end, free_port, serves, wait_until


def processors() -> tuple[set[int], set[int]]:
    """(of the servers, of the driver)."""
    every = sorted(os.sched_getaffinity(0))
    return set(every[:2]), set(every[2:]) or set(every)


@contextmanager
def durable_postgres() -> Iterator[PostgresServer]:
    """A server that waits for its disk at a commit, as a real one does, on the servers' processors."""
    binaries = find_postgres_binaries()
    if binaries is None:
        raise SystemExit("No Postgres here; scripts/install_test_servers.sh installs it.")
    server, mine = PostgresServer(binaries, durable=True), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, processors()[0])
        server.start()
        os.sched_setaffinity(0, mine)
        server.execute("CREATE DATABASE load")
        yield server
    finally:
        os.sched_setaffinity(0, mine)
        server.stop()


@contextmanager
def process(
    arguments: list[str], environment: Mapping[str, str], home: Path
) -> Iterator[subprocess.Popen[str]]:
    """A Python module of ours as a process on the servers' processors, ended by SIGTERM; its log is in its home.

    Ctrl-C is for the load alone, which ends its processes once it has looked at what they did.
    """
    ours = {"PYTHONPATH": str(project_root())}
    with (home / "log.txt").open("a") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", *arguments], env=os.environ | ours | environment, cwd=home, text=True,
            stdout=subprocess.PIPE, stderr=log, process_group=0,
            preexec_fn=partial(os.sched_setaffinity, 0, processors()[0]),
        )  # fmt: skip
    try:
        yield child
    finally:
        end(child)


@contextmanager
def gateway(database: str, home: Path, **environment: str) -> Iterator[tuple[int, int]]:
    """`ettametta gateway`: its port and process id."""
    port = free_port()
    settings = {"DATABASE_URL": database, "ETTAMETTA_HOME": str(home), **environment}
    with process(["ettametta_pipelines.cli", "gateway", "--port", str(port)], settings, home) as child:
        if not wait_until(lambda: serves(f"http://127.0.0.1:{port}/livez"), child):
            raise RuntimeError("the gateway did not start")
        yield port, child.pid


@contextmanager
def slow_line(to_port: int, delay_ms: float, home: Path) -> Iterator[int]:
    """A port that leads to another, each answer so much later."""
    arguments = ["ettametta_pipelines_tests.line", str(to_port), str(delay_ms)]
    with process(arguments, {}, home) as child:
        assert child.stdout is not None
        yield int(child.stdout.readline())


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"process {pid} is gone")


def cpu_s(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def open_connections(server: PostgresServer, but: set[int] | None = None) -> dict[int, str]:
    """Process id -> state of the database's connections, as Postgres knows them."""
    with psycopg.connect(server.url("postgres").replace("+psycopg", "")) as connection:
        rows = connection.execute("SELECT pid, state FROM pg_stat_activity WHERE datname = 'load'").fetchall()
    return {pid: state for pid, state in rows if pid not in (but or set())}
