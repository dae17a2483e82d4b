"""Raw candidates of all platforms -> one ranked list per niche and day.

Works on stored rows alone, so any past day can be computed again without a call. What the signals mean is in
`virality.py` and `baselines.py`; which rows stand aside, in `quarantine.py`; where they come from, in the collectors;
the roll-up over niches is `niche_trends.py`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ettametta_pipelines.discovery.baselines import (
    Series,
    Spread,
    Usual,
    fit_spread,
    log_long_run,
    outlier_of,
    usual_views,
)
from ettametta_pipelines.discovery.counting import STRADDLES, counting_version, is_comparable
from ettametta_pipelines.discovery.likeness import mark_reuploads, other_niches
from ettametta_pipelines.discovery.quarantine import reason_against
from ettametta_pipelines.discovery.reasons import why_ranked
from ettametta_pipelines.discovery.virality import (
    METHODOLOGY,
    Observation,
    age_hours,
    engagement_rate,
    motion_of,
    trend_strength,
)
from ettametta_pipelines.ranking import percentiles_within

Row = dict[str, Any]
Key = tuple[str, str]

OUTLIER_RATIO = 3.0
# A row whose counters were deleted by age and whose signals were not kept either.
STATISTICS_DELETED = "statistics_deleted"

_CARRIED = (
    "day", "niche", "platform", "video_id", "url", "title", "channel_id", "channel_title", "published_at",
    "observed_at", "duration_s", "views", "likes", "comments", "baseline_views", "baseline_uploads",
    "thumbnail_url",
)  # fmt: skip


@dataclass(frozen=True)
class RankedTrends:
    """Rows of `trend_candidates` in rank order, and what was left out, counted by reason."""

    rows: list[Row]
    duplicates: int
    excluded: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """What is known beside a partition's raw rows; all of it may be empty.

    `snapshots`: rows of `video_snapshots` of these videos and of their channels' other uploads. `sightings`:
    (platform, video_id, niche) of that day's candidates in all niches. `kin`: earlier raw rows footage may have been
    taken from. `derived`: stored rows of this partition, for videos whose counters have been deleted since.
    """

    snapshots: Sequence[Row] = ()
    sightings: Iterable[tuple[str, str, str]] = ()
    kin: Sequence[Row] = ()
    derived: Sequence[Row] = ()


def rank_trends(raw: Iterable[Row], around: Surroundings = Surroundings()) -> RankedTrends:
    """Rank raw candidates of one day and niche (rows of `youtube_candidates` and `tiktok_candidates`).

    Order: trend strength, then speed now, then views, then id, so equal input gives equal ranks in any order.
    """
    rows = list(raw)
    unique = sorted(deduplicate(rows), key=_key)
    stored = {_key(row): row for row in around.derived}
    excluded: Counter[str] = Counter()
    fresh: list[Row] = []
    kept: list[Row] = []
    for row in unique:
        if row.get("statistics_deleted_at") is not None:
            known = stored.get(_key(row))
            kept += [dict(known)] if known else []
            excluded[STATISTICS_DELETED] += not known
        elif (reason := reason_against(row)) is not None:
            excluded[reason.code] += 1
        else:
            fresh.append(row)
    kept += _with_signals(fresh, around)
    _put_in_order(kept)
    return RankedTrends(kept, len(rows) - len(unique), dict(+excluded))


def deduplicate(rows: Sequence[Row]) -> list[Row]:
    """One row per (platform, video_id): the latest observation, with everything that led to any of them."""
    best: dict[Key, Row] = {}
    for row in rows:
        seen = best.get(_key(row))
        if seen is None:
            best[_key(row)] = dict(row)
            continue
        newer = max(seen, row, key=_recency)
        best[_key(row)] = dict(newer) | {"found_by": sorted({*seen["found_by"], *row["found_by"]})}
    return list(best.values())


def _recency(row: Row) -> tuple[Any, ...]:
    """When it was seen and how large it was by then; of equals one that does not depend on the order of the rows."""
    told = sorted((name, str(value)) for name, value in row.items() if name != "found_by")
    return row["observed_at"], -1 if row["views"] is None else row["views"], told


def _put_in_order(rows: list[Row]) -> None:
    """Sort in place, strongest first, with the parts of the strength and the rank on each row."""
    platforms = [row["platform"] for row in rows]
    speeds = [
        row["view_velocity_per_hour"] if row.get("speed_now_per_hour") is None else row["speed_now_per_hour"]
        for row in rows
    ]
    velocity = percentiles_within(platforms, speeds)
    outlier = percentiles_within(platforms, [row["outlier_ratio"] for row in rows])
    for row, velocity_part, outlier_part in zip(rows, velocity, outlier, strict=True):
        row["velocity_part"], row["outlier_part"] = velocity_part, outlier_part
        row["trend_strength"] = trend_strength(velocity_part, outlier_part)
    order = {id(row): (-row["trend_strength"], -speed) for row, speed in zip(rows, speeds, strict=True)}
    rows.sort(key=lambda row: (*order[id(row)], -(row["views"] or 0), *_key(row)))
    ranked_on = Counter(platforms)
    for rank, row in enumerate(rows, start=1):
        row["rank"], row["why"] = rank, why_ranked(row, ranked_on[row["platform"]])


def _with_signals(rows: Sequence[Row], around: Surroundings) -> list[Row]:
    """Good raw rows -> rows with signals, as of the latest observation of each."""
    if not rows:
        return []
    snapshots = _by_video(around.snapshots)
    seen = [_as_last_seen(row, snapshots.get(_key(row), ())) for row in rows]
    usuals = _usuals(seen, snapshots)
    spreads = _spreads(seen, usuals)
    elsewhere = other_niches(rows[0]["niche"], around.sightings)
    again = mark_reuploads(list({_key(row): row for row in (*around.kin, *seen)}.values()))
    return [
        _signals(raw, row, snapshots.get(_key(row), ()), usual, spreads)
        | {"also_in": elsewhere.get(_key(row), []), "reupload_of": again.get(_key(row))}
        for raw, row, usual in zip(rows, seen, usuals, strict=True)
    ]


def _by_video(snapshots: Sequence[Row]) -> dict[Key, list[Row]]:
    """Snapshots with a view count of each video, oldest first."""
    found: defaultdict[Key, list[Row]] = defaultdict(list)
    for row in sorted(snapshots, key=lambda row: row["observed_at"]):
        if row["views"] is not None:
            found[_key(row)].append(row)
    return found


def _as_last_seen(row: Row, snapshots: Sequence[Row]) -> Row:
    last = snapshots[-1] if snapshots and snapshots[-1]["observed_at"] > row["observed_at"] else row
    counted = {name: last[name] for name in ("observed_at", "views", "likes", "comments")}
    version = counting_version(
        row["platform"], row["published_at"], counted["observed_at"], row["duration_s"]
    )
    return row | counted | {"methodology_version": version}


def _age(row: Row) -> float:
    # Within the tolerated skew an age may come out slightly negative: it counts as just published.
    return max(0.0, age_hours(row["published_at"], row["observed_at"]))


def _usuals(rows: Sequence[Row], snapshots: Mapping[Key, Sequence[Row]]) -> list[Usual | None]:
    """What each row's channel usually reaches, from figures that were counted as the row's were."""
    uploads: defaultdict[tuple[str, str, str], dict[str, Series]] = defaultdict(dict)
    for (platform, video_id), seen in snapshots.items():
        last = seen[-1]
        version = counting_version(platform, last["published_at"], last["observed_at"], last["duration_s"])
        if is_comparable(version):
            series = [(row["age_h"], row["views"]) for row in seen]
            uploads[platform, last["channel_id"], version][video_id] = series
    usuals: list[Usual | None] = []
    for row in rows:
        version = row["methodology_version"]
        others = uploads.get((row["platform"], row["channel_id"], version), {})
        matched = [series for video_id, series in others.items() if video_id != row["video_id"]]
        comparable = is_comparable(version)
        usuals.append(
            usual_views(_age(row), row["baseline_views"], row["baseline_uploads"], matched)
            if comparable
            else None
        )
    return usuals


def _spreads(rows: Sequence[Row], usuals: Sequence[Usual | None]) -> dict[tuple[str, str], Spread]:
    """Spread of channels and videos by platform and way of counting."""
    groups: defaultdict[tuple[str, str], list[tuple[str, float, Usual]]] = defaultdict(list)
    for row, usual in zip(rows, usuals, strict=True):
        if usual is not None:
            reached = log_long_run(row["views"], _age(row))
            groups[row["platform"], row["methodology_version"]].append((row["channel_id"], reached, usual))
    return {group: fit_spread(videos) for group, videos in groups.items()}


def _signals(
    raw: Row,
    row: Row,
    snapshots: Sequence[Row],
    usual: Usual | None,
    spreads: Mapping[tuple[str, str], Spread],
) -> Row:
    age, version = _age(row), row["methodology_version"]
    motion = motion_of(row["published_at"], _observations(raw, row, snapshots))
    outlier = outlier_of(row["views"], age, usual, spreads[row["platform"], version]) if usual else None
    return {name: row[name] for name in _CARRIED} | {
        "found_by": list(row["found_by"]),
        "age_h": age,
        "view_velocity_per_hour": motion.velocity,
        "velocity_basis": motion.basis,
        "velocity_interval_h": motion.interval_h,
        "speed_now_per_hour": motion.speed_now,
        "view_acceleration_per_hour2": motion.acceleration,
        "observations": motion.observations,
        "engagement_rate": engagement_rate(row["views"], row["likes"], row["comments"]),
        "outlier_ratio": outlier.ratio if outlier else None,
        "unshrunk_outlier_ratio": outlier.unshrunk_ratio if outlier else None,
        "expected_views": outlier.expected_views if outlier else None,
        "baseline_basis": outlier.basis if outlier else None,
        "baseline_weight": outlier.channel_weight if outlier else None,
        "outlier_certainty": outlier.certainty if outlier else None,
        "outlier_uploads": outlier.uploads if outlier else None,
        "methodology": METHODOLOGY,
        "methodology_version": version,
    }


def _observations(raw: Row, row: Row, snapshots: Sequence[Row]) -> list[Observation]:
    """View counts between which the platform did not change its way of counting, the latest always among them."""
    return [
        Observation(seen["observed_at"], seen["views"])
        for seen in (raw, *snapshots)
        if seen["observed_at"] == row["observed_at"]
        or counting_version(row["platform"], seen["observed_at"], row["observed_at"], row["duration_s"])
        != STRADDLES
    ]


def _key(row: Mapping[str, Any]) -> Key:
    return row["platform"], row["video_id"]
