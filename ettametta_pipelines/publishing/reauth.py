"""The end of a consent: a channel is marked once, its posts stop, and a person hears of it once.

Marked by `tokens.py` when a vendor refuses the refresh token, and by TikTok's `authorization.removed`. Everything that
posts asks `connections.require` first and is refused from then on; nothing here tries again.
"""

import logging
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.state.models import ConnectionEvent, DatabaseNow, OAuthConnection
from ettametta_pipelines.state.session import StateDatabase

ACTIVE = "active"
REAUTH_REQUIRED = "reauth_required"
CONSENT_ENDED = "consent_ended"

log = logging.getLogger(__name__)


def reauth_required(account: str, platform: str) -> NeedsPersonError:
    return NeedsPersonError(
        f"{account}'s consent to post on {platform} has ended.",
        code=REAUTH_REQUIRED,
        remedy=f"Give consent again on the gateway's page /accounts/{account}/{platform} "
        f"(in the sandbox also `ettametta connect --account {account} --platform {platform}`).",
    )


def note_event(
    session: Session, row: OAuthConnection, event: str, *, actor: str, detail: str, now: datetime
) -> None:
    """One line of the channel's audit trail. `detail` holds no secret."""
    session.add(
        ConnectionEvent(
            account_id=row.account_id, platform=row.platform, channel_id=row.channel_id, at=now,
            event=event, actor=actor, detail=detail,
        )
    )  # fmt: skip


def end_consent(session: Session, row: OAuthConnection, reason: str, *, actor: str, now: datetime) -> None:
    """Stop the channel, in the transaction that holds its row. Nothing when it is stopped already."""
    if row.status == REAUTH_REQUIRED:
        return
    row.status = REAUTH_REQUIRED
    row.reauth_reason = reason
    row.updated_at = now
    note_event(session, row, CONSENT_ENDED, actor=actor, detail=reason, now=now)


def raise_alerts(db: StateDatabase) -> int:
    """One ERROR record for every channel whose consent has ended since the last time; returns how many there were.

    Claimed in the database, so that of several processes one speaks, and spoken after the commit that stopped the
    channel; if a process dies in between, the hourly look at the channels says it instead.
    """
    with db.session() as session:
        claimed = session.execute(
            sa.update(OAuthConnection)
            .where(OAuthConnection.status == REAUTH_REQUIRED, OAuthConnection.alerted_at.is_(None))
            .values(alerted_at=DatabaseNow())
            .returning(OAuthConnection.account_id, OAuthConnection.platform, OAuthConnection.reauth_reason)
            .execution_options(synchronize_session=False)
        ).all()
    for account, platform, reason in claimed:
        log.error("%s Reason: %s", reauth_required(account, platform), reason)
    return len(claimed)
