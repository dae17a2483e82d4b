"""A run for several videos: each is made, recorded and fails by itself."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.orchestration.failure_policy import FAILURE_CODE_TAG, failure_policy
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.orchestration.video_groups import videos_of
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.storage.contracts import Column, TableContract
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.tables import ParquetTables, read_table, table_key, write_table
from ettametta_pipelines.tags import ACCOUNT_TAG, FAILED_VIDEOS_TAG, NICHE_TAG, TITLE_TAG

VIDEOS = [f"acme--{n}" for n in range(4)]
SOURCE = TableContract(
    "source_media",
    "A source.",
    tuple(Column(name, "string", name) for name in ("source_id", "title", "account", "niche")),
    key=("source_id",),
)
PICTURES = TableContract(
    "pictures",
    "Pictures of it.",
    (Column("source_id", "string", "Source"), Column("n", "int64", "Number")),
    key=("source_id", "n"),
)


class Trouble:
    """What goes wrong with which video, and how often each was begun."""

    def __init__(self) -> None:
        self.begun: Counter[str] = Counter()
        self.raised: dict[str, BaseException] = {}
        self.passing: dict[str, BaseException] = {}

    def strike(self, video: str) -> None:
        self.begun[video] += 1
        if video in self.passing:
            raise self.passing.pop(video)
        if video in self.raised:
            raise self.raised[video]


TROUBLE = Trouble()


@table_asset(SOURCE, group_name="media", partitions_def=SOURCE_VIDEO)
def source_media() -> Any:
    """Written by the tests."""


@table_asset(PICTURES, group_name="renders", partitions_def=SOURCE_VIDEO, videos_per_run=10)
def pictures(context: dg.AssetExecutionContext, source_media: pd.DataFrame) -> Any:
    assert list(source_media["source_id"]) == [context.partition_key]
    with failure_policy(context):
        TROUBLE.strike(context.partition_key)
    rows = [{"source_id": context.partition_key, "n": n} for n in range(int(context.partition_key[-1]) + 1)]
    return dg.MaterializeResult(value=PICTURES.frame(rows), metadata={"about": context.partition_key})


@pytest.fixture(autouse=True)
def trouble(monkeypatch: pytest.MonkeyPatch) -> Trouble:
    monkeypatch.setattr("ettametta_pipelines.orchestration.video_groups.time.sleep", lambda seconds: None)
    TROUBLE.__init__()  # type: ignore[misc]
    return TROUBLE


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    store = ObjectStore.from_url(tmp_path.as_uri())
    for video in VIDEOS:
        row = {"source_id": video, "title": f"Of {video}", "account": "acme", "niche": "cooking"}
        write_table(store, SOURCE, SOURCE.frame([row]), video)
    return store


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        made.add_dynamic_partitions(str(SOURCE_VIDEO.name), VIDEOS)
        yield made


def run(
    instance: dg.DagsterInstance, store: ObjectStore, first: str = VIDEOS[0], last: str = VIDEOS[-1]
) -> dg.ExecuteInProcessResult:
    """A run of a backfill over these videos, as the daemon starts it."""
    tables = ParquetTables(lambda: store, {one.name: one for one in (SOURCE, PICTURES)})
    tags = {"dagster/asset_partition_range_start": first, "dagster/asset_partition_range_end": last}
    made = dg.Definitions([source_media, pictures], resources={"tables": tables}).get_repository_def()
    return made.get_job("__ASSET_JOB").execute_in_process(
        instance=instance, asset_selection=[dg.AssetKey("pictures")], tags=tags, raise_on_error=False
    )


def tags_of(instance: dg.DagsterInstance, result: dg.ExecuteInProcessResult) -> dict[str, str]:
    found = instance.get_run_by_id(result.run_id)
    assert found is not None
    return dict(found.tags)


def told(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    (failed,) = result.get_step_failure_events()
    said = failed.step_failure_data.user_failure_data
    assert said is not None
    return {"description": said.description} | {name: str(one.value) for name, one in said.metadata.items()}


def status(instance: dg.DagsterInstance) -> dict[str, str]:
    found = instance.get_status_by_partition(dg.AssetKey("pictures"), VIDEOS, SOURCE_VIDEO)
    return {video: one.value for video, one in (found or {}).items() if one is not None}


def stored(store: ObjectStore) -> list[str]:
    return [video for video in VIDEOS if store.exists(table_key("pictures", video))]


def test_each_video_of_a_run_has_its_table_and_is_recorded_once_with_what_is_told_of_it(
    instance: dg.DagsterInstance, store: ObjectStore
) -> None:
    result = run(instance, store)
    assert result.success
    events = sorted(
        result.asset_materializations_for_node("pictures"), key=lambda event: str(event.partition)
    )
    assert [event.partition for event in events] == VIDEOS
    for n, event in enumerate(events):
        said = {name: value.value for name, value in event.metadata.items()}
        assert said["about"] == VIDEOS[n]
        assert said["rows"] == said["dagster/partition_row_count"] == n + 1
        assert said["dagster/uri"].endswith(f"{VIDEOS[n]}.parquet")
        assert said["bytes"] > 100
        assert said["took_s"] >= 0
        assert len(read_table(store, PICTURES, VIDEOS[n])) == n + 1
    tags = tags_of(instance, result)
    assert (tags[TITLE_TAG], tags[ACCOUNT_TAG], tags[NICHE_TAG]) == ("4 videos", "acme", "cooking")


def test_a_run_of_one_video_goes_as_any_other(instance: dg.DagsterInstance, store: ObjectStore) -> None:
    result = run(instance, store, VIDEOS[2], VIDEOS[2])
    assert result.success
    (event,) = result.asset_materializations_for_node("pictures")
    assert (str(event.partition), event.metadata["rows"].value) == (VIDEOS[2], 3)


def test_a_video_that_fails_takes_no_other_with_it(
    instance: dg.DagsterInstance, store: ObjectStore, trouble: Trouble
) -> None:
    trouble.raised[VIDEOS[1]] = PermanentError(
        "It is damaged.", code="decode_failed", remedy="Export it again."
    )
    result = run(instance, store)
    assert not result.success
    others = [VIDEOS[0], VIDEOS[2], VIDEOS[3]]
    assert stored(store) == others
    assert status(instance) == dict.fromkeys(others, "MATERIALIZED") | {VIDEOS[1]: "FAILED"}
    said = told(result)
    assert said["description"].startswith(f"1 of 4 videos failed, the others are made. {VIDEOS[1]}: It is")
    assert (said["code"], said["remedy"]) == ("decode_failed", "Export it again.")
    assert VIDEOS[1] in said["failed_videos"]
    tags = tags_of(instance, result)
    assert (tags[FAILURE_CODE_TAG], tags[FAILED_VIDEOS_TAG]) == ("decode_failed", VIDEOS[1])
    (seen,) = instance.fetch_observations(dg.AssetKey("pictures"), limit=5).records
    assert seen.partition_key == VIDEOS[1]


def test_a_table_that_is_not_there_is_missed_by_its_video_only(
    instance: dg.DagsterInstance, store: ObjectStore
) -> None:
    store.delete(table_key("source_media", VIDEOS[3]))
    store.put(table_key("source_media", VIDEOS[0]), b"no parquet")
    result = run(instance, store)
    assert not result.success
    assert stored(store) == VIDEOS[1:3]
    assert tags_of(instance, result)[FAILED_VIDEOS_TAG] == f"{VIDEOS[0]},{VIDEOS[3]}"


def test_what_passes_is_tried_again_for_its_video_alone(
    instance: dg.DagsterInstance, store: ObjectStore, trouble: Trouble
) -> None:
    trouble.passing[VIDEOS[0]] = TransientError("The disk is full.", code="disk_full")
    trouble.raised[VIDEOS[1]] = TransientError("There is no memory.", code="out_of_memory")
    result = run(instance, store)
    assert trouble.begun == {VIDEOS[0]: 2, VIDEOS[1]: 4, VIDEOS[2]: 1, VIDEOS[3]: 1}
    assert stored(store) == [VIDEOS[0], VIDEOS[2], VIDEOS[3]]
    assert told(result)["code"] == "out_of_memory"


def test_an_error_nobody_expected_stops_no_other_video_and_is_shown(
    instance: dg.DagsterInstance, store: ObjectStore, trouble: Trouble
) -> None:
    trouble.raised[VIDEOS[0]] = ZeroDivisionError("of what")
    result = run(instance, store)
    assert stored(store) == VIDEOS[1:]
    said = told(result)
    assert said["code"] == "ZeroDivisionError"
    assert "of what" in said["description"]


def test_what_was_made_before_a_run_was_ended_counts(
    instance: dg.DagsterInstance, store: ObjectStore, trouble: Trouble
) -> None:
    trouble.raised[VIDEOS[2]] = dg.DagsterExecutionInterruptedError()
    assert not run(instance, store).success
    assert status(instance) == dict.fromkeys(VIDEOS[:2], "MATERIALIZED") | dict.fromkeys(VIDEOS[2:], "FAILED")


def test_the_videos_of_a_run_are_its_partition_or_those_of_its_range() -> None:
    def of(**ends: str) -> list[str]:
        tags = {f"dagster/{name}": video for name, video in ends.items()}
        return list(videos_of(dg.DagsterRun("__ASSET_JOB", tags=tags), VIDEOS))

    assert of(partition="acme--9") == ["acme--9"]
    ends = ("asset_partition_range_start", "asset_partition_range_end")
    assert of(**dict(zip(ends, VIDEOS[1:3], strict=True))) == VIDEOS[1:3]
    assert of(**dict.fromkeys(ends, "2026-11-22")) == []
    assert of() == []


def test_an_asset_with_checks_is_not_taken_several_a_run() -> None:
    checks = [dg.AssetCheckSpec("fine", asset="pictures")]
    with pytest.raises(ValueError, match="has checks"):

        @table_asset(PICTURES, group_name="renders", videos_per_run=2, check_specs=checks)
        def pictures() -> None: ...
