"""Posting on the sandbox's TikTok over HTTP: once, whatever happens on the way."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import httpx
import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, TransientError
from ettametta_pipelines.publishing import tiktok_upload
from ettametta_pipelines.publishing.disclosure import Disclosure
from ettametta_pipelines.publishing.posts import compose_post
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.vendors.tiktok import CreatorInfo
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.publishing.conftest import (
    TIKTOK_CHUNK,
    DyingStore,
    Killed,
    Publisher,
    TikTokSeen,
    padded,
    reasons,
    with_a_new_key,
)

# Three chunks, the last one taking the remainder.
SIZE = 3 * TIKTOK_CHUNK + 1000
UPLOADS = "/tiktok/upload/"
FREE_FOR_ALL = CreatorInfo("acme", "Acme", "", ("SELF_ONLY", "PUBLIC_TO_EVERYONE"), False, False, False, 600)


@pytest.fixture(scope="session")
def big(video: bytes) -> bytes:
    return padded(video, SIZE)


def test_a_rendition_becomes_a_post_only_its_owner_sees(
    publisher: Publisher, tiktok_seen: TikTokSeen, big: bytes
) -> None:
    outcome = publisher.to_tiktok(publisher.order("tiktok", big, synthetic=True))
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    (post,) = tiktok_seen.posts
    assert (post["privacy"], post["is_aigc"]) == ("SELF_ONLY", True)
    assert post["title"] == "Knife skills\n\nIn ten seconds\n\n#cooking"
    assert (tiktok_seen.inits, tiktok_seen.puts) == (1, 3)
    # TikTok names no id of a private post; its owner finds it on the creator's page.
    assert outcome.publication.remote_id is None
    assert httpx.get(str(outcome.row()["url"])).status_code == 200
    assert reasons(publisher) == [
        "planned",
        "upload_opened",
        "last_chunk_next",
        "uploaded",
        "publish_complete",
    ]


def test_a_public_post_has_an_id_and_a_page(
    publisher: Publisher, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    outcome = publisher.to_tiktok(publisher.order("tiktok", video, privacy="PUBLIC_TO_EVERYONE"))
    (post,) = tiktok_seen.posts
    assert outcome.publication.remote_id == post["id"]
    assert httpx.get(str(outcome.publication.url)).status_code == 200


def test_a_second_run_posts_nothing(publisher: Publisher, tiktok_seen: TikTokSeen, video: bytes) -> None:
    order = publisher.order("tiktok", video)
    publisher.to_tiktok(order)
    again = publisher.to_tiktok(order)
    assert (again.publication.state, again.posted) == ("PUBLISHED", False)
    assert (tiktok_seen.inits, tiktok_seen.puts, len(tiktok_seen.posts)) == (1, 1, 1)


@pytest.mark.parametrize("chunks_read", [0, 1, 2])
def test_a_crash_is_resumed_by_another_worker_at_the_exact_chunk(
    publisher: Publisher,
    new_publisher: Callable[[], Publisher],
    tiktok_seen: TikTokSeen,
    big: bytes,
    chunks_read: int,
) -> None:
    order = publisher.order("tiktok", big)
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, chunks_read)).to_tiktok(order)
    outcome = new_publisher().to_tiktok(order)
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    assert (tiktok_seen.inits, tiktok_seen.puts, len(tiktok_seen.posts)) == (1, 3, 1)


def test_an_upload_is_resumed_in_the_chunks_it_was_opened_with(
    publisher: Publisher, new_publisher: Callable[[], Publisher], tiktok_seen: TikTokSeen, big: bytes
) -> None:
    order = publisher.order("tiktok", big)
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 1)).to_tiktok(order)
    other = new_publisher()
    outcome = tiktok_upload.publish(other.workshop, other.tiktok_app, order, chunk_size=TIKTOK_CHUNK + 1000)
    assert outcome.posted
    assert (tiktok_seen.inits, tiktok_seen.puts) == (1, 3)


def test_a_lost_answer_to_the_last_chunk_is_found_by_asking_and_not_sent_again(
    publisher: Publisher, sandbox: SandboxUnderTest, tiktok_seen: TikTokSeen, big: bytes
) -> None:
    sandbox.fault("tiktok", method="PUT", path_regex=UPLOADS, after=2, action="drop_after")
    outcome = publisher.to_tiktok(publisher.order("tiktok", big))
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", True)
    assert (tiktok_seen.inits, tiktok_seen.puts, len(tiktok_seen.posts)) == (1, 3, 1)


def test_a_chunk_that_never_arrived_is_sent_again(
    publisher: Publisher, sandbox: SandboxUnderTest, tiktok_seen: TikTokSeen, big: bytes
) -> None:
    sandbox.fault("tiktok", method="PUT", path_regex=UPLOADS, after=1, action="status", status=503)
    outcome = publisher.to_tiktok(publisher.order("tiktok", big))
    assert outcome.posted
    assert (tiktok_seen.inits, tiktok_seen.puts, len(tiktok_seen.posts)) == (1, 4, 1)


def test_an_upload_address_that_ends_before_the_last_chunk_is_replaced(
    publisher: Publisher, sandbox: SandboxUnderTest, tiktok_seen: TikTokSeen, big: bytes
) -> None:
    sandbox.fault("tiktok", method="PUT", path_regex=UPLOADS, after=1, action="status", status=403)
    outcome = publisher.to_tiktok(publisher.order("tiktok", big))
    assert outcome.posted
    assert (tiktok_seen.inits, tiktok_seen.puts, len(tiktok_seen.posts)) == (2, 2 + 3, 1)


def test_an_upload_address_near_its_end_is_not_begun_with(
    publisher: Publisher, new_publisher: Callable[[], Publisher], tiktok_seen: TikTokSeen, big: bytes
) -> None:
    order = publisher.order("tiktok", big)
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 0)).to_tiktok(order)
    with publisher.workshop.db.session() as session:
        row = session.scalars(sa.select(Publication)).one()
        assert row.state == "SESSION_OPEN"
        assert row.session_opened_at is not None
        row.session_opened_at -= timedelta(minutes=55)
    assert new_publisher().to_tiktok(order).posted
    assert (tiktok_seen.inits, len(tiktok_seen.posts)) == (2, 1)


def test_an_upload_address_that_ends_at_the_last_chunk_parks_the_post(
    publisher: Publisher, sandbox: SandboxUnderTest, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    order = publisher.order("tiktok", video)
    sandbox.fault("tiktok", method="PUT", path_regex=UPLOADS, times=None, action="status", status=403)
    parked = publisher.to_tiktok(order)
    assert (parked.publication.state, parked.posted) == ("NEEDS_REVIEW", False)
    sandbox.clear_faults()
    assert publisher.to_tiktok(order).publication.state == "NEEDS_REVIEW"
    assert (tiktok_seen.inits, tiktok_seen.posts) == (1, [])


def test_a_post_in_doubt_that_tiktok_turns_out_to_have_is_published(
    publisher: Publisher, sandbox: SandboxUnderTest, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    apart = {"look_for": timedelta(hours=24), "look_again_in": timedelta(minutes=30)}
    patient = publisher.with_(patience=replace(publisher.workshop.patience, **apart))
    order = publisher.order("tiktok", video)
    waiting = {"data": {"status": "PROCESSING_UPLOAD", "uploaded_bytes": 0}, "error": {"code": "ok"}}
    sandbox.fault("tiktok", method="PUT", path_regex=UPLOADS, action="drop_after")
    sandbox.fault(
        "tiktok", method="PUT", path_regex=UPLOADS, after=1, times=None, action="status", status=403
    )
    sandbox.fault("tiktok", path_regex="status/fetch", times=4, action="status", status=200, body=waiting)
    assert patient.to_tiktok(order).publication.state == "RECONCILING"
    with publisher.workshop.db.session() as session:
        session.execute(sa.update(Publication).values(next_check_at=None))
    found = patient.to_tiktok(order)
    assert (found.publication.state, found.posted) == ("PUBLISHED", False)
    assert (tiktok_seen.inits, len(tiktok_seen.posts)) == (1, 1)


FORGOTTEN = {"data": {}, "error": {"code": "invalid_publish_id", "message": "unknown"}}


def test_an_upload_tiktok_has_forgotten_before_the_last_chunk_was_answered_reaches_a_person(
    publisher: Publisher, sandbox: SandboxUnderTest, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    order = publisher.order("tiktok", video)
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 0)).to_tiktok(order)
    sandbox.fault(
        "tiktok", path_regex="status/fetch", times=None, action="status", status=400, body=FORGOTTEN
    )
    parked = publisher.to_tiktok(order)
    assert (parked.publication.state, parked.posted) == ("NEEDS_REVIEW", False)
    assert "tiktok_invalid_publish_id" in reasons(publisher)
    sandbox.clear_faults()
    assert publisher.to_tiktok(replace(order, intent_no=2)).posted
    assert (tiktok_seen.inits, len(tiktok_seen.posts)) == (2, 1)


def test_an_upload_tiktok_has_forgotten_when_it_refuses_the_last_chunk_reaches_a_person(
    publisher: Publisher, sandbox: SandboxUnderTest, video: bytes
) -> None:
    sandbox.fault("tiktok", method="PUT", path_regex=UPLOADS, action="status", status=400)
    sandbox.fault(
        "tiktok", path_regex="status/fetch", after=1, times=None, action="status", status=400, body=FORGOTTEN
    )
    parked = publisher.to_tiktok(publisher.order("tiktok", video))
    assert parked.publication.state == "NEEDS_REVIEW"


def test_an_upload_tiktok_has_forgotten_half_way_starts_anew(
    publisher: Publisher, sandbox: SandboxUnderTest, tiktok_seen: TikTokSeen, big: bytes
) -> None:
    order = publisher.order("tiktok", big)
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 1)).to_tiktok(order)
    sandbox.fault("tiktok", path_regex="status/fetch", action="status", status=400, body=FORGOTTEN)
    assert publisher.to_tiktok(order).posted
    assert (tiktok_seen.inits, len(tiktok_seen.posts)) == (2, 1)


def test_a_post_whose_publish_id_is_lost_with_its_key_reaches_a_person(
    publisher: Publisher, video: bytes
) -> None:
    order = publisher.order("tiktok", video)
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 0)).to_tiktok(order)
    with pytest.raises(NeedsPersonError) as failure:
        with_a_new_key(publisher, connected_again=False).to_tiktok(order)
    assert failure.value.code == "encryption_key_unknown"
    renewed = with_a_new_key(publisher, connected_again=True)
    assert renewed.to_tiktok(order).publication.state == "NEEDS_REVIEW"
    settled = renewed.to_tiktok(replace(order, live_remote_id="7301234567890"))
    assert str(settled.row()["url"]).endswith("/@acme/video/7301234567890")


def test_privacy_that_is_not_offered_is_a_question_to_a_person(
    publisher: Publisher, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    order = publisher.order("tiktok", video, privacy="FOLLOWER_OF_CREATOR")
    with pytest.raises(NeedsPersonError) as failure:
        publisher.to_tiktok(order)
    assert failure.value.code == "privacy_not_offered"
    assert "SELF_ONLY" in failure.value.remedy
    assert tiktok_seen.inits == 0
    assert publisher.to_tiktok(publisher.order("tiktok", video)).posted


def test_a_video_longer_than_the_creator_may_post_is_not_sent(
    publisher: Publisher, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    order = publisher.order("tiktok", video)
    with pytest.raises(PermanentError, match="600 s"):
        publisher.to_tiktok(replace(order, rendition=replace(order.rendition, duration_s=601.0)))
    assert tiktok_seen.inits == 0


def test_a_file_tiktok_refuses_ends_the_intent(publisher: Publisher, tiktok_seen: TikTokSeen) -> None:
    outcome = publisher.to_tiktok(publisher.order("tiktok", b"not a video" * 1000))
    assert outcome.publication.state == "FAILED_DEFINITE"
    assert outcome.publication.error_code == "tiktok_file_format_check_failed"
    assert not outcome.posted


def test_a_creator_with_too_many_posts_today_waits_without_being_refused_for_good(
    publisher: Publisher, sandbox: SandboxUnderTest, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    order = publisher.order("tiktok", video)
    body = {"data": {}, "error": {"code": "spam_risk_too_many_posts", "message": "", "log_id": ""}}
    sandbox.fault("tiktok", path_regex="creator_info", action="status", status=200, body=body)
    with pytest.raises(TransientError) as failure:
        publisher.to_tiktok(order)
    assert failure.value.retry_after_s == 86_400
    assert publisher.to_tiktok(order).posted


def test_a_post_still_being_processed_is_left_to_the_next_run(
    publisher: Publisher, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    hasty = publisher.with_(patience=replace(publisher.workshop.patience, polls=1))
    order = publisher.order("tiktok", video)
    first = hasty.to_tiktok(order)
    assert (first.publication.state, first.posted) == ("PROCESSING", True)
    second = hasty.to_tiktok(order)
    assert (second.publication.state, second.posted) == ("PUBLISHED", False)
    assert tiktok_seen.inits == 1


def test_what_people_may_do_with_a_post_is_off_unless_switched_on_and_offered() -> None:
    silent = compose_post("tiktok", Disclosure(synthetic=False), title="t")
    open_to_all = compose_post("tiktok", Disclosure(synthetic=False), title="t", comments=True, remixes=True)
    sent = tiktok_upload.post_for(silent, FREE_FOR_ALL)
    assert (sent.disable_comment, sent.disable_duet, sent.disable_stitch) == (True, True, True)
    sent = tiktok_upload.post_for(open_to_all, replace(FREE_FOR_ALL, duet_disabled=True))
    assert (sent.disable_comment, sent.disable_duet, sent.disable_stitch) == (False, True, False)
