"""What evaluating automation costs with many source videos, and with most of them archived.

`make bench` runs it and keeps the figures in `bench/automation.json`. The assets of one video come one after the other
in one run and carry no condition of their own; measured is what `eager()` on all of them would cost each tick, beside
the conditions the definitions do have. The partitions are new and nothing is materialized, the dearest first look;
`later` is the one after, when nothing has changed, and `busy` one after everything the conditions follow has changed
on every day they look at, and a hundred videos have come in.

    python -m ettametta_pipelines_tests.benchmarks.automation [--videos 50000] [--live 5000]
"""

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.table import Table

from ettametta_pipelines.automation.conditions import FOLLOWED, Follows
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.partitions import NICHE, SOURCE_VIDEO, day_niche_key
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
    second = dg.evaluate_automation_conditions(defs, instance, cursor=first.cursor)
    later = time.perf_counter()
    make(instance, {one.asset: one for one in FOLLOWED})
    third = dg.evaluate_automation_conditions(defs, instance, cursor=second.cursor)
    make(instance, {followed: one for one in FOLLOWED for followed in one.of})
    make_videos(instance)
    changed = time.perf_counter()
    fourth = dg.evaluate_automation_conditions(defs, instance, cursor=third.cursor)
    return {
        "first_s": round(between - started, 2),
        "later_s": round(later - between, 2),
        "busy_s": round(time.perf_counter() - changed, 2),
        "requested": fourth.total_requested,
    }


def make(instance: dg.DagsterInstance, assets: Mapping[str, Follows]) -> None:
    """Partitions of the assets on each of the days that are looked at, and of every niche."""
    today = utc_now().date()
    for asset, one in assets.items():
        for ago in range(1, one.days):
            day = (today - timedelta(days=ago)).isoformat()
            by_niche = asset.endswith(("candidates", "assessments"))
            keys = [day_niche_key(day, niche) for niche in NICHE.get_partition_keys()] if by_niche else [day]
            for key in keys:
                instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))


def make_videos(instance: dg.DagsterInstance) -> None:
    for video in instance.get_dynamic_partitions(str(SOURCE_VIDEO.name))[:100]:
        for asset in ("source_media", "media_analysis", "rendition_9x16"):
            instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=video))


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
    table = Table("", "first tick, s", "later ticks, s", "busy tick, s", "asked for")
    for what, found in figures.items():
        table.add_row(what, *(str(found[name]) for name in ("first_s", "later_s", "busy_s", "requested")))
    Console().print(table)
    target = Path("bench")
    target.mkdir(exist_ok=True)
    (target / "automation.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
