"""What connected channels earn, asked of the sandbox over HTTP: late, final with the month, behind a consent."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import PACIFIC, business_day_bounds, pacific_quota_day, utc_now
from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.publishing.connections import connect
from ettametta_pipelines.publishing.earnings import EarningChannel, earning_channels
from ettametta_pipelines.revenue.youtube import (
    ESTIMATED,
    FINALISED,
    REST,
    RevenueRead,
    closes_at,
    newest,
    read_channel,
)
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.state.models import OAuthConnection
from ettametta_pipelines.vendors.youtube_analytics import MONETARY_SCOPE, YouTubeAnalytics
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.publishing.conftest import YOUTUBE_SIZE, Publisher, padded

READ_ONLY = "https://www.googleapis.com/auth/youtube.readonly"
TODAY = pacific_quota_day(utc_now())


@pytest.fixture
def posted(publisher: Publisher, video: bytes, monkeypatch: pytest.MonkeyPatch) -> Publisher:
    publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE), privacy="public"))
    # The token of an hour ago would be refreshed by the database's clock, which a test does not move.
    monkeypatch.setattr("ettametta_pipelines.sandbox.youtube_accounts.ACCESS_LIFETIME", timedelta(days=400))
    work = publisher.workshop
    connect(work.db, publisher.youtube_app, "acme", "youtube", "sandbox-acme", envelope=work.envelope)
    return publisher


def channel_of(publisher: Publisher) -> EarningChannel:
    work = publisher.workshop
    (channel,) = earning_channels(work.db, publisher.youtube_app, lambda: work.envelope)
    return channel


def read_at(publisher: Publisher, sandbox: SandboxUnderTest, at: datetime, known: RevenueRead) -> RevenueRead:
    sandbox.clock.ahead = at - utc_now()
    channel = channel_of(publisher)
    reports = YouTubeAnalytics(publisher.youtube_app.endpoint, channel.token())
    found = RevenueRead(rows=known.rows)
    days = [TODAY - timedelta(days=1), TODAY]
    read_channel(channel, reports, days, found, currency="USD", livemode=False, now=at)
    return found


def test_an_estimate_comes_late_and_is_final_and_lower_when_the_month_is_closed(
    posted: Publisher, sandbox: SandboxUnderTest
) -> None:
    end = business_day_bounds(TODAY, PACIFIC)[1]
    assert read_at(posted, sandbox, end + timedelta(days=1), RevenueRead()).rows == []
    early = read_at(posted, sandbox, end + timedelta(days=4), RevenueRead())
    (video, rest) = newest(early.rows)
    assert (video["source_id"], video["basis"], video["booked_minor"]) == (
        "acme--0123456789abcdef", ESTIMATED, 0,
    )  # fmt: skip
    assert video["amount_micro"] > 0
    assert video["amount_micro"] % 1000 == 0
    assert (rest["video_id"], rest["amount_micro"]) == (REST, 0)
    final = read_at(posted, sandbox, closes_at(TODAY), early)
    assert {row["basis"] for row in newest(final.rows)} == {FINALISED}
    # The day's late views are in it by now; what was taken out is the sandbox's 3 %.
    assert sum(row["valid_to"] is not None for row in final.rows) == 2
    again = read_at(posted, sandbox, closes_at(TODAY) + timedelta(days=9), final)
    assert (again.revised, again.reopened) == (0, [])


def test_without_the_consent_for_money_it_is_not_asked_and_would_be_refused(
    posted: Publisher, sandbox: SandboxUnderTest
) -> None:
    db = posted.workshop.db
    assert channel_of(posted).may_tell
    with db.session() as session:
        (row,) = session.scalars(sa.select(OAuthConnection).filter_by(platform="youtube"))
        row.scopes = row.scopes.replace(MONETARY_SCOPE, "")
    assert not channel_of(posted).may_tell
    store = SandboxStore(sandbox.home / "sandbox")
    for token, grant in store.items("youtube_access"):
        store.put("youtube_access", token, {**grant, "scopes": [READ_ONLY]})
    reports = YouTubeAnalytics(posted.youtube_app.endpoint, channel_of(posted).token())
    with pytest.raises(NeedsPersonError) as refused:
        reports.channel_revenue(TODAY, TODAY)
    assert refused.value.code == "permission_missing"
