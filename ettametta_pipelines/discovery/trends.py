"""Raw candidates of all platforms -> one ranked list per niche and day.

Works on stored rows alone, so any past day can be computed again without a call. What the signals mean is in
`virality.py`; where the rows come from, in the collectors; the roll-up over niches is `niche_trends.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from ettametta_pipelines.discovery.virality import (
    METHODOLOGY,
    age_hours,
    engagement_rate,
    outlier_ratio,
    trend_strength,
    view_velocity,
)
from ettametta_pipelines.ranking import percentiles_within

Row = dict[str, Any]

# Clocks of platforms differ a little from ours; more than this is a date in the future.
CLOCK_SKEW = timedelta(minutes=5)
OUTLIER_RATIO = 3.0

# Why a raw row cannot be ranked, in the order asked. The first that holds is counted.
EXCLUSIONS: tuple[tuple[str, Callable[[Mapping[str, Any]], bool]], ...] = (
    ("live_stream", lambda row: bool(row["live"])),
    ("views_unknown", lambda row: row["views"] is None),
    ("negative_count", lambda row: any((row[name] or 0) < 0 for name in ("views", "likes", "comments"))),
    ("published_in_future", lambda row: row["published_at"] > row["observed_at"] + CLOCK_SKEW),
)

_CARRIED = (
    "day", "niche", "platform", "video_id", "url", "title", "channel_id", "channel_title", "published_at",
    "observed_at", "duration_s", "views", "likes", "comments", "baseline_views", "baseline_uploads",
    "thumbnail_url",
)  # fmt: skip


@dataclass(frozen=True)
class RankedTrends:
    """Rows of `trend_candidates` in rank order, and what was left out, counted by reason."""

    rows: list[Row]
    duplicates: int
    excluded: dict[str, int] = field(default_factory=dict)


def rank_trends(raw: Iterable[Row]) -> RankedTrends:
    """Rank raw candidates of one day and niche (rows of `youtube_candidates` and `tiktok_candidates`).

    Order: trend strength, then velocity, then views, then id, so equal input gives equal ranks in any order.
    """
    rows = list(raw)
    unique = deduplicate(rows)
    excluded: Counter[str] = Counter()
    kept: list[Row] = []
    for row in unique:
        reason = next((code for code, holds in EXCLUSIONS if holds(row)), None)
        if reason is None:
            kept.append(_with_signals(row))
        else:
            excluded[reason] += 1
    platforms = [row["platform"] for row in kept]
    velocity = percentiles_within(platforms, [row["view_velocity_per_hour"] for row in kept])
    outlier = percentiles_within(platforms, [row["outlier_ratio"] for row in kept])
    for row, velocity_part, outlier_part in zip(kept, velocity, outlier, strict=True):
        row["trend_strength"] = trend_strength(velocity_part, outlier_part)
    kept.sort(key=_strongest_first)
    for rank, row in enumerate(kept, start=1):
        row["rank"] = rank
    return RankedTrends(kept, len(rows) - len(unique), dict(excluded))


def deduplicate(rows: Sequence[Row]) -> list[Row]:
    """One row per (platform, video_id): the latest observation, with everything that led to any of them."""
    best: dict[tuple[str, str], Row] = {}
    for row in rows:
        key = (row["platform"], row["video_id"])
        seen = best.get(key)
        if seen is None:
            best[key] = dict(row)
            continue
        newer = row if row["observed_at"] > seen["observed_at"] else seen
        best[key] = dict(newer) | {"found_by": sorted({*seen["found_by"], *row["found_by"]})}
    return list(best.values())


def _with_signals(row: Row) -> Row:
    # Within the tolerated skew an age may come out slightly negative: it counts as just published.
    age = max(0.0, age_hours(row["published_at"], row["observed_at"]))
    return {name: row[name] for name in _CARRIED} | {
        "found_by": list(row["found_by"]),
        "age_h": age,
        "view_velocity_per_hour": view_velocity(row["views"], age),
        "engagement_rate": engagement_rate(row["views"], row["likes"], row["comments"]),
        "outlier_ratio": outlier_ratio(row["views"], age, row["baseline_views"]),
        "methodology": METHODOLOGY,
    }


def _strongest_first(row: Row) -> tuple[float, float, int, str, str]:
    return (
        -row["trend_strength"],
        -row["view_velocity_per_hour"],
        -row["views"],
        row["platform"],
        row["video_id"],
    )
