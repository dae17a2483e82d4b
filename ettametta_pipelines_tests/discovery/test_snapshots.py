"""Statistics at fixed ages: what is due, what an hour adds, and what a spent quota leaves."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.discovery import snapshots
from ettametta_pipelines.discovery.assets import ASSETS
from ettametta_pipelines.discovery.contracts import TREND_CANDIDATES, YOUTUBE_CANDIDATES
from ettametta_pipelines.discovery.metered_youtube import MeteredYouTube
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.signal_assets import quarantined_candidates, video_snapshots
from ettametta_pipelines.discovery.signal_contracts import QUARANTINED_CANDIDATES, VIDEO_SNAPSHOTS
from ettametta_pipelines.discovery.snapshots import (
    SLOTS_H,
    due_snapshots,
    slot_at,
    take_snapshots,
    watched_candidates,
)
from ettametta_pipelines.discovery.window import Window
from ettametta_pipelines.discovery.youtube_collector import (
    CollectionLimits,
    YouTubeCollector,
)
from ettametta_pipelines.orchestration.resources import (
    LakeResource,
    StateResource,
    StoreResource,
    YouTubeResource,
)
from ettametta_pipelines.partitions import day_niche_key
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.tables import ParquetTables, read_table, write_table
from ettametta_pipelines.vendors.youtube import VideoStats, YouTubeData
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.discovery.conftest import LeaveQuota
from ettametta_pipelines_tests.discovery.rows import NOW, raw, snapshot

TODAY = utc_now().date()


def run(asset: dg.AssetsDefinition, partition: str, **config: Any) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        ASSETS,
        selection=[asset],
        partition_key=partition,
        run_config={"ops": {asset.op.name: {"config": config}}} if config else None,
        resources={
            "tables": ParquetTables(StoreResource().open, ALL_TABLES),
            "store": StoreResource(),
            "state": StateResource(),
            "lake": LakeResource(),
            "youtube": YouTubeResource(),
            "tiktok": StateResource(),
        },
        raise_on_error=False,
    )


def shown(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (event,) = result.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


@pytest.fixture
def collected(settings_env: Settings, state: StateDatabase) -> list[dict[str, Any]]:
    """Real candidates of the sandbox under today's partition of fitness, aged one to thirty-six hours."""
    client = MeteredYouTube(YouTubeData(settings_env.endpoint("youtube")), state, utc_now)
    niche = Niche(slug="fitness", title="Fitness", queries=("home workout", "mobility"))
    window = Window(utc_now() - timedelta(hours=36), utc_now() - timedelta(hours=1))
    limits = CollectionLimits(baseline_channels=0)
    found = YouTubeCollector(client, niche, window, clock=utc_now, limits=limits).collect(TODAY)
    frame = YOUTUBE_CANDIDATES.frame(found.rows)
    write_table(open_store(settings_env), YOUTUBE_CANDIDATES, frame, f"{TODAY}|fitness")
    return found.rows


def stored(settings: Settings) -> list[dict[str, Any]]:
    return VIDEO_SNAPSHOTS.rows(read_table(open_store(settings), VIDEO_SNAPSHOTS, TODAY.isoformat()))


def test_a_slot_is_open_until_halfway_to_the_next() -> None:
    assert [slot_at(age) for age in (2.9, 3.0, 4.4, 4.5, 191.0, 192.0)] == [
        None, (3, 4.5), (3, 4.5), None, (168, 192.0), None,
    ]  # fmt: skip
    assert all(slot_at(slot + 1.0) is not None for slot in SLOTS_H)


def test_due_is_what_is_open_not_taken_and_not_gone_most_urgent_first() -> None:
    fresh, urgent = (
        raw(i, published_at=NOW - timedelta(hours=h)) for i, h in (("fresh", 6.1), ("urgent", 17))
    )
    done, gone = (raw(i, published_at=NOW - timedelta(hours=12)) for i in ("done", "gone"))
    between = raw("between", published_at=NOW - timedelta(hours=10))
    taken = [snapshot("done", 12, 5, slot_h=12), snapshot("gone", 6, None, slot_h=6)]
    due = due_snapshots([fresh, urgent, done, gone, between], taken, NOW)
    assert [(one.candidate["video_id"], one.slot_h) for one in due] == [("urgent", 12), ("fresh", 6)]


def test_the_strongest_of_each_partition_are_watched_each_once() -> None:
    crowd = [raw(f"v{n}", views=100 * n, niche="travel") for n in range(1, 6)]
    shared = raw("v5", views=500)
    old = raw("old", views=10**6, published_at=NOW - timedelta(days=9))
    watched = watched_candidates([crowd, [shared, old]], NOW, top=2)
    assert sorted(row["video_id"] for row in watched) == ["v4", "v5"]
    assert {row["video_id"]: row["niche"] for row in watched}["v5"] == "fitness"


def test_videos_that_vanish_or_hide_their_views_have_a_row_that_says_so() -> None:
    class Answers:
        def batch_get_stats(self, ids: Any) -> list[VideoStats]:
            return [VideoStats("hid", None, None, None, 3, None), VideoStats("neg", None, None, -7, -1, 2)]

    candidates = [raw(i, published_at=NOW - timedelta(hours=12)) for i in ("hid", "neg", "away")]
    polling = take_snapshots(Answers(), due_snapshots(candidates, [], NOW), NOW.date(), lambda: NOW)
    statuses = {row["video_id"]: (row["status"], row["views"], row["likes"]) for row in polling.rows}
    assert statuses == {
        "hid": ("views_unknown", None, 3), "neg": ("views_unknown", None, None), "away": ("gone", None, None),
    }  # fmt: skip
    assert polling.vanished == 1
    VIDEO_SNAPSHOTS.frame(polling.rows)


def test_an_hour_takes_what_is_due_and_taking_it_again_adds_and_loses_nothing(
    settings_env: Settings, collected: list[dict[str, Any]], sandbox: SandboxUnderTest
) -> None:
    before = sandbox.count("youtube", "GET", "batchGetStats")
    first = run(video_snapshots, TODAY.isoformat())
    assert first.success
    told = shown(first)
    rows = stored(settings_env)
    assert told["taken"] == told["due"] == len(rows) > 5
    assert told["quota_batch_get_stats"] == told["calls"] == -(-len(rows) // 50)
    assert sandbox.count("youtube", "GET", "batchGetStats") - before == told["calls"]
    assert all(row["slot_h"] <= row["age_h"] < 1.7 * row["slot_h"] for row in rows)

    again = run(video_snapshots, TODAY.isoformat())
    assert again.success
    assert shown(again)["taken"] <= 2, "at most videos that came of age in between"
    assert [r for r in stored(settings_env) if r in rows] == rows


def test_hours_run_at_the_same_time_keep_each_others_snapshots(
    settings_env: Settings, collected: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Each sees what is due before any has written, and takes half of it.
    barrier, halves, take = Barrier(2), iter((0, 1)), snapshots.take_snapshots

    def take_half(youtube: Any, due: Any, *rest: Any) -> Any:
        barrier.wait(timeout=60)
        taken = take(youtube, due[next(halves) :: 2], *rest)
        barrier.wait(timeout=60)
        return taken

    monkeypatch.setattr(snapshots, "take_snapshots", take_half)
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda _: run(video_snapshots, TODAY.isoformat()), range(2)))
    assert all(result.success for result in results)
    assert len(stored(settings_env)) == sum(shown(result)["taken"] for result in results) > 5


def test_a_spent_quota_leaves_the_rest_for_the_next_hour_and_says_so(
    settings_env: Settings, collected: list[dict[str, Any]], leave_quota: LeaveQuota
) -> None:
    leave_quota("batch_get_stats", 0)
    result = run(video_snapshots, TODAY.isoformat())
    assert result.success
    assert "snapshots wait for the next hour" in shown(result)["left_out"]
    assert stored(settings_env) == []
    leave_quota("batch_get_stats", 9)
    assert shown(run(video_snapshots, TODAY.isoformat()))["taken"] > 5


def test_a_past_day_is_not_snapshotted_afterwards(settings_env: Settings) -> None:
    result = run(video_snapshots, (TODAY - timedelta(days=3)).isoformat())
    assert not result.success
    assert "day_is_over" in str(result.get_step_failure_events()[0].step_failure_data.error_display_string)


def test_the_ranking_uses_stored_snapshots_and_neighbours(
    settings_env: Settings, collected: list[dict[str, Any]]
) -> None:
    from ettametta_pipelines.discovery.surroundings import look_around
    from ettametta_pipelines.discovery.trends import rank_trends

    store = open_store(settings_env)
    twin = collected[0] | {"niche": "travel"}
    write_table(store, YOUTUBE_CANDIDATES, YOUTUBE_CANDIDATES.frame([twin]), f"{TODAY}|travel")
    later = [
        snapshot(row["video_id"], 1.0, (row["views"] or 0) + 500, channel_id=row["channel_id"],
                 published_at=row["published_at"], observed_at=row["observed_at"] + timedelta(hours=2))
        for row in collected
    ]  # fmt: skip
    write_table(store, VIDEO_SNAPSHOTS, VIDEO_SNAPSHOTS.frame(later), TODAY.isoformat())
    ranked = rank_trends(collected, look_around(store, f"{TODAY}|fitness", _full(collected))).rows
    assert {row["velocity_basis"] for row in ranked} == {"last_interval"}
    assert {round(row["view_velocity_per_hour"]) for row in ranked} == {250}
    assert [row["also_in"] for row in ranked if row["video_id"] == twin["video_id"]] == [["travel"]]
    TREND_CANDIDATES.frame(ranked)


def test_bad_candidates_stand_in_their_own_table(
    settings_env: Settings, collected: list[dict[str, Any]]
) -> None:
    from ettametta_pipelines.discovery.contracts import TIKTOK_CANDIDATES

    store = open_store(settings_env)
    bad = [collected[0] | {"views": None}, collected[1] | {"live": True, "title": "| <b>x</b> \u202e"}]
    write_table(store, YOUTUBE_CANDIDATES, YOUTUBE_CANDIDATES.frame(bad + collected[2:]), f"{TODAY}|fitness")
    write_table(store, TIKTOK_CANDIDATES, TIKTOK_CANDIDATES.empty(), f"{TODAY}|fitness")
    result = run(quarantined_candidates, day_niche_key(TODAY.isoformat(), "fitness"))
    assert result.success
    assert shown(result)["by_reason"] == {"live_stream": 1, "views_unknown": 1}
    table = read_table(store, QUARANTINED_CANDIDATES, f"{TODAY}|fitness")
    assert set(table["video_id"]) == {row["video_id"] for row in bad}


def _full(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return YOUTUBE_CANDIDATES.rows(YOUTUBE_CANDIDATES.frame(rows))
