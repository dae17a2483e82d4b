"""The publication ledger by itself: unique intents, leases and fences, states, the audit trail."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.publishing.ledger import (
    SETTLED,
    TRANSITIONS,
    IllegalTransition,
    Intent,
    LeaseLost,
    Ledger,
    PublicationBusy,
    State,
)
from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import Publication, PublicationEvent
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (on both kinds)

NOW = datetime(2026, 11, 22, 20, 0, tzinfo=UTC)
INTENT = Intent(
    platform="youtube", account="acme", channel_id="UC1", content_id="acme--1", object_key="media/a.mp4",
    sha256="ab", size_bytes=10, title="A", privacy="private",
)  # fmt: skip

MakeLedger = Callable[..., Ledger]


@pytest.fixture
def make_ledger(open_database: Callable[[], StateDatabase], envelope: Envelope) -> MakeLedger:
    def make(**options: Any) -> Ledger:
        return Ledger(open_database(), envelope, **{"clock": lambda: NOW, "owner": "tests"} | options)

    return make


def slots(database: StateDatabase, day: datetime = NOW) -> tuple[int, int]:
    usage = quota.usage(database, quota.pacific_quota_day(day))
    return next((u.used, u.reserved) for u in usage if u.bucket == "videos_insert")


def test_planning_twice_gives_the_same_row_and_takes_one_slot(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    first, second = make_ledger().plan(INTENT), make_ledger().plan(INTENT)
    assert (first.id, first.state) == (second.id, State.PLANNED)
    assert slots(database) == (0, 1)


def test_twenty_planners_at_once_make_one_row(make_ledger: MakeLedger, database: StateDatabase) -> None:
    barrier = Barrier(20)
    ledgers = [make_ledger() for _ in range(20)]

    def plan(ledger: Ledger) -> str:
        barrier.wait()
        return ledger.plan(INTENT).id

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(plan, ledgers))) == 1
    assert slots(database) == (0, 1)
    with database.session(write=False) as session:
        assert len(session.scalars(sa.select(PublicationEvent)).all()) == 1


def test_the_same_video_on_another_channel_is_another_intent(make_ledger: MakeLedger) -> None:
    ledger = make_ledger()
    assert ledger.plan(INTENT).id != ledger.plan(replace(INTENT, channel_id="UC2")).id


def test_a_planned_post_follows_the_newest_rendition_and_a_begun_one_does_not(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger()
    newer = replace(INTENT, object_key="media/b.mp4", sha256="cd", size_bytes=20)
    ledger.plan(INTENT)
    assert ledger.plan(newer).object_key == "media/b.mp4"
    with ledger.claimed(INTENT.publication_id) as claim:
        ledger.advance(claim, State.SESSION_OPEN, reason="opened", handle={"session_uri": "u"})
    assert ledger.plan(INTENT).object_key == "media/b.mp4"


def test_one_of_many_claimants_gets_the_lease(make_ledger: MakeLedger) -> None:
    publication = make_ledger().plan(INTENT)
    barrier = Barrier(10)
    ledgers = [make_ledger(owner=f"worker {number}") for number in range(10)]

    def claim(ledger: Ledger) -> float | None:
        barrier.wait()
        try:
            ledger.claim(publication.id)
        except PublicationBusy as busy:
            return busy.retry_after_s
        return None

    with ThreadPoolExecutor(10) as pool:
        waits = list(pool.map(claim, ledgers))
    assert waits.count(None) == 1
    assert all(0 < wait <= 300 for wait in waits if wait is not None)


def test_a_lease_that_ran_out_is_claimed_under_a_higher_fence_and_the_old_one_writes_no_more(
    make_ledger: MakeLedger,
) -> None:
    frozen, fresh = make_ledger(lease_s=-1, owner="frozen"), make_ledger(owner="fresh")
    publication = frozen.plan(INTENT)
    stale = frozen.claim(publication.id)
    current = fresh.claim(publication.id)
    assert current.fence == stale.fence + 1
    for write in (
        lambda: frozen.advance(stale, State.SESSION_OPEN, reason="opened"),
        lambda: frozen.renew(stale),
        lambda: frozen.spend_upload_slot(stale),
        lambda: frozen.count_check(stale, next_in=timedelta(0)),
    ):
        with pytest.raises(LeaseLost):
            write()
    frozen.let_go(stale)
    fresh.advance(current, State.SESSION_OPEN, reason="opened")
    assert fresh.get(publication.id).lease_owner == "fresh"


def test_a_worker_that_ends_lets_the_next_one_in_at_once(make_ledger: MakeLedger) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)

    def work() -> None:
        with ledger.claimed(publication.id):
            raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            work()
    assert ledger.get(publication.id).attempts == 2


def test_every_step_not_in_the_table_is_refused_and_writes_nothing(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    claim = ledger.claim(publication.id)
    for before in State:
        with database.session() as session:
            session.execute(sa.update(Publication).values(state=before))
        for to in set(State) - TRANSITIONS[before]:
            with pytest.raises(IllegalTransition):
                ledger.advance(claim, to, reason="no")
        assert ledger.get(publication.id).state == before


def test_no_way_leads_from_finalizing_to_a_state_that_opens_a_session() -> None:
    reached, open_ends = set(), {State.FINALIZING}
    while open_ends:
        reached |= open_ends
        open_ends = {to for state in open_ends for to in TRANSITIONS[state]} - reached
    assert reached.isdisjoint({State.PLANNED, State.SESSION_OPEN})
    assert not any(TRANSITIONS[state] for state in (State.PUBLISHED, State.FAILED_DEFINITE))


def test_every_transition_is_in_the_audit_trail_with_its_fence(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with ledger.claimed(publication.id) as claim:
        ledger.advance(claim, State.SESSION_OPEN, reason="opened", detail={"chunks": 3})
        ledger.advance(claim, State.FINALIZING, reason="last")
    with database.session(write=False) as session:
        events = session.scalars(sa.select(PublicationEvent).order_by(PublicationEvent.id)).all()
    assert [(e.from_state, e.to_state, e.fence, e.actor) for e in events] == [
        (None, "PLANNED", 0, "tests"),
        ("PLANNED", "SESSION_OPEN", 1, "tests"),
        ("SESSION_OPEN", "FINALIZING", 1, "tests"),
    ]
    assert events[1].detail == {"chunks": 3}


def test_the_handle_can_be_opened_again_and_is_not_readable_in_the_row(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with ledger.claimed(publication.id) as claim:
        row = ledger.advance(
            claim, State.SESSION_OPEN, reason="opened", handle={"session_uri": "https://s/1"}
        )
    assert ledger.open_handle(row) == {"session_uri": "https://s/1"}
    assert "https://s/1" not in str(row.handle)
    row.id = "another"
    with pytest.raises(PermanentError) as failure:
        ledger.open_handle(row)
    assert failure.value.code == "ciphertext_misplaced"


def test_a_slot_reserved_yesterday_is_given_back_and_todays_is_spent(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    yesterday = NOW - timedelta(days=1)
    publication = make_ledger(clock=lambda: yesterday).plan(INTENT)
    ledger = make_ledger()
    with ledger.claimed(publication.id) as claim:
        ledger.spend_upload_slot(claim)
        ledger.spend_upload_slot(claim)
    assert slots(database, yesterday) == (0, 0)
    assert slots(database) == (2, 0)


def test_a_post_that_needed_no_upload_gives_its_slot_back(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with ledger.claimed(publication.id) as claim:
        ledger.advance(claim, State.PROCESSING, reason="found_before_upload", remote_id="v1")
    assert slots(database) == (0, 0)


def test_two_publications_cannot_have_the_same_post(make_ledger: MakeLedger) -> None:
    ledger = make_ledger()
    for content in ("acme--1", "acme--2"):
        publication = ledger.plan(replace(INTENT, content_id=content))
        with ledger.claimed(publication.id) as claim:
            if content == "acme--1":
                ledger.advance(claim, State.PROCESSING, reason="found", remote_id="v1")
            else:
                with pytest.raises(PermanentError) as failure:
                    ledger.advance(claim, State.PROCESSING, reason="found", remote_id="v1")
                assert failure.value.code == "post_already_known"


def test_instants_are_kept_for_the_opening_the_point_of_no_return_and_the_end(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with ledger.claimed(publication.id) as claim:
        row = ledger.advance(claim, State.SESSION_OPEN, reason="opened")
        assert row.session_opened_at is not None
        assert row.first_mutation_at is None
        row = ledger.advance(claim, State.FINALIZING, reason="last")
        assert row.first_mutation_at is not None
        assert ledger.age_of_doubt(claim) < timedelta(minutes=1)
        row = ledger.advance(claim, State.PROCESSING, reason="uploaded", remote_id="v1")
        assert row.settled_at is None
        row = ledger.advance(claim, State.PUBLISHED, reason="processed")
    assert row.settled_at is not None


def test_another_post_of_the_same_video_waits_until_the_one_before_is_settled(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger()
    with pytest.raises(NeedsPersonError, match="post 1 does not exist"):
        ledger.plan(replace(INTENT, intent_no=2))
    first = ledger.plan(INTENT)
    with pytest.raises(NeedsPersonError, match="post 1 is PLANNED"):
        ledger.plan(replace(INTENT, intent_no=2))
    with ledger.claimed(first.id) as claim:
        ledger.advance(claim, State.PROCESSING, reason="found", remote_id="v1")
        ledger.advance(claim, State.PUBLISHED, reason="processed")
    second = ledger.plan(replace(INTENT, intent_no=2))
    assert (second.state, second.marker != first.marker) == (State.PLANNED, True)


def test_only_a_post_in_doubt_is_settled_by_a_persons_word(make_ledger: MakeLedger) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with pytest.raises(NeedsPersonError, match="PLANNED"):
        ledger.declare_live(publication.id, "v1")
    with ledger.claimed(publication.id) as claim:
        for state in (State.SESSION_OPEN, State.FINALIZING, State.RECONCILING):
            ledger.advance(claim, state, reason="test")
    settled = ledger.declare_live(publication.id, "v1", url="https://watch/v1")
    assert (settled.remote_id, settled.url) == ("v1", "https://watch/v1")


def test_a_post_that_no_worker_can_finish_is_settled_by_a_persons_word_unless_one_is_at_work(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with ledger.claimed(publication.id) as claim:
        for state in (State.SESSION_OPEN, State.FINALIZING):
            ledger.advance(claim, state, reason="test")
        with pytest.raises(PublicationBusy):
            ledger.declare_live(publication.id, "v1")
    assert ledger.declare_live(publication.id, "v1").state == State.PUBLISHED


def test_a_look_at_the_channel_is_due_at_first_and_again_when_its_time_has_come(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with ledger.claimed(publication.id) as claim:
        assert ledger.look_is_due(claim)
        ledger.count_check(claim, next_in=timedelta(minutes=1))
        assert not ledger.look_is_due(claim)
        ledger.count_check(claim, next_in=timedelta(minutes=-1))
        assert ledger.look_is_due(claim)


def test_the_settled_states_are_those_no_worker_acts_in() -> None:
    assert {State.PUBLISHED, State.FAILED_DEFINITE, State.NEEDS_REVIEW, State.INCIDENT} == SETTLED
