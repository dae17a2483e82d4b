"""A model of growth: where a house of one cluster breaks, in which order, and what it costs; checked by simulation.

Every input is a constant with its source; those that can be counted here are read from `measured.json`, which
`measure.py` writes. `plan` is the closed form for a month's number of videos; `simulate` lets a
day's uploads arrive by chance and be rendered and posted, and tests hold the two against each other. `make scale`
writes the tables of docs/scale.md between its marks; a test asserts that the page says what the program says.

    python -m ettametta_pipelines_tests.load.scale [--check]
"""
# ruff: noqa: E501 (an input, a limit and a row of a table are read on one line)

import argparse
import heapq
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

MEASURED_FILE = Path(__file__).with_name("measured.json")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "scale.md"
SIZES = (10_000, 1_000_000, 100_000_000)
DAYS, DAY_S = 30, 86_400.0


@dataclass(frozen=True)
class Given:
    """One input: its value, unit and where it is from."""

    value: float
    unit: str
    source: str


COUNTED = json.loads(MEASURED_FILE.read_text())
ADDED = COUNTED["a_video"]
SETS = {int(count): seconds for count, seconds in COUNTED["partition_set_s"].items()}
MEASURED, PUBLISHED, CHOSEN = "measured", "published", "chosen"
BY_COUNT = f"{MEASURED}: `make scale-measured`"
# Costs are list prices of one large region, on demand, as of November 2026, and stand for their order of magnitude.
INPUTS = {
    "render_s": Given(36.3, "s a video", f"{MEASURED}: `make bench`, renders: a minute of video, three formats, 2 processors"),
    "render_processors": Given(2, "processors a render", f"{MEASURED}: same"),
    "run_overhead_s": Given(4.5, "s a run", f"{MEASURED}: a run launched through the queue on 2 processors, less its step"),
    "runs": Given(ADDED["runs"], "runs a video", BY_COUNT),
    "events": Given(ADDED["event_rows"], "event rows a video", f"{BY_COUNT}: rows of `event_logs` that a video adds"),
    "event_bytes": Given(COUNTED["event_row_bytes"], "bytes an event row", f"{BY_COUNT}: `event_logs` with its indexes"),
    "writes": Given(ADDED["writing_transactions"], "writing transactions a video", f"{BY_COUNT}: transaction numbers that Postgres gave out, state and Dagster"),
    "write_limit": Given(1_500, "transactions/s", f"{PUBLISHED}: order of a cloud Postgres of 8 processors, synchronous commit"),
    "connections": Given(3, "connections a run", f"{CHOSEN}: one each for events, runs and state, as docs/production.md counts"),
    "connection_limit": Given(400, "connections", f"{PUBLISHED}: common `max_connections` before a pooler is needed"),
    "partition_limit": Given(100_000, "partitions an asset", f"{PUBLISHED}: Dagster's documentation on dynamic partitions"),
    "partition_load_s": Given(1.0, "s", f"{CHOSEN}: what reading an asset's partitions may take of a page of the UI or a tick"),
    "kept_days": Given(90, "days", f"{CHOSEN}: `ETTAMETTA_ARCHIVE_AFTER_DAYS`, then a partition leaves"),
    "event_limit": Given(1e9, "event rows", f"{CHOSEN}: where one `event_logs` table takes hours to vacuum"),
    "keys": Given(ADDED["objects"], "objects a video", f"{BY_COUNT}: media, uploads and tables"),
    "list_page": Given(1_000, "keys a page", f"{PUBLISHED}: S3 ListObjectsV2"),
    "list_s": Given(0.15, "s a page", f"{PUBLISHED}: order of S3's answer"),
    "list_budget_s": Given(60, "s", f"{CHOSEN}: what a full look at the store may take within a sensor's tick"),
    "s3_requests": Given(ADDED["s3_requests"], "requests a video", f"{BY_COUNT}: lines of the S3 server's log"),
    "s3_writes": Given(ADDED["s3_writes"], "of them writes", f"{BY_COUNT}: PUT, POST and DELETE"),
    "s3_put_limit": Given(3_500, "writes/s a prefix", f"{PUBLISHED}: S3 performance guidelines"),
    "peak": Given(3.0, "times the mean", f"{CHOSEN}: an agency's day: most uploads in eight hours"),
    "posts": Given(1.0, "YouTube posts a video", f"{CHOSEN}"),
    "insert_quota": Given(100, "uploads a day a project", f"{PUBLISHED}: YouTube Data API, `videos.insert` bucket since June 2026"),
    "granted_quota": Given(10_000, "uploads a day a project", f"{CHOSEN}: after an audit; what is granted is Google's word"),
    "generated": Given(0.2, "of videos", f"{CHOSEN}: share that is generated on a GPU"),
    "gpu_s": Given(57, "GPU s a video", f"{PUBLISHED}: 6 shots, LTX-2, 8 steps, 9.5 s on one H100 (SGLang)"),
    "gpu_load_s": Given(60, "GPU s a job", f"{CHOSEN}: loading a model, once for a batch"),
    "gpu_batch": Given(10, "videos a GPU job", f"{CHOSEN}"),
    "gpu_nodes": Given(64, "GPUs", f"{CHOSEN}: what one region gives without a contract"),
    "gpu_price": Given(3.0, "USD an hour", f"{PUBLISHED}: order of an H100 by the hour"),
    "cpu_price": Given(0.04, "USD a processor hour", f"{PUBLISHED}: order of general purpose machines"),
    "stored_mb": Given(180, "MB a video", f"{CHOSEN}: source and three renditions of a minute"),
    "stored_price": Given(0.023, "USD a GB month", f"{PUBLISHED}: S3 Standard"),
    "request_price": Given(5e-6, "USD a write", f"{PUBLISHED}: S3 Standard"),
    "database_price": Given(700, "USD a month", f"{PUBLISHED}: order of a managed Postgres of 8 processors with a replica"),
    "pods_a_cluster": Given(5_000, "run pods at once", f"{CHOSEN}: far below the 150,000 pods Kubernetes is tested with, since each starts a process of seconds"),
}  # fmt: skip
# Work is sized so that renders keep their workers busy to this share at the peak.
FULL_AT = 0.75
RENDER_WAIT_P95_S = 900.0


def g(name: str) -> float:
    return INPUTS[name].value


@dataclass(frozen=True)
class Plan:
    """What a number of videos a month needs, by the formulas."""

    videos: int
    videos_a_day: float
    peak_a_s: float
    workers: int
    render_use: float
    posts_a_day: float
    projects: int
    granted_projects: int
    gpu_hours_a_day: float
    gpus: int
    live_partitions: float
    event_rows: float
    rows_a_s: float
    connections: float
    keys: float
    list_s: float
    requests_a_s: float
    puts_a_s: float
    costs: dict[str, float]


def plan(videos: int) -> Plan:
    """Closed form for so many videos a month."""
    a_day = videos / DAYS
    peak_a_s = a_day / DAY_S * g("peak")
    busy_s = g("render_s") + g("run_overhead_s") * g("runs")
    workers = max(2, math.ceil(peak_a_s * busy_s / FULL_AT))
    posts = a_day * g("posts")
    gpu_hours = a_day * g("generated") * (g("gpu_s") + g("gpu_load_s") / g("gpu_batch")) / 3600
    gpus = math.ceil(gpu_hours / 24 * g("peak") / FULL_AT)
    keys = videos * g("keys") * g("kept_days") / DAYS
    rows_a_s = peak_a_s * g("writes")
    databases = max(1, math.ceil(rows_a_s / g("write_limit")))
    costs = {
        "processors": a_day * DAYS * busy_s * g("render_processors") / 3600 * g("cpu_price"),
        "GPUs": gpu_hours * DAYS * g("gpu_price"),
        "storage": videos * g("stored_mb") / 1000 * g("kept_days") / DAYS * g("stored_price")
        + videos * g("s3_writes") * g("request_price"),
        "databases": databases * g("database_price"),
    }
    return Plan(
        videos, a_day, peak_a_s, workers, a_day * busy_s / DAY_S / workers, posts,
        math.ceil(posts / g("insert_quota") * 1.1), math.ceil(posts / g("granted_quota") * 1.1), gpu_hours, gpus,
        a_day * g("kept_days"), a_day * g("events") * g("kept_days"), rows_a_s, workers * g("connections"), keys,
        keys / g("list_page") * g("list_s"), peak_a_s * g("s3_requests"), peak_a_s * g("s3_writes"), costs,
    )  # fmt: skip


def partition_load_s(count: float) -> float:
    """Seconds to read so many keys of a dynamic set: between what was measured by a straight line, beyond it as the last."""
    sizes = sorted(SETS)
    for low, high in zip([0, *sizes], sizes, strict=False):
        if count <= high:
            begin = SETS.get(low, 0.0)
            return begin + (SETS[high] - begin) * (count - low) / (high - low)
    return SETS[sizes[-1]] * count / sizes[-1]


@dataclass(frozen=True)
class Breaks:
    """What ends first: how much of its limit a plan uses, and what takes its place."""

    what: str
    needs: Callable[[Plan], float]
    limit: float
    unit: str
    then: str


BREAKS = (
    Breaks("YouTube uploads of one project", lambda p: p.posts_a_day, g("insert_quota"), "a day",
           "an audit for more, then a pool of projects: an account's posts always by the same one"),
    Breaks("live partitions of one asset", lambda p: p.live_partitions, g("partition_limit"), "",
           "archive sooner; then a code location per shard of accounts, each with partitions of its own"),
    Breaks("reading an asset's partitions", lambda p: partition_load_s(p.live_partitions), g("partition_load_s"), "s",
           "archive sooner, then shards: the daemon and the UI read the whole set each time"),
    Breaks("a full listing of the store", lambda p: p.list_s, g("list_budget_s"), "s",
           "no listing at all: the bucket's queue tells of uploads, S3 Inventory of the rest"),
    Breaks("database connections", lambda p: p.connections, g("connection_limit"), "",
           "a pooler also before the runs; then a Dagster instance per shard"),
    Breaks("event log", lambda p: p.event_rows, g("event_limit"), "rows",
           "a batch of videos a partition and run, so that events count batches; an instance per shard"),
    Breaks("GPUs of one region", lambda p: p.gpus, g("gpu_nodes"), "",
           "contracts, several regions, or the hosted engines for the rest"),
    Breaks("run pods of one cluster", lambda p: p.workers, g("pods_a_cluster"), "",
           "clusters by shard, with nothing in common but the store and the image"),
    Breaks("writes of one Postgres", lambda p: p.rows_a_s, g("write_limit"), "/s",
           "Dagster's instance on a server of its own, then both by shard; quotas of a project live in the shard that uses it"),
    Breaks("S3 writes of one prefix", lambda p: p.puts_a_s, g("s3_put_limit"), "/s",
           "keys by content already spread; uploads get a hash before the account"),
)  # fmt: skip


@dataclass(frozen=True)
class Day:
    """One simulated day."""

    arrived: int
    rendered: int
    worker_use: float
    wait_p50_s: float
    wait_p95_s: float
    published: int
    waiting_at_midnight: int


def simulate(videos: int, *, workers: int | None = None, projects: int | None = None, seed: int = 9) -> Day:
    """A day of uploads by chance, most within eight hours: they wait for a worker, are rendered, then posted.

    Above a million a month one shard of the planned ones is simulated: they share nothing. A day of the plan's
    `peak` is a third of the day at three times the mean; render times vary as videos' lengths do.
    """
    by_formula = plan(videos)
    shards = max(1, videos // 1_000_000)
    workers = (workers or by_formula.workers) // shards
    projects = (projects or by_formula.projects) // shards
    rng = random.Random(seed)
    times = sorted(_arrivals(by_formula.videos_a_day / shards, rng))
    free = [0.0] * workers
    waits, busy, done = [], 0.0, []
    for at in times:
        start = max(at, heapq.heappop(free))
        # Lengths of short videos: log-normal, so that a few are several times the mean.
        takes = (g("render_s") + g("run_overhead_s") * g("runs")) * rng.lognormvariate(-0.125, 0.5)
        heapq.heappush(free, start + takes)
        waits.append(start - at)
        busy += takes
        done.append(start + takes)
    quota = int(projects * g("insert_quota"))
    wanted = round(len(done) * g("posts"))
    waits.sort()
    return Day(
        len(times), sum(end <= DAY_S + RENDER_WAIT_P95_S for end in done), busy / workers / DAY_S,
        waits[len(waits) // 2], waits[int(len(waits) * 0.95)], min(wanted, quota), max(0, wanted - quota),
    )  # fmt: skip


def _arrivals(a_day: float, rng: random.Random) -> list[float]:
    """Instants of a day: as many in its middle third as make `peak` times the mean, the rest spread over all of it."""
    busy_share = min(1.0, g("peak") / 3)
    count = round(rng.gauss(a_day, math.sqrt(a_day)))
    return [
        rng.uniform(DAY_S / 3, 2 * DAY_S / 3) if rng.random() < busy_share * 0.9 else rng.uniform(0, DAY_S)
        for _ in range(count)
    ]


def tables() -> dict[str, str]:
    """What stands between the marks of the page, by mark."""
    plans = [plan(videos) for videos in SIZES]
    heads = ["", *(f"{videos:,} a month" for videos in SIZES)]
    needs: list[tuple[str, Callable[[Plan], str]]] = [
        ("videos a day", lambda p: _n(p.videos_a_day)),
        ("render workers, 2 processors each", lambda p: _n(p.workers)),
        ("YouTube projects at 100 uploads a day", lambda p: _n(p.projects)),
        ("or with 10,000 granted", lambda p: _n(p.granted_projects)),
        ("GPU hours a day", lambda p: _n(p.gpu_hours_a_day)),
        ("GPUs", lambda p: _n(p.gpus)),
        ("event rows kept", lambda p: _n(p.event_rows)),
        ("event log, GB", lambda p: _n(p.event_rows * g("event_bytes") / 1e9)),
        ("writing transactions a second at the peak", lambda p: _n(p.rows_a_s)),
        ("S3 requests a second at the peak", lambda p: _n(p.requests_a_s)),
        *((f"USD a month: {name}", lambda p, name=name: _n(p.costs[name])) for name in plans[0].costs),
        ("USD a month, all", lambda p: _n(sum(p.costs.values()))),
        ("USD a video", lambda p: f"{sum(p.costs.values()) / p.videos:.3f}"),
    ]  # fmt: skip
    order = sorted(BREAKS, key=_breaks_at)
    breaks = [
        [b.what, f"{_n(b.limit)} {b.unit}".strip(), f"{_n(_breaks_at(b))}", *(_share(b.needs(p) / b.limit) for p in plans), b.then]
        for b in order
    ]  # fmt: skip
    days = [(videos, simulate(videos)) for videos in SIZES]
    simulated = [
        [f"{videos:,}", _n(plan(videos).render_use * 100) + " %", _n(day.worker_use * 100) + " %",
         f"{day.wait_p50_s:.0f} s / {day.wait_p95_s:.0f} s", _n(day.arrived), _n(day.published), _n(day.waiting_at_midnight)]
        for videos, day in days
    ]  # fmt: skip
    return {
        "needs": _table(heads, [[name, *(of(p) for p in plans)] for name, of in needs]),
        "breaks": _table(
            ["what breaks", "limit", "at videos a month", *(f"used at {_n(v)}" for v in SIZES), "then"], breaks
        ),
        "simulated": _table(
            ["videos a month", "workers busy, formula", "simulated", "wait, median / 95th", "uploads that day", "posted",
             "left at midnight"],
            simulated,
        ),
        "measured": _measured(),
        "inputs": _table(
            ["input", "value", "from"],
            [[name.replace("_", " "), f"{_n(one.value)} {one.unit}", one.source] for name, one in INPUTS.items()],
        ),
    }  # fmt: skip


def _measured() -> str:
    one = COUNTED["a_line_of_one"]
    rows = [
        [words, _n(one[name]), _n(ADDED[name])]
        for name, words in (
            ("runs", "runs"), ("event_rows", "rows of `event_logs`"), ("event_bytes", "bytes of `event_logs`"),
            ("writing_transactions", "transactions that wrote, Postgres in all"),
            ("state_transactions", "transactions of the state, reading ones included"),
            ("instance_transactions", "transactions of Dagster's storage, reading ones included"),
            ("s3_requests", "requests to S3"), ("s3_writes", "of them writes"), ("objects", "objects left in the store"),
        )
    ]  # fmt: skip
    sizes = [[f"{int(count):,}", f"{seconds:.3g} s"] for count, seconds in COUNTED["partition_set_s"].items()]
    listed = [[f"{int(count):,}", f"{seconds:.3g} s"] for count, seconds in COUNTED["listing_s"].items()]
    return "\n\n".join([
        _table(["counted by the servers", "a line of one video", "each video more"], rows),
        _table(["keys of a dynamic partition set", "read by Dagster from Postgres in"], sizes),
        _table(["objects of a directory store", "listed in"], listed),
    ])  # fmt: skip


def _breaks_at(one: Breaks) -> float:
    """Videos a month at which a limit is reached, by halving."""
    low, high = 1.0, 1e12
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if one.needs(plan(round(middle))) < one.limit else (low, middle)
    return float(f"{high:.1e}")


def _n(value: float) -> str:
    if value >= 1e9:
        return f"{value / 1e6:,.0f} M"
    if value >= 1e6:
        return f"{value / 1e6:,.4g} M"
    return f"{value:,.0f}" if value >= 10 or value == round(value) else f"{value:.3g}"


def _share(value: float) -> str:
    return f"**{_n(value)} ×**" if value >= 1 else f"{value:.0%}" if value >= 0.005 else "< 1 %"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def page(text: str) -> str:
    """The page with every table between its marks made anew."""
    for name, table in tables().items():
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = head + begin + "\n" + table + "\n" + end + tail
    return text


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 where the page is old")
    asked = parser.parse_args()
    old = PAGE.read_text()
    new = page(old)
    if asked.check:
        raise SystemExit(old != new)
    PAGE.write_text(new)


if __name__ == "__main__":
    main()
