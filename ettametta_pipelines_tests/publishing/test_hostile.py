"""Attempts to make it post twice or say something false: two databases, two answers at once, ids of other posts."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError
from ettametta_pipelines.publishing.connections import connect
from ettametta_pipelines.publishing.ledger import Ledger, State
from ettametta_pipelines.publishing.review import Reviewer
from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (on both kinds)
from ettametta_pipelines_tests.publishing.conftest import (
    ACCOUNT,
    TIKTOK_CHUNK,
    YOUTUBE_SIZE,
    Publisher,
    TikTokSeen,
    YouTubeSeen,
    padded,
)
from ettametta_pipelines_tests.publishing.test_followup import let_pass

SIZES = {"youtube": YOUTUBE_SIZE, "tiktok": 2 * TIKTOK_CHUNK + 100_000}


class MeetingStore(ObjectStore):
    """A store at which two workers wait for each other before each reads its first chunk."""

    def __init__(self, store: ObjectStore, meeting: threading.Barrier) -> None:
        self.__dict__ |= store.__dict__
        self.reads, self.meeting = 0, meeting

    def read_range(self, key: str, start: int, length: int) -> bytes:
        self.reads += 1
        if self.reads == 1:
            self.meeting.wait(30)
        return super().read_range(key, start, length)


@pytest.mark.parametrize("same_key", [True, False], ids=["same key", "a key of its own"])
@pytest.mark.parametrize("platform", ["youtube", "tiktok"])
def test_two_databases_over_one_store_make_one_post(
    publisher: Publisher,
    tmp_path: Path,
    youtube_seen: YouTubeSeen,
    tiktok_seen: TikTokSeen,
    video: bytes,
    platform: str,
    same_key: bool,
) -> None:
    """As when somebody starts a second installation on the same bucket: both have an upload open, neither knows."""
    order = publisher.order(platform, padded(video, SIZES[platform]))
    meeting = threading.Barrier(2)
    other_db = StateDatabase(f"sqlite:///{tmp_path / 'other.db'}")
    other_db.migrate()
    envelope = publisher.workshop.envelope if same_key else Envelope([Fernet.generate_key().decode()])
    app = {"youtube": publisher.youtube_app, "tiktok": publisher.tiktok_app}[platform]
    connect(other_db, app, ACCOUNT, platform, f"sandbox-{ACCOUNT}", envelope=envelope)
    store = publisher.workshop.store
    workers = [
        publisher.with_(store=MeetingStore(store, meeting)),
        publisher.with_(store=MeetingStore(store, meeting), db=other_db, envelope=envelope),
    ]

    def work(worker: Publisher) -> str:
        send = worker.to_youtube if platform == "youtube" else worker.to_tiktok
        try:
            return send(order).publication.state
        except PipelineError as error:
            return error.code

    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(work, workers))
    other_db.close()
    posts: list[Any] = youtube_seen.videos if platform == "youtube" else tiktok_seen.posts
    assert len([p for p in posts if platform == "youtube" or p.get("status") != "PROCESSING_UPLOAD"]) == 1, (
        ended
    )
    assert "PUBLISHED" in ended
    assert set(ended) <= {"PUBLISHED", "RECONCILING", "NEEDS_REVIEW", "PROCESSING"}


def in_review(publisher: Publisher, sandbox: SandboxUnderTest, video: bytes) -> Publication:
    """A post that is on the channel and that a person is asked about."""
    posted = publisher.to_youtube(publisher.order("youtube", video)).publication
    with publisher.workshop.db.session() as session:
        session.execute(sa.update(Publication).values(state="NEEDS_REVIEW", remote_id=None, settled_at=None))
    return posted


def test_of_two_answers_at_once_the_first_counts(
    publisher: Publisher,
    new_publisher: Callable[[], Publisher],
    sandbox: SandboxUnderTest,
    settings_env: Settings,
    video: bytes,
) -> None:
    """Alice finds it and says so, while Bob's page still asks and he says that it is not there."""
    posted = in_review(publisher, sandbox, video)
    alice, bob = (
        Reviewer(worker.workshop.db, worker.workshop.envelope, settings_env, name)
        for worker, name in ((publisher, "alice"), (new_publisher(), "bob"))
    )
    said: list[str] = []

    def answer() -> None:
        try:
            bob.post_again(posted.id)
        except NeedsPersonError as error:
            said.append(error.code)

    late = threading.Thread(target=answer)
    with publisher.workshop.db.session() as session:
        session.execute(sa.update(Publication).values(state="PUBLISHED", remote_id=posted.remote_id))
        late.start()
        # Bob's page was read before; his answer waits for Alice's, wherever it is.
        time.sleep(0.5)
    late.join(30)
    with publisher.workshop.db.session(write=False) as session:
        rows = session.execute(sa.select(Publication.intent_no, Publication.state)).all()
    assert [tuple(row) for row in rows] == [(1, "PUBLISHED")]
    assert said == ["post_not_in_review"]
    with pytest.raises(NeedsPersonError):
        alice.declare_live(posted.id, str(posted.remote_id))


def test_a_post_found_between_the_look_and_the_answer_is_not_made_again(
    publisher: Publisher, sandbox: SandboxUnderTest, settings_env: Settings, video: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    posted = in_review(publisher, sandbox, video)
    plan = Ledger.plan

    def late(self: Ledger, *asked: Any, **how: Any) -> Publication:
        Reviewer(publisher.workshop.db, publisher.workshop.envelope, settings_env, "alice").declare_live(
            posted.id, str(posted.remote_id)
        )
        return plan(self, *asked, **how)

    monkeypatch.setattr(Ledger, "plan", late)
    with pytest.raises(NeedsPersonError) as failure:
        Reviewer(publisher.workshop.db, publisher.workshop.envelope, settings_env, "bob").post_again(
            posted.id
        )
    assert failure.value.code == "post_not_in_review"


def test_an_id_that_another_post_has_is_not_taken_for_this_one(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    first = publisher.to_youtube(publisher.order("youtube", video)).publication
    order = publisher.order("youtube", padded(video, 90_000))
    order = replace(order, rendition=replace(order.rendition, source_id="acme--fedcba9876543210"))
    sandbox.fault(
        "youtube", method="PUT", path_regex="/upload/", after=1, times=None, status=200,
        body={"id": first.remote_id, "status": {"uploadStatus": "uploaded"}},
    )  # fmt: skip
    with pytest.raises(PermanentError) as failure:
        publisher.to_youtube(order)
    assert failure.value.code == "post_already_known"
    sandbox.clear_faults()
    with publisher.workshop.db.session(write=False) as session:
        states = dict(session.execute(sa.select(Publication.content_id, Publication.state)).all())
    assert states["acme--fedcba9876543210"] == State.FINALIZING
    let_pass(publisher.workshop.db, 5)
    settled = publisher.to_youtube(order).publication
    assert settled.remote_id != first.remote_id
    assert settled.state in ("PUBLISHED", "RECONCILING")


@pytest.mark.parametrize("ahead_s", [-600, 600])
def test_a_worker_whose_clock_is_ten_minutes_off_takes_no_living_lease_and_spends_one_slot(
    publisher: Publisher, new_publisher: Callable[[], Publisher], video: bytes, ahead_s: int
) -> None:
    from datetime import timedelta

    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    skewed = new_publisher().with_(clock=lambda: utc_now() + timedelta(seconds=ahead_s))
    assert publisher.to_youtube(order).posted
    with publisher.workshop.db.session() as session:
        session.execute(
            sa.update(Publication).values(
                state="FINALIZING", lease_owner="another", lease_until=utc_now() + timedelta(seconds=200)
            )
        )
    with pytest.raises(PipelineError) as failure:
        skewed.to_youtube(order)
    assert failure.value.code == "publication_busy"
