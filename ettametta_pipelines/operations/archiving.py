"""Which source videos are finished and old enough to leave the live partitions.

Thousands of them make every look of the automation and of the UI slow. Only the partition goes: rows, renditions and
the ledger stay, `ettametta trace` knows the video, and `automation/restoring.py` calls it back. Nothing is deleted
here; the asset `archived_videos` takes the partitions away.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.publishing.approvals import APPROVE, HOLD
from ettametta_pipelines.publishing.ledger import State
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.models import ArchivedSource, Publication, PublicationDecision, Upload
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

# In all others something is still going to happen, by itself or by a person.
OVER = (State.PUBLISHED, State.FAILED_DEFINITE)


@dataclass(frozen=True)
class Finished:
    """Source videos that may be archived, and how many of the others stay for which reason."""

    source_ids: list[str] = field(default_factory=list)
    kept: Counter[str] = field(default_factory=Counter)


def find_finished(
    state: StateDatabase, live: Collection[str], busy: Collection[str], now: datetime, after: timedelta
) -> Finished:
    """Of the `live` source videos those nothing has happened to for `after`; `busy` have a run under way."""
    since = now - after
    with state.session(write=False) as session:
        reasons = {
            "a run is under way": frozenset(busy),
            "uploaded, or its words changed, lately": _sources(
                session, Upload.status == uploads.ACCEPTED, Upload.seen_at >= since
            ),
            "its run has not been started": _sources(session, Upload.settled_at.is_(None)),
            "a post is on its way or waits for a person": _posts(session, Publication.state.not_in(OVER)),
            "posted, or its post changed, lately": _posts(session, Publication.updated_at >= since),
            "a post is approved or held": _undecided(session),
            "called back lately": frozenset(
                session.scalars(
                    sa.select(ArchivedSource.source_id).where(ArchivedSource.restored_at >= since)
                )
            ),
        }
        known = _sources(session, Upload.status == uploads.ACCEPTED)
    finished = Finished()
    for source_id in sorted(live):
        why = next((why for why, those in reasons.items() if source_id in those), None)
        if why is None and source_id not in known:
            why = "no upload is known of it"
        if why is None:
            finished.source_ids.append(source_id)
        else:
            finished.kept[why] += 1
    return finished


def record_archived(state: StateDatabase, source_ids: Collection[str], now: datetime) -> None:
    with state.session() as session:
        for source_id in source_ids:
            row = {"source_id": source_id, "archived_at": now, "restored_at": None}
            if not insert_if_absent(session, ArchivedSource, row):
                session.execute(
                    sa.update(ArchivedSource).where(ArchivedSource.source_id == source_id).values(row)
                )


def record_restored(state: StateDatabase, source_id: str, now: datetime) -> bool:
    """Note that a source video was called back; False when it is none that was ever taken in."""
    with state.session() as session:
        if uploads.for_source(session, source_id) is None:
            return False
        row = {"source_id": source_id, "archived_at": now, "restored_at": now}
        if not insert_if_absent(session, ArchivedSource, row):
            session.execute(
                sa.update(ArchivedSource).where(ArchivedSource.source_id == source_id).values(restored_at=now)
            )
    return True


def archived(state: StateDatabase, live: Collection[str]) -> list[ArchivedSource]:
    """Source videos that are archived now, the latest first."""
    with state.session(write=False) as session:
        rows = session.scalars(
            sa.select(ArchivedSource).order_by(ArchivedSource.archived_at.desc(), ArchivedSource.source_id)
        )
        return [row for row in rows if row.source_id not in live]


def archived_since(state: StateDatabase, source_id: str) -> datetime | None:
    """When a source video was archived; None when it never was, or was called back."""
    with state.session(write=False) as session:
        row = session.get(ArchivedSource, source_id)
    return row.archived_at if row is not None and row.restored_at is None else None


def with_open_posts(state: StateDatabase) -> frozenset[str]:
    """Source videos with a post on its way, in doubt or waiting for a person."""
    with state.session(write=False) as session:
        return _posts(session, Publication.state.not_in(OVER))


def _sources(session: Session, *conditions: sa.ColumnElement[bool]) -> frozenset[str]:
    return frozenset(
        str(source_id)
        for source_id in session.scalars(
            sa.select(Upload.source_id).where(Upload.source_id.is_not(None), *conditions).distinct()
        )
    )


def _posts(session: Session, condition: sa.ColumnElement[bool]) -> frozenset[str]:
    return frozenset(session.scalars(sa.select(Publication.content_id).where(condition).distinct()))


def _undecided(session: Session) -> frozenset[str]:
    """Videos of posts whose last decision is to post, now or later, and that were not posted."""
    newest = (
        sa.select(sa.func.max(PublicationDecision.id))
        .group_by(
            PublicationDecision.platform,
            PublicationDecision.account_id,
            PublicationDecision.content_id,
            PublicationDecision.intent_no,
        )
        .scalar_subquery()
    )
    made = sa.exists().where(
        Publication.platform == PublicationDecision.platform,
        Publication.account_id == PublicationDecision.account_id,
        Publication.content_id == PublicationDecision.content_id,
        Publication.intent_no == PublicationDecision.intent_no,
    )
    return frozenset(
        session.scalars(
            sa.select(PublicationDecision.content_id).where(
                PublicationDecision.id.in_(newest), PublicationDecision.decision.in_([APPROVE, HOLD]), ~made
            )
        )
    )
