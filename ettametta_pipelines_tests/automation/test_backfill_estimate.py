"""What a backfill would cost is said before it is launched, from what its partitions took last."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.automation.backfill_estimate import Question, estimate
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.operations.backfill_cost import (
    Cost,
    Sample,
    cost_table,
    days_of_quota,
    duration,
    expected_cost,
    wall_seconds,
)
from ettametta_pipelines.partitions import DAY_NICHE, NICHE, SOURCE_VIDEO
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.storage.objects import open_store

NICHES = NICHE.get_partition_keys()
MARCH = (date(2026, 3, 1), date(2026, 3, 31))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as made:
        yield made


def asked(settings: Settings, instance: dg.DagsterInstance, what: str, *niches: str) -> Any:
    repository = build_definitions(settings).get_repository_def()
    return estimate(instance, repository, settings, open_store(settings), Question(what, *MARCH, niches))


def test_partitions_runs_and_searches_are_known_before_anything_was_made(
    settings_env: Settings, instance: dg.DagsterInstance
) -> None:
    answer = asked(settings_env, instance, "discovery")
    costs = {one.asset: one for one in answer.costs}
    raw = costs["youtube_candidates"]
    assert (raw.partitions, raw.runs) == (31 * len(NICHES), 31 * len(NICHES))
    assert raw.units["search"] >= 31 * len(NICHES)
    # What is computed from stored tables goes up to a hundred days of a niche to a run.
    assert costs["trend_candidates"].runs == len(NICHES)
    assert raw.seconds is None
    assert "how long is unknown" in answer.in_words()
    assert f"quota *search* alone takes {answer.quota_days} days" in answer.in_words()
    one = asked(settings_env, instance, "youtube_candidates", NICHES[0]).costs[0]
    assert one.partitions == 31


def test_time_storage_money_and_quota_come_from_the_last_materializations(
    settings_env: Settings, instance: dg.DagsterInstance
) -> None:
    @dg.asset(name="candidate_assessments", partitions_def=DAY_NICHE)
    def judged() -> dg.MaterializeResult[None]:
        return dg.MaterializeResult(metadata={"cost_microusd": 2_000, "quota_units": 3})

    for day in ("2026-02-01", "2026-02-02"):
        key = f"{day}|{NICHES[0]}"
        dg.materialize([judged], instance=instance, partition_key=key)
        open_store(settings_env).put(f"tables/candidate_assessments/{day}/{NICHES[0]}.parquet", b"x" * 500)
    (cost,) = asked(settings_env, instance, "candidate_assessments", NICHES[0]).costs
    assert (cost.measured, cost.size_bytes, cost.microusd) == (2, 31 * 500, 31 * 2_000)
    assert cost.units == {"units": 93}
    assert cost.seconds is not None


def test_a_new_recipe_for_every_video_counts_the_live_videos(
    settings_env: Settings, instance: dg.DagsterInstance
) -> None:
    instance.add_dynamic_partitions(str(SOURCE_VIDEO.name), ["acme--1", "acme--2"])
    answer = asked(settings_env, instance, "renders")
    runs = {one.asset: (one.partitions, one.runs) for one in answer.costs}
    assert runs.pop("thumbnails") == (2, 1), "several videos a run"
    assert set(runs.values()) == {(2, 2)}


def test_a_year_of_books_is_one_run(settings_env: Settings, instance: dg.DagsterInstance) -> None:
    assert {one.runs for one in asked(settings_env, instance, "revenue").costs} == {1}


@pytest.mark.parametrize("what", ["nonsense", "discovery:"])
def test_what_cannot_be_backfilled_is_named_with_what_can(
    settings_env: Settings, instance: dg.DagsterInstance, what: str
) -> None:
    with pytest.raises(PermanentError, match=what) as raised:
        asked(settings_env, instance, what)
    assert "discovery, scoring" in raised.value.remedy


def test_the_job_shows_the_table_in_the_ui(settings_env: Settings, instance: dg.DagsterInstance) -> None:
    job = build_definitions(get_settings()).resolve_job_def("estimate_backfill")
    config = {"what": "scoring", "first": "2026-03-01", "last": "2026-03-02"}
    done = job.execute_in_process(
        instance=instance, run_config={"ops": {"cost_of_backfill": {"config": config}}}
    )
    (event,) = [one for one in done.all_events if one.event_type_value == "STEP_OUTPUT"]
    table = event.step_output_data.metadata["costs"].value
    assert f"| candidate\\_assessments | {2 * len(NICHES)} |" in table


def test_sums_are_means_and_what_is_unknown_stays_so() -> None:
    measured = expected_cost("a", 10, 3, [Sample(2.0, 100, None, {"search": 1}), Sample(4.0, 300, None, {})])
    assert measured == Cost("a", 10, 3, 30.0, 2000.0, None, {"search": 5}, 2)
    unknown = expected_cost("b", 10, 1, [])
    assert (unknown.runs, unknown.seconds, wall_seconds([measured, unknown])) == (1, None, None)
    assert wall_seconds([measured]) == (30 + 3 * 4.0) / 3
    assert days_of_quota([measured], {"search": 2, "units": 10}) == (3, "search")
    assert days_of_quota([unknown], {"search": 2}) == (0, "")
    assert "| b | 10 | 1 | unknown | – | – | none | nothing yet |" in cost_table([unknown])
    assert [duration(s) for s in (5, 240, 12_000)] == ["5 s", "4 min", "3 h 20 min"]
