"""The vendor's daily figures of our posts: late, revised, and never overwritten."""

from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.automation.jobs import ANALYTICS_JOB
from ettametta_pipelines.clock import pacific_quota_day, utc_now
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.orchestration.resources import StoreResource, YouTubeResource
from ettametta_pipelines.publishing.analytics import REREAD_DAYS, Reading, newest_revisions, read_days
from ettametta_pipelines.publishing.connections import connect
from ettametta_pipelines.publishing.figures_contracts import PUBLICATION_ANALYTICS
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.tables import read_table
from ettametta_pipelines.vendors.youtube_analytics import YouTubeAnalytics
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.publishing.conftest import YOUTUBE_SIZE, Publisher, padded

TODAY = pacific_quota_day(utc_now())


@pytest.fixture
def posted(publisher: Publisher, video: bytes) -> Publisher:
    publisher.to_youtube(publisher.order("youtube", padded(video, YOUTUBE_SIZE), privacy="public"))
    return publisher


class Reader:
    """Reads one day of our posts, some days later, on the sandbox's clock and on ours alike."""

    def __init__(self, publisher: Publisher, sandbox: SandboxUnderTest) -> None:
        self.publisher = publisher
        self.sandbox = sandbox

    def later(self, days: float, known: list[dict[str, Any]] | None = None, day: date = TODAY) -> Reading:
        self.sandbox.clock.ahead = timedelta(days=days)
        token = self.publisher.with_(clock=self.sandbox.clock)
        return read_days(token.workshop, token.youtube_app, [day], known or [])


@pytest.fixture
def reader(posted: Publisher, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> Reader:
    # The token of an hour ago would be refreshed by the database's clock, which a test does not move.
    monkeypatch.setattr("ettametta_pipelines.sandbox.youtube_accounts.ACCESS_LIFETIME", timedelta(days=400))
    publisher = posted
    connect(
        publisher.workshop.db, publisher.youtube_app, "acme", "youtube", "sandbox-acme",
        envelope=publisher.workshop.envelope,
    )  # fmt: skip
    return Reader(publisher, sandbox)


def test_figures_come_days_late_and_nothing_is_made_up_before(reader: Reader) -> None:
    assert reader.later(0).rows == []
    told = reader.later(4)
    (row,) = told.rows
    assert (row["day"], row["revision"], row["is_final"]) == (TODAY, 1, False)
    assert row["views"] > 0
    assert told.lag_days(pacific_quota_day(row["as_of"])) == 4
    assert set(PUBLICATION_ANALYTICS.frame(told.rows)["platform"]) == {"youtube"}


def test_a_revision_stands_beside_what_was_told_before(reader: Reader) -> None:
    first = reader.later(4)
    second = reader.later(6, first.rows)
    assert (second.new, second.revised) == (0, 1)
    assert [row["revision"] for row in second.rows] == [1, 2]
    assert second.rows[0] == first.rows[0]
    assert second.rows[1]["views"] >= second.rows[0]["views"]
    assert newest_revisions(second.rows) == [second.rows[1]]
    settled = reader.later(12, second.rows)
    again = reader.later(14, settled.rows)
    assert again.rows == settled.rows


def test_figures_are_final_after_a_month(reader: Reader) -> None:
    rows = reader.later(12).rows
    final = reader.later(33, rows)
    assert [row["is_final"] for row in final.rows] == [False, True]
    assert final.revised == 0
    assert final.rows[0]["views"] == final.rows[1]["views"]


def test_a_day_before_the_post_costs_no_call(reader: Reader, sandbox: SandboxUnderTest) -> None:
    assert reader.later(4, day=TODAY - timedelta(days=3)).rows == []
    assert sandbox.count("youtube", "GET", "/v2/reports") == 0


def test_the_days_add_up_to_the_statistics_of_now(reader: Reader) -> None:
    rows: list[dict[str, Any]] = []
    for n in range(5):
        rows += reader.later(20, day=TODAY + timedelta(days=n)).rows
    reader.sandbox.clock.ahead = timedelta(days=20)
    token = rows[0]["remote_id"]
    (post,) = reader.publisher.youtube_app.channel(access(reader)).batch_get_stats([token])
    assert post.views is not None
    assert sum(row["views"] for row in rows) < post.views


def access(reader: Reader) -> str:
    from ettametta_pipelines.publishing.tokens import access_token

    work = reader.publisher.workshop
    return access_token(work.db, reader.publisher.youtube_app, "acme", "youtube", envelope=work.envelope)


def test_a_channel_that_does_not_answer_is_named_and_what_was_known_stays(
    reader: Reader, sandbox: SandboxUnderTest
) -> None:
    known = reader.later(4).rows
    body = {
        "error": {"code": 400, "message": "The query is not supported.", "errors": [{"reason": "badRequest"}]}
    }
    sandbox.fault("youtube", path_regex="/v2/reports", action="status", status=400, body=body)
    with pytest.raises(PermanentError, match="read figures of"):
        reader.later(6, known)


@pytest.mark.parametrize(
    "change",
    [
        {"metrics": "views,stars"},
        {"dimensions": "day"},
        {"sort": ""},
        {"startDate": "yesterday"},
        {"colour": "red"},
    ],
)
def test_the_sandbox_refuses_what_google_would(
    reader: Reader, change: dict[str, str], sandbox: SandboxUnderTest
) -> None:
    query = {
        "ids": "channel==MINE", "startDate": "2026-11-01", "endDate": "2026-11-01", "dimensions": "video",
        "metrics": "views", "filters": "video==x", "sort": "-views", "maxResults": "200",
    }  # fmt: skip
    headers = {"authorization": f"Bearer {access(reader)}"}
    assert sandbox.http.get("/youtube/v2/reports", params=query, headers=headers).json()["columnHeaders"]
    assert sandbox.http.get("/youtube/v2/reports", params=query | change, headers=headers).status_code == 400
    assert sandbox.http.get("/youtube/v2/reports", params=query).status_code in (401, 403)


def test_live_reports_are_asked_of_googles_own_host(settings_env: Settings) -> None:
    endpoint = settings_env.endpoint("google")
    live = type(endpoint)("google", "live", "https://youtube.googleapis.com/", "")
    assert (
        YouTubeAnalytics(live, "t")._google._endpoint.base_url == "https://youtubeanalytics.googleapis.com/"
    )


def test_the_morning_run_reads_every_day_that_may_still_change_in_one_run(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_state(settings_env) as database:
        connect(database, YouTubeResource().app(), "acme", "youtube", "sandbox-acme")
    definitions = build_definitions(settings_env)
    schedule = definitions.get_repository_def().get_schedule_def("daily_publication_analytics")
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_schedule_context(instance=instance, scheduled_execution_time=utc_now()) as context,
    ):
        (request,) = schedule.evaluate_tick(context).run_requests or []
        result = definitions.resolve_job_def(ANALYTICS_JOB).execute_in_process(
            instance=instance, tags=request.tags, raise_on_error=False
        )
    assert result.success
    events = result.asset_materializations_for_node("publication_analytics")
    assert len({event.partition for event in events}) == REREAD_DAYS
    stored = read_table(
        StoreResource().open(), PUBLICATION_ANALYTICS, (TODAY - timedelta(days=1)).isoformat()
    )
    assert len(stored) == 0
