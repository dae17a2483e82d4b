"""A witness outside the database: that the last byte of a post was allowed to leave, and by which upload.

A state database restored from an older copy does not know what was posted since, and a platform's lists may be blind
(TikTok's always are to private posts). So before the ledger says FINALIZING, one small object per publication is
written to the object store, sealed like the ledger's own handle. A publication that has one never opens an upload
again, whatever its row says. Written and read by `delivery.py` alone.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.storage.objects import ObjectExists, ObjectMissing, ObjectStore

PREFIX = "publishing/last_bytes"
_COLUMN = "last_bytes"


@dataclass(frozen=True)
class Testimony:
    """What is needed to find out what became of the upload: its handle, its file, the page of its channel."""

    handle: dict[str, str]
    object_key: str
    sha256: str
    size_bytes: int
    url: str | None


def testify(store: ObjectStore, envelope: Envelope, row: Publication, handle: Mapping[str, str]) -> bool:
    """Write that the last byte of this publication may leave from now on; False where that was written before.

    The first word stands: a worker that wakes up late, or one of another database over the same store, cannot put the
    upload it knew in the place of the first. Its own upload must then not get its last byte.
    """
    testimony = Testimony(dict(handle), row.object_key, row.sha256, row.size_bytes, row.url)
    sealed = envelope.seal(
        json.dumps(asdict(testimony)), account=row.account_id, platform=row.platform, column=_column(row)
    )
    try:
        store.create(_key(row), sealed.encode(), content_type="text/plain")
    except ObjectExists:
        return False
    return True


def testimony_of(store: ObjectStore, row: Publication) -> str | None:
    """The sealed testimony; None when the last byte was never allowed to leave."""
    try:
        return store.get(_key(row)).decode()
    except ObjectMissing:
        return None


def open_testimony(sealed: str, envelope: Envelope, row: Publication) -> Testimony:
    """What was sealed. Raises what `Envelope.open` raises."""
    opened = envelope.open(sealed, account=row.account_id, platform=row.platform, column=_column(row))
    return Testimony(**json.loads(opened))


def _key(row: Publication) -> str:
    return f"{PREFIX}/{row.platform}/{row.id}"


def _column(row: Publication) -> str:
    return f"{_COLUMN}/{row.id}"
