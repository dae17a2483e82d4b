"""What Dagster knows to be wrong: failed runs and checks, runs that hang, partitions that are missing.

Every look reads the instance anew and remembers nothing, so nothing is missed while the daemon is down: what failed
since the last look, and in any case within a day, is found again. Costs a bounded number of queries. Used by the
sensor `alerts` and the morning page.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from statistics import median
from time import monotonic
from typing import Any
from urllib.parse import quote, urlencode

import dagster as dg

from ettametta_pipelines.failures import FailureKind
from ettametta_pipelines.operations.alert_routes import Severity, Thresholds
from ettametta_pipelines.operations.findings import Finding, Looked, Occurrence
from ettametta_pipelines.orchestration.failure_policy import FAILURE_CODE_TAG, FAILURE_KIND_TAG
from ettametta_pipelines.orchestration.freshness import EXPECTATIONS, Due, Expectation, Within, last_deadline
from ettametta_pipelines.orchestration.run_titles import platform_of
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.tags import ACCOUNT_TAG, FAILED_VIDEOS_TAG, NICHE_TAG, TITLE_TAG

FAILED_RUN, FAILED_CHECK, STUCK_RUN, STALE, HELD_POOL = (
    "failed_run", "failed_check", "stuck_run", "stale_asset", "held_pool",
)  # fmt: skip
KINDS = frozenset({FAILED_RUN, FAILED_CHECK, STUCK_RUN, STALE, HELD_POOL})

LOOKBACK = timedelta(hours=24)
LONGEST_LOOKBACK = timedelta(days=14)
OVERLAP = timedelta(hours=1)
MAX_RUNS = 2000
MAX_CHECKS = 200
# Runs are written by several processes, whose clocks and transactions do not go in step.
READ_AGAIN = timedelta(minutes=5)
# Reading why a run failed opens its log; what one look does not come to is read by the next.
MAX_LOGS = 60
LOGS_S = 3.0
USUAL_OF = 20
KNOWN_FROM = 3
# Without runs to compare with.
LONG_RUN = timedelta(hours=1)
# A run that is to be retried has failed for good when nobody took it up by then.
RETRY_BY = timedelta(minutes=15)

PARTITION_TAG = "dagster/partition"
RANGE_TAGS = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")
BACKFILL_TAG = "dagster/backfill"
WILL_RETRY_TAG = "dagster/will_retry"
RETRIED_BY_TAG = "dagster/auto_retry_run_id"
INTERRUPTED = "DagsterExecutionInterruptedError"
RUN_AGAIN = (
    "Its process was killed or never started (memory, a restart, a time limit): run it again from its page."
)
BLOCKED_BY_CHECK = "DagsterAssetCheckFailedError"

WAITS, STARTS, RUNS = "waits in the queue", "does not start", "runs far longer than usual"


@dataclass(frozen=True)
class Desk:
    """What a look needs. `groups` is the group of each asset, `checks` what each check asks.

    `since` is when looking began on this installation, `up_since` when it last began again, `looked` when it was last
    done.
    """

    instance: dg.DagsterInstance
    settings: Settings
    thresholds: Thresholds
    now: datetime
    since: datetime
    up_since: datetime
    looked: datetime | None = None
    groups: Mapping[str, str] = field(default_factory=dict)
    checks: Mapping[dg.AssetCheckKey, str] = field(default_factory=dict)

    @property
    def window(self) -> datetime:
        """From when on failures are read: a day back, or as far as nobody has looked."""
        unseen = self.looked - OVERLAP if self.looked else self.now - LOOKBACK
        return max(min(unseen, self.now - LOOKBACK), self.now - LONGEST_LOOKBACK)

    def run_page(self, run_id: str) -> str:
        return f"{self.settings.ui_url}/runs/{run_id}"

    def asset_page(self, asset: str, view: str = "", partition: str | None = None) -> str:
        asked = [f"view={view}"] if view else []
        asked += [f"partition={quote(partition, safe='')}"] if partition else []
        return f"{self.settings.ui_url}/assets/{asset}" + (f"?{'&'.join(asked)}" if asked else "")


@dataclass(frozen=True)
class Cause:
    """Why a run failed, as far as its log says: code, sentence, remedy, and the step it failed in."""

    code: str
    message: str
    remedy: str
    step: str | None


def look_at_dagster(desk: Desk) -> Looked:
    """Everything Dagster shows to be wrong now."""
    findings = (
        *failed_runs(desk),
        *failed_checks(desk),
        *stuck_runs(desk),
        *stale_assets(desk),
        *held_pools(desk),
    )
    return Looked(desk.now, findings, KINDS)


# Causes of runs already read, by run; the code server lives long, a run's failure never changes.
_READ: dict[str, Cause] = {}


def failed_runs(desk: Desk) -> list[Finding]:
    """Runs that failed for good, by cause; repaired when the same work has gone well since."""
    records = desk.instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], updated_after=desk.window), limit=MAX_RUNS
    )
    final = [record for record in records if not _is_retried(record, desk.now)]
    if not final:
        return []
    by_cause: dict[str, list[dg.RunRecord]] = defaultdict(list)
    logs, read_by = [MAX_LOGS], monotonic() + LOGS_S
    for record in final:
        by_cause[_cause_of(desk, record, logs, read_by)].append(record)
    found = []
    for cause, struck in sorted(by_cause.items()):
        newest = max(struck, key=_ended)
        why = _why(desk.instance, newest)
        if why.code == BLOCKED_BY_CHECK:
            # The check itself is told of, in its own words.
            continue
        found.append(_failed(desk, cause, why, struck))
    return _with_repairs(desk, found, {record.dagster_run.run_id: record.dagster_run for record in final})


def _failed(desk: Desk, cause: str, why: Cause, struck: Sequence[dg.RunRecord]) -> Finding:
    kinds = {record.dagster_run.tags.get(FAILURE_KIND_TAG) for record in struck}
    person = FailureKind.NEEDS_PERSON.value in kinds
    asset = why.step if why.step in desk.groups else None
    where = asset or struck[0].dagster_run.job_name
    return Finding(
        FAILED_RUN, cause, Severity.CRITICAL if person else Severity.ERROR, "failed run",
        f"{where}: {why.message} [{why.code}]",
        why.remedy,
        tuple(_struck(desk, record) for record in struck),
        desk.groups.get(asset or ""),
        f"{desk.settings.ui_url}/runs?" + urlencode({"q[0]": f"tag:{FAILURE_CODE_TAG}={why.code}"})
        if FAILURE_CODE_TAG in struck[0].dagster_run.tags
        else desk.run_page(max(struck, key=_ended).dagster_run.run_id),
    )  # fmt: skip


def _struck(desk: Desk, record: dg.RunRecord) -> Occurrence:
    run = record.dagster_run
    return Occurrence(
        run.run_id, _ended(record), _title(run), run.tags.get(ACCOUNT_TAG), _niche(run),
        platform_of(run.tags, _failed_step(run)), desk.run_page(run.run_id), partition=run.tags.get(PARTITION_TAG),
    )  # fmt: skip


def _with_repairs(
    desk: Desk, findings: Sequence[Finding], runs: Mapping[str, dg.DagsterRun]
) -> list[Finding]:
    """The findings, with what has gone well since: the same work in a later run, or the very asset that failed."""
    if not findings:
        return []
    since = min(one.at for finding in findings for one in finding.occurrences)
    done = _succeeded_later(desk, since)
    wanted: dict[str, set[str]] = defaultdict(set)
    for run in runs.values():
        if (step := _failed_step(run)) in desk.groups:
            wanted[step].update(_failed_partitions(run))
    made = {
        (asset, of): at
        for asset, parts in wanted.items()
        for of, at in _made_since(desk, asset, parts, since)
    }

    def repaired(one: Occurrence) -> bool:
        run = runs[one.subject]
        again = done.get(_work_of(run))
        parts = [made.get((_failed_step(run), part)) for part in _failed_partitions(run)]
        return (again is not None and again > one.at) or (
            bool(parts) and all(at is not None and at > one.at for at in parts)
        )

    return [
        replace(
            finding, occurrences=tuple(replace(one, repaired=repaired(one)) for one in finding.occurrences)
        )
        for finding in findings
    ]


def _failed_partitions(run: dg.DagsterRun) -> list[str]:
    """The partition a run failed for, or of several videos those it could not make."""
    of = run.tags.get(PARTITION_TAG) or run.tags.get(FAILED_VIDEOS_TAG)
    return of.split(",") if of else []


def _failed_step(run: dg.DagsterRun) -> str:
    """The step a run failed in, as far as its log was read."""
    return (_READ[run.run_id].step if run.run_id in _READ else None) or ""


def _made_since(desk: Desk, asset: str, partitions: set[str], since: datetime) -> list[tuple[str, datetime]]:
    """Partitions of an asset that were made since then, each with the last time; the oldest event first."""
    events = desk.instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=dg.AssetKey(asset), asset_partitions=sorted(partitions), after_timestamp=since.timestamp()
        ),
        limit=MAX_RUNS, ascending=True,
    ).records  # fmt: skip
    return [(str(event.partition_key), datetime.fromtimestamp(event.timestamp, UTC)) for event in events]


def _title(run: dg.DagsterRun) -> str:
    """What a run was about, in words: the video's title, else its partition, else its job."""
    of = run.tags.get(TITLE_TAG) or run.tags.get(PARTITION_TAG)
    if of is None and RANGE_TAGS[0] in run.tags:
        of = f"{run.tags[RANGE_TAGS[0]]} to {run.tags.get(RANGE_TAGS[1], '')}"
    job = "" if run.job_name.startswith("__") else run.job_name
    return " · ".join(filter(None, (job, of))) or _assets(run)


def _assets(run: dg.DagsterRun) -> str:
    return ", ".join(sorted(key.to_user_string() for key in run.asset_selection or ()))[:120] or run.job_name


def _niche(run: dg.DagsterRun) -> str | None:
    return run.tags.get(NICHE_TAG) or run.tags.get("dagster/partition/niche")


def _work_of(run: dg.DagsterRun) -> str:
    """Runs with the same one did the same work. Which job they ran as does not matter, the assets do."""
    of = run.tags.get(PARTITION_TAG) or "|".join(run.tags.get(tag, "") for tag in RANGE_TAGS)
    return f"{_assets(run) if run.asset_selection else run.job_name}@{of}"


@dataclass
class _Done:
    """Work that went well since `since`, with the last time, as far as runs were read."""

    since: datetime
    read_until: datetime
    latest: dict[str, datetime] = field(default_factory=dict)


# By Dagster's home. Reading thousands of runs anew each minute takes a second and more; most were read before.
_DONE: dict[str, _Done] = {}


def _succeeded_later(desk: Desk, since: datetime) -> dict[str, datetime]:
    """Work -> when it last went well, since then. What a job did counts for its assets."""
    home = desk.instance.root_directory
    done = _DONE.get(home)
    if done is None or since < done.since or len(done.latest) > 10 * MAX_RUNS:
        done = _DONE[home] = _Done(since, since)
    records = desk.instance.get_run_records(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], updated_after=done.read_until - READ_AGAIN),
        limit=MAX_RUNS,
    )
    for record in records:
        work, updated = _work_of(record.dagster_run), record.update_timestamp
        done.latest[work] = max(_ended(record), done.latest.get(work, _ended(record)))
        done.read_until = max(done.read_until, updated.replace(tzinfo=updated.tzinfo or UTC))
    return done.latest


def _is_retried(record: dg.RunRecord, now: datetime) -> bool:
    tags = record.dagster_run.tags
    if RETRIED_BY_TAG in tags:
        return True
    return tags.get(WILL_RETRY_TAG) == "true" and now - _ended(record) < RETRY_BY


def _ended(record: dg.RunRecord) -> datetime:
    if record.end_time is not None:
        return datetime.fromtimestamp(record.end_time, UTC)
    return record.update_timestamp.replace(tzinfo=record.update_timestamp.tzinfo or UTC)


def _cause_of(desk: Desk, record: dg.RunRecord, logs: list[int], read_by: float) -> str:
    """The cause by which runs are gathered: our code, else the error's class and the step it happened in."""
    run = record.dagster_run
    if run.run_id not in _READ and logs[0] and monotonic() < read_by:
        logs[0] -= 1
        _why(desk.instance, record)
    if code := run.tags.get(FAILURE_CODE_TAG):
        return code
    if run.run_id not in _READ:
        return f"unread/{run.job_name}"
    why = _why(desk.instance, record)
    return f"{why.code}/{why.step or run.job_name}"


def _why(instance: dg.DagsterInstance, record: dg.RunRecord) -> Cause:
    run = record.dagster_run
    if run.run_id not in _READ:
        if len(_READ) > 4 * MAX_RUNS:
            _READ.clear()
        _READ[run.run_id] = _read_cause(instance, run)
    return _READ[run.run_id]


def _read_cause(instance: dg.DagsterInstance, run: dg.DagsterRun) -> Cause:
    steps = instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE, limit=1
    ).records
    event = steps[0].event_log_entry.dagster_event if steps else None
    if event is not None:
        failed = event.step_failure_data
        said = failed.user_failure_data
        metadata = {name: str(value.value) for name, value in (said.metadata if said else {}).items()}
        if said and metadata.get("code"):
            message = (said.description or "").partition(" [" + metadata["code"])[0]
            return Cause(metadata["code"], message, metadata.get("remedy", ""), event.step_key)
        raised = failed.error
        while raised is not None and raised.cause is not None:
            raised = raised.cause
        name = (raised.cls_name if raised else None) or "Error"
        sentence = (raised.message if raised else event.message or "").strip().splitlines()
        name = name.rpartition(".")[2]
        if name == INTERRUPTED:
            return Cause(
                "run_interrupted", "Its run was ended before it was done.", RUN_AGAIN, event.step_key
            )
        return Cause(
            name, (sentence or [name])[-1][:300],
            "Not an expected failure: open the run's log, and report it with the log if it comes back.",
            event.step_key,
        )  # fmt: skip
    ends = instance.get_records_for_run(
        run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE, limit=1, ascending=False
    ).records
    said_last = ends[0].event_log_entry.user_message or ends[0].event_log_entry.message if ends else ""
    return Cause(
        "run_lost", (said_last or "The run ended without a step having failed.").strip().splitlines()[0][:300],
        RUN_AGAIN, None,
    )  # fmt: skip


def failed_checks(desk: Desk) -> list[Finding]:
    """Checks whose last result on a partition is a failure, one finding per check."""
    latest = desk.instance.event_log_storage.get_latest_asset_check_execution_by_key(list(desk.checks))
    recent = [key for key, record in latest.items() if _checked(record) >= desk.window]
    return [finding for key in sorted(recent, key=str) if (finding := _failed_check(desk, key)) is not None]


def _checked(record: Any) -> datetime:
    return datetime.fromtimestamp(record.create_timestamp, UTC)


def _failed_check(desk: Desk, key: dg.AssetCheckKey) -> Finding | None:
    history: Sequence[Any] = desk.instance.event_log_storage.get_asset_check_execution_history(
        key, limit=MAX_CHECKS
    )
    recent = [r for r in history if r.status.value in ("FAILED", "SUCCEEDED") and _checked(r) >= desk.window]
    failures = [record for record in recent if not record.evaluation.passed]
    if not failures:
        return None
    runs = {
        record.dagster_run.run_id: record.dagster_run
        for record in desk.instance.get_run_records(
            dg.RunsFilter(run_ids=sorted({record.run_id for record in recent}))
        )
    }
    # A record's time is in whole seconds; of one second the later has the larger id.
    passed: dict[str, tuple[datetime, int]] = {}
    for record in recent:
        if record.evaluation.passed:
            of, when = _checked_partition(record, runs), (_checked(record), record.id)
            passed[of] = max(when, passed.get(of, when))
    asset, newest = key.asset_key.to_user_string(), failures[0].evaluation
    struck = [_struck_by_check(desk, record, runs, passed, asset) for record in failures]
    return Finding(
        FAILED_CHECK, f"{asset}/{key.name}",
        Severity.ERROR if newest.severity is dg.AssetCheckSeverity.ERROR else Severity.WARNING,
        "failed check",
        f"{asset}, {key.name.replace('_', ' ')}: {newest.description or desk.checks[key]}",
        f"The check asks: {desk.checks[key].strip() or 'see its page.'}", tuple(struck), desk.groups.get(asset),
        desk.asset_page(asset, "checks"),
    )  # fmt: skip


def _struck_by_check(
    desk: Desk,
    record: Any,
    runs: Mapping[str, dg.DagsterRun],
    passed: Mapping[str, tuple[datetime, int]],
    asset: str,
) -> Occurrence:
    of, at, run = _checked_partition(record, runs), _checked(record), runs.get(record.run_id)
    tags = run.tags if run else {}
    said = [_title(run) if run else "", record.evaluation.description or ""]
    return Occurrence(
        f"{of}/{record.run_id}", at, " · ".join(filter(None, said)), tags.get(ACCOUNT_TAG),
        _niche(run) if run else None, platform_of(tags, asset), desk.run_page(record.run_id),
        repaired=of in passed and passed[of] > (at, record.id),
    )  # fmt: skip


def _checked_partition(record: Any, runs: Mapping[str, dg.DagsterRun]) -> str:
    run = runs.get(record.run_id)
    return str(record.partition or (run.tags.get(PARTITION_TAG) if run else None) or "")


def stuck_runs(desk: Desk) -> list[Finding]:
    """Runs that wait, start or run for too long, by how and job."""
    alive = desk.instance.get_run_records(
        dg.RunsFilter(
            statuses=[
                dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
                dg.DagsterRunStatus.STARTED,
            ]
        ),
        limit=MAX_RUNS, ascending=True,
    )  # fmt: skip
    usual: dict[str, timedelta] = {}
    by_trouble: dict[tuple[str, str], list[Occurrence]] = defaultdict(list)
    for record in alive:
        run = record.dagster_run
        if trouble := _trouble(desk, record, usual):
            how, since = trouble
            name = _assets(run) if run.job_name.startswith("__") else run.job_name
            by_trouble[how, name].append(
                Occurrence(
                    run.run_id, since, _title(run), run.tags.get(ACCOUNT_TAG), _niche(run),
                    platform_of(run.tags), desk.run_page(run.run_id),
                )
            )  # fmt: skip
    return [
        Finding(
            STUCK_RUN, f"{how}/{name}", Severity.ERROR if how != WAITS else Severity.WARNING, "run",
            f"{name} {how}", REMEDY_OF[how], tuple(struck), None, f"{desk.settings.ui_url}/runs",
        )
        for (how, name), struck in sorted(by_trouble.items())
    ]  # fmt: skip


REMEDY_OF = {
    WAITS: "See on the Runs page what is ahead of it, and under Deployment → Concurrency who holds its pool; terminate "
    "what hangs.",
    STARTS: "Terminate it and run it again; if others do the same, restart the daemon (`make dev`, or its pod).",
    RUNS: "Open its log: if the last line is old, terminate it and run it again. Nothing is posted or paid twice.",
}


def _trouble(desk: Desk, record: dg.RunRecord, usual: dict[str, timedelta]) -> tuple[str, datetime] | None:
    """How a run is stuck and since when it is where it is; None when it is not."""
    run, limits = record.dagster_run, desk.thresholds
    created = record.create_timestamp.replace(tzinfo=record.create_timestamp.tzinfo or UTC)
    if run.status is dg.DagsterRunStatus.STARTED:
        started = datetime.fromtimestamp(record.start_time, UTC) if record.start_time else created
        longest = max(timedelta(minutes=limits.running_minutes), _longest_usual(desk, run, usual))
        return (RUNS, started) if desk.now - started > longest else None
    if run.status is dg.DagsterRunStatus.STARTING:
        moved = record.update_timestamp.replace(tzinfo=record.update_timestamp.tzinfo or UTC)
        return (STARTS, moved) if desk.now - moved > timedelta(minutes=limits.starting_minutes) else None
    patience = (
        timedelta(hours=limits.queued_backfill_hours)
        if BACKFILL_TAG in run.tags
        else timedelta(minutes=limits.queued_minutes)
    )
    return (WAITS, created) if desk.now - created > patience else None


def _longest_usual(desk: Desk, run: dg.DagsterRun, known: dict[str, timedelta]) -> timedelta:
    """So many times the median of the last runs of the same job and assets; an hour where too few are known."""
    name = f"{run.job_name}/{_assets(run)}"
    if name not in known:
        records = desk.instance.get_run_records(
            dg.RunsFilter(job_name=run.job_name, statuses=[dg.DagsterRunStatus.SUCCESS]), limit=5 * USUAL_OF
        )
        took = [
            record.end_time - record.start_time
            for record in records
            if record.start_time and record.end_time and _assets(record.dagster_run) == _assets(run)
        ][:USUAL_OF]
        known[name] = (
            timedelta(seconds=desk.thresholds.running_factor * median(took))
            if len(took) >= KNOWN_FROM
            else LONG_RUN
        )
    return known[name]


def stale_assets(desk: Desk, expectations: Iterable[Expectation] = EXPECTATIONS) -> list[Finding]:
    """What should be there by now and is not."""
    found = []
    for expected in expectations:
        missing = _missing(desk, expected) if isinstance(expected, Due) else _too_old(desk, expected)
        if missing:
            found.append(
                Finding(
                    STALE, expected.asset, Severity.ERROR, "partition" if isinstance(expected, Due) else "asset",
                    f"{expected.what} is not there ({expected.asset})", expected.remedy, tuple(missing),
                    desk.groups.get(expected.asset),
                    desk.asset_page(expected.asset, "partitions" if isinstance(expected, Due) else ""),
                )
            )  # fmt: skip
    return found


def _missing(desk: Desk, due: Due) -> list[Occurrence]:
    day, begins, by = last_deadline(due, desk.now, desk.settings.timezone)
    if begins < desk.since:
        return []
    wanted = due.partitions(day)
    there = desk.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(due.asset), asset_partitions=wanted),
        limit=20 * len(wanted),
    ).records
    known = {record.partition_key for record in there}
    return [
        Occurrence(
            partition, by, partition, None, str(partition).rpartition("|")[2] if due.by_niche else None, None,
            desk.asset_page(due.asset, "partitions", partition),
        )
        for partition in wanted
        if partition not in known
    ]  # fmt: skip


def _too_old(desk: Desk, within: Within) -> list[Occurrence]:
    event = desk.instance.get_latest_materialization_event(dg.AssetKey(within.asset))
    last = datetime.fromtimestamp(event.timestamp, UTC) if event else desk.since
    # While the daemon was off nothing was made; it gets the same time again once it is back.
    last = max(last, desk.up_since)
    if desk.now - last <= within.longest:
        return []
    return [Occurrence(within.asset, last, f"last made {last:%Y-%m-%d %H:%M} UTC")]


def held_pools(desk: Desk) -> list[Finding]:
    """Pools whose slots are held by runs that have ended: others wait for them in vain."""
    storage = desk.instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return []
    struck = []
    for pool in sorted(storage.get_concurrency_keys()):
        held = sorted(storage.get_concurrency_info(pool).active_run_ids)
        records = desk.instance.get_run_records(dg.RunsFilter(run_ids=held)) if held else []
        struck += [
            Occurrence(
                f"{pool}/{record.dagster_run.run_id}", _ended(record), f"pool {pool}",
                link=desk.run_page(record.dagster_run.run_id),
            )
            for record in records
            if record.dagster_run.is_finished and desk.now - _ended(record) > FREED_BY
        ]  # fmt: skip
    if not struck:
        return []
    return [
        Finding(
            HELD_POOL, "pools", Severity.ERROR, "pool slot", "held by runs that have ended; others wait in vain",
            "Free it under Deployment → Concurrency; the daemon does so by itself while run monitoring is on.",
            tuple(struck), "operations", f"{desk.settings.ui_url}/deployment/concurrency",
        )
    ]  # fmt: skip


# `free_slots_after_run_end_seconds` of dagster.yaml is a minute.
FREED_BY = timedelta(minutes=10)
