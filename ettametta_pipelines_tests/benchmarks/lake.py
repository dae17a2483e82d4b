"""`niche_trends` over ten million stored candidates, and a niche's year scored again from stored rows.

`make bench` runs it and keeps the figures in `bench/lake.json`. Each figure is that of a fresh process held to two
processors, its peak memory included. The tables are made once, by seed, below `bench/lake`: 2.5 GB and some minutes.

    python -m ettametta_pipelines_tests.benchmarks.lake [--all-niches]

With `--all-niches` the year is scored again for all twenty niches, which is the same twenty times.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ettametta_pipelines.orchestration.range_runs import PARTITIONS_PER_RUN

HOME = Path("bench/lake").absolute()
FIRST_DAY = date(2026, 1, 1)
DAYS = 365
NICHES = 50
ROWS = 550
PROCESSORS = 2
SCORED_NICHES = 20
SCORED_ROWS = 60
JUDGED = 12
SAMPLE = 30
ROUNDS = 3

MARK = "figures: "


def days(count: int = DAYS) -> list[date]:
    return [FIRST_DAY + timedelta(days=n) for n in range(count)]


def niche_name(number: int) -> str:
    return f"niche-{number:02}"


# --- tables, by seed -------------------------------------------------------------------------------------------


def trend_rows(day: date, niche: int, count: int) -> Any:
    """An Arrow table of `trend_candidates`: ids, texts and heavy-tailed counts as platforms have them."""
    import numpy as np
    import pyarrow as pa

    from ettametta_pipelines.discovery.contracts import TREND_CANDIDATES

    rng = np.random.default_rng([day.toordinal(), niche])
    ids = [f"v{number:010x}" for number in rng.integers(0, 16**10, count)]
    channels = rng.integers(0, 10**6, count // 3)[rng.integers(0, count // 3, count)]
    views = rng.lognormal(8, 2, count).astype(np.int64)
    age = rng.uniform(1, 48, count)
    usual = rng.lognormal(7, 2, count)
    unknown = rng.random(count) < 0.4
    published = np.int64(1_767_225_600_000_000) + rng.integers(0, 86_400_000_000, count)
    utc = pa.timestamp("us", tz="UTC")
    values = {
        "day": [day] * count,
        "niche": [niche_name(niche)] * count,
        "platform": ["youtube"] * count,
        "video_id": ids,
        "url": [f"https://www.youtube.com/watch?v={i}" for i in ids],
        "title": [f"{niche_name(niche)}: {v} things about {i}" for v, i in zip(views, ids, strict=True)],
        "channel_id": [f"UC{channel:022}" for channel in channels],
        "channel_title": [f"Channel {channel}" for channel in channels],
        "published_at": pa.array(published).cast(utc),
        "observed_at": pa.array(published + (age * 3.6e9).astype(np.int64)).cast(utc),
        "age_h": age,
        "duration_s": rng.uniform(10, 600, count),
        "views": views,
        "likes": views // 20,
        "comments": views // 200,
        "view_velocity_per_hour": views / age,
        "engagement_rate": rng.random(count),
        "outlier_ratio": pa.array(views / usual, mask=unknown),
        "baseline_views": pa.array(usual, mask=unknown),
        "baseline_uploads": rng.integers(0, 15, count),
        "trend_strength": rng.random(count),
        "rank": rng.permutation(count) + 1,
        "found_by": [["query: workout"]] * count,
        "methodology": ["benchmark"] * count,
        "thumbnail_url": [f"https://i.ytimg.com/vi/{i}/hqdefault.jpg" for i in ids],
    }
    schema = TREND_CANDIDATES.arrow_schema()
    # A column added since is null here where it may be.
    columns = [pa.array(values.get(f.name, pa.nulls(count, f.type)), f.type) for f in schema]
    return pa.table(columns, schema=schema)


def _write_day(root: Path, niches: int, count: int, day: date) -> None:
    """A day's files, as `write_table` lays them, without its syncs and checks of eighteen thousand files."""
    import pyarrow.parquet as pq

    from ettametta_pipelines.storage.parquet import table_key

    for niche in range(niches):
        target = root / table_key("trend_candidates", f"{day}|{niche_name(niche)}")
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(trend_rows(day, niche, count), target, compression="zstd")


def make_trends(root: Path) -> None:
    """Ten million rows as partitions leave them, then packed as the nightly packing leaves them."""
    from ettametta_pipelines.discovery.contracts import TREND_CANDIDATES
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.storage.packs import pack_months

    done = root / "complete"
    if done.exists():
        return
    with ProcessPoolExecutor(PROCESSORS) as pool:
        list(pool.map(partial(_write_day, root, NICHES, ROWS), days()))
    store = ObjectStore.from_url(root.as_uri())
    packs = list(pack_months(store, TREND_CANDIDATES, before="2027-01", scratch=root.parent / "scratch"))
    assert sum(pack.rows for pack in packs) == DAYS * NICHES * ROWS
    done.touch()


def make_discovery(root: Path) -> None:
    """A year of raw candidates and judgements of twenty niches, as discovery and assessment leave them."""
    done = root / "complete"
    if done.exists():
        return
    with ProcessPoolExecutor(PROCESSORS) as pool:
        list(pool.map(partial(_write_discovered_day, root), days()))
    done.touch()


def _write_discovered_day(root: Path, day: date) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from ettametta_pipelines.discovery.contracts import TIKTOK_CANDIDATES, YOUTUBE_CANDIDATES
    from ettametta_pipelines.scoring.contracts import CANDIDATE_ASSESSMENTS
    from ettametta_pipelines.storage.parquet import table_key

    for niche in range(SCORED_NICHES):
        found = trend_rows(day, niche, SCORED_ROWS)
        judged = {
            "status": "assessed", "evidence": "thumbnail", "hook_strength": 0.5, "hook_reason": "clear",
            "subjects": ["mat"], "mood": "calm", "aesthetics": 0.5, "safety": "safe", "provider": "gemini",
            "model": "m", "requested_model": "m", "prompt_version": "1", "prompt_tokens": 900, "output_tokens": 90,
            "cost_microusd": 300, "assessed_at": datetime(2027, 1, 1, tzinfo=UTC),
        }  # fmt: skip
        strongest = found.filter(pc.field("rank") <= JUDGED)
        for contract, rows, more in (
            (YOUTUBE_CANDIDATES, found, {"live": False}),
            (TIKTOK_CANDIDATES, found.slice(0, 0), {}),
            (CANDIDATE_ASSESSMENTS, strongest, judged),
        ):
            schema, count = contract.arrow_schema(), rows.num_rows
            columns = [
                rows[field.name]
                if field.name in rows.column_names
                else pa.array([more.get(field.name)] * count, field.type)
                for field in schema
            ]
            target = root / table_key(contract.name, f"{day}|{niche_name(niche)}")
            target.parent.mkdir(parents=True, exist_ok=True)
            pq.write_table(pa.table(columns, schema=schema), target, compression="zstd")


# --- what is measured, each in a process of its own ------------------------------------------------------------


def measure_roll_up(root: str) -> dict[str, Any]:
    """The whole year's `niche_trends` by SQL over the lake, as the asset asks for it."""
    from ettametta_pipelines.discovery.contracts import CONTRACTS
    from ettametta_pipelines.discovery.niche_trends import roll_up_niches
    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore

    started = time.perf_counter()
    with Lake.over(ObjectStore.from_url(Path(root).as_uri()), {c.name: c for c in CONTRACTS}) as lake:
        rows = roll_up_niches(lake, days())
    seconds = time.perf_counter() - started
    candidates = sum(row["candidates"] for row in rows)
    assert (len(rows), candidates) == (DAYS * NICHES, DAYS * NICHES * ROWS)
    return {"seconds": seconds, "rows": candidates}


def measure_rescoring(root: str) -> dict[str, Any]:
    """A niche's stored year ranked and scored again, in the runs a backfill starts, with the network shut."""
    return _rescore(root, 1, days(), PARTITIONS_PER_RUN)


def measure_rescoring_all(root: str) -> dict[str, Any]:
    """The same for every niche."""
    return _rescore(root, SCORED_NICHES, days(), PARTITIONS_PER_RUN)


def measure_single_partitions(root: str) -> dict[str, Any]:
    """The same for a sample, one partition a run."""
    return _rescore(root, 1, days(SAMPLE), 1)


def _rescore(root: str, niches: int, wanted: list[date], per_run: int) -> dict[str, Any]:
    """Runs of the ranges in this process, on an instance of its own; starting a process per run is not in it."""
    import dagster as dg

    os.environ["ETTAMETTA_STORE"] = Path(root).as_uri()
    os.environ["ETTAMETTA_HOME"] = str(HOME / "home")
    (HOME / "home").mkdir(exist_ok=True)
    niches_file = HOME / "niches.yaml"
    niches_file.write_text(
        "niches:\n"
        + "".join(f"  {niche_name(n)}: {{title: N, queries: [workout]}}\n" for n in range(SCORED_NICHES))
    )
    os.environ["ETTAMETTA_NICHES"] = str(niches_file)
    attempts: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        attempts.append(address)
        raise ConnectionRefusedError("the network is shut")

    socket.socket.connect = refuse  # type: ignore[method-assign]
    from ettametta_pipelines.definitions import defs

    job = defs().get_repository_def().get_job("__ASSET_JOB")
    keys = [dg.AssetKey("trend_candidates"), dg.AssetKey("scored_candidates")]
    started = time.perf_counter()
    runs = 0
    with tempfile.TemporaryDirectory() as folder, dg.DagsterInstance.local_temp(folder) as instance:
        for niche in range(niches):
            for first in range(0, len(wanted), per_run):
                part = wanted[first : first + per_run]
                result = job.execute_in_process(
                    instance=instance,
                    asset_selection=keys,
                    run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
                    tags={
                        f"dagster/asset_partition_range_{end}": f"{day}|{niche_name(niche)}"
                        for end, day in (("start", part[0]), ("end", part[-1]))
                    },
                )
                assert result.success
                runs += 1
    seconds = time.perf_counter() - started
    assert attempts == []
    return {
        "seconds": seconds,
        "partitions": niches * len(wanted),
        "runs": runs,
        "connections": len(attempts),
    }


def main() -> None:
    if len(sys.argv) > 2:
        figures = MEASURES[sys.argv[1]](sys.argv[2])
        print(MARK + json.dumps(figures | own_cost()))  # noqa: T201
        return
    trends = HOME / "trends"
    trends.mkdir(parents=True, exist_ok=True)
    make_trends(trends)
    figures = {"niche_trends": [measure("niche_trends", trends) for _ in range(ROUNDS)]}
    discovery = HOME / "discovery"
    discovery.mkdir(parents=True, exist_ok=True)
    make_discovery(discovery)
    everything = "--all-niches" in sys.argv
    figures["rescoring"] = [measure("rescoring_all" if everything else "rescoring", discovery)]
    figures["rescoring one by one"] = [measure("single_partitions", discovery)]
    table = Table("", "seconds", "CPU seconds", "peak MiB")
    best = min(figures["niche_trends"], key=lambda run: run["seconds"])
    table.add_row(
        f"niche_trends over {best['rows']:,} rows (bars: 2 s, 1 GB)",
        f"{best['seconds']:.2f}", f"{best['cpu_s']:.2f}", f"{best['peak_mib']:.0f}",
    )  # fmt: skip
    for name in ("rescoring", "rescoring one by one"):
        (run,) = figures[name]
        table.add_row(
            f"{name}: {run['partitions']:,} partitions in {run['runs']} runs, {run['connections']} connections, "
            f"{1000 * run['seconds'] / run['partitions']:.0f} ms each",
            f"{run['seconds']:.1f}", f"{run['cpu_s']:.1f}", f"{run['peak_mib']:.0f}",
        )  # fmt: skip
    Console().print(table)
    (HOME.parent / "lake.json").write_text(json.dumps(figures, indent=2) + "\n")


def own_cost() -> dict[str, float]:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}


def measure(name: str, root: Path) -> dict[str, Any]:
    """Run one measure in a fresh process on two processors."""
    allowed = sorted(os.sched_getaffinity(0))[:PROCESSORS]
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, name, str(root)],
        preexec_fn=partial(os.sched_setaffinity, 0, allowed), capture_output=True, text=True, check=True,
    )  # fmt: skip
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    figures: dict[str, Any] = json.loads(line.removeprefix(MARK))
    return figures


MEASURES: dict[str, Callable[[str], dict[str, Any]]] = {
    "niche_trends": measure_roll_up,
    "rescoring": measure_rescoring,
    "rescoring_all": measure_rescoring_all,
    "single_partitions": measure_single_partitions,
}


if __name__ == "__main__":
    main()
