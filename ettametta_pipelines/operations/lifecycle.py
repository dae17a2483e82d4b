"""What may leave the store, and when: old objects below a few prefixes that nothing alive refers to.

`plan_removals` decides, without removing; `storage/lifecycle.py` carries it out. Only what can be made again, or is
kept under another name, is ever a candidate: paid voices, accepted sources and tables are not.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

import sqlalchemy as sa

from ettametta_pipelines.media.sidecar import SUFFIX
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectInfo, ObjectStore

UPLOADS, ANALYSIS, RENDITIONS = "uploads", "media/analysis", "media/renditions"
TRIALS = "media/trials"
# What each prefix holds, and which of it may go: what operators read in the table.
EXPIRABLE: Mapping[str, str] = {
    UPLOADS: "uploads that were taken in or refused, and their sidecars: both are kept under their content's hash",
    ANALYSIS: "contact sheets and subject tracks of archived source videos; media_analysis makes them again",
    RENDITIONS: "renditions that no table and no post refers to, such as those of an earlier recipe",
    TRIALS: "what came out of recipes that were tried; try_recipe makes them again",
}
AT_ONCE = 1_000
# Of one run; the next night goes on.
MOST_REMOVALS = 50_000


@dataclass(frozen=True)
class References:
    """What is alive: source videos with a partition, and objects that rows of the lake refer to."""

    live_sources: Collection[str]
    renditions: Collection[str]


@dataclass
class Removals:
    """What is due below one prefix: `keys` of those to be removed in this run, all in numbers."""

    prefix: str
    days: int
    objects: int = 0
    size: int = 0
    keys: list[str] = field(default_factory=list)


def plan_removals(
    store: ObjectStore, state: StateDatabase, prefix: str, days: int, references: References, now: datetime
) -> Removals:
    """Objects below `prefix` last written more than `days` ago that nothing alive refers to."""
    plan = Removals(prefix, days)
    before = now - timedelta(days=days)
    old = (info for info in store.list(prefix) if info.modified_at < before)
    for info in _FREE[prefix](old, state, references):
        plan.objects, plan.size = plan.objects + 1, plan.size + info.size
        if len(plan.keys) < MOST_REMOVALS:
            plan.keys.append(info.key)
    return plan


def _free_uploads(
    old: Iterator[ObjectInfo], state: StateDatabase, references: References
) -> Iterator[ObjectInfo]:
    while some := list(islice(old, AT_ONCE)):
        keys = [info.key for info in some]
        # A sidecar goes with its upload, whether or not that is still there.
        spoken_of = [key.removesuffix(SUFFIX) for key in keys if key.endswith(SUFFIX)]
        with state.session(write=False) as session:
            rows = uploads.find_all(session, list(dict.fromkeys([*keys, *spoken_of])))
        done = {row.object_key for row in rows if row.settled_at or row.status == uploads.REFUSED}
        done -= {row.object_key for row in rows if row.status == uploads.ACCEPTED and not row.settled_at}
        versions = {(row.object_key, row.etag) for row in rows}
        yield from (
            info
            for info in some
            if (info.key in done and (info.key, info.etag) in versions)
            or (info.key.endswith(SUFFIX) and info.key.removesuffix(SUFFIX) in done)
        )


def _free_analyses(
    old: Iterator[ObjectInfo], state: StateDatabase, references: References
) -> Iterator[ObjectInfo]:
    return (info for info in old if info.key.split("/")[2] not in references.live_sources)


def _free_renditions(
    old: Iterator[ObjectInfo], state: StateDatabase, references: References
) -> Iterator[ObjectInfo]:
    with state.session(write=False) as session:
        posted = set(session.scalars(sa.select(Publication.object_key).distinct()))
    alive = {_stem(key) for key in (*references.renditions, *posted)}
    # What lies beside a file (its preview, what was checked, what it is known again by) goes with it.
    return (info for info in old if _stem(info.key) not in alive)


def _stem(object_key: str) -> str:
    folder, _, name = object_key.rpartition("/")
    return f"{folder}/{name.partition('.')[0]}"


_FREE: Mapping[str, Callable[[Iterator[ObjectInfo], StateDatabase, References], Iterator[ObjectInfo]]] = {
    UPLOADS: _free_uploads,
    ANALYSIS: _free_analyses,
    RENDITIONS: _free_renditions,
    TRIALS: lambda old, state, references: old,
}
