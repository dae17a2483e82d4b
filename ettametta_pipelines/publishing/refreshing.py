"""Renewing tokens before they run out, and the list of connected channels as operators see it.

A pair is renewed at 50 to 70 % of its life, so that posts do not meet an expired token and a vendor that is down for a
while costs nothing. Called by the asset `connected_channels` and by the schedule that starts it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.publishing.connections import connected
from ettametta_pipelines.publishing.reauth import ACTIVE, REAUTH_REQUIRED, raise_alerts
from ettametta_pipelines.publishing.tokens import Envelope, RefreshingApp, not_due, renewed
from ettametta_pipelines.state.models import DatabaseNow, OAuthConnection
from ettametta_pipelines.state.session import StateDatabase

FIRST_BACKOFF = timedelta(minutes=5)
MAX_BACKOFF = timedelta(hours=1)

_DUE = sa.and_(
    OAuthConnection.status == ACTIVE,
    sa.or_(OAuthConnection.refresh_due_at.is_(None), OAuthConnection.refresh_due_at <= DatabaseNow()),
)


@dataclass
class Renewals:
    """What became of the pairs that were due: counts, and a sentence for each that failed."""

    renewed: int = 0
    ended: int = 0
    problems: list[str] = field(default_factory=list)


def count_due(db: StateDatabase) -> int:
    """How many pairs are to be renewed now."""
    with db.session(write=False) as session:
        return session.scalar(sa.select(sa.func.count()).select_from(OAuthConnection).where(_DUE)) or 0


def refresh_due(db: StateDatabase, apps: Mapping[str, RefreshingApp], envelope: Envelope) -> Renewals:
    """Renew every pair that is due, each under its lock. One channel's trouble does not stop the others.

    A failure keeps the old pair and moves the next attempt ahead, doubling from five minutes to an hour.
    """
    with db.session(write=False) as session:
        due = session.execute(
            sa.select(OAuthConnection.account_id, OAuthConnection.platform)
            .where(_DUE)
            .order_by(OAuthConnection.expires_at)
        ).all()
    result = Renewals()
    for account, platform in due:
        try:
            renewed(db, apps[platform], account, platform, not_due(envelope), envelope=envelope)
            result.renewed += 1
        except PipelineError as error:
            if error.code == REAUTH_REQUIRED:
                result.ended += 1
                continue
            _put_off(db, account, platform)
            result.problems.append(f"{account} on {platform}: {error}")
    # What a process that died between the mark and the alert has left unsaid.
    raise_alerts(db)
    return result


def _put_off(db: StateDatabase, account: str, platform: str) -> None:
    with db.session() as session:
        row = session.scalars(
            sa.select(OAuthConnection)
            .where(OAuthConnection.account_id == account, OAuthConnection.platform == platform)
            .with_for_update()
        ).one_or_none()
        if row is not None:
            wait = min(FIRST_BACKOFF * 2**row.refresh_failures, MAX_BACKOFF)
            row.refresh_failures = min(row.refresh_failures + 1, 16)
            row.refresh_due_at = db.now(session) + wait


def channel_rows(db: StateDatabase, observed_at: datetime) -> list[dict[str, Any]]:
    """Rows of the table `connected_channels`, by account and platform. No token, open or sealed."""
    return [
        {
            "account": channel.account,
            "platform": channel.platform,
            "channel_id": channel.channel_id,
            "channel_title": channel.channel_title,
            "state": channel.status,
            "reason": channel.reauth_reason,
            "scopes": " ".join(channel.scopes),
            "not_granted": " ".join(channel.not_granted),
            "token_expires_at": channel.expires_at,
            "consent_expires_at": channel.refresh_expires_at,
            "last_refresh_at": channel.refreshed_at,
            "next_refresh_at": channel.refresh_due_at if channel.status == ACTIVE else None,
            "failed_refreshes": channel.refresh_failures,
            "connected_at": channel.connected_at,
            "observed_at": observed_at,
        }
        for channel in connected(db)
    ]
