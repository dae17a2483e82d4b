"""Runs the stages of the load and says whether the bars hold; `make load`, and `make soak` for the long one.

Every stage has two gateways and a warm-up of its own, which is not counted, and asserts afterwards what must be true
whatever the latency was: each message stored once, each click noted, quota granted to the unit, no connection kept.

    python -m ettametta_pipelines_tests.load [--stage steady …] [--rate 100] [--seconds 60] [--soak MINUTES]
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.state.models import ApiQuota
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.databases import PostgresServer
from ettametta_pipelines_tests.load.driver import Seen, drive, percentile_ms, recovery_s
from ettametta_pipelines_tests.load.scenario import Furnished, Mix, clicks, furnish, lost_messages
from ettametta_pipelines_tests.load.surroundings import (
    cpu_s,
    durable_postgres,
    gateway,
    memory_mb,
    open_connections,
    process,
    processors,
    slow_line,
)
from ettametta_pipelines_tests.servers import free_port

WARM_UP_S = 10.0
# Pods of one process, as they are deployed.
GATEWAYS = 2
SPIKE, SPIKE_S, AFTER_S = 5, 10.0, 30.0
RECOVERED_WITHIN_S = 10.0
DELAY_MS, SLOW_UPSTREAM_MS = 20, 2000
# So few that both come to the end of it, and race for the last.
BACKFILLS, BACKFILL_UNITS = 2, 100
# What stands between a gateway and a pool of its own that is full and idle.
POOL_SIZE = 5 * GATEWAYS
SOAK_MB_A_MINUTE = 1.0
P95_BAR_MS = 50
SHARES_SHOWN = (0.5, 0.95, 0.99)
# The bars of a stage in milliseconds: (p95, p99). A page makes up to four trips to the database, so that one that is
# 20 ms away is held to the design's floor.
BARS: dict[str, tuple[int, int] | None] = {
    "steady": (50, 150), "spike": None, "database_20ms_away": (500, 1000), "slow_upstream": (50, 150),
    "backfill_beside": (50, 150), "soak": (50, 150),
}  # fmt: skip
STAGES = [name for name in BARS if name != "soak"]
QUOTA = {"ETTAMETTA_YOUTUBE_QUOTA": f"units={BACKFILL_UNITS}"}
ACCOUNTS_PLAN = "account's plan"


class Stage:
    """One stage over a furnished database."""

    def __init__(self, name: str, server: PostgresServer, home: Path, there: Furnished, rate: float) -> None:
        self.name, self.server, self.home, self.there, self.rate = name, server, home, there, rate
        self.url = server.url("load")

    def run(self, seconds: float) -> dict[str, Any]:
        with ExitStack() as stack:
            environment = QUOTA | self._upstream(stack)
            url = self.url
            if self.name == "database_20ms_away":
                url = url.replace(
                    f":{self.server.port}/",
                    f":{stack.enter_context(slow_line(self.server.port, DELAY_MS, self.home))}/",
                )
            db = stack.enter_context(StateDatabase(self.url))
            others = self._others(stack)
            before = set(open_connections(self.server))
            pods = [stack.enter_context(gateway(url, self.home, **environment)) for _ in range(GATEWAYS)]
            ports, pids = [port for port, _ in pods], [pid for _, pid in pods]
            warm_up = Mix(self.there, 1)
            if asyncio.run(
                drive(ports, warm_up.asks(int(self.rate * WARM_UP_S)), [(self.rate, WARM_UP_S)])
            ).is_cut_short:
                raise KeyboardInterrupt
            mix, noted = Mix(self.there, 2, slow_share=self.name == "slow_upstream"), self._settled_clicks(db)
            rates = self._rates(seconds)
            asks = mix.asks(sum(round(rate * for_s) for rate, for_s in rates))
            with self._memory(pids) as memory:
                spent = sum(map(cpu_s, pids))
                seen = asyncio.run(drive(ports, asks, rates))
                spent = sum(map(cpu_s, pids)) - spent
            figures = self._figures(seen, rates) | {"gateway_cpu_ms": spent / seen.count * 1000}
            figures["stopped_after_s"] = time.perf_counter() - seen.begun if seen.is_cut_short else None
            figures["right"] = self._is_right(db, mix, noted, ports, before, others)
            if self.name == "soak":
                figures["memory_mb_a_minute"] = slope(memory)
        return figures | {"holds": self._holds(figures)}

    def _rates(self, seconds: float) -> list[tuple[float, float]]:
        if self.name != "spike":
            return [(self.rate, seconds)]
        return [(self.rate, seconds / 2), (SPIKE * self.rate, SPIKE_S), (self.rate, AFTER_S)]

    def _upstream(self, stack: ExitStack) -> dict[str, str]:
        """Stripe, that is the sandbox, answering late."""
        if self.name != "slow_upstream":
            return {}
        port = free_port()
        command = [
            "ettametta_pipelines.cli",
            "sandbox",
            "--port",
            str(port),
            "--latency-ms",
            str(SLOW_UPSTREAM_MS),
        ]
        stack.enter_context(process(command, {"ETTAMETTA_HOME": str(self.home / "sandbox")}, self.home))
        return {"ETTAMETTA_SANDBOX_PORT": str(port)}

    def _others(self, stack: ExitStack) -> list[subprocess.Popen[str]]:
        if self.name != "backfill_beside":
            return []
        environment = {"DATABASE_URL": self.url, "ETTAMETTA_HOME": str(self.home), **QUOTA}
        command = ["ettametta_pipelines_tests.load.beside"]
        return [stack.enter_context(process(command, environment, self.home)) for _ in range(BACKFILLS)]

    def _figures(self, seen: Seen, rates: list[tuple[float, float]]) -> dict[str, Any]:
        told = seen.latencies(without=[ACCOUNTS_PLAN])
        figures: dict[str, Any] = {
            f"p{share * 100:g}_ms": percentile_ms(told, share) for share in (0.5, 0.95, 0.99, 1)
        }
        if self.name == "spike":
            figures["recovered_after_s"] = recovery_s(seen, sum(for_s for _, for_s in rates[:2]), P95_BAR_MS)
        return figures | {
            "requests": seen.count, "errors": dict(seen.errors), "rates": rates,
            "driver_late_p99_ms": percentile_ms(seen.lateness, 0.99),
            "routes": {
                name: {f"p{of * 100:g}_ms": percentile_ms([took for _, took in times], of) for of in SHARES_SHOWN}
                for name, times in sorted(seen.times.items())
            },
        }  # fmt: skip

    def _is_right(
        self,
        db: StateDatabase,
        mix: Mix,
        noted: int,
        ports: list[int],
        before: set[int],
        others: list[subprocess.Popen[str]],
    ) -> dict[str, bool]:
        found = {"each message stored once": lost_messages(db, mix) == (0, 0)}
        found["each click noted once"] = self._settled_clicks(db, noted + mix.clicks) == noted + mix.clicks
        if others:
            granted = 0
            for other in others:
                other.terminate()
                granted += int(other.communicate(timeout=60)[0])
            with db.session(write=False) as session:
                used = session.scalar(sa.select(sa.func.sum(ApiQuota.used)).where(ApiQuota.bucket == "units"))
            found["quota granted to the unit"] = granted == used == BACKFILL_UNITS
        db.close()
        busy = self._connections(before)
        found["no connection kept"] = len(busy) <= POOL_SIZE and set(busy.values()) <= {"idle"}
        told = [httpx.get(f"http://127.0.0.1:{port}/metrics").text for port in ports]
        found["none counted as failed"] = not any('status="5' in text for text in told)
        return found

    def _connections(self, before: set[int]) -> dict[int, str]:
        """The gateway's connections once it has come to rest, or after 20 s."""
        deadline = time.monotonic() + 20
        while True:
            left = open_connections(self.server, before)
            if (len(left) <= POOL_SIZE and set(left.values()) <= {"idle"}) or time.monotonic() > deadline:
                return left
            time.sleep(0.5)

    def _settled_clicks(self, db: StateDatabase, wanted: int | None = None) -> int:
        """Clicks that are noted, once there are so many or none came for two seconds."""
        last, changed = clicks(db), time.monotonic()
        while last != wanted and time.monotonic() - changed < (2 if wanted is None else 30):
            time.sleep(0.25)
            if (now := clicks(db)) != last:
                last, changed = now, time.monotonic()
        return last

    @contextmanager
    def _memory(self, pids: list[int]) -> Iterator[list[tuple[float, float]]]:
        samples: list[tuple[float, float]] = []
        ended = threading.Event()

        def look() -> None:
            while not ended.wait(2):
                samples.append((time.monotonic() / 60, max(map(memory_mb, pids))))

        thread = threading.Thread(target=look)
        thread.start()
        try:
            yield samples
        finally:
            ended.set()
            thread.join()

    def _holds(self, figures: dict[str, Any]) -> bool:
        bars = BARS[self.name]
        return (
            not figures["errors"]
            and figures["stopped_after_s"] is None
            and all(figures["right"].values())
            and (bars is None or (figures["p95_ms"] < bars[0] and figures["p99_ms"] < bars[1]))
            and figures.get("recovered_after_s", 0) < RECOVERED_WITHIN_S
            and (figures.get("memory_mb_a_minute") or 0) < SOAK_MB_A_MINUTE
        )


def slope(samples: list[tuple[float, float]]) -> float | None:
    """Megabytes a minute over the second half, by least squares: caches fill in the first. None of too few samples."""
    half = samples[len(samples) // 2 :]
    if len(half) < 2:
        return None
    middle_x, middle_y = (sum(values) / len(half) for values in zip(*half, strict=True))
    return sum((x - middle_x) * (y - middle_y) for x, y in half) / sum((x - middle_x) ** 2 for x, _ in half)


def run(stages: list[str], rate: float, seconds: float) -> dict[str, Any]:
    """Figures by stage; of those that were run, where it was interrupted."""
    found: dict[str, Any] = {"day": str(date.today()), "processors": os.cpu_count()}  # noqa: DTZ011
    with durable_postgres() as server, TemporaryDirectory(prefix="ettametta-load-") as folder:
        home = Path(folder)
        (home / "store").mkdir()
        (home / "sandbox").mkdir()
        with StateDatabase(server.url("load")) as db:
            db.migrate()
            there = furnish(db, ObjectStore.from_url((home / "store").as_uri()))
        mine = os.sched_getaffinity(0)
        os.sched_setaffinity(0, processors()[1])
        try:
            for name in stages:
                Console(stderr=True).print(f"[dim]{name} …")
                found[name] = Stage(name, server, home, there, rate).run(seconds)
                if found[name]["stopped_after_s"] is not None:
                    break
        except KeyboardInterrupt:
            Console(stderr=True).print("interrupted")
        finally:
            os.sched_setaffinity(0, mine)
    return found


def show(found: dict[str, Any], stages: list[str]) -> bool:
    """Print the tables; whether all stages were run and every bar holds."""
    wanted, stages = stages, [name for name in stages if name in found]
    console = Console(width=None if Console().is_terminal else 160)
    table = Table(
        "stage", "requests", "errors", "p50", "p95", "p99", "worst", "CPU a request", "also", "right", ""
    )
    for name in stages:
        row, bars = found[name], BARS[name]
        also = [f"recovered after {row['recovered_after_s']:.0f} s"] if "recovered_after_s" in row else []
        memory, stopped_s = row.get("memory_mb_a_minute"), row["stopped_after_s"]
        also += [f"{memory:+.2f} MB a minute"] if memory is not None else []
        also += [f"stopped after {stopped_s / 60:.1f} minutes"] if stopped_s is not None else []
        wrong = [what for what, is_so in row["right"].items() if not is_so]
        limits = [f" < {bar}" for bar in bars] if bars else ["", ""]
        table.add_row(
            name, f"{row['requests']:,}", str(sum(row["errors"].values())), f"{row['p50_ms']:.1f}",
            f"{row['p95_ms']:.1f}{limits[0]}", f"{row['p99_ms']:.1f}{limits[1]}", f"{row['p100_ms']:.0f}",
            f"{row['gateway_cpu_ms']:.1f}", ", ".join(also), "NOT: " + ", ".join(wrong) if wrong else "yes",
            "holds" if row["holds"] else "MISSED" if stopped_s is None else "STOPPED",
        )  # fmt: skip
    console.print(table)
    routes = Table("route", *(f"{name} p50 / p95" for name in stages))
    for route in sorted({route for name in stages for route in found[name]["routes"]}):
        cells = [found[name]["routes"].get(route) for name in stages]
        routes.add_row(route, *(f"{c['p50_ms']:.1f} / {c['p95_ms']:.1f}" if c else "" for c in cells))
    console.print(routes)
    for name in stages:
        if found[name]["errors"]:
            console.print(f"{name}: {found[name]['errors']}")
    return stages == wanted and all(found[name]["holds"] for name in stages)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stage", action="append", choices=STAGES)
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--soak", type=float, metavar="MINUTES")
    asked = parser.parse_args()
    # Ended from outside it ends its servers too, and prints what it has, as after Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    get_settings.cache_clear()
    stages = ["soak"] if asked.soak else asked.stage or STAGES
    found = run(stages, asked.rate, asked.soak * 60 if asked.soak else asked.seconds)
    target = Path("bench")
    target.mkdir(exist_ok=True)
    (target / ("soak.json" if asked.soak else "load.json")).write_text(json.dumps(found, indent=2) + "\n")
    raise SystemExit(0 if show(found, stages) else 1)


if __name__ == "__main__":
    main()
