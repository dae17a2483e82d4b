"""Collecting a niche's YouTube candidates, over the sandbox."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial
from itertools import pairwise
from math import ceil
from time import monotonic, sleep
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import business_day_bounds, pacific_quota_day, utc_now
from ettametta_pipelines.discovery import youtube_collector
from ettametta_pipelines.discovery.contracts import YOUTUBE_CANDIDATES
from ettametta_pipelines.discovery.metered_youtube import MeteredYouTube
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.quota_plan import PlannedSearch, possible_searches
from ettametta_pipelines.discovery.search_desk import SearchDesk, SearchPolicy
from ettametta_pipelines.discovery.trends import rank_trends
from ettametta_pipelines.discovery.window import Window, publication_window
from ettametta_pipelines.discovery.youtube_collector import (
    CollectionLimits,
    YouTubeCollection,
    YouTubeCollector,
)
from ettametta_pipelines.failures import NeedsPersonError, PermanentError, TransientError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import searches
from ettametta_pipelines.state.models import ChannelUploads, SearchMade
from ettametta_pipelines.state.quota import QuotaExhausted, usage
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.youtube import SearchPage, YouTubeData
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.discovery.conftest import LeaveQuota

SMALL = CollectionLimits(baseline_channels=4, baseline_uploads=10)


def niche(**changes: Any) -> Niche:
    fields = {
        "slug": "fitness",
        "title": "Fitness",
        "queries": ("home workout", "mobility"),
        "regions": ("US",),
    }
    return Niche(**{**fields, **changes})


def collect(
    settings: Settings,
    state: StateDatabase,
    wanted: Niche,
    *,
    days_ago: int = 0,
    limits: CollectionLimits = SMALL,
) -> YouTubeCollection:
    day = utc_now().date() - timedelta(days=days_ago)
    window = publication_window(day, settings.timezone, utc_now())
    desk = SearchDesk(state, {wanted.slug: wanted}, clock=utc_now)
    with metered(settings, state) as youtube:
        return YouTubeCollector(youtube, wanted, window, clock=utc_now, limits=limits, desk=desk).collect(day)


def used(state: StateDatabase) -> dict[str, tuple[int, int]]:
    rows = usage(state, pacific_quota_day(utc_now()))
    return {row.bucket: (row.used, row.reserved) for row in rows if row.vendor == "youtube"}


def test_candidates_are_of_the_window_with_statistics_as_of_now(
    settings_env: Settings, state: StateDatabase
) -> None:
    before = utc_now()
    found = collect(settings_env, state, niche())
    frame = YOUTUBE_CANDIDATES.frame(found.rows)
    assert len(frame) > 10
    assert (frame["published_at"] >= before - timedelta(hours=24)).all()
    assert (frame["observed_at"] >= before).all()
    assert frame["views"].notna().all()
    assert frame["url"].str.contains("/watch?v=", regex=False).all()
    assert not frame["title"].str.contains("&#39;|&amp;").any()


def test_a_backfilled_day_has_that_days_videos_and_says_when_they_were_seen(
    settings_env: Settings, state: StateDatabase
) -> None:
    found = collect(settings_env, state, niche(), days_ago=20)
    frame = YOUTUBE_CANDIDATES.frame(found.rows)
    past = utc_now().date() - timedelta(days=20)
    assert {stamp.astimezone(UTC).date() for stamp in frame["published_at"]} == {past}
    assert (frame["observed_at"] > utc_now() - timedelta(minutes=5)).all()


def test_statistics_are_read_in_fifties_and_each_channels_uploads_once(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    found = collect(settings_env, state, niche())
    assert sandbox.count("youtube", "GET", "/playlistItems") == 4
    assert sandbox.count("youtube", "GET", "/channels") == 0
    earlier = sum(row["baseline_uploads"] for row in found.rows)
    assert earlier > 30
    assert sandbox.count("youtube", "GET", ":batchGetStats") == 2


def test_where_no_channel_has_to_be_chosen_candidates_and_earlier_uploads_share_calls(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    found = collect(settings_env, state, niche(), limits=CollectionLimits(baseline_uploads=10))
    channels = {row["channel_id"] for row in found.rows}
    assert sandbox.count("youtube", "GET", "/playlistItems") == len(channels)
    listed = {row["video_id"] for row in found.rows}
    with state.session(write=False) as session:
        for kept in session.scalars(sa.select(ChannelUploads)):
            listed |= {video_id for video_id, _, _ in kept.uploads}
    assert sandbox.count("youtube", "GET", ":batchGetStats") == ceil(len(listed) / 50)


def test_what_channels_usually_reach_is_shared_between_niches_and_days_until_it_is_old(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    first = collect(settings_env, state, niche(), limits=CollectionLimits())
    units = used(state)["units"][0]
    again = collect(settings_env, state, niche(slug="gym"), limits=CollectionLimits())
    assert again.baselines_reused == units == len({row["channel_id"] for row in first.rows})
    assert used(state)["units"][0] == units
    usual = {row["video_id"]: row["baseline_views"] for row in first.rows}
    assert {r["video_id"]: r["baseline_views"] for r in again.rows} == pytest.approx(usual, rel=1e-6)
    collect(settings_env, state, niche(slug="old"), limits=CollectionLimits(baseline_days=0))
    assert used(state)["units"][0] == 2 * units


def test_the_fastest_candidates_channels_get_a_baseline_and_the_rest_is_named(
    settings_env: Settings, state: StateDatabase
) -> None:
    found = collect(settings_env, state, niche())
    with_baseline = [row for row in found.rows if row["baseline_views"] is not None]
    assert 1 <= len({row["channel_id"] for row in with_baseline}) <= 4
    without = [row for row in found.rows if row["baseline_uploads"] == 0]
    assert without
    assert all(row["baseline_views"] is None for row in without)
    assert any("slowest channels (over the limit)" in sentence for sentence in found.left_out)


def test_every_call_is_paid_from_the_shared_quota_and_nothing_stays_reserved(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    found = collect(settings_env, state, niche())
    spent = used(state)
    assert {bucket: amount for bucket, (amount, _) in spent.items() if amount} == dict(found.quota_used)
    assert all(reserved == 0 for _, reserved in spent.values())
    assert sum(found.quota_used.values()) == len(sandbox.requests("youtube"))


def test_a_spent_search_bucket_keeps_what_was_found_and_names_the_rest(
    settings_env: Settings, state: StateDatabase, leave_quota: LeaveQuota
) -> None:
    leave_quota("search", 1)
    found = collect(settings_env, state, niche())
    assert (found.searches_made, found.searches_planned) == (1, 2)
    assert found.rows
    assert "1 of 2 searches: query: mobility (US) (quota spent; parked for tomorrow)" in found.left_out


def test_no_search_left_at_all_is_worth_another_try_after_the_reset(
    settings_env: Settings, state: StateDatabase, leave_quota: LeaveQuota, sandbox: SandboxUnderTest
) -> None:
    leave_quota("search", 0)
    with pytest.raises(QuotaExhausted) as spent:
        collect(settings_env, state, niche())
    assert 0 < (spent.value.retry_after_s or 0) <= 25 * 3600
    assert sandbox.requests("youtube") == []


def test_without_statistics_quota_candidates_are_kept_with_unknown_views(
    settings_env: Settings, state: StateDatabase, leave_quota: LeaveQuota
) -> None:
    leave_quota("batch_get_stats", 0)
    found = collect(settings_env, state, niche())
    assert found.rows
    assert found.vanished == 0
    assert all(row["views"] is None and row["baseline_views"] is None for row in found.rows)
    assert any("statistics of" in sentence and "(quota spent)" in sentence for sentence in found.left_out)


def test_without_units_there_are_candidates_without_baselines(
    settings_env: Settings, state: StateDatabase, leave_quota: LeaveQuota
) -> None:
    leave_quota("units", 0)
    found = collect(settings_env, state, niche())
    assert all(row["views"] is not None and row["baseline_views"] is None for row in found.rows)
    assert "baselines of 4 channels (quota spent)" in found.left_out


def test_google_saying_the_quota_is_spent_counts_as_spent(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    body = {
        "error": {"code": 403, "message": "Quota.", "errors": [{"reason": "quotaExceeded", "domain": "q"}]}
    }
    sandbox.fault("youtube", path_regex="/search", after=1, status=403, body=body)
    found = collect(settings_env, state, niche())
    assert found.searches_made == 1
    assert found.rows
    assert any("YouTube says that it is spent today" in sentence for sentence in found.left_out)
    # Google charges for refusals too.
    assert used(state)["search"] == (2, 0)
    asked = sandbox.count("youtube", "GET", "/search")
    with pytest.raises(QuotaExhausted, match="YouTube said at"):
        collect(settings_env, state, niche(slug="gym"))
    assert sandbox.count("youtube", "GET", "/search") == asked


def test_watched_channels_cost_no_search_and_carry_on_without_any(
    settings_env: Settings, state: StateDatabase, leave_quota: LeaveQuota
) -> None:
    posting = collect(settings_env, state, niche(slug="elsewhere")).rows[0]["channel_id"]
    leave_quota("search", 0)
    found = collect(settings_env, state, niche(watch_channels=(posting,)))
    assert {row["channel_id"] for row in found.rows} == {posting}
    assert all(row["found_by"] == [f"channel: {posting}"] for row in found.rows)
    assert all(row["thumbnail_url"] and row["channel_title"] for row in found.rows)
    assert found.rows[0]["baseline_views"] is not None


def test_videos_that_vanish_between_search_and_statistics_are_counted_and_left_out(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("youtube", path_regex=":batchGetStats", status=200, body={"items": []})
    found = collect(settings_env, state, niche())
    assert found.rows == []
    assert found.vanished > 10


def test_a_channel_closed_in_the_meantime_only_loses_its_baseline(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    body = {
        "error": {"code": 404, "message": "Gone.", "errors": [{"reason": "playlistNotFound", "domain": "y"}]}
    }
    sandbox.fault("youtube", path_regex="/playlistItems", status=404, body=body)
    found = collect(settings_env, state, niche())
    assert len({row["channel_id"] for row in found.rows if row["baseline_views"] is not None}) == 3


def test_a_revoked_key_is_raised_for_a_person_and_leaves_no_reservation(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    body = {"error": {"code": 400, "message": "API key not valid.", "errors": [{"reason": "keyInvalid"}]}}
    sandbox.fault("youtube", path_regex="/search", times=None, status=400, body=body)
    with pytest.raises(NeedsPersonError):
        collect(settings_env, state, niche())
    asked = sandbox.count("youtube", "GET", SEARCH)
    assert asked in (1, 2)  # the second search is on its way, or it is not sent any more
    assert used(state)["search"] == (asked, 0)


def test_a_request_that_never_left_costs_nothing(settings_env: Settings, state: StateDatabase) -> None:
    away = settings_env.model_copy(update={"sandbox_port": 9})
    with pytest.raises(TransientError):
        collect(away, state, niche())
    assert used(state)["search"] == (0, 0)


SEARCH = "/youtube/v3/search"


def metered(settings: Settings, state: StateDatabase) -> MeteredYouTube:
    endpoint = replace(settings.endpoint("youtube"), timeout_s=2.0)
    return MeteredYouTube(YouTubeData(endpoint), state, utc_now)


GONE = "UU" + "x" * 22


def test_every_attempt_is_booked_and_not_only_the_one_that_was_answered(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("youtube", path_regex=SEARCH, times=2, status=503, headers={"Retry-After": "0"})
    youtube = metered(settings_env, state)
    window = publication_window(utc_now().date(), settings_env.timezone, utc_now())
    planned = possible_searches(niche())[0]
    assert youtube.search(planned, window).videos
    assert sandbox.count("youtube", "GET", SEARCH) == 3
    assert used(state)["search"] == (3, 0)
    assert youtube.used["search"] == 3


def test_a_retry_that_the_quota_does_not_cover_is_not_sent(
    settings_env: Settings, state: StateDatabase, leave_quota: LeaveQuota, sandbox: SandboxUnderTest
) -> None:
    leave_quota("units", 1)
    sandbox.fault("youtube", times=None, status=503, headers={"Retry-After": "0"})
    with pytest.raises(QuotaExhausted):
        metered(settings_env, state).uploads(GONE, 5)
    assert len(sandbox.requests("youtube")) == 1


@pytest.mark.parametrize("interruption", [KeyError("id"), KeyboardInterrupt()], ids=["defect", "cancelled"])
def test_a_call_that_ends_unexpectedly_counts_as_charged_and_leaves_no_reservation(
    settings_env: Settings,
    state: StateDatabase,
    monkeypatch: pytest.MonkeyPatch,
    interruption: BaseException,
) -> None:
    def break_off(*_: object) -> None:
        raise interruption

    monkeypatch.setattr(YouTubeData, "uploads", break_off)
    with pytest.raises(type(interruption)):
        metered(settings_env, state).uploads(GONE, 5)
    assert used(state)["units"] == (1, 0)


def test_a_dropped_answer_counts_as_charged(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("youtube", action="drop_after")
    with pytest.raises(PermanentError):
        metered(settings_env, state).uploads(GONE, 5)
    assert len(sandbox.requests("youtube")) == 2
    assert used(state)["units"] == (2, 0)


ONCE = {"headers": {"Retry-After": "0"}}
PASSING = {
    "429": {"status": 429, **ONCE},
    "500": {"status": 500, **ONCE},
    "503 twice": {"status": 503, "times": 2, **ONCE},
    "half an answer": {"status": 200, "body": '{"kind": "youtube#searchListResponse", "items": [{"id"'},
    "closed without an answer": {"action": "drop_before"},
    "too slow": {"action": "delay", "delay_s": 2.5},
}


@pytest.mark.parametrize("path", ["/search", ":batchGetStats"])
@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_passing_trouble_costs_what_was_sent_and_changes_nothing(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest, path: str, fault: dict[str, Any]
) -> None:
    sandbox.fault("youtube", path_regex=path, **fault)
    found = collect(settings_env, state, niche(queries=("yoga",)))
    assert all(row["views"] is not None for row in found.rows)
    assert len({row["channel_id"] for row in found.rows if row["baseline_views"] is not None}) == 4
    spent = used(state)
    # The sandbox writes a request down when it ends, one that was given up too.
    deadline = monotonic() + 10
    sent = sum(amount for amount, _ in spent.values())
    while len(sandbox.requests("youtube")) < sent and monotonic() < deadline:
        sleep(0.05)
    assert sent == len(sandbox.requests("youtube"))
    assert all(reserved == 0 for _, reserved in spent.values())


@pytest.mark.parametrize("path", ["/search", "/playlistItems", ":batchGetStats"])
def test_a_lasting_trouble_ends_the_run_with_everything_booked_and_nothing_held(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest, path: str
) -> None:
    sandbox.fault("youtube", path_regex=path, times=None, status=500, headers={"Retry-After": "0"})
    with pytest.raises(TransientError, match="HTTP 500"):
        collect(settings_env, state, niche())
    spent = used(state)
    assert sum(amount for amount, _ in spent.values()) == len(sandbox.requests("youtube"))
    assert all(reserved == 0 for _, reserved in spent.values())


@pytest.mark.parametrize(
    ("path", "bucket"), [("/playlistItems", "units"), (":batchGetStats", "batch_get_stats")]
)
def test_a_bucket_somebody_else_has_spent_is_closed_for_everybody_and_said(
    settings_env: Settings, state: StateDatabase, sandbox: SandboxUnderTest, path: str, bucket: str
) -> None:
    body = {"error": {"code": 403, "message": "Quota.", "errors": [{"reason": "quotaExceeded"}]}}
    sandbox.fault("youtube", path_regex=path, times=None, status=403, body=body)
    found = collect(settings_env, state, niche())
    assert found.rows
    assert any(f"{bucket} quota: YouTube says that it is spent today" in line for line in found.left_out)
    asked = sandbox.count("youtube", "GET", path)
    collect(settings_env, state, niche(slug="gym"))
    assert sandbox.count("youtube", "GET", path) == asked
    (closed,) = [row for row in usage(state, pacific_quota_day(utc_now())) if row.closed_at]
    assert (closed.bucket, closed.left) == (bucket, 0)


def test_a_day_in_the_past_is_searched_whole_or_not_at_all(
    settings_env: Settings, state: StateDatabase, leave_quota: LeaveQuota, sandbox: SandboxUnderTest
) -> None:
    leave_quota("search", 13)
    with pytest.raises(QuotaExhausted, match="this day is a backfill"):
        collect(settings_env, state, niche(), days_ago=30)
    assert sandbox.requests("youtube") == []
    leave_quota("search", 14)
    assert collect(settings_env, state, niche(), days_ago=30).searches_made == 2


def test_a_search_missed_last_night_is_made_up_for_back_to_its_day(
    settings_env: Settings, state: StateDatabase, leave_quota: LeaveQuota
) -> None:
    leave_quota("search", 1)
    collect(settings_env, state, niche(), days_ago=1)
    leave_quota("search", 100)
    found = collect(settings_env, state, niche())
    missed = [row for row in found.rows if "query: mobility (US)" in row["found_by"]]
    yesterday = utc_now() - timedelta(hours=24)
    assert min(row["published_at"] for row in missed) < yesterday
    others = [row for row in found.rows if row not in missed]
    # None in the first hours of a day, when the other search's window has hardly begun.
    assert all(row["published_at"] >= yesterday for row in others)


def test_running_again_without_quota_does_not_put_less_in_place_of_what_is_stored(
    settings_env: Settings, state: StateDatabase, leave_quota: LeaveQuota, sandbox: SandboxUnderTest
) -> None:
    channel = collect(settings_env, state, niche()).rows[0]["channel_id"]
    leave_quota("search", 1)
    before = len(sandbox.requests("youtube"))
    with pytest.raises(QuotaExhausted, match="2 searches"):
        collect(settings_env, state, niche(watch_channels=(channel,)))
    assert len(sandbox.requests("youtube")) == before


def test_a_parked_search_reaches_back_over_a_day_of_25_hours(
    settings_env: Settings, state: StateDatabase
) -> None:
    # Berlin's clocks go back in the night to 2026-10-25.
    berlin, now = ZoneInfo("Europe/Berlin"), datetime(2026, 10, 27, 1, 0, tzinfo=UTC)
    seen: list[Window] = []

    class Youtube(MeteredYouTube):
        def search(self, planned: PlannedSearch, window: Window) -> SearchPage:
            seen.append(window)
            return SearchPage((), None, 0)

    with state.session() as session:
        searches.park(session, "fitness", date(2026, 10, 25), [("mobility", "US", "")], date(2026, 10, 25))
    day = date(2026, 10, 26)
    policy = SearchPolicy(timezone=berlin)
    desk = SearchDesk(state, {"fitness": niche()}, clock=lambda: now, policy=policy)
    client = YouTubeData(settings_env.endpoint("youtube"))
    with Youtube(client, state, lambda: now, side_by_side=1) as youtube:
        window = publication_window(day, berlin, now)
        YouTubeCollector(youtube, niche(), window, clock=lambda: now, desk=desk).collect(day)
    reached, usual = seen
    assert reached == Window(business_day_bounds(date(2026, 10, 25), berlin)[0], window.end)
    assert usual == window


COLUMNS = ("outlier_ratio", "unshrunk_outlier_ratio")


def above_bar(rows: list[dict[str, Any]], bar: float) -> tuple[int, int]:
    """How many videos pass the bar by the ratio that ranks, and by the plain one."""
    shrunk, plain = (sum((row[column] or 0) >= bar for row in rows) for column in COLUMNS)
    return shrunk, plain


def telling_bars(rows: list[dict[str, Any]]) -> Iterator[float]:
    """Bars which not as many videos pass by one ratio as by the other."""
    known = [row for row in rank_trends(rows).rows if row["outlier_ratio"] is not None]
    ratios = sorted(row[column] for row in known for column in COLUMNS)
    for below, above in pairwise(ratios):
        bar = (below + above) / 2
        shrunk, plain = above_bar(known, bar)
        if above / below > 1.001 and shrunk != plain:
            yield bar


def test_a_search_is_judged_by_the_ratio_that_ranks_and_not_by_the_plain_one(
    settings_env: Settings, state: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits = CollectionLimits(baseline_channels=50, baseline_uploads=1)
    # Not every day has a bar that tells the two ratios apart, though baselines of one upload leave much to shrink.
    days_ago, bar = next(
        (days_ago, bar)
        for days_ago in range(1, 15)
        for bar in telling_bars(
            collect(settings_env, state, niche(slug="elsewhere"), limits=limits, days_ago=days_ago).rows
        )
    )
    monkeypatch.setattr(youtube_collector, "OUTLIER_RATIO", bar)
    rows = rank_trends(collect(settings_env, state, niche(), limits=limits, days_ago=days_ago).rows).rows
    shrunk, plain = above_bar(rows, bar)
    with state.session(write=False) as session:
        ours = sa.select(SearchMade.outliers).where(SearchMade.niche == "fitness")
        judged = sum(n or 0 for n in session.scalars(ours))
    assert judged == shrunk != plain


def test_calls_side_by_side_use_a_connection_each_and_come_back_in_order(
    settings_env: Settings, state: StateDatabase
) -> None:
    ids = [row["video_id"] for row in collect(settings_env, state, niche()).rows]
    with metered(settings_env, state) as youtube:
        answers = youtube.all_of(
            [("batch_get_stats", partial(youtube.batch_get_stats, [video_id])) for video_id in ids]
        )
    assert [[stats.video_id for stats in answer or []] for answer in answers] == [[i] for i in ids]
