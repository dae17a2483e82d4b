"""The inbox worked off: each message once, failures put back with patience, poison parked, nothing held up."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, TransientError
from ettametta_pipelines.state import inbox
from ettametta_pipelines.state.models import WebhookEvent
from ettametta_pipelines.state.session import StateDatabase

Open = Callable[[], StateDatabase]


def arrive(db: StateDatabase, *ids: str, source: str = "stripe", kind: str = "a") -> None:
    for event_id in ids:
        assert inbox.store(db, [inbox.Message(source, event_id, kind, "{}")])


def rows(db: StateDatabase) -> dict[str, WebhookEvent]:
    with db.session(write=False) as session:
        return {row.event_id: row for row in session.scalars(sa.select(WebhookEvent))}


def pass_time(db: StateDatabase, by: timedelta) -> None:
    """Let what waits be due so much sooner."""
    with db.session() as session:
        for row in session.scalars(sa.select(WebhookEvent).where(WebhookEvent.due_at.is_not(None))):
            assert row.due_at is not None
            row.due_at -= by


def fails_with(error: Exception) -> Callable[[WebhookEvent], str]:
    def effect(event: WebhookEvent) -> str:
        raise error

    return effect


def test_messages_are_applied_oldest_first_and_once_with_their_words_forgotten(
    database: StateDatabase,
) -> None:
    arrive(database, "2", "1", "3")
    seen: list[str] = []

    def effect(event: WebhookEvent) -> str:
        seen.append(event.event_id)
        return "done"

    for _ in range(2):
        inbox.work_off(database, effect)
    assert seen == ["2", "1", "3"]
    assert {(row.outcome, row.body, row.attempts) for row in rows(database).values()} == {("done", "", 1)}


def test_a_look_is_bounded_and_says_that_more_is_due(database: StateDatabase) -> None:
    arrive(database, *"12345")
    worked = inbox.work_off(database, lambda event: "done", limit=2)
    assert (worked.outcomes.total(), worked.is_cut_short) == (2, True)
    worked = inbox.work_off(database, lambda event: "done", seconds=-1)
    assert (worked.outcomes.total(), worked.is_cut_short) == (0, True)
    worked = inbox.work_off(database, lambda event: "done")
    assert (worked.outcomes.total(), worked.is_cut_short) == (3, False)


def test_w9_a_worker_killed_within_an_effect_leaves_the_message_to_a_later_one(
    database: StateDatabase,
) -> None:
    arrive(database, "1")
    with pytest.raises(KeyboardInterrupt):
        inbox.work_off(database, fails_with(KeyboardInterrupt()))  # type: ignore[arg-type]
    done = Counter[str]()

    def effect(event: WebhookEvent) -> str:
        done[event.event_id] += 1
        return "done"

    inbox.work_off(database, effect)
    assert done == {}, "within its lease the first worker may still be alive"
    pass_time(database, inbox.LEASE)
    for _ in range(3):
        inbox.work_off(database, effect)
    assert done == {"1": 1}
    assert rows(database)["1"].attempts == 2


def test_two_workers_at_once_apply_each_message_once(open_database: Open) -> None:
    databases = [open_database(), open_database()]
    arrive(databases[0], *map(str, range(40)))
    start, seen = Barrier(2), Counter[str]()

    def effect(event: WebhookEvent) -> str:
        seen[event.event_id] += 1
        return "done"

    def work(db: StateDatabase) -> None:
        start.wait()
        inbox.work_off(db, effect)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, databases))
    assert seen == Counter(map(str, range(40)))


def test_poison_is_parked_with_its_reason_after_three_tries_and_stops_nobody(database: StateDatabase) -> None:
    arrive(database, "poison", "good")

    def effect(event: WebhookEvent) -> str:
        if event.event_id == "poison":
            raise AttributeError("no such thing")
        return "done"

    worked = inbox.work_off(database, effect)
    assert worked.failed == ["stripe a poison: AttributeError: no such thing"]
    assert rows(database)["good"].outcome == "done"
    for _ in range(2):
        assert inbox.work_off(database, effect).failed == [], "it waits first"
        pass_time(database, timedelta(minutes=2))
        worked = inbox.work_off(database, effect)
    assert worked.parked == ["stripe a poison: AttributeError: no such thing"]
    row = rows(database)["poison"]
    assert (row.attempts, row.problem, row.handled_at) == (3, "AttributeError: no such thing", None)
    assert row.parked_at is not None
    pass_time(database, timedelta(days=30))
    assert inbox.work_off(database, effect) == inbox.Worked()

    assert inbox.retry_parked(database) == 1
    assert inbox.work_off(database, lambda event: "mended").outcomes.total() == 1


def test_what_kills_its_worker_each_time_is_parked_as_well(database: StateDatabase) -> None:
    arrive(database, "deadly")
    for _ in range(12):
        with pytest.raises(KeyboardInterrupt):
            inbox.work_off(database, fails_with(KeyboardInterrupt()))  # type: ignore[arg-type]
        pass_time(database, inbox.LEASE)
    inbox.work_off(database, fails_with(KeyboardInterrupt()))  # type: ignore[arg-type]
    row = rows(database)["deadly"]
    assert row.parked_at is not None
    assert row.problem == "whatever worked on it died"


@pytest.mark.parametrize("error", [TransientError, NeedsPersonError])
def test_a_vendor_that_is_away_costs_one_try_a_look_and_holds_up_no_other_vendor(
    database: StateDatabase, error: type[TransientError]
) -> None:
    arrive(database, "1", "2")
    arrive(database, "3", source="tiktok")

    def effect(event: WebhookEvent) -> str:
        if event.source == "stripe":
            raise error("Stripe is away.", code="stripe_unavailable")
        return "done"

    worked = inbox.work_off(database, effect)
    assert len(worked.failed) == 1
    assert {key: row.attempts for key, row in rows(database).items()} == {"1": 1, "2": 0, "3": 1}
    for _ in range(10):
        pass_time(database, timedelta(hours=1))
        inbox.work_off(database, effect)
    assert all(row.parked_at is None for row in rows(database).values()), "hours are bridged"
    for _ in range(30):
        pass_time(database, timedelta(hours=1))
        inbox.work_off(database, effect)
    assert [row.parked_at is not None for row in rows(database).values()] == [True, True, False]


def test_what_is_refused_for_good_stops_only_itself(database: StateDatabase) -> None:
    arrive(database, "1", "2")

    def effect(event: WebhookEvent) -> str:
        if event.event_id == "1":
            raise PermanentError("There is no such charge.", code="stripe_not_found")
        return "done"

    assert inbox.work_off(database, effect).outcomes.total() == 1


def test_waits_grow_to_an_hour(database: StateDatabase) -> None:
    arrive(database, "1")
    waits = []
    for _ in range(9):
        pass_time(database, timedelta(hours=2))
        inbox.work_off(database, fails_with(TransientError("away", code="away")))
        with database.session(write=False) as session:
            due = session.scalars(sa.select(WebhookEvent.due_at)).one()
            assert due is not None
            waits.append((due - database.now(session)).total_seconds())
    assert [round(wait / 10) * 10 for wait in waits] == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]
