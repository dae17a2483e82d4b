"""Statistics of our own posts, asked of the platforms on behalf of the channels they are on.

Called by the asset `publication_metrics`. Reads only, except that the id of a TikTok post, which TikTok tells only
once the post is public, is noted in the ledger when it has become known. Platforms tell figures of now only, so a day
that is over keeps what was read on it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from ettametta_pipelines.clock import business_day_of
from ettametta_pipelines.failures import PermanentError, PipelineError, TransientError
from ettametta_pipelines.publishing.delivery import Workshop
from ettametta_pipelines.publishing.ledger import ON_THE_PLATFORM, Ledger
from ettametta_pipelines.publishing.tiktok_upload import PUBLISH_ID, page_of_post
from ettametta_pipelines.publishing.tokens import LOST_SECRET_CODES, access_token
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors import tiktok, youtube

TIKTOK_PUBLIC = "PUBLIC_TO_EVERYONE"
# TikTok answers 30 status questions a minute and creator; the rest are asked on the next run.
IDS_ASKED_PER_RUN = 20
# Moderation takes minutes to hours; a post without an id after a week will not get one.
IDS_ASKED_FOR = timedelta(days=7)
# A run of the last hour of a day may wait in the queue or take its time.
GRACE = timedelta(hours=1)


@dataclass(frozen=True)
class Counters:
    """Figures of one post now. `shares` is None where the platform does not tell."""

    views: int | None
    likes: int | None
    comments: int | None
    shares: int | None = None


@dataclass
class Observation:
    """What the platforms said. `problems` has one sentence per channel that gave no figures.

    `unseen` counts posts without public figures; among them `forgotten` those whose id can no longer be asked for.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    unseen: int = 0
    forgotten: int = 0
    channels: int = 0
    problems: list[str] = field(default_factory=list)


@dataclass
class Reading:
    """Figures of one channel's posts by publication id, and how many posts the platform has forgotten."""

    counters: dict[str, Counters] = field(default_factory=dict)
    forgotten: int = 0


Reader = Callable[[Workshop, Any, str, Sequence[Publication]], Reading]


def observe_posts(workshop: Workshop, apps: Mapping[str, Any], day: date, timezone: ZoneInfo) -> Observation:
    """Rows of `publication_metrics` for every post on a platform, by channel; `apps` by platform.

    A channel that cannot be asked is a problem of its own and does not keep the others from being asked; when none
    could be asked, the first failure is raised. Raises PermanentError `day_is_over` from an hour after the end of
    `day` in `timezone`.
    """
    _check_day(day, workshop.clock(), timezone)
    observation = Observation()
    failures: list[PipelineError] = []
    for (platform, account), posts in _posts_by_channel(workshop.db).items():
        observation.channels += 1
        try:
            reading = READERS[platform](workshop, apps[platform], account, posts)
        except PipelineError as error:
            failures.append(error)
            observation.problems.append(f"{account} on {platform}: {error}")
            continue
        observed_at = workshop.clock()
        seen = [post for post in posts if post.id in reading.counters]
        observation.unseen += len(posts) - len(seen)
        observation.forgotten += reading.forgotten
        observation.rows += [
            {
                "day": day,
                "platform": platform,
                "source_id": post.content_id,
                "publication_id": post.id,
                "remote_id": post.remote_id,
                "observed_at": observed_at,
                **vars(reading.counters[post.id]),
            }
            for post in seen
        ]
    if failures and len(failures) == observation.channels:
        raise failures[0]
    return observation


def _check_day(day: date, now: datetime, timezone: ZoneInfo) -> None:
    if day < business_day_of(now - GRACE, timezone):
        raise PermanentError(
            f"{day} is over, and platforms tell figures of now only.",
            code="day_is_over",
            remedy=f"Materialize the partition of today, {business_day_of(now, timezone)}; "
            "the table of a past day stays as it was read.",
        )


def _posts_by_channel(db: StateDatabase) -> dict[tuple[str, str], list[Publication]]:
    with db.session(write=False) as session:
        posts = session.scalars(
            sa.select(Publication)
            .where(Publication.state.in_(sorted(ON_THE_PLATFORM)))
            .order_by(Publication.platform, Publication.account_id, Publication.created_at)
        ).all()
    grouped: dict[tuple[str, str], list[Publication]] = defaultdict(list)
    for post in posts:
        grouped[post.platform, post.account_id].append(post)
    return grouped


def _read_youtube(
    workshop: Workshop, app: youtube.YouTubeApp, account: str, posts: Sequence[Publication]
) -> Reading:
    """By the channel's own token, which sees its private videos too; one unit of the bucket per 50 videos."""
    token = access_token(workshop.db, app, account, "youtube", envelope=workshop.envelope)
    channel = app.channel(token)
    publication_of = {post.remote_id: post.id for post in posts if post.remote_id}
    reading = Reading()
    for ids in _batches(list(publication_of), youtube.MAX_IDS_PER_CALL):
        slot = quota.reserve(workshop.db, "youtube", "batch_get_stats", 1, workshop.clock)
        quota.commit(workshop.db, slot)
        for stats in channel.batch_get_stats(ids):
            reading.counters[publication_of[stats.video_id]] = Counters(
                stats.views, stats.likes, stats.comments
            )
    return reading


def _read_tiktok(
    workshop: Workshop, app: tiktok.TikTokApp, account: str, posts: Sequence[Publication]
) -> Reading:
    token = access_token(workshop.db, app, account, "tiktok", envelope=workshop.envelope)
    creator = app.creator(token)
    reading = Reading(forgotten=_learn_ids(workshop, creator, posts))
    publication_of = {post.remote_id: post.id for post in posts if post.remote_id}
    for ids in _batches(list(publication_of), tiktok.MAX_IDS_PER_QUERY):
        for video in creator.query_videos(ids):
            reading.counters[publication_of[video.id]] = Counters(
                video.views, video.likes, video.comments, video.shares
            )
    return reading


def _learn_ids(workshop: Workshop, creator: tiktok.TikTokCreator, posts: Sequence[Publication]) -> int:
    """Ask for the ids of public posts that had none when they were published, newest first, and note them.

    Returns how many of those asked for are forgotten. Names are a by-product here: what stands in the way of one
    must not hide the figures of the others.
    """
    ledger = Ledger(workshop.db, workshop.envelope, clock=workshop.clock, owner=workshop.owner)
    oldest = workshop.clock() - IDS_ASKED_FOR
    nameless = [
        post
        for post in sorted(posts, key=_posted_at, reverse=True)
        if post.remote_id is None and post.privacy == TIKTOK_PUBLIC and _posted_at(post) > oldest
    ]
    forgotten = 0
    for post in nameless[:IDS_ASKED_PER_RUN]:
        try:
            status = creator.status(ledger.open_handle(post)[PUBLISH_ID])
        except TransientError:
            # Too many questions, or a TikTok that answers nothing: then reading the figures says so.
            break
        except PipelineError as error:
            if not isinstance(error, PermanentError) and error.code not in LOST_SECRET_CODES:
                raise
            forgotten += 1
            continue
        if status.post_ids:
            post.remote_id = status.post_ids[0]
            ledger.note_remote_id(post.id, post.remote_id, page_of_post(post, post.remote_id))
    return forgotten


def _posted_at(post: Publication) -> datetime:
    return post.settled_at or post.created_at


READERS: Mapping[str, Reader] = {"youtube": _read_youtube, "tiktok": _read_tiktok}


def _batches(ids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
