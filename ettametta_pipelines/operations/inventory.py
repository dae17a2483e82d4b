"""What lies in the object store, by prefix and account: one listing a night, and what it grew since the last.

Called by the asset `storage_inventory`. Nothing is read but names and sizes.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from typing import Any

from ettametta_pipelines.storage.objects import ObjectInfo

# Folders that are told apart by what lies in them.
DEEP = frozenset({"media"})
SOURCES = "media/sources"
# Below these the next segment is a source id, which begins with its account.
BY_SOURCE = frozenset({"media/renditions", "media/analysis", "media/thumbnails", "media/trials"})
Key = tuple[str, str]


def take_inventory(
    objects: Iterable[ObjectInfo],
    day: date,
    account_of_content: Mapping[str, str],
    earlier: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """Rows of `storage_inventory` for one day, prefixes that are gone included; `earlier` are those of a day before.

    `account_of_content` knows whose an accepted source is by its SHA-256; what two accounts uploaded counts once.
    """
    number: Counter[Key] = Counter()
    size: Counter[Key] = Counter()
    for info in objects:
        key = place_of(info.key, account_of_content)
        number[key] += 1
        size[key] += info.size
    before = {(row["prefix"], row["account"]): row for row in earlier}
    return [
        {
            "day": day, "prefix": key[0], "account": key[1], "objects": number[key], "bytes": size[key],
            "objects_grown": _grown(number[key], before, key, "objects", bool(earlier)),
            "bytes_grown": _grown(size[key], before, key, "bytes", bool(earlier)),
        }
        for key in sorted({*number, *before})
    ]  # fmt: skip


def place_of(object_key: str, account_of_content: Mapping[str, str]) -> Key:
    """(Prefix, account) an object is counted under; the account is empty where a key does not tell."""
    segments = object_key.split("/")
    prefix = "/".join(segments[: 2 if segments[0] in DEEP and len(segments) > 2 else 1])
    if len(segments) == 1:
        prefix = "(top)"
    account = ""
    if prefix == "uploads":
        account = segments[1] if len(segments) > 2 else ""
    elif prefix in BY_SOURCE:
        account = segments[2].rpartition("--")[0]
    elif prefix == SOURCES:
        account = account_of_content.get(segments[2].partition(".")[0], "")
    return prefix, account


def _grown(
    now: int, before: Mapping[Key, Mapping[str, Any]], key: Key, column: str, is_known: bool
) -> int | None:
    return now - int(before[key][column] if key in before else 0) if is_known else None
