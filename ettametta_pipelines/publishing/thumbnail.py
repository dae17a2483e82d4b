"""The picture a published video is shown by: set after the post, once a picture, in a row of its own.

It cannot lead back to posting: the publication is only read, and whatever goes wrong is noted beside it. Setting the
same picture twice is harmless at YouTube, so a crash between the call and the note costs quota and nothing else.
Called by the asset `youtube_thumbnails`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.publishing.delivery import Workshop
from ettametta_pipelines.publishing.ledger import State
from ettametta_pipelines.publishing.tokens import access_token
from ettametta_pipelines.redaction import redact
from ettametta_pipelines.renders.contracts import THUMBNAILS
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import Publication, PublicationExtra
from ettametta_pipelines.state.session import insert_if_absent
from ettametta_pipelines.storage.contracts import plain_rows
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import PartitionMissing, read_table
from ettametta_pipelines.vendors.google_api import ACCESS_TOKEN_REJECTED
from ettametta_pipelines.vendors.youtube import METHOD_BUCKETS, YouTubeApp

KIND = "thumbnail"
# What stands in the table `thumbnails` for the plain frame.
PLAIN = "plain"


@dataclass(frozen=True)
class Picture:
    object_key: str
    sha256: str


@dataclass(frozen=True)
class ThumbnailOutcome:
    """`set_now` is True when this run set the picture; `waits_for` says what is missing, empty when it is set."""

    publication_id: str
    picture: Picture | None
    set_now: bool = False
    waits_for: str = ""


def pictures_of(store: ObjectStore, source_id: str) -> list[dict[str, Any]]:
    """Rows of the table `thumbnails`; none where it was not made, for publishing does not wait for it."""
    try:
        return plain_rows(read_table(store, THUMBNAILS, source_id))
    except PartitionMissing:
        return []


def choose_picture(
    rows: Sequence[Mapping[str, Any]], shape: str, *, rank: int = 1, variant: str = PLAIN
) -> Picture | None:
    """The picture of this rank, in the shape of the posted video; None without any.

    Raises PermanentError `no_such_thumbnail` when there are pictures, but not this one.
    """
    if not rows:
        return None
    for row in rows:
        if (row["rank"], row["shape"], row["variant"] or PLAIN) == (rank, shape, variant):
            return Picture(row["object_key"], row["sha256"])
    there = sorted({f"{row['rank']} {row['variant'] or PLAIN}" for row in rows if row["shape"] == shape})
    raise PermanentError(
        f"There is no {variant} thumbnail of rank {rank} and shape {shape}.",
        code="no_such_thumbnail",
        remedy=f"Choose one of {', '.join(there) or 'another shape'}.",
    )


def show_by(
    workshop: Workshop, app: YouTubeApp, publication_id: str, picture: Picture | None
) -> ThumbnailOutcome:
    """Set the picture on the published video unless it is set. Raises what YouTube says, after noting it."""
    with workshop.db.session(write=False) as session:
        row = session.get(Publication, publication_id)
        if row is None or row.state != State.PUBLISHED or row.remote_id is None:
            return ThumbnailOutcome(publication_id, picture, waits_for="the video to be published")
        if picture is None:
            return ThumbnailOutcome(publication_id, None, waits_for="thumbnails to choose from")
        if _is_set(session.scalars(_extra(publication_id)).one_or_none(), picture):
            return ThumbnailOutcome(publication_id, picture)
    data = workshop.store.get(picture.object_key)
    try:
        _send(workshop, app, row, data)
    except (PermanentError, NeedsPersonError) as error:
        _note(workshop, publication_id, picture, error_code=error.code, error_message=redact(error.message))
        raise
    _note(workshop, publication_id, picture)
    return ThumbnailOutcome(publication_id, picture, set_now=True)


def _send(workshop: Workshop, app: YouTubeApp, row: Publication, data: bytes) -> None:
    bucket, cost = METHOD_BUCKETS["set_thumbnail"]
    assert row.remote_id is not None

    def once(rejected: str | None) -> str:
        token = access_token(
            workshop.db, app, row.account_id, row.platform, envelope=workshop.envelope, rejected=rejected,
            channel_id=row.channel_id,
        )  # fmt: skip
        quota.commit(workshop.db, quota.reserve(workshop.db, "youtube", bucket, cost, workshop.clock))
        try:
            app.channel(token).set_thumbnail(str(row.remote_id), data, "image/jpeg")
        except NeedsPersonError as error:
            if error.code != ACCESS_TOKEN_REJECTED or rejected is not None:
                raise
            return token
        return ""

    refused = once(None)
    if refused:
        once(refused)


def _extra(publication_id: str) -> sa.Select[PublicationExtra]:
    return sa.select(PublicationExtra).where(
        PublicationExtra.publication_id == publication_id, PublicationExtra.kind == KIND
    )


def _is_set(extra: PublicationExtra | None, picture: Picture) -> bool:
    return extra is not None and extra.done_at is not None and extra.sha256 == picture.sha256


def _note(
    workshop: Workshop,
    publication_id: str,
    picture: Picture,
    *,
    error_code: str | None = None,
    error_message: str | None = None,
) -> None:
    with workshop.db.session() as session:
        now = workshop.db.now(session)
        said = {
            "object_key": picture.object_key, "sha256": picture.sha256, "tried_at": now,
            "done_at": now if error_code is None else None,
            "error_code": error_code, "error_message": error_message,
        }  # fmt: skip
        row = {"publication_id": publication_id, "kind": KIND} | said
        if not insert_if_absent(session, PublicationExtra, row):
            session.execute(
                sa.update(PublicationExtra)
                .where(PublicationExtra.publication_id == publication_id, PublicationExtra.kind == KIND)
                .values(said)
            )
