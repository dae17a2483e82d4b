"""The exporters' figures against what was put there."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy import event

from ettametta_pipelines.automation.metrics import DagsterFigures, PipelineMetrics
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import TransientError
from ettametta_pipelines.gateway import redirects
from ettametta_pipelines.gateway.app import create_gateway
from ettametta_pipelines.gateway.metrics import Counts, GatewayMetrics
from ettametta_pipelines.operations.state_figures import StateFigures
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import inbox, quota
from ettametta_pipelines.state.models import AlertMessage, GpuClip
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.synthesis.gpu_time import note_gpu_time
from ettametta_pipelines.synthesis.requests import ClipResult
from ettametta_pipelines_tests.load.scenario import furnish

SETTINGS = Settings(_env_file=None)


def told(figures: Any) -> dict[str, float]:
    """Series as written -> value."""
    return {
        sample.name + "".join(f",{value}" for value in sample.labels.values()): sample.value
        for family in figures()
        for sample in family.samples
    }


def a_clip(key: str, **provenance: str) -> ClipResult:
    return ClipResult("ltx", "m", key, f"{key}.mp4", "0" * 64, 1, 64, 64, 24.0, 24, False, 0, provenance)


def test_figures_are_those_of_the_state(database: StateDatabase, tmp_path: Path) -> None:
    from ettametta_pipelines.storage.objects import ObjectStore

    (tmp_path / "store").mkdir()
    furnish(database, ObjectStore.from_url((tmp_path / "store").as_uri()))
    inbox.store(database, [inbox.Message("stripe", f"evt_{number}", "x", "{}") for number in range(3)])
    quota.commit(database, quota.reserve(database, "youtube", "videos_insert", 1, utc_now))
    with database.session() as session:
        now = database.now(session)
        session.add(
            AlertMessage(
                route="desk", target="log", severity="ERROR", subject="s", body="b", due_at=now, attempts=0,
                created_at=now - timedelta(hours=1),
            )
        )  # fmt: skip
    note_gpu_time(database, [a_clip("a", paint_seconds="2.5"), a_clip("b", paint_seconds="1.5"), a_clip("c")])
    found = told(StateFigures(SETTINGS, database))
    assert found["ettametta_publications,youtube,NEEDS_REVIEW"] == 15
    assert found["ettametta_publications,tiktok,PLANNED"] == 0
    assert found["ettametta_publications_last_day,youtube,PUBLISHED"] == 255
    assert found["ettametta_webhook_inbox,waiting"] == 3
    assert (
        found["ettametta_quota_limit,youtube,videos_insert"] - 1
        == found["ettametta_quota_left,youtube,videos_insert"]
    )
    assert found["ettametta_alert_outbox,waiting"] == 1
    assert 3600 <= found["ettametta_alert_outbox_oldest_seconds"] < 3700
    assert found["ettametta_gpu_seconds_last_hour,ltx"] == 4


def test_gpu_time_of_a_clip_counts_once(database: StateDatabase) -> None:
    for _ in range(2):
        note_gpu_time(database, [a_clip("a", paint_seconds="2.5")])
    with database.session() as session:
        assert session.scalar(sa.select(sa.func.sum(GpuClip.gpu_ms))) == 2500


@pytest.mark.parametrize("database_url", ["postgres"], indirect=True)
def test_no_query_of_the_figures_walks_a_table_that_grows(database: StateDatabase) -> None:
    """With sequential scans made dear, Postgres finds an index for every table of rows that stay."""
    asked: list[tuple[str, Any]] = []

    @event.listens_for(sa.Engine, "before_cursor_execute")
    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((" ".join(statement.split()), parameters))

    told(StateFigures(SETTINGS, database))
    event.remove(sa.Engine, "before_cursor_execute", note)
    with database._engine.connect() as connection:
        connection.exec_driver_sql("SET enable_seqscan = off")
        plans = {
            statement: "\n".join(
                row[0] for row in connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
            )
            for statement, parameters in asked
            if statement.startswith("SELECT") and " FROM " in statement
        }
    assert len(plans) >= 9
    # Rows of a month or a day an account: they are as many as accounts.
    few = ("account_spending", "model_spending", "api_quota")
    walked = {
        statement.split(" FROM ")[1].split()[0]: plan
        for statement, plan in plans.items()
        if "Seq Scan" in plan
    }
    assert not set(walked) - set(few), walked


def test_runs_are_counted_by_status_with_their_age() -> None:
    with dg.instance_for_test() as instance:
        for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.FAILURE):
            instance.add_run(dg.DagsterRun(job_name="x", status=status))
        found = told(DagsterFigures(instance))
    assert found["ettametta_runs,STARTED"] == 2
    assert found["ettametta_runs,QUEUED"] == 0
    assert found["ettametta_runs_last_hour,FAILURE"] == 1
    assert 0 <= found["ettametta_run_oldest_seconds,STARTED"] < 600


def test_a_part_that_cannot_be_read_silences_no_other() -> None:
    def broken() -> Iterator[GaugeMetricFamily]:
        raise TransientError("away", code="state_unavailable")
        yield

    def well() -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("ettametta_well", "", value=1)

    registry = CollectorRegistry()
    registry.register(PipelineMetrics({"state": broken, "dagster": well}))
    text = generate_latest(registry).decode()
    assert 'ettametta_exporter_up{part="state"} 0.0' in text
    assert 'ettametta_exporter_up{part="dagster"} 1.0' in text
    assert "ettametta_well 1.0" in text


def test_two_scrapes_at_once_cost_one_reading() -> None:
    readings: list[int] = []

    def counted() -> Iterator[GaugeMetricFamily]:
        readings.append(1)
        yield GaugeMetricFamily("ettametta_well", "", value=1)

    metrics = PipelineMetrics({"state": counted}, keep_s=600)
    assert list(metrics.collect())
    assert list(metrics.collect())
    assert len(readings) == 1


def test_whatever_is_asked_for_the_series_of_requests_stay_the_same(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A look-up on a busy machine may take longer than a follower is let wait.
    monkeypatch.setattr(redirects, "LOOK_UP_S", 60.0)
    with TestClient(create_gateway(settings_env), raise_server_exceptions=False) as client:
        for number in range(20):
            client.get(f"/go/code{number:04}")
            client.get(f"/nowhere/{number}")
            client.request(f"VERB{number}", "/livez")
        text = client.get("/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("ettametta_http_requests_total{")]
    assert 'ettametta_http_requests_total{method="GET",route="/go/{code}",status="404"} 20.0' in lines
    assert 'ettametta_http_requests_total{method="GET",route="unmatched",status="404"} 20.0' in lines
    assert len(lines) == 3


def test_figures_are_nobodys_business_outside(settings_env: Settings) -> None:
    with TestClient(create_gateway(settings_env)) as client:
        assert client.get("/metrics").status_code == 200
        assert client.get("/metrics", headers={"x-forwarded-for": "203.0.113.7"}).status_code == 404


def test_counts_that_others_keep_are_told_with_the_gateways_own(database: StateDatabase) -> None:
    cache = Counts("ettametta_cache_reads", "Reads of the cache", "outcome", lambda: {"hit": 3, "miss": 1})
    text = generate_latest(GatewayMetrics(database, [cache]).registry).decode()
    assert 'ettametta_cache_reads_total{outcome="hit"} 3.0' in text
