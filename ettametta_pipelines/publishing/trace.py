"""Reading the ledger for people: what became of a source video on every platform, step by step. No secrets."""

from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.state.models import (
    Publication,
    PublicationEvent,
    PublicationExtra,
    PublicationRights,
)
from ettametta_pipelines.state.session import StateDatabase

# Everything but the encrypted handle.
_SHOWN = (
    "platform", "account_id", "channel_id", "intent_no", "state", "remote_id", "url", "privacy", "title",
    "object_key", "sha256", "size_bytes", "received_bytes", "marker", "attempts", "request_id", "lease_owner",
    "lease_until", "check_count", "next_check_at", "error_code", "error_message", "created_at", "settled_at",
)  # fmt: skip

_OF_AN_EXTRA = ("kind", "object_key", "sha256", "tried_at", "done_at", "error_code", "error_message")


def publication_chain(db: StateDatabase, source_id: str) -> list[dict[str, Any]]:
    """Publications of a source video, oldest first, each with its `events` and the `rights` its file was posted by.

    `extras` are what was set on the post afterwards, or could not be: its thumbnail. JSON-able, instants as ISO 8601;
    `rights` is None where none were kept.
    """
    with db.session(write=False) as session:
        rows = session.scalars(
            sa.select(Publication)
            .where(Publication.content_id == source_id)
            .order_by(Publication.created_at, Publication.platform, Publication.intent_no)
        ).all()
        return [
            {
                "publication_id": row.id,
                **{name: _plain(getattr(row, name)) for name in _SHOWN},
                "rights": session.scalar(
                    sa.select(PublicationRights.rights).where(
                        PublicationRights.platform == row.platform,
                        PublicationRights.content_id == row.content_id,
                        PublicationRights.sha256 == row.sha256,
                    )
                ),
                "extras": [
                    {name: _plain(getattr(extra, name)) for name in _OF_AN_EXTRA}
                    for extra in session.scalars(
                        sa.select(PublicationExtra)
                        .where(PublicationExtra.publication_id == row.id)
                        .order_by(PublicationExtra.kind)
                    )
                ],
                "events": [
                    {
                        "at": _plain(event.at),
                        "from_state": event.from_state,
                        "to_state": event.to_state,
                        "reason": event.reason,
                        "detail": event.detail,
                        "actor": event.actor,
                        "fence": event.fence,
                    }
                    for event in session.scalars(
                        sa.select(PublicationEvent)
                        .where(PublicationEvent.publication_id == row.id)
                        .order_by(PublicationEvent.id)
                    )
                ],
            }
            for row in rows
        ]


def source_of_publication(db: StateDatabase, identifier: str) -> str | None:
    """Source video of a publication id, a platform's post id or a marker; None when the ledger has none."""
    with db.session(write=False) as session:
        return session.scalar(
            sa.select(Publication.content_id)
            .where(
                sa.or_(
                    Publication.id == identifier,
                    Publication.remote_id == identifier,
                    Publication.marker == identifier,
                    Publication.content_id == identifier,
                )
            )
            .limit(1)
        )


def _plain(value: Any) -> Any:
    return value.isoformat() if hasattr(value, "isoformat") else value
