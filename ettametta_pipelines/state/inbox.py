"""The inbox of vendors' messages: each is stored once, whatever the vendor repeats, and applied afterwards.

Storing is the gateway's business, applying the rooms'. Nothing here knows what a message means.
"""

from datetime import timedelta

import sqlalchemy as sa

from ettametta_pipelines.state.models import DatabaseNow, WebhookEvent
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

KEPT = timedelta(days=90)


def store(db: StateDatabase, source: str, event_id: str, kind: str, body: str) -> bool:
    """Put a verified message into the inbox; False when it is there already."""
    with db.session() as session:
        row = {
            "source": source, "event_id": event_id, "kind": kind, "body": body, "received_at": db.now(session),
        }  # fmt: skip
        return insert_if_absent(session, WebhookEvent, row)


def waiting(db: StateDatabase, *, limit: int = 500) -> list[WebhookEvent]:
    """Messages without an effect yet, oldest first."""
    with db.session(write=False) as session:
        query = sa.select(WebhookEvent).where(WebhookEvent.handled_at.is_(None)).order_by(WebhookEvent.id)
        return list(session.scalars(query.limit(limit)))


def mark_handled(db: StateDatabase, event_number: int, outcome: str) -> None:
    """Note what a message came to, and drop handled ones of long ago."""
    with db.session() as session:
        session.execute(
            sa.update(WebhookEvent)
            .where(WebhookEvent.id == event_number)
            .values(handled_at=DatabaseNow(), outcome=outcome)
        )
        session.execute(
            sa.delete(WebhookEvent).where(WebhookEvent.handled_at < DatabaseNow(-KEPT.total_seconds()))
        )
