"""An account that is connected to another channel while its posts are on their way: nothing is posted there unasked."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import NeedsPersonError, PipelineError
from ettametta_pipelines.publishing.connections import connect, disconnect
from ettametta_pipelines.publishing.followup import due_looks, hand_over_stranded
from ettametta_pipelines.publishing.ledger import Ledger
from ettametta_pipelines.publishing.review import Reviewer
from ettametta_pipelines.settings import Settings, load_settings
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.vendors.oauth import open_desk
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (on both kinds)
from ettametta_pipelines_tests.publishing.conftest import (
    ACCOUNT,
    YOUTUBE_SIZE,
    DyingStore,
    Killed,
    Publisher,
    YouTubeSeen,
    padded,
)
from ettametta_pipelines_tests.publishing.test_followup import PUBLISHES, let_pass

Replace = Callable[[], None]


@pytest.fixture
def connect_another(publisher: Publisher, settings_env: Settings) -> Replace:
    """Disconnects the account's YouTube channel and connects another one."""

    def act() -> None:
        db, app, envelope = publisher.workshop.db, publisher.youtube_app, publisher.workshop.envelope
        disconnect(db, app, open_desk(settings_env, "youtube").revoke, ACCOUNT, "youtube", envelope=envelope)
        connect(db, app, ACCOUNT, "youtube", "sandbox-elsewhere", envelope=envelope)

    return act


def rows(db: StateDatabase) -> list[Publication]:
    with db.session(write=False) as session:
        return list(session.scalars(sa.select(Publication).order_by(Publication.created_at)))


def ledger_of(publisher: Publisher) -> Ledger:
    workshop = publisher.workshop
    return Ledger(workshop.db, workshop.envelope, clock=workshop.clock, owner="the follow-up")


@pytest.fixture
def keep_processing(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", method="GET", path_regex=PUBLISHES, times=None, status=503)


def test_a_post_that_is_on_its_way_is_not_made_again_on_the_new_channel(
    keep_processing: None,
    publisher: Publisher,
    connect_another: Replace,
    youtube_seen: YouTubeSeen,
    video: bytes,
) -> None:
    order = publisher.order("youtube", video)
    assert publisher.to_youtube(order).publication.state == "PROCESSING"
    connect_another()
    let_pass(publisher.workshop.db, 120)
    assert due_looks(publisher.workshop.db) == []
    with pytest.raises(NeedsPersonError) as failure:
        publisher.to_youtube(order)
    assert failure.value.code == "posted_on_another_channel"
    assert (len(youtube_seen.videos), len(rows(publisher.workshop.db))) == (1, 1)


def test_a_backfill_after_the_channel_changed_posts_nothing_until_another_post_is_ordered(
    publisher: Publisher, connect_another: Replace, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    order = publisher.order("youtube", video)
    assert publisher.to_youtube(order).posted
    connect_another()
    with pytest.raises(NeedsPersonError, match="intent_no"):
        publisher.to_youtube(order)
    assert len(youtube_seen.videos) == 1
    assert publisher.to_youtube(replace(order, intent_no=2)).posted
    first, second = rows(publisher.workshop.db)
    assert first.channel_id != second.channel_id
    assert (first.state, second.intent_no) == ("PUBLISHED", 2)


def test_a_post_that_never_left_is_given_up_on_the_old_channel_and_made_on_the_new_one(
    publisher: Publisher, connect_another: Replace, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    dying = DyingStore(publisher.workshop.store, at=1)
    with pytest.raises(Killed):
        publisher.with_(store=dying).to_youtube(order)
    connect_another()
    let_pass(publisher.workshop.db, 10)
    assert publisher.to_youtube(order).posted
    old, new = rows(publisher.workshop.db)
    assert (old.state, old.error_code, new.state) == ("FAILED_DEFINITE", "channel_replaced", "PUBLISHED")
    assert len(youtube_seen.videos) == 1


class SwappingStore(ObjectStore):
    """A store during whose second read a person connects another channel."""

    def __init__(self, store: ObjectStore, swap: Replace) -> None:
        self.__dict__ |= store.__dict__
        self.reads, self.swap = 0, swap

    def read_range(self, key: str, start: int, length: int) -> bytes:
        self.reads += 1
        if self.reads == 2:
            self.swap()
        return super().read_range(key, start, length)


def test_a_worker_does_not_go_on_with_the_tokens_of_another_channel(
    publisher: Publisher,
    connect_another: Replace,
    sandbox: SandboxUnderTest,
    youtube_seen: YouTubeSeen,
    video: bytes,
) -> None:
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    # The upload it began with is gone, so that it needs another one.
    sandbox.fault("youtube", method="PUT", path_regex="/upload/", status=404, after=2, times=None)
    with pytest.raises(PipelineError) as failure:
        publisher.with_(store=SwappingStore(publisher.workshop.store, connect_another)).to_youtube(order)
    assert failure.value.code == "another_channel_connected"
    assert (youtube_seen.sessions, youtube_seen.videos) == (1, [])


def test_a_post_whose_channel_is_gone_is_handed_to_a_person_after_a_day(
    keep_processing: None, publisher: Publisher, connect_another: Replace, video: bytes
) -> None:
    db = publisher.workshop.db
    publisher.to_youtube(publisher.order("youtube", video))
    connect_another()
    assert hand_over_stranded(ledger_of(publisher), db) == 0
    let_pass(db, 24 * 60 + 1)
    assert hand_over_stranded(ledger_of(publisher), db) == 1
    (row,) = rows(db)
    assert (row.state, row.error_code) == ("NEEDS_REVIEW", "channel_gone")
    assert row.remote_id
    assert hand_over_stranded(ledger_of(publisher), db) == 0


def test_posting_again_is_not_ordered_for_a_channel_that_is_not_connected_any_more(
    keep_processing: None,
    publisher: Publisher,
    connect_another: Replace,
    video: bytes,
    settings_env: Settings,
) -> None:
    db = publisher.workshop.db
    publisher.to_youtube(publisher.order("youtube", video))
    connect_another()
    let_pass(db, 24 * 60 + 1)
    hand_over_stranded(ledger_of(publisher), db)
    (row,) = rows(db)
    with pytest.raises(NeedsPersonError) as failure:
        Reviewer(db, publisher.workshop.envelope, load_settings(), "alice").post_again(row.id)
    assert failure.value.code == "another_channel_connected"
    assert [row.state for row in rows(db)] == ["NEEDS_REVIEW"]
