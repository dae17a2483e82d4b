"""The inbox: what lies under `uploads/`, what is new in it, and how a file gets there.

The upload sensor calls `scan_inbox`; `ettametta upload` and the demo call `drop_upload`. Judging the content of a
file is intake's work (`intake.py`), not the inbox's: here an object is only placed, read once for its hash, and
written into the seen-table, so that a tick never does the same object twice.
"""

import hashlib
import json
import mimetypes
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import chain, count
from pathlib import Path

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import PermanentError, PipelineError
from ettametta_pipelines.media.intake import UploadKey, UploadRefused, keep_sidecar, parse_upload_key
from ettametta_pipelines.media.probe import POLICY
from ettametta_pipelines.media.sidecar import (
    SUFFIX,
    WORDS_SUFFIX,
    SidecarInvalid,
    is_captions,
    parse_sidecar,
)
from ettametta_pipelines.renders.captions import read_captions_file
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.models import Upload
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectInfo, ObjectStore

UPLOADS_PREFIX = "uploads/"
# A file copied into a directory store by hand grows while it is listed; one that was just touched waits a tick.
SETTLE = timedelta(seconds=2)
# `ettametta upload` puts the sidecar first; only one that stays alone is a mistake worth naming.
STRAY_AFTER = timedelta(minutes=10)
STANDING_SHOWN = 5


@dataclass(frozen=True)
class Arrival:
    """One accepted upload: `source_id` names its partition. `known_content`: the same bytes came before."""

    object_key: str
    source_id: str
    known_content: bool


@dataclass(frozen=True)
class Trouble:
    """An object that was not taken: refused for good, or not readable this time."""

    object_key: str
    code: str
    message: str


@dataclass
class InboxScan:
    """What one look at the inbox found.

    `deferred` counts new objects left for the next look; `standing` names those refused before and still there.
    """

    looked_at: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    refusals: list[Trouble] = field(default_factory=list)
    failures: list[Trouble] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    deferred: int = 0
    standing: list[str] = field(default_factory=list)

    def in_words(self) -> str:
        """One sentence for the tick's page."""
        known = sum(arrival.known_content for arrival in self.arrivals)
        new = f"{len(self.arrivals)} new" + (f" ({known} with content that came before)" if known else "")
        parts = [f"looked at {self.looked_at} uploads", new]
        if self.refusals:
            parts.append(f"{len(self.refusals)} refused (see the tick's log)")
        if self.failures:
            parts.append(f"{len(self.failures)} could not be read (see the tick's log)")
        if self.waiting:
            parts.append(f"{len(self.waiting)} still being written")
        if self.deferred:
            parts.append(f"{self.deferred} left for the next tick")
        said = ", ".join(parts).capitalize() + "."
        if self.standing:
            shown = ", ".join(self.standing[:STANDING_SHOWN])
            more = len(self.standing) - STANDING_SHOWN
            said += f" Refused before and still there: {shown}" + (f" and {more} more." if more > 0 else ".")
        return said


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
    stated: Mapping[str, str | None],
    captions: Path | None = None,
) -> str:
    """Put a local file under `uploads/` as a user would, its sidecar and captions first; returns the object key.

    `stated` holds the sidecar's keys (title, rights, attribution, recipe); where none is given, a sidecar left over
    from an earlier file of that name is removed, since it speaks of other footage. Raises PermanentError
    `file_not_found` or `bad_sidecar`, CaptionsInvalid for captions that intake would not take, or UploadRefused as the
    sensor would.
    """
    if not file.is_file():
        raise PermanentError(
            f"{file} is not a file that can be uploaded.", code="file_not_found", remedy="Check the path."
        )
    if file.name.endswith(SUFFIX):
        raise PermanentError(
            f"{file.name} has the name of a sidecar, not of a video.",
            code="not_a_video",
            remedy="Upload the video; title and rights are options of the command.",
        )
    folder = f"{UPLOADS_PREFIX}{account}/{niche}/{day:%Y/%m/%d}"
    parse_upload_key(f"{folder}/{file.name}", niches)
    key = _free_key(store, folder, file)
    said = {name: value for name, value in stated.items() if value is not None}
    if captions is not None:
        read_captions_file(captions)
        # Word timings are JSON, as the sidecar is, so they have a name of their own and the sidecar states all.
        suffix = captions.suffix.lower()
        said["captions"] = key.rsplit("/", 1)[-1] + (WORDS_SUFFIX if suffix == SUFFIX else suffix)
    sidecar = json.dumps(said).encode()
    try:
        parse_sidecar(sidecar)
    except SidecarInvalid as error:
        raise PermanentError(
            f"What is said about {file.name} cannot be used: {error}.",
            code="bad_sidecar",
            remedy="Correct the option and upload again.",
        ) from error
    if captions is not None:
        store.put_file(f"{folder}/{said['captions']}", captions)
    if said:
        store.put(key + SUFFIX, sidecar, content_type="application/json")
    else:
        store.delete(key + SUFFIX)
    store.put_file(key, file, create=True, content_type=mimetypes.guess_type(file.name)[0])
    return key


def _free_key(store: ObjectStore, folder: str, file: Path) -> str:
    """A key nothing lies under yet: an upload that was not looked at must not be replaced by its namesake."""
    names = chain([file.name], (f"{file.stem}-{number}{file.suffix}" for number in count(2)))
    return next(key for name in names if not store.exists(key := f"{folder}/{name}"))


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

    An upload is new again when its bytes change or its sidecar does. A key outside the layout, an unknown niche or
    a file over the size limit is recorded as refused, with its reason; an unknown niche is looked at again once it
    exists. Unfinished files wait for the next look, and one that cannot be read does not hold up the others.
    """
    scan = InboxScan()
    now = clock()
    read = 0
    for look in list(_new_looks(scan, store, state, niches)):
        age = now - look.info.modified_at
        if age < SETTLE:
            scan.waiting.append(look.info.key)
        elif look.stray and age < STRAY_AFTER:
            continue
        elif len(scan.arrivals) + len(scan.refusals) >= max_arrivals or (scan.arrivals and read >= max_bytes):
            scan.deferred += 1
        else:
            read += look.info.size
            try:
                scan.arrivals.append(look.record(store, state, niches, clock))
            except UploadRefused as refused:
                look.record_refusal(state, refused, clock)
                scan.refusals.append(Trouble(look.info.key, refused.code, str(refused)))
            except PipelineError as error:
                scan.failures.append(Trouble(look.info.key, error.code, str(error)))
    return scan


@dataclass(frozen=True)
class _Look:
    """One object of the inbox that is not in the seen-table as it is now."""

    info: ObjectInfo
    sidecar: ObjectInfo | None
    stray: bool = False

    def record(
        self, store: ObjectStore, state: StateDatabase, niches: Collection[str], clock: Clock
    ) -> Arrival:
        upload = self._key(niches)
        sha256 = hash_object(store, self.info.key)
        source_id = source_id_of(upload.account, sha256)
        sidecar_sha256 = keep_sidecar(store, self.sidecar.key) if self.sidecar else None
        with state.session() as session:
            known = uploads.for_source(session, source_id)
            uploads.record_arrival(
                session, object_key=self.info.key, etag=self.info.etag, size=self.info.size,
                account_id=upload.account, niche=upload.niche, sha256=sha256, source_id=source_id,
                sidecar_etag=self.sidecar.etag if self.sidecar else None,
                sidecar_sha256=sidecar_sha256,
                seen_at=clock(),
            )  # fmt: skip
        return Arrival(self.info.key, source_id, known is not None)

    def record_refusal(self, state: StateDatabase, refused: UploadRefused, clock: Clock) -> None:
        with state.session() as session:
            uploads.record_refusal(
                session, object_key=self.info.key, etag=self.info.etag, size=self.info.size,
                account_id=refused.account, niche=refused.niche,
                reason_code=refused.code, reason=refused.message, seen_at=clock(),
            )  # fmt: skip

    def _key(self, niches: Collection[str]) -> UploadKey:
        key = self.info.key
        if self.stray:
            raise UploadRefused("stray_sidecar", key, "")
        upload = parse_upload_key(key, niches)
        if self.info.size > POLICY.max_bytes:
            raise UploadRefused(
                "too_large_file",
                key,
                f"{self.info.size / 1e9:.1f} GB",
                account=upload.account,
                niche=upload.niche,
            )
        return upload


def _new_looks(
    scan: InboxScan, store: ObjectStore, state: StateDatabase, niches: Collection[str]
) -> Iterator[_Look]:
    listed = {info.key: info for info in store.list(UPLOADS_PREFIX)}
    with state.session(write=False) as session:
        for key, info in listed.items():
            belongs_to = key.removesuffix(SUFFIX)
            if is_captions(key) or (belongs_to != key and belongs_to in listed):
                continue
            scan.looked_at += 1
            sidecar = listed.get(key + SUFFIX)
            seen = uploads.find(session, key, info.etag)
            if seen is None or _is_new_again(seen, sidecar, niches):
                yield _Look(info, sidecar, stray=belongs_to != key)
            elif seen.status == uploads.REFUSED:
                scan.standing.append(f"{key} ({seen.reason_code})")


def _is_new_again(seen: Upload, sidecar: ObjectInfo | None, niches: Collection[str]) -> bool:
    """A niche that exists by now, or a sidecar that came or changed; one that was tidied away changes nothing."""
    if seen.status == uploads.REFUSED:
        return seen.reason_code == "unknown_niche" and seen.niche in niches
    return sidecar is not None and sidecar.etag != seen.sidecar_etag


def hash_object(store: ObjectStore, key: str) -> str:
    """SHA-256 of an object's bytes as lower-case hex, read once in chunks."""
    digest = hashlib.sha256()
    for chunk in store.iter_chunks(key):
        digest.update(chunk)
    return digest.hexdigest()
