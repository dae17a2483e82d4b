"""Reading the ledger for people: what became of a source video on every platform, step by step. No secrets."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

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
_OF_AN_EVENT = ("at", "from_state", "to_state", "reason", "detail", "actor", "fence")


def publication_chain(db: StateDatabase, source_id: str) -> list[dict[str, Any]]:
    """Publications of a source video, oldest first, each with its `events` and the `rights` its file was posted by.

    `extras` are what was set on the post afterwards, or could not be: its thumbnail. JSON-able, instants as ISO 8601;
    `rights` is None where none were kept.
    """
    return [told for _, told in publications_told(db, Publication.content_id == source_id)]


def publications_told(
    db: StateDatabase, which: sa.ColumnElement[bool]
) -> list[tuple[Publication, dict[str, Any]]]:
    """Publications with what `publication_chain` tells of them, in three questions however many they are."""
    of_its_file = sa.and_(
        PublicationRights.platform == Publication.platform,
        PublicationRights.content_id == Publication.content_id,
        PublicationRights.sha256 == Publication.sha256,
    )
    with db.session(write=False) as session:
        found = (
            session.execute(
                sa.select(Publication, PublicationRights.rights)
                .outerjoin(PublicationRights, of_its_file)
                .where(which)
                .order_by(Publication.created_at, Publication.platform, Publication.intent_no)
            )
            .tuples()
            .all()
        )
        ids = [row.id for row, _ in found]
        extras, events = (
            _by_publication(session, kind, ids, order)
            for kind, order in ((PublicationExtra, "kind"), (PublicationEvent, "id"))
        )
    return [
        (
            row,
            {
                "publication_id": row.id,
                **{name: _plain(getattr(row, name)) for name in _SHOWN},
                "rights": rights,
                "extras": [
                    {name: _plain(getattr(one, name)) for name in _OF_AN_EXTRA} for one in extras[row.id]
                ],
                "events": [
                    {name: _plain(getattr(one, name)) for name in _OF_AN_EVENT} for one in events[row.id]
                ],
            },
        )
        for row, rights in found
    ]


def _by_publication(session: Session, kind: Any, ids: list[str], order: str) -> dict[str, list[Any]]:
    """Rows about these publications, by publication."""
    rows: dict[str, list[Any]] = {publication_id: [] for publication_id in ids}
    if ids:
        query = sa.select(kind).where(kind.publication_id.in_(ids)).order_by(getattr(kind, order))
        for row in session.scalars(query):
            rows[row.publication_id].append(row)
    return rows


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
