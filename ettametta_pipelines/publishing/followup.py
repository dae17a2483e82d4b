"""Which publications are due to be looked at again without a person asking, and with what configuration.

A post that is being processed, one in doubt, and one whose worker was killed stay where they are until the asset runs
again. The schedule `publication_followup` asks here every few minutes and requests those runs; nothing is sent from
here. A post whose channel is gone is handed to a person instead. All times are the database's. A post that a run gave
up with an error before its last byte is not here: that run failed before an operator's eyes. Nor are posts of a
channel that waits for consent: their runs would only fail.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.publishing.ledger import BEFORE_THE_LAST_BYTE, Ledger, State
from ettametta_pipelines.publishing.tokens import ACTIVE
from ettametta_pipelines.state.models import DatabaseNow, OAuthConnection, Publication
from ettametta_pipelines.state.session import StateDatabase

# Looks at a post in processing grow apart with its age: moderation takes a minute, or the better part of a day.
SOONEST = timedelta(minutes=10)
LATEST = timedelta(hours=6)
SHARE_OF_AGE = 4
# Whoever disconnected the channel by mistake has this long to connect it again.
STRANDED_AFTER = timedelta(days=1)
CHANNEL_GONE = "channel_gone"

ON_THE_WAY = frozenset({State.FINALIZING, State.PROCESSING, State.RECONCILING})


@dataclass(frozen=True)
class DueLook:
    """One publication to run again. `key` is the same until a worker has taken it up, for a day at most.

    `wishes` is the run configuration of this very intent.
    """

    publication_id: str
    platform: str
    account: str
    source_id: str
    state: str
    key: str
    wishes: Mapping[str, Any]


def due_looks(db: StateDatabase) -> list[DueLook]:
    """Publications whose next look has come and that nobody holds, those waiting longest first."""
    with db.session(write=False) as session:
        now = db.now(session)
        rows = session.scalars(
            sa.select(Publication)
            .where(
                sa.or_(
                    Publication.state.in_(ON_THE_WAY),
                    # Whoever ends in an orderly way gives the lease back: this one was killed.
                    sa.and_(
                        Publication.state.in_(BEFORE_THE_LAST_BYTE), Publication.lease_owner.is_not(None)
                    ),
                ),
                sa.or_(Publication.lease_owner.is_(None), Publication.lease_until < now),
                sa.exists().where(
                    OAuthConnection.account_id == Publication.account_id,
                    OAuthConnection.platform == Publication.platform,
                    OAuthConnection.channel_id == Publication.channel_id,
                    OAuthConnection.status == ACTIVE,
                ),
            )
            .order_by(Publication.updated_at, Publication.id)
        ).all()
    return [_look(row, now) for row in rows if due_at(row) <= now]


def hand_over_stranded(ledger: Ledger, db: StateDatabase) -> int:
    """Give posts on their way to a person whose channel nobody has been connected to for a day; returns how many.

    A channel that only waits for consent is not gone: its posts go on when consent is given.
    """
    with db.session(write=False) as session:
        stranded = session.scalars(
            sa.select(Publication.id).where(
                Publication.state.in_(ON_THE_WAY),
                sa.or_(Publication.lease_owner.is_(None), Publication.lease_until < DatabaseNow()),
                Publication.updated_at < DatabaseNow(-STRANDED_AFTER.total_seconds()),
                ~sa.exists().where(
                    OAuthConnection.platform == Publication.platform,
                    OAuthConnection.account_id == Publication.account_id,
                    OAuthConnection.channel_id == Publication.channel_id,
                ),
            )
        ).all()
    for publication_id in stranded:
        with ledger.claimed(publication_id) as claim:
            ledger.advance(
                claim,
                State.NEEDS_REVIEW,
                reason=CHANNEL_GONE,
                error_code=CHANNEL_GONE,
                error_message="The channel was disconnected before the platform had said what became of the post.",
            )
    return len(stranded)


def due_at(row: Publication) -> datetime:
    """When a publication that is on its way is to be looked at again."""
    if row.state in BEFORE_THE_LAST_BYTE:
        return row.lease_until or row.updated_at
    if row.state == State.RECONCILING:
        return row.next_check_at or row.updated_at
    age = row.updated_at - (row.first_mutation_at or row.created_at)
    return row.updated_at + min(max(age / SHARE_OF_AGE, SOONEST), LATEST)


def wishes_of(row: Publication) -> dict[str, Any]:
    """The run configuration of this very intent."""
    # Rows from before wishes were kept say at least how the post was called and who might see it.
    kept = row.wishes or {"title": row.title, "privacy": row.privacy}
    return {**kept, "intent_no": row.intent_no}


def _look(row: Publication, now: datetime) -> DueLook:
    return DueLook(
        publication_id=row.id,
        platform=row.platform,
        account=row.account_id,
        source_id=row.content_id,
        state=row.state,
        # The fence rises with every claim. A run that failed before it could claim is asked for again the next day.
        key=f"{row.id}:{row.fence}:{now:%Y-%m-%d}",
        wishes=wishes_of(row),
    )
