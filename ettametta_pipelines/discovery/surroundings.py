"""What is stored beside a partition's raw candidates, read for the ranking (`trends.Surroundings`).

Snapshots of the videos and of their channels' other uploads, the same day in other niches, the week before in this one,
and the partition's own signals where counters were deleted. Called by the asset `trend_candidates`.
"""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.discovery.contracts import TREND_CANDIDATES, YOUTUBE_CANDIDATES
from ettametta_pipelines.discovery.retention import KEPT_FOR
from ettametta_pipelines.discovery.signal_contracts import VIDEO_SNAPSHOTS
from ettametta_pipelines.discovery.snapshots import WATCHED_FOR
from ettametta_pipelines.discovery.stored import day_keys, days_between, niche_keys, read_partitions
from ettametta_pipelines.discovery.trends import Surroundings
from ettametta_pipelines.storage.parquet import table_key

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore

Row = dict[str, Any]

# How far back footage that was uploaded again is looked for.
KIN_DAYS = 7
_LIKENESS = ("niche", "platform", "video_id", "title", "channel_title", "duration_s", "published_at")


def look_around(store: "ObjectStore", partition: str, raw: list[Row]) -> Surroundings:
    """Everything stored that the ranking of `partition` (`day|niche`) can use beside its raw rows."""
    text, niche = partition.split("|")
    day = date.fromisoformat(text)
    channels = {row["channel_id"] for row in raw}
    snapshot_days = days_between(day - KEPT_FOR, day + WATCHED_FOR)
    snapshots = read_partitions(
        store, VIDEO_SNAPSHOTS, day_keys(VIDEO_SNAPSHOTS, snapshot_days), where={"channel_id": channels}
    )
    same_day = read_partitions(
        store, YOUTUBE_CANDIDATES, niche_keys(store, YOUTUBE_CANDIDATES, [day]), columns=_LIKENESS
    )
    week = days_between(day - timedelta(days=KIN_DAYS), day - timedelta(days=1))
    earlier = read_partitions(
        store,
        YOUTUBE_CANDIDATES,
        [table_key(YOUTUBE_CANDIDATES.name, f"{past.isoformat()}|{niche}") for past in week],
        columns=_LIKENESS,
    )
    deleted = any(row["statistics_deleted_at"] is not None for row in raw)
    derived = read_partitions(
        store, TREND_CANDIDATES, [table_key(TREND_CANDIDATES.name, partition)] if deleted else []
    )
    return Surroundings(
        snapshots=[row for rows in snapshots for row in rows],
        sightings=[(row["platform"], row["video_id"], row["niche"]) for rows in same_day for row in rows],
        kin=[row for rows in (*earlier, *same_day) for row in rows],
        derived=[row for rows in derived for row in rows],
    )
