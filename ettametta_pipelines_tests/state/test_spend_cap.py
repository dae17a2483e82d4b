"""The monthly cap on all paid work: whatever is bought, by however many at once, an account stays within it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from threading import Barrier
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import FailureKind, OutcomeUnknownError, TransientError
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state.budget import (
    EVERYBODY,
    Budget,
    BudgetSpent,
    Cap,
    Purchase,
    SpendCapReached,
    Spending,
    Wallet,
)
from ettametta_pipelines.state.models import ModelClaim
from ettametta_pipelines.state.session import StateDatabase

# Half an hour before Berlin's December.
NOW = datetime(2026, 11, 30, 22, 30, tzinfo=UTC)
TODAY = date(2026, 11, 30)
BERLIN = ZoneInfo("Europe/Berlin")


def clock() -> datetime:
    return NOW


def models(cap: int, daily: int = 10_000) -> Budget:
    return Budget("live", "acme", daily, daily, BERLIN, Cap(cap, "tier Creator", "Upgrade."))


def wallet(db: StateDatabase, cap: int = 1000) -> Wallet:
    return Wallet(db, Budget("live", "acme", None, None, BERLIN, Cap(cap, "tier Creator", "Upgrade.")), clock)


def voice(highest: int) -> Purchase:
    return Purchase(highest, "elevenlabs", "v2", "voice_over", "key", "cooking", "acme--1")


def month(db: StateDatabase, day: date = TODAY) -> Spending:
    return budgets.month_spending(db, "live", "acme", day)


def test_voices_and_questions_share_the_cap_and_voices_leave_the_days_budget_alone(
    database: StateDatabase,
) -> None:
    assert wallet(database).pay(voice(600), lambda: 550, lambda cost: cost) == 550
    assert month(database) == Spending("acme", 550, 0)
    assert EVERYBODY not in budgets.spending(database, "live", TODAY)
    question = Purchase(451, "gemini", "m", "assessment", "youtube:a")
    with pytest.raises(SpendCapReached):
        budgets.claim(database, models(1000), question, clock)
    budgets.claim(database, models(1001), question, clock)
    assert month(database) == Spending("acme", 550, 451)


def test_a_refusal_names_cap_spent_and_what_to_do_and_buys_nothing(database: StateDatabase) -> None:
    wallet(database, 2_000_000).pay(voice(1_500_000), lambda: 1_500_000, lambda cost: cost)
    bought: list[int] = []
    with pytest.raises(BudgetSpent) as refused:
        wallet(database, 2_000_000).pay(voice(500_001), lambda: bought.append(1) or 1, lambda cost: cost)
    assert bought == []
    said = str(refused.value)
    assert "Account acme may spend 2 USD on paid work in November 2026 (tier Creator)" in said
    assert "has spent 1.5000" in said
    assert "can cost 0.5000 USD" in said
    assert "It is new on 1 December. Upgrade." in said
    assert (refused.value.code, refused.value.kind) == ("spend_cap_reached", FailureKind.NEEDS_PERSON)
    with database.session(write=False) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(ModelClaim)) == 1


def test_a_month_ends_at_the_business_zones_midnight(database: StateDatabase) -> None:
    wallet(database).pay(voice(1000), lambda: 1000, lambda cost: cost)
    budget = wallet(database).budget
    december = Wallet(database, budget, lambda: NOW.replace(hour=23, minute=0))
    december.pay(voice(1000), lambda: 1000, lambda cost: cost)
    assert month(database, date(2026, 12, 31)).spent_microusd == 1000


@pytest.mark.parametrize(
    ("error", "spent"),
    [
        (OutcomeUnknownError("lost", code="lost"), 700),
        (KeyboardInterrupt(), 700),
        (TransientError("busy", code="busy"), 0),
    ],
)
def test_what_may_have_been_charged_counts_and_a_refusal_does_not(
    database: StateDatabase, error: BaseException, spent: int
) -> None:
    def fail() -> int:
        raise error

    with pytest.raises(type(error)):
        wallet(database).pay(voice(700), fail, lambda cost: cost)
    assert month(database) == Spending("acme", spent, 0)


def test_whose_cost_it_is_stands_in_the_claim(database: StateDatabase) -> None:
    wallet(database).pay(voice(10), lambda: 7, lambda cost: cost)
    with database.session(write=False) as session:
        (row,) = session.scalars(sa.select(ModelClaim))
    assert (row.account_id, row.niche, row.source_id, row.cost_microusd) == ("acme", "cooking", "acme--1", 7)


def test_fifty_racers_buy_exactly_what_the_cap_holds(open_database: Callable[[], StateDatabase]) -> None:
    racers = 50
    databases = [open_database() for _ in range(8)]
    barrier = Barrier(racers)

    def race(number: int) -> bool:
        barrier.wait()
        try:
            db = databases[number % 8]
            wallet(db, 1099).pay(voice(100), lambda: 100, lambda cost: cost)
        except SpendCapReached:
            return False
        return True

    with ThreadPoolExecutor(racers) as pool:
        assert sum(pool.map(race, range(racers))) == 10
    assert month(databases[0]) == Spending("acme", 1000, 0)


def test_without_a_cap_the_month_is_counted_all_the_same(database: StateDatabase) -> None:
    budgets.claim(database, Budget("live", "acme", 9, 9, BERLIN), voice(5), clock)
    assert month(database) == Spending("acme", 0, 5)
