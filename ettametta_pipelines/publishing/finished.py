"""Finished videos that still have a post to be made: found by name, and only they are read.

A shop's finished videos pile up, and nearly all are posted. What is there is listed (names alone), what is done is
asked of the ledger (keys alone), and only the tables of the rest are opened, so that a look at the queue costs what
waits and not what went out. Called by `backlog.py`.
"""

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.media.contracts import SOURCE_MEDIA
from ettametta_pipelines.publishing.approvals import REJECT
from ettametta_pipelines.publishing.ledger import State
from ettametta_pipelines.renders.contracts import RENDITIONS
from ettametta_pipelines.state.models import Publication, PublicationDecision
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.contracts import TableContract, plain_rows
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import (
    SUFFIX,
    TABLES_PREFIX,
    PartitionMissing,
    partition_of,
    read_table,
)

Row = dict[str, Any]
# Platform, account, source video.
Key = tuple[str, str, str]

UPRIGHT = next(contract for contract in RENDITIONS if contract.name == "rendition_9x16")
# In these the post is certainly not on the platform, or only its last byte is missing: running again is right.
UNFINISHED = frozenset({State.PLANNED, State.SESSION_OPEN, State.FINALIZING})
READERS = 8


def waiting_rows(
    store: ObjectStore, db: StateDatabase, platforms_of: Mapping[str, Collection[str]]
) -> tuple[list[Row], list[Row]]:
    """Rows of `source_media` and `rendition_9x16` of accepted videos with a post to be made on any of these platforms.

    `platforms_of` an account are those it has or is meant to have a channel on; accounts without any have no posts.
    """
    done = settled_posts(db)
    waiting = [
        name
        for name in rendered(store)
        if any((platform, account_of(name), name) not in done for platform in _of(platforms_of, name))
    ]
    with ThreadPoolExecutor(READERS) as readers:
        sources = list(readers.map(partial(_rows, store, SOURCE_MEDIA), waiting))
        renditions = list(readers.map(partial(_rows, store, UPRIGHT), waiting))
    accepted = [row for rows in sources for row in rows if row["verdict"] == "accepted"]
    return accepted, [row for rows in renditions for row in rows]


def rendered(store: ObjectStore) -> list[str]:
    """Source videos that have an upright rendition."""
    files = store.list(f"{TABLES_PREFIX}/{UPRIGHT.name}")
    return [partition_of(UPRIGHT.name, info.key) for info in files if info.key.endswith(SUFFIX)]


def account_of(source_id: str) -> str:
    """A source video's name begins with its account: `acme--0123456789abcdef`."""
    return source_id.rpartition("--")[0]


def settled_posts(db: StateDatabase) -> frozenset[Key]:
    """Posts nothing is left to do for in the queue: made, failed, a person's to settle, or rejected.

    One is never in here while a higher intent of it is open or decided on.
    """
    of_post = (Publication.platform, Publication.account_id, Publication.content_id)
    of_decision = (
        PublicationDecision.platform,
        PublicationDecision.account_id,
        PublicationDecision.content_id,
    )
    settled = Publication.state.not_in(sorted(UNFINISHED))
    newest = sa.select(sa.func.max(PublicationDecision.id)).group_by(*of_decision)
    with db.session(write=False) as session:
        made = _highest(
            session.execute(
                sa.select(*of_post, sa.func.max(Publication.intent_no)).where(settled).group_by(*of_post)
            )
        )
        begun = {(row[0], row[1], row[2]) for row in session.execute(sa.select(*of_post).where(~settled))}
        decided = _highest(
            session.execute(
                sa.select(*of_decision, sa.func.max(PublicationDecision.intent_no)).group_by(*of_decision)
            )
        )
        rejected = _highest(
            session.execute(
                sa.select(*of_decision, PublicationDecision.intent_no).where(
                    PublicationDecision.decision == REJECT, PublicationDecision.id.in_(newest)
                )
            )
        )
    done = {key for key, intent_no in made.items() if key not in begun and decided.get(key, 0) <= intent_no}
    done |= {
        key
        for key, intent_no in rejected.items()
        if key not in begun and intent_no == max(decided[key], made.get(key, 0))
    }
    return frozenset(done)


def _highest(rows: Iterable[Any]) -> dict[Key, int]:
    return {(row[0], row[1], row[2]): row[3] for row in rows}


def _of(platforms_of: Mapping[str, Collection[str]], source_id: str) -> Collection[str]:
    return platforms_of.get(account_of(source_id), ())


def _rows(store: ObjectStore, contract: TableContract, source_id: str) -> list[Row]:
    try:
        return plain_rows(read_table(store, contract, source_id))
    except PartitionMissing:
        # Removed since it was listed.
        return []
