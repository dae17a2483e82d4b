"""Our YouTube clients, on the unmodified SDK, against the sandbox over HTTP: reading, faults, what errors mean."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import (
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.vendors.youtube import (
    METHOD_BUCKETS,
    YouTubeApp,
    YouTubeChannel,
    YouTubeData,
    parse_duration,
    watch_url,
)
from ettametta_pipelines_tests.conftest import SandboxUnderTest

CANARY = "canary-of-a-secret-12345"
SEARCH = "/youtube/v3/search"
NOW_AGAIN = {"Retry-After": "0"}


@pytest.fixture
def youtube(settings_env: Settings) -> YouTubeData:
    return YouTubeData(settings_env.endpoint("youtube"))


@pytest.fixture
def app(sandbox: SandboxUnderTest, settings_env: Settings) -> YouTubeApp:
    return YouTubeApp(settings_env.endpoint("google"), token_url=f"{sandbox.url}/youtube/token")


@pytest.fixture
def channel(app: YouTubeApp) -> YouTubeChannel:
    return app.channel(app.exchange_code("sandbox-acme").access_token)


def search(youtube: YouTubeData, **options: Any) -> Any:
    now = utc_now()
    return youtube.search(
        "street food", published_after=now - timedelta(days=7), published_before=now, **options
    )


def google_error(reason: str, message: str = "No.", **extra: Any) -> dict[str, Any]:
    return {
        "error": {
            "code": 403,
            "message": message,
            "errors": [{"message": message, "domain": "x", "reason": reason}],
            **extra,
        }
    }


def test_a_search_gives_videos_of_the_window_with_instants_and_plain_text(youtube: YouTubeData) -> None:
    page = search(youtube, region="US", language="en", order="date")
    assert len(page.videos) == 50
    assert page.total >= 50
    dates = [video.published_at for video in page.videos]
    assert dates == sorted(dates, reverse=True)
    assert all(utc_now() - timedelta(days=7, minutes=1) <= date <= utc_now() for date in dates)
    titles = " ".join(video.title for video in page.videos)
    assert "&#39;" not in titles
    assert "&amp;" not in titles
    assert not page.videos[0].live


def test_pages_follow_each_other_without_overlap(youtube: YouTubeData) -> None:
    first = search(youtube, max_results=20)
    second = search(youtube, max_results=20, page_token=first.next_page_token)
    assert len(first.videos) == len(second.videos) == 20
    assert {v.video_id for v in first.videos}.isdisjoint(v.video_id for v in second.videos)


def test_statistics_come_in_the_order_asked_without_the_unknown(youtube: YouTubeData) -> None:
    ids = [video.video_id for video in search(youtube, max_results=10).videos]
    asked = [ids[5], "AAAAAAAAAAA", *ids[:5]]
    stats = youtube.batch_get_stats(asked)
    assert [s.video_id for s in stats] == [ids[5], *ids[:5]]
    assert all(isinstance(s.views, int) and s.duration_s and s.published_at for s in stats)


def test_hidden_counters_are_unknown_and_not_zero(youtube: YouTubeData) -> None:
    ids = [v.video_id for v in search(youtube).videos]
    ids += [v.video_id for v in search(youtube, order="date").videos]
    stats = [s for start in (0, 50) for s in youtube.batch_get_stats(ids[start : start + 50])]
    assert any(s.likes is None or s.comments is None for s in stats)
    assert all(s.views is not None for s in stats)


def test_a_channels_uploads_and_their_statistics_make_a_baseline(youtube: YouTubeData) -> None:
    found = search(youtube, max_results=1).videos[0]
    described = youtube.channels([found.channel_id])[0]
    assert described.title == found.channel_title
    assert described.uploads_playlist is not None
    uploads = youtube.uploads(described.uploads_playlist)
    assert len(uploads) == 50
    assert found.video_id in {u.video_id for u in uploads}
    assert len(youtube.batch_get_stats([u.video_id for u in uploads])) == 50


def test_the_chart_comes_with_statistics(youtube: YouTubeData) -> None:
    chart = youtube.most_popular(region="DE", max_results=5)
    views = [entry.stats.views or 0 for entry in chart]
    assert len(chart) == 5
    assert views == sorted(views, reverse=True)


def test_more_than_fifty_ids_are_a_mistake_of_the_caller(youtube: YouTubeData) -> None:
    with pytest.raises(ValueError, match="50"):
        youtube.batch_get_stats([f"v{n}" for n in range(51)])
    with pytest.raises(ValueError, match="50"):
        youtube.channels([])


def test_the_channel_client_knows_who_it_is(channel: YouTubeChannel) -> None:
    channel_id, title, playlist = channel.identity()
    assert (channel_id[:2], title, playlist) == ("UC", "Acme", "UU" + channel_id[2:])
    assert channel.recent_uploads(playlist, 10) == []


def test_neither_default_credentials_nor_the_network_are_asked(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_credentials(*_: object, **__: object) -> None:
        raise AssertionError("default credentials were asked for")

    monkeypatch.setattr("google.auth.default", no_credentials)
    monkeypatch.setattr("googleapiclient.discovery._retrieve_discovery_doc", no_credentials)
    assert search(YouTubeData(settings_env.endpoint("youtube"))).videos


def test_a_proxy_in_the_environment_is_not_used_for_the_sandbox(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    assert search(YouTubeData(settings_env.endpoint("youtube"))).videos


def test_importing_the_clients_imports_no_sdk() -> None:
    program = """
import sys
import ettametta_pipelines.vendors.gemini, ettametta_pipelines.vendors.youtube
heavy = {"googleapiclient", "google.auth", "google.genai", "httplib2", "httpx", "httpx2", "requests", "fastapi"}
print(*sorted(heavy & set(sys.modules)))
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.split() == []


def test_every_method_says_what_it_costs() -> None:
    for cls in (YouTubeData, YouTubeChannel):
        calls = {name for name in vars(cls) if not name.startswith("_")} - {"watch_url", "without_retries"}
        free = {"query_session", "put_range"}
        assert calls - free <= set(METHOD_BUCKETS)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT15S", 15),
        ("PT1M3S", 63),
        ("PT2H", 7200),
        ("P1DT1S", 86_401),
        ("P0D", 0),
        ("P1W", 604_800),
        ("PT0S", 0),
    ],
)
def test_durations_are_read(text: str, seconds: int) -> None:
    assert parse_duration(text) == seconds


def test_something_else_is_no_duration() -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration("1:03")


def test_the_watch_page_is_youtubes_when_live_and_the_sandboxs_otherwise(settings_env: Settings) -> None:
    endpoint = settings_env.endpoint("youtube")
    assert watch_url(endpoint, "abc") == f"{endpoint.base_url}watch?v=abc"
    assert watch_url(replace(endpoint, mode="live"), "abc") == "https://www.youtube.com/watch?v=abc"


# Faults


def test_two_503_are_ridden_out(sandbox: SandboxUnderTest, youtube: YouTubeData) -> None:
    sandbox.fault("youtube", path_regex=SEARCH, times=2, status=503, headers=NOW_AGAIN)
    assert search(youtube).videos
    assert sandbox.count("youtube", "GET", SEARCH) == 3


def test_503_again_and_again_is_transient(sandbox: SandboxUnderTest, youtube: YouTubeData) -> None:
    sandbox.fault("youtube", path_regex=SEARCH, times=None, status=503, headers=NOW_AGAIN)
    with pytest.raises(TransientError) as caught:
        search(youtube)
    assert caught.value.code == "youtube_unavailable"


@pytest.mark.parametrize("action", ["drop_before", "drop_after"])
def test_a_read_whose_answer_was_dropped_is_read_again(
    sandbox: SandboxUnderTest, youtube: YouTubeData, action: str
) -> None:
    sandbox.fault("youtube", path_regex=SEARCH, action=action)
    assert search(youtube).videos
    assert sandbox.count("youtube", "GET", SEARCH) == 2


def test_an_answer_later_than_the_timeout_is_transient(
    sandbox: SandboxUnderTest, settings_env: Settings
) -> None:
    sandbox.fault("youtube", action="delay", delay_s=30, times=None)
    endpoint = replace(settings_env.endpoint("youtube"), timeout_s=0.2, max_retries=0)
    with pytest.raises(TransientError) as caught:
        search(YouTubeData(endpoint))
    assert caught.value.code == "vendor_timeout"
    assert not isinstance(caught.value, OutcomeUnknownError)


def test_an_error_page_that_is_no_json_still_has_a_meaning(
    sandbox: SandboxUnderTest, youtube: YouTubeData
) -> None:
    sandbox.fault(
        "youtube",
        times=None,
        status=502,
        body="<html>Bad gateway token ya29.abcdef</html>",
        headers=NOW_AGAIN,
    )
    with pytest.raises(TransientError) as caught:
        search(youtube)
    assert "ya29" not in str(caught.value)


def test_a_spent_quota_waits_until_midnight_pacific(
    sandbox: SandboxUnderTest, settings_env: Settings
) -> None:
    sandbox.fault("youtube", status=403, body=google_error("quotaExceeded"))
    hour_before_midnight = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)
    youtube = YouTubeData(settings_env.endpoint("youtube"), clock=lambda: hour_before_midnight)
    with pytest.raises(TransientError) as caught:
        search(youtube)
    assert (caught.value.code, caught.value.retry_after_s) == ("quota_exhausted", 3600.0)
    assert sandbox.count("youtube", "GET", SEARCH) == 1


def test_a_daily_limit_named_only_in_the_details_is_a_spent_quota(
    sandbox: SandboxUnderTest, youtube: YouTubeData
) -> None:
    detail = {
        "@type": "x",
        "reason": "RATE_LIMIT_EXCEEDED",
        "metadata": {"quota_limit": "SearchPerDayPerProject"},
    }
    sandbox.fault("youtube", status=429, body=google_error("rateLimitExceeded", details=[detail]))
    with pytest.raises(TransientError) as caught:
        search(youtube)
    assert caught.value.code == "quota_exhausted"
    assert (caught.value.retry_after_s or 0) > 0


@pytest.mark.parametrize(
    ("status", "reason", "kind", "code", "wait"),
    [
        (403, "rateLimitExceeded", TransientError, "rate_limited", 0.0),
        (403, "userRateLimitExceeded", TransientError, "rate_limited", 0.0),
        (400, "uploadLimitExceeded", TransientError, "upload_limit_reached", 0.0),
        (500, "backendError", TransientError, "youtube_unavailable", 0.0),
        (401, "authError", NeedsPersonError, "access_token_rejected", 0.0),
        (403, "insufficientPermissions", NeedsPersonError, "permission_missing", 0.0),
        (401, "youtubeSignupRequired", NeedsPersonError, "channel_unusable", 0.0),
        (403, "accessNotConfigured", NeedsPersonError, "api_key_rejected", 0.0),
        (400, "invalidTitle", PermanentError, "invalid_title", 0.0),
        (400, "invalidTags", PermanentError, "invalid_tags", 0.0),
        (403, "forbidden", PermanentError, "youtube_forbidden", 0.0),
        (404, "videoNotFound", PermanentError, "youtube_not_found", 0.0),
    ],
)
def test_googles_reason_decides_what_a_refusal_means(
    sandbox: SandboxUnderTest,
    youtube: YouTubeData,
    status: int,
    reason: str,
    kind: type[PipelineError],
    code: str,
    wait: float,
) -> None:
    sandbox.fault("youtube", times=None, status=status, body=google_error(reason), headers=NOW_AGAIN)
    with pytest.raises(PipelineError) as caught:
        search(youtube)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert caught.value.remedy
    if kind is TransientError:
        assert caught.value.retry_after_s == wait


def test_a_reached_upload_limit_waits_a_day(sandbox: SandboxUnderTest, youtube: YouTubeData) -> None:
    sandbox.fault("youtube", status=400, body=google_error("uploadLimitExceeded"))
    with pytest.raises(TransientError) as caught:
        search(youtube)
    assert caught.value.retry_after_s == 86_400


def test_details_do_not_hide_the_reason(sandbox: SandboxUnderTest, youtube: YouTubeData) -> None:
    body = google_error("quotaExceeded", details=[{"@type": "x", "reason": "SOMETHING_ELSE"}])
    sandbox.fault("youtube", status=403, body=body)
    with pytest.raises(TransientError, match="quotaExceeded"):
        search(youtube)


def test_an_expired_token_asks_for_a_refresh_and_not_for_a_retry(
    sandbox: SandboxUnderTest, app: YouTubeApp
) -> None:
    tokens = app.exchange_code("sandbox-acme")
    sandbox.advance(hours=2)
    with pytest.raises(NeedsPersonError) as caught:
        app.channel(tokens.access_token).identity()
    assert caught.value.code == "access_token_rejected"
    assert tokens.refresh_token is not None
    assert app.channel(app.refresh(tokens.refresh_token).access_token).identity()[1] == "Acme"


def test_consent_gives_tokens_with_scopes_and_a_refresh_keeps_the_old_refresh_token(app: YouTubeApp) -> None:
    tokens = app.exchange_code("sandbox-acme", redirect_uri="http://127.0.0.1:8000/oauth/youtube")
    assert "https://www.googleapis.com/auth/youtube.upload" in tokens.scopes
    assert tokens.expires_in_s == 3599
    assert tokens.refresh_token is not None
    assert app.refresh(tokens.refresh_token).refresh_token is None


def test_an_ended_consent_needs_a_person_and_names_the_command(app: YouTubeApp) -> None:
    for call in (lambda: app.refresh("1//gone"), lambda: app.exchange_code("nonsense")):
        with pytest.raises(NeedsPersonError) as caught:
            call()
        assert caught.value.code == "invalid_grant"
        assert "ettametta connect" in caught.value.remedy


def test_a_refresh_is_tried_again_and_a_consent_code_is_not(
    sandbox: SandboxUnderTest, app: YouTubeApp
) -> None:
    sandbox.fault("youtube", method="POST", action="drop_after")
    with pytest.raises(OutcomeUnknownError):
        app.exchange_code("sandbox-acme")
    tokens = app.exchange_code("sandbox-acme")
    assert tokens.refresh_token is not None
    sandbox.fault("youtube", method="POST", action="drop_after")
    assert app.refresh(tokens.refresh_token).access_token


def test_a_wrong_oauth_client_needs_a_person(sandbox: SandboxUnderTest, app: YouTubeApp) -> None:
    sandbox.fault("youtube", method="POST", status=401, body={"error": "invalid_client"})
    with pytest.raises(NeedsPersonError) as caught:
        app.refresh("1//x")
    assert caught.value.code == "google_client_rejected"


def test_a_token_answer_that_is_no_json_is_transient(sandbox: SandboxUnderTest, app: YouTubeApp) -> None:
    sandbox.fault("youtube", method="POST", status=200, body="<html>", times=None)
    with pytest.raises(TransientError) as caught:
        app.exchange_code("sandbox-acme")
    assert caught.value.code == "google_answer_unreadable"


def test_no_secret_appears_in_any_failure(
    sandbox: SandboxUnderTest, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        name: SecretStr(CANARY) for name in ("youtube_api_key", "google_client_id", "google_client_secret")
    }

    def endpoint(name: str, url: str) -> VendorEndpoint:
        return VendorEndpoint(name, "live", url, "test", secrets, timeout_s=2, max_retries=0)

    url = f"{sandbox.url}/youtube/"
    nowhere = "http://127.0.0.1:9/"
    data = YouTubeData(endpoint("youtube", url))
    app = YouTubeApp(endpoint("google", url), f"{url}token")
    lost = YouTubeApp(endpoint("google", nowhere), f"{nowhere}token")
    channel = app.channel(CANARY)
    session = f"{url}upload/youtube/v3/videos?upload_id={CANARY}"
    echo = google_error(
        "forbidden", f"No: key={CANARY} Bearer {CANARY} {session} {json.dumps({'access_token': CANARY})}"
    )
    calls: list[Callable[[], object]] = [
        lambda: search(data),
        lambda: search(YouTubeData(endpoint("youtube", nowhere))),
        channel.identity,
        lambda: channel.put_range(session, b"x", 0, 1),
        lambda: channel.query_session(session, 1),
        lambda: app.refresh(CANARY),
        lambda: app.exchange_code(CANARY),
        lambda: lost.refresh(CANARY),
        lambda: lost.channel(CANARY).put_range(f"{nowhere}upload?upload_id={CANARY}", b"x", 0, 1),
    ]
    for fault in (
        {"status": 403, "body": echo},
        {"status": 500, "body": f"key={CANARY}"},
        {"action": "drop_after"},
    ):
        sandbox.clear_faults()
        sandbox.fault("youtube", times=None, **fault)  # type: ignore[arg-type]
        for call in calls:
            with pytest.raises(PipelineError) as caught:
                call()
            assert CANARY not in f"{caught.value}{caught.value!r}{caught.value.__cause__!r}"
    assert CANARY not in repr((data.endpoint, app.endpoint))
    assert CANARY not in str(sandbox.requests())


def test_an_answer_that_is_no_json_is_transient_and_read_again(
    sandbox: SandboxUnderTest, youtube: YouTubeData
) -> None:
    sandbox.fault("youtube", path_regex=SEARCH, status=200, body="<html>One moment</html>")
    assert search(youtube).videos
    sandbox.fault("youtube", path_regex=SEARCH, status=200, body="<html>One moment</html>", times=None)
    with pytest.raises(TransientError) as caught:
        search(youtube.without_retries())
    assert caught.value.code == "youtube_answer_unreadable"
