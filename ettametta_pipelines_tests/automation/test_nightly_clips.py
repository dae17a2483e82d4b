"""Clips that nobody typed an order for: which niches get them, when, for whom, and never twice."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.automation.jobs import SYNTHESIS_JOB
from ettametta_pipelines.automation.nightly_clips import ORDERED_TAG
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.discovery.niches import NichesFileError, load_niches
from ettametta_pipelines.partitions import NICHE, day_niche_key
from ettametta_pipelines.settings import Settings

MORNING = datetime(2026, 11, 20, 3, 35, tzinfo=UTC)
DAY = "2026-11-19"
FIRST, SECOND = sorted(NICHE.get_partition_keys())[:2]


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as made:
        yield made


def niches_file(folder: Path, *lines: str) -> Path:
    path = folder / "niches.yaml"
    texts = [
        f"  {slug}: {{title: T, queries: [query]{more}}}" for slug, more in (x.split(" ", 1) for x in lines)
    ]
    path.write_text("niches:\n" + "\n".join(texts) + "\n")
    return path


def tick(settings: Settings, instance: dg.DagsterInstance) -> Any:
    repository = build_definitions(settings).get_repository_def()
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=MORNING, repository_def=repository
    ) as context:
        return repository.get_schedule_def("nightly_clips").evaluate_tick(context)


def briefs_are_there(instance: dg.DagsterInstance, niche: str) -> None:
    key = day_niche_key(DAY, niche)
    instance.report_runless_asset_event(dg.AssetMaterialization("creative_briefs", partition=str(key)))


@pytest.fixture
def settings(settings_env: Settings, tmp_path: Path) -> Settings:
    path = niches_file(tmp_path, f"{FIRST} , account: acme, clips_a_day: 2", f"{SECOND} , account: other")
    return settings_env.model_copy(update={"niches_file": path})


def test_by_default_no_niche_has_clips_made(settings_env: Settings, instance: dg.DagsterInstance) -> None:
    told = tick(settings_env, instance)
    assert not told.run_requests
    assert "clips_a_day" in (told.skip_message or "")


def test_a_niche_gets_its_number_of_clips_for_its_account_once_its_briefs_are_there(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    early = tick(settings, instance)
    assert not early.run_requests
    assert f"{FIRST} has no briefs yet" in (early.skip_message or "")
    briefs_are_there(instance, FIRST)
    briefs_are_there(instance, SECOND)
    (request,) = tick(settings, instance).run_requests or []
    assert request.partition_key == f"{DAY}|{FIRST}"
    assert request.run_config["ops"]["synthesis_plans"]["config"] == {"account": "acme", "top": 2}
    job = build_definitions(settings).get_repository_def().get_job(SYNTHESIS_JOB)
    assert dg.validate_run_config(job, request.run_config)


def test_a_night_is_ordered_once_however_often_is_looked(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    briefs_are_there(instance, FIRST)
    (request,) = tick(settings, instance).run_requests or []
    job = build_definitions(settings).get_repository_def().get_job(SYNTHESIS_JOB)
    instance.create_run_for_job(job, tags={ORDERED_TAG: request.tags[ORDERED_TAG]})
    again = tick(settings, instance)
    assert not again.run_requests
    assert f"{FIRST} is ordered" in (again.skip_message or "")


def test_clips_without_an_account_to_make_them_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NichesFileError, match="clips_a_day") as failed:
        load_niches(niches_file(tmp_path, "cooking , clips_a_day: 2"))
    assert "Say under `account` whose clips these are" in failed.value.remedy
