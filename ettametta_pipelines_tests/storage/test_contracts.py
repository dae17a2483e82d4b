"""What a contract lets through, what it refuses, and that nothing is bent on the way."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from ettametta_pipelines.storage.contracts import Column, ContractViolation, TableContract

EVERYTHING = TableContract(
    "everything",
    "One nullable column of each type.",
    (
        Column("id", "string", "the key"),
        Column("text", "string", "", True),
        Column("count", "int64", "", True),
        Column("ratio", "float64", "", True),
        Column("flag", "bool", "", True),
        Column("seen_at", "timestamp", "", True),
        Column("day", "date", "", True),
        Column("tags", "string_list", "", True),
    ),
    ("id",),
)
NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
FULL: dict[str, Any] = {
    "id": "a",
    "text": "ü 🎬",
    "count": 2**60 + 1,
    "ratio": 1.5,
    "flag": True,
    "seen_at": NOON,
    "day": date(2026, 11, 22),
    "tags": ["x", "y"],
}
EMPTY: dict[str, Any] = {"id": "b", **{name: None for name in FULL if name != "id"}}


def by_rows(**values: Any) -> pd.DataFrame:
    return EVERYTHING.frame([{"id": "a", **values}])


def by_objects(**values: Any) -> pd.DataFrame:
    """The same values in object columns, as frames built by hand have them."""
    row = {**EMPTY, "id": "a", **values}
    frame = pd.DataFrame({name: pd.Series([None], dtype=object) for name in row})
    for name, value in row.items():
        frame[name] = pd.Series([value], dtype=object)
    return EVERYTHING.to_pandas(EVERYTHING.to_arrow(frame))


@pytest.fixture(params=[by_rows, by_objects])
def build(request: pytest.FixtureRequest) -> Callable[..., pd.DataFrame]:
    return request.param


def test_rows_come_back_as_they_went_in() -> None:
    frame = EVERYTHING.frame([FULL, {"id": "b"}])
    assert EVERYTHING.rows(frame) == [FULL, EMPTY]
    assert list(frame.columns) == [c.name for c in EVERYTHING.columns]


def test_the_types_are_the_same_whether_full_empty_or_all_null() -> None:
    full = EVERYTHING.frame([FULL])
    assert {name: str(kind) for name, kind in full.dtypes.items()} == {
        "id": "str",
        "text": "str",
        "count": "Int64",
        "ratio": "float64",
        "flag": "boolean",
        "seen_at": "datetime64[us, UTC]",
        "day": "object",
        "tags": "object",
    }
    for frame in (EVERYTHING.empty(), EVERYTHING.frame([{"id": "b"}])):
        assert frame.dtypes.equals(full.dtypes)
    assert len(EVERYTHING.empty()) == 0


def test_a_frame_survives_arrow_and_back() -> None:
    frame = EVERYTHING.frame([FULL, EMPTY])
    pd.testing.assert_frame_equal(EVERYTHING.to_pandas(EVERYTHING.to_arrow(frame)), frame)
    pd.testing.assert_frame_equal(EVERYTHING.frame(frame.to_dict("records")), frame)


def test_large_integers_beside_empty_values_are_not_rounded() -> None:
    frame = EVERYTHING.frame([FULL, EMPTY])
    assert int(frame["count"].iloc[0]) == 2**60 + 1
    assert int(frame["count"].sum()) == 2**60 + 1


@pytest.mark.parametrize("null", [None, float("nan"), pd.NA, pd.NaT, np.float64("nan")])
@pytest.mark.parametrize("column", [c.name for c in EVERYTHING.columns if c.nullable])
def test_every_kind_of_null_is_null(build: Callable[..., pd.DataFrame], column: str, null: Any) -> None:
    assert EVERYTHING.rows(build(**{column: null})) == [{**EMPTY, "id": "a"}]


@pytest.mark.parametrize(
    ("column", "value", "stored"),
    [
        ("seen_at", datetime(2026, 11, 22, 13, tzinfo=ZoneInfo("Europe/Berlin")), NOON),
        ("seen_at", pd.Timestamp("2026-11-22T12:00", tz="UTC"), NOON),
        ("count", 3.0, 3),
        ("count", np.int32(3), 3),
        ("ratio", 3, 3.0),
        ("ratio", np.float32(1.5), 1.5),
        ("flag", np.bool_(False), False),
        ("tags", ("a",), ["a"]),
        ("tags", np.array(["a", "b"], dtype=object), ["a", "b"]),
        ("tags", [], []),
        ("text", "", ""),
        ("text", "a\x00b", "a\x00b"),
    ],
)
def test_values_that_mean_the_same_are_taken(
    build: Callable[..., pd.DataFrame], column: str, value: Any, stored: Any
) -> None:
    assert EVERYTHING.rows(build(**{column: value}))[0][column] == stored


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("count", 1.5), ("count", "3"), ("count", True), ("count", Decimal("4.5")), ("count", 2**63),
        ("ratio", "1.5"), ("ratio", True), ("ratio", Decimal("1.5")), ("ratio", 2**60 + 1),
        ("flag", 1), ("flag", "true"),
        ("seen_at", NOON.replace(tzinfo=None)), ("seen_at", pd.Timestamp("2026-11-22")), ("seen_at", "2026-11-22"),
        ("seen_at", date(2026, 11, 22)), ("seen_at", 1735689600),
        ("day", NOON), ("day", pd.Timestamp("2026-11-22")), ("day", "2026-11-22"), ("day", 3),
        ("text", 1), ("text", b"x"), ("text", ["x"]), ("text", "\ud800"),
        ("tags", "abc"), ("tags", [1]), ("tags", ["a", None]), ("tags", {"a"}),
    ],
)  # fmt: skip
def test_values_that_would_have_to_be_bent_are_refused(
    build: Callable[..., pd.DataFrame], column: str, value: Any
) -> None:
    with pytest.raises(ContractViolation) as caught:
        build(**{column: value})
    assert caught.value.code == "table_contract_violation"
    assert f"column {column}" in caught.value.message
    assert "everything" in caught.value.message


def typed(column: str, values: Any) -> pd.DataFrame:
    frame = EVERYTHING.frame([FULL, {**FULL, "id": "b"}])
    frame[column] = values
    return frame


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("count", pd.Series([1.0, None])),
        ("count", pd.Series([1, 2], dtype="int32")),
        ("count", pd.Series([None, None], dtype="float64")),
        ("ratio", pd.Series([1, 2])),
        ("flag", pd.Series([True, False])),
        ("seen_at", pd.Series(pd.to_datetime(["2026-01-01", None])).dt.tz_localize("Europe/Berlin")),
        ("day", pd.Series(pd.to_datetime(["2026-01-01", None]))),
        ("text", pd.Series(["a", None], dtype="string[pyarrow]")),
        ("text", pd.Series([None, None], dtype="float64")),
        ("tags", pd.Series([["a"], None], dtype=pd.ArrowDtype(pa.list_(pa.string())))),
    ],
)
def test_typed_columns_that_fit_are_taken(column: str, values: pd.Series) -> None:
    back = EVERYTHING.to_pandas(EVERYTHING.to_arrow(typed(column, values)))
    assert back.dtypes.equals(EVERYTHING.empty().dtypes)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("count", pd.Series([1.5, 2.0])),
        ("count", pd.Series(["1", "2"])),
        ("count", pd.Series([True, False])),
        ("count", pd.Series([2**63, 1], dtype="uint64")),
        ("ratio", pd.Series([2**60 + 1, 1])),
        ("flag", pd.Series([0, 1])),
        ("seen_at", pd.Series(pd.to_datetime(["2026-01-01", "2026-01-02"]))),
        ("seen_at", pd.Series([1, 2])),
        ("day", pd.Series(pd.to_datetime(["2026-01-01 12:00", "2026-01-02 00:00"]))),
        ("text", pd.Series([1, 2])),
        ("text", pd.Series(["a", "b"], dtype="category")),
        ("tags", pd.Series(["a", "b"])),
    ],
)
def test_typed_columns_that_do_not_fit_are_refused(column: str, values: pd.Series) -> None:
    with pytest.raises(ContractViolation, match=f"column {column}"):
        EVERYTHING.to_arrow(typed(column, values))


def test_a_frame_of_no_rows_needs_no_types() -> None:
    names = [c.name for c in EVERYTHING.columns]
    for frame in (pd.DataFrame(columns=names), pd.DataFrame({n: pd.Series(dtype="float64") for n in names})):
        assert EVERYTHING.to_arrow(frame).num_rows == 0


def test_the_index_of_a_filtered_frame_does_not_matter() -> None:
    frame = EVERYTHING.frame([FULL, {**FULL, "id": "b"}, {**FULL, "id": "c"}])
    kept = frame[frame["id"] != "b"].sort_values("id", ascending=False)
    assert [row["id"] for row in EVERYTHING.rows(kept)] == ["c", "a"]


def test_missing_unexpected_and_repeated_columns_are_named() -> None:
    frame = EVERYTHING.frame([FULL])
    with pytest.raises(
        ContractViolation, match=r"missing columns \['text'\], unexpected columns \['views'\]"
    ):
        EVERYTHING.to_arrow(frame.rename(columns={"text": "views"}))
    with pytest.raises(ContractViolation, match=r"repeated columns \['day'\]"):
        EVERYTHING.to_arrow(pd.concat([frame, frame[["day"]]], axis=1))
    with pytest.raises(ContractViolation, match=r"unexpected columns \['views'\]"):
        EVERYTHING.frame([{"id": "a", "views": 1}])


def test_an_absent_value_in_a_column_that_may_not_be_empty_is_refused() -> None:
    with pytest.raises(ContractViolation, match="column id has 1 empty values"):
        EVERYTHING.frame([{"text": "x"}])


def test_the_key_is_unique_and_never_empty() -> None:
    contract = TableContract(
        "pairs", "", (Column("a", "string", ""), Column("b", "int64", "", True)), ("a", "b")
    )
    assert len(contract.frame([{"a": "x", "b": 1}, {"a": "x", "b": 2}])) == 2
    with pytest.raises(ContractViolation, match=r"not unique, for example \{'a': 'x', 'b': 1\}"):
        contract.frame([{"a": "x", "b": 1}, {"a": "x", "b": 1}])
    with pytest.raises(ContractViolation, match="column b has 1 empty values"):
        contract.frame([{"a": "x", "b": None}])


@pytest.mark.parametrize(
    ("name", "columns", "key"),
    [
        ("Bad Name", ("a",), ("a",)),
        ("t", ("a", "a"), ("a",)),
        ("t", ("a",), ("b",)),
        ("t", ("a b",), ()),
    ],
)
def test_a_contract_that_contradicts_itself_cannot_be_declared(
    name: str, columns: tuple[str, ...], key: tuple[str, ...]
) -> None:
    with pytest.raises(ContractViolation):
        TableContract(name, "", tuple(Column(c, "string", "") for c in columns), key)


def test_an_older_file_gets_new_nullable_columns_as_null() -> None:
    old = EVERYTHING.to_arrow(EVERYTHING.frame([FULL])).drop(["tags", "count"])
    back = EVERYTHING.conform(old, source="file")
    assert EVERYTHING.rows(EVERYTHING.to_pandas(back)) == [{**FULL, "tags": None, "count": None}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t: t.drop(["id"]), r"missing columns \['id'\]"),
        (lambda t: t.append_column("old", pa.array(["x"])), r"unexpected columns \['old'\]"),
        (lambda t: t.set_column(2, "count", pa.array([1.0])), "count is double, not int64"),
        (lambda t: t.set_column(5, "seen_at", pa.array([NOON.replace(tzinfo=None)])), "seen_at is timestamp"),
        (lambda t: t.set_column(0, "id", pa.nulls(1, pa.string())), r"empty values in \['id'\]"),
    ],
)
def test_a_file_that_differs_otherwise_is_refused_by_name(
    change: Callable[[pa.Table], pa.Table], said: str
) -> None:
    stored = change(EVERYTHING.to_arrow(EVERYTHING.frame([FULL])))
    with pytest.raises(ContractViolation, match=said) as caught:
        EVERYTHING.conform(stored, source="s3://bucket/tables/everything/2026-11-22.parquet")
    assert "s3://bucket/tables/everything/2026-11-22.parquet" in caught.value.message


def test_columns_in_another_order_are_put_right() -> None:
    table = EVERYTHING.to_arrow(EVERYTHING.frame([FULL]))
    shuffled = table.select(list(reversed(table.column_names)))
    assert EVERYTHING.conform(shuffled, source="file").equals(table)
