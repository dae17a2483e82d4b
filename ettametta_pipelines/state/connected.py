"""Channels that accounts are connected to, as rooms below publishing see them: whose and where, without tokens.

Connecting, and what a connection is good for, is publishing's business (`publishing/connections.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from ettametta_pipelines.state.models import OAuthConnection
from ettametta_pipelines.state.session import StateDatabase


@dataclass(frozen=True)
class OwnChannel:
    """An account's channel on a platform, active or not."""

    account: str
    platform: str
    channel_id: str
    title: str


def own_channels(db: StateDatabase) -> Sequence[OwnChannel]:
    """Every connected channel, by account and platform."""
    row = OAuthConnection
    query = sa.select(row.account_id, row.platform, row.channel_id, row.channel_title)
    with db.session(write=False) as session:
        found = session.execute(query.order_by(row.account_id, row.platform)).tuples()
        return [OwnChannel(*each) for each in found]
