"""How quickly one gateway takes in webhooks: 200 signed Stripe events a second, each sent twice, stored in Postgres.

`make bench` runs it and keeps the figures in `bench/webhooks.json`. The model is open: requests leave at fixed instants
however slow the answers are, and a latency counts from the instant a request was due, so that a stall is seen by all it
delays. The gateway is `ettametta gateway` as it is deployed, one process held to one core; the driver has another, and
Postgres, which waits for its disk at every commit, may use both. How late the driver itself was is told beside it.

    python -m ettametta_pipelines_tests.benchmarks.webhooks [--rate 200] [--seconds 30]
"""

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from ettametta_pipelines.state.models import WebhookEvent
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.databases import PostgresServer, find_postgres_binaries
from ettametta_pipelines_tests.gateway.signing import by_stripe, stripe_event

WARM_UP_S = 5
BARS_MS = {"p95": 25, "p99": 100}
# About what Stripe sends of a subscription.
FILLING = {f"field_{n}": "x" * 40 for n in range(60)}


@dataclass
class Load:
    """What the driver saw: latencies and its own lateness in seconds, answers by status or kind of error."""

    latencies: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)
    answers: Counter[str] = field(default_factory=Counter)


class Connections:
    """Kept-alive HTTP/1.1 connections to the gateway, as many as are used at once; httpx would itself take a core."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def post(self, body: bytes) -> str:
        reader, writer = (
            self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        )
        lines = {"Host": f"127.0.0.1:{self._port}", "Content-Length": str(len(body)), **by_stripe(body)}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        writer.write(f"POST /webhooks/stripe HTTP/1.1\r\n{head}\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        await reader.readexactly(int(answer.split("content-length: ")[1].split("\r\n")[0]))
        self._idle.append((reader, writer))
        return answer.split(" ", 2)[1]

    def close(self) -> None:
        for _, writer in self._idle:
            writer.close()


async def drive(port: int, bodies: Sequence[bytes], rate: float) -> Load:
    load, connections, begin = Load(), Connections(port), time.perf_counter() + 0.1

    async def one(due: float, body: bytes) -> None:
        load.lateness.append(time.perf_counter() - due)
        try:
            answer = await asyncio.wait_for(connections.post(body), 10)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            answer = type(error).__name__
        load.latencies.append(time.perf_counter() - due)
        load.answers[answer] += 1

    tasks = []
    for number, body in enumerate(bodies):
        due = begin + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due, body)))
    await asyncio.gather(*tasks)
    connections.close()
    return load


def events(prefix: str, requests: int) -> list[bytes]:
    """Bodies in sending order: half as many ids, each of them twice, mixed by seed."""
    bodies = [
        stripe_event(f"evt_{prefix}{n}", "customer.subscription.updated", about={"id": f"sub_{n}", **FILLING})
        for n in range(requests // 2)
    ] * 2
    random.Random(len(bodies)).shuffle(bodies)
    return bodies


@contextmanager
def gateway(database: str, home: Path, core: int) -> Iterator[tuple[int, int]]:
    """A gateway on one core, its port and process id, by which it is ended."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "ettametta_pipelines.cli", "gateway", "--port", str(port)],
        env=os.environ | {"DATABASE_URL": database, "ETTAMETTA_HOME": str(home)}, cwd=home,
        stdout=(home / "gateway.log").open("w"), stderr=subprocess.STDOUT,
        preexec_fn=partial(os.sched_setaffinity, 0, {core}),
    )  # fmt: skip
    try:
        for _ in range(300):
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/livez", timeout=1).status_code == 200:
                    break
            time.sleep(0.1)
        else:
            raise RuntimeError("the gateway did not start")
        yield port, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: Sequence[float], share: float) -> float:
    """Milliseconds below which this share of the values lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] * 1000


def measure(rate: float, seconds: float) -> dict[str, Any]:
    binaries = find_postgres_binaries()
    if binaries is None:
        raise SystemExit("No Postgres here; scripts/install_test_servers.sh installs it.")
    cores = sorted(os.sched_getaffinity(0))
    server = PostgresServer(binaries, durable=True)
    try:
        server.start()
        server.execute("CREATE DATABASE bench")
        url = server.url("bench")
        with TemporaryDirectory(prefix="ettametta-bench-") as home, StateDatabase(url) as db:
            db.migrate()
            with gateway(url, Path(home), cores[0]) as (port, pid):
                os.sched_setaffinity(0, {cores[-1]})
                asyncio.run(drive(port, events("warm", int(rate * WARM_UP_S)), rate))
                bodies, before = events("", int(rate * seconds)), cpu_seconds(pid)
                load = asyncio.run(drive(port, bodies, rate))
                spent = cpu_seconds(pid) - before
            with db.session(write=False) as session:
                rows = session.scalar(
                    sa.select(sa.func.count()).where(WebhookEvent.event_id.not_like("evt_warm%"))
                )
    finally:
        os.sched_setaffinity(0, set(cores))
        server.stop()
    figures: dict[str, Any] = {
        f"p{round(share * 100)}_ms": percentile(load.latencies, share) for share in (0.5, 0.95, 0.99)
    }
    return figures | {
        "worst_ms": percentile(load.latencies, 1), "driver_late_p99_ms": percentile(load.lateness, 0.99),
        "gateway_cpu_ms": spent / len(bodies) * 1000,
        "rate": rate, "seconds": seconds, "requests": len(bodies), "answers": dict(load.answers),
        "errors": load.answers.total() - load.answers["200"], "unique_ids": len(set(bodies)), "stored_rows": rows,
        "cores": len(cores), "load_average": os.getloadavg()[0],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rate", type=float, default=200)
    parser.add_argument("--seconds", type=float, default=30)
    asked = parser.parse_args()
    figures = measure(asked.rate, asked.seconds)
    table = Table(f"{asked.rate:.0f} a second for {asked.seconds:.0f} s", "", "bar")
    for name in ("p50_ms", "p95_ms", "p99_ms", "worst_ms", "driver_late_p99_ms", "gateway_cpu_ms"):
        bar = BARS_MS.get(name.removesuffix("_ms"))
        shown = name.removesuffix("_ms").replace("_", " ")
        table.add_row(shown, f"{figures[name]:.1f} ms", f"{bar} ms" if bar else "")
    for name, bar in (
        ("requests", ""),
        ("errors", "0"),
        ("stored_rows", f"{figures['unique_ids']:,}, as ids"),
    ):
        table.add_row(name.replace("_", " "), f"{figures[name]:,}", bar)
    Console().print(table)
    holds = (
        all(figures[f"{name}_ms"] < bar for name, bar in BARS_MS.items())
        and not figures["errors"]
        and figures["stored_rows"] == figures["unique_ids"]
    )
    Console().print("The bars hold." if holds else "A bar is missed.")
    target = Path("bench")
    target.mkdir(exist_ok=True)
    (target / "webhooks.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
