"""The lake: DuckDB, in memory, with one view per table contract over the Parquet files of the store.

DuckDB itself touches no file and no network: each view is an Arrow source (`scan.py`) that reads only the columns
and partitions a query needs, through the object store, and checks them against the contract. So the same code serves
a directory and S3 without DuckDB's extensions, a file replaced during a query is seen as old or new and never as a
mixture, and external access can be shut for good. Called by `ettametta sql`, trace, the demo, and assets that query
many tables.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.storage.contracts import TableContract, arrow_to_pandas
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines.storage.scan import StoredTable, usable_processors

if TYPE_CHECKING:
    import pandas as pd

    from ettametta_pipelines.settings import Settings

_FIXED_AT_START: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    # A Python variable that happens to be called like a table must not be one.
    "python_enable_replacements": "false",
    # Nothing is ever spilled to disk: the working directory is not ours to write to.
    "temp_directory": "",
}
_LOCKS = (
    "SET TimeZone = 'UTC'",
    "SET enable_progress_bar = false",
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


class Lake:
    """SQL over all tables; read-only. Not for use by two threads at once. Use as a context manager, or close it.

    `connection` is the DuckDB connection for what `query` does not cover, such as registering a DataFrame of the
    caller's as one more table. It is as locked as `query`: no files, no extensions, no settings.
    """

    def __init__(self, connection: "duckdb.DuckDBPyConnection", tables: "Mapping[str, StoredTable]") -> None:
        """Callers use `over` or `open_lake`."""
        self.connection = connection
        self._tables = tables
        self._closed = False
        self._is_unchanging = False

    @classmethod
    def over(cls, store: ObjectStore, contracts: Mapping[str, TableContract]) -> "Lake":
        """A view named after each contract; a table that nobody has written yet is an empty view of its type."""
        # Of Arrow's allocators the one that keeps freed pages: half the page faults of a long scan, less memory.
        if "jemalloc" in pa.supported_memory_backends():
            pa.set_memory_pool(pa.jemalloc_memory_pool())
        # By itself DuckDB counts the machine's processors, not those it may use.
        connection = duckdb.connect(":memory:", config=_FIXED_AT_START | {"threads": usable_processors()})
        tables = {contract.name: StoredTable(store, contract) for contract in contracts.values()}
        for name, table in tables.items():
            connection.register(name, table)
        for statement in _LOCKS:
            connection.execute(statement)
        return cls(connection, tables)

    def query(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> "pd.DataFrame":
        """The rows of one SELECT. `?` takes a sequence of parameters, `$name` a mapping.

        Integers stay integers, sums of integers too. Raises PermanentError `bad_sql` with DuckDB's message, or
        what reading a file raised, such as ContractViolation.
        """
        return arrow_to_pandas(self._table(sql, parameters))

    def rows(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """As `query`, as plain Python values: None for null, lists, dates, aware UTC datetimes."""
        rows: list[dict[str, Any]] = self._table(sql, parameters).to_pylist()
        return rows

    def arrow(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> pa.Table:
        """As `query`, as an Arrow table: what goes on into another query or a file needs no pandas between."""
        return self._table(sql, parameters)

    def _table(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None) -> pa.Table:
        self._require_one_select(sql)
        given = None if parameters is None else _plain(parameters)
        try:
            with self.unchanging():
                table = self.connection.sql(sql, params=given).to_arrow_table()
        except duckdb.Error as error:
            raise self._read_failure() or self._bad_sql(str(error)) from None
        return _whole_sums(table)

    @contextmanager
    def unchanging(self) -> Iterator[None]:
        """Every query inside sees the same files, those there were when a table was first looked at."""
        if self._is_unchanging:
            yield
            return
        self._pin(True)
        try:
            yield
        finally:
            self._pin(False)

    def _pin(self, pinned: bool) -> None:
        self._is_unchanging = pinned
        for table in self._tables.values():
            table.pin(pinned)

    def close(self) -> None:
        """Free the memory. May be repeated; queries afterwards fail."""
        if not self._closed:
            self._closed = True
            self.connection.close()

    def __enter__(self) -> "Lake":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _require_one_select(self, sql: str) -> None:
        try:
            statements = duckdb.extract_statements(sql)
        except duckdb.Error as error:
            raise self._bad_sql(str(error)) from None
        if len(statements) != 1:
            raise self._bad_sql(f"there are {len(statements)} statements; one SELECT is expected")
        kind = statements[0].type
        if kind != duckdb.StatementType.SELECT:
            raise self._bad_sql(f"{kind.name} is not allowed; the lake answers SELECT only")

    def _read_failure(self) -> Exception | None:
        """What went wrong while a table was read; DuckDB itself passes on only its text."""
        failures = [failure for table in self._tables.values() if (failure := table.take_failure())]
        return failures[0] if failures else None

    def _bad_sql(self, said: str) -> PermanentError:
        return PermanentError(
            f"The query failed: {said.strip()}",
            code="bad_sql",
            remedy=f"Use one SELECT over these tables: {', '.join(sorted(self._tables))}.",
        )


def open_lake(settings: "Settings", contracts: Mapping[str, TableContract]) -> Lake:
    """The lake over the store that `ETTAMETTA_STORE` names."""
    return Lake.over(open_store(settings), contracts)


def _plain(parameters: Sequence[Any] | Mapping[str, Any]) -> list[Any] | dict[str, Any]:
    return dict(parameters) if isinstance(parameters, Mapping) else list(parameters)


def _whole_sums(table: pa.Table) -> pa.Table:
    """DuckDB sums int64 into 128 bits, which arrive as decimals; those that fit become int64 again."""
    for index, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) and field.type.scale == 0:
            try:
                column = table.column(index).cast(pa.int64())
            except pa.ArrowInvalid:
                continue
            table = table.set_column(index, pa.field(field.name, pa.int64()), column)
    return table
