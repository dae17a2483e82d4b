"""The publication ledger by itself: unique intents, leases and fences, states, the audit trail."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import pacific_quota_day
from ettametta_pipelines.failures import NeedsPersonError, PermanentError, TransientError
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
    usage = quota.usage(database, pacific_quota_day(day))
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
    assert [e.reason for e in events] == ["planned", "opened", "last"]
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


def test_trouble_is_written_down_redacted_and_forgotten_at_the_next_step(make_ledger: MakeLedger) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    error = TransientError("sent with Authorization: Bearer abcdef1234567890", code="youtube_unavailable")
    with ledger.claimed(publication.id) as claim:
        ledger.note_trouble(claim, error)
        row = ledger.get(publication.id)
        assert row.error_code == "youtube_unavailable"
        assert row.error_message is not None
        assert "abcdef1234567890" not in row.error_message
        assert row.error_message.startswith("sent with")
        row = ledger.advance(claim, State.SESSION_OPEN, reason="opened")
        assert (row.error_code, row.error_message) == (None, None)


@pytest.mark.parametrize(("asked_s", "waits_s"), [(60.0, None), (7200.0, 7200.0), (1e9, 86_400.0)])
def test_what_takes_no_post_for_long_is_kept_with_its_end_until_the_last_byte_may_leave(
    make_ledger: MakeLedger, database: StateDatabase, asked_s: float, waits_s: float | None
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with ledger.claimed(publication.id) as claim:
        ledger.note_trouble(claim, TransientError("full", code="cap", retry_after_s=asked_s))
        until = ledger.get(publication.id).next_check_at
        with database.session(write=False) as session:
            now = database.now(session)
        assert (until is None) == (waits_s is None)
        if until is not None and waits_s is not None:
            assert abs((until - now).total_seconds() - waits_s) < 60
        assert ledger.advance(claim, State.SESSION_OPEN, reason="opened").next_check_at == until
        assert ledger.advance(claim, State.FINALIZING, reason="last").next_check_at is None
        # From here on the time is that of the looks at the channel.
        ledger.note_trouble(claim, TransientError("full", code="cap", retry_after_s=asked_s))
        assert ledger.get(publication.id).next_check_at is None


def test_a_worker_that_lost_its_claim_writes_no_trouble_and_frees_no_lease(make_ledger: MakeLedger) -> None:
    frozen, fresh = make_ledger(lease_s=-1, owner="frozen"), make_ledger(owner="fresh")
    publication, other = frozen.plan(INTENT), frozen.plan(replace(INTENT, content_id="acme--2"))
    stale = frozen.claim(publication.id)
    fresh.claim(publication.id)
    frozen.note_trouble(stale, PermanentError("x", code="late"))
    frozen.let_go(stale)
    assert fresh.get(publication.id).error_code is None
    assert fresh.get(publication.id).lease_owner == "fresh"
    # Nor does it touch another row of the same fence.
    held = fresh.claim(other.id)
    assert held.fence == stale.fence
    frozen.let_go(stale)
    frozen.note_trouble(stale, PermanentError("x", code="late"))
    row = fresh.get(other.id)
    assert (row.lease_owner, row.error_code) == ("fresh", None)


def test_an_id_that_the_platform_tells_late_is_filled_in_once_and_keeps_the_address(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger()
    publication, other = ledger.plan(INTENT), ledger.plan(replace(INTENT, content_id="acme--2"))
    ledger.note_remote_id(publication.id, "too-early", None)
    for row in (publication, other):
        with ledger.claimed(row.id) as claim:
            ledger.advance(claim, State.PROCESSING, reason="sent")
            ledger.advance(claim, State.PUBLISHED, reason="told", url="https://watch/known")
    ledger.note_remote_id(publication.id, "v1", None)
    found = ledger.get(publication.id)
    assert (found.remote_id, found.url) == ("v1", "https://watch/known")
    ledger.note_remote_id(publication.id, "v2", "https://watch/v2")
    assert ledger.get(publication.id).remote_id == "v1"
    assert ledger.get(other.id).remote_id is None
    ledger.note_remote_id(other.id, "v3", "https://watch/v3")
    assert ledger.get(other.id).url == "https://watch/v3"


def test_a_renewed_lease_lasts_anew_and_notes_what_has_arrived(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    ledger = make_ledger(lease_s=1000)
    publication = ledger.plan(INTENT)
    with make_ledger(lease_s=10).claimed(publication.id) as claim:
        ledger.renew(claim)
        assert ledger.get(publication.id).received_bytes == 0
        ledger.renew(claim, received_bytes=7)
        row = ledger.get(publication.id)
        assert row.received_bytes == 7
        with database.session(write=False) as session:
            left = row.lease_until - database.now(session) if row.lease_until else timedelta()
        assert timedelta(seconds=100) < left <= timedelta(seconds=1000)
    row = ledger.get(publication.id)
    assert (row.lease_owner, row.lease_until) == (None, None)


def test_the_age_of_a_session_is_counted_from_its_opening_and_of_a_doubt_from_the_last_byte(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with database.session() as session:
        session.execute(sa.update(Publication).values(created_at=database.now(session) - timedelta(hours=2)))
    with ledger.claimed(publication.id) as claim:
        assert ledger.age_of_session(claim) >= timedelta(hours=2)
        ledger.advance(claim, State.SESSION_OPEN, reason="opened")
        assert timedelta(0) <= ledger.age_of_session(claim) < timedelta(hours=1)
        assert ledger.age_of_doubt(claim) >= timedelta(hours=2)


def test_looks_at_the_channel_are_counted_and_claims_too(make_ledger: MakeLedger) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with ledger.claimed(publication.id) as claim:
        assert [ledger.count_check(claim, next_in=timedelta(minutes=1)) for _ in range(3)] == [1, 2, 3]
    with ledger.claimed(publication.id) as claim:
        assert (claim.fence, claim.owner, ledger.get(publication.id).attempts) == (2, "tests", 2)


def test_a_busy_publication_and_an_unknown_one_and_a_lost_lease_have_codes_of_their_own(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger(lease_s=100, owner="busy one")
    publication = ledger.plan(INTENT)
    claim = ledger.claim(publication.id)
    with pytest.raises(PublicationBusy, match="by busy one") as busy:
        ledger.claim(publication.id)
    assert busy.value.code == "publication_busy"
    assert busy.value.retry_after_s is not None
    assert 0 < busy.value.retry_after_s <= 100
    with pytest.raises(LeaseLost) as lost:
        ledger.renew(replace(claim, fence=claim.fence + 1))
    assert lost.value.code == "lease_lost"
    for ask in (ledger.get, ledger.claim):
        with pytest.raises(PermanentError) as unknown:
            ask("nothing")
        assert unknown.value.code == "unknown_publication"


def test_what_was_ordered_is_kept_in_the_row_and_names_it(make_ledger: MakeLedger) -> None:
    intent = replace(INTENT, request_id="r1", wishes={"visibility": "later"})
    row = make_ledger().plan(intent)
    assert (row.request_id, row.wishes, row.marker) == ("r1", {"visibility": "later"}, f"ref-{row.id[:12]}")
    assert (row.id, len(row.id)) == (intent.publication_id, 24)
    told = [INTENT, *(replace(INTENT, **change) for change in (
        {"platform": "tiktok"}, {"channel_id": "UC2"}, {"content_id": "acme--2"}, {"intent_no": 2},
    ))]  # fmt: skip
    assert len({one.publication_id for one in told}) == 5
    assert (row.platform, row.account_id, row.channel_id, row.content_id, row.intent_no) == (
        "youtube", "acme", "UC1", "acme--1", 1,
    )  # fmt: skip
    assert (row.object_key, row.sha256, row.size_bytes, row.title, row.privacy) == (
        "media/a.mp4", "ab", 10, "A", "private",
    )  # fmt: skip
    assert (row.fence, row.attempts, row.received_bytes, row.check_count) == (0, 0, 0, 0)


def in_review(ledger: Ledger) -> Publication:
    publication = ledger.plan(INTENT)
    with ledger.claimed(publication.id) as claim:
        for state in (State.SESSION_OPEN, State.FINALIZING, State.NEEDS_REVIEW):
            ledger.advance(claim, state, reason="test")
    return ledger.get(publication.id)


def test_a_new_intent_settles_the_one_in_review_as_not_live_and_shuts_its_worker_out(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    ledger = make_ledger(owner="Ann")
    former = in_review(ledger)
    ledger.plan(replace(INTENT, intent_no=2), in_place_of_one_in_review=True)
    now = ledger.get(former.id)
    assert (now.state, now.error_code, now.fence) == (
        State.FAILED_DEFINITE, "declared_not_live", former.fence + 1,
    )  # fmt: skip
    assert now.error_message is not None
    assert now.error_message.startswith("Ann said")
    with database.session(write=False) as session:
        events = session.scalars(sa.select(PublicationEvent).order_by(PublicationEvent.id)).all()
    assert ("NEEDS_REVIEW", "FAILED_DEFINITE", "declared_not_live", now.fence) in [
        (e.from_state, e.to_state, e.reason, e.fence) for e in events
    ]
    # It was answered for; a second answer to the same question is refused.
    with pytest.raises(NeedsPersonError) as refusal:
        ledger.plan(replace(INTENT, intent_no=2), in_place_of_one_in_review=True)
    assert refusal.value.code == "post_not_in_review"


def test_the_post_before_is_found_on_the_accounts_former_channel_and_on_no_strangers(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger()
    in_review(ledger)
    with pytest.raises(NeedsPersonError, match="post 1 does not exist") as refusal:
        ledger.plan(replace(INTENT, intent_no=2, channel_id="UC9", account="other"))
    assert refusal.value.code == "earlier_post_unsettled"
    with pytest.raises(NeedsPersonError, match="post 1 does not exist"):
        ledger.plan(replace(INTENT, intent_no=2, content_id="acme--2"))
    with pytest.raises(NeedsPersonError, match="post 2 does not exist"):
        ledger.plan(replace(INTENT, intent_no=3))
    assert ledger.plan(replace(INTENT, intent_no=2, channel_id="UC2")).state == State.PLANNED


def test_of_two_posts_before_the_one_on_the_same_channel_counts(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    ledger = make_ledger()
    in_review(ledger)
    # On another channel of the account, and made later.
    elsewhere = ledger.plan(replace(INTENT, channel_id="UC2"))
    with database.session() as session:
        session.execute(
            sa.update(Publication)
            .where(Publication.id == elsewhere.id)
            .values(created_at=database.now(session) + timedelta(hours=1))
        )
    assert ledger.plan(replace(INTENT, intent_no=2)).state == State.PLANNED
    # Without one on the channel the newest counts, which is not settled here.
    with pytest.raises(NeedsPersonError, match="post 1 is PLANNED"):
        ledger.plan(replace(INTENT, intent_no=2, channel_id="UC3"))


def test_the_slot_reserved_when_planning_is_the_one_that_is_spent(
    make_ledger: MakeLedger, database: StateDatabase
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    with ledger.claimed(publication.id) as claim:
        ledger.spend_upload_slot(claim)
        assert slots(database) == (1, 0)
        ledger.advance(claim, State.SESSION_OPEN, reason="opened")
    assert slots(database) == (1, 0)


def test_the_id_of_a_post_never_changes_since_markers_on_channels_are_made_of_it() -> None:
    assert INTENT.publication_id == "a026b24156f92a90ec674582"


def test_a_planned_post_that_a_worker_holds_keeps_the_file_it_was_claimed_with(
    make_ledger: MakeLedger,
) -> None:
    ledger = make_ledger()
    publication = ledger.plan(INTENT)
    newer = replace(INTENT, object_key="media/b.mp4", sha256="cd", size_bytes=20)
    with ledger.claimed(publication.id):
        assert ledger.plan(newer).object_key == "media/a.mp4"
    assert ledger.plan(newer).object_key == "media/b.mp4"
