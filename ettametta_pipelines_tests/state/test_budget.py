"""Budgets of models' answers: no race, crash or lost answer spends more than a day's limit."""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from threading import Barrier
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state.budget import EVERYBODY, Budget, BudgetSpent, Purchase, Spending
from ettametta_pipelines.state.models import ModelClaim
from ettametta_pipelines.state.session import StateDatabase

# 22:30 UTC on 21 November is 23:30 in Berlin, half an hour before its next day.
NOW = datetime(2026, 11, 21, 22, 30, tzinfo=UTC)
DAY = date(2026, 11, 21)
BERLIN = ZoneInfo("Europe/Berlin")


def clock() -> datetime:
    return NOW


def budget(account: str = "acme", own: int = 1000, overall: int = 1500, mode: str = "live") -> Budget:
    return Budget(mode, account, own, overall, BERLIN)


def purchase(highest: int) -> Purchase:
    return Purchase(highest, "gemini", "m", "assessment", "youtube:a")


def spent(db: StateDatabase, account: str) -> Spending:
    return budgets.spending(db, "live", DAY).get(account, Spending(account, 0, 0))


def test_a_claim_holds_the_highest_price_and_settles_at_the_real_one(database: StateDatabase) -> None:
    made = budgets.claim(database, budget(), purchase(700), clock)
    assert spent(database, "acme") == Spending("acme", 0, 700)
    assert spent(database, EVERYBODY) == Spending(EVERYBODY, 0, 700)
    budgets.settle(database, made, 12)
    assert spent(database, "acme") == Spending("acme", 12, 0)
    assert spent(database, EVERYBODY) == Spending(EVERYBODY, 12, 0)


def test_a_lost_answer_counts_as_spent_and_a_refusal_does_not(database: StateDatabase) -> None:
    budgets.park(database, budgets.claim(database, budget(), purchase(300), clock), "answer_lost")
    budgets.release(database, budgets.claim(database, budget(), purchase(400), clock), "rate_limited")
    assert spent(database, "acme") == Spending("acme", 300, 0)
    with database.session(write=False) as session:
        rows = session.execute(sa.select(ModelClaim.state, ModelClaim.cost_microusd, ModelClaim.reason_code))
        assert sorted(map(tuple, rows)) == [("parked", 300, "answer_lost"), ("released", 0, "rate_limited")]


def test_a_claim_ends_once(database: StateDatabase) -> None:
    made = budgets.claim(database, budget(), purchase(300), clock)
    budgets.settle(database, made, 100)
    for end in (lambda: budgets.settle(database, made, 100), lambda: budgets.park(database, made, "x")):
        with pytest.raises(PermanentError) as failure:
            end()
        assert failure.value.code == "claim_already_closed"
    assert spent(database, "acme") == Spending("acme", 100, 0)


def test_a_spent_budget_says_whose_it_is_and_until_when(database: StateDatabase) -> None:
    budgets.claim(database, budget(), purchase(900), clock)
    with pytest.raises(BudgetSpent, match="account acme") as own:
        budgets.claim(database, budget(), purchase(101), clock)
    assert (own.value.code, own.value.retry_after_s) == ("budget_spent", 30 * 60)
    with pytest.raises(BudgetSpent, match="all accounts together"):
        budgets.claim(database, budget("beta"), purchase(601), clock)
    budgets.claim(database, budget("beta"), purchase(600), clock)
    assert spent(database, EVERYBODY).reserved_microusd == 1500


def test_a_refused_claim_changes_nothing(database: StateDatabase) -> None:
    with pytest.raises(BudgetSpent):
        budgets.claim(database, budget(own=10), purchase(11), clock)
    assert spent(database, EVERYBODY).reserved_microusd == 0
    with database.session(write=False) as session:
        assert session.scalars(sa.select(ModelClaim)).all() == []


def test_a_claim_of_a_process_that_died_stays_reserved_until_its_day_is_over(database: StateDatabase) -> None:
    budgets.claim(database, budget(), purchase(1000), clock)
    with pytest.raises(BudgetSpent):
        budgets.claim(database, budget(), purchase(1), clock)
    tomorrow = budgets.claim(database, budget(), purchase(1000), lambda: NOW.replace(hour=23, minute=0))
    assert tomorrow.day == date(2026, 11, 22)


def test_play_money_of_the_sandbox_is_counted_apart(database: StateDatabase) -> None:
    budgets.claim(database, budget(mode="sandbox"), purchase(1000), clock)
    budgets.claim(database, budget(), purchase(1000), clock)
    for mode in ("sandbox", "live"):
        assert {row.reserved_microusd for row in budgets.spending(database, mode, DAY).values()} == {1000}


def test_an_answer_dearer_than_was_reckoned_is_booked_as_it_is(database: StateDatabase) -> None:
    made = budgets.claim(database, budget(), purchase(900), clock)
    budgets.settle(database, made, 1200)
    assert spent(database, "acme").spent_microusd == 1200
    with pytest.raises(BudgetSpent):
        budgets.claim(database, budget(), purchase(1), clock)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    own=st.integers(1, 3000),
    overall=st.integers(1, 5000),
    day=st.integers(1, 28),
)
def test_parallel_runs_never_overspend(
    open_database: Callable[[], StateDatabase], seed: int, own: int, overall: int, day: int
) -> None:
    """Ten runs of three accounts race; at every instant what is held and spent stays within each limit."""
    now = datetime(2026, 1 + seed % 12, day, 12, tzinfo=UTC)
    db = open_database()
    barrier = Barrier(10)
    already = budgets.spending(db, "live", now.date())

    def run(number: int) -> None:
        rng = random.Random(f"{seed}.{number}")
        account = ("acme", "beta", "gamma")[number % 3]
        barrier.wait()
        for _ in range(4):
            highest = rng.randint(1, 800)
            try:
                made = budgets.claim(db, budget(account, own, overall), purchase(highest), lambda: now)
            except BudgetSpent:
                continue
            seen = budgets.spending(db, "live", now.date())
            for name, row in seen.items():
                held = row.spent_microusd + row.reserved_microusd
                before = already.get(name, Spending(name, 0, 0))
                limit = max(
                    overall if name == EVERYBODY else own, before.spent_microusd + before.reserved_microusd
                )
                assert held <= limit
            end = rng.choice(("settle", "park", "release", "die"))
            if end == "settle":
                budgets.settle(db, made, rng.randint(0, highest))
            elif end == "park":
                budgets.park(db, made, "answer_lost")
            elif end == "release":
                budgets.release(db, made, "rate_limited")

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(run, range(10)))
    rows = budgets.spending(db, "live", now.date())
    parts = [row for name, row in rows.items() if name != EVERYBODY]
    everybodys = rows.get(EVERYBODY, Spending(EVERYBODY, 0, 0))
    assert everybodys.spent_microusd == sum(row.spent_microusd for row in parts)
    assert everybodys.reserved_microusd == sum(row.reserved_microusd for row in parts)
