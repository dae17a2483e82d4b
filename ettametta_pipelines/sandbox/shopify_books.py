"""The books of the sandboxed Shopify store: orders, refunds, chargebacks and weekly payouts by UTC day.

Every row is a function of the seed and its day, so a past day reads the same at any later time; only the
payout a row belongs to becomes known with time. Amounts are cents of US dollars. Called by
`sandbox/shopify.py` alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache

from ettametta_pipelines.sandbox.core import seeded_rng

BOOKS_OPENED = date(2026, 1, 1)
DAY = timedelta(days=1)
LAST_REVERSAL_AFTER_DAYS = 40
CHARGEBACK_FEE = 1500
PAYOUT_AT = time(6, 0)

# What the store sells, in cents.
GOODS = {"Preset pack": 1999, "Sticker sheet": 599, "Studio mug": 1450, "Creator hoodie": 4900}


@dataclass(frozen=True)
class Row:
    """One balance transaction. `number` is the last part of its gid and rises with time within a day."""

    number: int
    at: datetime
    type: str
    source_type: str
    source_number: int
    amount: int
    fee: int
    order: str | None

    @property
    def net(self) -> int:
        return self.amount - self.fee


@dataclass(frozen=True)
class Payout:
    number: int
    issued: datetime
    amount: int


@dataclass(frozen=True)
class Order:
    name: str
    number: int
    at: datetime
    total: int
    reversed_as: str | None
    reversed_at: datetime | None


def number_of(day: date, index: int) -> int:
    return int(f"{day:%Y%m%d}{index:05d}")


def moment(day: date, second: int) -> datetime:
    return datetime.combine(day, time.min, tzinfo=UTC) + timedelta(seconds=second)


@lru_cache(maxsize=4096)
def orders_of(seed: int, day: date) -> tuple[Order, ...]:
    """One to five orders; the first in the first seconds of the day, so that a day is never empty."""
    if day < BOOKS_OPENED:
        return ()
    rng = seeded_rng(seed, "shopify-orders", day)
    seconds = sorted([5, *(rng.randrange(60, 86_400) for _ in range(rng.randrange(5)))])
    orders = []
    for index, second in enumerate(seconds):
        goods = rng.choices(list(GOODS.values()), k=rng.randrange(1, 4))
        fate, back_second = rng.random(), rng.randrange(86_400)
        kind = "REFUND" if fate < 0.08 else "DISPUTE_WITHDRAWAL" if fate < 0.095 else None
        back_at = moment(day + DAY * rng.randrange(1, LAST_REVERSAL_AFTER_DAYS + 1), back_second)
        number = number_of(day, index)
        orders.append(
            Order(f"#{number}", number, moment(day, second), sum(goods), kind, back_at if kind else None)
        )
    return tuple(orders)


@lru_cache(maxsize=4096)
def rows_of(seed: int, day: date) -> tuple[Row, ...]:
    """Rows that post on this day, oldest first, payouts not among them."""
    rows = [
        Row(0, o.at, "CHARGE", "CHARGE", o.number, o.total, (o.total * 29 + 500) // 1000 + 30, o.name)
        for o in orders_of(seed, day)
    ]
    for back in range(1, LAST_REVERSAL_AFTER_DAYS + 1):
        for order in orders_of(seed, day - DAY * back):
            if order.reversed_as and order.reversed_at and order.reversed_at.date() == day:
                disputed = order.reversed_as == "DISPUTE_WITHDRAWAL"
                rows.append(
                    Row(
                        number=0,
                        at=order.reversed_at,
                        type=order.reversed_as,
                        source_type="DISPUTE" if disputed else "REFUND",
                        source_number=order.number,
                        amount=-order.total,
                        fee=CHARGEBACK_FEE if disputed else 0,
                        order=order.name,
                    )
                )
    rows.sort(key=lambda row: (row.at, row.source_number, row.type))
    return tuple(
        Row(number_of(day, i), r.at, r.type, r.source_type, r.source_number, r.amount, r.fee, r.order)
        for i, r in enumerate(rows)
    )


@lru_cache(maxsize=1024)
def payout_of(seed: int, tuesday: date) -> Payout | None:
    """Tuesday's payout of the week that ended with the Sunday before; None when there was nothing to pay."""
    amount = sum(row.net for day in paid_days(tuesday) for row in rows_of(seed, day))
    issued = datetime.combine(tuesday, PAYOUT_AT, tzinfo=UTC)
    return Payout(number_of(tuesday, 90_000), issued, amount) if amount else None


def paid_days(tuesday: date) -> list[date]:
    return [tuesday - DAY * back for back in range(8, 1, -1)]


def payout_paying(seed: int, day: date) -> Payout | None:
    """The payout that pays what posted on this day, whether or not it has been issued yet."""
    monday = day - DAY * day.weekday()
    return payout_of(seed, monday + DAY * 8)


def transfer_row(payout: Payout) -> Row:
    """The payout's own row: money leaving the balance for the bank."""
    number = number_of(payout.issued.date(), 90_001)
    return Row(number, payout.issued, "TRANSFER", "TRANSFER", payout.number, -payout.amount, 0, None)


def ledger(seed: int, start: datetime, end: datetime) -> list[Row]:
    """Rows with start <= at < end, oldest first, payouts among them."""
    rows: list[Row] = []
    for day in _days(start, end):
        rows += rows_of(seed, day)
        payout = payout_of(seed, day) if day.weekday() == 1 else None
        if payout is not None:
            rows.append(transfer_row(payout))
    return sorted((row for row in rows if start <= row.at < end), key=lambda row: (row.at, row.number))


def payouts(seed: int, start: datetime, end: datetime) -> list[Payout]:
    """Payouts issued in [start, end), oldest first."""
    found = (payout_of(seed, day) for day in _days(start, end) if day.weekday() == 1)
    return [payout for payout in found if payout is not None and start <= payout.issued < end]


def _days(start: datetime, end: datetime) -> Iterator[date]:
    day = max(start.astimezone(UTC).date(), BOOKS_OPENED)
    while moment(day, 0) < end:
        yield day
        day += DAY
