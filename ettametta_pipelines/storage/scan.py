"""One stored table as DuckDB scans it: only the columns a query names, only the partitions its conditions allow.

DuckDB hands conditions and columns to an Arrow source (`duckdb._sources`, the adapter of the pinned version; a test
says when it has moved). Conditions on the contract's `partitioned_by` columns are decided by the files' keys alone,
other simple ones by the rows as they are read, the rest by DuckDB. Files come through the object store; months that
are packed come from their pack, row for row as far as the pack is up to date. Called by `lake.py`.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from duckdb._sources.arrow import ArrowScanSource
from duckdb._sources.nodes import Col, Node, Untranslatable
from duckdb._sources.to_arrow import to_arrow

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.storage.addressing import ObjectInfo
from ettametta_pipelines.storage.contracts import ContractViolation, TableContract
from ettametta_pipelines.storage.objects import ObjectMissing, ObjectStore
from ettametta_pipelines.storage.packs import PACKS_PREFIX, Source, month_of, pack_key, read_manifest
from ettametta_pipelines.storage.parquet import (
    SUFFIX,
    TABLES_PREFIX,
    partition_of,
    read_columns,
    read_file,
    readable,
)

# Over a network readers wait; on a disk each beyond the processors only holds memory.
REMOTE_READERS = 8
# Pieces read ahead by each reader: with one, DuckDB waits for the reader after every piece.
AHEAD = 2
# A query over fewer files does not ask for packs.
FEW_FILES = 8
# Smaller objects are read whole, in one request.
WHOLE_BYTES = 4 << 20

_PLACE = "place in the listing"

Piece = Callable[[], pa.Table | None]


def usable_processors() -> int:
    """Processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class StoredTable(ArrowScanSource):
    """A table by its contract. Scans list the store anew, unless pinned, so what was written meanwhile is seen.

    A file of another schema is refused whatever columns are asked for; empty values in a required column only
    where that column is read.
    """

    def __init__(self, store: ObjectStore, contract: TableContract) -> None:
        super().__init__(self)
        self._store = store
        self._contract = contract
        self._schema = _scanned_schema(contract)
        self._failure: Exception | None = None
        self._pinned = False
        self._listed: _Listing | None = None

    def pin(self, pinned: bool) -> None:
        """While pinned, every scan sees the files that the first one found."""
        self._pinned = pinned
        self._listed = None

    def take_failure(self) -> Exception | None:
        """What went wrong in the last scan; DuckDB itself passes on only its text."""
        failure, self._failure = self._failure, None
        return failure

    def __arrow_c_schema__(self) -> object:
        return self._schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        # What makes DuckDB take the object for an Arrow one; it scans by `stream`.
        return self.stream(None, [])[0]

    def accepts(self, predicate: Node) -> bool:
        """Every condition that pyarrow evaluates exactly as DuckDB would."""
        try:
            to_arrow(predicate, self._contract.arrow_schema())
        except Untranslatable:
            return False
        return True

    def stream(self, columns: Sequence[int] | None, filters: Sequence[Node]) -> tuple[object, bool]:
        names = self._schema.names if columns is None else [self._schema.names[i] for i in columns]
        schema = pa.schema([self._schema.field(name) for name in names], metadata=self._schema.metadata)
        batches = self._batches(_Request.of(names, filters, self._contract))
        return pa.RecordBatchReader.from_batches(schema, batches).__arrow_c_stream__(), columns is not None

    def _batches(self, request: "_Request") -> Iterator[pa.RecordBatch]:
        waiting: deque[Future[pa.Table | None]] = deque()
        readers = usable_processors() if self._store.is_local else REMOTE_READERS
        with ExitStack() as open_files, ThreadPoolExecutor(readers) as pool:
            try:
                for piece in self._pieces(request, open_files):
                    waiting.append(pool.submit(request.answer, piece))
                    if len(waiting) > AHEAD * readers and (table := waiting.popleft().result()) is not None:
                        yield from table.to_batches()
                while waiting:
                    if (table := waiting.popleft().result()) is not None:
                        yield from table.to_batches()
            except Exception as error:
                self._failure = error
                raise
            finally:
                for future in waiting:
                    future.cancel()

    def _pieces(self, request: "_Request", open_files: ExitStack) -> Iterator[Piece]:
        """What is to be read, piece by piece: row groups of packs and large files, small files whole."""
        if self._listed is None:
            listed = _Listing(self._store, self._contract)
            self._listed = listed if self._pinned else None
        else:
            listed = self._listed
        files = listed.fulfilling(request.partition_conditions)
        if len(files) > FEW_FILES:
            yield from self._packed_pieces(files, request.read, open_files)
        for info in files.values():
            if info.size <= WHOLE_BYTES:
                yield partial(self._whole, info.key, request.read)
                continue
            try:
                file = _OpenFile(self._store, self._contract, info.key, open_files)
            except ObjectMissing:
                continue
            for group in range(file.groups):
                yield partial(file.read, group, request.read)

    def _packed_pieces(
        self, files: dict[str, ObjectInfo], names: Sequence[str], open_files: ExitStack
    ) -> Iterator[Piece]:
        """Row groups of the packs that hold any of the files; those files are taken out of `files`."""
        table = self._contract.name
        wanted = {pack_key(table, month_of(table, key)) for key in files}
        for info in self._store.list(f"{PACKS_PREFIX}/{table}"):
            if info.key not in wanted:
                continue
            try:
                pack = _OpenFile(self._store, self._contract, info.key, open_files)
                manifest = read_manifest(pack.footer)
            except (ObjectMissing, ContractViolation, PermanentError):
                # From before the contract changed, or damaged: the files themselves are there.
                continue
            for group, sources in enumerate(manifest):
                current = [s.key in files and files[s.key].etag == s.etag for s in sources]
                if any(current):
                    yield partial(_current_rows, pack, group, names, sources, current)
                for source, is_current in zip(sources, current, strict=True):
                    if is_current:
                        del files[source.key]

    def _whole(self, key: str, names: Sequence[str]) -> pa.Table | None:
        try:
            table = read_file(self._store, self._contract, key, columns=names)
            return table.cast(pa.schema([self._schema.field(name) for name in names]))
        except ObjectMissing:
            # Removed since it was listed.
            return None


@dataclass(frozen=True)
class _Request:
    """What a scan is asked for: `columns` of the rows that fulfil all conditions.

    `partition_conditions` are decided by a file's key, `row_conditions` by its rows; `read` are the columns both
    need from a file.
    """

    columns: Sequence[str]
    read: Sequence[str]
    partition_conditions: Sequence[Any]
    row_conditions: Sequence[Any]

    @classmethod
    def of(cls, columns: Sequence[str], filters: Sequence[Node], contract: TableContract) -> "_Request":
        schema = contract.arrow_schema()
        needs = [(columns_of(node), to_arrow(node, schema)) for node in filters]
        by_partition = set(contract.partitioned_by)
        of_rows = [(names, condition) for names, condition in needs if not names <= by_partition]
        also = {name for names, _ in of_rows for name in names}.difference(columns)
        return cls(
            columns,
            [*columns, *sorted(also)],
            [condition for names, condition in needs if names <= by_partition],
            [condition for _, condition in of_rows],
        )

    def answer(self, piece: Piece) -> pa.Table | None:
        if (table := piece()) is None:
            return None
        for condition in self.row_conditions:
            table = table.filter(condition)
        return table.select(self.columns)


class _Listing:
    """The files a table had at one moment, and the partitions they hold."""

    def __init__(self, store: ObjectStore, contract: TableContract) -> None:
        self._contract = contract
        folder = f"{TABLES_PREFIX}/{contract.name}"
        self._files = [info for info in store.list(folder) if info.key.endswith(SUFFIX)]

    def fulfilling(self, conditions: Sequence[Any]) -> dict[str, ObjectInfo]:
        """The files, by key, whose partitions fulfil the conditions."""
        if not conditions:
            return {info.key: info for info in self._files}
        partitions = self._partitions
        for condition in conditions:
            partitions = partitions.filter(condition)
        places = partitions[_PLACE].to_pylist()
        return {self._files[place].key: self._files[place] for place in places}

    @cached_property
    def _partitions(self) -> pa.Table:
        """One row per file: the values of the partition columns, and the file's place in the listing."""
        contract, schema = self._contract, self._contract.arrow_schema()
        values = [contract.partition_values(partition_of(contract.name, info.key)) for info in self._files]
        return pa.table(
            {
                name: pa.array([value[place] for value in values], schema.field(name).type)
                for place, name in enumerate(contract.partitioned_by)
            }
            | {_PLACE: pa.array(range(len(values)), pa.int64())}
        )


class _OpenFile:
    """A Parquet file too large to be read whole, in the state in which it was opened; closed with `open_files`."""

    def __init__(self, store: ObjectStore, contract: TableContract, key: str, open_files: ExitStack) -> None:
        self._contract = contract
        self._named = f"{store.url}/{key}"
        self._key, self._where = key, store.url
        self._snapshot = open_files.enter_context(store.snapshot(key))
        with readable(key, store.url):
            self.footer = self._open().metadata
            contract.check_stored(self.footer.schema.to_arrow_schema(), source=self._named)

    @property
    def groups(self) -> int:
        count: int = self.footer.num_row_groups
        return count

    def read(self, group: int, names: Sequence[str]) -> pa.Table:
        with readable(self._key, self._where):
            table = read_columns(self._open(self.footer), names, group)
        return self._contract.conform(table, source=self._named, columns=names)

    def _open(self, footer: pq.FileMetaData | None = None) -> pq.ParquetFile:
        # A file object of its own for every thread.
        return pq.ParquetFile(
            pa.PythonFile(self._snapshot.file(), mode="r"),
            metadata=footer,
            read_dictionary=_few_texts(self._contract),
        )


def _few_texts(contract: TableContract) -> list[str]:
    """Columns of few texts, those of the partition among them, which are the same in a whole file."""
    return [
        column.name
        for column in contract.columns
        if column.type == "string" and (column.few_values or column.name in contract.partitioned_by)
    ]


def _scanned_schema(contract: TableContract) -> pa.Schema:
    """The contract's schema as DuckDB gets it: a dictionary is grouped by and hashed without a text per row."""
    schema = contract.arrow_schema()
    for name in _few_texts(contract):
        at = schema.get_field_index(name)
        schema = schema.set(at, schema.field(at).with_type(pa.dictionary(pa.int32(), pa.string())))
    return schema


def _current_rows(
    pack: _OpenFile, group: int, names: Sequence[str], sources: Sequence[Source], current: Sequence[bool]
) -> pa.Table:
    table = pack.read(group, names)
    if all(current):
        return table
    ends = list(accumulate(source.rows for source in sources))
    return pa.concat_tables(
        [
            table.slice(end - source.rows, source.rows)
            for source, end, is_current in zip(sources, ends, current, strict=True)
            if is_current
        ]
    )


def columns_of(predicate: Node) -> set[str]:
    """Names of the columns a predicate reads."""
    if isinstance(predicate, Col):
        return {predicate.parts[0]}
    found: set[str] = set()
    for child in predicate._children():
        found |= columns_of(child)
    return found
