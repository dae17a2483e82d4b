"""The seen-table of uploads: which version of which object was looked at, and what became of it.

Keyed by object key and ETag, so that nothing hangs on listing order or clocks. Written by the upload sensor
(`media/inbox.py`), read by it and by intake; judging files is not done here.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.state.models import Upload
from ettametta_pipelines.state.session import INSERTS, insert_if_absent

ACCEPTED = "accepted"
REFUSED = "refused"
# Keys in one statement; SQLite takes 32,766, and beyond a few hundred nothing is gained.
AT_ONCE = 500
LOOKED_BACK = 10_000
# Written out as the index of open arrivals has it: with a parameter in it the index is not used.
_IS_OPEN = sa.and_(Upload.settled_at.is_(None), Upload.status == sa.literal_column("'accepted'"))
_ARRIVED: dict[str, object] = {
    "status": ACCEPTED, "reason_code": None, "reason": None, "captions_key": None, "captions_etag": None,
    "captions_sha256": None, "settled_at": None,
}  # fmt: skip
# Of a video beside `clip.srt`. Captions of others are met with their video in a listing.
VIDEO_ENDINGS = ("mp4", "mov", "mkv", "webm", "m4v", "avi", "MP4", "MOV", "MKV", "M4V")


def find(session: Session, object_key: str, etag: str) -> Upload | None:
    """The record of exactly this version of the object."""
    return session.scalar(sa.select(Upload).where(Upload.object_key == object_key, Upload.etag == etag))


def find_all(session: Session, object_keys: Sequence[str]) -> list[Upload]:
    """Every version of every one of these objects."""
    found: list[Upload] = []
    for start in range(0, len(object_keys), AT_ONCE):
        some = object_keys[start : start + AT_ONCE]
        found += session.scalars(sa.select(Upload).where(Upload.object_key.in_(some)))
    return found


def newest_beside(session: Session, object_keys: Sequence[str]) -> dict[str, Upload]:
    """The newest version of the upload that each sidecar or captions speaks of, where there is one.

    `clip.mp4.json` and `clip.mp4.srt` speak of `clip.mp4`, `clip.srt` of the video of that name, and captions of
    whichever upload's sidecar names them.
    """
    spoken_of: dict[str, list[str]] = {}
    for key in object_keys:
        stem = key.rpartition(".")[0]
        for upload_key in (stem, *(f"{stem}.{ending}" for ending in VIDEO_ENDINGS)):
            spoken_of.setdefault(upload_key, []).append(key)
    rows = [(key, row) for row in find_all(session, list(spoken_of)) for key in spoken_of[row.object_key]]
    for start in range(0, len(object_keys), AT_ONCE):
        some = object_keys[start : start + AT_ONCE]
        named = session.scalars(sa.select(Upload).where(Upload.captions_key.in_(some)))
        rows += [(str(row.captions_key), row) for row in named]
    # A sidecar's name holds the whole name of its upload.
    sure = [
        (k, row)
        for k, row in rows
        if not k.endswith(".json") or k in (f"{row.object_key}.json", row.captions_key)
    ]
    return dict(sorted(sure, key=lambda pair: (pair[1].seen_at, pair[1].id)))


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
    captions_key: str | None = None,
    captions_etag: str | None = None,
    captions_sha256: str | None = None,
    title: str | None = None,
) -> Upload:
    """Record an upload that becomes a source video, with the versions of its sidecar and captions at that time.

    `title` is the one its sidecar states.

    Recording the same version of the object again updates its row: so words that come later are taken up. Either way
    a run is wanted, and the row is open until `settle`.
    """
    return _record(
        session, object_key, etag, size=size, account_id=account_id, niche=niche, sha256=sha256,
        source_id=source_id, status=ACCEPTED, reason_code=None, reason=None,
        sidecar_etag=sidecar_etag, sidecar_sha256=sidecar_sha256, captions_key=captions_key,
        captions_etag=captions_etag, captions_sha256=captions_sha256, seen_at=seen_at, settled_at=None, title=title,
    )  # fmt: skip


def record_arrivals(session: Session, arrivals: Sequence[Mapping[str, object]]) -> None:
    """`record_arrival` of many at once, with its arguments as mappings."""
    if not arrivals:
        return
    rows = [{**_ARRIVED, **arrival} for arrival in arrivals]
    statement = INSERTS[session.get_bind().dialect.name](Upload.__table__)
    key = ("object_key", "etag")
    changed = {name: statement.excluded[name] for name in rows[0].keys() - set(key)}
    session.execute(statement.on_conflict_do_update(index_elements=key, set_=changed), rows)


def known_sources(session: Session, source_ids: Sequence[str]) -> set[str]:
    """Those of these contents that an accepted upload had before."""
    found: set[str] = set()
    for start in range(0, len(source_ids), AT_ONCE):
        some = source_ids[start : start + AT_ONCE]
        query = sa.select(Upload.source_id).where(Upload.source_id.in_(some), Upload.status == ACCEPTED)
        found.update(str(source_id) for source_id in session.scalars(query.distinct()))
    return found


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


def adopt_captions(session: Session, upload_id: int, captions_key: str, captions_etag: str) -> None:
    """Note the captions of an upload that was recorded before captions were."""
    session.execute(
        sa.update(Upload)
        .where(Upload.id == upload_id, Upload.captions_key.is_(None))
        .values(captions_key=captions_key, captions_etag=captions_etag)
    )


def open_arrivals(session: Session, *, limit: int = AT_ONCE) -> list[Upload]:
    """Of each source video that may lack a run the newest accepted upload, those waiting longest first.

    A daemon killed between the seen-table and the run leaves its arrivals here, however long it is away.
    """
    waiting = session.scalars(
        sa.select(Upload.source_id).where(_IS_OPEN).order_by(Upload.seen_at).limit(limit)
    ).all()
    rows = session.scalars(
        sa.select(Upload)
        .where(Upload.source_id.in_(waiting), Upload.status == ACCEPTED)
        .order_by(Upload.seen_at, Upload.id)
    )
    newest = {row.source_id: row for row in rows}
    return [newest[source_id] for source_id in dict.fromkeys(waiting)]


def settle(session: Session, arrivals: Sequence[Upload], now: datetime) -> None:
    """The runs of these arrivals exist: neither they nor older ones of their source videos wait any longer."""
    if arrivals:
        session.connection().execute(
            sa.update(Upload)
            .where(
                Upload.source_id == sa.bindparam("of_source"),
                Upload.settled_at.is_(None),
                Upload.seen_at <= sa.bindparam("until"),
            )
            .values(settled_at=now),
            [{"of_source": upload.source_id, "until": upload.seen_at} for upload in arrivals],
        )


def accounts_seen(session: Session, accounts: Sequence[str]) -> set[str]:
    """Those of these accounts that anything was ever seen of."""
    return {
        account
        for account in accounts
        if session.scalar(sa.select(Upload.id).where(Upload.account_id == account).limit(1)) is not None
    }


def active_folders(session: Session, since: datetime, *, limit: int) -> list[tuple[str, str]]:
    """(Account, niche) of uploads seen since then, the latest first."""
    # Grouped here: to group, SQLite reads by account, which is every row there ever was.
    rows = session.execute(
        sa.select(Upload.account_id, Upload.niche)
        .where(Upload.seen_at >= since)
        .order_by(Upload.seen_at.desc())
        .limit(LOOKED_BACK)
    )
    latest_first = dict.fromkeys((str(account), str(niche)) for account, niche in rows if account and niche)
    return list(latest_first)[:limit]


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
