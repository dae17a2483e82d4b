"""What a query reads: its columns, its partitions, packs as far as they are true; and what it refuses."""

import io
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.storage import packs, scan
from ettametta_pipelines.storage.contracts import Column, ContractViolation, TableContract
from ettametta_pipelines.storage.lake import Lake
from ettametta_pipelines.storage.objects import ObjectMissing, ObjectStore
from ettametta_pipelines.storage.packs import pack_key, pack_months
from ettametta_pipelines.storage.parquet import partition_of, table_key, write_table
from ettametta_pipelines_tests.storage.conftest import BucketUnderTest, FaultyProxy

FINDS = TableContract(
    "finds",
    "Candidates by day and niche.",
    (
        Column("day", "date", ""),
        Column("niche", "string", ""),
        Column("video", "string", ""),
        Column("views", "int64", "", True),
        Column("ratio", "float64", "", True),
    ),
    ("video",),
    partitioned_by=("day", "niche"),
)
CONTRACTS = {"finds": FINDS}
RATIOS = (1.5, None, float("nan"), float("inf"), -0.0)


def rows(day: int, niche: str, count: int = 5, *, views: int = 0) -> list[dict[str, Any]]:
    return [
        {
            "day": date(2026, 1, day), "niche": niche, "video": f"{day}-{niche}-{n}",
            "views": None if n == 3 else views + n, "ratio": RATIOS[n % len(RATIOS)],
        }
        for n in range(count)
    ]  # fmt: skip


def write(store: ObjectStore, day: int, niche: str, count: int = 5, *, views: int = 0) -> str:
    frame = FINDS.frame(rows(day, niche, count, views=views))
    return write_table(store, FINDS, frame, f"2026-01-{day:02}|{niche}")


@pytest.fixture
def filled(store: ObjectStore) -> ObjectStore:
    for day in (1, 2, 3):
        for niche in ("cats", "diy"):
            write(store, day, niche)
    return store


@pytest.fixture
def lake(filled: ObjectStore) -> Iterator[Lake]:
    with Lake.over(filled, CONTRACTS) as lake:
        yield lake


@pytest.fixture
def month(directory_store: ObjectStore, tmp_path: Path) -> ObjectStore:
    """Thirty days of one niche, packed; the last day has no rows."""
    for day in range(1, 30):
        write(directory_store, day, "cats")
    write(directory_store, 30, "cats", 0)
    assert pack(directory_store, tmp_path)[0].written
    return directory_store


def pack(store: ObjectStore, tmp_path: Path) -> list[packs.Packed]:
    return list(pack_months(store, FINDS, before="2026-02", scratch=tmp_path / "scratch"))


def videos(lake: Lake, where: str = "true") -> list[str]:
    return [row["video"] for row in lake.rows(f"select video from finds where {where} order by video")]


# --- partitions and columns --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [
        "day = '2026-01-02' and niche = 'diy'",
        "day between '2026-01-02' and '2026-01-02' and niche in ('diy', 'none')",
        "(day = '2026-01-02' or day > '2030-01-01') and niche <> 'cats'",
    ],
)
def test_files_of_other_partitions_are_not_opened(filled: ObjectStore, lake: Lake, where: str) -> None:
    for day, niche in ((1, "cats"), (1, "diy"), (2, "cats"), (3, "cats"), (3, "diy")):
        filled.put(table_key("finds", f"2026-01-{day:02}|{niche}"), b"not parquet")
    assert len(videos(lake, where)) == 5
    with pytest.raises(PermanentError, match="no readable Parquet file"):
        videos(lake, "niche = 'diy'")


@pytest.mark.parametrize(
    "where",
    [
        "views > 2", "views is null", "views is not null and ratio > 1", "ratio = 'nan'", "ratio > 1", "ratio <= 1.5",
        "not (ratio > 1)", "ratio in (1.5, 0)", "ratio = 0", "views in (1, 2) or niche = 'cats'", "video like '1%'",
        "video >= '2' and video < '3'", "strftime(day, '%d') = '02'", "day = '2026-01-02' and views = 1",
        "day in ('2026-01-01', '2026-01-03') and (niche = 'cats' or views = 4)",
        "views > (select avg(views) from finds)",
        "day > date '2026-01-01' + 1", "niche = 'nowhere'", "niche is null",
    ],
)  # fmt: skip
def test_conditions_choose_the_rows_that_duckdb_alone_would(lake: Lake, where: str) -> None:
    everything = [r for day in (1, 2, 3) for niche in ("cats", "diy") for r in rows(day, niche)]
    with duckdb.connect() as plain:
        plain.register("finds", FINDS.to_arrow(FINDS.frame(everything)))
        expected = [
            v for (v,) in plain.execute(f"select video from finds where {where} order by 1").fetchall()
        ]
    assert videos(lake, where) == expected


def test_conditions_and_columns_reach_the_reader(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[scan._Request] = []
    answer = scan._Request.answer
    monkeypatch.setattr(
        scan._Request, "answer", lambda self, table: asked.append(self) or answer(self, table)
    )
    lake.query("select sum(views) from finds where day = '2026-01-02' and ratio > 1")
    assert [set(request.read) for request in asked] == [{"views", "ratio"}] * 2
    assert all(len(request.partition_conditions) == 1 for request in asked)


def test_an_empty_value_in_a_required_column_is_found_where_that_column_is_read(
    directory_store: ObjectStore,
) -> None:
    table = pa.table(
        {"day": [date(2026, 1, 1)], "niche": ["cats"], "video": [None], "views": [1], "ratio": [1.0]}
    )
    sink = io.BytesIO()
    pq.write_table(table.cast(pa.schema([f.with_nullable(True) for f in FINDS.arrow_schema()])), sink)
    directory_store.put(table_key("finds", "2026-01-01|cats"), sink.getvalue())
    with Lake.over(directory_store, CONTRACTS) as lake:
        assert lake.rows("select views from finds") == [{"views": 1}]
        with pytest.raises(
            ContractViolation, match=r"cats\.parquet does not fit.*empty values in \['video'\]"
        ):
            lake.query("select video from finds")


def test_a_file_without_a_required_column_is_refused_even_by_queries_that_do_not_name_it(
    filled: ObjectStore,
) -> None:
    newer = TableContract(
        "finds", "", (*FINDS.columns, Column("unit", "string", "")), FINDS.key, FINDS.partitioned_by
    )
    with (
        Lake.over(filled, {"finds": newer}) as lake,
        pytest.raises(ContractViolation, match=r"missing columns \['unit'\]"),
    ):
        lake.query("select count(*) from finds")


def test_a_file_outside_the_partitions_is_named_when_partitions_are_asked_for(
    filled: ObjectStore, lake: Lake
) -> None:
    filled.put("tables/finds/stray.parquet", b"x")
    with pytest.raises(ContractViolation, match="'stray' is no partition"):
        videos(lake, "niche = 'cats'")


def test_rows_of_another_partition_are_not_written(directory_store: ObjectStore) -> None:
    with pytest.raises(ContractViolation, match=r"2026-01-02\|cats holds rows whose day is 2026-01-01"):
        write_table(directory_store, FINDS, FINDS.frame(rows(1, "cats")), "2026-01-02|cats")


def test_a_key_tells_its_partition() -> None:
    for partition in ("2026-01-01|cats", "2026-01-01", "all"):
        assert partition_of("finds", table_key("finds", partition)) == partition


@pytest.mark.parametrize("column", ["views", "missing"])
def test_only_required_days_and_texts_tell_a_partition(column: str) -> None:
    with pytest.raises(ContractViolation):
        TableContract("t", "", FINDS.columns, (), partitioned_by=(column,))


# --- one state of the store --------------------------------------------------------------------------------------


def test_queries_inside_unchanging_see_the_same_files(filled: ObjectStore, lake: Lake) -> None:
    with lake.unchanging():
        before = videos(lake)
        write(filled, 4, "cats")
        assert videos(lake) == before
        assert videos(lake, "day = '2026-01-04'") == []
    assert len(videos(lake)) == len(before) + 5


def test_large_files_are_read_in_row_groups(
    filled: ObjectStore, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = videos(lake, "views >= 1")
    monkeypatch.setattr(scan, "WHOLE_BYTES", 0)
    assert videos(lake, "views >= 1") == before


def test_a_snapshot_in_a_directory_stays_what_it_was(directory_store: ObjectStore) -> None:
    directory_store.put("a", b"old text")
    with directory_store.snapshot("a") as snapshot:
        directory_store.put("a", b"new")
        assert snapshot.file().read() == b"old text"
        directory_store.delete("a")
        assert snapshot.read_at(4, 4) == b"text"


def test_a_bucket_says_when_the_object_under_a_snapshot_was_replaced(bucket: BucketUnderTest) -> None:
    store = bucket.store()
    store.put("a", b"old text")
    with store.snapshot("a") as snapshot:
        assert snapshot.read_at(4, 4) == b"text"
        store.put("a", b"new text")
        with pytest.raises(TransientError) as caught:
            snapshot.read_at(0, 3)
    assert caught.value.code == "object_replaced"


def test_a_snapshot_of_nothing_says_so(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing):
        store.snapshot("no/such/key")


def test_a_listing_says_of_each_object_what_looking_at_it_says(filled: ObjectStore) -> None:
    listed = list(filled.list("tables"))
    assert [(i.key, i.size, i.etag) for i in listed] == [
        (i.key, i.size, i.etag) for i in (filled.head(info.key) for info in listed)
    ]


# --- packs -------------------------------------------------------------------------------------------------------


def test_a_packed_month_is_read_without_its_files(
    month: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Lake.over(month, CONTRACTS) as lake:
        packed = lake.rows("select * from finds order by video")
        monkeypatch.setattr(scan, "FEW_FILES", 1000)
        assert lake.rows("select * from finds order by video") == packed
        monkeypatch.undo()
        monkeypatch.setattr(scan, "read_file", None)
        assert len(videos(lake)) == 29 * 5
        assert len(videos(lake, "day >= '2026-01-11' and views < 3")) == 19 * 3


def test_what_changed_since_packing_comes_from_its_own_file(month: ObjectStore) -> None:
    write(month, 2, "cats", 1, views=1000)
    write(month, 7, "diy", 2)
    month.delete(table_key("finds", "2026-01-09|cats"))
    with Lake.over(month, CONTRACTS) as lake:
        found = lake.rows("select day, count(*) as n, max(views) as top from finds group by day order by day")
    by_day = {row["day"].day: (row["n"], row["top"]) for row in found}
    usual = {day: (5, 4) for day in range(1, 30) if day != 9}
    assert by_day == usual | {2: (1, 1000), 7: (7, 4)}


@pytest.mark.parametrize("damage", [b"", b"not parquet", "no manifest"])
def test_a_damaged_pack_is_passed_over_and_made_again(
    month: ObjectStore, tmp_path: Path, damage: Any
) -> None:
    if isinstance(damage, str):
        sink = io.BytesIO()
        pq.write_table(FINDS.arrow_schema().empty_table(), sink)
        damage = sink.getvalue()
    month.put(pack_key("finds", "2026-01"), damage)
    with Lake.over(month, CONTRACTS) as lake:
        assert len(videos(lake)) == 29 * 5
    assert pack(month, tmp_path)[0].written


def test_a_pack_from_before_a_column_shows_it_as_null(month: ObjectStore) -> None:
    newer = TableContract(
        "finds", "", (*FINDS.columns, Column("note", "string", "", True)), FINDS.key, FINDS.partitioned_by
    )
    with Lake.over(month, {"finds": newer}) as lake:
        assert lake.rows("select count(*) as n, count(note) as notes from finds") == [{"n": 145, "notes": 0}]


def test_packing_again_writes_only_what_changed(month: ObjectStore, tmp_path: Path) -> None:
    assert [(p.written, p.files, p.rows) for p in pack(month, tmp_path)] == [(False, 30, 145)]
    write(month, 3, "cats", 1)
    assert [(p.written, p.files, p.rows) for p in pack(month, tmp_path)] == [(True, 30, 141)]
    assert list((tmp_path / "scratch").iterdir()) == []


def test_the_running_month_and_small_months_are_not_packed(filled: ObjectStore, tmp_path: Path) -> None:
    assert pack(filled, tmp_path) == []
    assert list(pack_months(filled, FINDS, before="2026-01", scratch=tmp_path)) == []


def test_a_month_with_an_unreadable_file_says_which_and_stays_unpacked(
    month: ObjectStore, tmp_path: Path
) -> None:
    month.put(table_key("finds", "2026-01-05|cats"), b"not parquet")
    (packed,) = pack(month, tmp_path)
    assert not packed.written
    assert "2026-01-05/cats.parquet" in packed.problem


def test_packs_on_a_bucket_are_read_by_ranges(
    bucket: BucketUnderTest, proxy: FaultyProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = bucket.store(endpoint=proxy.url)
    for day in range(1, 22):
        write(store, day, "cats", 2)
    assert pack(store, tmp_path)[0].written
    proxy.requests.clear()
    with Lake.over(store, CONTRACTS) as lake:
        assert lake.rows("select sum(views) as views from finds") == [{"views": 21}]
    read = [request.path for request in proxy.requests if ".parquet" in request.path]
    assert read
    assert all("packs/finds" in path for path in read)
