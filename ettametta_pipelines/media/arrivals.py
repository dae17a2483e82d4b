"""Taking uploads in: which listed objects are new, what they hold, and their rows in the seen-table.

`TakeIn` is handed objects by whoever found them (`inbox.py`: by listing, by events, by the sweep) and records each
version of each upload once. Where to look is not decided here, and judging a file's content is intake's work.
"""

import hashlib
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any

from sqlalchemy.orm import Session

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.media.intake import UploadKey, UploadRefused, keep_sidecar, parse_upload_key
from ettametta_pipelines.media.probe import POLICY
from ettametta_pipelines.media.sidecar import (
    MAX_BYTES,
    SUFFIX,
    Sidecar,
    SidecarInvalid,
    caption_names,
    is_captions,
    parse_sidecar,
)
from ettametta_pipelines.renders import captions as caption_files
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.models import Upload
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.addressing import is_key
from ettametta_pipelines.storage.objects import ObjectInfo, ObjectMissing, ObjectStore
from ettametta_pipelines.untrusted import plain_text

# A file copied into a directory store by hand grows while it is listed; one that was just touched waits a tick.
SETTLE = timedelta(seconds=2)
# `ettametta upload` puts the sidecar first; only one that stays alone is a mistake worth naming.
STRAY_AFTER = timedelta(minutes=10)
# Programs that copy or download write under such a name and rename; one that never was is left-over.
UNFINISHED_SUFFIXES = (".part", ".partial", ".crdownload", ".filepart", ".tmp")
UNFINISHED_FOR = timedelta(days=1)
STANDING_SHOWN = 5
# Reading many small objects is waiting for answers; of large ones a few fill any line.
PARALLEL_READS = 16


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
    `notes` are sentences about the look itself, such as a queue that did not answer.
    """

    looked_at: int = 0
    arrivals: list[Arrival] = field(default_factory=list)
    refusals: list[Trouble] = field(default_factory=list)
    failures: list[Trouble] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    deferred: int = 0
    standing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def in_words(self) -> str:
        """A few sentences for the tick's page."""
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
            shown = ", ".join(plain_text(one, 200) for one in self.standing[:STANDING_SHOWN])
            more = len(self.standing) - STANDING_SHOWN
            said += f" Refused before and still there: {shown}" + (f" and {more} more." if more > 0 else ".")
        return " ".join([said, *self.notes])


def source_id_of(account: str, sha256: str) -> str:
    """Partition key of a source video: the account and the first 16 hex digits of the content's hash."""
    return f"{account}--{sha256[:16]}"


def hash_object(store: ObjectStore, info: ObjectInfo) -> str:
    """SHA-256 of an object's bytes as lower-case hex, read once in chunks, no more of them than it was listed with."""
    digest = hashlib.sha256()
    for chunk in store.iter_chunks(info.key, size=info.size):
        digest.update(chunk)
    return digest.hexdigest()


def companions(key: str) -> list[str]:
    """Keys that may say more about the upload `key`: its sidecar, then its captions by name."""
    folder, _, name = key.rpartition("/")
    return [key + SUFFIX, *(f"{folder}/{captions}" for captions in caption_names(name))]


@dataclass(frozen=True)
class _Look:
    """One object that is not in the seen-table as it is now."""

    info: ObjectInfo
    sidecar: ObjectInfo | None = None
    captions: ObjectInfo | None = None
    stray: bool = False

    def key(self, niches: Collection[str]) -> UploadKey:
        key = self.info.key
        if self.stray:
            raise UploadRefused("stray_sidecar", key, "")
        upload = parse_upload_key(key, niches)
        whose = {"account": upload.account, "niche": upload.niche}
        if is_unfinished(key):
            raise UploadRefused("unfinished_upload", key, "", **whose)
        if self.info.size > POLICY.max_bytes:
            raise UploadRefused("too_large_file", key, f"{self.info.size / 1e9:.1f} GB", **whose)
        return upload


@dataclass(frozen=True)
class _Read:
    """What reading an upload told: the columns of its row."""

    look: _Look
    columns: dict[str, Any]


class TakeIn:
    """Takes in what one tick finds, within its limits; `scan` collects what became of it.

    At most `max_arrivals` objects are read, no new one once `max_bytes` are or `max_seconds` have passed.
    """

    def __init__(
        self,
        store: ObjectStore,
        state: StateDatabase,
        niches: Collection[str],
        now: datetime,
        *,
        max_arrivals: int,
        max_bytes: int,
        max_seconds: float = 25.0,
    ) -> None:
        self.scan = InboxScan()
        self._store = store
        self._state = state
        self._niches = niches
        self._now = now
        self._left = max_arrivals
        self._bytes_left = max_bytes
        self._until = monotonic() + max_seconds
        self._looked_at: set[str] = set()
        self._listed = True
        # Uploads left for the next tick, and with them those still being written.
        self.deferred: set[str] = set()
        self.untaken: set[str] = set()

    @property
    def has_time(self) -> bool:
        return self._left > 0 and monotonic() < self._until

    def take(self, objects: Sequence[ObjectInfo], *, listed: bool = True) -> str | None:
        """Take in the new ones among objects that were found together; the first key that was put off, or None.

        A sidecar or captions belong to the upload they are handed over with; alone they stand for the upload they
        speak of. Objects that were not `listed` may have captions beside them that nobody has looked for.
        """
        self._listed = listed
        looks = self._new_looks([one for one in objects if one.key not in self._looked_at])
        chosen, put_off = self._choose(looks)
        self._record(self._read_all(chosen))
        self._looked_at.update(one.key for one in objects)
        return put_off

    def name_odd(self, found: Iterable[tuple[str, str]]) -> None:
        """Refuse, once, names that are no keys, and in a directory links and devices: (name, what is wrong)."""
        named = {_storable(key): (is_key(key), problem) for key, problem in found}
        with self._state.session(write=False) as session:
            known = {seen.object_key for seen in uploads.find_all(session, list(named)) if seen.etag == ""}
        refused = []
        for key in sorted(named.keys() - known):
            is_fine, problem = named[key]
            code = "not_a_regular_file" if is_fine else "odd_name"
            refused.append((ObjectInfo(key, 0, "", self._now), UploadRefused(code, key, problem)))
        self._record([], refused)
        self.scan.standing += [f"{key} ({named[key][1]})" for key in sorted(known)]

    def _choose(self, looks: Sequence[_Look]) -> tuple[list[_Look], str | None]:
        chosen: list[_Look] = []
        put_off: str | None = None
        for look in looks:
            age = self._now - look.info.modified_at
            # On S3 an object is there when it is whole.
            if (self._store.is_local and age < SETTLE) or (
                is_unfinished(look.info.key) and age < UNFINISHED_FOR
            ):
                self.scan.waiting.append(look.info.key)
                self.untaken.add(look.info.key)
            elif not self.has_time or self._bytes_left <= 0:
                self.scan.deferred += 1
                self.deferred.add(look.info.key)
                self.untaken.add(look.info.key)
                put_off = min(put_off or look.info.key, look.info.key)
            else:
                self._left -= 1
                self._bytes_left -= look.info.size
                chosen.append(look)
        return chosen, put_off

    def _new_looks(self, objects: Sequence[ObjectInfo]) -> list[_Look]:
        listed = {info.key: info for info in objects}
        videos, alone = self._sorted_out(listed)
        with self._state.session(write=False) as session:
            rows = {(row.object_key, row.etag): row for row in uploads.find_all(session, list(videos))}
            spoken_of = uploads.newest_beside(session, alone)
            strays = {(row.object_key, row.etag): row for row in uploads.find_all(session, alone)}
        looks, adopted = [], []
        for key, info in videos.items():
            self.scan.looked_at += 1
            seen = rows.get((key, info.etag))
            sidecar = listed.get(key + SUFFIX)
            captions = _captions_of(key, seen, listed)
            if seen is None or self._is_new_again(seen, sidecar, captions):
                looks.append(_Look(info, sidecar, captions))
            elif seen.status == uploads.REFUSED:
                self.scan.standing.append(f"{key} ({seen.reason_code})")
            elif seen.captions_key is None and captions is not None and seen.status == uploads.ACCEPTED:
                adopted.append((seen.id, captions))
        for key in alone:
            info, upload = listed[key], spoken_of.get(key)
            if upload is not None:
                looks += self._changed_words(info, upload) if upload.object_key not in videos else []
            elif not is_captions(key):
                looks += self._stray(info, strays.get((key, info.etag)))
        if adopted:
            # Of rows that were recorded without a look for captions.
            with self._state.session() as session:
                for row_id, captions in adopted:
                    uploads.adopt_captions(session, row_id, captions.key, captions.etag)
        return looks

    def _sorted_out(self, listed: dict[str, ObjectInfo]) -> tuple[dict[str, ObjectInfo], list[str]]:
        """(Uploads by key, sidecars and captions whose upload was not listed with them)."""
        videos = {key: info for key, info in listed.items() if not (is_captions(key) or key.endswith(SUFFIX))}
        spoken_for = {name for key in videos for name in companions(key)}
        return videos, [key for key in listed if key not in videos and key not in spoken_for]

    def _changed_words(self, found: ObjectInfo, upload: Upload) -> list[_Look]:
        """Another look at a known upload, by a sidecar or captions of it that were met without it."""
        is_sidecar = found.key == upload.object_key + SUFFIX
        if upload.status != uploads.ACCEPTED or found.etag == (
            upload.sidecar_etag if is_sidecar else upload.captions_etag
        ):
            return []
        info = self._head(upload.object_key)
        if info is None:
            return []
        if is_sidecar:
            return [_Look(info, found, self._head(upload.captions_key) if upload.captions_key else None)]
        return [_Look(info, self._head(upload.object_key + SUFFIX), found)]

    def _stray(self, found: ObjectInfo, seen: Upload | None) -> list[_Look]:
        """A sidecar that nothing known belongs to."""
        self.scan.looked_at += 1
        if seen is not None:
            self.scan.standing.append(f"{found.key} ({seen.reason_code})")
        elif self._now - found.modified_at >= STRAY_AFTER and not self._head(found.key.removesuffix(SUFFIX)):
            return [_Look(found, stray=True)]
        return []

    def _head(self, key: str) -> ObjectInfo | None:
        return head_or_none(self._store, key)

    def _is_new_again(self, seen: Upload, sidecar: ObjectInfo | None, captions: ObjectInfo | None) -> bool:
        """A niche that exists by now, or words that came or changed; ones that were tidied away change nothing."""
        if seen.status == uploads.REFUSED:
            return seen.reason_code == "unknown_niche" and seen.niche in self._niches
        if sidecar is not None and sidecar.etag != seen.sidecar_etag:
            return True
        if captions is None:
            return False
        if seen.captions_key is None:
            # Nobody looked for captions; those that were there by then were read by its run.
            return captions.modified_at > seen.seen_at
        return captions.etag != seen.captions_etag

    def _read_all(self, looks: Sequence[_Look]) -> "list[_Read | tuple[ObjectInfo, UploadRefused]]":
        done: list[_Read | tuple[ObjectInfo, UploadRefused]] = []
        if not looks:
            return done
        with ThreadPoolExecutor(min(PARALLEL_READS, len(looks))) as pool:
            for look, result in zip(looks, pool.map(self._read, looks), strict=True):
                if isinstance(result, UploadRefused):
                    done.append((look.info, result))
                elif isinstance(result, PipelineError):
                    self.scan.failures.append(Trouble(look.info.key, result.code, str(result)))
                elif result is None:
                    self.scan.waiting.append(look.info.key)
                else:
                    done.append(result)
        return done

    def _read(self, look: _Look) -> _Read | PipelineError | None:
        """The row of an upload, what is wrong with it, or None while it is still being written."""
        store, info = self._store, look.info
        try:
            upload = look.key(self._niches)
            sha256 = hash_object(store, info)
            if store.is_local and store.head(info.key).etag != info.etag:
                return None
            columns: dict[str, Any] = {
                "account_id": upload.account, "niche": upload.niche, "sha256": sha256,
                "source_id": source_id_of(upload.account, sha256),
                "sidecar_etag": look.sidecar.etag if look.sidecar else None,
                "sidecar_sha256": keep_sidecar(store, look.sidecar.key) if look.sidecar else None,
            }  # fmt: skip
            said = _sidecar_of(store, look)
            columns["title"] = said.title if said else None
            return _Read(look, columns | self._captions_columns(look, said))
        except PipelineError as error:
            return None if store.is_local and error.code == "object_replaced" else error

    def _captions_columns(self, look: _Look, said: Sidecar | None) -> dict[str, Any]:
        named = f"{look.info.key.rpartition('/')[0]}/{said.captions}" if said and said.captions else None
        if not (self._listed or named or look.captions):
            return {}
        key = named or (look.captions.key if look.captions else "")
        found = look.captions if look.captions and look.captions.key == key else self._head(key)
        sha256 = None
        if found is not None:
            content = self._store.read_range(key, 0, caption_files.MAX_BYTES + 1)
            sha256 = hashlib.sha256(content).hexdigest()
        return {"captions_key": key, "captions_etag": found.etag if found else "", "captions_sha256": sha256}

    def _record(
        self,
        done: "Sequence[_Read | tuple[ObjectInfo, UploadRefused]]",
        odd: Sequence[tuple[ObjectInfo, UploadRefused]] = (),
    ) -> None:
        if not (done or odd):
            return
        arrived = [one for one in done if isinstance(one, _Read)]
        # One transaction: each commit waits for the disk.
        with self._state.session() as session:
            self._record_arrivals(session, arrived)
            for info, refused in (*(one for one in done if not isinstance(one, _Read)), *odd):
                self._record_refusal(session, info, refused)
                self.scan.refusals.append(Trouble(info.key, refused.code, str(refused)))

    def _record_arrivals(self, session: Session, reads: Sequence[_Read]) -> None:
        source_ids = [str(read.columns["source_id"]) for read in reads]
        known = uploads.known_sources(session, source_ids)
        rows = [
            {
                "object_key": read.look.info.key,
                "etag": read.look.info.etag,
                "size": read.look.info.size,
                "seen_at": self._now,
            }
            | read.columns
            for read in reads
        ]
        uploads.record_arrivals(session, rows)
        for read, source_id in zip(reads, source_ids, strict=True):
            self.scan.arrivals.append(Arrival(read.look.info.key, source_id, source_id in known))
            known.add(source_id)

    def _record_refusal(self, session: Session, info: ObjectInfo, refused: UploadRefused) -> None:
        uploads.record_refusal(
            session, object_key=info.key, etag=info.etag, size=info.size, account_id=refused.account,
            niche=refused.niche, reason_code=refused.code, reason=refused.message, seen_at=self._now,
        )  # fmt: skip


def head_or_none(store: ObjectStore, key: str) -> ObjectInfo | None:
    try:
        return store.head(key) if is_key(key) else None
    except ObjectMissing:
        return None


def is_unfinished(key: str) -> bool:
    """Whether a name is one that copying programs use until they are done (`.clip.mp4.x7Yq`, `clip.mp4.part`)."""
    name = key.rsplit("/", 1)[-1]
    return name.startswith(".") or name.lower().endswith(UNFINISHED_SUFFIXES)


def _captions_of(key: str, seen: Upload | None, listed: dict[str, ObjectInfo]) -> ObjectInfo | None:
    """The captions that count among the objects listed: those its sidecar named, else by name."""
    if seen is not None and seen.captions_key:
        return listed.get(seen.captions_key)
    return next((listed[name] for name in companions(key)[1:] if name in listed), None)


def _sidecar_of(store: ObjectStore, look: _Look) -> Sidecar | None:
    """What the sidecar states; one that cannot be used is intake's to refuse."""
    if look.sidecar is None:
        return None
    try:
        return parse_sidecar(store.read_range(look.sidecar.key, 0, MAX_BYTES + 1))
    except SidecarInvalid:
        return None


def _storable(name: str) -> str:
    """A name that is no key, as text that any database takes and any log shows."""
    return name if is_key(name) else name.encode("unicode_escape").decode()[:1000]
