"""A million Stripe balance transactions read, booked, reconciled and marted; a day on top; a year in one run.

`make bench` runs it and keeps the figures in `bench/revenue.json`. Each figure is that of a fresh process held to two
processors, its peak memory included. What Stripe would answer is made once, by seed, below `bench/revenue`: pages of
JSON as its API sends them, 1.9 GB and a minute. The time of the network is not in the figures: at 300 ms a page of
a hundred, reading a million rows takes most of an hour.

    python -m ettametta_pipelines_tests.benchmarks.revenue [--rows 1000000]
"""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table

HOME = Path("bench/revenue").absolute()
FIRST_DAY = date(2026, 1, 1)
DAYS = 365
PAGE = 100
PROCESSORS = 2
ZONE = ZoneInfo("America/Los_Angeles")
# The day on top: a reading of the last three days, as every few hours, and of 35, as every night.
INCREMENTS = {"hot": 3, "nightly": 35}

MARK = "figures: "


# --- what Stripe would answer, by seed ---------------------------------------------------------------------------


def epoch(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


def row_of(number: int, created: int, rng: random.Random) -> tuple[dict[str, Any], str]:
    """A balance transaction without its source, and the source's JSON: nine charges to a refund."""
    currency = ("usd", "usd", "usd", "usd", "eur", "eur", "jpy", "kwd")[number % 8]
    charge = f"ch_{number:024d}"
    refund = number % 10 == 9
    amount = rng.randrange(500, 20_000)
    fee = 0 if refund else amount * 29 // 1000 + 30
    gross = -amount if refund else amount
    row = {
        "id": f"txn_{number:024d}", "object": "balance_transaction", "amount": gross,
        "available_on": created + 172_800, "balance_type": "payments", "created": created, "currency": currency,
        "description": "Subscription payment", "exchange_rate": None, "fee": fee,
        "fee_details": [] if refund else [
            {"amount": fee, "application": None, "currency": currency, "description": "Stripe processing fees",
             "type": "stripe_fee"}
        ],
        "net": gross - fee, "reporting_category": "refund" if refund else "charge", "status": "available",
        "type": "refund" if refund else "charge",
    }  # fmt: skip
    if refund:
        source = {
            "id": f"re_{number:024d}", "object": "refund", "amount": amount, "charge": f"ch_{number - 8:024d}",
            "currency": currency, "status": "succeeded", "created": created, "metadata": {},
        }  # fmt: skip
    else:
        # The charge eight before a refund has its currency and is the one refunded.
        back = 0
        if number % 10 == 1:
            state = rng.getstate()
            back = refund_amount(number + 8)
            rng.setstate(state)
        source = {
            "id": charge, "object": "charge", "amount": amount, "amount_captured": amount, "amount_refunded": back,
            "captured": True, "created": created, "currency": currency, "customer": f"cus_{number % 50_000:020d}",
            "description": "Subscription payment", "livemode": False, "metadata": {}, "paid": True,
            "payment_intent": f"pi_{number:024d}", "status": "succeeded", "disputed": False,
        }  # fmt: skip
    return row, json.dumps(source)


def refund_amount(number: int) -> int:
    """The amount that the row of this number draws: each row has a generator of its own."""
    return random.Random(number).randrange(500, 20_000)


def make_pages(root: Path, rows: int) -> None:
    """`days/D.jsonl`: pages of a UTC day, newest first; `payouts/ID.jsonl` and `payouts.json`: weekly, by currency."""
    (root / "days").mkdir(parents=True)
    (root / "payouts").mkdir()
    per_day = rows // DAYS
    number = 0
    waiting: dict[str, list[dict[str, Any]]] = {}
    payouts: list[dict[str, Any]] = []
    balance: dict[str, int] = {}
    for place in range(DAYS + 1):
        day = FIRST_DAY + timedelta(days=place)
        found: list[tuple[int, str]] = []
        for index in range(per_day):
            created = epoch(day) + index * 86_000 // max(1, per_day)
            row, source = row_of(number, created, random.Random(number))
            number += 1
            waiting.setdefault(row["currency"], []).append(row)
            balance[row["currency"]] = balance.get(row["currency"], 0) + row["net"]
            found.append((created, json.dumps(row)[:-1] + f', "source": {source}}}'))
        if day.weekday() == 0:
            for currency, paid in waiting.items():
                payout, own = payout_of(day, currency, paid)
                payouts.append(payout)
                balance[currency] += own["net"]
                found.append((own["created"], json.dumps(own | {"source": payout["id"]})))
                write_pages(root / "payouts" / f"{payout['id']}.jsonl", [json.dumps(r) for r in [own, *paid]])
            waiting = {}
        found.sort(reverse=True)
        write_pages(root / "days" / f"{day}.jsonl", [text for _, text in found])
    (root / "payouts.json").write_text(json.dumps(payouts))


def payout_of(day: date, currency: str, paid: list[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    created = epoch(day) + 86_399
    amount = sum(row["net"] for row in paid)
    payout = {
        "id": f"po_{day:%Y%m%d}{currency}", "object": "payout", "amount": amount, "automatic": True,
        "created": created, "currency": currency, "status": "paid", "reconciliation_status": "completed",
    }  # fmt: skip
    own = {
        "id": f"txn_{payout['id']}", "object": "balance_transaction", "amount": -amount, "available_on": created,
        "created": created, "currency": currency, "description": "STRIPE PAYOUT", "exchange_rate": None, "fee": 0,
        "fee_details": [], "net": -amount, "reporting_category": "payout", "status": "available", "type": "payout",
    }  # fmt: skip
    return payout, own


def write_pages(path: Path, rows: list[str]) -> None:
    with path.open("w") as file:
        for start in range(0, len(rows), PAGE):
            file.write(f'{{"object": "list", "data": [{", ".join(rows[start : start + PAGE])}]}}\n')


class KeptAnswers:
    """Stripe's client over the pages that were made: what is after the network and before the tables."""

    livemode = False

    def __init__(self, root: Path) -> None:
        self._root = root
        self._payouts: list[dict[str, Any]] = json.loads((root / "payouts.json").read_text())

    def balance_transaction_pages(self, start: datetime, end: datetime) -> Iterator[str]:
        """Pages of the UTC days; those at the edges hold rows outside of the window, which Stripe would not list."""
        day = start.date()
        while epoch(day) < end.timestamp():
            whole = start.timestamp() <= epoch(day) and epoch(day) + 86_400 <= end.timestamp()
            for line in self._lines(f"days/{day}.jsonl"):
                yield line if whole else cut(line, start.timestamp(), end.timestamp())
            day += timedelta(days=1)

    def payout_pages(self, start: datetime, end: datetime) -> Iterator[str]:
        found = [p for p in self._payouts if start.timestamp() <= p["created"] < end.timestamp()]
        yield json.dumps({"data": found})

    def payout_transaction_pages(self, payout_id: str) -> Iterator[str]:
        yield from self._lines(f"payouts/{payout_id}.jsonl")

    def object_text(self, kind: str, object_id: str = "") -> str:
        return json.dumps({"object": kind, "available": [], "pending": []})

    def _lines(self, name: str) -> Iterator[str]:
        path = self._root / name
        if path.exists():
            with path.open() as file:
                yield from file


def cut(line: str, start: float, end: float) -> str:
    page = json.loads(line)
    return json.dumps({"data": [row for row in page["data"] if start <= row["created"] < end]})


# --- what is measured, each in a process of its own --------------------------------------------------------------


def books(root: Path, days: list[date], now: datetime) -> dict[str, Any]:
    """Read, book, reconcile, attribute and mart these days as the assets do, in one go; seconds by stage."""
    from ettametta_pipelines.revenue.attributing import make_attribution
    from ettametta_pipelines.revenue.attribution import Policy
    from ettametta_pipelines.revenue.contracts import CONTRACTS
    from ettametta_pipelines.revenue.daily import make_daily_revenue
    from ettametta_pipelines.revenue.ledger import book_ledger
    from ettametta_pipelines.revenue.margin import make_margin
    from ettametta_pipelines.revenue.posts import Posts
    from ettametta_pipelines.revenue.reading import read_stripe
    from ettametta_pipelines.revenue.reconcile import LEDGER_CHECKS, reconcile, store_reconciliation
    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore

    store = ObjectStore.from_url((HOME / "store").as_uri())
    contracts = {contract.name: contract for contract in CONTRACTS}
    client: Any = KeptAnswers(root)
    stages: dict[str, float] = {}

    def timed(stage: str, started: float) -> None:
        stages[stage] = round(time.perf_counter() - started, 2)

    began = started = time.perf_counter()
    with Lake.over(store, contracts) as lake:
        read = list(read_stripe(client, store, lake, days, ZONE, lambda: now))
    timed("read", started)
    started = time.perf_counter()
    with Lake.over(store, contracts) as lake:
        booked = book_ledger(store, lake, "stripe", days, ZONE)
    timed("ledger", started)
    started = time.perf_counter()
    with Lake.over(store, contracts) as lake:
        made = make_daily_revenue(store, lake, days)
    timed("mart", started)
    started = time.perf_counter()
    with Lake.over(store, contracts) as lake:
        found = reconcile(store, lake, days, ZONE)
        store_reconciliation(store, found, days)
    timed("reconciliation", started)
    started = time.perf_counter()
    with Lake.over(store, contracts) as lake:
        attributed = make_attribution(store, lake, days, Policy(), Posts(), {})
    timed("attribution", started)
    started = time.perf_counter()
    with Lake.over(store, contracts) as lake:
        margins = make_margin(store, lake, days, Posts(), window_days=90)
    timed("margin", started)
    findings = [
        *booked.findings(LEDGER_CHECKS), *made.findings, *found.findings, *attributed.findings, *margins.findings,
    ]  # fmt: skip
    wrong = [f"{finding.name}: {finding.problem}" for finding in findings if not finding.passed]
    assert not wrong, wrong
    standings = found.rows["standing"].to_pylist()
    assert set(standings) <= {"agrees"}, standings
    assert standings or len(days) < DAYS
    return {
        "seconds": time.perf_counter() - began, "rows": sum(booked.rows.values()),
        "new_rows": sum(day.added for day in read), "payouts": found.rows.num_rows, "stages": stages,
        "checks": len(findings),
    }  # fmt: skip


def measure_year(root: Path) -> dict[str, Any]:
    """Everything, into an empty store: the year's backfill in one run."""
    shutil.rmtree(HOME / "store", ignore_errors=True)
    days = [FIRST_DAY + timedelta(days=n) for n in range(DAYS)]
    return books(root, days, datetime(2027, 1, 1, 12, tzinfo=UTC))


def measure_increment(root: Path, count: int, hours: int) -> dict[str, Any]:
    """The next day's rows: the last `count` days read, booked and reconciled again on top of the year."""
    last = FIRST_DAY + timedelta(days=DAYS)
    days = [last - timedelta(days=n) for n in reversed(range(count))]
    return books(root, days, datetime(2027, 1, 2, 12, tzinfo=UTC) + timedelta(hours=hours))


def measure_year_run(root: Path) -> dict[str, Any]:
    """The same year as one Dagster run of the assets, on an instance of its own."""
    import dagster as dg

    shutil.rmtree(HOME / "store", ignore_errors=True)
    os.environ |= {
        "ETTAMETTA_STORE": (HOME / "store").as_uri(), "ETTAMETTA_HOME": str(HOME / "home"),
        "ETTAMETTA_BUSINESS_TIMEZONE": ZONE.key,
    }  # fmt: skip
    (HOME / "home").mkdir(exist_ok=True)
    from ettametta_pipelines.catalog import ALL_TABLES
    from ettametta_pipelines.orchestration.resources import StoreResource, StripeResource
    from ettametta_pipelines.revenue import assets
    from ettametta_pipelines.storage.tables import ParquetTables

    StripeResource.client = lambda self: KeptAnswers(root)  # type: ignore[assignment,method-assign,return-value]
    store = StoreResource()
    started = time.perf_counter()
    with dg.DagsterInstance.local_temp(str(HOME / "home")) as instance:
        result = dg.materialize(
            [assets.stripe_raw, assets.stripe_ledger],
            instance=instance,
            tags={
                "dagster/asset_partition_range_start": FIRST_DAY.isoformat(),
                "dagster/asset_partition_range_end": (FIRST_DAY + timedelta(days=DAYS - 1)).isoformat(),
            },
            resources={
                "store": store, "tables": ParquetTables(store.open, ALL_TABLES), "stripe": StripeResource(),
            },
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )  # fmt: skip
    return {"seconds": time.perf_counter() - started, "partitions": DAYS, "success": result.success}


MEASURES = {
    "year": measure_year,
    "hot": partial(measure_increment, count=INCREMENTS["hot"], hours=0),
    "nightly": partial(measure_increment, count=INCREMENTS["nightly"], hours=1),
    "year_run": measure_year_run,
}


def measure(name: str, root: Path) -> dict[str, Any]:
    """Run one measure in a fresh process on two processors."""
    allowed = sorted(os.sched_getaffinity(0))[:PROCESSORS]
    done = subprocess.run(
        [sys.executable, "-m", __spec__.name, name, str(root)],
        preexec_fn=partial(os.sched_setaffinity, 0, allowed), stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    figures: dict[str, Any] = json.loads(line.removeprefix(MARK))
    return figures


def own_cost() -> dict[str, float]:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": used.ru_utime + used.ru_stime, "peak_mib": used.ru_maxrss / 1024}


def main() -> None:
    if len(sys.argv) > 2 and sys.argv[1] in MEASURES:
        figures = MEASURES[sys.argv[1]](Path(sys.argv[2]))
        print(MARK + json.dumps(figures | own_cost()))  # noqa: T201
        return
    rows = int(sys.argv[sys.argv.index("--rows") + 1]) if "--rows" in sys.argv else 1_000_000
    root = HOME / f"answers-{rows}"
    if not root.exists():
        making = HOME / "making"
        shutil.rmtree(making, ignore_errors=True)
        make_pages(making, rows)
        making.rename(root)
    figures = {name: measure(name, root) for name in ("year", "hot", "nightly", "year_run")}
    year, hot, nightly, run = figures.values()
    table = Table("", "seconds", "CPU seconds", "peak MiB")
    described = {
        f"a year: {year['rows']:,} rows read, booked, marted, {year['payouts']} payouts and {year['checks']} checks "
        "(bars: 60 s, 2048 MiB)": year,
        f"the day after: 3 days again, {hot['new_rows']:,} rows new (bar: 3 s)": hot,
        f"a night: {INCREMENTS['nightly']} days again, {nightly['rows']:,} rows": nightly,
        f"a year's stripe_raw and stripe_ledger in one Dagster run of {run['partitions']} partitions": run,
    }
    for name, figure in described.items():
        table.add_row(name, f"{figure['seconds']:.1f}", f"{figure['cpu_s']:.1f}", f"{figure['peak_mib']:.0f}")
    Console().print(table)
    (HOME.parent / "revenue.json").write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
