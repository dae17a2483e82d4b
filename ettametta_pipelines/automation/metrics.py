"""What `ettametta metrics` tells Prometheus: runs, queue, daemons, sensors, and the figures of the state.

Dagster's storage is asked by status and for the newest tick of each automation, through its indexes. What was read
stands for `KEEP_S`, so that two Prometheus servers cost as much as one. A part that cannot be read is left out, and
`ettametta_exporter_up` says so: the rest is still told.
"""

import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

import dagster as dg
from dagster._core.execution.backfill import BulkActionsFilter, BulkActionStatus
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    SensorInstigatorData,
    TickStatus,
)
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.operations.state_figures import Figures, StateFigures
from ettametta_pipelines.ports import listen_on
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import open_state

KEEP_S = 10.0
MAX_BACKFILLS = 100
ALIVE = (
    dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING,
)  # fmt: skip
ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)


class DagsterFigures:
    """One reading of Dagster's storage."""

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance

    def __call__(self) -> Iterator[GaugeMetricFamily]:
        now = time.time()
        yield from self._runs(now)
        yield from self._pools()
        beat = GaugeMetricFamily(
            "ettametta_daemon_heartbeat_age_seconds",
            "Since when a daemon was not heard of",
            labels=["daemon"],
        )
        for daemon, heartbeat in self._instance.get_daemon_heartbeats().items():
            beat.add_metric([daemon], max(0.0, now - heartbeat.timestamp))
        yield beat
        yield from self._ticks(now)

    def _runs(self, now: float) -> Iterator[GaugeMetricFamily]:
        alive = GaugeMetricFamily("ettametta_runs", "Runs that have not ended", labels=["status"])
        oldest = GaugeMetricFamily("ettametta_run_oldest_seconds", "Age of the oldest run", labels=["status"])
        for status in ALIVE:
            filters = dg.RunsFilter(statuses=[status])
            alive.add_metric([status.value], self._instance.get_runs_count(filters))
            first = self._instance.get_run_records(filters, limit=1, ascending=True)
            oldest.add_metric(
                [status.value], max(0.0, now - first[0].create_timestamp.timestamp()) if first else 0.0
            )
        yield alive
        yield oldest
        ended = GaugeMetricFamily(
            "ettametta_runs_last_hour", "Runs that ended in the last hour", labels=["status"]
        )
        for status in ENDED:
            since = dg.RunsFilter(statuses=[status], updated_after=_hour_before(now))
            ended.add_metric([status.value], self._instance.get_runs_count(since))
        yield ended
        requested = BulkActionsFilter(statuses=[BulkActionStatus.REQUESTED])
        backfills = self._instance.get_backfills(filters=requested, limit=MAX_BACKFILLS)
        yield GaugeMetricFamily(
            "ettametta_backfills", f"Backfills under way, {MAX_BACKFILLS} at most", value=len(backfills)
        )

    def _pools(self) -> Iterator[GaugeMetricFamily]:
        slots = GaugeMetricFamily("ettametta_pool_slots", "Slots of pools", labels=["pool", "state"])
        storage = self._instance.event_log_storage
        if storage.supports_global_concurrency_limits:
            for pool in sorted(storage.get_concurrency_keys()):
                info = storage.get_concurrency_info(pool)
                slots.add_metric([pool, "limit"], info.slot_count)
                slots.add_metric([pool, "used"], info.active_slot_count)
                slots.add_metric([pool, "waiting"], info.pending_step_count)
        yield slots

    def _ticks(self, now: float) -> Iterator[GaugeMetricFamily]:
        age = GaugeMetricFamily(
            "ettametta_tick_age_seconds",
            "Since the last tick of an automation that is on",
            labels=["automation"],
        )
        failed = GaugeMetricFamily("ettametta_tick_failed", "Whether that tick failed", labels=["automation"])
        interval = GaugeMetricFamily(
            "ettametta_sensor_interval_seconds", "How often a sensor should tick", labels=["automation"]
        )
        for name, state in sorted(self._running().items()):
            newest = self._instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=1)
            if not newest:
                continue
            age.add_metric([name], max(0.0, now - newest[0].timestamp))
            failed.add_metric([name], newest[0].status is TickStatus.FAILURE)
            data = state.instigator_data
            if isinstance(data, SensorInstigatorData) and data.min_interval:
                interval.add_metric([name], data.min_interval)
        yield from (age, failed, interval)

    def _running(self) -> Mapping[str, InstigatorState]:
        states = self._instance.all_instigator_state()
        return {state.name: state for state in states if state.status is not InstigatorStatus.STOPPED}


class PipelineMetrics:
    """A collector over named parts, each read once in `KEEP_S` however often it is asked for."""

    def __init__(self, parts: Mapping[str, Figures], keep_s: float = KEEP_S) -> None:
        self._parts, self._keep_s = parts, keep_s
        self._lock = threading.Lock()
        self._read: list[GaugeMetricFamily] = []
        self._read_at = -keep_s

    def collect(self) -> Iterable[GaugeMetricFamily]:
        with self._lock:
            if time.monotonic() - self._read_at >= self._keep_s:
                self._read, self._read_at = self._anew(), time.monotonic()
            return self._read

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return ()

    def _anew(self) -> list[GaugeMetricFamily]:
        up = GaugeMetricFamily("ettametta_exporter_up", "Whether a part could be read", labels=["part"])
        took = GaugeMetricFamily(
            "ettametta_exporter_seconds", "How long reading a part took", labels=["part"]
        )
        families: list[GaugeMetricFamily] = []
        for part, read in self._parts.items():
            begun = time.monotonic()
            try:
                families += list(read())
                up.add_metric([part], 1)
            except (PipelineError, _storage_error()):
                up.add_metric([part], 0)
            took.add_metric([part], time.monotonic() - begun)
        return [*families, up, took]


def registry_of(settings: Settings, instance: dg.DagsterInstance) -> CollectorRegistry:
    """The registry that `ettametta metrics` serves."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    parts: dict[str, Figures] = {
        "state": StateFigures(settings, open_state(settings)),
        "dagster": DagsterFigures(instance),
    }
    registry.register(PipelineMetrics(parts))
    return registry


def serve_metrics(settings: Settings, host: str, port: int) -> None:
    """Serve until interrupted. Raises NeedsPersonError `port_in_use` before anything is opened."""
    listen_on(host, port, service="exporter", variable="ETTAMETTA_METRICS_PORT").close()
    settings.dagster_home.mkdir(parents=True, exist_ok=True)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        server, thread = start_http_server(port, addr=host, registry=registry_of(settings, instance))
        try:
            thread.join()
        except KeyboardInterrupt:
            server.shutdown()


def _storage_error() -> type[Exception]:
    from sqlalchemy.exc import SQLAlchemyError

    return SQLAlchemyError


def _hour_before(now: float) -> datetime:
    return datetime.fromtimestamp(now - 3600, UTC)
