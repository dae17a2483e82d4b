"""One stored table as DuckDB scans it: only the columns a query names, only the partitions its conditions allow.

DuckDB hands conditions and columns to an Arrow source (`duckdb._sources`, the adapter of the pinned version; a test
says when it has moved). Conditions on the contract's `partitioned_by` columns are decided here by the files' keys,
all others by DuckDB. Files come through the object store; months that are packed come from their pack, row for row
as far as the pack is up to date. Called by `lake.py`.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
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
from ettametta_pipelines.storage.packs import PACKS_PREFIX, Source, read_manifest
from ettametta_pipelines.storage.parquet import (
    SUFFIX,
    TABLES_PREFIX,
    partition_of,
    read_columns,
    read_file,
    readable,
)

READ_AHEAD = 8
# Smaller objects are read whole, in one request.
WHOLE_BYTES = 4 << 20

_KEY = "the file's key"

Piece = Callable[[], pa.Table | None]


class StoredTable(ArrowScanSource):  # type: ignore[misc]
    """A table by its contract. Every scan lists the store anew, so what was written meanwhile is seen.

    A file of another schema is refused whatever columns are asked for; empty values in a required column only
    where that column is read.
    """

    def __init__(self, store: ObjectStore, contract: TableContract) -> None:
        super().__init__(self)
        self._store = store
        self._contract = contract
        self._schema = contract.arrow_schema()
        self._failure: Exception | None = None

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
        """Conditions on partition columns alone: a file's key decides them for all of its rows."""
        if not _columns_of(predicate) <= set(self._contract.partitioned_by):
            return False
        try:
            to_arrow(predicate, self._schema)
        except Untranslatable:
            return False
        return True

    def stream(self, columns: Sequence[int] | None, filters: Sequence[Node]) -> tuple[object, bool]:
        names = self._schema.names if columns is None else [self._schema.names[i] for i in columns]
        schema = pa.schema([self._schema.field(name) for name in names], metadata=self._schema.metadata)
        batches = self._batches(names, [to_arrow(node, self._schema) for node in filters])
        return pa.RecordBatchReader.from_batches(schema, batches).__arrow_c_stream__(), columns is not None

    def _batches(self, names: Sequence[str], conditions: Sequence[Any]) -> Iterator[pa.RecordBatch]:
        waiting: deque[Future[pa.Table | None]] = deque()
        with ExitStack() as open_files, ThreadPoolExecutor(READ_AHEAD) as pool:
            try:
                for piece in self._pieces(names, conditions, open_files):
                    waiting.append(pool.submit(piece))
                    if len(waiting) > READ_AHEAD and (table := waiting.popleft().result()) is not None:
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

    def _pieces(
        self, names: Sequence[str], conditions: Sequence[Any], open_files: ExitStack
    ) -> Iterator[Piece]:
        """What is to be read, piece by piece: row groups of packs and large files, small files whole."""
        folder = f"{TABLES_PREFIX}/{self._contract.name}"
        files = {info.key: info for info in self._store.list(folder) if info.key.endswith(SUFFIX)}
        if conditions:
            files = self._chosen(files, conditions)
        if len(files) > READ_AHEAD:
            yield from self._packed_pieces(files, names, open_files)
        for info in files.values():
            if info.size <= WHOLE_BYTES:
                yield partial(self._whole, info.key, names)
                continue
            try:
                file = _OpenFile(self._store, self._contract, info.key, open_files)
            except ObjectMissing:
                continue
            for group in range(file.groups):
                yield partial(file.read, group, names)

    def _packed_pieces(
        self, files: dict[str, ObjectInfo], names: Sequence[str], open_files: ExitStack
    ) -> Iterator[Piece]:
        """Row groups of the packs that hold any of the files; those files are taken out of `files`."""
        for info in self._store.list(f"{PACKS_PREFIX}/{self._contract.name}"):
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

    def _chosen(self, files: dict[str, ObjectInfo], conditions: Sequence[Any]) -> dict[str, ObjectInfo]:
        """The files whose partitions fulfil the conditions."""
        contract = self._contract
        values = [contract.partition_values(partition_of(contract.name, key)) for key in files]
        partitions = pa.table(
            {
                name: pa.array([value[place] for value in values], self._schema.field(name).type)
                for place, name in enumerate(contract.partitioned_by)
            }
            | {_KEY: pa.array(files, pa.string())}
        )
        for condition in conditions:
            partitions = partitions.filter(condition)
        return {key: files[key] for key in partitions[_KEY].to_pylist()}

    def _whole(self, key: str, names: Sequence[str]) -> pa.Table | None:
        try:
            return read_file(self._store, self._contract, key, columns=names)
        except ObjectMissing:
            # Removed since it was listed.
            return None


class _OpenFile:
    """A Parquet file too large to be read whole, in the state in which it was opened; closed with `open_files`."""

    def __init__(
        self, store: ObjectStore, contract: TableContract, key: str, open_files: ExitStack
    ) -> None:
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
        return pq.ParquetFile(pa.PythonFile(self._snapshot.file(), mode="r"), metadata=footer)


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


def _columns_of(predicate: Node) -> set[str]:
    """Names of the columns a predicate reads."""
    if isinstance(predicate, Col):
        return {predicate.parts[0]}
    found: set[str] = set()
    for child in predicate._children():
        found |= _columns_of(child)
    return found
