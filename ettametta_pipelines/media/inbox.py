"""The inbox: what lies under `uploads/`, what is new in it, and how a file gets there.

The upload sensor calls `scan_inbox`; `ettametta upload` and the demo call `drop_upload`. Judging the content of a
file is intake's work (`intake.py`), not the inbox's: here an object is only placed, read once for its hash, and
written into the seen-table, so that a tick never does the same object twice.
"""

import hashlib
import json
import mimetypes
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.intake import UploadRefused, parse_upload_key
from ettametta_pipelines.media.sidecar import is_beside_an_upload
from ettametta_pipelines.renders.captions import read_captions_file
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectInfo, ObjectStore

UPLOADS_PREFIX = "uploads/"
SIDECAR_SUFFIX = ".json"
# A file copied into a directory store by hand grows while it is listed; one that was just touched waits a tick.
SETTLE = timedelta(seconds=2)


@dataclass(frozen=True)
class Arrival:
    """One accepted upload: `source_id` names its partition."""

    object_key: str
    source_id: str
    account: str
    niche: str
    sha256: str


@dataclass(frozen=True)
class Refusal:
    object_key: str
    reason_code: str
    reason: str


@dataclass
class InboxScan:
    """What one look at the inbox found. `deferred` counts new objects left for the next look."""

    looked_at: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    deferred: int = 0


def source_id_of(account: str, sha256: str) -> str:
    """Partition key of a source video: the account and the first 16 hex digits of the content's hash."""
    return f"{account}--{sha256[:16]}"


def drop_upload(
    store: ObjectStore,
    file: Path,
    *,
    account: str,
    niche: str,
    niches: Collection[str],
    day: date,
    rights: str | None = None,
    title: str | None = None,
    recipe: str | None = None,
    captions: Path | None = None,
) -> str:
    """Put a local file under `uploads/` as a user would, its sidecar and captions first; returns the object key.

    Raises PermanentError `file_not_found`, CaptionsInvalid for captions that intake would not take, or UploadRefused
    when account or niche would be refused by the sensor.
    """
    if not file.is_file():
        raise PermanentError(
            f"{file} is not a file that can be uploaded.",
            code="file_not_found",
            remedy="Check the path.",
        )
    key = f"{UPLOADS_PREFIX}{account}/{niche}/{day:%Y/%m/%d}/{file.name}"
    parse_upload_key(key, niches)
    sidecar = {"rights": rights, "title": title, "recipe": recipe}
    if captions is not None:
        read_captions_file(captions)
        # Word timings are JSON, as the sidecar is, so they have a name of their own and the sidecar states all.
        suffix = captions.suffix.lower()
        sidecar["captions"] = file.name + (".words.json" if suffix == ".json" else suffix)
        store.put_file(key.removesuffix(file.name) + str(sidecar["captions"]), captions)
    stated = {name: value for name, value in sidecar.items() if value is not None}
    if stated:
        store.put(key + SIDECAR_SUFFIX, json.dumps(stated).encode(), content_type="application/json")
    store.put_file(key, file, content_type=mimetypes.guess_type(file.name)[0])
    return key


def scan_inbox(
    store: ObjectStore,
    state: StateDatabase,
    niches: Collection[str],
    *,
    clock: Clock = utc_now,
    max_arrivals: int = 20,
    max_bytes: int = 4 << 30,
) -> InboxScan:
    """Record every new upload in the seen-table, up to `max_arrivals` objects or `max_bytes` read.

    A key outside the layout or with an unknown niche is recorded as refused, with its reason; a refusal is looked at
    again once the niche exists. Sidecars and captions are not uploads. Unfinished files wait for the next look.
    """
    scan = InboxScan()
    now = clock()
    read = 0
    for info in store.list(UPLOADS_PREFIX):
        if is_beside_an_upload(info.key):
            continue
        scan.looked_at += 1
        with state.session() as session:
            seen = uploads.find(session, info.key, info.etag)
        if seen is not None and not (seen.reason_code == "unknown_niche" and seen.niche in niches):
            continue
        if now - info.modified_at < SETTLE:
            scan.waiting.append(info.key)
            continue
        if len(scan.arrivals) + len(scan.refusals) >= max_arrivals or (scan.arrivals and read >= max_bytes):
            scan.deferred += 1
            continue
        read += info.size
        _record(scan, store, state, info, niches, now)
    return scan


def _record(
    scan: InboxScan,
    store: ObjectStore,
    state: StateDatabase,
    info: ObjectInfo,
    niches: Collection[str],
    now: datetime,
) -> None:
    try:
        upload = parse_upload_key(info.key, niches)
    except UploadRefused as refused:
        with state.session() as session:
            uploads.record_refusal(
                session, object_key=info.key, etag=info.etag, size=info.size,
                account_id=refused.account, niche=refused.niche,
                reason_code=refused.code, reason=refused.message, seen_at=now,
            )  # fmt: skip
        scan.refusals.append(Refusal(info.key, refused.code, str(refused)))
        return
    sha256 = hash_object(store, info.key)
    source_id = source_id_of(upload.account, sha256)
    sidecar_key = info.key + SIDECAR_SUFFIX
    with state.session() as session:
        uploads.record_arrival(
            session, object_key=info.key, etag=info.etag, size=info.size,
            account_id=upload.account, niche=upload.niche, sha256=sha256, source_id=source_id,
            sidecar_key=sidecar_key if store.exists(sidecar_key) else None, seen_at=now,
        )  # fmt: skip
    scan.arrivals.append(Arrival(info.key, source_id, upload.account, upload.niche, sha256))


def hash_object(store: ObjectStore, key: str) -> str:
    """SHA-256 of an object's bytes as lower-case hex, read once in chunks."""
    digest = hashlib.sha256()
    for chunk in store.iter_chunks(key):
        digest.update(chunk)
    return digest.hexdigest()
