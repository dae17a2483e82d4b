"""Table contracts: the columns, types and key every stored table promises.

A room declares one `TableContract` per asset; the Parquet IO manager writes and checks it, the lake makes an
empty view from it before the first write, and the Dagster UI shows it as the column schema.
pyarrow and pandas are imported on use, so that declaring contracts costs nothing at definition time.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

from ettametta_pipelines.failures import PermanentError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

ColumnType = Literal["string", "int64", "float64", "bool", "timestamp", "date", "string_list"]

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


class ContractViolation(PermanentError):
    """A table does not have the columns, types, nulls or unique key its contract promises."""


@dataclass(frozen=True)
class Column:
    """`few_values`: the same texts in most rows, which scans then keep as a dictionary."""

    name: str
    type: ColumnType
    description: str
    nullable: bool = False
    few_values: bool = False


def plain_rows(frame: "pd.DataFrame") -> list[dict[str, Any]]:
    """Rows of a table an asset was handed, empty values as None."""
    rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
    return [{str(name): value for name, value in row.items()} for row in rows]


@dataclass(frozen=True)
class TableContract:
    """Promise of one table. `key` columns together are unique and never null within a partition.

    `partitioned_by` names the columns that hold the parts of the partition key, in its order: every row of the
    partition `2026-01-01|fitness` has that day and that niche. The lake skips files by them, and a run of several
    partitions divides its rows by them. Only date and string columns can be named; leave it empty for a table whose
    rows do not repeat their partition.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partitioned_by: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [c.name for c in self.columns]
        odd = [name for name in (self.name, *names) if not _NAME.match(name)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        strangers = [name for name in (*self.key, *self.partitioned_by) if name not in names]
        if odd or repeated or strangers:
            raise self._violation(
                f"names not in lower_snake_case {odd}, repeated columns {repeated}, "
                f"key columns that are not columns {strangers}"
            )
        types = {c.name: (c.type, c.nullable) for c in self.columns}
        unfit = [n for n in self.partitioned_by if types[n] not in (("string", False), ("date", False))]
        if unfit:
            raise self._violation(
                f"a partition cannot be told by {unfit}; only by required strings and dates"
            )

    def arrow_schema(self) -> "pa.Schema":
        """Arrow schema; timestamps are microseconds UTC, money columns are int64 minor units."""
        return self._arrow_schema

    @cached_property
    def _arrow_schema(self) -> "pa.Schema":
        import pyarrow as pa

        types: dict[ColumnType, pa.DataType] = {
            "string": pa.string(),
            "int64": pa.int64(),
            "float64": pa.float64(),
            "bool": pa.bool_(),
            "timestamp": pa.timestamp("us", tz="UTC"),
            "date": pa.date32(),
            "string_list": pa.list_(pa.string()),
        }
        return pa.schema(
            [
                pa.field(c.name, types[c.type], nullable=c.nullable, metadata={"description": c.description})
                for c in self.columns
            ],
            metadata={"table": self.name, "key": ",".join(self.key)},
        )

    def to_arrow(self, frame: "pd.DataFrame") -> "pa.Table":
        """Convert and check; raises ContractViolation naming the table, the column and what is wrong.

        Nothing is bent to fit: a fraction in an int64 column, a naive timestamp, a date with a time of day or a
        number in a string column is a violation. NaN, NaT, NA and None all mean null.
        """
        import pyarrow as pa

        wanted = [c.name for c in self.columns]
        found = [str(name) for name in frame.columns]
        missing = [name for name in wanted if name not in found]
        extra = [name for name in found if name not in wanted]
        if missing or extra or len(found) != len(wanted):
            repeated = sorted({name for name in found if found.count(name) > 1})
            raise self._violation(
                f"missing columns {missing}, unexpected columns {extra}, repeated columns {repeated}"
            )
        schema = self.arrow_schema()
        arrays = [
            self._fit(frame[column.name], column, field.type)
            for column, field in zip(self.columns, schema, strict=True)
        ]
        return self._checked(pa.Table.from_arrays(arrays, schema=schema))

    def checked(self, table: "pa.Table") -> "pa.Table":
        """A computed table in the contract's order and types; raises ContractViolation as `to_arrow` does."""
        import pyarrow as pa

        schema = self.arrow_schema()
        try:
            table = table.select(schema.names).cast(schema)
        except (pa.ArrowException, KeyError, ValueError) as error:
            raise self._violation(f"the computed columns do not fit: {error}") from error
        return self._checked(table)

    def to_pandas(self, table: "pa.Table") -> "pd.DataFrame":
        """Back to pandas without losing integers; see `arrow_to_pandas` for the types."""
        return arrow_to_pandas(table)

    def frame(self, rows: Iterable[Mapping[str, Any]]) -> "pd.DataFrame":
        """DataFrame of checked, typed rows (column order of the contract); absent nullable columns become null."""
        import pyarrow as pa

        rows = list(rows)
        names = {c.name for c in self.columns}
        unknown = sorted({str(name) for row in rows for name in row if name not in names})
        if unknown:
            raise self._violation(f"unexpected columns {unknown}")
        schema = self.arrow_schema()
        arrays = [
            self._fit([row.get(column.name) for row in rows], column, field.type)
            for column, field in zip(self.columns, schema, strict=True)
        ]
        return self.to_pandas(self._checked(pa.Table.from_arrays(arrays, schema=schema)))

    def rows(self, frame: "pd.DataFrame") -> list[dict[str, Any]]:
        """Checked rows as plain Python: None for null, int, float, bool, str, date, aware datetime, list.

        Meant for domain code: straight from pandas, an empty string cell is NaN and a list a NumPy array.
        """
        rows: list[dict[str, Any]] = self.to_arrow(frame).to_pylist()
        return rows

    def empty(self) -> "pd.DataFrame":
        """No rows, every column with its type."""
        return self.frame([])

    @cached_property
    def _partitioned_by_date(self) -> tuple[bool, ...]:
        kinds = {c.name: c.type for c in self.columns}
        return tuple(kinds[name] == "date" for name in self.partitioned_by)

    def partition_values(self, partition: str) -> tuple[Any, ...]:
        """Values of the `partitioned_by` columns in a partition: `2026-01-01|fitness` -> (date, "fitness").

        Raises ContractViolation for a partition that cannot be one of this table.
        """
        parts = partition.split("|")
        try:
            return tuple(
                [
                    date.fromisoformat(part) if is_date else part
                    for is_date, part in zip(self._partitioned_by_date, parts, strict=True)
                ]
            )
        except ValueError:
            raise self._violation(
                f"{partition!r} is no partition of a table kept by {' and '.join(self.partitioned_by)}"
            ) from None

    def check_stored(self, schema: "pa.Schema", *, source: str) -> None:
        """Whether a file of this schema can be read as the contract has it now; `source` names it in errors.

        A file older than a nullable column is fine: the column reads as null. A required column that is not there
        cannot be made up, so the file is refused, as it is for unexpected columns and other types.
        """
        wanted = self.arrow_schema()
        if schema.equals(wanted):
            return
        stored = set(schema.names)
        absent = [c.name for c in self.columns if c.name not in stored and not c.nullable]
        extra = sorted(stored.difference(wanted.names))
        retyped = [
            f"{field.name} is {schema.field(field.name).type}, not {field.type}"
            for field in wanted
            if field.name in stored and not schema.field(field.name).type.equals(field.type)
        ]
        if absent or extra or retyped:
            raise self._unfit_file(source, absent, extra, retyped, [])

    def conform(self, table: "pa.Table", *, source: str, columns: Sequence[str] | None = None) -> "pa.Table":
        """A stored table, or `columns` of it, as the contract has it now; `source` names the file in errors.

        Without `columns` the table must be a whole file (see `check_stored`); with them, the caller has checked
        the file's schema. A column that was read as a dictionary stays one. Nulls where none may be raise
        ContractViolation.
        """
        import pyarrow as pa

        if columns is None:
            self.check_stored(table.schema, source=source)
        schema = self.arrow_schema()
        fields = [schema.field(name) for name in (schema.names if columns is None else columns)]
        stored = set(table.column_names)
        fields = [
            field.with_type(table.schema.field(field.name).type)
            if field.name in stored and pa.types.is_dictionary(table.schema.field(field.name).type)
            else field
            for field in fields
        ]
        empty = [
            field.name
            for field in fields
            if not field.nullable and field.name in stored and table[field.name].null_count
        ]
        if empty:
            raise self._unfit_file(source, [], [], [], empty)
        return pa.Table.from_arrays(
            [
                table[field.name] if field.name in stored else pa.nulls(table.num_rows, field.type)
                for field in fields
            ],
            schema=pa.schema(fields, metadata=schema.metadata),
        )

    def _unfit_file(
        self, source: str, absent: list[str], extra: list[str], retyped: list[str], empty: list[str]
    ) -> ContractViolation:
        return self._violation(
            f"{source} does not fit: missing columns {absent}, unexpected columns {extra}, "
            f"other types {retyped}, empty values in {empty}",
            remedy="Materialise that partition again with the current code, or migrate the file.",
        )

    def _fit(
        self, values: "pd.Series[Any] | Sequence[Any]", column: Column, kind: "pa.DataType"
    ) -> "pa.Array":
        """One column as `kind`, or ContractViolation. Every check here is one that pyarrow does not make."""
        import pandas as pd
        import pyarrow as pa

        try:
            if isinstance(values, pd.Series) and values.dtype != object:
                array = pa.array(values, from_pandas=True)
                if array.null_count == len(array):
                    return pa.nulls(len(array), kind)
                if not _stores_as(array, column.type):
                    raise self._violation(f"column {column.name} has {array.type} values, not {column.type}")
                array = array.cast(kind)
            else:
                fits = _FITS[column.type]
                stranger = next((v for v in values if not _is_null(v) and not fits(v)), None)
                if stranger is not None:
                    raise self._violation(
                        f"column {column.name} holds {stranger!r} ({type(stranger).__name__}), "
                        f"which is not {_WORDS[column.type]}"
                    )
                array = pa.array(values, type=kind, from_pandas=True)
        except (pa.ArrowException, ValueError, TypeError, OverflowError) as error:
            raise self._violation(f"column {column.name} does not fit {column.type}: {error}") from error
        return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array

    def _checked(self, table: "pa.Table") -> "pa.Table":
        """The table itself, once nulls and the unique key are as promised."""
        for column in self.columns:
            nulls = table[column.name].null_count
            if nulls and (not column.nullable or column.name in self.key):
                raise self._violation(f"column {column.name} has {nulls} empty values")
        if self.key and table.num_rows:
            keys = arrow_to_pandas(table.select(list(self.key)))
            repeated = keys.duplicated()
            if repeated.any():
                sample = keys.loc[repeated].iloc[0].to_dict()
                raise self._violation(f"key {self.key} is not unique, for example {sample}")
        return table

    def _violation(self, detail: str, remedy: str = "") -> ContractViolation:
        return ContractViolation(
            f"Table {self.name}: {detail}.",
            code="table_contract_violation",
            remedy=remedy
            or "Fix the asset that produced the rows, or change the contract together with its readers.",
        )


def arrow_to_pandas(table: "pa.Table") -> "pd.DataFrame":
    """The one way from Arrow to pandas: integers and booleans stay what they are beside empty values.

    Integers become nullable extension types (never float64, which would round money above 2**53), booleans
    `boolean`, strings `str`, timestamps `datetime64[us, UTC]`, dates `datetime.date` objects.
    """
    import pandas as pd
    import pyarrow as pa

    extension = {
        pa.int8(): pd.Int8Dtype(),
        pa.int16(): pd.Int16Dtype(),
        pa.int32(): pd.Int32Dtype(),
        pa.int64(): pd.Int64Dtype(),
        pa.uint8(): pd.UInt8Dtype(),
        pa.uint16(): pd.UInt16Dtype(),
        pa.uint32(): pd.UInt32Dtype(),
        pa.uint64(): pd.UInt64Dtype(),
        pa.bool_(): pd.BooleanDtype(),
    }
    frame: pd.DataFrame = table.to_pandas(types_mapper=extension.get)
    return frame


def _is_null(value: Any) -> bool:
    import pandas as pd

    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


def _is_whole(value: Any) -> bool:
    """Integers, and floats that are integers: pandas turns a nullable int column built by hand into float64."""
    if isinstance(value, float):
        return value.is_integer()
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    # Decimal is no Real: making it a float64 is a loss somebody has to decide on.
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_bool(value: Any) -> bool:
    import numpy as np

    return isinstance(value, bool | np.bool_)


def _is_string_list(value: Any) -> bool:
    import numpy as np

    return isinstance(value, list | tuple | np.ndarray) and all(isinstance(item, str) for item in value)


# pyarrow alone would read 1.5 as 1 into int64, "abc" as ["a", "b", "c"], a naive time as UTC, and drop the
# time of day of a datetime put into a date column.
_FITS: dict[ColumnType, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "int64": _is_whole,
    "float64": _is_number,
    "bool": _is_bool,
    "timestamp": lambda value: isinstance(value, datetime) and value.utcoffset() is not None,
    "date": lambda value: isinstance(value, date) and not isinstance(value, datetime),
    "string_list": _is_string_list,
}
_WORDS: dict[ColumnType, str] = {
    "string": "a string",
    "int64": "a whole number",
    "float64": "a number",
    "bool": "true or false",
    "timestamp": "a timestamp with its time zone",
    "date": "a calendar day without a time of day",
    "string_list": "a list of strings",
}


def _stores_as(array: "pa.Array", kind: ColumnType) -> bool:
    """Whether a typed pandas column may be cast to this column type; the cast itself refuses lossy numbers."""
    import pyarrow.types as t

    type_ = array.type
    if kind == "string":
        return bool(t.is_string(type_) or t.is_large_string(type_))
    if kind in ("int64", "float64"):
        return bool(t.is_integer(type_) or t.is_floating(type_))
    if kind == "bool":
        return bool(t.is_boolean(type_))
    if kind == "timestamp":
        return bool(t.is_timestamp(type_) and type_.tz is not None)
    if kind == "date":
        import pyarrow as pa

        midnights = (
            t.is_timestamp(type_) and type_.tz is None and array.cast(pa.date32()).cast(type_).equals(array)
        )
        return bool(t.is_date(type_) or midnights)
    return bool(t.is_list(type_) or t.is_large_list(type_))
