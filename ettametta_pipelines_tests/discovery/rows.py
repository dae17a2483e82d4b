"""Raw candidates and snapshots for tests, good unless changed."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 22, 18, tzinfo=UTC)


def raw(video_id: str, **changes: Any) -> dict[str, Any]:
    """A row of `youtube_candidates`, ten hours old at NOW."""
    row = {
        "day": date(2026, 11, 22), "niche": "fitness", "platform": "youtube", "video_id": video_id,
        "url": f"https://www.youtube.com/watch?v={video_id}", "title": f"Video {video_id}", "channel_id": "UC1",
        "channel_title": "One", "published_at": NOW - timedelta(hours=10), "observed_at": NOW, "duration_s": 30.0,
        "views": 1000, "likes": 50, "comments": 5, "live": False, "baseline_views": 5000.0, "baseline_uploads": 12,
        "found_by": ["query: workout"], "thumbnail_url": None, "statistics_deleted_at": None,
    }  # fmt: skip
    return row | changes


def snapshot(video_id: str, age_h: float, views: int | None, **changes: Any) -> dict[str, Any]:
    """A row of `video_snapshots` of the same video at an age."""
    published_at = changes.get("published_at", NOW - timedelta(hours=10))
    row = {
        "day": date(2026, 11, 22), "niche": "fitness", "platform": "youtube", "video_id": video_id,
        "channel_id": "UC1", "published_at": published_at, "slot_h": round(age_h), "age_h": age_h,
        "observed_at": published_at + timedelta(hours=age_h), "status": "seen" if views is not None else "gone",
        "duration_s": 30.0, "views": views, "likes": None, "comments": None, "statistics_deleted_at": None,
    }  # fmt: skip
    return row | changes
