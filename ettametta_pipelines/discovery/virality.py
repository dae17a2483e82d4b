"""Signals of virality as pure functions: velocity, acceleration, channel baseline, outlier ratio, trend strength.

Numbers in, numbers out; nothing here reads a clock, a table or a vendor. What is unknown stays None: a
missing baseline is not a ratio of zero. Raw signals are never clamped; where two of them are put together
they are compared by percentile within a partition (`ranking.py`). How sure a baseline is, and what follows from that,
is `baselines.py`'s. Called by the collectors and `trends.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Literal

from ettametta_pipelines.ranking import weighted_mean

# Which formulas. What the platform counts as a view has a version of its own (`counting.py`).
METHODOLOGY = "snapshots-shrunk/2"

# A video is assumed to have earned half of its long-run views after this many hours: views(a) ~ a / (a + 36).
# It is an assumption to compare uploads of different age with; snapshots at the same age make it unnecessary.
HALF_LIFE_H = 36.0
# Minutes after publication a handful of views would extrapolate to thousands an hour.
MIN_AGE_H = 1.0
# Younger uploads say little about what a channel usually reaches.
MIN_UPLOAD_AGE_H = 12.0
# One upload is a baseline, a poor one: `baselines.py` trusts it as far as it deserves.
MIN_BASELINE_UPLOADS = 1
# Counters are refreshed in steps; over less than this a difference is mostly noise.
MIN_INTERVAL_H = 1.0
# Tiny-channel guard: below this, ten times the usual is still nobody watching.
MIN_BASELINE_VIEWS = 500.0

TREND_WEIGHTS: Mapping[str, float] = {"velocity": 0.5, "outlier": 0.5}


@dataclass(frozen=True)
class Upload:
    """One earlier upload of a channel as observed once; `version` is how its views were counted (`counting.py`)."""

    video_id: str
    views: int
    age_h: float
    version: str = ""


@dataclass(frozen=True)
class Baseline:
    """What a channel usually reaches: median long-run views, or None when too few uploads are known."""

    views: float | None
    uploads: int


@dataclass(frozen=True)
class Observation:
    """A view count at one instant."""

    at: datetime
    views: int


VelocityBasis = Literal["last_interval", "lifetime_mean"]


@dataclass(frozen=True)
class Motion:
    """How a video moves: views per hour, and the change of that per hour where three observations tell it.

    `velocity` is the mean over the `interval_h` hours before the last observation; with a single observation these
    are all hours since publication. `speed_now` carries it on to the last observation along the growth curve, so that
    long and short intervals compare.
    """

    velocity: float
    basis: VelocityBasis
    interval_h: float
    speed_now: float
    acceleration: float | None
    observations: int


def age_hours(published_at: datetime, observed_at: datetime) -> float:
    """Hours between publication and observation; negative when published after it was observed."""
    return (observed_at - published_at).total_seconds() / 3600


def view_velocity(views: int, age_h: float) -> float:
    """Mean views per hour since publication, ages below one hour counting as one hour.

    This is the lifetime mean, not the present speed, for which `motion_of` wants a second observation.
    """
    return views / max(age_h, MIN_AGE_H)


def motion_of(published_at: datetime, observations: Sequence[Observation]) -> Motion:
    """Motion of one video from at least one observation, in any order, all counted in the same way.

    Of observations less than an hour apart the later counts. Counters may fall when a platform takes views back;
    the velocity is negative then.
    """
    kept = _an_hour_apart(observations)
    last, age = kept[0], age_hours(published_at, kept[0].at)
    if len(kept) == 1:
        velocity, began = view_velocity(last.views, age), 0.0
    else:
        velocity, began = _speed(kept[1], last), age_hours(published_at, kept[1].at)
    age, began = max(age, MIN_AGE_H), max(began, 0.0)
    return Motion(
        velocity=velocity,
        basis="lifetime_mean" if len(kept) == 1 else "last_interval",
        interval_h=age - began,
        # Under views(a) ~ a / (a + h) the mean speed from age s to age e is to the speed at e as e + h to s + h.
        speed_now=velocity * (began + HALF_LIFE_H) / (age + HALF_LIFE_H),
        acceleration=_acceleration(kept[2], kept[1], last) if len(kept) > 2 else None,
        observations=len(kept),
    )


def _an_hour_apart(observations: Sequence[Observation]) -> list[Observation]:
    """Latest first, each at least an hour before the one kept after it."""
    kept: list[Observation] = []
    for seen in sorted(observations, key=lambda seen: (seen.at, seen.views), reverse=True):
        if not kept or age_hours(seen.at, kept[-1].at) >= MIN_INTERVAL_H:
            kept.append(seen)
    return kept


def _speed(earlier: Observation, later: Observation) -> float:
    return (later.views - earlier.views) / age_hours(earlier.at, later.at)


def _acceleration(first: Observation, second: Observation, third: Observation) -> float:
    """Views per hour, per hour: from the middle of one interval to the middle of the next."""
    between_middles_h = age_hours(first.at, third.at) / 2
    return (_speed(second, third) - _speed(first, second)) / between_middles_h


def growth_share(age_h: float) -> float:
    """Share of its long-run views a video has earned at this age, 0..1: a / (a + 36 h)."""
    age = max(age_h, MIN_AGE_H)
    return age / (age + HALF_LIFE_H)


def channel_baseline(uploads: Sequence[Upload], *, leave_out: str = "", version: str = "") -> Baseline:
    """Median of the uploads' long-run views, each corrected for its age: median(views / growth_share(age)).

    The candidate is left out by its id, since it would pull its own yardstick up; with `version`, so are uploads whose
    views were counted in another way. None without any upload.
    """
    usable = [
        u
        for u in uploads
        # What is counted below zero says nothing; future dates have a negative age.
        if u.video_id != leave_out
        and u.views >= 0
        and u.age_h >= MIN_UPLOAD_AGE_H
        and version in ("", u.version)
    ]
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
