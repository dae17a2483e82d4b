"""Assets handing tables to one another through real Dagster runs, on both stores; and files that are not right."""

import io
from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, TransientError
from ettametta_pipelines.storage import tables
from ettametta_pipelines.storage.contracts import Column, ContractViolation, TableContract
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.tables import (
    ParquetTables,
    PartitionMissing,
    read_table,
    table_key,
    table_metadata,
    write_table,
)

DAY = dg.DailyPartitionsDefinition("2026-01-01", end_date="2026-01-04")
DAY_NICHE = dg.MultiPartitionsDefinition(
    {"date": DAY, "niche": dg.StaticPartitionsDefinition(["cats", "diy"])}
)
VIDEO = dg.DynamicPartitionsDefinition(name="video")
CAT_DAY = dg.MultiPartitionKey({"date": "2026-01-01", "niche": "cats"})


def contract(name: str, *more: Column) -> TableContract:
    return TableContract(
        name,
        f"Rows of {name}.",
        (Column("id", "string", "key"), Column("views", "int64", "count", True), *more),
        ("id",),
    )


VIDEOS = contract("videos")
CONTRACTS = {
    name: contract(name) for name in ("videos", "by_day", "total", "clips", "published", "first", "second")
}


def rows(*ids: str) -> pd.DataFrame:
    return VIDEOS.frame([{"id": i, "views": len(i)} for i in ids])


def run(
    assets: Sequence[Any], store: ObjectStore, *, partition: str | None = None, **options: Any
) -> dg.ExecuteInProcessResult:
    options.setdefault("raise_on_error", True)
    return dg.materialize(
        assets,
        resources={"tables": ParquetTables(lambda: store, CONTRACTS)},
        partition_key=partition,
        **options,
    )


def failure(result: dg.ExecuteInProcessResult) -> dg.DagsterEvent:
    (event,) = [e for e in result.all_events if e.is_step_failure]
    return event


def failed_with(result: dg.ExecuteInProcessResult) -> tuple[str, str]:
    """Code and description of the one failure."""
    assert not result.success
    told = failure(result).step_failure_data.user_failure_data
    assert told is not None
    return str(told.metadata["code"].value), str(told.description)


def table_asset(name: str, value: Any, **options: Any) -> dg.AssetsDefinition:
    @dg.asset(name=name, io_manager_key="tables", **options)
    def made() -> dg.MaterializeResult:
        return dg.MaterializeResult(value=value, metadata={"cost_usd": 0.5})

    return made


# --- plain functions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("partition", "key"),
    [
        (None, "tables/videos/all.parquet"),
        ("2026-01-01", "tables/videos/2026-01-01.parquet"),
        ("2026-01-01|cats", "tables/videos/2026-01-01/cats.parquet"),
        (CAT_DAY, "tables/videos/2026-01-01/cats.parquet"),
        ("agency--0123456789abcdef", "tables/videos/agency--0123456789abcdef.parquet"),
    ],
)
def test_a_partition_has_one_place(partition: str | None, key: str) -> None:
    assert table_key("videos", partition) == key


@pytest.mark.parametrize("partition", ["", "a/b", "..", "a|..", "a|", "a\nb"])
def test_a_partition_that_cannot_be_a_path_is_refused(partition: str) -> None:
    with pytest.raises(PermanentError, match="bad_partition"):
        table_key("videos", partition)


def test_a_table_is_written_and_read_without_dagster(store: ObjectStore) -> None:
    frame = rows("a", "bb")
    assert write_table(store, VIDEOS, frame, "2026-01-01") == "tables/videos/2026-01-01.parquet"
    pd.testing.assert_frame_equal(read_table(store, VIDEOS, "2026-01-01"), frame)
    write_table(store, VIDEOS, VIDEOS.empty(), None)
    pd.testing.assert_frame_equal(read_table(store, VIDEOS, None), VIDEOS.empty())


def test_the_same_rows_are_the_same_bytes(directory_store: ObjectStore) -> None:
    first = directory_store.get(write_table(directory_store, VIDEOS, rows("a"), "2026-01-01"))
    second = directory_store.get(write_table(directory_store, VIDEOS, rows("a"), "2026-01-02"))
    assert first == second


def test_rows_that_break_the_contract_leave_the_stored_partition_alone(store: ObjectStore) -> None:
    write_table(store, VIDEOS, rows("a"), "2026-01-01")
    with pytest.raises(ContractViolation):
        write_table(store, VIDEOS, pd.DataFrame({"id": [None], "views": [1]}), "2026-01-01")
    assert list(read_table(store, VIDEOS, "2026-01-01")["id"]) == ["a"]


def test_reading_a_partition_that_is_not_there_names_table_and_partition(store: ObjectStore) -> None:
    with pytest.raises(PartitionMissing, match="Table videos has no partition '2026-01-01'"):
        read_table(store, VIDEOS, "2026-01-01")
    with pytest.raises(PartitionMissing, match="Table videos has not been materialised"):
        read_table(store, VIDEOS, None)


def test_a_file_from_before_a_nullable_column_is_still_read(store: ObjectStore) -> None:
    write_table(store, VIDEOS, rows("a"), "2026-01-01")
    newer = contract("videos", Column("shares", "int64", "", True), Column("tags", "string_list", "", True))
    assert newer.rows(read_table(store, newer, "2026-01-01")) == [
        {"id": "a", "views": 1, "shares": None, "tags": None}
    ]


@pytest.mark.parametrize("column", [Column("shares", "int64", ""), Column("views", "string", "", True)])
def test_a_file_of_another_schema_is_refused_by_name(store: ObjectStore, column: Column) -> None:
    write_table(store, VIDEOS, rows("a"), "2026-01-01")
    kept = tuple(c for c in VIDEOS.columns if c.name != column.name)
    with pytest.raises(ContractViolation) as caught:
        read_table(store, TableContract("videos", "", (*kept, column), ("id",)), "2026-01-01")
    assert f"{store.url}/tables/videos/2026-01-01.parquet" in caught.value.message


@pytest.mark.parametrize("damage", ["empty", "cut", "not parquet"])
def test_a_damaged_file_is_named(store: ObjectStore, damage: str) -> None:
    key = write_table(store, VIDEOS, rows("a"), None)
    whole = store.get(key)
    store.put(key, {"empty": b"", "cut": whole[: len(whole) // 2], "not parquet": b"hello"}[damage])
    with pytest.raises(PermanentError, match=key) as caught:
        read_table(store, VIDEOS, None)
    assert caught.value.code == "corrupt_table"


def test_the_schema_and_its_descriptions_are_in_the_file(directory_store: ObjectStore) -> None:
    schema = pq.read_schema(
        io.BytesIO(directory_store.get(write_table(directory_store, VIDEOS, rows("a"), None)))
    )
    assert schema.metadata[b"table"] == b"videos"
    assert schema.field("id").metadata[b"description"] == b"key"
    assert not schema.field("id").nullable
    assert schema.field("views").type == pa.int64()


# --- assets ----------------------------------------------------------------------------------------------------


def test_an_unpartitioned_table_goes_from_asset_to_asset(store: ObjectStore) -> None:
    @dg.asset(io_manager_key="tables")
    def total(videos: pd.DataFrame) -> dg.MaterializeResult:
        return dg.MaterializeResult(value=VIDEOS.frame([{"id": "sum", "views": int(videos["views"].sum())}]))

    result = run([table_asset("videos", rows("a", "bb")), total], store)
    assert list(read_table(store, CONTRACTS["total"], None)["views"]) == [3]
    metadata = result.asset_materializations_for_node("videos")[0].metadata
    assert metadata["dagster/uri"].value == f"{store.url}/tables/videos/all.parquet"
    assert metadata["dagster/row_count"].value == 2
    assert metadata["cost_usd"].value == 0.5


def test_a_day_asset_rolls_up_the_niches_of_that_day_only(store: ObjectStore) -> None:
    @dg.asset(io_manager_key="tables", partitions_def=DAY_NICHE)
    def videos(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        keys = context.partition_key.keys_by_dimension
        return dg.MaterializeResult(value=rows(f"{keys['date']}-{keys['niche']}"))

    @dg.asset(io_manager_key="tables", partitions_def=DAY)
    def by_day(videos: pd.DataFrame) -> dg.MaterializeResult:
        return dg.MaterializeResult(value=videos)

    for date in ("2026-01-01", "2026-01-02"):
        for niche in ("cats", "diy"):
            result = run([videos], store, partition=dg.MultiPartitionKey({"date": date, "niche": niche}))
    assert (
        result.asset_materializations_for_node("videos")[0].metadata["dagster/partition_row_count"].value == 1
    )
    run([videos, by_day], store, partition="2026-01-02", selection="by_day")
    assert list(read_table(store, CONTRACTS["by_day"], "2026-01-02")["id"]) == [
        "2026-01-02-cats",
        "2026-01-02-diy",
    ]


def upstream_and_rollup(*, on_input: bool = False, on_upstream: bool = False) -> list[dg.AssetsDefinition]:
    allow = {"allow_missing_partitions": True}
    videos = table_asset("videos", rows("a"), partitions_def=DAY_NICHE, metadata=allow if on_upstream else {})

    @dg.asset(
        io_manager_key="tables",
        partitions_def=DAY,
        ins={"videos": dg.AssetIn(metadata=allow if on_input else {})},
    )
    def by_day(videos: pd.DataFrame) -> dg.MaterializeResult:
        assert videos.dtypes.equals(VIDEOS.empty().dtypes)
        return dg.MaterializeResult(value=videos)

    return [videos, by_day]


def test_a_missing_partition_fails_and_is_named(store: ObjectStore) -> None:
    write_table(store, VIDEOS, rows("a"), CAT_DAY)
    result = run(
        upstream_and_rollup(), store, partition="2026-01-01", selection="by_day", raise_on_error=False
    )
    code, told = failed_with(result)
    assert code == "partition_missing"
    assert "Table videos has no partition '2026-01-01|diy'" in told
    assert "Materialise videos for 2026-01-01|diy first." in told


@pytest.mark.parametrize("allowed", [{"on_input": True}, {"on_upstream": True}])
def test_missing_partitions_count_as_empty_where_allowed(
    store: ObjectStore, allowed: dict[str, bool]
) -> None:
    write_table(store, VIDEOS, rows("a"), CAT_DAY)
    assets = upstream_and_rollup(**allowed)
    for day, ids in (("2026-01-01", ["a"]), ("2026-01-03", [])):
        run(assets, store, partition=day, selection="by_day")
        assert list(read_table(store, CONTRACTS["by_day"], day)["id"]) == ids


def test_an_unpartitioned_asset_gets_every_partition_of_its_upstream(store: ObjectStore) -> None:
    videos = table_asset("videos", rows("a"), partitions_def=DAY)

    @dg.asset(io_manager_key="tables")
    def total(videos: pd.DataFrame) -> dg.MaterializeResult:
        return dg.MaterializeResult(value=videos)

    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        write_table(store, VIDEOS, rows(day), day)
    run([videos, total], store, selection="total")
    assert sorted(read_table(store, CONTRACTS["total"], None)["id"]) == [
        "2026-01-01",
        "2026-01-02",
        "2026-01-03",
    ]


def test_a_dynamic_partition_is_a_file_of_its_own(store: ObjectStore) -> None:
    @dg.asset(io_manager_key="tables", partitions_def=VIDEO)
    def clips(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        return dg.MaterializeResult(value=rows(context.partition_key))

    @dg.asset(io_manager_key="tables", partitions_def=VIDEO)
    def published(clips: pd.DataFrame) -> dg.MaterializeResult:
        return dg.MaterializeResult(value=clips)

    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions("video", ["agency--aa", "agency--bb"])
        for video in ("agency--aa", "agency--bb"):
            run([clips, published], store, partition=video, instance=instance)
    assert [info.key for info in store.list("tables")] == [
        "tables/clips/agency--aa.parquet",
        "tables/clips/agency--bb.parquet",
        "tables/published/agency--aa.parquet",
        "tables/published/agency--bb.parquet",
    ]
    assert list(read_table(store, CONTRACTS["published"], "agency--bb")["id"]) == ["agency--bb"]


def test_yesterdays_partition_of_the_same_table_can_be_an_input(store: ObjectStore) -> None:
    yesterday = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)

    @dg.asset(
        io_manager_key="tables",
        partitions_def=DAY,
        ins={"by_day": dg.AssetIn(partition_mapping=yesterday, metadata={"allow_missing_partitions": True})},
    )
    def by_day(context: dg.AssetExecutionContext, by_day: pd.DataFrame) -> dg.MaterializeResult:
        return dg.MaterializeResult(value=VIDEOS.frame([*VIDEOS.rows(by_day), {"id": context.partition_key}]))

    for day in ("2026-01-01", "2026-01-02", "2026-01-03"):
        run([by_day], store, partition=day)
    assert list(read_table(store, CONTRACTS["by_day"], "2026-01-03")["id"]) == [
        "2026-01-01",
        "2026-01-02",
        "2026-01-03",
    ]


def test_each_output_of_a_multi_asset_is_its_own_table(store: ObjectStore) -> None:
    specs = [dg.AssetSpec(name, partitions_def=DAY) for name in ("first", "second")]

    @dg.multi_asset(
        outs={s.key.path[0]: dg.AssetOut(io_manager_key="tables", is_required=False) for s in specs},
        partitions_def=DAY,
        can_subset=True,
    )
    def both(context: dg.AssetExecutionContext) -> Any:
        for name in sorted(context.op_execution_context.selected_output_names):
            yield dg.MaterializeResult(asset_key=name, value=rows(name), metadata={"rendered": False})

    run([both], store, partition="2026-01-02", selection=["second"])
    assert [info.key for info in store.list("tables")] == ["tables/second/2026-01-02.parquet"]
    result = run([both], store, partition="2026-01-02")
    assert list(read_table(store, CONTRACTS["first"], "2026-01-02")["id"]) == ["first"]
    (event,) = [m for m in result.asset_materializations_for_node("both") if m.asset_key.path == ["first"]]
    assert event.metadata["dagster/partition_row_count"].value == 1
    assert event.metadata["rendered"].value is False


def test_an_asset_may_return_the_frame_itself_and_run_again(store: ObjectStore) -> None:
    @dg.asset(io_manager_key="tables")
    def videos() -> pd.DataFrame:
        return rows("a")

    for _ in range(2):
        run([videos], store)
    assert list(read_table(store, VIDEOS, None)["id"]) == ["a"]


def test_a_failed_blocking_check_still_leaves_the_table_to_look_at(store: ObjectStore) -> None:
    @dg.asset(
        io_manager_key="tables",
        check_specs=[dg.AssetCheckSpec("sane", asset="videos", blocking=True)],
        dagster_type=dg.PythonObjectDagsterType(pd.DataFrame),
    )
    def videos() -> dg.MaterializeResult:
        return dg.MaterializeResult(value=rows("a"), check_results=[dg.AssetCheckResult(passed=False)])

    assert not run([videos], store, raise_on_error=False).success
    assert list(read_table(store, VIDEOS, None)["id"]) == ["a"]


@pytest.mark.parametrize(("value", "said"), [(None, "no value"), ([1], "a list"), ({"id": 1}, "a dict")])
def test_anything_but_a_frame_is_refused_by_name(store: ObjectStore, value: Any, said: str) -> None:
    code, told = failed_with(run([table_asset("videos", value)], store, raise_on_error=False))
    assert code == "no_table_returned"
    assert f"videos returned {said}" in told
    assert not store.exists("tables/videos/all.parquet")


def test_an_asset_that_produces_nothing_leaves_the_stored_table_alone(store: ObjectStore) -> None:
    @dg.asset(io_manager_key="tables")
    def videos() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"posted": False})

    write_table(store, VIDEOS, rows("a"), None)
    assert run([videos], store).success
    assert list(read_table(store, VIDEOS, None)["id"]) == ["a"]


def test_a_table_without_a_contract_is_refused(store: ObjectStore) -> None:
    code, told = failed_with(run([table_asset("stranger", rows("a"))], store, raise_on_error=False))
    assert code == "table_without_contract"
    assert "stranger" in told


def test_rows_that_break_the_contract_fail_the_step_with_the_column(store: ObjectStore) -> None:
    bad = rows("a", "b").assign(id=["a", "a"])
    code, told = failed_with(run([table_asset("videos", bad)], store, raise_on_error=False))
    assert code == "table_contract_violation"
    assert "not unique" in told


def test_several_partitions_in_one_step_are_refused(store: ObjectStore) -> None:
    videos = table_asset(
        "videos", rows("a"), partitions_def=DAY, backfill_policy=dg.BackfillPolicy.single_run()
    )
    result = run(
        [videos],
        store,
        tags={
            "dagster/asset_partition_range_start": "2026-01-01",
            "dagster/asset_partition_range_end": "2026-01-02",
        },
        raise_on_error=False,
    )
    assert failed_with(result)[0] == "several_partitions_written"


def test_ops_cannot_store_what_is_no_asset(store: ObjectStore) -> None:
    @dg.op(out=dg.Out(io_manager_key="tables"))
    def number() -> int:
        return 1

    @dg.job(
        resource_defs={
            "tables": dg.IOManagerDefinition.hardcoded_io_manager(ParquetTables(lambda: store, CONTRACTS))
        }
    )
    def numbers() -> None:
        number()

    assert failed_with(numbers.execute_in_process(raise_on_error=False))[0] == "table_without_asset"


def test_a_store_that_is_away_for_a_moment_neither_fails_the_run_nor_repeats_its_work(
    directory_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, away = ObjectStore.put, iter([True, True])

    def flaky(self: ObjectStore, *arguments: Any, **options: Any) -> Any:
        if next(away, False):
            raise TransientError("The store is away.", code="store_unavailable")
        return put(self, *arguments, **options)

    monkeypatch.setattr(ObjectStore, "put", flaky)
    monkeypatch.setattr(tables, "RETRY_WAITS_S", (0.0, 0.0))
    bodies = 0

    @dg.asset(io_manager_key="tables", name="videos")
    def paid() -> pd.DataFrame:
        nonlocal bodies
        bodies += 1
        return rows("a")

    result = dg.materialize([paid], resources={"tables": ParquetTables(lambda: directory_store, CONTRACTS)})
    assert (result.success, bodies) == (True, 1)
    assert list(read_table(directory_store, VIDEOS, None)["id"]) == ["a"]


def test_a_store_that_needs_a_person_fails_once_and_says_what_to_do() -> None:
    def locked() -> ObjectStore:
        raise NeedsPersonError("No access.", code="store_access_denied", remedy="Grant access.")

    result = dg.materialize(
        [table_asset("videos", rows("a"), retry_policy=dg.RetryPolicy(max_retries=3))],
        resources={"tables": ParquetTables(locked, CONTRACTS)},
        raise_on_error=False,
    )
    told = failure(result).step_failure_data.user_failure_data
    assert told is not None
    assert told.metadata["remedy"].value == "Grant access."
    assert told.metadata["kind"].value == "needs_person"
    assert not [e for e in result.all_events if e.is_step_up_for_retry]


def test_the_definition_metadata_shows_columns_nulls_and_key() -> None:
    metadata = table_metadata(VIDEOS)
    schema = metadata["dagster/column_schema"]
    assert metadata["dagster/table_name"] == "videos"
    assert [(c.name, c.type, c.constraints.nullable, c.constraints.unique) for c in schema.columns] == [
        ("id", "string", False, True),
        ("views", "int64", True, False),
    ]
    asset = table_asset("videos", rows("a"), metadata=metadata)
    assert asset.metadata_by_key[asset.key]["dagster/column_schema"].columns == schema.columns
