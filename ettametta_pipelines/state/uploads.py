"""The seen-table of uploads: which version of which object was looked at, and what became of it.

Keyed by object key and ETag, so that nothing hangs on listing order or clocks. Written by the upload sensor
(`media/inbox.py`), read by it and by intake; judging files is not done here.
"""

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.state.models import Upload
from ettametta_pipelines.state.session import insert_if_absent

ACCEPTED = "accepted"
REFUSED = "refused"


def find(session: Session, object_key: str, etag: str) -> Upload | None:
    """The record of exactly this version of the object."""
    return session.scalar(sa.select(Upload).where(Upload.object_key == object_key, Upload.etag == etag))


def record_arrival(
    session: Session,
    *,
    object_key: str,
    etag: str,
    size: int,
    account_id: str,
    niche: str,
    sha256: str,
    source_id: str,
    sidecar_etag: str | None,
    sidecar_sha256: str | None,
    seen_at: datetime,
) -> Upload:
    """Record an upload that becomes a source video, with the version of its sidecar at that time.

    Recording the same version of the object again updates its row: so a sidecar that comes later is taken up.
    """
    return _record(
        session, object_key, etag, size=size, account_id=account_id, niche=niche, sha256=sha256,
        source_id=source_id, status=ACCEPTED, reason_code=None, reason=None,
        sidecar_etag=sidecar_etag, sidecar_sha256=sidecar_sha256, seen_at=seen_at,
    )  # fmt: skip


def record_refusal(
    session: Session,
    *,
    object_key: str,
    etag: str,
    size: int,
    account_id: str | None,
    niche: str | None,
    reason_code: str,
    reason: str,
    seen_at: datetime,
) -> Upload:
    """Record an object that cannot be used, and why. `account_id` and `niche` as far as its key tells them."""
    return _record(
        session, object_key, etag, size=size, account_id=account_id, niche=niche, sha256=None,
        source_id=None, status=REFUSED, reason_code=reason_code, reason=reason,
        sidecar_etag=None, sidecar_sha256=None, seen_at=seen_at,
    )  # fmt: skip


def newest_of_key(session: Session, object_key: str) -> Upload | None:
    """The newest record of an object, whatever became of it."""
    return session.scalar(
        sa.select(Upload)
        .where(Upload.object_key == object_key)
        .order_by(Upload.seen_at.desc(), Upload.id.desc())
        .limit(1)
    )


def for_source(session: Session, source_id: str) -> Upload | None:
    """The newest accepted upload with this content, which carries the sidecar that counts."""
    return session.scalar(
        sa.select(Upload)
        .where(Upload.source_id == source_id, Upload.status == ACCEPTED)
        .order_by(Upload.seen_at.desc(), Upload.id.desc())
        .limit(1)
    )


def accepted_since(session: Session, instant: datetime) -> list[Upload]:
    """Accepted uploads seen at or after `instant`, oldest first."""
    return list(
        session.scalars(
            sa.select(Upload)
            .where(Upload.status == ACCEPTED, Upload.seen_at >= instant)
            .order_by(Upload.seen_at, Upload.id)
        )
    )


def accepted_sources(session: Session) -> list[str]:
    """Every source id with an accepted upload, sorted."""
    return list(
        session.scalars(
            sa.select(Upload.source_id)
            .where(Upload.status == ACCEPTED, Upload.source_id.is_not(None))
            .distinct()
            .order_by(Upload.source_id)
        )
    )


def _record(session: Session, object_key: str, etag: str, **columns: object) -> Upload:
    row = {"object_key": object_key, "etag": etag, **columns}
    if not insert_if_absent(session, Upload, row):
        session.execute(
            sa.update(Upload).where(Upload.object_key == object_key, Upload.etag == etag).values(columns)
        )
    upload = find(session, object_key, etag)
    if upload is None:
        raise LookupError(f"the row of {object_key} vanished within its own transaction")
    return upload
