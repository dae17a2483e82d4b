"""Which partitions wait for clips of a GPU: a mark in the object store, from the order until every clip has an end.

A run that is killed, or gives up while a node or a cluster is at work, leaves its mark; the schedule `clip_followup`
comes back for it. Nothing is decided here. Orders at vendors have their own books in `state/clip_orders.py`.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from ettametta_pipelines.storage.objects import ObjectStore

PREFIX = "jobs/waiting"
# What no GPU made in a day is a person's matter.
PATIENCE = timedelta(days=1)


def _key(model: str, account: str, partition: str) -> str:
    day, _, niche = partition.partition("|")
    return f"{PREFIX}/{day}/{niche}/{account}/{model}"


def mark(store: ObjectStore, model: str, account: str, partition: str) -> None:
    """Note that clips are waited for; the first mark's time stays."""
    key = _key(model, account, partition)
    if not store.exists(key):
        store.put(key, b"")


def clear(store: ObjectStore, model: str, account: str, partition: str) -> None:
    store.delete(_key(model, account, partition))


def waiting(store: ObjectStore, now: datetime) -> Sequence[tuple[str, str]]:
    """(partition, account) that have been waiting for less than `PATIENCE`, oldest day first."""
    found = []
    for info in store.list(f"{PREFIX}/"):
        day, niche, account, _ = info.key.removeprefix(f"{PREFIX}/").split("/")
        if now - info.modified_at < PATIENCE:
            found.append((f"{day}|{niche}", account))
    return list(dict.fromkeys(found))
