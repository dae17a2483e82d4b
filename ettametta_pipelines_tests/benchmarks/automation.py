"""What evaluating automation costs with many source videos, and with most of them archived.

`make bench` runs it and keeps the figures in `bench/automation.json`. The assets of one video come one after the other
in one run today and carry no condition of their own; measured is what `eager()` on all of them would cost each tick,
beside the conditions the definitions do have. The partitions are new and nothing is materialized, the dearest first
look; `later` is the one after, when nothing has changed.

    python -m ettametta_pipelines_tests.benchmarks.automation [--videos 50000] [--live 5000]
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.settings import get_settings

AT_ONCE = 10_000


def definitions(eager: bool) -> dg.Definitions:
    """The project's assets as they are, or with `eager()` on every asset of a source video."""
    everything = build_definitions(get_settings())

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        if spec.partitions_def != SOURCE_VIDEO:
            return spec
        return spec.replace_attributes(automation_condition=dg.AutomationCondition.eager())

    assets: Any = (
        everything.assets if not eager else dg.map_asset_specs(with_condition, everything.assets or [])
    )
    return dg.Definitions(assets=assets, resources=everything.resources)


def evaluate(defs: dg.Definitions, instance: dg.DagsterInstance) -> dict[str, float]:
    started = time.perf_counter()
    first = dg.evaluate_automation_conditions(defs, instance)
    between = time.perf_counter()
    dg.evaluate_automation_conditions(defs, instance, cursor=first.cursor)
    return {"first_s": round(between - started, 2), "later_s": round(time.perf_counter() - between, 2)}


def measure(videos: int, eager: bool) -> dict[str, float]:
    name = str(SOURCE_VIDEO.name)
    with tempfile.TemporaryDirectory() as home, dg.DagsterInstance.local_temp(home) as instance:
        keys = [f"account-{n % 20}--{n:016x}" for n in range(videos)]
        for start in range(0, videos, AT_ONCE):
            instance.add_dynamic_partitions(name, keys[start : start + AT_ONCE])
        return evaluate(definitions(eager), instance)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    options.add_argument("--videos", type=int, default=50_000)
    options.add_argument("--live", type=int, default=5_000)
    chosen = options.parse_args()
    figures = {
        f"{videos:,} videos, {'eager() on each asset' if eager else 'conditions as they are'}": measure(
            videos, eager
        )
        for videos in (chosen.videos, chosen.live)
        for eager in (False, True)
    }
    table = Table("", "first tick, s", "later ticks, s")
    for what, found in figures.items():
        table.add_row(what, str(found["first_s"]), str(found["later_s"]))
    Console().print(table)
    target = Path("bench")
    target.mkdir(exist_ok=True)
    (target / "automation.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
