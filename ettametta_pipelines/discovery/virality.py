"""Signals of virality as pure functions: velocity, channel baseline, outlier ratio, trend strength.

Numbers in, numbers out; nothing here reads a clock, a table or a vendor. What is unknown stays None: a
missing baseline is not a ratio of zero. Raw signals are never clamped; where two of them are put together
they are compared by percentile within a partition (`ranking.py`). Called by the collectors and `trends.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median

from ettametta_pipelines.ranking import weighted_mean

# Which formulas, over which meaning of "view". Since August 2026 every YouTube format counts a view when
# playback starts, so levels before and after do not compare; a change here or there starts a new version.
METHODOLOGY = "single-observation/playback-start-2026-08/1"

# A video is assumed to have earned half of its long-run views after this many hours: views(a) ~ a / (a + 36).
# It is an assumption to compare uploads of different age with; snapshots at fixed ages make it unnecessary.
HALF_LIFE_H = 36.0
# Minutes after publication a handful of views would extrapolate to thousands an hour.
MIN_AGE_H = 1.0
# Younger uploads say little about what a channel usually reaches.
MIN_UPLOAD_AGE_H = 12.0
# Fewer uploads than this are no baseline.
MIN_BASELINE_UPLOADS = 5
# Tiny-channel guard: below this, ten times the usual is still nobody watching.
MIN_BASELINE_VIEWS = 500.0

TREND_WEIGHTS: Mapping[str, float] = {"velocity": 0.5, "outlier": 0.5}


@dataclass(frozen=True)
class Upload:
    """One earlier upload of a channel as observed once."""

    video_id: str
    views: int
    age_h: float


@dataclass(frozen=True)
class Baseline:
    """What a channel usually reaches: median long-run views, or None when too few uploads are known."""

    views: float | None
    uploads: int


def age_hours(published_at: datetime, observed_at: datetime) -> float:
    """Hours between publication and observation; negative when published after it was observed."""
    return (observed_at - published_at).total_seconds() / 3600


def view_velocity(views: int, age_h: float) -> float:
    """Mean views per hour since publication, ages below one hour counting as one hour.

    One observation cannot tell acceleration: this is the lifetime mean, not the present speed.
    """
    return views / max(age_h, MIN_AGE_H)


def growth_share(age_h: float) -> float:
    """Share of its long-run views a video has earned at this age, 0..1: a / (a + 36 h)."""
    age = max(age_h, MIN_AGE_H)
    return age / (age + HALF_LIFE_H)


def channel_baseline(uploads: Sequence[Upload], *, leave_out: str = "") -> Baseline:
    """Median of the uploads' long-run views, each corrected for its age: median(views / growth_share(age)).

    The candidate is left out by its id, since it would pull its own yardstick up. None below five uploads.
    """
    usable = [u for u in uploads if u.video_id != leave_out and u.age_h >= MIN_UPLOAD_AGE_H]
    if len(usable) < MIN_BASELINE_UPLOADS:
        return Baseline(None, len(usable))
    return Baseline(median(u.views / growth_share(u.age_h) for u in usable), len(usable))


def outlier_ratio(views: int, age_h: float, baseline_views: float | None) -> float | None:
    """Views divided by what the channel's uploads usually have at the same age; None without a baseline.

    views / (max(baseline, 500) * growth_share(age)). 1 is usual, 3 is three times the usual; there is no
    upper bound. Above the guard it is scale-free: a channel of ten times the audience has the same ratios.
    """
    if baseline_views is None:
        return None
    return views / (max(baseline_views, MIN_BASELINE_VIEWS) * growth_share(age_h))


def engagement_rate(views: int, likes: int | None, comments: int | None) -> float | None:
    """(likes + comments) / views; None when a counter is hidden or nobody has watched."""
    if likes is None or comments is None or views == 0:
        return None
    return (likes + comments) / views


def trend_strength(velocity_part: float | None, outlier_part: float | None) -> float:
    """Mean percentile of velocity and outlier ratio, 0..1: what the trend ranking orders by."""
    return weighted_mean({"velocity": velocity_part, "outlier": outlier_part}, TREND_WEIGHTS)
