"""Statistics of candidates at fixed ages after publication: which are due, and reading them fifty a call.

A snapshot of one video at one age exists once, whoever asks again; each row says when it was read and how old the
video was exactly. What snapshots are good for is `virality.py`'s and `baselines.py`'s business. Called by the asset
`video_snapshots`, which lends the metered client and the stored rows.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import Clock, business_day_of
from ettametta_pipelines.discovery.signal_contracts import VIDEO_SNAPSHOTS
from ettametta_pipelines.discovery.stored import day_keys, read_partitions
from ettametta_pipelines.discovery.trends import rank_trends
from ettametta_pipelines.discovery.virality import age_hours
from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.storage.parquet import write_table

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.vendors.youtube import VideoStats

Row = dict[str, Any]

# Close together while a video is decided on, a week as the last look. Each slot is open until halfway to the next,
# so that a snapshot stands for the age it names; one that was not taken by then is missing, not late.
SLOTS_H = (3, 6, 12, 24, 48, 72, 168)
LAST_SLOT_CLOSES_H = 192.0
WATCHED_FOR = timedelta(hours=LAST_SLOT_CLOSES_H)

IDS_A_CALL = 50
QUOTA_EXHAUSTED = "quota_exhausted"
# A run of the last hour of a day may wait in the queue or take its time.
GRACE = timedelta(hours=1)

SEEN, VIEWS_UNKNOWN, GONE = "seen", "views_unknown", "gone"


class ReadsStatistics(Protocol):
    """The part of `MeteredYouTube` that snapshots need: paid from the shared quota, 50 ids a call."""

    def batch_get_stats(self, ids: Sequence[str]) -> "list[VideoStats]": ...


@dataclass(frozen=True)
class DueSnapshot:
    """A video whose snapshot at one age can be taken now, until `closes_at`."""

    candidate: Mapping[str, Any]
    slot_h: int
    closes_at: datetime


@dataclass
class Polling:
    """New rows of `video_snapshots`, and what was left undone."""

    rows: list[Row] = field(default_factory=list)
    due: int = 0
    calls: int = 0
    vanished: int = 0
    left_out: list[str] = field(default_factory=list)


def check_day(day: date, now: datetime, timezone: ZoneInfo) -> None:
    """Raise PermanentError `day_is_over` for a past day: platforms tell figures of now only."""
    if day < business_day_of(now - GRACE, timezone):
        raise PermanentError(
            f"{day} is over, and YouTube tells figures of now only.",
            code="day_is_over",
            remedy=f"Materialize the partition of today, {business_day_of(now, timezone)}; "
            "the table of a past day stays as it was read.",
        )


def watched_candidates(partitions: Iterable[Sequence[Row]], now: datetime, top: int) -> list[Row]:
    """The strongest `top` YouTube candidates of each raw partition that are young enough to be watched, each once.

    Strength is that of the trend ranking, from the raw rows alone.
    """
    chosen: list[Row] = []
    for rows in partitions:
        young = [
            row for row in rows if row["platform"] == "youtube" and now - row["published_at"] < WATCHED_FOR
        ]
        chosen += rank_trends(young).rows[:top]
    first: dict[str, Row] = {}
    for row in sorted(chosen, key=lambda row: (row["day"], row["niche"])):
        first.setdefault(row["video_id"], row)
    return list(first.values())


def slot_at(age_h: float) -> tuple[int, float] | None:
    """(slot in hours, age at which it closes) that is open at this age; None between slots and outside of them."""
    closes = [(early + late) / 2 for early, late in pairwise(SLOTS_H)]
    for slot, end in zip(SLOTS_H, [*closes, LAST_SLOT_CLOSES_H], strict=True):
        if slot <= age_h < end:
            return slot, end
    return None


def due_snapshots(
    candidates: Sequence[Mapping[str, Any]], taken: Iterable[Mapping[str, Any]], now: datetime
) -> list[DueSnapshot]:
    """Snapshots that can be taken now and are not there yet, those whose time runs out first in front.

    `taken` are stored rows of `video_snapshots`. A video that was gone at an earlier age is not asked for again.
    """
    have = {(row["video_id"], row["slot_h"]) for row in taken}
    gone = {row["video_id"] for row in taken if row["status"] == GONE}
    due = []
    for candidate in candidates:
        slot = slot_at(age_hours(candidate["published_at"], now))
        if slot is None or candidate["video_id"] in gone or (candidate["video_id"], slot[0]) in have:
            continue
        closes_at = candidate["published_at"] + timedelta(hours=slot[1])
        due.append(DueSnapshot(candidate, slot[0], closes_at))
    return sorted(due, key=lambda one: (one.closes_at, one.candidate["video_id"]))


def take_snapshots(youtube: ReadsStatistics, due: Sequence[DueSnapshot], day: date, clock: Clock) -> Polling:
    """Read what is due, fifty a call. A spent quota leaves the rest for the next hour and names it; nothing is raised.

    Every other refusal of the vendor is raised.
    """
    polling = Polling(due=len(due))
    for start in range(0, len(due), IDS_A_CALL):
        batch = due[start : start + IDS_A_CALL]
        try:
            answers = youtube.batch_get_stats([one.candidate["video_id"] for one in batch])
        except TransientError as error:
            if error.code != QUOTA_EXHAUSTED:
                raise
            left = len(due) - start
            polling.left_out.append(f"{left} of {len(due)} snapshots wait for the next hour (quota spent)")
            break
        polling.calls += 1
        now = clock()
        answered = {stats.video_id: stats for stats in answers}
        rows = [_row(day, one, answered.get(one.candidate["video_id"]), now) for one in batch]
        polling.vanished += sum(row["status"] == GONE for row in rows)
        polling.rows += rows
    return polling


def add_to_day(store: "ObjectStore", day: date, new: Sequence[Row]) -> int:
    """Write a day's table with these rows added, and say how many it then has. One at a time: it reads, then writes."""
    stored = read_partitions(store, VIDEO_SNAPSHOTS, day_keys(VIDEO_SNAPSHOTS, [day]))
    rows = merged([row for part in stored for row in part], new)
    write_table(store, VIDEO_SNAPSHOTS, VIDEO_SNAPSHOTS.frame(rows), day.isoformat())
    return len(rows)


def merged(stored: Iterable[Row], new: Iterable[Row]) -> list[Row]:
    """A day's rows with the new ones added; of two for one video and slot the first stays."""
    rows: dict[tuple[str, str, int], Row] = {}
    for row in (*stored, *new):
        rows.setdefault((row["platform"], row["video_id"], row["slot_h"]), row)
    return list(rows.values())


def _row(day: date, due: DueSnapshot, stats: "VideoStats | None", now: datetime) -> Row:
    candidate = due.candidate
    views = stats.views if stats else None
    # A count below zero is no count. Nothing is put in its place.
    known = views is not None and views >= 0
    return {
        "day": day,
        "niche": candidate["niche"],
        "platform": "youtube",
        "video_id": candidate["video_id"],
        "channel_id": candidate["channel_id"],
        "published_at": candidate["published_at"],
        "slot_h": due.slot_h,
        "age_h": age_hours(candidate["published_at"], now),
        "observed_at": now,
        "status": GONE if stats is None else SEEN if known else VIEWS_UNKNOWN,
        "duration_s": candidate["duration_s"],
        "views": views if known else None,
        "likes": _count(stats.likes) if stats else None,
        "comments": _count(stats.comments) if stats else None,
    }


def _count(value: int | None) -> int | None:
    return value if value is not None and value >= 0 else None
