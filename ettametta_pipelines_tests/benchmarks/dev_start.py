"""How long `ettametta dev` takes until it can be used, and what it takes of the machine when nothing happens.

Ready: the UI answers and has the definitions, and every daemon has reported. Memory a while after that, as RSS (every
process with all it shares counted) and PSS (shared pages counted once); "Dagster" is its four processes, beside them
are the gateway, the sandbox and the parent. `make bench` runs it and keeps the figures in `bench/dev_start.json`.

    python -m ettametta_pipelines_tests.benchmarks.dev_start [--rounds 3] [--idle 20]
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ettametta_pipelines_tests.benchmarks.server import Measured, Server, load

PROCESSORS = 2
BAR_S, BAR_MIB = 10.0, 700
BESIDE = ("ettametta_pipelines.cli",)


def measure(home: Path, idle_s: float) -> tuple[dict[str, float], list[Measured]]:
    """Seconds until each part is ready, and the processes after `idle_s` more."""
    started = time.monotonic()
    server = Server(home)
    try:
        server.wait_for(server.is_up, every_s=0.1)
        ui_s = time.monotonic() - started
        server.wait_for(server.daemons_beat, every_s=0.1)
        ready_s = time.monotonic() - started
        cpu_s = sum(process.cpu_s for process in server.processes())
        time.sleep(idle_s)
        found = server.processes()
        idle_cpu = (sum(process.cpu_s for process in found) - cpu_s) / idle_s
        return {"ui_s": ui_s, "ready_s": ready_s, "cpu_s": cpu_s, "idle_processors": idle_cpu}, found
    finally:
        server.stop()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--idle", type=float, default=20.0)
    chosen = options.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSORS])
    rounds = []
    for _ in range(chosen.rounds):
        home = Path(tempfile.mkdtemp(prefix="ettametta-start-"))
        try:
            rounds.append(measure(home, chosen.idle))
        finally:
            shutil.rmtree(home)
    seconds, processes = min(rounds, key=lambda one: one[0]["ready_s"])
    dagster = [process for process in processes if not process.command.startswith(BESIDE)]
    memory = {
        name: {"rss_mib": sum(p.rss for p in some), "pss_mib": sum(p.pss for p in some)}
        for name, some in (("Dagster", dagster), ("everything", processes))
    }
    show(seconds, processes, memory)
    target = Path("bench")
    target.mkdir(exist_ok=True)
    figures = {"load": load(), "all_ready_s": [one["ready_s"] for one, _ in rounds]} | seconds | memory
    (target / "dev_start.json").write_text(json.dumps(figures, indent=2) + "\n")


def show(seconds: dict[str, float], processes: list[Measured], memory: dict[str, Any]) -> None:
    times = Table("", "seconds", "bar")
    times.add_row("the UI has the definitions", f"{seconds['ui_s']:.1f}")
    times.add_row("and the daemons run", f"{seconds['ready_s']:.1f}", f"{BAR_S:.0f}")
    times.add_row("CPU until then", f"{seconds['cpu_s']:.1f}")
    times.add_row("processors in use when idle", f"{seconds['idle_processors']:.2f}")
    table = Table("", "RSS MiB", "PSS MiB", "bar")
    for process in processes:
        table.add_row(process.command, f"{process.rss:.0f}", f"{process.pss:.0f}")
    for name, sums in memory.items():
        table.add_row(name, f"{sums['rss_mib']:.0f}", f"{sums['pss_mib']:.0f}", str(BAR_MIB))
    Console().print(times, table, load())


if __name__ == "__main__":
    main()
