"""Letting go of Dagster's own history: runs, their events and logs, and ticks, once they are old and say nothing new.

`delete_run` takes a run's events with it, and Dagster knows a partition as materialized, or as failed, by those events
alone. So a run stays while it holds the newest materialization of anything, or the last attempt at a partition that
was never made. Called by the asset `pruned_history`.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

import dagster as dg

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
PARTITION_TAG, BACKFILL_TAG = "dagster/partition", "dagster/backfill"
# Of one run of pruning; the next goes on where it stopped.
MOST_LOOKED_AT = 20_000
LONGEST_S = 900.0
AT_ONCE = 200
MADE, PLANNED = dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED

Partition = str | None

NEWEST = "holds the newest materialization of something"
LAST_TRY = "was the last try at a partition that was never made"
OPEN_POST = "its video has a post on its way or in doubt"
BACKFILLED = "its backfill is under way"


@dataclass
class Pruned:
    """What one pruning did. `looked_until` is where the next goes on; None when it came to the end."""

    by_job: Counter[str] = field(default_factory=Counter)
    kept: Counter[str] = field(default_factory=Counter)
    kept_by_job: Counter[str] = field(default_factory=Counter)
    looked_until: datetime | None = None


def prune_runs(
    instance: dg.DagsterInstance,
    before: datetime,
    *,
    busy: Collection[str] = (),
    after: datetime | None = None,
    dry_run: bool = False,
    most: int = MOST_LOOKED_AT,
) -> Pruned:
    """Delete runs created before `before`, oldest first, with events and logs, but for those that hold a fact.

    `busy` are source videos whose runs stay; `after` is an earlier pruning's `looked_until`. A run that stays loses its
    process logs all the same.
    """
    done, until, looked_at = Pruned(looked_until=after), monotonic() + LONGEST_S, 0
    tries: dict[str, frozenset[str]] = {}
    while looked_at < most and monotonic() < until:
        old = dg.RunsFilter(statuses=FINISHED, created_before=before, created_after=done.looked_until)
        records = instance.get_run_records(old, limit=min(AT_ONCE, most - looked_at), ascending=True)
        if not records:
            done.looked_until = None
            break
        reasons = _reasons_to_keep(instance, [record.dagster_run for record in records], busy, tries)
        for record in records:
            run = record.dagster_run
            why = reasons.get(run.run_id)
            done.kept.update([why] if why else [])
            (done.kept_by_job if why else done.by_job)[run.job_name] += 1
            if not dry_run:
                _let_go(instance, run.run_id, logs_only=why is not None)
        looked_at += len(records)
        done.looked_until = _utc(records[-1])
    return done


def prune_ticks(instance: dg.DagsterInstance, before: datetime) -> int:
    """Delete older ticks of every schedule and sensor, also of those that exist no more; how many of them there are.

    The daemon does so for those it runs, as `retention` of dagster.yaml says.
    """
    known = instance.all_instigator_state()
    for one in known:
        instance.purge_ticks(one.instigator_origin_id, one.selector_id, before.timestamp())
    return len(known)


def _utc(record: dg.RunRecord) -> datetime:
    return record.create_timestamp.replace(tzinfo=record.create_timestamp.tzinfo or UTC)


def _reasons_to_keep(
    instance: dg.DagsterInstance,
    runs: Sequence[dg.DagsterRun],
    busy: Collection[str],
    tries: dict[str, frozenset[str]],
) -> dict[str, str]:
    """Run id -> why it stays. `tries` remembers, by asset, the runs that were last tries."""
    made = {run.run_id: set(_events(instance, run.run_id, MADE)) for run in runs}
    holders = _newest_of(instance, {one for of_run in made.values() for one in of_run})
    backfills = {run.tags[BACKFILL_TAG] for run in runs if BACKFILL_TAG in run.tags}
    going = {one for one in backfills if _under_way(instance, one)}
    reasons = {}
    for run in runs:
        if any(holders.get(one) == run.run_id for one in made[run.run_id]):
            reasons[run.run_id] = NEWEST
        elif run.tags.get(PARTITION_TAG) in busy:
            reasons[run.run_id] = OPEN_POST
        elif run.tags.get(BACKFILL_TAG) in going:
            reasons[run.run_id] = BACKFILLED
        elif not run.is_success and _is_last_try(instance, run.run_id, made[run.run_id], tries):
            reasons[run.run_id] = LAST_TRY
    return reasons


def _events(
    instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType
) -> Iterator[tuple[str, Partition]]:
    """(asset, partition) of a run's events of one kind."""
    cursor = None
    while True:
        page = instance.get_records_for_run(run_id, cursor=cursor, of_type=kind, limit=1000)
        for record in page.records:
            event = record.event_log_entry.dagster_event
            if event is not None and event.asset_key is not None:
                yield event.asset_key.to_user_string(), event.partition
        if not page.has_more:
            return
        cursor = page.cursor


def _newest_of(
    instance: dg.DagsterInstance, wanted: Collection[tuple[str, Partition]]
) -> Mapping[tuple[str, Partition], str]:
    """(asset, partition) -> the run that materialized it last."""
    partitions: dict[str, set[str]] = defaultdict(set)
    newest: dict[tuple[str, Partition], str] = {}
    for asset, partition in wanted:
        if partition is None:
            event = instance.get_latest_materialization_event(dg.AssetKey.from_user_string(asset))
            if event is not None:
                newest[asset, None] = event.run_id
        else:
            partitions[asset].add(partition)
    for asset, of in partitions.items():
        key = dg.AssetKey.from_user_string(asset)
        ids = instance.event_log_storage.get_latest_storage_id_by_partition(key, MADE, of)
        found = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=key, storage_ids=list(ids.values())), limit=max(1, len(ids))
        )
        newest |= {(asset, record.partition_key): record.run_id for record in found.records}
    return newest


def _is_last_try(
    instance: dg.DagsterInstance,
    run_id: str,
    made: Collection[tuple[str, Partition]],
    tries: dict[str, frozenset[str]],
) -> bool:
    log = instance.event_log_storage
    last_tries = log.get_latest_asset_partition_materialization_attempts_without_materializations
    for asset, _ in set(_events(instance, run_id, PLANNED)) - set(made):
        if asset not in tries:
            tries[asset] = frozenset(
                run_id for run_id, _ in last_tries(dg.AssetKey.from_user_string(asset)).values()
            )
        if run_id in tries[asset]:
            return True
    return False


def _under_way(instance: dg.DagsterInstance, backfill_id: str) -> bool:
    backfill = instance.get_backfill(backfill_id)
    return backfill is not None and backfill.status.value in ("REQUESTED", "CANCELING")


def _let_go(instance: dg.DagsterInstance, run_id: str, *, logs_only: bool) -> None:
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    if logs_only:
        return
    instance.delete_run(run_id)
    # SQLite keeps a file for each run's log, which Dagster empties and leaves.
    if path_of := getattr(instance.event_log_storage, "path_for_shard", None):
        for ending in ("", "-wal", "-shm"):
            Path(path_of(run_id) + ending).unlink(missing_ok=True)
