"""A Stripe that sells, a state database whose time the test moves, and one account between them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy.orm import Session

from ettametta_pipelines.billing import reservations, subscriptions
from ettametta_pipelines.billing.entitlements import Standing, apply_event, entitlement_row, standing
from ettametta_pipelines.billing.reservations import Slot, Usage, consume_slot, reserve_slot
from ettametta_pipelines.billing.tiers import Plans, load_tiers
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.stripe_billing import StripeBilling
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc

NOW = utc("2026-11-20T12:00:00")
EVENTS = [
    "checkout.session.completed", "customer.subscription.created", "customer.subscription.updated",
    "customer.subscription.deleted", "invoice.paid", "invoice.payment_failed", "charge.refunded",
    "charge.dispute.created", "charge.dispute.closed",
]  # fmt: skip


class TimedDatabase(StateDatabase):
    """A state database whose own clock is the test's."""

    def __init__(self, url: str, clock: SetClock) -> None:
        super().__init__(url)
        self.clock = clock

    def now(self, session: Session) -> datetime:
        return self.clock()


def plans(default: str = "free", mode: str = "sandbox", grace_days: int = 7) -> Plans:
    table = load_tiers()
    return Plans(table, table.tiers[default], mode, timedelta(days=grace_days))


@dataclass
class World:
    """Everything between an account and its videos. `account` is `acme` throughout."""

    clock: SetClock
    db: TimedDatabase
    plans: Plans
    account: str = "acme"

    def make(self, number: int, *, first: int = 0) -> list[Slot]:
        """Videos delivered, one after the other, of sources of their own."""
        made = [self.reserve(f"source-{first + n}") for n in range(number)]
        for slot in made:
            consume_slot(self.db, self.plans, slot)
        return made

    def reserve(self, source: str, holder: str = "run") -> Slot:
        return reserve_slot(self.db, self.plans, self.account, source, holder=holder)

    def usage(self) -> Usage:
        with self.db.session() as session:
            row = entitlement_row(session, self.plans, self.account, self.db.now(session))
            return reservations.usages(session, [row], self.db.now(session))[self.account]

    def standing(self) -> Standing:
        return standing(self.db, self.plans, self.account)

    @property
    def tier(self) -> str:
        return self.standing().tier.slug


@dataclass
class Shop(World):
    """The same with Stripe beside it."""

    sandbox: SandboxUnderTest = None  # type: ignore[assignment]
    stripe: StripeBilling = None  # type: ignore[assignment]

    def checkout(self, tier: str = "creator") -> str:
        session = subscriptions.open_checkout(
            self.db, self.plans, self.stripe, self.account, self.plans.tier(tier),
            success_url="http://127.0.0.1/done", cancel_url="http://127.0.0.1/",
        )  # fmt: skip
        assert session.url is not None
        return session.url

    def subscribe(self, tier: str = "creator") -> None:
        """Checkout, payment and the events that follow."""
        assert self.act(self.checkout(tier)).status_code == 303
        self.hear()

    def act(self, url: str, action: str = "pay") -> httpx.Response:
        with httpx.Client(trust_env=False, verify=False) as browser:
            return browser.post(url, data={"action": action})

    def change(self, tier: str) -> None:
        subscriptions.change_tier(self.db, self.plans, self.stripe, self.account, self.plans.tier(tier))

    def hear(self) -> list[str]:
        """Deliver every event Stripe has, oldest first; what each led to."""
        return [self.apply(event) for event in reversed(list(self.stripe.events(EVENTS, NOW)))]

    def apply(self, event: dict[str, object]) -> str:
        return apply_event(self.db, self.plans, self.stripe, event)

    def post(self, path: str, **data: str) -> dict[str, object]:
        """A call of the operator's, or of the customer's bank, on the sandboxed Stripe itself."""
        headers = {"Authorization": "Bearer sk_test_sandbox"}
        answer = self.sandbox.http.post(f"/stripe/v1/{path}", data=data, headers=headers)
        return dict(answer.raise_for_status().json())

    def card(self, name: str) -> None:
        self.post(f"customers/{self.customer}", **{"invoice_settings[default_payment_method]": name})

    @property
    def customer(self) -> str:
        return subscriptions.customer_of(self.db, self.plans, self.stripe, self.account)

    @property
    def subscription(self) -> str:
        return self.stripe.plans_of(self.customer)[0].id

    def wait(self, **by: float) -> None:
        self.clock.sleep(timedelta(**by).total_seconds())


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
def open_world(database_url: str, clock: SetClock) -> Iterator[Callable[[], World]]:
    opened: list[TimedDatabase] = []

    def open_it() -> World:
        opened.append(TimedDatabase(database_url, clock))
        return World(clock, opened[-1], plans())

    yield open_it
    for database in opened:
        database.close()


@pytest.fixture
def world(open_world: Callable[[], World]) -> World:
    """On SQLite and on Postgres."""
    return open_world()


@pytest.fixture
def shop(tmp_path: Path, clock: SetClock) -> Iterator[Shop]:
    db = TimedDatabase(f"sqlite:///{tmp_path / 'state.db'}", clock)
    db.migrate()
    home = tmp_path / "stripe"
    home.mkdir()
    with frozen_sandbox(home, clock) as running:
        endpoint = VendorEndpoint("stripe", "sandbox", f"{running.url}/stripe/", "test")
        yield Shop(clock, db, plans(), "acme", running, StripeBilling(endpoint, sleep=clock.sleep))
        running.close()
    db.close()
