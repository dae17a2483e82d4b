"""The same video in several niches, and the same footage uploaded again: found and named, never dropped.

One id on one platform is one video (`trends.deduplicate`). Beyond that, rows with the same title, the same channel
name and a length within a second are taken for one piece of footage, on one platform or across two.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

Row = dict[str, Any]

SAME_LENGTH_S = 1.0
# "Part 2", "#shorts" and the like are titles of many videos; below this many letters a title names nothing.
MIN_TITLE_CHARS = 8

_NOT_A_WORD = re.compile(r"[\W_]+")


def other_niches(niche: str, sightings: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str], list[str]]:
    """(platform, video_id) -> niches besides this one that found it; `sightings` are (platform, video_id, niche)."""
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for platform, video_id, where in sightings:
        if where != niche:
            found[platform, video_id].add(where)
    return {key: sorted(niches) for key, niches in found.items()}


def mark_reuploads(rows: Sequence[Row]) -> dict[tuple[str, str], str]:
    """(platform, video_id) -> `platform:video_id` of the earliest upload of that footage; first ones are absent."""
    groups: defaultdict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        title = _words(row["title"])
        if row["duration_s"] is not None and len(title) >= MIN_TITLE_CHARS:
            groups[title, _words(row["channel_title"])].append(row)
    return {
        (row["platform"], row["video_id"]): f"{first['platform']}:{first['video_id']}"
        for group in groups.values()
        for first, *again in _same_length(group)
        for row in again
    }


def _same_length(group: list[Row]) -> Iterable[list[Row]]:
    """Groups of rows at most a second longer than their shortest, each in order of publication."""
    run: list[Row] = []
    for row in sorted(group, key=lambda row: row["duration_s"]):
        if run and row["duration_s"] - run[0]["duration_s"] > SAME_LENGTH_S:
            yield _by_publication(run)
            run = []
        run.append(row)
    yield _by_publication(run)


def _by_publication(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row["published_at"], row["platform"], row["video_id"]))


def _words(text: str | None) -> str:
    """Letters and digits alone, case and width folded: what is left when decoration changes."""
    return _NOT_A_WORD.sub("", unicodedata.normalize("NFKC", text or "").casefold())
