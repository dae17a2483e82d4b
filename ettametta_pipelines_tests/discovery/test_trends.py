"""Merging, excluding and ranking raw candidates, and the roll-up over niches."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ettametta_pipelines.discovery.contracts import (
    TIKTOK_CANDIDATES,
    TREND_CANDIDATES,
    YOUTUBE_CANDIDATES,
)
from ettametta_pipelines.discovery.trends import rank_trends

NOW = datetime(2026, 11, 22, 18, tzinfo=UTC)


def raw(video_id: str, **changes: Any) -> dict[str, Any]:
    row = {
        "day": date(2026, 11, 22), "niche": "fitness", "platform": "youtube", "video_id": video_id,
        "url": f"https://www.youtube.com/watch?v={video_id}", "title": f"Video {video_id}", "channel_id": "UC1",
        "channel_title": "One", "published_at": NOW - timedelta(hours=10), "observed_at": NOW, "duration_s": 30.0,
        "views": 1000, "likes": 50, "comments": 5, "live": False, "baseline_views": 5000.0, "baseline_uploads": 12,
        "found_by": ["query: workout"], "thumbnail_url": None,
    }  # fmt: skip
    return row | changes


def ranked_ids(*rows: dict[str, Any]) -> list[str]:
    return [row["video_id"] for row in rank_trends(rows).rows]


def test_ranked_rows_fit_the_contract() -> None:
    frame = TREND_CANDIDATES.frame(rank_trends([raw("a"), raw("b", baseline_views=None, likes=None)]).rows)
    assert list(frame["rank"]) == [1, 2]
    assert frame.set_index("video_id").loc["b", ["outlier_ratio", "engagement_rate"]].isna().all()


def test_faster_and_more_unusual_videos_rank_first() -> None:
    assert ranked_ids(raw("slow", views=100), raw("fast", views=90_000), raw("middle", views=4_000)) == [
        "fast", "middle", "slow",
    ]  # fmt: skip


def test_a_small_channels_breakout_beats_a_giants_ordinary_day() -> None:
    crowd = [raw(f"c{i}", views=2000 + i, baseline_views=8000.0) for i in range(6)]
    breakout = raw("breakout", views=40_000, baseline_views=1_000.0)
    ordinary = raw("ordinary", views=50_000, baseline_views=2_000_000.0)
    assert ranked_ids(*crowd, breakout, ordinary)[0] == "breakout"


def test_the_order_of_arrival_does_not_change_a_rank() -> None:
    rows = [raw(f"v{i}", views=(i * 37) % 11 * 100) for i in range(20)]
    shuffled = rows.copy()
    random.Random(5).shuffle(shuffled)
    assert rank_trends(rows).rows == rank_trends(shuffled).rows


def test_the_same_video_found_twice_is_one_row_with_the_latest_observation() -> None:
    early = raw("a", views=100, observed_at=NOW - timedelta(hours=1), found_by=["query: yoga"])
    outcome = rank_trends([raw("a", views=500), early])
    assert outcome.duplicates == 1
    (row,) = outcome.rows
    assert row["views"] == 500
    assert row["found_by"] == ["query: workout", "query: yoga"]


def test_the_same_id_on_two_platforms_is_two_videos() -> None:
    assert len(rank_trends([raw("a"), raw("a", platform="tiktok")]).rows) == 2


def test_rows_that_cannot_be_ranked_are_left_out_and_counted_by_reason() -> None:
    outcome = rank_trends(
        [
            raw("good"),
            raw("hidden", views=None),
            raw("stream", live=True),
            raw("broken", views=-4),
            raw("tomorrow", published_at=NOW + timedelta(days=1)),
        ]
    )
    assert [row["video_id"] for row in outcome.rows] == ["good"]
    assert outcome.excluded == {
        "views_unknown": 1, "live_stream": 1, "negative_count": 1, "published_in_future": 1,
    }  # fmt: skip


def test_a_publication_seconds_ahead_of_our_clock_counts_as_just_published() -> None:
    (row,) = rank_trends([raw("a", published_at=NOW + timedelta(seconds=20))]).rows
    assert row["age_h"] == 0


def test_nothing_in_gives_nothing_out() -> None:
    assert rank_trends([]).rows == []


def test_both_collectors_promise_the_same_columns() -> None:
    assert YOUTUBE_CANDIDATES.columns == TIKTOK_CANDIDATES.columns
