"""Posting on the sandbox's YouTube over HTTP: once, whatever happens on the way."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import pacific_quota_day, utc_now
from ettametta_pipelines.failures import NeedsPersonError, OutcomeUnknownError, PermanentError, TransientError
from ettametta_pipelines.publishing import youtube_upload
from ettametta_pipelines.publishing.ledger import PublicationBusy
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import Publication, PublicationEvent
from ettametta_pipelines.state.quota import QuotaExhausted
from ettametta_pipelines.vendors.youtube import CHUNK_MULTIPLE, UploadProgress, YouTubeChannel
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (on both kinds)
from ettametta_pipelines_tests.publishing.conftest import (
    EACH_CHUNK_ONCE,
    YOUTUBE_SIZE,
    DyingStore,
    Killed,
    NotingApp,
    Publisher,
    YouTubeSeen,
    padded,
    reasons,
    with_a_new_key,
)

# Requests of an undisturbed upload of three chunks: asked once when sending starts and once before the last chunk.
PUTS = 3 + 2
UPLOADS = "/upload/youtube/v3/videos"


def test_a_rendition_becomes_a_private_video_that_can_be_found_again(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE), synthetic=True))
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    (posted,) = youtube_seen.videos
    assert posted["id"] == outcome.publication.remote_id
    assert posted["size"] == YOUTUBE_SIZE
    assert posted["status"]["privacyStatus"] == "private"
    assert posted["status"]["containsSyntheticMedia"] is True
    assert posted["status"]["selfDeclaredMadeForKids"] is False
    assert posted["snippet"]["description"].splitlines()[-1] == outcome.publication.marker
    assert httpx.get(str(outcome.publication.url)).status_code == 200
    assert (youtube_seen.sessions, youtube_seen.puts) == (1, PUTS)
    assert publisher.youtube_app.sent == EACH_CHUNK_ONCE
    assert reasons(publisher) == ["planned", "session_opened", "last_chunk_next", "uploaded", "processed"]


def test_an_upload_takes_one_slot_of_the_days_quota(publisher: Publisher, video: bytes) -> None:
    publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    spent = {
        u.bucket: (u.used, u.reserved)
        for u in quota.usage(publisher.workshop.db, pacific_quota_day(utc_now()))
    }
    assert spent["videos_insert"] == (1, 0)


def test_a_second_run_posts_nothing(publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes) -> None:
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    first = publisher.to_youtube(order)
    again = publisher.to_youtube(order)
    assert (again.publication.remote_id, again.posted) == (first.publication.remote_id, False)
    assert (youtube_seen.sessions, youtube_seen.puts, len(youtube_seen.videos)) == (1, PUTS, 1)


def test_a_newer_rendition_of_a_posted_video_is_not_posted(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    again = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE + 1)))
    assert not again.posted
    assert again.publication.size_bytes == YOUTUBE_SIZE
    assert len(youtube_seen.videos) == 1


@pytest.mark.parametrize("chunks_read", [0, 1, 2])
def test_a_crash_is_resumed_by_another_worker_at_the_exact_byte(
    publisher: Publisher,
    new_publisher: Callable[[], Publisher],
    youtube_seen: YouTubeSeen,
    video: bytes,
    chunks_read: int,
) -> None:
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, chunks_read)).to_youtube(order)
    outcome = new_publisher().to_youtube(order)
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    assert youtube_seen.sessions == 1
    assert publisher.youtube_app.sent == EACH_CHUNK_ONCE
    assert youtube_seen.videos[0]["size"] == YOUTUBE_SIZE


def test_a_lost_answer_to_the_last_chunk_is_found_by_asking_and_not_sent_again(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    sandbox.fault("youtube", method="PUT", path_regex=UPLOADS, after=PUTS - 1, action="drop_after")
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    assert publisher.youtube_app.sent == EACH_CHUNK_ONCE
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)


def test_a_chunk_that_never_arrived_is_sent_again_to_the_same_session(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    sandbox.fault("youtube", method="PUT", path_regex=UPLOADS, after=2, action="drop_before")
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert outcome.posted
    first, second, last = EACH_CHUNK_ONCE
    assert publisher.youtube_app.sent == [first, second, second, last]
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)


def test_a_session_that_vanishes_before_the_last_chunk_is_replaced(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    sandbox.fault("youtube", method="PUT", path_regex=UPLOADS, after=2, action="status", status=404)
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert outcome.posted
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (2, 1)
    assert "session_gone" in reasons(publisher)


def test_a_video_whose_session_vanished_after_the_last_chunk_is_found_by_its_marker(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    sandbox.fault("youtube", method="PUT", path_regex=UPLOADS, after=PUTS - 1, action="drop_after")
    sandbox.fault(
        "youtube", method="PUT", path_regex=UPLOADS, after=PUTS, times=None, action="status", status=404
    )
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    assert outcome.publication.remote_id == youtube_seen.videos[0]["id"]
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)
    assert reasons(publisher)[-3:] == ["session_gone_after_last_chunk", "found_on_channel", "processed"]


@pytest.fixture
def lost_for_good(publisher: Publisher, sandbox: SandboxUnderTest, video: bytes) -> Publisher:
    """A worker whose last chunk left and never arrived, and whose session is gone: nobody can tell."""
    sandbox.fault("youtube", method="PUT", path_regex=UPLOADS, after=PUTS - 1, action="drop_before")
    sandbox.fault(
        "youtube", method="PUT", path_regex=UPLOADS, after=PUTS, times=None, action="status", status=404
    )
    publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    sandbox.clear_faults()
    return publisher


def test_a_post_in_doubt_that_is_not_on_the_channel_is_parked_and_never_posted_again(
    lost_for_good: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    order = lost_for_good.order("youtube", padded(video, YOUTUBE_SIZE))
    again = lost_for_good.to_youtube(order)
    assert (again.publication.state, again.posted) == ("NEEDS_REVIEW", False)
    assert again.publication.error_code == "post_not_found"
    assert (youtube_seen.sessions, youtube_seen.videos) == (1, [])


def test_a_post_in_doubt_is_looked_for_again_before_it_is_parked(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    patience = replace(publisher.workshop.patience, look_for=timedelta(hours=24))
    patient = publisher.with_(patience=patience)
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    sandbox.fault("youtube", method="PUT", path_regex=UPLOADS, after=PUTS - 1, action="drop_after")
    sandbox.fault(
        "youtube", method="PUT", path_regex=UPLOADS, after=PUTS, times=None, action="status", status=404
    )
    sandbox.fault(
        "youtube", path_regex="playlistItems", after=1, action="status", status=200, body={"items": []}
    )
    first = patient.to_youtube(order)
    assert (first.publication.state, first.publication.check_count) == ("RECONCILING", 1)
    found = patient.to_youtube(order)
    assert (found.publication.state, found.posted) == ("PUBLISHED", False)
    assert len(youtube_seen.videos) == 1


def test_runs_in_quick_succession_are_one_look_at_the_channel(
    publisher: Publisher, sandbox: SandboxUnderTest, video: bytes
) -> None:
    patience = replace(publisher.workshop.patience, looks=2, look_again_in=timedelta(minutes=30))
    patient = publisher.with_(patience=patience)
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    sandbox.fault("youtube", method="PUT", path_regex=UPLOADS, after=PUTS - 1, action="drop_before")
    sandbox.fault(
        "youtube", method="PUT", path_regex=UPLOADS, after=PUTS, times=None, action="status", status=404
    )
    patient.to_youtube(order)
    asked = len(sandbox.requests("youtube"))
    for _ in range(3):
        early = patient.to_youtube(order).publication
        assert (early.state, early.check_count) == ("RECONCILING", 1)
        assert early.next_check_at is not None
    assert len(sandbox.requests("youtube")) == asked
    with publisher.workshop.db.session() as session:
        row = session.scalars(sa.select(Publication)).one()
        assert row.next_check_at is not None
        row.next_check_at -= timedelta(minutes=31)
    parked = patient.to_youtube(order).publication
    assert (parked.state, parked.check_count) == ("NEEDS_REVIEW", 2)


@pytest.mark.parametrize("found", ["abcdefghijk", "https://www.youtube.com/watch?v=abcdefghijk&t=3s"])
def test_a_person_who_found_the_post_settles_it_by_its_id_or_address(
    lost_for_good: Publisher, youtube_seen: YouTubeSeen, video: bytes, found: str
) -> None:
    order = lost_for_good.order("youtube", padded(video, YOUTUBE_SIZE))
    with pytest.raises(PermanentError) as failure:
        lost_for_good.to_youtube(replace(order, live_remote_id="my video"))
    assert failure.value.code == "bad_post_id"
    settled = lost_for_good.to_youtube(replace(order, live_remote_id=found))
    assert (settled.publication.state, settled.publication.remote_id) == ("PUBLISHED", "abcdefghijk")
    assert str(settled.row()["url"]).endswith("/watch?v=abcdefghijk")
    assert youtube_seen.sessions == 1


@pytest.fixture
def killed_before_the_last_chunk(publisher: Publisher, video: bytes) -> Publisher:
    """A worker whose predecessor was killed in FINALIZING: the last chunk may leave, and has not."""
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 2)).to_youtube(
            publisher.order("youtube", padded(video, YOUTUBE_SIZE))
        )
    return publisher


@pytest.mark.parametrize("status", [400, 403])
def test_a_session_that_refuses_to_answer_after_the_last_chunk_reaches_a_person(
    killed_before_the_last_chunk: Publisher, sandbox: SandboxUnderTest, video: bytes, status: int
) -> None:
    publisher = killed_before_the_last_chunk
    sandbox.fault(
        "youtube", method="PUT", path_regex=UPLOADS, times=None, action="status", status=status, body={}
    )
    parked = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert (parked.publication.state, parked.posted) == ("NEEDS_REVIEW", False)
    assert parked.publication.error_code == "post_not_found"
    sandbox.clear_faults()
    again = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE), intent_no=2))
    assert again.posted


def test_a_video_whose_session_refuses_to_answer_is_found_by_its_marker(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    sandbox.fault("youtube", method="PUT", path_regex=UPLOADS, after=PUTS - 1, action="drop_after")
    sandbox.fault(
        "youtube", method="PUT", path_regex=UPLOADS, after=PUTS, times=None, action="status", status=403
    )
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)
    assert reasons(publisher)[-2:] == ["found_on_channel", "processed"]


def test_a_session_that_refuses_to_answer_before_the_last_chunk_ends_the_intent(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    sandbox.fault("youtube", method="PUT", path_regex=UPLOADS, action="status", status=403, body={})
    refused = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert refused.publication.state == "FAILED_DEFINITE"
    assert (youtube_seen.sessions, youtube_seen.videos) == (1, [])


def test_a_video_whose_state_youtube_refuses_to_tell_reaches_a_person(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    sandbox.fault(
        "youtube", method="GET", path_regex="/videos$", times=None, action="status", status=400, body={}
    )
    parked = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert parked.publication.state == "NEEDS_REVIEW"
    assert len(youtube_seen.videos) == 1


def test_a_person_settles_a_post_that_no_worker_can_finish(
    killed_before_the_last_chunk: Publisher, video: bytes
) -> None:
    publisher = with_a_new_key(killed_before_the_last_chunk, connected_again=False)
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    with pytest.raises(NeedsPersonError) as failure:
        publisher.to_youtube(order)
    assert failure.value.code == "encryption_key_unknown"
    settled = publisher.to_youtube(replace(order, live_remote_id="abcdefghijk"))
    assert (settled.publication.state, settled.publication.remote_id) == ("PUBLISHED", "abcdefghijk")


def test_a_post_whose_session_address_is_lost_with_its_key_is_looked_for_on_the_channel(
    killed_before_the_last_chunk: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    publisher = with_a_new_key(killed_before_the_last_chunk, connected_again=True)
    parked = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert (parked.publication.state, parked.publication.error_code) == ("NEEDS_REVIEW", "post_not_found")
    assert "handle_lost" in reasons(publisher)
    again = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE), intent_no=2))
    assert again.posted
    assert len(youtube_seen.videos) == 1


def test_an_upload_whose_session_address_is_lost_before_the_last_chunk_starts_anew(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 1)).to_youtube(order)
    assert with_a_new_key(publisher, connected_again=True).to_youtube(order).posted
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (2, 1)


def test_a_person_who_did_not_find_the_post_orders_it_as_the_next_intent(
    lost_for_good: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    again = lost_for_good.to_youtube(lost_for_good.order("youtube", padded(video, YOUTUBE_SIZE), intent_no=2))
    assert (again.publication.state, again.posted) == ("PUBLISHED", True)
    assert len(youtube_seen.videos) == 1
    with lost_for_good.workshop.db.session(write=False) as session:
        states = session.scalars(sa.select(Publication.state).order_by(Publication.intent_no)).all()
    assert list(states) == ["FAILED_DEFINITE", "PUBLISHED"]


def test_a_definite_refusal_ends_the_intent(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    body = {"error": {"code": 400, "message": "invalid video title", "errors": [{"reason": "invalidTitle"}]}}
    sandbox.fault("youtube", method="POST", path_regex=UPLOADS, action="status", status=400, body=body)
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    refused = publisher.to_youtube(order)
    assert (refused.publication.state, refused.publication.error_code) == ("FAILED_DEFINITE", "invalid_title")
    assert publisher.to_youtube(order).publication.state == "FAILED_DEFINITE"
    assert (youtube_seen.sessions, youtube_seen.puts) == (1, 0)


def test_a_file_youtube_cannot_process_ends_the_intent(
    publisher: Publisher, youtube_seen: YouTubeSeen
) -> None:
    outcome = publisher.to_youtube(publisher.order("youtube", b"not a video" * 100_000))
    assert (outcome.publication.state, outcome.publication.error_code) == (
        "FAILED_DEFINITE",
        "youtube_failed",
    )
    assert len(youtube_seen.videos) == 1


def test_two_workers_at_once_make_one_post(
    publisher: Publisher, new_publisher: Callable[[], Publisher], youtube_seen: YouTubeSeen, video: bytes
) -> None:
    from concurrent.futures import ThreadPoolExecutor
    from threading import Barrier

    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    workers = [new_publisher() for _ in range(4)]
    barrier = Barrier(len(workers))

    def work(worker: Publisher) -> bool | None:
        barrier.wait()
        try:
            return worker.to_youtube(order).posted
        except PublicationBusy:
            return None

    with ThreadPoolExecutor(len(workers)) as pool:
        posted = list(pool.map(work, workers))
    assert posted.count(True) == 1
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)


def test_a_ledger_that_lost_its_rows_finds_the_post_on_the_channel(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    """As after a restore from a backup older than the post."""
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    posted = publisher.to_youtube(order)
    with publisher.workshop.db.session() as session:
        session.execute(sa.delete(PublicationEvent))
        session.execute(sa.delete(Publication))
    again = publisher.to_youtube(order)
    assert (again.publication.remote_id, again.posted) == (posted.publication.remote_id, False)
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)


def test_the_same_post_twice_on_the_channel_is_an_incident(
    publisher: Publisher, youtube_seen: YouTubeSeen, sandbox: SandboxUnderTest, video: bytes
) -> None:
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    publisher.to_youtube(order)
    store = sandbox.server._server.config.app.state.store
    (posted,) = youtube_seen.videos
    store.put("youtube_video", "copycopycop", posted | {"id": "copycopycop"})
    with publisher.workshop.db.session() as session:
        session.execute(sa.delete(PublicationEvent))
        session.execute(sa.delete(Publication))
    outcome = publisher.to_youtube(order)
    assert outcome.publication.state == "INCIDENT"
    assert "copycopycop" in str(outcome.publication.error_message)


def test_an_exhausted_quota_leaves_no_trace_and_sends_nothing(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    db = publisher.workshop.db
    quota.reserve(db, "youtube", "videos_insert", 100, utc_now)
    with pytest.raises(QuotaExhausted):
        publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    with db.session(write=False) as session:
        assert session.scalars(sa.select(Publication)).all() == []
    assert youtube_seen.sessions == 0


def test_a_token_refused_half_way_is_refreshed_and_the_upload_goes_on(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    body = {"error": {"code": 401, "message": "Invalid Credentials", "errors": [{"reason": "authError"}]}}
    sandbox.fault(
        "youtube", method="PUT", path_regex=UPLOADS, after=2, action="status", status=401, body=body
    )
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert outcome.posted
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)
    # One for the code when connecting, one refresh.
    assert sandbox.count("youtube", "POST", "/token") == 2


def test_a_platform_that_stays_broken_ends_the_run_and_the_next_one_goes_on(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    sandbox.fault(
        "youtube", method="PUT", path_regex=UPLOADS, after=2, times=None, action="status", status=503
    )
    with pytest.raises(TransientError):
        publisher.to_youtube(order)
    sandbox.clear_faults()
    assert publisher.to_youtube(order).posted
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)


def test_a_line_that_cuts_every_chunk_gets_through_as_long_as_bytes_arrive(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    """Eight answers are lost in a row, more than the three a worker waits for without progress."""
    size = 9 * CHUNK_MULTIPLE
    cut = replace(publisher, youtube_app=CuttingApp(publisher.youtube_app))
    outcome = cut.to_youtube(cut.order("youtube", padded(video, size)))
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    assert len(publisher.youtube_app.sent) == 9
    assert (youtube_seen.sessions, youtube_seen.videos[0]["size"]) == (1, size)


class CuttingApp(NotingApp):
    """The real client on a line that delivers every chunk and loses every answer to one."""

    def __init__(self, app: NotingApp) -> None:
        self.__dict__ |= app.__dict__

    def channel(self, access_token: str) -> YouTubeChannel:
        channel = super().channel(access_token)
        put_range = channel.put_range

        def put_and_lose(session_uri: str, data: bytes, start: int, total: int) -> UploadProgress:
            put_range(session_uri, data, start, total)
            raise OutcomeUnknownError("The line was cut.", code="vendor_timeout")

        channel.put_range = put_and_lose  # type: ignore[method-assign]
        return channel


def test_a_session_with_every_byte_but_no_video_is_asked_again(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    full = {"range": f"bytes=0-{YOUTUBE_SIZE - 1}"}
    sandbox.fault("youtube", method="PUT", path_regex=UPLOADS, after=PUTS - 1, action="drop_after")
    sandbox.fault(
        "youtube", method="PUT", path_regex=UPLOADS, after=PUTS, action="status", status=308, headers=full
    )
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)


def test_a_video_still_being_processed_is_left_to_the_next_run(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    hasty = publisher.with_(patience=replace(publisher.workshop.patience, polls=1))
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    first = hasty.to_youtube(order)
    assert (first.publication.state, first.posted) == ("PROCESSING", True)
    assert first.row()["url"] is not None
    second = hasty.to_youtube(order)
    assert (second.publication.state, second.posted) == ("PUBLISHED", False)
    assert len(youtube_seen.videos) == 1


def test_the_session_address_is_stored_encrypted_only(
    publisher: Publisher, sandbox: SandboxUnderTest, video: bytes
) -> None:
    publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    with publisher.workshop.db.session(write=False) as session:
        rows = session.execute(sa.text("SELECT * FROM publications")).all()
        rows += session.execute(sa.text("SELECT * FROM publication_events")).all()
        rows += session.execute(sa.text("SELECT * FROM oauth_connections")).all()
    everything = repr(rows)
    assert "upload_id" not in everything
    assert "ya29." not in everything
    assert "rft." not in everything


@pytest.mark.parametrize(
    "said",
    [
        f"0-{CHUNK_MULTIPLE - 1}",
        f"bytes 0-{CHUNK_MULTIPLE - 1}",
        f"bytes=0-{CHUNK_MULTIPLE - 1}/{YOUTUBE_SIZE}",
    ],
)
def test_a_range_in_another_spelling_is_understood(
    publisher: Publisher, sandbox: SandboxUnderTest, video: bytes, said: str
) -> None:
    sandbox.fault(
        "youtube",
        method="PUT",
        range_regex="bytes 0-",
        action="status_after",
        status=308,
        headers={"Range": said},
    )
    assert publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE))).posted
    assert publisher.youtube_app.sent == EACH_CHUNK_ONCE


@pytest.mark.parametrize("after", [0, 2])
@pytest.mark.parametrize(
    "said", [None, "bytes=0-99999999", f"bytes=0-{YOUTUBE_SIZE - 1}", "bytes=5-10", "bytes=0-", "?"]
)
def test_a_range_that_cannot_be_true_costs_bytes_and_no_second_video(
    publisher: Publisher,
    sandbox: SandboxUnderTest,
    youtube_seen: YouTubeSeen,
    video: bytes,
    said: str | None,
    after: int,
) -> None:
    headers = {} if said is None else {"Range": said}
    sandbox.fault(
        "youtube",
        method="PUT",
        range_regex=r"bytes \d",
        after=after,
        action="status",
        status=308,
        headers=headers,
    )
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)


def test_a_last_chunk_refused_for_its_place_is_sent_again_from_what_the_session_holds(
    publisher: Publisher,
    sandbox: SandboxUnderTest,
    youtube_seen: YouTubeSeen,
    video: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As when an earlier chunk arrives late, while the last one is on its way."""
    store = sandbox.server._server.config.app.state.store
    plain, struck = youtube_upload.YouTubeDelivery._send, []

    def from_behind(self: Any, uri: str, received: int, data: bytes, stalls: Any) -> Any:
        if received + len(data) == self.media.size and not struck:
            struck.append(received)
            ((upload_id, session),) = store.items("youtube_session")
            store.put("youtube_session", upload_id, session | {"received": 0})
        return plain(self, uri, received, data, stalls)

    monkeypatch.setattr(youtube_upload.YouTubeDelivery, "_send", from_behind)
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    assert struck
    assert struck[0] > 0
    assert (outcome.posted, youtube_seen.sessions, len(youtube_seen.videos)) == (True, 1, 1)
