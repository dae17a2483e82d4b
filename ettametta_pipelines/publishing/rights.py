"""The rights record: everything a rendition was made of, and by what right each may be published.

Collected from the rows of `source_media` and of the rendition alone, one typed record an input, so that nobody has to
remember anything when posting. What must be said with a post, and whether it may be made, follows from the records in
`disclosure.py`. Here they are also kept with the publication they were given for, and read back by `ettametta trace`.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.media.sidecar import SUFFIX
from ettametta_pipelines.state.models import Publication, PublicationRights
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

UNKNOWN = "undeclared"
# Who speaks, and what its makers say of what it speaks.
VOICE_LICENCES = {
    "elevenlabs": "ElevenLabs Terms of Service, commercial use by the account's plan",
    "espeak-ng": "output of eSpeak NG, free of its licence",
}
FONT = "EttamettaCaptions-Bold"
FONT_LICENCE = "SIL Open Font License 1.1"
FONT_EVIDENCE = "renders/fonts/OFL.txt"


@dataclass(frozen=True)
class RightsRecord:
    """One input of a rendition. `right` is one of `disclosure.RIGHTS`, or what was declared instead.

    `kind` is upload, music, clip, voice or font; `name` is for people. `standing` is sandbox for what stands in for
    the real thing. `declared_by` says who said so, `evidence` where, `declared_at` when (ISO 8601), where known.
    """

    kind: str
    id: str
    name: str
    right: str
    credit: str | None = None
    licence: str | None = None
    evidence: str | None = None
    synthetic: bool = False
    paid: bool = False
    standing: str = "own"
    declared_by: str | None = None
    declared_at: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


Row = Mapping[str, Any]


def rights_of(rendition: Row, source: Row) -> tuple[RightsRecord, ...]:
    """One record for each input, the upload first; from the rows of the rendition and of `source_media`."""
    # A clip that is shown twice is one input.
    return tuple(dict.fromkeys(record for collect in INPUTS for record in collect(rendition, source)))


def _upload(rendition: Row, source: Row) -> Iterator[RightsRecord]:
    yield RightsRecord(
        kind="upload",
        id=source["source_id"],
        name=source["upload_key"],
        right=source["rights"],
        credit=_line(source["attribution"]),
        evidence=_sidecar(source),
        synthetic=source["rights"] == "generated",
        paid=bool(source.get("paid_promotion")) or bool(source.get("sponsor")),
        declared_by=_declared_by(source),
        declared_at=_instant(source.get("accepted_at")),
    )


def _music(rendition: Row, source: Row) -> Iterator[RightsRecord]:
    music = json.loads(source.get("music_json") or "null")
    # A sidecar that names no music says that the upload's right covers what is heard in it.
    if music is not None:
        yield RightsRecord(
            kind="music",
            id=f"{source['source_id']}/music",
            name=music["title"],
            right=music.get("rights") or UNKNOWN,
            credit=_line(music.get("attribution")),
            licence=music.get("licence"),
            evidence=_sidecar(source),
            synthetic=music.get("rights") == "generated",
            declared_by=_declared_by(source),
            declared_at=_instant(source.get("accepted_at")),
        )


def _clips(rendition: Row, source: Row) -> Iterator[RightsRecord]:
    for clip in json.loads(rendition.get("broll_json") or "{}").get("cutaways", []):
        own = not clip["standing"]
        yield RightsRecord(
            kind="clip",
            id=f"{clip['vendor']} {clip['vendor_id']}",
            name=clip.get("url") or clip.get("object_key") or clip["vendor_id"],
            right=clip["rights"],
            credit=_line(clip["credit"]),
            licence=clip.get("licence"),
            evidence=clip.get("url") or clip.get("object_key"),
            synthetic=clip["rights"] == "generated",
            standing=clip["standing"] or "own",
            declared_by=_declared_by(source) if own else clip["vendor"],
            declared_at=clip.get("fetched_at"),
        )


def _voice(rendition: Row, source: Row) -> Iterator[RightsRecord]:
    if rendition.get("voice_json") is None:
        return
    voice = json.loads(rendition["voice_json"])
    engine = voice.get("engine", "unknown")
    # A voice-over that does not say what it is counts as synthetic.
    synthetic = voice.get("synthetic") is not False
    yield RightsRecord(
        kind="voice",
        id=voice.get("sha256") or engine,
        name=" ".join(filter(None, [engine, voice.get("voice")])),
        right=voice.get("rights") or ("generated" if synthetic else UNKNOWN),
        licence=VOICE_LICENCES.get(engine),
        evidence=voice.get("object_key"),
        synthetic=synthetic,
        standing="live" if engine == "elevenlabs" else "own",
        declared_by=engine,
    )


def _font(rendition: Row, source: Row) -> Iterator[RightsRecord]:
    if json.loads(rendition.get("recipe_json") or "{}").get("captions"):
        yield RightsRecord(
            kind="font", id=FONT, name=FONT, right="licensed", licence=FONT_LICENCE, evidence=FONT_EVIDENCE,
            declared_by="ettametta_pipelines",
        )  # fmt: skip


INPUTS: tuple[Callable[[Row, Row], Iterator[RightsRecord]], ...] = (_upload, _music, _clips, _voice, _font)


def _line(text: str | None) -> str | None:
    return (text or "").strip() or None


def _sidecar(source: Row) -> str:
    """The sidecar as it was kept when the upload was accepted, else the one beside it."""
    kept = source.get("sidecar_sha256")
    return f"sidecars/{kept}.json" if kept else f"{source['upload_key']}{SUFFIX}"


def _declared_by(source: Row) -> str | None:
    return f"account {source['account']}" if source.get("account") else None


def _instant(value: Any) -> str | None:
    return value.isoformat() if hasattr(value, "isoformat") else None


def keep_rights(
    db: StateDatabase, platform: str, source_id: str, sha256: str, records: Sequence[RightsRecord]
) -> None:
    """Keep by what rights this file is posted, before it is; what a post was begun with is not changed afterwards."""
    file = {"platform": platform, "content_id": source_id, "sha256": sha256}
    rights = [record.as_dict() for record in records]
    with db.session() as session:
        now = db.now(session)
        if insert_if_absent(session, PublicationRights, file | {"rights": rights, "recorded_at": now}):
            return
        begun = sa.select(Publication.id).filter_by(**file).where(Publication.first_mutation_at.is_not(None))
        session.execute(
            sa.update(PublicationRights)
            .filter_by(**file)
            .where(~begun.exists())
            .values(rights=rights, recorded_at=now)
        )
