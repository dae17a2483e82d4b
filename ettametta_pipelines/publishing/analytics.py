"""Our posts day by day, from the vendor's own books: late, revised, and kept as they were told each time.

A day's figures are a revision; what is read later and differs is another one, added beside it. Only YouTube tells
days; TikTok gives counters of now, which `metrics.py` reads. Called by the asset `publication_analytics`; reads only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.clock import PACIFIC, business_day_bounds
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.publishing.delivery import Workshop
from ettametta_pipelines.publishing.ledger import ON_THE_PLATFORM
from ettametta_pipelines.publishing.tokens import access_token
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.youtube import YouTubeApp
from ettametta_pipelines.vendors.youtube_analytics import METRICS, YouTubeAnalytics

# Views are corrected for days, mostly by invalid traffic; a month later they no longer move.
FINAL_AFTER = timedelta(days=30)
# Read again every day: everything that is not final, and a day or two that a failed run left out.
REREAD_DAYS = 33
FIGURES = tuple(METRICS.values())

Row = dict[str, Any]


@dataclass
class Reading:
    """Rows of `publication_analytics` for the days read. `problems` has a sentence per channel that gave nothing."""

    rows: list[Row] = field(default_factory=list)
    new: int = 0
    revised: int = 0
    newest_day: date | None = None
    channels: int = 0
    problems: list[str] = field(default_factory=list)

    def lag_days(self, today: date) -> int | None:
        """Days between the newest figures and today, Pacific."""
        return None if self.newest_day is None else (today - self.newest_day).days


def read_days(workshop: Workshop, app: YouTubeApp, days: Sequence[date], known: Sequence[Row]) -> Reading:
    """Ask every connected YouTube channel about its posts on these days and add what is new to what is known.

    A channel that cannot be asked is a problem of its own; when none could be asked, the first failure is raised.
    """
    reading = Reading(rows=list(known))
    latest = {(row["day"], row["publication_id"]): row for row in sorted(known, key=lambda r: r["revision"])}
    failures: list[PipelineError] = []
    for account, posts in _posts_by_account(workshop.db).items():
        reading.channels += 1
        try:
            token = access_token(workshop.db, app, account, "youtube", envelope=workshop.envelope)
            channel = YouTubeAnalytics(app.endpoint, token, clock=workshop.clock)
            for day in days:
                _read_day(workshop, channel, day, posts, latest, reading)
        except PipelineError as error:
            failures.append(error)
            reading.problems.append(f"{account} on youtube: {error}")
    if failures and len(failures) == reading.channels:
        raise failures[0]
    told = [row["day"] for row in reading.rows]
    reading.newest_day = max(told) if told else None
    return reading


def _read_day(
    workshop: Workshop,
    channel: YouTubeAnalytics,
    day: date,
    posts: Sequence[Publication],
    latest: Mapping[tuple[date, str], Row],
    reading: Reading,
) -> None:
    end = business_day_bounds(day, PACIFIC)[1]
    there = {str(post.remote_id): post for post in posts if (post.settled_at or post.created_at) < end}
    if not there:
        return
    is_final = workshop.clock() >= end + FINAL_AFTER
    for told in channel.video_days(day, list(there)):
        post = there[told.video_id]
        before = latest.get((day, post.id))
        figures = {name: getattr(told, name) for name in FIGURES}
        same = before is not None and all(before[name] == value for name, value in figures.items())
        if same and before is not None and before["is_final"] == is_final:
            continue
        reading.new += before is None
        reading.revised += before is not None and not same
        reading.rows.append(
            {
                "day": day,
                "platform": "youtube",
                "account": post.account_id,
                "source_id": post.content_id,
                "publication_id": post.id,
                "remote_id": post.remote_id,
                "revision": 1 if before is None else before["revision"] + 1,
                "as_of": workshop.clock(),
                "is_final": is_final,
                **figures,
            }
        )


def _posts_by_account(db: StateDatabase) -> dict[str, list[Publication]]:
    with db.session(write=False) as session:
        posts = session.scalars(
            sa.select(Publication)
            .where(
                Publication.platform == "youtube",
                Publication.state.in_(sorted(ON_THE_PLATFORM)),
                Publication.remote_id.is_not(None),
            )
            .order_by(Publication.account_id, Publication.created_at)
        ).all()
    grouped: dict[str, list[Publication]] = {}
    for post in posts:
        grouped.setdefault(post.account_id, []).append(post)
    return grouped


def newest_revisions(rows: Sequence[Row]) -> list[Row]:
    """Of each post and day the figures told last."""
    return list(
        {
            (row["day"], row["publication_id"]): row for row in sorted(rows, key=lambda r: r["revision"])
        }.values()
    )


def reread_range(today: date) -> tuple[date, date]:
    """First and last Pacific day that a run on `today` reads again."""
    return today - timedelta(days=REREAD_DAYS), today - timedelta(days=1)
