"""What became of our own posts, in a form that compares: views at a fixed age against the channel's own usual.

Pure functions over rows of the lake; nothing here knows of scores' weights. Views at 24 hours and 7 days are read
between two observations, never beyond the last one, and unknown stays unknown with its reason. Called by
`quality_assets.py`; the join from post to candidate is `marts/posts_with_candidates.sql`.
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake

Row = dict[str, Any]

POSTS_SQL = Path(__file__).parent / "marts" / "posts_with_candidates.sql"
# The days, a margin of time zones around them, spare opening the files of all years.
READINGS_SQL = """
    select publication_id, observed_at, views, likes, comments from publication_metrics
    where day between $first and $last and observed_at between $since and $as_of
"""
LOOKBACK = timedelta(days=180)

KNOWN = "known"
LINKED = "linked"
PUBLIC = frozenset({"public", "PUBLIC_TO_EVERYONE"})


@dataclass(frozen=True)
class Horizon:
    """An age at which posts are compared. Two readings further apart than `max_gap` say too little about between."""

    name: str
    age: timedelta
    max_gap: timedelta


# Readings are kept one a day; the gaps allow for one missed day at 24 hours and three at a week.
HORIZONS = (
    Horizon("24h", timedelta(hours=24), timedelta(hours=49)),
    Horizon("7d", timedelta(days=7), timedelta(days=4, hours=1)),
)
# The usual is the median of the posts nearest in time: a channel that grows is compared with what it was then.
USUAL_OF = 20
USUAL_NEEDS = 5


@dataclass(frozen=True)
class Reading:
    """Figures of one post at one age; None where the platform did not tell."""

    age: timedelta
    views: int | None
    reactions: int | None


def read_outcomes(lake: "Lake", day: date, as_of: datetime) -> list[Row]:
    """Rows of `post_outcomes`: all our posts of the last 180 days as they were known at `as_of`."""
    span = {"since": as_of - LOOKBACK, "as_of": as_of}
    posts = lake.rows(POSTS_SQL.read_text(), span)
    # Nothing is read about a post before it was made.
    margin = timedelta(days=1)
    days = {"first": span["since"].date() - margin, "last": as_of.date() + margin}
    readings = lake.rows(READINGS_SQL, span | days)
    return [{"day": day} | row for row in outcomes_of(posts, readings, as_of)]


def outcomes_of(posts: Sequence[Row], readings: Sequence[Row], as_of: datetime) -> list[Row]:
    """Each post with link, figures, usual and lift per horizon. `readings` hold nothing from after `as_of`."""
    by_post = _readings_by_post(posts, readings)
    rows = [
        dict(post) | {"link": _link(post)} for post in sorted(posts, key=lambda post: post["published_at"])
    ]
    for horizon in HORIZONS:
        channels: dict[tuple[str, str], list[tuple[Row, Figures]]] = defaultdict(list)
        for row in rows:
            figures = _figures(row, by_post, horizon, as_of)
            if figures.views is None:
                row |= _columns(horizon.name, figures.status)
            else:
                channels[row["platform"], row["channel_id"]].append((row, figures))
        for posted in channels.values():
            for place, (row, figures) in enumerate(posted):
                row |= _compared(figures, _nearest(posted, place), horizon.name)
    for row in rows:
        del row["observed_at"]
    return rows


def missing_reasons(rows: Sequence[Row], horizon: str) -> dict[str, int]:
    """Why posts do not count for the score's quality, most frequent first."""
    reasons = (row["link"] if row["link"] != LINKED else row[f"status_{horizon}"] for row in rows)
    return dict(Counter(reason for reason in reasons if reason != KNOWN).most_common())


@dataclass(frozen=True)
class Figures:
    """A post at one horizon, both as natural logs; `status` is `known` or why they are None."""

    status: str
    views: float | None = None
    engagement: float | None = None


def at_age(readings: Sequence[tuple[timedelta, int]], horizon: Horizon) -> float | None:
    """log(1 + count) at the horizon's age, on the straight line between its neighbours over log(age).

    Views grow about as a power of age, which is a line there. `readings` by rising age, all above zero. None when
    there is no reading on one of the sides, or the two are further apart than the horizon allows.
    """
    place = bisect_left(readings, horizon.age, key=lambda reading: reading[0])
    if place < len(readings) and readings[place][0] == horizon.age:
        return math.log1p(readings[place][1])
    if place in (0, len(readings)):
        return None
    (before, low), (after, high) = readings[place - 1], readings[place]
    if after - before > horizon.max_gap:
        return None
    share = math.log(horizon.age / before) / math.log(after / before)
    return (1 - share) * math.log1p(low) + share * math.log1p(high)


def _readings_by_post(posts: Sequence[Row], readings: Sequence[Row]) -> dict[str, list[Reading]]:
    published = {post["publication_id"]: post["published_at"] for post in posts}
    by_post: dict[str, list[Reading]] = defaultdict(list)
    for row in sorted(readings, key=lambda row: row["observed_at"]):
        at = published.get(row["publication_id"])
        if at is not None and row["observed_at"] > at:
            told = (row["likes"], row["comments"])
            reactions = None if None in told else sum(told)
            by_post[row["publication_id"]].append(Reading(row["observed_at"] - at, row["views"], reactions))
    return by_post


def _figures(
    post: Row, by_post: Mapping[str, Sequence[Reading]], horizon: Horizon, as_of: datetime
) -> Figures:
    if post["privacy"] not in PUBLIC:
        return Figures("not_public")
    if post["published_at"] + horizon.age > as_of:
        return Figures("too_young")
    readings = by_post.get(post["publication_id"], ())
    views = at_age([(r.age, r.views) for r in readings if r.views is not None], horizon)
    if views is None:
        return Figures("not_observed")
    reactions = at_age([(r.age, r.reactions) for r in readings if r.reactions is not None], horizon)
    return Figures(KNOWN, views, None if reactions is None else reactions - views)


def _nearest(posted: "Sequence[tuple[Row, Figures]]", place: int) -> "list[Figures]":
    """Figures of the posts of the channel nearest in time, without its own; `posted` is by time."""
    at = posted[place][0]["published_at"]
    around = [*posted[max(0, place - USUAL_OF) : place], *posted[place + 1 : place + 1 + USUAL_OF]]
    around.sort(key=lambda other: abs(other[0]["published_at"] - at))
    return [figures for _, figures in around[:USUAL_OF]]


def _compared(own: Figures, others: Sequence[Figures], name: str) -> Row:
    assert own.views is not None
    views = [other.views for other in others if other.views is not None]
    if len(views) < USUAL_NEEDS:
        return _columns(name, "no_usual", views=math.expm1(own.views))
    usual = median(views)
    engagement = [other.engagement for other in others if other.engagement is not None]
    engaged = own.engagement is not None and len(engagement) >= USUAL_NEEDS
    return _columns(
        name,
        KNOWN,
        views=math.expm1(own.views),
        usual_views=math.expm1(usual),
        lift=own.views - usual,
        engagement_lift=own.engagement - median(engagement)
        if engaged and own.engagement is not None
        else None,
    )


def _columns(name: str, status: str, **values: float | None) -> Row:
    return {f"status_{name}": status} | {
        f"{column}_{name}": values.get(column)
        for column in ("views", "usual_views", "lift", "engagement_lift")
    }


def _link(post: Row) -> str:
    if post["brief_id"] is None:
        return "no_brief"
    if post["candidate_day"] is None:
        return "brief_unknown"
    if post["score"] is None or post["observed_at"] is None:
        return "candidate_unknown"
    # A partition may be discovered again later; then its figures are no longer those the pick was made by.
    return LINKED if post["observed_at"] <= post["published_at"] else "observed_later"
