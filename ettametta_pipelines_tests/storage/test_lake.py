"""SQL over the tables, on both stores; and everything the lake must not do."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

import ettametta_pipelines
from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.contracts import Column, ContractViolation, TableContract
from ettametta_pipelines.storage.lake import Lake, open_lake
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.tables import write_table
from ettametta_pipelines_tests.storage.conftest import BucketUnderTest, FaultyProxy

REVENUE = TableContract(
    "daily_revenue",
    "Money by day.",
    (
        Column("day", "date", ""),
        Column("source", "string", ""),
        Column("net_minor", "int64", ""),
        Column("fee_minor", "int64", "", True),
        Column("booked_at", "timestamp", "", True),
        Column("final", "bool", "", True),
        Column("tags", "string_list", "", True),
    ),
    ("day", "source"),
)
NOTES = TableContract("notes", "Never written here.", REVENUE.columns, ("day",))
CONTRACTS = {c.name: c for c in (REVENUE, NOTES)}
BOOKED = datetime(2026, 1, 1, 23, 30, tzinfo=UTC)


def day_rows(day: int, *amounts: int) -> pd.DataFrame:
    return REVENUE.frame(
        {
            "day": date(2026, 1, day),
            "source": f"source {n}",
            "net_minor": amount,
            "booked_at": BOOKED,
            "final": True,
            "tags": ["a", "b"],
        }
        for n, amount in enumerate(amounts)
    )


@pytest.fixture
def lake(store: ObjectStore) -> Iterator[Lake]:
    write_table(store, REVENUE, day_rows(1, 2**60 + 1, 5), "2026-01-01")
    write_table(store, REVENUE, day_rows(2, 7), "2026-01-02|cats")
    with Lake.over(store, CONTRACTS) as lake:
        yield lake


@pytest.fixture
def local_lake(directory_store: ObjectStore) -> Iterator[Lake]:
    write_table(directory_store, REVENUE, day_rows(1, 5), "2026-01-01")
    with Lake.over(directory_store, CONTRACTS) as lake:
        yield lake


def test_a_view_shows_every_partition_with_the_contracts_types(lake: Lake) -> None:
    frame = lake.query("select * from daily_revenue order by day, source")
    pd.testing.assert_frame_equal(
        frame, pd.concat([day_rows(1, 2**60 + 1, 5), day_rows(2, 7)], ignore_index=True)
    )


def test_a_table_nobody_wrote_is_an_empty_view_of_its_types(lake: Lake) -> None:
    pd.testing.assert_frame_equal(lake.query("select * from notes"), NOTES.empty())
    described = lake.query("describe notes").set_index("column_name")["column_type"].to_dict()
    assert described == {
        "day": "DATE",
        "source": "VARCHAR",
        "net_minor": "BIGINT",
        "fee_minor": "BIGINT",
        "booked_at": "TIMESTAMP WITH TIME ZONE",
        "final": "BOOLEAN",
        "tags": "VARCHAR[]",
    }


def test_money_is_summed_exactly_and_stays_an_integer(lake: Lake) -> None:
    frame = lake.query(
        "select sum(net_minor) as net, sum(fee_minor) as fee from daily_revenue where day < '2026-01-02'"
    )
    assert str(frame["net"].dtype) == "Int64"
    assert int(frame["net"].iloc[0]) == 2**60 + 6
    assert pd.isna(frame["fee"].iloc[0])


def test_a_sum_beyond_64_bits_is_still_exact(local_lake: Lake) -> None:
    frame = local_lake.query("select sum(x) as s from (values (9223372036854775807), (1)) as t(x)")
    assert int(frame["s"].iloc[0]) == 2**63


def test_times_are_utc_wherever_the_machine_is(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    write_table(store, REVENUE, day_rows(1, 5), "2026-01-01")
    with Lake.over(store, CONTRACTS) as lake:
        frame = lake.query(
            "select booked_at, booked_at::date as d, booked_at::varchar as t from daily_revenue"
        )
    assert frame["booked_at"].iloc[0] == BOOKED
    assert frame["d"].iloc[0] == date(2026, 1, 1)
    assert frame["t"].iloc[0] == "2026-01-01 23:30:00+00"


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("select net_minor from daily_revenue where day = ? and source = ?", [date(2026, 1, 2), "source 0"]),
        ("select net_minor from daily_revenue where day = $day and source = $source",
         {"day": date(2026, 1, 2), "source": "source 0"}),
        ("select net_minor from daily_revenue where day = ?::date and source = ?", ("2026-01-02", "source 0")),
    ],
)  # fmt: skip
def test_parameters_go_by_place_or_by_name(lake: Lake, sql: str, parameters: Any) -> None:
    assert list(lake.query(sql, parameters)["net_minor"]) == [7]


def test_a_parameter_is_a_value_and_never_sql(lake: Lake) -> None:
    frame = lake.query(
        "select count(*) as n from daily_revenue where source = ?", ["' or 1=1; drop table x --"]
    )
    assert frame["n"].iloc[0] == 0


def test_tables_can_be_joined_with_themselves_and_others(lake: Lake) -> None:
    frame = lake.query(
        "select count(*) as n from daily_revenue a join daily_revenue b using (day) left join notes c using (day)"
    )
    assert frame["n"].iloc[0] == 5


def test_a_partition_written_while_the_lake_is_open_is_seen(lake: Lake, store: ObjectStore) -> None:
    count = "select count(*) as n from daily_revenue"
    assert lake.query(count)["n"].iloc[0] == 3
    write_table(store, REVENUE, day_rows(1, *range(5000)), "2026-01-01")
    write_table(store, REVENUE, day_rows(3, 1), "2026-01-03")
    assert lake.query(count)["n"].iloc[0] == 5002


def test_many_partitions_are_read_and_a_limit_stops_early(directory_store: ObjectStore) -> None:
    for number in range(60):
        write_table(directory_store, REVENUE, day_rows(1, number), f"2026-01-01|n{number:02}")
    with Lake.over(directory_store, CONTRACTS) as lake:
        assert sorted(lake.query("select net_minor from daily_revenue")["net_minor"]) == list(range(60))
        assert len(lake.query("select * from daily_revenue limit 1")) == 1


def test_other_objects_beside_the_tables_are_left_alone(lake: Lake, store: ObjectStore) -> None:
    store.put("tables/daily_revenue/README.txt", b"hello")
    store.put("tables/daily_revenue_old/all.parquet", b"not parquet")
    assert lake.query("select count(*) as n from daily_revenue")["n"].iloc[0] == 3


def test_an_older_schema_shows_new_columns_as_null(store: ObjectStore) -> None:
    old = TableContract("daily_revenue", "", REVENUE.columns[:3], ("day", "source"))
    write_table(store, old, old.frame([{"day": date(2026, 1, 1), "source": "x", "net_minor": 1}]), None)
    with Lake.over(store, CONTRACTS) as lake:
        assert lake.query("select tags is null as t, net_minor from daily_revenue").to_dict("records") == [
            {"t": True, "net_minor": 1}
        ]


def test_a_file_that_breaks_the_contract_is_named_not_hidden(lake: Lake, store: ObjectStore) -> None:
    store.put("tables/daily_revenue/2026-01-09.parquet", b"not parquet")
    with pytest.raises(PermanentError, match=r"tables/daily_revenue/2026-01-09\.parquet") as caught:
        lake.query("select * from daily_revenue")
    assert caught.value.code == "corrupt_table"
    narrow = TableContract("daily_revenue", "", REVENUE.columns[:2], ("day",))
    write_table(store, narrow, narrow.frame([{"day": date(2026, 1, 9), "source": "x"}]), "2026-01-09")
    with pytest.raises(
        ContractViolation, match=r"2026-01-09\.parquet does not fit: missing columns \['net_minor'\]"
    ):
        lake.query("select * from daily_revenue")
    assert len(lake.query("select * from notes")) == 0


def test_a_store_without_access_is_said_to_be_so(bucket: BucketUnderTest, proxy: FaultyProxy) -> None:
    proxy.fault = lambda r: (403, b"<Error><Code>AccessDenied</Code></Error>")
    with Lake.over(bucket.store(endpoint=proxy.url), CONTRACTS) as lake, pytest.raises(NeedsPersonError):
        lake.query("select * from daily_revenue")


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("select nothing from daily_revenue", "nothing"),
        ("select * from no_such_table", "no_such_table"),
        ("selct 1", "syntax error"),
        ("select 1/0 as x, cast('a' as int)", "Could not convert"),
        ("select ? + 1", "parameter"),
        ("", "0 statements"),
        ("-- nothing", "0 statements"),
        ("select 1; select 2", "2 statements"),
    ],
)
def test_bad_sql_says_what_is_wrong_and_which_tables_there_are(local_lake: Lake, sql: str, said: str) -> None:
    with pytest.raises(PermanentError) as caught:
        local_lake.query(sql)
    assert caught.value.code == "bad_sql"
    assert said in caught.value.message
    assert caught.value.remedy.endswith("daily_revenue, notes.")


@pytest.mark.parametrize(
    "sql",
    ["from daily_revenue", "with t as (select 1 as x) select * from t", "values (1)", "show tables",
     "describe daily_revenue", "summarize daily_revenue", "table daily_revenue"],
)  # fmt: skip
def test_whatever_reads_is_a_select(local_lake: Lake, sql: str) -> None:
    assert len(local_lake.query(sql)) > 0


FORBIDDEN = (
    "select * from read_csv('/etc/passwd')",
    "select * from read_text('/etc/passwd')",
    "select * from read_blob('/etc/passwd')",
    "select * from read_json('/etc/passwd')",
    "select * from read_parquet('{here}/**/*.parquet')",
    "select * from parquet_metadata('{here}/x.parquet')",
    "select * from sniff_csv('/etc/passwd')",
    "select * from glob('/etc/*')",
    "select * from '/etc/passwd'",
    "select * from 'https://example.com/x.parquet'",
    "attach '{here}/x.db' as x",
    "copy (select 1) to '{here}/stolen.csv'",
    "copy daily_revenue to '{here}/stolen.parquet'",
    "export database '{here}/stolen'",
    "import database '{here}'",
    "install httpfs",
    "load httpfs",
    "load '{here}/evil.duckdb_extension'",
    "set enable_external_access = true",
    "reset enable_external_access",
    "set lock_configuration = false",
    "set global temp_directory = '{here}/spill'",
    "call enable_logging(storage_path = '{here}/log')",
)
NO_SELECT = (
    "create table t as select 1",
    "create view v as select 1",
    "insert into daily_revenue values (1)",
    "update daily_revenue set net_minor = 0",
    "delete from daily_revenue",
    "drop view daily_revenue",
    "pragma database_list",
    "explain analyze select 1",
    "prepare p as select 1",
    "checkpoint",
    "use memory",
    "create secret s (type s3, key_id 'a', secret 'b')",
    "create function f() as 1",
)


@pytest.mark.parametrize("sql", [*FORBIDDEN, *NO_SELECT])
def test_a_query_cannot_leave_the_tables_or_write(local_lake: Lake, tmp_path: Path, sql: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PermanentError) as caught:
        local_lake.query(sql.format(here=tmp_path))
    assert caught.value.code == "bad_sql"
    assert sorted(tmp_path.rglob("*")) == before
    assert local_lake.query("select count(*) as n from daily_revenue")["n"].iloc[0] == 1


@pytest.mark.parametrize("sql", FORBIDDEN)
def test_not_even_the_connection_itself_can_reach_outside(local_lake: Lake, tmp_path: Path, sql: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(duckdb.Error):
        local_lake.connection.execute(sql.format(here=tmp_path)).fetchall()
    assert sorted(tmp_path.rglob("*")) == before


def test_the_tables_files_are_out_of_reach_by_path(local_lake: Lake, directory_store: ObjectStore) -> None:
    path = directory_store.local_path("tables/daily_revenue/2026-01-01.parquet")
    with pytest.raises(PermanentError, match="disabled by configuration"):
        local_lake.query(f"select * from read_parquet('{path}')")


def test_python_variables_are_no_tables(local_lake: Lake) -> None:
    secret = pd.DataFrame({"a": [1]})
    with pytest.raises(PermanentError, match="secret"):
        local_lake.query("select * from secret")
    assert len(secret) == 1


def test_the_caller_can_add_a_frame_of_its_own(local_lake: Lake) -> None:
    local_lake.connection.register("rates", pd.DataFrame({"source": ["source 0"], "rate": [2]}))
    frame = local_lake.query("select net_minor * rate as x from daily_revenue join rates using (source)")
    assert list(frame["x"]) == [10]


def test_a_closed_lake_answers_no_more_and_may_be_closed_again(directory_store: ObjectStore) -> None:
    lake = Lake.over(directory_store, CONTRACTS)
    lake.close()
    lake.close()
    with pytest.raises(PermanentError, match="bad_sql"):
        lake.query("select 1")


def test_settings_open_the_lake_and_nothing_is_written_where_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with open_lake(Settings(_env_file=None, ETTAMETTA_HOME=tmp_path / "home"), CONTRACTS) as lake:
        assert len(lake.query("select * from daily_revenue order by random()")) == 0
    assert [p.name for p in tmp_path.iterdir()] == ["home"]


def test_declaring_and_describing_tables_loads_neither_stores_nor_drivers() -> None:
    script = (
        "import sys, ettametta_pipelines.storage.tables, ettametta_pipelines.storage.objects\n"
        "print([m for m in ('duckdb', 'obstore', 'boto3', 'pyarrow', 'pandas') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(ettametta_pipelines.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
