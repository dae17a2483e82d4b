"""Deleting others' statistics by age: stored partitions are rewritten without the platform's counters.

YouTube's developer policies let statistics of other people's videos be stored for 30 days unless the platform's
amendment was accepted. Rows stay, with what identifies the video and what we derived from it; derived figures are cut
to three digits, or a velocity times its hours would give the counter back. Our own channels' posts are not touched.
Called by the asset `statistics_retention`, which says whether to delete at all.
"""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.storage.contracts import TableContract
from ettametta_pipelines.storage.objects import ObjectMissing
from ettametta_pipelines.storage.parquet import SUFFIX, TABLES_PREFIX, read_file, write_table

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectInfo, ObjectStore

Row = dict[str, Any]

# A day before the thirtieth: the job runs once a day.
KEPT_FOR = timedelta(days=29)
DELETED_AT = "statistics_deleted_at"
# How the TikTok collector marks posts of our own accounts.
OWN_ACCOUNT = "account: "
# Where the time of observation is looked up for tables that do not carry it.
OBSERVED_IN = "trend_candidates"
PARALLEL = 8
# Months of a table's partitions may lie here a second time, as {table}/{yyyy-mm}.parquet; they can be made again.
COPIES = "packs"
# Times and lengths: nothing of the platform's counters is in them.
_NO_STATISTICS = frozenset({"age_h", "duration_s", "velocity_interval_h"})


@dataclass(frozen=True)
class Rule:
    """Columns of one table that hold the platform's counters, and when they were read (None: see `OBSERVED_IN`)."""

    counters: tuple[str, ...]
    observed: str | None = "observed_at"


RULES: Mapping[str, Rule] = {
    "youtube_candidates": Rule(("views", "likes", "comments")),
    "tiktok_candidates": Rule(("views", "likes", "comments")),
    "video_snapshots": Rule(("views", "likes", "comments")),
    "scored_candidates": Rule(("views",), observed=None),
    "trend_candidates": Rule(("views", "likes", "comments")),
    "niche_trends": Rule(("views",), observed="last_observed_at"),
}


@dataclass
class Deletion:
    """Rows of `statistics_retention`, and what this run did."""

    lines: list[Row] = field(default_factory=list)
    rows: int = 0
    partitions: int = 0
    examined: int = 0
    changed_meanwhile: int = 0
    unreadable: list[str] = field(default_factory=list)
    deleted_by_table: dict[str, int] = field(default_factory=dict)


def delete_old_statistics(
    store: "ObjectStore",
    contracts: Mapping[str, TableContract],
    earlier: Sequence[Row],
    *,
    own_channels: Collection[str],
    now: datetime,
    keep: bool = False,
) -> Deletion:
    """Delete what is older than 29 days in every table of `RULES`; with `keep`, only say what is there.

    `earlier` are the lines of the run before: a partition that has not changed since and is not due is not read
    again, so that years of partitions cost a listing. A partition that somebody rewrites at the same moment is left
    for the next run; one that cannot be read is named in `unreadable` and stays in the way of no other.
    """
    known = {line["partition"]: line for line in earlier}
    deletion = Deletion()

    def look(found: "tuple[str, ObjectInfo]") -> "tuple[Row | None, int] | None":
        table, info = found
        line = known.get(info.key)
        if line and line["version"] == info.etag and not (_is_due(line, now) and not keep):
            return line, -1
        try:
            return _examine(store, contracts, table, info, line, own_channels, None if keep else now)
        except PermanentError as error:
            deletion.unreadable.append(f"{error.message} [{error.code}]")
            return line, -1

    for table in RULES:
        objects = [(table, i) for i in store.list(f"{TABLES_PREFIX}/{table}") if i.key.endswith(SUFFIX)]
        with ThreadPoolExecutor(PARALLEL) as pool:
            results = list(pool.map(look, objects))
        deletion.changed_meanwhile += results.count(None)
        done = [result for result in results if result is not None]
        deletion.lines += [line for line, _ in done if line is not None]
        deletion.examined += sum(rows >= 0 for _, rows in done)
        deletion.partitions += sum(rows > 0 for _, rows in done)
        deleted = sum(rows for _, rows in done if rows > 0)
        deletion.rows += deleted
        deletion.deleted_by_table |= {table: deleted} if deleted else {}
    return deletion


def _is_due(line: Row, now: datetime) -> bool:
    return line["delete_after"] is not None and line["delete_after"] <= now


def _examine(
    store: "ObjectStore",
    contracts: Mapping[str, TableContract],
    table: str,
    info: "ObjectInfo",
    line: Row | None,
    own_channels: Collection[str],
    now: datetime | None,
) -> tuple[Row, int] | None:
    """(line about one partition, rows deleted from it); None when it changed in the meantime. No `now`: only look."""
    rule, contract = RULES[table], contracts[table]
    try:
        rows = read_file(store, contract, info.key).to_pylist()
    except ObjectMissing:
        return None
    origins = _origins(store, contracts, table, info.key, rows)
    holding = [
        (row, origin[rule.observed or "observed_at"] + KEPT_FOR)
        for row, origin in zip(rows, origins, strict=True)
        if not _is_own(origin, own_channels) and any(row[name] is not None for name in rule.counters)
    ]
    old = [] if now is None else [row for row, delete_after in holding if delete_after <= now]
    if old:
        for row in old:
            row |= _without_statistics(row, rule, contract, now)
        if _version(store, info.key) != info.etag:
            return None
        # First the copy: whatever ends this run in between, no counter outlives the partition's own.
        partition = _partition_of(info.key, table)
        store.delete(f"{COPIES}/{table}/{partition[:7]}{SUFFIX}")
        write_table(store, contract, contract.frame(rows), partition)
    left = [delete_after for row, delete_after in holding if all(row is not gone for gone in old)]
    return {
        "table_name": table,
        "partition": info.key,
        # What was just written is looked at again by the next run.
        "version": "" if old else info.etag,
        "rows": len(rows),
        "rows_with_statistics": len(left),
        "delete_after": min(left, default=None),
        "deleted_rows": (line["deleted_rows"] if line else 0) + len(old),
        "last_deleted_at": now if old else line["last_deleted_at"] if line else None,
    }, len(old)


def _origins(
    store: "ObjectStore",
    contracts: Mapping[str, TableContract],
    table: str,
    key: str,
    rows: Sequence[Row],
) -> list[Mapping[str, Any]]:
    """For each row, a row that says when and of whom its counters were read; at worst, the day of the partition."""
    if RULES[table].observed is not None:
        return list(rows)
    try:
        trends = read_file(
            store, contracts[OBSERVED_IN], key.replace(f"/{table}/", f"/{OBSERVED_IN}/", 1)
        ).to_pylist()
    except ObjectMissing:
        trends = []
    known = {(trend["platform"], trend["video_id"]): trend for trend in trends}
    return [
        known.get((row["platform"], row["video_id"]))
        or {"observed_at": datetime.combine(row["day"], time.min, UTC)}
        for row in rows
    ]


def _is_own(origin: Mapping[str, Any], own_channels: Collection[str]) -> bool:
    by_account = any(way.startswith(OWN_ACCOUNT) for way in origin.get("found_by") or ())
    return by_account or origin.get("channel_id") in own_channels


def _without_statistics(row: Row, rule: Rule, contract: TableContract, now: datetime | None) -> Row:
    derived = {
        column.name: float(f"{row[column.name]:.3g}")
        for column in contract.columns
        if column.type == "float64" and row[column.name] is not None and column.name not in _NO_STATISTICS
    }
    marked = {DELETED_AT: now} if any(column.name == DELETED_AT for column in contract.columns) else {}
    return derived | dict.fromkeys(rule.counters) | marked


def _version(store: "ObjectStore", key: str) -> str | None:
    try:
        return store.head(key).etag
    except ObjectMissing:
        return None


def _partition_of(key: str, table: str) -> str:
    """Every table of `RULES` is partitioned by day, or by day and niche."""
    return key.removeprefix(f"{TABLES_PREFIX}/{table}/").removesuffix(SUFFIX).replace("/", "|")
