"""Statistics of our own posts, and the trace of a source video."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import pacific_quota_day, utc_now
from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.publishing.contracts import PUBLICATION_METRICS
from ettametta_pipelines.publishing.metrics import Observation, observe_posts
from ettametta_pipelines.publishing.trace import publication_chain, source_of_publication
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import OAuthConnection, Publication
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.publishing.conftest import (
    SOURCE,
    YOUTUBE_SIZE,
    Publisher,
    padded,
    with_a_new_key,
)

BERLIN = ZoneInfo("Europe/Berlin")
FORGOTTEN = {"data": {}, "error": {"code": "invalid_publish_id", "message": "unknown"}}


def observe(publisher: Publisher, day: date | None = None) -> Observation:
    apps: dict[str, Any] = {"youtube": publisher.youtube_app, "tiktok": publisher.tiktok_app}
    today = publisher.workshop.clock().astimezone(BERLIN).date()
    return observe_posts(publisher.workshop, apps, day or today, BERLIN)


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


@pytest.fixture
def named_and_nameless(publisher: Publisher, sandbox: SandboxUnderTest, video: bytes) -> Publisher:
    """Two public posts on TikTok, of which TikTok has named the first only."""
    publisher.to_tiktok(publisher.order("tiktok", video, privacy="PUBLIC_TO_EVERYONE"))
    post_without_a_name(publisher, sandbox, video, "acme--ffffffffffffffff")
    return publisher


def post_without_a_name(
    publisher: Publisher, sandbox: SandboxUnderTest, video: bytes, source: str
) -> Publication:
    unnamed = {"data": {"status": "PUBLISH_COMPLETE", "uploaded_bytes": len(video)}, "error": {"code": "ok"}}
    sandbox.fault("tiktok", path_regex="status/fetch", after=1, action="status", status=200, body=unnamed)
    order = publisher.order("tiktok", video, privacy="PUBLIC_TO_EVERYONE")
    posted = publisher.to_tiktok(replace(order, rendition=replace(order.rendition, source_id=source)))
    assert posted.publication.remote_id is None
    return posted.publication


def test_one_post_tiktok_has_forgotten_does_not_hide_the_channels_figures(
    named_and_nameless: Publisher, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault(
        "tiktok", path_regex="status/fetch", times=None, action="status", status=400, body=FORGOTTEN
    )
    seen = observe(named_and_nameless)
    assert [row["source_id"] for row in seen.rows] == [SOURCE]
    assert (seen.unseen, seen.forgotten, seen.problems) == (1, 1, [])


def test_a_post_whose_publish_id_is_lost_with_its_key_does_not_hide_the_channels_figures(
    named_and_nameless: Publisher,
) -> None:
    seen = observe(with_a_new_key(named_and_nameless, connected_again=True))
    assert [row["source_id"] for row in seen.rows] == [SOURCE]
    assert seen.forgotten == 1


def test_a_busy_tiktok_leaves_the_names_for_later_and_tells_the_figures(
    named_and_nameless: Publisher, sandbox: SandboxUnderTest
) -> None:
    body = {"data": {}, "error": {"code": "rate_limit_exceeded", "message": ""}}
    sandbox.fault("tiktok", path_regex="status/fetch", times=None, action="status", status=429, body=body)
    seen = observe(named_and_nameless)
    assert [row["source_id"] for row in seen.rows] == [SOURCE]
    assert (seen.unseen, seen.forgotten) == (1, 0)


def test_the_newest_nameless_posts_are_asked_for_and_those_of_last_week_no_more(
    publisher: Publisher, sandbox: SandboxUnderTest, video: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, older, new = (
        post_without_a_name(publisher, sandbox, video, f"acme--{number:016x}") for number in range(3)
    )
    with publisher.workshop.db.session() as session:
        for post, days in ((old, 6), (older, 8)):
            session.execute(
                sa.update(Publication)
                .where(Publication.id == post.id)
                .values(settled_at=utc_now() - timedelta(days=days))
            )
    monkeypatch.setattr("ettametta_pipelines.publishing.metrics.IDS_ASKED_PER_RUN", 1)
    # TikTok needs to be asked twice, as after a moderation that is not through yet.
    named = [{row["publication_id"] for row in observe(publisher).rows} for _ in range(6)]
    assert named == [set(), {new.id}, {new.id}, *[{new.id, old.id}] * 3]


@pytest.mark.parametrize(
    ("now", "day", "told"),
    [
        # 23:30 in Berlin, the day's own; 00:15 and 00:59, within the hour of grace; 01:01, over.
        (datetime(2026, 11, 22, 22, 30, tzinfo=UTC), date(2026, 11, 22), True),
        (datetime(2026, 11, 22, 23, 15, tzinfo=UTC), date(2026, 11, 23), True),
        (datetime(2026, 11, 22, 23, 59, tzinfo=UTC), date(2026, 11, 22), True),
        (datetime(2026, 11, 23, 0, 1, tzinfo=UTC), date(2026, 11, 22), False),
        (datetime(2026, 11, 23, 0, 1, tzinfo=UTC), date(2026, 11, 1), False),
    ],
)
def test_a_day_that_is_over_keeps_the_figures_read_on_it(
    new_publisher: Callable[[], Publisher], now: datetime, day: date, told: bool
) -> None:
    publisher = new_publisher().with_(clock=lambda: now)
    if told:
        assert observe(publisher, day) == Observation()
        return
    with pytest.raises(PermanentError) as failure:
        observe(publisher, day)
    assert failure.value.code == "day_is_over"
    assert "2026-11-23" in failure.value.remedy


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
