"""Statistics of our own posts, and the trace of a source video."""

import json
from datetime import date
from typing import Any

import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import pacific_quota_day, utc_now
from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.publishing.contracts import PUBLICATION_METRICS
from ettametta_pipelines.publishing.metrics import Observation, observe_posts
from ettametta_pipelines.publishing.trace import publication_chain, source_of_publication
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import OAuthConnection, Publication
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.publishing.conftest import SOURCE, YOUTUBE_SIZE, Publisher, padded

DAY = date(2026, 11, 22)


def observe(publisher: Publisher) -> Observation:
    apps: dict[str, Any] = {"youtube": publisher.youtube_app, "tiktok": publisher.tiktok_app}
    return observe_posts(publisher.workshop, apps, DAY)


def test_there_is_one_row_for_every_post_the_platforms_show(publisher: Publisher, video: bytes) -> None:
    publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE), privacy="public"))
    publisher.to_tiktok(publisher.order("tiktok", video, privacy="PUBLIC_TO_EVERYONE"))
    seen = observe(publisher)
    frame = PUBLICATION_METRICS.frame(seen.rows)
    assert sorted(frame["platform"]) == ["tiktok", "youtube"]
    assert set(frame["source_id"]) == {SOURCE}
    assert (frame["views"] >= 0).all()
    assert (seen.channels, seen.unseen, seen.problems) == (2, 0, [])
    spent = {u.bucket: u.used for u in quota.usage(publisher.workshop.db, pacific_quota_day(utc_now()))}
    assert spent["batch_get_stats"] == 1


def test_a_private_video_is_seen_by_its_owner_and_a_private_tiktok_post_by_nobody(
    publisher: Publisher, video: bytes
) -> None:
    publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    publisher.to_tiktok(publisher.order("tiktok", video))
    seen = observe(publisher)
    assert [row["platform"] for row in seen.rows] == ["youtube"]
    assert seen.unseen == 1


def test_the_id_of_a_public_post_is_learnt_once_tiktok_tells_it(
    publisher: Publisher, sandbox: SandboxUnderTest, video: bytes
) -> None:
    unnamed = {"data": {"status": "PUBLISH_COMPLETE", "uploaded_bytes": len(video)}, "error": {"code": "ok"}}
    # The first question is asked before the last chunk, the second one about the finished post.
    sandbox.fault("tiktok", path_regex="status/fetch", after=1, action="status", status=200, body=unnamed)
    outcome = publisher.to_tiktok(publisher.order("tiktok", video, privacy="PUBLIC_TO_EVERYONE"))
    assert (outcome.publication.state, outcome.publication.remote_id) == ("PUBLISHED", None)
    observe(publisher)
    (row,) = observe(publisher).rows
    assert row["remote_id"] is not None
    with publisher.workshop.db.session(write=False) as session:
        stored = session.scalars(sa.select(Publication)).one()
    assert stored.remote_id == row["remote_id"]
    assert str(stored.url).endswith(f"/@acme/video/{stored.remote_id}")


def test_one_channel_that_cannot_be_asked_does_not_keep_the_others_from_being_asked(
    publisher: Publisher, video: bytes
) -> None:
    publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE)))
    publisher.to_tiktok(publisher.order("tiktok", video, privacy="PUBLIC_TO_EVERYONE"))
    with publisher.workshop.db.session() as session:
        session.execute(
            sa.update(OAuthConnection)
            .where(OAuthConnection.platform == "tiktok")
            .values(status="reauth_required")
        )
    seen = observe(publisher)
    assert [row["platform"] for row in seen.rows] == ["youtube"]
    (problem,) = seen.problems
    assert "acme on tiktok" in problem
    with publisher.workshop.db.session() as session:
        session.execute(sa.update(OAuthConnection).values(status="reauth_required"))
    with pytest.raises(NeedsPersonError):
        observe(publisher)


def test_without_posts_there_is_nothing_to_ask(publisher: Publisher) -> None:
    assert observe(publisher) == Observation()


def test_the_trace_of_a_source_video_tells_every_step_and_no_secret(
    publisher: Publisher, video: bytes
) -> None:
    posted = publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE))).publication
    publisher.to_tiktok(publisher.order("tiktok", video))
    chain = publication_chain(publisher.workshop.db, SOURCE)
    assert [(entry["platform"], entry["state"]) for entry in chain] == [
        ("youtube", "PUBLISHED"),
        ("tiktok", "PUBLISHED"),
    ]
    assert [event["to_state"] for event in chain[0]["events"]] == [
        "PLANNED", "SESSION_OPEN", "FINALIZING", "PROCESSING", "PUBLISHED",
    ]  # fmt: skip
    told = json.dumps(chain)
    assert "handle" not in told
    assert "upload_id" not in told
    for identifier in (posted.id, posted.remote_id, posted.marker, SOURCE):
        assert source_of_publication(publisher.workshop.db, str(identifier)) == SOURCE
    assert source_of_publication(publisher.workshop.db, "unknown") is None
