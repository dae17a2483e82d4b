"""Which connected YouTube channels may be asked what they earn, and what of ours is on them.

What they answer is booked by `revenue/youtube.py`; nothing here asks for money. Called by the asset `youtube_revenue`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from ettametta_pipelines.publishing.ledger import ON_THE_PLATFORM
from ettametta_pipelines.publishing.tokens import Envelope, access_token
from ettametta_pipelines.state.models import OAuthConnection, Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.youtube import YouTubeApp
from ettametta_pipelines.vendors.youtube_analytics import MONETARY_SCOPE


@dataclass(frozen=True)
class Post:
    """A video of ours on a channel: its row of the ledger, its source, and when it was there."""

    publication_id: str
    source_id: str
    published_at: datetime


@dataclass(frozen=True)
class EarningChannel:
    """A channel of an account. `token` gives an access token or raises a PipelineError; `posts` by video id."""

    account: str
    channel_id: str
    may_tell: bool
    token: Callable[[], str]
    posts: Mapping[str, Post]


def earning_channels(
    db: StateDatabase, app: YouTubeApp, envelope: Callable[[], Envelope]
) -> list[EarningChannel]:
    """Every connected YouTube channel, by account; `may_tell` where consent covers money."""
    with db.session(write=False) as session:
        connections = session.scalars(
            sa.select(OAuthConnection).filter_by(platform="youtube").order_by(OAuthConnection.account_id)
        ).all()
        published = session.scalars(
            sa.select(Publication).where(
                Publication.platform == "youtube",
                Publication.state.in_(sorted(ON_THE_PLATFORM)),
                Publication.remote_id.is_not(None),
            )
        ).all()

    def token_of(account: str) -> Callable[[], str]:
        return lambda: access_token(db, app, account, "youtube", envelope=envelope())

    return [
        EarningChannel(
            row.account_id,
            row.channel_id,
            MONETARY_SCOPE in row.scopes.split(),
            token_of(row.account_id),
            {
                str(post.remote_id): Post(post.id, post.content_id, post.settled_at or post.created_at)
                for post in published
                if post.channel_id == row.channel_id
            },
        )
        for row in connections
    ]
