"""Which raw candidates cannot be ranked, and why: a table of reasons, asked in order.

A row is never mended: it either holds what the platform said, or it stands aside under the first reason that holds.
Called by `trends.py`, which ranks the rest, and by the asset `quarantined_candidates`, which shows them.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from ettametta_pipelines.failures import PermanentError

Row = dict[str, Any]

# Clocks of platforms differ a little from ours; more than this is a date in the future.
CLOCK_SKEW = timedelta(minutes=5)
# YouTube's first video; a zero on the wire reads as 1970.
FIRST_VIDEO_EVER = datetime(2005, 4, 1, tzinfo=UTC)
COUNTERS = ("views", "likes", "comments")


@dataclass(frozen=True)
class Reason:
    """Why a row stands aside: a stable code, a sentence, and when it holds."""

    code: str
    sentence: str
    holds: Callable[[Mapping[str, Any]], bool]


REASONS: tuple[Reason, ...] = (
    Reason(
        "live_stream",
        "A live or announced stream: its counter is of viewers now, not of a video.",
        lambda row: bool(row["live"]),
    ),
    Reason(
        "views_unknown",
        "No readable view count: hidden by the uploader, not read because the quota was spent, or no number.",
        lambda row: row["views"] is None,
    ),
    Reason(
        "negative_count",
        "A counter is below zero.",
        lambda row: any((row[name] or 0) < 0 for name in COUNTERS),
    ),
    Reason(
        "published_in_future",
        "Published later than it was seen.",
        lambda row: row["published_at"] - row["observed_at"] > CLOCK_SKEW,
    ),
    Reason(
        "publication_date_impossible",
        "Published before there was any such platform.",
        lambda row: row["published_at"] < FIRST_VIDEO_EVER,
    ),
)

_KEPT = ("day", "niche", "platform", "video_id", "url", "title", "channel_id", "observed_at")


def reason_against(row: Mapping[str, Any]) -> Reason | None:
    """The first reason that holds against a raw candidate, None for a good one."""
    return next((reason for reason in REASONS if reason.holds(row)), None)


def check_statistics(rows: Iterable[Mapping[str, Any]], partition: str) -> None:
    """Raise PermanentError `statistics_deleted` when counters of the partition have been deleted by age."""
    if any(row.get("statistics_deleted_at") is not None for row in rows):
        raise PermanentError(
            f"The counters of {partition} were deleted by age, so nobody can tell again which were bad.",
            code="statistics_deleted",
            remedy="Nothing to do: the stored table stays as it is. Materialize youtube_candidates of that day first "
            "to look at today's counters instead.",
        )


def quarantined(rows: Iterable[Row]) -> list[Row]:
    """Rows of `quarantined_candidates`: deduplicated raw candidates that stand aside, by reason and id."""
    aside = [(row, reason) for row in rows if (reason := reason_against(row)) is not None]
    found = [
        {name: row[name] for name in _KEPT} | {"reason_code": reason.code, "reason": reason.sentence}
        for row, reason in aside
    ]
    return sorted(found, key=lambda row: (row["reason_code"], row["platform"], row["video_id"]))
