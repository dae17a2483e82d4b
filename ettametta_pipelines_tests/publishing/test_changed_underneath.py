"""What changes between planning a post and finishing it: the file, the upload at the platform, the video itself."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.publishing import tiktok_upload, youtube_upload
from ettametta_pipelines.publishing.ledger import Ledger
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.vendors.youtube import CHUNK_MULTIPLE
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.publishing.conftest import (
    TIKTOK_CHUNK,
    YOUTUBE_SIZE,
    DyingStore,
    Killed,
    Publisher,
    TikTokSeen,
    YouTubeSeen,
    padded,
    reasons,
    with_a_new_key,
)
from ettametta_pipelines_tests.publishing.test_tokens import token_of

# Three chunks, the last one taking the remainder.
TIKTOK_SIZE = 3 * TIKTOK_CHUNK + 1000


class ShortStore(ObjectStore):
    """A store whose object ends a byte before it says it does."""

    def __init__(self, store: ObjectStore) -> None:
        self.__dict__ |= store.__dict__

    def read_range(self, key: str, start: int, length: int) -> bytes:
        return super().read_range(key, start, length)[:-1]


def test_a_file_of_another_size_than_was_planned_is_not_sent(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    publisher.workshop.store.put(order.rendition.object_key, padded(video, YOUTUBE_SIZE - 1))
    with pytest.raises(PermanentError) as failure:
        publisher.to_youtube(order)
    assert failure.value.code == "rendition_changed"
    assert f"{YOUTUBE_SIZE - 1} bytes, but {YOUTUBE_SIZE} were planned" in failure.value.message
    assert (youtube_seen.sessions, youtube_seen.videos) == (0, [])


def test_a_file_that_ends_early_while_it_is_sent_makes_no_post(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    with pytest.raises(PermanentError) as failure:
        publisher.with_(store=ShortStore(publisher.workshop.store)).to_youtube(order)
    assert failure.value.code == "rendition_changed"
    assert "ended 1 bytes early" in failure.value.message
    assert youtube_seen.videos == []


def test_a_video_that_is_gone_before_it_was_processed_reaches_a_person(
    publisher: Publisher, sandbox: SandboxUnderTest, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    hasty = publisher.with_(patience=replace(publisher.workshop.patience, polls=1))
    order = publisher.order("youtube", padded(video, YOUTUBE_SIZE))
    assert hasty.to_youtube(order).publication.state == "PROCESSING"
    (made,) = youtube_seen.videos
    sandbox.server._server.config.app.state.store.delete("youtube_video", made["id"])
    gone = publisher.to_youtube(order).publication
    assert (gone.state, gone.remote_id) == ("NEEDS_REVIEW", made["id"])
    assert "video_not_visible" in reasons(publisher)
    assert youtube_seen.sessions == 1


def test_a_video_that_its_very_session_has_already_is_found_by_asking(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    """As where this database was restored from a copy made before the last chunk left."""
    data = padded(video, YOUTUBE_SIZE)
    order = publisher.order("youtube", data)
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 1)).to_youtube(order)
    channel = publisher.youtube_app.channel(token_of(publisher, "youtube"))
    session = opened(publisher)[youtube_upload.SESSION_URI]
    channel.put_range(session, data[CHUNK_MULTIPLE:], CHUNK_MULTIPLE, YOUTUBE_SIZE)
    done = publisher.to_youtube(order).publication
    (made,) = youtube_seen.videos
    assert (done.state, done.remote_id) == ("PUBLISHED", made["id"])
    assert "found_by_probe" in reasons(publisher)


def test_a_post_that_tiktok_has_whole_already_is_found_by_asking(
    publisher: Publisher, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    data = padded(video, TIKTOK_SIZE)
    order = publisher.order("tiktok", data)
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 1)).to_tiktok(order)
    creator = publisher.tiktok_app.creator(token_of(publisher, "tiktok"))
    address = opened(publisher)[tiktok_upload.UPLOAD_URL]
    for start, end in ((TIKTOK_CHUNK, 2 * TIKTOK_CHUNK), (2 * TIKTOK_CHUNK, TIKTOK_SIZE)):
        creator.put_chunk(address, data[start:end], start, TIKTOK_SIZE)
    assert publisher.to_tiktok(order).publication.state == "PUBLISHED"
    assert (tiktok_seen.inits, tiktok_seen.puts, len(tiktok_seen.posts)) == (1, 3, 1)
    assert "found_by_status" in reasons(publisher)


def test_an_upload_whose_key_is_lost_half_way_starts_anew(
    publisher: Publisher, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    order = publisher.order("tiktok", padded(video, TIKTOK_SIZE))
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 1)).to_tiktok(order)
    renewed = with_a_new_key(publisher, connected_again=True)
    assert renewed.to_tiktok(order).publication.state == "PUBLISHED"
    assert (tiktok_seen.inits, len(tiktok_seen.posts)) == (2, 1)
    assert "handle_lost" in reasons(publisher)


def test_an_upload_tiktok_failed_half_way_starts_anew(
    publisher: Publisher, sandbox: SandboxUnderTest, tiktok_seen: TikTokSeen, video: bytes
) -> None:
    order = publisher.order("tiktok", padded(video, TIKTOK_SIZE))
    with pytest.raises(Killed):
        publisher.with_(store=DyingStore(publisher.workshop.store, 1)).to_tiktok(order)
    failed = {"data": {"status": "FAILED", "fail_reason": "internal"}, "error": {"code": "ok"}}
    sandbox.fault("tiktok", path_regex="status/fetch", action="status", status=200, body=failed)
    assert publisher.to_tiktok(order).publication.state == "PUBLISHED"
    assert (tiktok_seen.inits, len(tiktok_seen.posts)) == (2, 1)
    assert "internal" in reasons(publisher)


def opened(publisher: Publisher) -> dict[str, str]:
    """What the one publication's upload is reached by."""
    workshop = publisher.workshop
    with workshop.db.session(write=False) as session:
        row = session.scalars(sa.select(Publication)).one()
    return Ledger(workshop.db, workshop.envelope, clock=utc_now).open_handle(row)
