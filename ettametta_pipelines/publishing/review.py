"""Posts as a person looks through them: what waits, what went out, and the two answers to one that is in doubt.

The answers go through the ledger, which checks them and writes who gave them. Called by the gateway, and by the sensor
that starts what was ordered again.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import aliased

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.publishing.connections import find
from ettametta_pipelines.publishing.ledger import SETTLED, Intent, Ledger, State, not_in_review
from ettametta_pipelines.publishing.remote_ids import remote_id_of
from ettametta_pipelines.publishing.tiktok_upload import page_of_post
from ettametta_pipelines.publishing.tokens import Envelope, another_channel_connected
from ettametta_pipelines.publishing.trace import publications_told
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import Publication, PublicationEvent
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.youtube import watch_url

NEEDING_A_PERSON = frozenset({State.NEEDS_REVIEW, State.INCIDENT})
UNDER_WAY = frozenset(State) - SETTLED
DONE = SETTLED - NEEDING_A_PERSON


def listed(
    db: StateDatabase,
    states: Collection[State],
    *,
    limit: int = 100,
    accounts: Collection[str] | None = None,
) -> list[Publication]:
    """Publications in these states, of these accounts or of all, those that moved last first."""
    return lists(db, (states, limit), accounts=accounts)[0]


def lists(
    db: StateDatabase,
    *wanted: tuple[Collection[State], int],
    accounts: Collection[str] | None = None,
) -> list[list[Publication]]:
    """`listed` for each of several (states, limit), asked for at once. No state is in two of them."""
    parts = [
        sa.select(Publication)
        .where(Publication.state.in_([str(state) for state in states]), _of(accounts))
        .order_by(Publication.updated_at.desc())
        .limit(limit)
        .subquery()
        for states, limit in wanted
    ]
    found = aliased(Publication, sa.union_all(*map(sa.select, parts)).subquery())
    with db.session(write=False) as session:
        rows = session.scalars(sa.select(found).order_by(found.updated_at.desc())).all()
    return [[row for row in rows if row.state in states] for states, _ in wanted]


def counted(db: StateDatabase, *, accounts: Collection[str] | None = None) -> dict[str, int]:
    """State -> how many publications of these accounts, or of all, are in it; states without any are left out."""
    with db.session(write=False) as session:
        query = sa.select(Publication.state, sa.func.count()).where(_of(accounts)).group_by(Publication.state)
        return {row[0]: row[1] for row in session.execute(query)}


def account_of(db: StateDatabase, publication_id: str) -> str:
    """Whose post it is. Raises PermanentError `unknown_publication`."""
    return _row(db, publication_id).account_id


def history(db: StateDatabase, publication_id: str) -> dict[str, Any]:
    """One publication with its `events`, as `trace` tells it. Raises PermanentError `unknown_publication`."""
    for row, told in publications_told(db, Publication.id == publication_id):
        return told | {"content_id": row.content_id, "first_mutation_at": row.first_mutation_at}
    raise unknown_publication(publication_id)


@dataclass(frozen=True)
class Reviewer:
    """A person at work on posts in doubt. `actor` is written into the audit trail."""

    db: StateDatabase
    envelope: Envelope
    settings: Settings
    actor: str
    clock: Clock = utc_now

    @property
    def _ledger(self) -> Ledger:
        return Ledger(self.db, self.envelope, clock=self.clock, owner=self.actor)

    def declare_live(self, publication_id: str, found: str) -> Publication:
        """The post is on the channel: `found` is its id or address there.

        Raises PermanentError `bad_post_id`, and what `Ledger.declare_live` raises.
        """
        row = _row(self.db, publication_id)
        remote_id = remote_id_of(row.platform, found)
        if row.platform == "youtube":
            url: str | None = watch_url(self.settings.endpoint("google"), remote_id)
        else:
            url = page_of_post(row, remote_id)
        return self._ledger.declare_live(publication_id, remote_id, url=url)

    def post_again(self, publication_id: str) -> Publication:
        """The post is not on the channel: settle it as failed by this person's word and order the next intent.

        Both in one transaction. Raises NeedsPersonError `post_not_in_review`, or QuotaExhausted, changing nothing.
        """
        row = _row(self.db, publication_id)
        if row.state != State.NEEDS_REVIEW:
            raise not_in_review(row)
        channel = find(self.db, row.account_id, row.platform)
        if channel is not None and channel.channel_id != row.channel_id:
            raise another_channel_connected(
                row.account_id, row.platform, row.channel_id, channel.channel_title
            )
        return self._ledger.plan(
            Intent(
                platform=row.platform,
                account=row.account_id,
                channel_id=row.channel_id,
                content_id=row.content_id,
                object_key=row.object_key,
                sha256=row.sha256,
                size_bytes=row.size_bytes,
                title=row.title,
                privacy=row.privacy,
                intent_no=row.intent_no + 1,
                request_id=row.request_id,
                wishes=row.wishes,
            ),
            in_place_of_one_in_review=True,
        )


def ordered_again(db: StateDatabase) -> list[tuple[Publication, str]]:
    """Posts that a person ordered again and no worker has taken up yet, oldest first, each with who ordered it."""
    planned = PublicationEvent.from_state.is_(None)
    with db.session(write=False) as session:
        query = (
            sa.select(Publication, PublicationEvent.actor)
            .join(PublicationEvent, sa.and_(PublicationEvent.publication_id == Publication.id, planned))
            .where(Publication.state == State.PLANNED, Publication.intent_no > 1, Publication.attempts == 0)
            .order_by(Publication.created_at)
        )
        return [(row, actor) for row, actor in session.execute(query)]


def unknown_publication(publication_id: str) -> PermanentError:
    return PermanentError(
        f"There is no publication {publication_id[:80]!r}.",
        code="unknown_publication",
        remedy="The page Posts lists them.",
    )


def _of(accounts: Collection[str] | None) -> sa.ColumnElement[bool]:
    return sa.true() if accounts is None else Publication.account_id.in_(accounts)


def _row(db: StateDatabase, publication_id: str) -> Publication:
    with db.session(write=False) as session:
        row = session.get(Publication, publication_id)
    if row is None:
        raise unknown_publication(publication_id)
    return row
