"""How soon things are looked at, and how many run at once."""

import logging
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pytest
from dagster._daemon import controller
from dagster._daemon.backfill import execute_backfill_iteration_loop

from ettametta_pipelines.automation.sensors import build_upload_sensor
from ettametta_pipelines.automation.served import look_at_backfills_often, set_pool_limits, wait_for
from ettametta_pipelines.commands.devserver import project_root
from ettametta_pipelines.settings import get_settings

QUEUE = "https://sqs.eu-west-1.amazonaws.com/111122223333/uploads"


@pytest.mark.parametrize(
    ("store", "queue", "every_s"),
    [("", "", 5), ("s3://agency-media", "", 30), ("s3://agency-media", QUEUE, 5)],
)
def test_a_bucket_that_has_to_be_listed_is_looked_at_less_often(
    settings_env: object, monkeypatch: pytest.MonkeyPatch, store: str, queue: str, every_s: int
) -> None:
    monkeypatch.setenv("ETTAMETTA_STORE", store)
    monkeypatch.setenv("ETTAMETTA_UPLOAD_QUEUE", queue)
    get_settings.cache_clear()
    sensor = build_upload_sensor(get_settings())
    assert sensor.description is not None
    assert f"every {every_s} seconds" in sensor.description
    # The daemon's rounds are five seconds apart, and one that comes a little early counts.
    assert every_s - 5 < (sensor.minimum_interval_seconds or 0) < every_s


def test_the_queue_is_worked_off_every_second_within_the_limits_on_runs(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_bytes((project_root() / "dagster.yaml").read_bytes())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_coordinator.dequeue_interval_seconds == 1  # type: ignore[attr-defined]
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 4  # type: ignore[union-attr]


def test_backfills_are_looked_at_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "DEFAULT_DAEMON_INTERVAL_SECONDS", 30)
    look_at_backfills_often()
    waits: list[float] = []

    class Stop(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout or 0.0)
            return True

    with dg.DagsterInstance.ephemeral() as instance:
        workspace: Any = SimpleNamespace(instance=instance)
        looks = execute_backfill_iteration_loop(workspace, logging.getLogger("quiet"), Stop())
        while not waits:
            next(looks)
    assert 4 < waits[0] <= 5


def test_two_renders_at_once_and_pictures_beside_them(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        set_pool_limits(instance)
        set_pool_limits(instance)
        limits = {pool.name: pool.limit for pool in instance.event_log_storage.get_pool_limits()}
    assert limits["renders"] == 2
    assert limits["publish_youtube"] == 1
    assert "thumbnails" not in limits, "as wide as the default"


def test_what_is_there_is_not_waited_for(tmp_path: Path) -> None:
    wait_for(tmp_path)
