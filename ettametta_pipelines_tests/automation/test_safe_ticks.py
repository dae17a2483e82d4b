"""What a tick that failed leaves in Dagster's storage says no secret, whichever sensor or schedule it was."""

from typing import Any

import dagster as dg
import pytest
from dagster._grpc.impl import get_external_schedule_execution, get_external_sensor_execution

from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.settings import Settings

SECRET = "sk_live_0123456789abcdef"


def fails(*_: Any) -> None:
    try:
        raise KeyError(f"https://store/object?X-Amz-Signature={SECRET}")
    except KeyError as error:
        raise RuntimeError(f"no answer with {SECRET}") from error


def test_the_error_that_is_stored_of_any_tick_says_no_secret(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = build_definitions(settings_env).get_repository_def()
    errors = {}
    with dg.DagsterInstance.local_temp() as instance:
        for sensor in repository.sensor_defs:
            monkeypatch.setattr(sensor, "_evaluation_fn", fails)
            told = get_external_sensor_execution(
                repository, None, instance.get_ref(), sensor.name, None, None, None, None, None
            )
            errors[sensor.name] = told.error.to_string()
        for schedule in repository.schedule_defs:
            monkeypatch.setattr(schedule, "_execution_fn", fails)
            told = get_external_schedule_execution(
                repository, instance.get_ref(), schedule.name, 1_795_000_000.0, "UTC", None
            )
            errors[schedule.name] = told.error.to_string()
    assert len(errors) > 20
    assert {name for name, said in errors.items() if SECRET in said} == set()
    assert {name for name, said in errors.items() if "RuntimeError: no answer with" not in said} == set()


def test_definitions_that_are_built_again_are_wrapped_once(settings_env: Settings) -> None:
    for _ in range(2):
        sensors: list[Any] = list(build_definitions(settings_env).get_repository_def().sensor_defs)
    assert all(hasattr(one.evaluate_tick, "__wrapped__") for one in sensors)
    assert not any(hasattr(one.evaluate_tick.__wrapped__, "__wrapped__") for one in sensors)
