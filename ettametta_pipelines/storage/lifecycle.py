"""The store's lifecycle: a bucket's rules beside those of others, and the removal of objects that are due.

S3's rules know only ages and names, so they do what needs to know no more: end broken-off uploads, move sources to a
colder class, and let go of old versions. Which objects may go is decided by the caller (`operations/lifecycle.py`) and
carried out here alike in a bucket and in a directory.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.storage.bucket import Bucket
from ettametta_pipelines.storage.object_errors import botocore_errors, os_errors
from ettametta_pipelines.storage.objects import ObjectStore

OWN = "ettametta-"
# How long a bucket with versions keeps what was removed: time to call a mistake back.
OLD_VERSIONS_DAYS = 30
SOURCES = "media/sources/"
PARALLEL = 16
# How `directory.py` names writes in progress; nobody else's names look so.
_LEFT_OVER = re.compile(r"\.[0-9a-f]{16}#0\Z")

Rule = dict[str, Any]


@dataclass(frozen=True)
class Wanted:
    """What the bucket's rules shall do; 0 days is: nothing."""

    abort_days: int
    cold_days: int
    cold_class: str
    # Prefixes that objects are removed below.
    expiring: tuple[str, ...]


@dataclass(frozen=True)
class Applied:
    """Rules of ours as they stand, how many of others stand beside them, and whether anything was changed."""

    own: tuple[str, ...]
    foreign: int
    changed: bool


def own_rules(wanted: Wanted, prefix: str) -> list[Rule]:
    """Our rules for a store below `prefix` of its bucket. Several stores in one bucket have rules of their own."""
    effects: list[tuple[str, str, Rule]] = []
    if wanted.abort_days:
        abort = {"AbortIncompleteMultipartUpload": {"DaysAfterInitiation": wanted.abort_days}}
        effects.append(("abort-uploads", "", abort))
    if wanted.cold_days:
        move = {"Days": wanted.cold_days, "StorageClass": wanted.cold_class}
        effects.append(("cold-sources", SOURCES, {"Transitions": [move]}))
    for below in wanted.expiring:
        gone = {"NoncurrentVersionExpiration": {"NoncurrentDays": OLD_VERSIONS_DAYS}}
        effects.append((f"old-versions-{below.replace('/', '-')}", f"{below}/", gone))
    return [
        {"ID": _own_id(name, prefix), "Status": "Enabled", "Filter": {"Prefix": prefix + below}, **effect}
        for name, below, effect in effects
    ]


def apply_rules(store: ObjectStore, wanted: Wanted) -> Applied:
    """Bring our rules of the bucket to what is wanted; rules of others stay as they are. A directory has none.

    S3 takes a bucket's rules only all at once: should somebody else change theirs in the same second, NeedsPersonError
    `lifecycle_changed_meanwhile` says so. Repeating it changes nothing.
    """
    bucket = store.bucket
    if bucket is None:
        return Applied((), 0, False)
    standing = _rules_of(bucket)
    standing_own = [rule for rule in standing if _is_own(rule, bucket.prefix)]
    foreign = [rule for rule in standing if not _is_own(rule, bucket.prefix)]
    own = own_rules(wanted, bucket.prefix)
    names = tuple(str(rule["ID"]) for rule in own)
    if _plain(standing_own) == _plain(own):
        return Applied(names, len(foreign), False)
    with botocore_errors("set the lifecycle of", bucket.name, store.url):
        if own or foreign:
            bucket.client.put_bucket_lifecycle_configuration(
                Bucket=bucket.name,
                LifecycleConfiguration={"Rules": [*foreign, *own]},  # type: ignore[list-item]
            )
        else:
            bucket.client.delete_bucket_lifecycle(Bucket=bucket.name)
    if _plain(_rules_of(bucket)) != _plain([*foreign, *own]):
        raise NeedsPersonError(
            f"The lifecycle rules of {bucket.name} are not those that were just set: somebody else changes them.",
            code="lifecycle_changed_meanwhile",
            remedy="Look at the bucket's lifecycle rules, then run storage_lifecycle again.",
        )
    return Applied(names, len(foreign), True)


def remove(store: ObjectStore, keys: Sequence[str]) -> int:
    """Delete these objects; says how many. In a bucket with versions they can be called back for a while."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        return len(list(pool.map(store.delete, keys)))


def remove_left_overs(
    store: ObjectStore, days: int, now: datetime, *, count_only: bool = False
) -> tuple[int, int]:
    """(Number, bytes) of writes into a directory that were broken off so long ago, and that are deleted unless only
    counted: what S3 calls incomplete multipart uploads. In a bucket S3's rule does it, and nothing is counted."""
    root = store.local_path("x")
    if root is None or not days:
        return 0, 0
    found, size = 0, 0
    oldest = (now - timedelta(days=days)).timestamp()
    with os_errors("delete", "unfinished writes", store.url):
        for folder, _, names in os.walk(root.parent):
            for name in filter(_LEFT_OVER.match, names):
                path = Path(folder, name)
                told = path.lstat()
                if told.st_mtime < oldest:
                    found, size = found + 1, size + told.st_size
                    if not count_only:
                        path.unlink(missing_ok=True)
    return found, size


def _own_id(name: str, prefix: str) -> str:
    return f"{OWN}{name}" + (f":{prefix}" if prefix else "")


def _is_own(rule: Rule, prefix: str) -> bool:
    name, _, where = str(rule.get("ID", "")).partition(":")
    return name.startswith(OWN) and where == prefix


def _rules_of(bucket: Bucket) -> list[Rule]:
    from botocore.exceptions import ClientError

    with botocore_errors("read the lifecycle of", bucket.name, f"s3://{bucket.name}"):
        try:
            return [
                dict(r) for r in bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.name)["Rules"]
            ]
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") != "NoSuchLifecycleConfiguration":
                raise
    return []


def _plain(rules: Iterable[Mapping[str, Any]]) -> list[str]:
    """Rules in a form that compares: S3 gives them back in any order, and empty filters in several ways."""
    return sorted(repr(_sorted(rule)) for rule in rules)


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return sorted((str(name), _sorted(part)) for name, part in value.items())
    return [_sorted(part) for part in value] if isinstance(value, list) else value
