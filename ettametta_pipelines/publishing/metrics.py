"""Statistics of our own posts, asked of the platforms on behalf of the channels they are on.

Called by the asset `publication_metrics`. Reads only, except that the id of a TikTok post, which TikTok tells only
once the post is public, is noted in the ledger when it has become known.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.publishing.delivery import Workshop
from ettametta_pipelines.publishing.ledger import ON_THE_PLATFORM, Ledger
from ettametta_pipelines.publishing.tiktok_upload import PUBLISH_ID
from ettametta_pipelines.publishing.tokens import access_token
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors import tiktok, youtube

TIKTOK_PUBLIC = "PUBLIC_TO_EVERYONE"
# TikTok answers 30 status questions a minute and creator; the rest are asked on the next run.
IDS_ASKED_PER_RUN = 20


@dataclass(frozen=True)
class Counters:
    """Figures of one post now. `shares` is None where the platform does not tell."""

    views: int | None
    likes: int | None
    comments: int | None
    shares: int | None = None


@dataclass
class Observation:
    """What the platforms said. `unseen` counts posts without public figures; `problems` one sentence per channel."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    unseen: int = 0
    channels: int = 0
    problems: list[str] = field(default_factory=list)


Reader = Callable[[Workshop, Any, str, Sequence[Publication]], dict[str, Counters]]


def observe_posts(workshop: Workshop, apps: Mapping[str, Any], day: date) -> Observation:
    """Rows of `publication_metrics` for every post on a platform, by channel; `apps` by platform.

    A channel that cannot be asked is a problem of its own and does not keep the others from being asked; when none
    could be asked, the first failure is raised.
    """
    observation = Observation()
    failures: list[PipelineError] = []
    for (platform, account), posts in _posts_by_channel(workshop.db).items():
        observation.channels += 1
        try:
            counters = READERS[platform](workshop, apps[platform], account, posts)
        except PipelineError as error:
            failures.append(error)
            observation.problems.append(f"{account} on {platform}: {error}")
            continue
        observed_at = workshop.clock()
        seen = [post for post in posts if post.id in counters]
        observation.unseen += len(posts) - len(seen)
        observation.rows += [
            {
                "day": day,
                "platform": platform,
                "source_id": post.content_id,
                "publication_id": post.id,
                "remote_id": post.remote_id,
                "observed_at": observed_at,
                **vars(counters[post.id]),
            }
            for post in seen
        ]
    if failures and len(failures) == observation.channels:
        raise failures[0]
    return observation


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
) -> dict[str, Counters]:
    """By the channel's own token, which sees its private videos too; one unit of the bucket per 50 videos."""
    token = access_token(workshop.db, app, account, "youtube", envelope=workshop.envelope)
    channel = app.channel(token)
    publication_of = {post.remote_id: post.id for post in posts if post.remote_id}
    counters = {}
    for ids in _batches(list(publication_of), youtube.MAX_IDS_PER_CALL):
        slot = quota.reserve(workshop.db, "youtube", "batch_get_stats", 1, workshop.clock)
        quota.commit(workshop.db, slot)
        for stats in channel.batch_get_stats(ids):
            counters[publication_of[stats.video_id]] = Counters(stats.views, stats.likes, stats.comments)
    return counters


def _read_tiktok(
    workshop: Workshop, app: tiktok.TikTokApp, account: str, posts: Sequence[Publication]
) -> dict[str, Counters]:
    token = access_token(workshop.db, app, account, "tiktok", envelope=workshop.envelope)
    creator = app.creator(token)
    _learn_ids(workshop, creator, posts)
    publication_of = {post.remote_id: post.id for post in posts if post.remote_id}
    counters = {}
    for ids in _batches(list(publication_of), tiktok.MAX_IDS_PER_QUERY):
        for video in creator.query_videos(ids):
            counters[publication_of[video.id]] = Counters(
                video.views, video.likes, video.comments, video.shares
            )
    return counters


def _learn_ids(workshop: Workshop, creator: tiktok.TikTokCreator, posts: Sequence[Publication]) -> None:
    """Ask for the ids of public posts that had none when they were published, and note them."""
    ledger = Ledger(workshop.db, workshop.envelope, clock=workshop.clock, owner=workshop.owner)
    nameless = [post for post in posts if post.remote_id is None and post.privacy == TIKTOK_PUBLIC]
    for post in nameless[:IDS_ASKED_PER_RUN]:
        status = creator.status(ledger.open_handle(post)[PUBLISH_ID])
        if status.post_ids:
            post.remote_id = status.post_ids[0]
            ledger.note_remote_id(post.id, post.remote_id, f"{post.url}/video/{post.remote_id}")


READERS: Mapping[str, Reader] = {"youtube": _read_youtube, "tiktok": _read_tiktok}


def _batches(ids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]
