"""The roll-up in SQL against the same in pandas, and what it says of an unusual night."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from ettametta_pipelines.discovery.contracts import (
    CONTRACTS,
    NICHE_TRENDS,
    TREND_CANDIDATES,
    YOUTUBE_CANDIDATES,
)
from ettametta_pipelines.discovery.niche_trends import night_health, roll_up_niches
from ettametta_pipelines.discovery.trends import OUTLIER_RATIO, rank_trends
from ettametta_pipelines.storage.lake import Lake
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import write_table
from ettametta_pipelines_tests.discovery.test_trends import raw

DAY = date(2026, 11, 22)
TABLES = {contract.name: contract for contract in CONTRACTS}
# Interpolation may end a rounding step beside NumPy's; everything else is equal to the last bit.
INTERPOLATED = ("median_velocity_per_hour", "top_decile_velocity_per_hour", "median_outlier_ratio")


@pytest.fixture
def store(tmp_path: Any) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


@pytest.fixture
def lake(store: ObjectStore) -> Iterator[Lake]:
    with Lake.over(store, TABLES) as lake:
        yield lake


def by_pandas(trends: pd.DataFrame) -> list[dict[str, Any]]:
    """The roll-up as plainly as it can be said."""
    rows = []
    for (day, niche), group in trends.groupby(["day", "niche"], sort=True):
        ratios = group["outlier_ratio"].dropna()
        top = group.sort_values("rank").iloc[0]
        rows.append(
            {
                "day": day,
                "niche": niche,
                "candidates": len(group),
                "channels": group[["platform", "channel_id"]].drop_duplicates().shape[0],
                "views": int(group["views"].sum()) if group["views"].notna().all() else None,
                "median_velocity_per_hour": float(group["view_velocity_per_hour"].median()),
                "top_decile_velocity_per_hour": float(group["view_velocity_per_hour"].quantile(0.9)),
                "median_outlier_ratio": float(ratios.median()) if len(ratios) else None,
                "outliers": int((ratios >= OUTLIER_RATIO).sum()),
                "baseline_share": float(group["baseline_views"].notna().mean()),
                "top_video_id": top["video_id"],
                "top_title": top["title"],
                "top_url": top["url"],
                "top_velocity_per_hour": float(top["view_velocity_per_hour"]),
                "last_observed_at": group["observed_at"].max(),
            }
        )
    return rows


def candidates(seed: int, day: date, niche: str, count: int) -> list[dict[str, Any]]:
    rng = random.Random(f"{seed}{day}{niche}")
    observed = datetime(day.year, day.month, day.day, 23, tzinfo=UTC)
    return [
        raw(
            f"v{n}", day=day, niche=niche, platform=rng.choice(["youtube", "tiktok"]),
            channel_id=f"c{rng.randrange(9)}",
            views=int(rng.lognormvariate(7, 3)), baseline_views=rng.choice([None, rng.lognormvariate(7, 2)]),
            observed_at=observed + timedelta(seconds=rng.randrange(99)),
            published_at=observed - timedelta(hours=rng.uniform(1, 60)), title=f"Ünï | {n} 🎬",
        )
        for n in range(count)
    ]  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_sql_and_pandas_agree_on_every_column(store: ObjectStore, lake: Lake, seed: int) -> None:
    days = [date(2026, 1, 30) + timedelta(days=n) for n in range(4)]
    for day in days:
        for niche, count in (("fitness", 1 + seed), ("travel", 40 + seed), ("none-today", 0)):
            ranked = rank_trends(candidates(seed, day, niche, count)).rows
            write_table(store, TREND_CANDIDATES, TREND_CANDIDATES.frame(ranked), f"{day}|{niche}")
    found = NICHE_TRENDS.rows(NICHE_TRENDS.frame(roll_up_niches(lake, days)))
    expected = NICHE_TRENDS.rows(NICHE_TRENDS.frame(by_pandas(lake.query("select * from trend_candidates"))))
    assert len(found) == 8
    for ours, theirs in zip(found, expected, strict=True):
        for name in INTERPOLATED:
            if theirs[name] is not None:
                assert ours[name] == pytest.approx(theirs[name], rel=1e-15)
                theirs[name] = ours[name]
        assert ours == theirs


def test_views_deleted_by_age_leave_no_sum_that_looks_like_a_quiet_day(
    store: ObjectStore, lake: Lake
) -> None:
    ranked = rank_trends(candidates(0, DAY, "travel", 3)).rows
    ranked[1]["views"] = None
    write_table(store, TREND_CANDIDATES, TREND_CANDIDATES.frame(ranked), f"{DAY}|travel")
    (row,) = roll_up_niches(lake, [DAY])
    assert (row["candidates"], row["views"]) == (3, None)


def test_only_the_days_asked_for_are_rolled_up(store: ObjectStore, lake: Lake) -> None:
    days = [DAY - timedelta(days=n) for n in range(3)]
    for day in days:
        ranked = rank_trends(candidates(0, day, "travel", 3)).rows
        write_table(store, TREND_CANDIDATES, TREND_CANDIDATES.frame(ranked), f"{day}|travel")
    assert [row["day"] for row in roll_up_niches(lake, [days[0], days[2]])] == [days[2], days[0]]


def test_no_candidates_are_no_rows(lake: Lake) -> None:
    assert roll_up_niches(lake, [DAY]) == []


def looks(niche: str, *counts: int) -> list[dict[str, Any]]:
    """Mornings before DAY, the last count the day before."""
    row = dict.fromkeys((column.name for column in NICHE_TRENDS.columns), 0) | {
        "niche": niche, "top_video_id": "v", "top_title": "t", "top_url": "u",
        "last_observed_at": datetime(2026, 11, 1, tzinfo=UTC), "statistics_deleted_at": None,
    }  # fmt: skip
    return [
        row | {"day": DAY - timedelta(days=len(counts) - n), "candidates": count}
        for n, count in enumerate(counts)
    ]


def test_half_the_usual_volume_is_named_and_a_young_niche_is_not(store: ObjectStore, lake: Lake) -> None:
    mornings = [*looks("travel", 100, 90, 110, 0, 100, 100, 95, 105), *looks("fitness", 100, 100)]
    for day in {row["day"] for row in mornings}:
        of_day = [row for row in mornings if row["day"] == day]
        write_table(store, NICHE_TRENDS, NICHE_TRENDS.frame(of_day), day.isoformat())
    tonight = [{"day": DAY, "niche": n, "candidates": 40} for n in ("fitness", "travel")]
    assert night_health(lake, DAY, tonight).too_few == ["travel: 40 candidates, usually 100"]
    assert night_health(lake, DAY, [tonight[1] | {"candidates": 50}]).too_few == []


def test_missing_statistics_are_named_by_niche_and_kind(store: ObjectStore, lake: Lake) -> None:
    bad = [raw(f"v{n}", views=None if n < 2 else 5, likes=None, comments=1) for n in range(10)]
    good = [raw(f"v{n}", niche="travel") for n in range(10)]
    for niche, rows in (("fitness", bad), ("travel", good)):
        write_table(store, YOUTUBE_CANDIDATES, YOUTUBE_CANDIDATES.frame(rows), f"{DAY}|{niche}")
    health = night_health(lake, DAY, [])
    assert health.too_unknown == ["fitness: 2 of 10 without views", "fitness: 10 of 10 without likes"]
    assert health.missing_share == {"fitness": 0.2, "travel": 0.0}
