"""Orders of clips: claimed before they are sent, sent once, resumed, and parked where nobody knows."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from threading import Barrier
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state import clip_orders as orders
from ettametta_pipelines.state.budget import Budget, BudgetSpent, Spending
from ettametta_pipelines.state.clip_orders import DONE, FAILED, OPEN, PARKED, RUNNING, SENDING, Order
from ettametta_pipelines.state.models import ClipSubmission
from ettametta_pipelines.state.session import StateDatabase

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
KEY = "a" * 32
BUDGET = Budget("live", "acme", 1_000_000, 1_000_000, ZoneInfo("UTC"))
ORDER = Order(KEY, "veo", "m", "2026-11-21|cooking", 400_000)


def clock() -> datetime:
    return NOW


def spent(db: StateDatabase) -> Spending:
    return budgets.spending(db, "live", date(2026, 11, 21))["acme"]


def opened(db: StateDatabase, *, again: bool = False) -> str:
    return orders.open_order(db, BUDGET, ORDER, clock, again=again).state


def test_an_order_that_goes_well_is_claimed_sent_named_and_settled_at_what_it_cost(
    database: StateDatabase,
) -> None:
    assert opened(database) == OPEN
    assert spent(database) == Spending("acme", 0, 400_000)
    assert orders.begin_sending(database, KEY)
    assert orders.note_operation(database, KEY, "op-1")
    assert orders.finish(database, KEY, 350_000)
    standing = orders.find_order(database, KEY)
    assert standing is not None
    assert (standing.state, standing.operation_id, standing.cost_microusd) == (DONE, "op-1", 350_000)
    assert spent(database) == Spending("acme", 350_000, 0)


def test_opening_an_order_again_finds_it_and_claims_no_more(database: StateDatabase) -> None:
    opened(database)
    orders.begin_sending(database, KEY)
    assert opened(database) == SENDING
    assert opened(database, again=True) == SENDING
    assert spent(database) == Spending("acme", 0, 400_000)


def test_an_order_beyond_the_cap_leaves_nothing_behind(database: StateDatabase) -> None:
    dear = Order(KEY, "veo", "m", "p", 2_000_000)
    with pytest.raises(BudgetSpent):
        orders.open_order(database, BUDGET, dear, clock)
    assert orders.find_order(database, KEY) is None


def test_of_many_processes_one_may_send_and_the_money_is_set_aside_once(database: StateDatabase) -> None:
    barrier = Barrier(8)

    def race(_: int) -> bool:
        barrier.wait()
        opened(database)
        return orders.begin_sending(database, KEY)

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(race, range(8))) == 1
    assert spent(database) == Spending("acme", 0, 400_000)


def test_a_sender_that_died_is_known_by_its_lease(database: StateDatabase) -> None:
    opened(database)
    orders.begin_sending(database, KEY, lease=timedelta(hours=1))
    alive = orders.find_order(database, KEY)
    assert alive is not None
    assert not alive.is_dead
    orders.not_sent(database, KEY, "rate_limited", "busy")
    orders.begin_sending(database, KEY, lease=timedelta(seconds=-1))
    dead = orders.find_order(database, KEY)
    assert dead is not None
    assert dead.is_dead


def test_a_lost_answer_counts_as_spent_until_a_person_has_looked(database: StateDatabase) -> None:
    opened(database)
    orders.begin_sending(database, KEY)
    assert orders.park(database, KEY, "answer_lost", "gone")
    assert spent(database) == Spending("acme", 400_000, 0)
    assert opened(database, again=True) == PARKED
    assert not orders.begin_sending(database, KEY)

    assert orders.decide_parked(database, KEY, "op-7").state == RUNNING
    assert orders.finish(database, KEY, 400_000)
    assert spent(database) == Spending("acme", 400_000, 0)


def test_an_order_that_was_found_never_made_may_be_made_anew(database: StateDatabase) -> None:
    opened(database)
    orders.begin_sending(database, KEY)
    orders.park(database, KEY, "answer_lost", "gone")
    assert orders.decide_parked(database, KEY, None).state == FAILED
    assert opened(database) == FAILED
    assert opened(database, again=True) == OPEN
    with pytest.raises(PermanentError) as caught:
        orders.decide_parked(database, KEY, None)
    assert caught.value.code == "order_not_parked"


@pytest.mark.parametrize(("cost", "left"), [(0, 0), (400_000, 400_000)])
def test_a_failure_is_settled_at_what_was_charged_all_the_same(
    database: StateDatabase, cost: int, left: int
) -> None:
    opened(database)
    orders.begin_sending(database, KEY)
    orders.note_operation(database, KEY, "op-1")
    assert orders.fail(database, KEY, "clip_failed", "no", cost_microusd=cost)
    assert not orders.finish(database, KEY, 1)
    assert spent(database) == Spending("acme", left, 0)


def test_orders_nobody_came_back_for_are_found_by_their_partition(database: StateDatabase) -> None:
    opened(database)
    assert orders.unfinished_partitions(database, quiet_for=timedelta(minutes=1)) == []
    assert orders.unfinished_partitions(database, quiet_for=timedelta(seconds=-1)) == [
        ("2026-11-21|cooking", "acme")
    ]
    orders.fail(database, KEY, "x", "y")
    assert orders.unfinished_partitions(database, quiet_for=timedelta(seconds=-1)) == []


def test_an_order_that_runs_for_a_day_is_overdue(database: StateDatabase) -> None:
    opened(database)
    orders.begin_sending(database, KEY)
    orders.note_operation(database, KEY, "op-1")
    young = orders.find_order(database, KEY)
    with database.session() as session:
        long_ago = database.now(session) - orders.OVERDUE
        session.execute(sa.update(ClipSubmission).values(sent_at=long_ago))
    old = orders.find_order(database, KEY)
    assert young is not None
    assert old is not None
    assert (young.is_overdue, old.is_overdue) == (False, True)
