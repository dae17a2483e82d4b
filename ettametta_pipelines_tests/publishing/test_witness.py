"""A state database that comes back from an older copy: what it forgot, the witness in the object store knows."""

from collections.abc import Callable

import pytest
import sqlalchemy as sa

from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.state.models import Publication, PublicationEvent
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.publishing.conftest import (
    Publisher,
    TikTokSeen,
    YouTubeSeen,
    padded,
    reasons,
    with_a_new_key,
)


def lose_the_rows(publisher: Publisher) -> None:
    with publisher.workshop.db.session() as session:
        session.execute(sa.delete(PublicationEvent))
        session.execute(sa.delete(Publication))


def test_a_tiktok_post_is_found_by_a_ledger_that_lost_its_rows(
    publisher: Publisher, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    order = publisher.order("tiktok", video)
    publisher.to_tiktok(order)
    lose_the_rows(publisher)
    outcome = publisher.to_tiktok(order)
    assert (outcome.publication.state, outcome.posted) == ("PUBLISHED", False)
    assert (tiktok_seen.inits, len(tiktok_seen.posts)) == (1, 1)
    assert "last_byte_was_allowed" in reasons(publisher)


def test_a_video_that_no_list_shows_is_found_by_the_session_that_made_it(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    order = publisher.order("youtube", video)
    made = publisher.to_youtube(order).publication
    lose_the_rows(publisher)
    sandbox.fault("youtube", path_regex="playlistItems", times=None, status=200, body={"items": []})
    found = publisher.to_youtube(order).publication
    assert (found.state, found.remote_id) == ("PUBLISHED", made.remote_id)
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)


def test_the_file_that_was_sent_is_the_one_that_counts(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes, sandbox: SandboxUnderTest
) -> None:
    publisher.to_youtube(publisher.order("youtube", video))
    lose_the_rows(publisher)
    sandbox.fault("youtube", path_regex="playlistItems", times=None, status=200, body={"items": []})
    outcome = publisher.to_youtube(publisher.order("youtube", padded(video, len(video) + 100)))
    assert (outcome.publication.state, outcome.publication.size_bytes) == ("PUBLISHED", len(video))
    assert len(youtube_seen.videos) == 1


def test_a_witness_whose_key_is_lost_still_keeps_another_upload_from_being_opened(
    publisher: Publisher, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    order = publisher.order("tiktok", video)
    publisher.to_tiktok(order)
    lose_the_rows(publisher)
    renewed = with_a_new_key(publisher, connected_again=True)
    assert renewed.to_tiktok(order).publication.state == "NEEDS_REVIEW"
    assert (tiktok_seen.inits, len(tiktok_seen.posts)) == (1, 1)


@pytest.mark.parametrize("platform", ["youtube", "tiktok"])
def test_the_witness_shows_no_capability(
    publisher: Publisher, envelope: Envelope, video: bytes, platform: str
) -> None:
    post: Callable[..., object] = publisher.to_youtube if platform == "youtube" else publisher.to_tiktok
    post(publisher.order(platform, video))
    (found,) = list(publisher.workshop.store.list(f"publishing/last_bytes/{platform}"))
    written = publisher.workshop.store.get(found.key).decode()
    assert not [part for part in ("upload", "http", "session", "publish_id") if part in written]
