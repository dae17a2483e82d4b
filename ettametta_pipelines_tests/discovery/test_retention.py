"""Others' statistics leave the tables by age: repeatable, partition by partition, own posts untouched."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.discovery.assets import ASSETS
from ettametta_pipelines.discovery.contracts import (
    NICHE_TRENDS,
    TIKTOK_CANDIDATES,
    TREND_CANDIDATES,
    YOUTUBE_CANDIDATES,
)
from ettametta_pipelines.discovery.niche_trends import roll_up_niches
from ettametta_pipelines.discovery.retention import Deletion, delete_old_statistics
from ettametta_pipelines.discovery.signal_assets import statistics_retention
from ettametta_pipelines.discovery.signal_contracts import STATISTICS_RETENTION, VIDEO_SNAPSHOTS
from ettametta_pipelines.discovery.trends import rank_trends
from ettametta_pipelines.orchestration.resources import LakeResource, StateResource, StoreResource
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state import channels
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.lake import Lake
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines.storage.tables import ParquetTables, read_table, write_table
from ettametta_pipelines_tests.discovery.rows import NOW, raw, snapshot

DAY = "2026-11-22"
PART = f"{DAY}|fitness"
IN_30_DAYS = NOW + timedelta(days=30)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


def fill(store: ObjectStore, rows: list[dict[str, Any]], partition: str = PART) -> None:
    """The tables that hold statistics, made of these raw rows, which are put into the partition."""
    day, niche = partition.split("|")
    rows = [row | {"day": date.fromisoformat(day), "niche": niche} for row in rows]
    ranked = TREND_CANDIDATES.frame(rank_trends(rows).rows)
    write_table(store, YOUTUBE_CANDIDATES, YOUTUBE_CANDIDATES.frame(rows), partition)
    write_table(store, TREND_CANDIDATES, ranked, partition)
    with Lake.over(store, ALL_TABLES) as lake:
        rolled = [row for row in roll_up_niches(lake, [date.fromisoformat(day)]) if row["niche"] == niche]
    write_table(store, NICHE_TRENDS, NICHE_TRENDS.frame(rolled), day)


def delete(store: ObjectStore, *, now: datetime = IN_30_DAYS, **options: Any) -> Deletion:
    given = {"earlier": [], "own_channels": ["UC-own"], **options}
    return delete_old_statistics(store, ALL_TABLES, given.pop("earlier"), now=now, **given)


def test_counters_older_than_29_days_are_deleted_and_what_we_derived_stays(store: ObjectStore) -> None:
    fill(store, [raw("a", views=123_456), raw("b")])
    write_table(store, VIDEO_SNAPSHOTS, VIDEO_SNAPSHOTS.frame([snapshot("a", 12, 99)]), DAY)
    before = read_table(store, TREND_CANDIDATES, PART)
    done = delete(store)
    assert done.deleted_by_table == {
        "youtube_candidates": 2, "video_snapshots": 1, "trend_candidates": 2, "niche_trends": 1,
    }  # fmt: skip
    for contract, partition in ((YOUTUBE_CANDIDATES, PART), (TREND_CANDIDATES, PART), (VIDEO_SNAPSHOTS, DAY)):
        frame = read_table(store, contract, partition)
        assert frame[["views", "likes", "comments"]].isna().all(axis=None)
        assert frame["statistics_deleted_at"].notna().all()
    after = read_table(store, TREND_CANDIDATES, PART)
    assert list(after["rank"]) == list(before["rank"])
    assert after["outlier_ratio"].tolist() == pytest.approx(before["outlier_ratio"].tolist(), rel=0.006)
    assert read_table(store, NICHE_TRENDS, DAY)["views"].isna().all()


def test_no_deleted_counter_can_be_computed_back(store: ObjectStore) -> None:
    fill(store, [raw("a", views=123_456)])
    delete(store)
    row = read_table(store, TREND_CANDIDATES, PART).iloc[0]
    assert round(row["view_velocity_per_hour"] * row["age_h"]) != 123_456
    assert "12,346" not in row["why"]


def test_younger_statistics_stay(store: ObjectStore) -> None:
    fill(store, [raw("a"), raw("later", observed_at=NOW + timedelta(days=2))])
    done = delete(store, now=NOW + timedelta(days=29, minutes=1))
    frame = read_table(store, YOUTUBE_CANDIDATES, PART).set_index("video_id")
    assert frame["views"].isna().to_dict() == {"a": True, "later": False}
    lines = {line["table_name"]: line for line in done.lines}
    assert lines["youtube_candidates"]["rows_with_statistics"] == 1
    assert lines["youtube_candidates"]["delete_after"] == NOW + timedelta(days=31)


def test_own_channels_posts_are_not_touched(store: ObjectStore) -> None:
    own = raw("own", channel_id="UC-own")
    tiktok = raw("t", platform="tiktok", channel_id="gone-account", found_by=["account: studio"])
    fill(store, [own, raw("a")])
    write_table(store, TIKTOK_CANDIDATES, TIKTOK_CANDIDATES.frame([tiktok]), PART)
    delete(store)
    kept = read_table(store, YOUTUBE_CANDIDATES, PART).set_index("video_id")
    assert kept.loc["own", "views"] == 1000
    assert read_table(store, TIKTOK_CANDIDATES, PART).loc[0, "views"] == 1000


def test_copies_of_a_month_go_with_what_they_were_made_of(store: ObjectStore) -> None:
    fill(store, [raw("a")])
    for month in ("2026-11", "2026-10"):
        store.put(f"packs/trend_candidates/{month}.parquet", b"a copy")
    delete(store)
    assert [info.key for info in store.list("packs")] == ["packs/trend_candidates/2026-10.parquet"]


def test_running_again_deletes_nothing_and_reads_nothing_that_did_not_change(store: ObjectStore) -> None:
    for n in range(40):
        fill(store, [raw("a"), raw("b")], f"2026-10-{n % 28 + 1:02d}|niche-{n}")
    first = delete(store)
    assert first.rows == first.examined + first.partitions - 28
    second = delete(store, earlier=first.lines)
    assert (second.rows, second.partitions) == (0, 0)
    third = delete(store, earlier=second.lines)
    assert third.examined == 0
    assert sorted(third.lines, key=str) == sorted(second.lines, key=str)
    fill(store, [raw("new", observed_at=IN_30_DAYS)], "2026-10-01|niche-0")
    assert delete(store, earlier=third.lines).examined == 3


def test_what_is_not_due_yet_is_not_read_until_it_is(store: ObjectStore) -> None:
    fill(store, [raw("a")])
    first = delete(store, now=NOW + timedelta(days=1))
    assert (first.examined, first.rows) == (3, 0)
    assert delete(store, now=NOW + timedelta(days=2), earlier=first.lines).examined == 0
    assert delete(store, earlier=first.lines).rows == 3


def test_an_accepted_amendment_keeps_everything_and_says_what_is_held(store: ObjectStore) -> None:
    fill(store, [raw("a")])
    done = delete(store, keep=True)
    assert done.rows == 0
    assert {line["rows_with_statistics"] for line in done.lines} == {1}
    assert read_table(store, YOUTUBE_CANDIDATES, PART)["views"].notna().all()
    assert delete(store, earlier=done.lines).rows == 3, "switched off again, what is overdue goes"


def test_a_partition_that_cannot_be_read_is_named_and_in_the_way_of_no_other(store: ObjectStore) -> None:
    fill(store, [raw("a")])
    store.put("tables/youtube_candidates/2026-11-21/fitness.parquet", b"no parquet")
    done = delete(store)
    assert len(done.unreadable) == 1
    assert "2026-11-21" in done.unreadable[0]
    assert done.rows == 3


def test_the_asset_deletes_reports_and_can_be_switched_off(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(settings_env)
    seen = utc_now() - timedelta(days=29, hours=1)
    old = raw("a", observed_at=seen, published_at=seen - timedelta(hours=5))

    def run() -> dict[str, Any]:
        resources = {
            "tables": ParquetTables(StoreResource().open, ALL_TABLES),
            "store": StoreResource(), "state": StateResource(), "lake": LakeResource(),
            "youtube": StateResource(), "tiktok": StateResource(),
        }  # fmt: skip
        result = dg.materialize(ASSETS, selection=[statistics_retention], resources=resources)
        assert all(check.passed for check in result.get_asset_check_evaluations())
        (event,) = result.get_asset_materialization_events()
        return {name: value.value for name, value in event.materialization.metadata.items()}

    def channels_kept() -> int:
        with open_state(settings_env).session(write=False) as session:
            return len(channels.uploads_since(session, ["UCold", "UCyoung"], seen - timedelta(days=1)))

    with open_state(settings_env).session() as session:
        channels.remember_uploads(session, {"UCold": [["a", 5, seen.isoformat()]]}, seen)
        channels.remember_uploads(session, {"UCyoung": []}, seen + timedelta(days=1))
    write_table(store, YOUTUBE_CANDIDATES, YOUTUBE_CANDIDATES.frame([old]), PART)
    monkeypatch.setenv("ETTAMETTA_KEEP_STATISTICS", "true")
    get_settings.cache_clear()
    kept = run()
    assert (kept["rows_deleted"], kept["overdue"], channels_kept()) == (0, 1, 2)
    assert "ETTAMETTA_KEEP_STATISTICS" in kept["mode"]
    monkeypatch.delenv("ETTAMETTA_KEEP_STATISTICS")
    get_settings.cache_clear()
    done = run()
    assert (done["rows_deleted"], done["partitions_rewritten"], done["overdue"]) == (1, 1, 0)
    # What channels usually reach is kept in the database: discovery drops it, if it still runs.
    assert channels_kept() == 1
    assert run()["rows_deleted"] == 0
    (line,) = STATISTICS_RETENTION.rows(read_table(store, STATISTICS_RETENTION, None))
    assert (line["deleted_rows"], line["rows_with_statistics"]) == (1, 0)
    assert line["last_deleted_at"] > datetime(2026, 1, 1, tzinfo=UTC)
