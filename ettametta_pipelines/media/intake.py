"""Intake: one upload becomes an accepted, immutable source, or a rejection with a reason.

`parse_upload_key` judges where an upload lies (the inbox asks it), `accept_upload` judges the upload itself
(the `source_media` asset calls it). Whatever is wrong with a stranger's file is a row, not an exception; exceptions
are left to stores and machines that fail.
"""

import hashlib
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.confinement.running import private_dir
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.probe import POLICY, IntakePolicy, Probe, ProbeVerdict, probe_file
from ettametta_pipelines.media.reasons import state_reason
from ettametta_pipelines.media.rights import UNDECLARED
from ettametta_pipelines.media.sidecar import (
    MAX_BYTES,
    SUFFIX,
    Sidecar,
    SidecarInvalid,
    caption_names,
    parse_sidecar,
    title_from_name,
)
from ettametta_pipelines.renders import captions as caption_files
from ettametta_pipelines.renders.captions import CaptionsInvalid, Cue
from ettametta_pipelines.storage.addressing import file_sha256, is_key
from ettametta_pipelines.storage.objects import ObjectExists, ObjectStore

UPLOAD_LAYOUT = re.compile(
    r"uploads/(?P<account>[^/]+)/(?P<niche>[^/]+)/(?P<year>\d{4})/(?P<month>\d\d)/(?P<day>\d\d)/(?P<name>[^/]+)\Z"
)
ACCOUNT = re.compile(r"[a-z0-9-]{1,40}\Z")
SOURCE_EXTENSIONS = ("mp4", "mkv")
CONTENT_TYPES = {"mp4": "video/mp4", "mkv": "video/x-matroska"}


class UploadRefused(PermanentError):
    """An upload's key cannot be used. `account` and `niche` are known as far as the key tells them."""

    def __init__(
        self, code: str, key: str, detail: str, *, account: str | None = None, niche: str | None = None
    ) -> None:
        sentence, remedy = state_reason(code, name=key, detail=detail)
        super().__init__(sentence, code=code, remedy=remedy)
        self.account = account
        self.niche = niche


@dataclass(frozen=True)
class UploadKey:
    """`uploads/{account}/{niche}/{yyyy}/{mm}/{dd}/{name}` taken apart."""

    account: str
    niche: str
    day: date
    name: str


@dataclass(frozen=True)
class Upload:
    """An upload the inbox has seen: where it lies, whose it is, and the hash its partition was named by."""

    source_id: str
    object_key: str
    account: str
    niche: str
    sha256: str
    sidecar_sha256: str | None = None

    @property
    def name(self) -> str:
        return self.object_key.rsplit("/", 1)[-1]


def parse_upload_key(key: str, niches: Collection[str]) -> UploadKey:
    """Take an upload's key apart.

    Raises UploadRefused with code `bad_upload_key`, `bad_account` or `unknown_niche` (which names the known ones).
    """
    match = UPLOAD_LAYOUT.match(key)
    if match is None:
        raise UploadRefused("bad_upload_key", key, "its path has another shape")
    account, niche = match["account"], match["niche"]
    if not ACCOUNT.match(account):
        raise UploadRefused("bad_account", key, repr(account), niche=niche)
    if niche not in niches:
        known = f"{niche!r}; known are {', '.join(sorted(niches))}"
        raise UploadRefused("unknown_niche", key, known, account=account, niche=niche)
    try:
        day = date(int(match["year"]), int(match["month"]), int(match["day"]))
    except ValueError as error:
        raise UploadRefused("bad_upload_key", key, str(error), account=account, niche=niche) from error
    return UploadKey(account, niche, day, match["name"])


def accept_upload(
    store: ObjectStore, upload: Upload, *, scratch: Path, clock: Clock, policy: IntakePolicy = POLICY
) -> dict[str, Any]:
    """Judge an upload and, when it is good, store it under `media/sources/`; returns its `source_media` row.

    Accepting the same content again finds the stored object, also after the upload was replaced or deleted.
    """
    with private_dir(scratch, "intake") as workdir:
        stored = find_source(store, upload.sha256)
        stated = store.head(upload.object_key).size if stored is None else None
        if stated is not None and stated > policy.max_bytes:
            return _rejected(upload, stated, "too_large_file", detail=f"{stated / 1e9:.1f} GB")
        path = fetch(store, stored or upload.object_key, workdir, size=stated)
        size = path.stat().st_size
        if stored is None and size and file_sha256(path) != upload.sha256:
            return _rejected(upload, size, "upload_changed")
        verdict = probe_file(path, name=upload.name, policy=policy)
        if verdict.probe is None:
            return _row(upload, size, verdict)
        try:
            sidecar = kept_sidecar(store, upload.sidecar_sha256)
        except SidecarInvalid as invalid:
            return _rejected(upload, size, "bad_sidecar", name=upload.name + SUFFIX, detail=str(invalid))
        key = stored or f"media/sources/{upload.sha256}.{verdict.probe.extension}"
        if stored is None:
            _keep(store, key, path, verdict.probe)
        accepted = {"object_key": key, "accepted_at": clock()}
        accepted |= take_captions(store, upload, sidecar, verdict.probe.duration_s)
        return _row(upload, size, verdict, sidecar) | _probe_columns(verdict.probe) | accepted


def find_source(store: ObjectStore, sha256: str) -> str | None:
    """Key of the accepted object with this content, or None."""
    keys = (f"media/sources/{sha256}.{extension}" for extension in SOURCE_EXTENSIONS)
    return next((key for key in keys if store.exists(key)), None)


def fetch(store: ObjectStore, key: str, workdir: Path, *, size: int | None = None) -> Path:
    """A local file with an object's content, under a name of our own; `size` is what it must have, where that is known.

    Immutable objects of a directory store are read in place; uploads never are, since they can change meanwhile.
    """
    if key.startswith("media/"):
        local = store.local_path(key)
        if local is not None:
            return local
    path = workdir / "source"
    store.download(key, path, size=size)
    path.chmod(0o400)
    return path


def keep_sidecar(store: ObjectStore, key: str) -> str:
    """Keep a sidecar as it is now, named by content; returns its SHA-256.

    What was said about a video is said about its content: the file at the upload's path may be replaced later, by
    other footage with other rights.
    """
    # One byte over the limit is enough to refuse it; the whole of a stranger's file is never read into memory.
    content = store.read_range(key, 0, MAX_BYTES + 1)
    sha256 = hashlib.sha256(content).hexdigest()
    with suppress(ObjectExists):
        store.create(_sidecar_key(sha256), content, content_type="application/json")
    return sha256


def kept_sidecar(store: ObjectStore, sha256: str | None) -> Sidecar:
    """The sidecar kept under this hash; an empty one for None. Raises SidecarInvalid."""
    return parse_sidecar(store.get(_sidecar_key(sha256))) if sha256 else Sidecar()


def _sidecar_key(sha256: str) -> str:
    return f"sidecars/{sha256}.json"


def take_captions(store: ObjectStore, upload: Upload, sidecar: Sidecar, duration_s: float) -> dict[str, Any]:
    """Store the captions an upload came with under `media/captions/`; returns their columns of `source_media`.

    Captions that cannot be used do not refuse the video: it goes on without them, and the row says why.
    """
    from ettametta_pipelines.renders.caption_drawing import examine
    from ettametta_pipelines.renders.recipe import Captions

    name = sidecar.captions or upload.name + SUFFIX
    try:
        if sidecar.words is not None:
            cues: tuple[Cue, ...] = caption_files.parse_words(sidecar.words)
        else:
            found = _find_captions(store, upload, sidecar)
            if found is None:
                return {}
            name = found.rsplit("/", 1)[-1]
            cues = _read_captions(store, found)
        examine(Captions(), cues, duration_s)
    except CaptionsInvalid as invalid:
        sentence, remedy = state_reason(
            "bad_captions", name=name, detail=f"{invalid.message} [{invalid.code}]"
        )
        return {"captions_problem": f"{sentence} {invalid.remedy} {remedy}"}
    key = f"media/captions/{caption_files.captions_digest(cues)}.json"
    store.put(key, caption_files.canonical_bytes(cues), content_type="application/json")
    return {"captions_key": key, "captions_cues": len(cues)}


def _find_captions(store: ObjectStore, upload: Upload, sidecar: Sidecar) -> str | None:
    """Key of the captions beside an upload, None when it came without; the sidecar's word goes before names."""
    folder = upload.object_key.removesuffix(upload.name)
    if sidecar.captions is None:
        return next(
            (folder + name for name in caption_names(upload.name) if _lies_there(store, folder + name)), None
        )
    key = folder + sidecar.captions
    if not _lies_there(store, key):
        raise CaptionsInvalid(
            "captions_unreadable", "the sidecar names it, but it does not lie beside the video"
        )
    return key


def _lies_there(store: ObjectStore, key: str) -> bool:
    """Whether there is such an object; there is none under a name too long to be one, as a long upload's captions'."""
    try:
        return is_key(key) and store.exists(key)
    except PermanentError as error:
        if error.code != "bad_object_key":
            raise
        return False


def _read_captions(store: ObjectStore, key: str) -> tuple[Cue, ...]:
    content = store.read_range(key, 0, caption_files.MAX_BYTES + 1)
    if len(content) > caption_files.MAX_BYTES:
        raise CaptionsInvalid("captions_too_large", f"it has more than {caption_files.MAX_BYTES} bytes")
    return caption_files.parse_captions(content, key)


def require_accepted(row: Mapping[Any, Any]) -> None:
    """Refuse to go on from a rejected source; raises PermanentError with its reason code."""
    if row["verdict"] != "accepted":
        raise PermanentError(
            f"{row['source_id']} was rejected: {row['reason']}",
            code=row["reason_code"],
            remedy="Upload a good file; it becomes a source video of its own.",
        )


def _keep(store: ObjectStore, key: str, path: Path, probe: Probe) -> None:
    try:
        store.put_file(key, path, create=True, content_type=CONTENT_TYPES[probe.extension])
    except ObjectExists:
        # Named by content: whoever was faster stored the same bytes.
        return


def _rejected(
    upload: Upload, size: int, code: str, *, name: str | None = None, detail: str = ""
) -> dict[str, Any]:
    sentence, remedy = state_reason(code, name=name or upload.name, detail=detail)
    return _row(upload, size, ProbeVerdict(upload.name, False, None, code, sentence, remedy))


def _row(upload: Upload, size: int, verdict: ProbeVerdict, sidecar: Sidecar | None = None) -> dict[str, Any]:
    return {
        "source_id": upload.source_id,
        "account": upload.account,
        "niche": upload.niche,
        "upload_key": upload.object_key,
        "sha256": upload.sha256,
        "size_bytes": size,
        "verdict": "accepted" if verdict.accepted else "rejected",
        "reason_code": verdict.reason_code,
        "reason": f"{verdict.reason} {verdict.remedy}" if verdict.reason else None,
        "title": sidecar.title_for(upload.name) if sidecar else title_from_name(upload.name),
        "rights": sidecar.declared_rights if sidecar else UNDECLARED,
        "attribution": sidecar.attribution if sidecar else None,
        "recipe": sidecar.recipe if sidecar else None,
        "broll_keywords": sidecar.broll_keywords if sidecar else None,
        "voice_over": sidecar.voice_over if sidecar else None,
        "language": sidecar.language if sidecar else None,
        "brief_id": sidecar.brief_id if sidecar else None,
        "music_json": sidecar.music.model_dump_json() if sidecar and sidecar.music else None,
        "sponsor": sidecar.sponsor if sidecar else None,
        "paid_promotion": sidecar.paid_promotion if sidecar else None,
        "sidecar_sha256": upload.sidecar_sha256 if sidecar else None,
    }


def _probe_columns(probe: Probe) -> dict[str, Any]:
    same = (
        "container", "video_codec", "audio_codec", "width", "height", "fps", "variable_rate", "duration_s",
        "frames", "has_audio", "rotation", "bit_depth", "is_hdr",
    )  # fmt: skip
    return {name: getattr(probe, name) for name in same}
