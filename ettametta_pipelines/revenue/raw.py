"""What the payment services said, as received: versions of objects in `stripe_raw` and `shopify_raw`.

A reading lists everything of some consecutive business days. What is new or different is appended in one immutable
file per day, what is no longer listed is noted as gone, and nothing is ever rewritten, so the ledgers can be made
again from here at any time. Rows are taken out of the services' JSON by SQL, whole pages at once. Which pages to ask
for is said in `reading.py`.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import business_day_bounds, business_day_of
from ettametta_pipelines.money import EXPONENTS, Money
from ettametta_pipelines.revenue.contracts import SHOPIFY_RAW, STRIPE_RAW
from ettametta_pipelines.storage.contracts import TableContract

if TYPE_CHECKING:
    import pyarrow as pa

    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore

MARTS = Path(__file__).parent / "marts"

GONE = "gone"
READING = "reading"
ENTRY = "balance_transaction"
PAYOUT = "payout"
PAYOUT_ROWS = "payout_rows"
DISPUTE = "dispute"
BALANCE = "balance"
ENTRIES, OTHERS = "entries", "others"

RAW_TABLES: Mapping[str, TableContract] = {"stripe": STRIPE_RAW, "shopify": SHOPIFY_RAW}
# A row filed under another time zone's day is at most this far from where it would be filed today.
ZONE_SLACK = timedelta(days=1)


@dataclass(frozen=True)
class Listing:
    """Pages of one type of object, each the JSON `{"data": [...]}`."""

    object_type: str
    pages: Sequence[str]


@dataclass(frozen=True)
class Window:
    """Some consecutive business days as far as they can be read now: [start, end) in whole seconds."""

    days: Sequence[date]
    timezone: ZoneInfo
    start: datetime
    end: datetime
    fetched_at: datetime

    @classmethod
    def of(cls, days: Sequence[date], timezone: ZoneInfo, now: datetime) -> "Window":
        start = business_day_bounds(days[0], timezone)[0]
        # The current second is left out: rows may still be added to it while pages are read.
        end = min(business_day_bounds(days[-1], timezone)[1], now.replace(microsecond=0))
        return cls(days, timezone, start, end, now)

    @property
    def is_empty(self) -> bool:
        return self.end <= self.start

    def is_closed(self, day: date) -> bool:
        return self.fetched_at >= business_day_bounds(day, self.timezone)[1]


@dataclass
class DayRead:
    """What a reading found of one day. `news` has a sentence for each change to a day that was closed before."""

    day: date
    is_closed: bool
    was_closed: bool = False
    listed: int = 0
    repeated: int = 0
    added: int = 0
    changed: int = 0
    gone: int = 0
    news: list[str] = field(default_factory=list)


def append(
    store: "ObjectStore",
    lake: "Lake",
    source: str,
    window: Window,
    listings: Iterable[Listing],
    *,
    livemode: bool,
) -> list[DayRead]:
    """File what a reading brought; the days of the window as read, in order.

    Repeating a reading, or filing readings in another order, leaves the same latest versions. A crash leaves whole
    files of some days only; the next reading adds what is missing.
    """
    import pyarrow as pa

    listed = pa.concat_tables([_objects(lake, source, listing) for listing in listings])
    with relations(lake, listed=listed):
        (span,) = lake.rows(_sql("raw_span"), {"start": window.start, "end": window.end})
        days = (
            business_day_of(span["first"], window.timezone),
            business_day_of(span["last"], window.timezone),
        )
        around = {"from_day": days[0] - ZONE_SLACK, "to_day": days[1] + ZONE_SLACK}
        counted = {"start": window.start, "end": window.end, "timezone": window.timezone.key}
        counts = lake.rows(_sql("raw_counts"), counted)
        once = lake.arrow(_sql("raw_once")) if span["has_repeats"] else listed
        with relations(lake, listed=once, raw=_view(lake, source, around)):
            news = lake.arrow(_sql("raw_news"), counted | {"fetched_at": window.fetched_at})
            closed = lake.rows(_sql("raw_closed"), {"fetched_at": window.fetched_at})
    read = {day: DayRead(day, window.is_closed(day)) for day in window.days}
    for row in counts:
        if row["day"] in read:
            read[row["day"]].listed = row["listed"]
            read[row["day"]].repeated = row["repeated"]
    for row in closed:
        if row["day"] in read:
            read[row["day"]].was_closed = True
    _file(store, RAW_TABLES[source], window, news, read, livemode=livemode)
    return list(read.values())


def _objects(lake: "Lake", source: str, listing: Listing) -> "pa.Table":
    """One row per object: type, id, instant, digest, facts, payload; of an object listed twice both."""
    import pyarrow as pa

    places = pa.array(range(len(listing.pages)), pa.int64())
    pages = pa.table({"place": places, "page": pa.array(listing.pages, pa.string())})
    with relations(lake, pages=pages):
        return lake.arrow(_sql(f"{source}_objects"), {"object_type": listing.object_type})


def _view(lake: "Lake", source: str, around: Mapping[str, date]) -> "pa.Table":
    """Latest known versions around some days, without payloads."""
    return lake.arrow(_sql(f"{source}_known"), around)


def _file(
    store: "ObjectStore",
    contract: TableContract,
    window: Window,
    news: "pa.Table",
    read: Mapping[date, DayRead],
    *,
    livemode: bool,
) -> None:
    import pyarrow as pa

    by_day = dict(slices(news, "day"))
    for day in sorted(by_day.keys() | read.keys()):
        rows = by_day.get(day, news.slice(0, 0))
        reading = read.get(day)
        if reading is not None:
            _tell(reading, rows)
            if not rows.num_rows and (reading.was_closed or not reading.is_closed):
                continue
        state = "closed" if reading is not None and reading.is_closed else "open"
        said = hashlib.sha256("\n".join(sorted(rows["payload_sha256"].to_pylist())).encode()).hexdigest()
        batch = f"{window.fetched_at:%Y%m%dT%H%M%S%f}-{said[:12]}"
        if reading is not None:
            rows = pa.concat_tables([rows, _note(rows.schema, day, window, state, reading)])
        for kind, part in _by_kind(rows):
            count = part.num_rows
            part = part.append_column("kind", pa.array([kind] * count))
            part = part.append_column("batch", pa.array([batch] * count))
            part = part.append_column("livemode", pa.array([livemode] * count))
            when = pa.array([window.fetched_at] * count, pa.timestamp("us", tz="UTC"))
            part = part.append_column("fetched_at", when)
            _create(store, contract, contract.checked(part), f"{day.isoformat()}|{kind}|{batch}")


def _by_kind(rows: "pa.Table") -> "Iterator[tuple[str, pa.Table]]":
    """Movements apart from the rest, so that a question about payouts does not read a million charges."""
    import pyarrow.compute as pc

    is_entry = pc.equal(rows["object_type"], ENTRY)
    for kind, wanted in ((ENTRIES, is_entry), (OTHERS, pc.invert(is_entry))):
        part = rows.filter(wanted)
        if part.num_rows:
            yield kind, part


def _create(store: "ObjectStore", contract: TableContract, rows: "pa.Table", partition: str) -> None:
    from ettametta_pipelines.storage.objects import ObjectExists
    from ettametta_pipelines.storage.parquet import parquet_bytes, table_key

    # There already: the same reading was filed before.
    with suppress(ObjectExists):
        store.create(table_key(contract.name, partition), parquet_bytes(contract, rows, partition))


def _note(schema: "pa.Schema", day: date, window: Window, state: str, reading: DayRead) -> "pa.Table":
    """The note that a day was read; the first `closed` one closes the day."""
    import pyarrow as pa

    said = json.dumps({"listed": reading.listed, "repeated": reading.repeated})
    note = {
        "day": day, "object_type": READING, "object_id": state, "occurred_at": window.fetched_at,
        "payload_sha256": hashlib.sha256(said.encode()).hexdigest(), "facts": None, "about": None,
        "payload": said, "change": "note", "facts_before": None,
    }  # fmt: skip
    return pa.Table.from_pylist([note], schema=schema)


def _tell(reading: DayRead, rows: "pa.Table") -> None:
    entries = [
        row
        for row in rows.select(["object_type", "object_id", "change", "facts", "facts_before"]).to_pylist()
        if row["object_type"] == ENTRY
    ]
    for change in ("added", "changed", "gone"):
        setattr(reading, change, sum(row["change"] == change for row in entries))
    if reading.was_closed:
        reading.news = [_news_of(row) for row in entries if row["facts"] != row["facts_before"]]


def _news_of(row: Mapping[str, Any]) -> str:
    before, after = (_in_words(row[name]) for name in ("facts_before", "facts"))
    name = row["object_id"]
    if row["change"] == "added" or not before:
        return f"{name} came late: {after}"
    if row["change"] == "gone":
        return f"{name} is no longer listed, was {before}"
    return f"{name} was {before}, is now {after}"


def _in_words(facts: str | None) -> str:
    """`charge of $29.00, fee $1.14`; amounts of an unknown currency stand as the service has them."""
    if facts is None:
        return ""
    category, amount, fee, currency = json.loads(facts)
    shown = [_shown(part, str(currency).upper()) for part in (amount, fee)]
    return f"{category} of {shown[0]}, fee {shown[1]}"


def _shown(amount: Any, currency: str) -> str:
    if currency not in EXPONENTS:
        return f"{amount} {currency}"
    return str(Money(amount, currency) if isinstance(amount, int) else Money.parse(str(amount), currency))


def calendar(first: date, last: date, timezone: ZoneInfo) -> "pa.Table":
    """Business days first..last with their bounds, for cutting instants into days."""
    import pyarrow as pa

    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    bounds = [business_day_bounds(day, timezone) for day in days]
    instant = pa.timestamp("us", tz="UTC")
    return pa.table(
        {
            "day": pa.array(days, pa.date32()),
            "day_start": pa.array([start for start, _ in bounds], instant),
            "day_end": pa.array([end for _, end in bounds], instant),
        }
    )


@contextmanager
def relations(lake: "Lake", **tables: "pa.Table") -> Iterator[None]:
    """Arrow tables under names of their own, for the queries inside the block."""
    for name, table in tables.items():
        lake.connection.register(name, table)
    try:
        yield
    finally:
        for name in tables:
            lake.connection.unregister(name)


def slices(table: "pa.Table", by: str) -> "Iterator[tuple[Any, pa.Table]]":
    """Consecutive rows of the same value, for a table sorted by it; without copying rows."""
    import pyarrow.compute as pc

    if not table.num_rows:
        return
    runs = pc.run_end_encode(table[by].combine_chunks())
    start = 0
    for value, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
        yield value, table.slice(start, end - start)
        start = end


def _sql(name: str) -> str:
    return (MARTS / f"{name}.sql").read_text()
