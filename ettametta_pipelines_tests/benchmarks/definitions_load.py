"""What it costs to load the definitions, over `import dagster` alone. Every run worker pays this.

`make bench` runs it and keeps the figures in `bench/definitions_load.json`. Fresh processes, medians of five.
"""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROUNDS = 5
MEASURE = (
    "import json, resource, sys, time; started = time.perf_counter(); {body};"
    "print(json.dumps([time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))"
)
BODIES = {
    "import dagster": "import dagster",
    "load the definitions": "import ettametta_pipelines.definitions as d; d.defs()",
}


def measure(body: str) -> tuple[float, float]:
    """Median seconds and MiB of peak memory of a fresh process that runs `body`."""
    runs = []
    for _ in range(ROUNDS + 1):
        done = subprocess.run(
            [sys.executable, "-c", MEASURE.format(body=body)], capture_output=True, text=True, check=True
        )
        runs.append(json.loads(done.stdout.splitlines()[-1]))
    seconds, memory = zip(*runs[1:], strict=True)
    return statistics.median(seconds), statistics.median(memory)


def main() -> None:
    figures = {name: measure(body) for name, body in BODIES.items()}
    (base_s, base_mb), (ours_s, ours_mb) = figures.values()
    table = Table("", "seconds", "MiB")
    for name, (seconds, memory) in figures.items():
        table.add_row(name, f"{seconds:.2f}", f"{memory:.0f}")
    table.add_row("difference (bars: 1.5 s, 120 MiB)", f"{ours_s - base_s:.2f}", f"{ours_mb - base_mb:.0f}")
    Console().print(table)
    target = Path("bench")
    target.mkdir(exist_ok=True)
    document = {"extra_seconds": ours_s - base_s, "extra_mib": ours_mb - base_mb, "figures": figures}
    (target / "definitions_load.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
