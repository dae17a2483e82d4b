"""The ledgers: what the raw tables last said of every movement, in the columns of the books, by posting day.

A business day runs between local midnights. Computed by SQL from the raw tables alone, a month at a time, so a year
is booked in one go and any day again at any time, with the same outcome. Called by `revenue/assets.py`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import business_day_bounds
from ettametta_pipelines.money import EXPONENTS, Money, MoneyError, UnknownCurrency, totals
from ettametta_pipelines.revenue.categories import BOOKING_CLASSES, SHOPIFY_CATEGORIES, TEST, TRANSFER
from ettametta_pipelines.revenue.contracts import SHOPIFY_LEDGER, STRIPE_LEDGER
from ettametta_pipelines.revenue.raw import MARTS, ZONE_SLACK, calendar, relations, slices
from ettametta_pipelines.revenue.reading import PAYOUT_WITHIN, chunks
from ettametta_pipelines.storage.contracts import TableContract

if TYPE_CHECKING:
    import pyarrow as pa

    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore

LEDGERS: Mapping[str, TableContract] = {"stripe": STRIPE_LEDGER, "shopify": SHOPIFY_LEDGER}
SHOWN = 5

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Finding:
    """Outcome of one check: what was looked at, and a sentence that names what is wrong, empty when nothing is."""

    name: str
    problem: str
    looked_at: int

    @property
    def passed(self) -> bool:
        return not self.problem


@dataclass
class BookedDays:
    """What was booked: rows by day, sums by day and category (`ledger_summary.sql`), and what the checks found."""

    rows: dict[date, int] = field(default_factory=dict)
    summary: dict[date, list[Row]] = field(default_factory=dict)
    wrong: dict[str, "Wrong"] = field(default_factory=dict)

    def findings(self, names: Iterable[str]) -> list[Finding]:
        looked_at = sum(self.rows.values())
        return [Finding(name, sentence(self.wrong.get(name)), looked_at) for name in names]


@dataclass
class Wrong:
    """How many objects fail a check, and some of them in words."""

    count: int
    named: list[str]

    def add(self, count: int, named: Sequence[str]) -> None:
        self.count += count
        self.named = [*self.named, *named][:SHOWN]


def sentence(wrong: Wrong | None) -> str:
    if wrong is None or not wrong.count:
        return ""
    more = f"; and {wrong.count - len(wrong.named)} more" if wrong.count > len(wrong.named) else ""
    return f"{wrong.count} wrong: {'; '.join(wrong.named)}{more}."


def book_ledger(
    store: "ObjectStore", lake: "Lake", source: str, days: Sequence[date], timezone: ZoneInfo
) -> BookedDays:
    """Compute and store the ledger of these days (in order) from the raw table.

    Raises UnknownCurrency and MoneyError naming the rows before anything of their month is written.
    """
    from ettametta_pipelines.storage.parquet import write_arrow

    booked = BookedDays()
    contract = LEDGERS[source]
    for chunk in chunks(days):
        rows = ledger_rows(lake, source, chunk, timezone)
        _look_at(lake, rows, chunk, timezone, booked)
        by_day = dict(slices(rows, "day"))
        for day in chunk:
            table = contract.checked(by_day.get(day, rows.slice(0, 0)))
            write_arrow(store, contract, table, day.isoformat())
            booked.rows[day] = table.num_rows
    return booked


def ledger_rows(lake: "Lake", source: str, days: Sequence[date], timezone: ZoneInfo) -> "pa.Table":
    """Ledger rows of consecutive days, sorted by day, instant and id, as the raw table has them now."""
    with lexicon(lake):
        given = {
            "start": business_day_bounds(days[0], timezone)[0],
            "end": business_day_bounds(days[-1], timezone)[1],
            "from_day": days[0] - ZONE_SLACK,
            "to_day": days[-1] + ZONE_SLACK,
            "timezone": timezone.key,
        }
        if source == "stripe":
            given["paid_until"] = days[-1] + PAYOUT_WITHIN
        rows = lake.arrow(_sql(f"{source}_ledger"), given)
    _require_known_money(rows)
    return rows


def lexicon(lake: "Lake") -> Any:
    """The tables of currencies and categories as relations, and the macros, for the queries inside the block."""
    import pyarrow as pa

    lake.connection.execute(_sql("macros"))
    return relations(
        lake,
        currencies=pa.table({"currency": list(EXPONENTS), "exponent": list(EXPONENTS.values())}),
        booking_classes=pa.table(
            {"reporting_category": list(BOOKING_CLASSES), "booking_class": list(BOOKING_CLASSES.values())}
        ),
        shopify_categories=pa.table(
            {"type": list(SHOPIFY_CATEGORIES), "reporting_category": list(SHOPIFY_CATEGORIES.values())}
        ),
    )


def _require_known_money(rows: "pa.Table") -> None:
    import pyarrow.compute as pc

    strange = rows.filter(pc.is_null(rows["exponent"]))
    if strange.num_rows:
        currency, entry = strange["currency"][0].as_py(), strange["entry_id"][0].as_py()
        raise UnknownCurrency(
            f"The number of decimals of currency {currency!r} is not known; {entry} and "
            f"{strange.num_rows - 1} more rows are in such currencies.",
            code="unknown_currency",
            remedy="Add it to the table in money.py, with the vendor's documentation at hand.",
        )
    for name in ("amount_minor", "fee_minor", "net_minor"):
        inexact = rows.filter(pc.is_null(rows[name]))
        if inexact.num_rows:
            raise MoneyError(
                f"{inexact['entry_id'][0].as_py()} has no exact {name.removesuffix('_minor')}.",
                code="inexact_amount",
                remedy="Look at the vendor's row; it is not rounded, as books must match to the unit.",
            )


def _look_at(
    lake: "Lake", rows: "pa.Table", days: Sequence[date], timezone: ZoneInfo, booked: BookedDays
) -> None:
    """Check and sum up one month of rows."""
    with relations(lake, booked=rows, calendar=calendar(days[0], days[-1], timezone)):
        for failed in lake.rows(_sql("ledger_checks")):
            wrong = booked.wrong.setdefault(failed["check_name"], Wrong(0, []))
            wrong.add(failed["wrong"], failed["named"])
        for row in lake.rows(_sql("ledger_summary")):
            booked.summary.setdefault(row["day"], []).append(row)


def totals_per_currency(summary: Iterable[Row]) -> dict[str, Money]:
    """What was earned, per currency: net of revenue and costs, and the fees of transfers, as the mart counts it."""
    return totals(
        Money(-row["fee_minor"] if row["booking_class"] == TRANSFER else row["net_minor"], row["currency"])
        for row in summary
        if row["booking_class"] != TEST
    )


def booked_days(store: "ObjectStore", source: str) -> Iterator[date]:
    """Days whose ledger is in the store."""
    from ettametta_pipelines.storage.parquet import SUFFIX, TABLES_PREFIX, partition_of

    name = LEDGERS[source].name
    for info in store.list(f"{TABLES_PREFIX}/{name}"):
        if info.key.endswith(SUFFIX):
            yield date.fromisoformat(partition_of(name, info.key))


def _sql(name: str) -> str:
    return (MARTS / f"{name}.sql").read_text()
