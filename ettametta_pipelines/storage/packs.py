"""Packs: a month of a table's small files again as one large file, for queries over many partitions.

A partition's own file stays the truth. A pack says of every row group which files it was made from and which ETag
they had; whoever reads it takes only the rows whose file is still that one, so that a pack may be old, partial or
absent and no answer changes. `operations/assets.py` makes packs of months gone by; `scan.py` reads them.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.storage.addressing import ObjectInfo
from ettametta_pipelines.storage.contracts import TableContract
from ettametta_pipelines.storage.object_errors import ObjectMissing
from ettametta_pipelines.storage.parquet import SUFFIX, TABLES_PREFIX, partition_of, read_file, readable

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ettametta_pipelines.storage.objects import ObjectStore

PACKS_PREFIX = "packs"
MANIFEST = b"ettametta:sources"
# Large enough that reading a column is one request, small enough that some row groups at once fit in memory.
ROWS_PER_GROUP = 65_536
# Below this a pack saves less than it costs.
MIN_FILES = 20


@dataclass(frozen=True)
class Source:
    """Some consecutive rows of a row group: the file they were read from, as it was then."""

    key: str
    etag: str
    rows: int


@dataclass(frozen=True)
class Packed:
    """What packing one month of one table did."""

    table: str
    month: str
    files: int
    rows: int
    size: int
    written: bool
    problem: str = ""


def month_of(table: str, key: str) -> str:
    """The month that a file of a table kept by day belongs to, as in 2026-01."""
    return partition_of(table, key)[:7]


def pack_key(table: str, month: str) -> str:
    return f"{PACKS_PREFIX}/{table}/{month}{SUFFIX}"


def pack_months(
    store: "ObjectStore", contract: TableContract, *, before: str, scratch: Path
) -> Iterator[Packed]:
    """Pack every month (`2026-01`) earlier than `before` whose files are many and not packed as they are now."""
    months: dict[str, list[ObjectInfo]] = {}
    for info in store.list(f"{TABLES_PREFIX}/{contract.name}"):
        month = month_of(contract.name, info.key)
        if info.key.endswith(SUFFIX) and month < before:
            months.setdefault(month, []).append(info)
    for month, files in months.items():
        if len(files) >= MIN_FILES:
            try:
                yield _pack_month(store, contract, month, files, scratch)
            except PermanentError as error:
                # A file that cannot be read is named by every query too; the other months are packed all the same.
                yield Packed(contract.name, month, len(files), 0, 0, False, problem=str(error))


def read_manifest(footer: "pq.FileMetaData") -> list[list[Source]]:
    """The sources of each row group, in the order of its rows. Raises PermanentError for a file that is no pack."""
    try:
        document = json.loads((footer.metadata or {})[MANIFEST])
        return [[Source(*source) for source in group] for group in document]
    except (KeyError, TypeError, ValueError) as error:
        raise PermanentError(
            "The file is no pack: it does not say what it was made from.",
            code="no_pack",
            remedy="Delete it; packs are made again.",
        ) from error


def _pack_month(
    store: "ObjectStore", contract: TableContract, month: str, files: Sequence[ObjectInfo], scratch: Path
) -> Packed:
    import pyarrow.parquet as pq

    key = pack_key(contract.name, month)
    standing = _standing_sources(store, contract, key)
    if standing is not None and {(s.key, s.etag) for s in standing} == {(f.key, f.etag) for f in files}:
        return Packed(
            contract.name, month, len(files), sum(s.rows for s in standing), store.head(key).size, False
        )
    scratch.mkdir(parents=True, exist_ok=True)
    manifest: list[list[Source]] = []
    with TemporaryDirectory(dir=scratch, prefix="pack-") as folder:
        path = Path(folder) / "pack.parquet"
        with ExitStack() as closing:
            for sources, table in _row_groups(store, contract, files):
                if not manifest:
                    # A third larger than with zstd, and read in two thirds of the time.
                    options = {"compression": "lz4", "use_dictionary": _repeating(table)}
                    writer = closing.enter_context(pq.ParquetWriter(path, table.schema, **options))
                writer.write_table(table, row_group_size=max(1, table.num_rows))
                manifest.append(sources)
            document = [[[s.key, s.etag, s.rows] for s in group] for group in manifest]
            writer.add_key_value_metadata({MANIFEST: json.dumps(document).encode()})
        size = store.put_file(key, path).size
    packed = [source for group in manifest for source in group]
    return Packed(contract.name, month, len(packed), sum(s.rows for s in packed), size, True)


def _row_groups(
    store: "ObjectStore", contract: TableContract, files: Sequence[ObjectInfo]
) -> "Iterator[tuple[list[Source], pa.Table]]":
    """Whole files, as many as make a row group. A file replaced since it was listed is stale in the pack at once."""
    import pyarrow as pa

    sources: list[Source] = []
    tables: list[pa.Table] = []
    for info in files:
        try:
            table = read_file(store, contract, info.key)
        except ObjectMissing:
            continue
        if not table.num_rows:
            sources.append(Source(info.key, info.etag, 0))
            continue
        sources.append(Source(info.key, info.etag, table.num_rows))
        tables.append(table)
        if sum(s.rows for s in sources) >= ROWS_PER_GROUP:
            yield sources, pa.concat_tables(tables)
            sources, tables = [], []
    if sources:
        yield sources, pa.concat_tables(tables) if tables else contract.arrow_schema().empty_table()


def _repeating(table: "pa.Table") -> list[str]:
    """Columns that a dictionary makes smaller: of ids, addresses and measurements it only makes reading slower."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = [field.name for field in table.schema if pa.types.is_list(field.type)]
    return [f"{name}.list.element" for name in lists] + [
        name
        for name in table.column_names
        if name not in lists and pc.count_distinct(table[name]).as_py() < table.num_rows / 2
    ]


def _standing_sources(store: "ObjectStore", contract: TableContract, key: str) -> list[Source] | None:
    """What the month's pack was made from; None where there is none that fits today's contract."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with store.snapshot(key) as snapshot, readable(key, store.url):
            footer = pq.ParquetFile(pa.PythonFile(snapshot.file(), mode="r")).metadata
            contract.check_stored(footer.schema.to_arrow_schema(), source=key)
            return [source for group in read_manifest(footer) for source in group]
    except PermanentError:
        return None
