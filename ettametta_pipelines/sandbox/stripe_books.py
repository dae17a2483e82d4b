"""The books of the sandboxed Stripe account: customers, charges, refunds, disputes and payouts by UTC day.

Every object is a function of the seed and its day, so a past day reads the same at any later time; what
changes with time alone (a pending row becoming available, a refund showing on its charge) is computed
from `now`. Ids carry their posting day, which makes any object findable without a list. Rows made through
the API are kept in the sandbox store and join the same ledger and the same weekly payouts. Called by
`sandbox/stripe.py` alone.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any

from ettametta_pipelines.sandbox.core import SandboxStore, seeded_rng

Json = dict[str, Any]

# A fixed opening day, not "120 days ago": a window that slides would change the books of a closed day.
BOOKS_OPENED = date(2026, 1, 1)
LAST_EVENT_AFTER_DAYS = 60
DISPUTE_FEE = 1500
PAYOUT_AT = time(0, 30)
DAY_S = 86_400
DISPUTE_DECIDED_AFTER_S = 20 * DAY_S


@dataclass(frozen=True)
class Tier:
    """A subscription tier and its monthly price in minor units of each currency it is sold in."""

    name: str
    monthly: dict[str, int]


TIERS = (
    Tier("Creator", {"usd": 2900, "eur": 2700, "jpy": 4300}),
    Tier("Empire", {"usd": 9900, "eur": 9200, "jpy": 14800}),
)
# Share of new customers paying in each currency. EUR is converted to the USD balance; JPY has a balance
# of its own.
CURRENCY_SHARES = {"usd": 0.72, "eur": 0.20, "jpy": 0.08}


@dataclass(frozen=True)
class Customer:
    id: str
    started: date
    tier: Tier
    currency: str
    second_of_day: int
    months: int

    @property
    def subscription_id(self) -> str:
        return self.id.replace("cus_", "sub_")

    def price_id(self) -> str:
        return price_id(self.tier, self.currency)


@dataclass(frozen=True)
class Charge:
    """One monthly payment. `amount` is what the customer paid, `settled` what reached the balance."""

    id: str
    created: int
    amount: int
    currency: str
    settled: int
    settled_currency: str
    rate_e5: int | None
    customer: Customer


@dataclass(frozen=True)
class Event:
    """What later happened to a charge: a refund, a dispute's withdrawal, or the money's return after a win.

    `id` is the refund's or dispute's; a reinstatement has its dispute's.
    """

    kind: str
    id: str
    created: int
    amount: int
    charge: Charge


def price_id(tier: Tier, currency: str) -> str:
    return f"price_{tier.name.lower()}_{currency}"


def product_id(tier: Tier) -> str:
    return f"prod_{tier.name.lower()}"


def object_id(prefix: str, day: date, *parts: object) -> str:
    digest = hashlib.sha256("\x1f".join(str(part) for part in (day, *parts)).encode()).hexdigest()
    return f"{prefix}_{day:%Y%m%d}{digest[:14]}"


def day_of_id(identifier: str) -> date | None:
    """Posting day inside an id made by `object_id`; None for any other string."""
    match = re.fullmatch(r"[a-z]+_(\d{4})(\d\d)(\d\d)[0-9a-f]{14}", identifier)
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        return None


def epoch(day: date, second: int = 0) -> int:
    return int(datetime.combine(day, time.min, tzinfo=UTC).timestamp()) + second


def day_at(second: int) -> date:
    return datetime.fromtimestamp(second, UTC).date()


@lru_cache(maxsize=4096)
def customers_of(seed: int, day: date) -> tuple[Customer, ...]:
    """One to three customers who subscribed on this day; the first and last exactly at its edges."""
    if day < BOOKS_OPENED:
        return ()
    rng = seeded_rng(seed, "stripe-customers", day)
    count = 1 + rng.randrange(3)
    customers = []
    for index in range(count):
        edges = {0: 0, count - 1: DAY_S - 1} if count > 1 else {0: 0}
        customers.append(
            Customer(
                id=object_id("cus", day, seed, index),
                started=day,
                tier=TIERS[rng.random() < 0.3],
                currency=rng.choices(list(CURRENCY_SHARES), list(CURRENCY_SHARES.values()))[0],
                second_of_day=edges.get(index, rng.randrange(1, DAY_S - 1)),
                months=rng.randrange(1, 19),
            )
        )
    return tuple(customers)


@lru_cache(maxsize=4096)
def charges_of(seed: int, day: date) -> tuple[Charge, ...]:
    """Payments on this day: first months of new customers and renewals on the same day of a later month.

    Anniversaries after the 28th are charged on the 28th, so that every month has them.
    """
    paying = list(customers_of(seed, day))
    year, month = day.year, day.month
    for age in range(1, 19):
        year, month = (year, month - 1) if month > 1 else (year - 1, 12)
        for started in _anniversary_days(year, month, day.day):
            paying += [c for c in customers_of(seed, started) if c.months > age]
    charges = [_charge(seed, customer, day) for customer in paying]
    return tuple(sorted(charges, key=lambda c: (c.created, c.id)))


def _anniversary_days(year: int, month: int, billed_on: int) -> Iterator[date]:
    if billed_on > 28:
        return
    yield date(year, month, billed_on)
    if billed_on == 28:
        day = date(year, month, 28) + timedelta(days=1)
        while day.month == month:
            yield day
            day += timedelta(days=1)


def _charge(seed: int, customer: Customer, day: date) -> Charge:
    amount = customer.tier.monthly[customer.currency]
    rate = rate_e5(seed, day) if customer.currency == "eur" else None
    return Charge(
        id=object_id("ch", day, customer.id, "charge"),
        created=epoch(day, customer.second_of_day),
        amount=amount,
        currency=customer.currency,
        settled=converted(amount, rate),
        settled_currency="usd" if customer.currency == "eur" else customer.currency,
        rate_e5=rate,
        customer=customer,
    )


def rate_e5(seed: int, day: date) -> int:
    """US dollars per euro on a day, times 100,000."""
    return 105_000 + seeded_rng(seed, "eurusd", day).randrange(9_000)


def converted(amount: int, rate: int | None) -> int:
    return amount if rate is None else (amount * rate + 50_000) // 100_000


@lru_cache(maxsize=4096)
def later_events_of(seed: int, day: date) -> tuple[Event, ...]:
    """What will happen to the charges of this day, on days up to `LAST_EVENT_AFTER_DAYS` later."""
    events = []
    for charge in charges_of(seed, day):
        rng = seeded_rng(seed, "fate", charge.id)
        fate = rng.random()
        if charge.currency == "jpy" or fate >= 0.09:
            continue
        if fate < 0.05:
            events.append(_event("refund", charge, rng.randrange(3, 41), rng.randrange(DAY_S), charge.amount))
        elif fate < 0.08:
            third = charge.amount // 3
            events.append(_event("refund", charge, 2, rng.randrange(DAY_S), third))
            events.append(_event("refund", charge, 9, rng.randrange(DAY_S), charge.amount // 4))
        else:
            dispute = _event("dispute", charge, rng.randrange(10, 26), rng.randrange(DAY_S), charge.amount)
            events.append(dispute)
            if rng.random() < 0.5:
                won_at = dispute.created + DISPUTE_DECIDED_AFTER_S
                events.append(Event("reinstatement", dispute.id, won_at, charge.amount, charge))
    return tuple(events)


def _event(kind: str, charge: Charge, after_days: int, second: int, amount: int) -> Event:
    day = day_at(charge.created) + timedelta(days=after_days)
    prefix = "re" if kind == "refund" else "du"
    return Event(
        kind, object_id(prefix, day, charge.id, kind, after_days), epoch(day, second), amount, charge
    )


@lru_cache(maxsize=4096)
def events_on(seed: int, day: date) -> tuple[Event, ...]:
    """Refunds and disputes that post on this day."""
    days = (day - timedelta(days=back) for back in range(LAST_EVENT_AFTER_DAYS + 1))
    return tuple(e for made in days for e in later_events_of(seed, made) if day_at(e.created) == day)


@lru_cache(maxsize=4096)
def seeded_rows_of(seed: int, day: date) -> tuple[Json, ...]:
    """Balance transactions of this day, oldest first, payouts not among them."""
    rows = [charge_row(charge) for charge in charges_of(seed, day)]
    rows += [_event_row(seed, event) for event in events_on(seed, day)]
    return tuple(sorted(rows, key=ledger_order))


def ledger_order(row: Json) -> tuple[int, str]:
    return row["created"], row["id"]


def charge_row(charge: Charge) -> Json:
    base = charge.settled
    details = [(base * 29 + 500) // 1000 + 30, "Stripe processing fees"]
    fees = [details] if charge.settled_currency == "usd" else [[(base * 36 + 500) // 1000, details[1]]]
    if charge.rate_e5 is not None:
        fees.append([(base * 2 + 50) // 100, "Stripe currency conversion fee"])
    return balance_row(
        "charge",
        "charge",
        charge.id,
        created=charge.created,
        amount=base,
        currency=charge.settled_currency,
        fees=fees,
        available_on=epoch(day_at(charge.created) + timedelta(days=2)),
        rate=charge.rate_e5,
        description="Subscription payment",
    )


# What each event does to the balance: Stripe's type and reporting category, sign, whether the dispute fee
# is due.
_EVENT_BOOKING: dict[str, tuple[str, str, int, bool]] = {
    "refund": ("refund", "refund", -1, False),
    "dispute": ("adjustment", "dispute", -1, True),
    "reinstatement": ("adjustment", "dispute_reversal", 1, False),
}


def _event_row(seed: int, event: Event) -> Json:
    kind, category, sign, fee_due = _EVENT_BOOKING[event.kind]
    charge = event.charge
    rate = charge.rate_e5
    if rate is not None and event.kind == "refund":
        rate = rate_e5(seed, day_at(event.created))
    return balance_row(
        kind,
        category,
        event.id,
        created=event.created,
        amount=sign * converted(event.amount, rate),
        currency=charge.settled_currency,
        fees=[[DISPUTE_FEE, "Dispute fee"]] if fee_due else [],
        available_on=event.created,
        rate=rate,
        description=f"{event.kind.capitalize()} of {charge.id}",
    )


def balance_row(
    kind: str,
    category: str,
    source: str,
    *,
    created: int,
    amount: int,
    currency: str,
    fees: list[list[Any]],
    available_on: int,
    rate: int | None = None,
    description: str,
) -> Json:
    """A `balance_transaction` without its `status`, which depends on the time of reading."""
    fee = sum(part for part, _ in fees)
    return {
        "id": object_id("txn", day_at(created), source, kind, category),
        "object": "balance_transaction",
        "amount": amount,
        "available_on": available_on,
        "balance_type": "payments",
        "created": created,
        "currency": currency,
        "description": description,
        "exchange_rate": rate / 100_000 if rate is not None else None,
        "fee": fee,
        "fee_details": [
            {
                "amount": part,
                "application": None,
                "currency": currency,
                "description": name,
                "type": "stripe_fee",
            }
            for part, name in fees
        ],
        "net": amount - fee,
        "reporting_category": category,
        "source": source,
        "type": kind,
    }


class Books:
    """The ledger as it stands at a moment: seeded days plus rows made through the API.

    A payout is made each Tuesday, per currency, of everything that posted in the week before (Monday to
    Sunday, UTC); by then all of it is available.
    """

    def __init__(self, seed: int, store: SandboxStore) -> None:
        self.seed = seed
        self.store = store

    def rows(self, start: int, end: int) -> list[Json]:
        """Balance transactions with start <= created < end, newest first, payouts among them."""
        rows = self._earned(start, end)
        rows += [self._payout_row(payout) for payout in self.payouts(start, end)]
        return sorted(rows, key=ledger_order, reverse=True)

    def _earned(self, start: int, end: int) -> list[Json]:
        rows = [
            row
            for day in days_between(start, end)
            for row in seeded_rows_of(self.seed, day)
            if start <= row["created"] < end
        ]
        return rows + [row for _, row in self.store.items("stripe_row") if start <= row["created"] < end]

    def payouts(self, start: int, end: int) -> list[Json]:
        """Payouts with start <= created < end, newest first."""
        found = []
        for day in days_between(start, end):
            created = epoch(day, PAYOUT_AT.hour * 3600 + PAYOUT_AT.minute * 60)
            if day.weekday() == 1 and start <= created < end:
                found += self._payouts_made(day, created)
        return sorted(found, key=ledger_order, reverse=True)

    def _payouts_made(self, tuesday: date, created: int) -> list[Json]:
        sums: dict[str, int] = {}
        for row in self._earned(*paid_week(tuesday)):
            sums[row["currency"]] = sums.get(row["currency"], 0) + row["net"]
        payouts = []
        for currency, amount in sorted(sums.items()):
            identifier = object_id("po", tuesday, self.seed, currency)
            payouts.append(
                {
                    "id": identifier,
                    "object": "payout",
                    "amount": amount,
                    "arrival_date": epoch(tuesday + timedelta(days=1)),
                    "automatic": True,
                    "balance_transaction": object_id("txn", tuesday, identifier, "payout", "payout"),
                    "created": created,
                    "currency": currency,
                    "description": "STRIPE PAYOUT",
                    "destination": f"ba_sandbox_{currency}",
                    "failure_code": None,
                    "livemode": False,
                    "metadata": {},
                    "method": "standard",
                    "source_type": "card",
                    "type": "bank_account",
                }
            )
        return payouts

    def _payout_row(self, payout: Json) -> Json:
        return balance_row(
            "payout",
            "payout",
            payout["id"],
            created=payout["created"],
            amount=-payout["amount"],
            currency=payout["currency"],
            fees=[],
            available_on=payout["created"],
            description=payout["description"],
        )

    def rows_of_payout(self, payout: Json) -> list[Json]:
        """What a payout paid out, newest first, its own balance transaction first of all."""
        earned = self._earned(*paid_week(day_at(payout["created"])))
        same = [row for row in earned if row["currency"] == payout["currency"]]
        return [self._payout_row(payout), *sorted(same, key=ledger_order, reverse=True)]

    def find_row(self, identifier: str) -> Json | None:
        day = day_of_id(identifier)
        rows = self.rows(epoch(day), epoch(day) + DAY_S) if day else []
        return next((row for row in rows if row["id"] == identifier), None)

    def find_payout(self, identifier: str) -> Json | None:
        day = day_of_id(identifier)
        payouts = self.payouts(epoch(day), epoch(day) + DAY_S) if day else []
        return next((payout for payout in payouts if payout["id"] == identifier), None)

    def add_row(self, row: Json) -> None:
        self.store.put("stripe_row", row["id"], row)


def paid_week(tuesday: date) -> tuple[int, int]:
    """Seconds [start, end) of the week a Tuesday's payout pays: the seven days up to the Monday before it."""
    monday = tuesday - timedelta(days=1)
    return epoch(monday - timedelta(days=7)), epoch(monday)


def days_between(start: int, end: int) -> Iterator[date]:
    """UTC days that [start, end) touches, none before the books were opened."""
    day = max(day_at(max(start, 0)), BOOKS_OPENED)
    last = day_at(end - 1) if end > 0 else BOOKS_OPENED - timedelta(days=1)
    while day <= last:
        yield day
        day += timedelta(days=1)
