"""How fast and how sparing the nightly collection is: fifty niches on the sandbox, 50 ms added to every answer.

`make bench` runs it and keeps the figures in `bench/discovery.json`. Four processes stand for the four runs the queue
allows at once; a run's start-up is not in the figures. Beside them the same collector makes one call after another.
The least number of calls is what the same answers cost with every id asked once and every call of fifty full, as if
all niches could share calls. The second night comes a day later, on the state that the first one left.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from math import ceil
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.discovery.metered_youtube import MeteredYouTube
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.search_desk import SearchDesk
from ettametta_pipelines.discovery.window import publication_window
from ettametta_pipelines.discovery.youtube_collector import YouTubeCollector
from ettametta_pipelines.sandbox.app import DEFAULT_SEED
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.sandbox.server import SandboxServer
from ettametta_pipelines.sandbox.youtube_catalog import Catalog
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.state.models import ChannelUploads
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.youtube import YouTubeData

NICHES = 50
WATCHED = 3
LATENCY_S = 0.05
# dagster.yaml: max_concurrent_runs.
RUNS_AT_ONCE = 4


@dataclass(frozen=True)
class Night:
    """One collection of all niches, measured from outside: the sandbox's log, the state, the rows."""

    seconds: float
    calls: Counter[str]
    least_calls: int
    candidates: int
    statistics: int

    @property
    def over_least(self) -> float:
        return self.calls.total() / self.least_calls


def make_niches(home: Path) -> dict[str, Niche]:
    """Fifty niches of two queries, each watching three channels the sandbox knows of."""
    store = SandboxStore(home / "sandbox")
    catalog = Catalog(
        DEFAULT_SEED,
        remember=lambda code, subject: store.insert("youtube_subject", code, {"subject": subject}),
        recall=lambda _: None,
    )
    niches = {}
    for number in range(NICHES):
        slug = f"niche-{number:02}"
        watched = tuple(channel.id for channel in catalog.channels(f"{slug} watched")[:WATCHED])
        queries = (f"{slug} morning", f"{slug} evening")
        niches[slug] = Niche(slug=slug, title=slug, queries=queries, watch_channels=watched)
    store.close()
    return niches


def moment(ahead: timedelta) -> datetime:
    return utc_now() + ahead


def collect(
    url: str, database: str, niches: dict[str, Niche], ahead: timedelta, side_by_side: int, slug: str
) -> list[str]:
    """One niche's night as a run does it; ids of its candidates."""
    clock = partial(moment, ahead)
    client = YouTubeData(VendorEndpoint("youtube", "sandbox", f"{url}/youtube/", "benchmark"), clock=clock)
    day = clock().date()
    window = publication_window(day, ZoneInfo("UTC"), clock())
    with StateDatabase(database) as db:
        desk = SearchDesk(db, niches, clock=clock)
        with MeteredYouTube(client, db, clock, holder=slug, side_by_side=side_by_side) as youtube:
            found = YouTubeCollector(youtube, niches[slug], window, clock=clock, desk=desk).collect(day)
    return [row["video_id"] for row in found.rows]


def run_night(home: Path, *, processes: int, side_by_side: int, ahead: timedelta = timedelta()) -> Night:
    niches = make_niches(home)
    database = f"sqlite:///{home / 'state.db'}"
    with StateDatabase(database) as db:
        db.migrate()
    before = utc_now() + ahead
    with (
        SandboxServer(home, clock=partial(moment, ahead), latency_s=LATENCY_S) as server,
        ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool,
    ):
        list(pool.map(warm_up, range(4 * processes)))
        started = time.perf_counter()
        work = partial(collect, server.url, database, niches, ahead, side_by_side)
        candidates = set().union(*pool.map(work, niches))
        seconds = time.perf_counter() - started
    logged = SandboxStore(home / "sandbox")
    requests = [
        r
        for r in logged.requests("youtube")
        if datetime.fromisoformat(r["at"]) >= before.replace(microsecond=0)
    ]
    logged.close()
    assert {r["status"] for r in requests} == {200}, Counter(r["status"] for r in requests)
    calls = Counter(str(r["path"]).rsplit("/", 1)[1] for r in requests)
    with StateDatabase(database) as db, db.session(write=False) as session:
        kept = session.scalars(sa.select(ChannelUploads).where(ChannelUploads.observed_at >= before)).all()
    ids = candidates | {video_id for row in kept for video_id, _, _ in row.uploads}
    playlists = {row.channel_id for row in kept}.union(*(n.watch_channels for n in niches.values()))
    least = calls["search"] + len(playlists) + ceil(len(ids) / 50)
    return Night(seconds, calls, least, len(candidates), len(ids))


def warm_up(_: int) -> None:
    """Make a worker import what a run has imported by the time its step begins."""
    import googleapiclient.discovery  # noqa: F401

    time.sleep(0.05)


def report(one_by_one: Night, first: Night, second: Night) -> dict[str, object]:
    def stat_units(night: Night) -> float:
        return 100 * night.calls["videos:batchGetStats"] / night.statistics

    nights: Sequence[tuple[str, Night]] = (
        ("one call after another", one_by_one),
        (f"{RUNS_AT_ONCE} runs at once", first),
        ("the night after", second),
    )
    table = Table(
        "",
        "seconds",
        "calls",
        "over the least",
        "candidates",
        "stat units per 100 read",
        "other units per 100 candidates",
    )
    figures: dict[str, object] = {"times_faster": one_by_one.seconds / first.seconds, "cores": os.cpu_count()}
    for name, night in nights:
        units = 100 * night.calls["playlistItems"] / night.candidates
        table.add_row(
            name, f"{night.seconds:.1f}", str(night.calls.total()), f"{night.over_least:.3f}", str(night.candidates),
            f"{stat_units(night):.2f}", f"{units:.1f}",
        )  # fmt: skip
        figures[name] = {
            "seconds": night.seconds, "calls": dict(night.calls), "least_calls": night.least_calls,
            "candidates": night.candidates, "statistics": night.statistics,
            "stat_units_per_100": stat_units(night), "other_units_per_100_candidates": units,
        }  # fmt: skip
    Console().print(table)
    Console().print(
        f"{one_by_one.seconds / first.seconds:.1f} times faster (bar 8), {first.over_least:.3f} of the least calls "
        f"(bar 1.15), {stat_units(first):.2f} units per 100 statistics refreshed (bar 2.2)"
    )
    return figures


def main() -> None:
    with TemporaryDirectory(prefix="ettametta-bench-") as directory:
        slow, fast = Path(directory) / "slow", Path(directory) / "fast"
        first = run_night(fast, processes=RUNS_AT_ONCE, side_by_side=8)
        second = run_night(fast, processes=RUNS_AT_ONCE, side_by_side=8, ahead=timedelta(days=1))
        one_by_one = run_night(slow, processes=1, side_by_side=1)
    figures = report(one_by_one, first, second)
    target = Path("bench")
    target.mkdir(exist_ok=True)
    (target / "discovery.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
