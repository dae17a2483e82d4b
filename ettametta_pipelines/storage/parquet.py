"""Tables as Parquet objects: where a partition lies, how it is written, and what is checked when it is read.

No Dagster and no SQL: the IO manager in `tables.py` and the lake both go through these functions.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.storage.contracts import ContractViolation, TableContract

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    from ettametta_pipelines.storage.objects import ObjectStore

TABLES_PREFIX = "tables"
UNPARTITIONED = "all"
SUFFIX = ".parquet"


@dataclass(frozen=True)
class Written:
    """What an asset returns in place of its table when it has written its partitions itself: rows by partition.

    For tables of more rows than a run should hold at once.
    """

    rows: Mapping[str, int]


class PartitionMissing(PermanentError):
    """A table has no file for a partition that was asked for."""


def table_key(asset: str, partition: str | None) -> str:
    """`tables/{asset}/{partition}.parquet`; `date|niche` becomes a folder per date, None the file `all`.

    Raises PermanentError with code `bad_partition` for a partition that cannot be part of an object key.
    """
    segments = (UNPARTITIONED if partition is None else str(partition)).split("|")
    odd = [s for s in segments if not s or "/" in s or s in (".", "..") or not s.isprintable()]
    if odd:
        raise PermanentError(
            f"Partition {partition!r} of {asset} cannot be stored: {odd} cannot be part of an object key.",
            code="bad_partition",
            remedy="Use partition keys without slashes and control characters.",
        )
    return "/".join((TABLES_PREFIX, asset, *segments)) + SUFFIX


def partition_of(asset: str, key: str) -> str:
    """The partition whose file has this key: the inverse of `table_key`."""
    return key.removeprefix(f"{TABLES_PREFIX}/{asset}/").removesuffix(SUFFIX).replace("/", "|")


def write_table(
    store: "ObjectStore", contract: TableContract, frame: "pd.DataFrame", partition: str | None
) -> str:
    """Check the rows against the contract and write them in one step, replacing the partition; returns the key.

    The same rows give the same bytes. Raises ContractViolation before anything is written.
    """
    return write_arrow(store, contract, contract.to_arrow(frame), partition)


def write_arrow(
    store: "ObjectStore", contract: TableContract, table: "pa.Table", partition: str | None
) -> str:
    """As `write_table`, for a table that has been through the contract (`to_arrow` or `checked`)."""
    return write_sized(store, contract, table, partition)[0]


def write_sized(
    store: "ObjectStore", contract: TableContract, table: "pa.Table", partition: str | None
) -> tuple[str, int]:
    """As `write_arrow`; key and size in bytes."""
    key, data = table_key(contract.name, partition), parquet_bytes(contract, table, partition)
    store.put(key, data)
    return key, len(data)


def parquet_bytes(contract: TableContract, table: "pa.Table", partition: str | None) -> bytes:
    """The file of one partition; the same rows give the same bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if contract.partitioned_by and table.num_rows:
        _require_own_rows(contract, table, str(partition))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _require_own_rows(contract: TableContract, table: "pa.Table", partition: str) -> None:
    """Rows of another partition would be skipped, or found, by the wrong queries."""
    values = contract.partition_values(partition)
    for name, value in zip(contract.partitioned_by, values, strict=True):
        strangers = [found for found in table[name].unique().to_pylist() if found != value]
        if strangers:
            raise ContractViolation(
                f"Table {contract.name}: partition {partition} holds rows whose {name} is {strangers[0]}.",
                code="table_contract_violation",
                remedy="Fix the asset that produced the rows: each row belongs to the partition it names.",
            )


def read_table(store: "ObjectStore", contract: TableContract, partition: str | None) -> "pd.DataFrame":
    """One partition, typed as the contract says. Raises PartitionMissing, or ContractViolation naming the file."""
    from ettametta_pipelines.storage.objects import ObjectMissing

    try:
        table = read_file(store, contract, table_key(contract.name, partition))
    except ObjectMissing:
        raise missing_partition(contract.name, partition, store.url) from None
    return contract.to_pandas(table)


def read_file(
    store: "ObjectStore", contract: TableContract, key: str, *, columns: Sequence[str] | None = None
) -> "pa.Table":
    """One stored file, or some columns of it, as the contract has it now.

    Raises ObjectMissing, ContractViolation, or `corrupt_table`.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = store.get(key)
    source = f"{store.url}/{key}"
    with readable(key, store.url):
        file = pq.ParquetFile(pa.BufferReader(data))
        contract.check_stored(file.schema_arrow, source=source)
        names = [column.name for column in contract.columns] if columns is None else columns
        table = read_columns(file, names)
    return contract.conform(table, source=source, columns=names)


def read_columns(file: "pq.ParquetFile", names: Sequence[str], group: int | None = None) -> "pa.Table":
    """Those of the columns that the file has, of one row group or of all. Several threads read at once already."""
    there = set(file.schema_arrow.names)
    wanted = [name for name in names if name in there]
    if group is None:
        return file.read(columns=wanted, use_threads=False)
    return file.read_row_group(group, columns=wanted, use_threads=False)


@contextmanager
def readable(key: str, where: str) -> Iterator[None]:
    """What pyarrow says of a file it cannot read leaves as PermanentError `corrupt_table`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:
        raise PermanentError(
            f"{key} in {where} is no readable Parquet file: {error}",
            code="corrupt_table",
            remedy="Materialise that partition again; restore the file from a backup if that is not possible.",
        ) from error


def missing_partition(asset: str, partition: str | None, where: str) -> PartitionMissing:
    what = "has not been materialised" if partition is None else f"has no partition {str(partition)!r}"
    return PartitionMissing(
        f"Table {asset} {what} in {where}.",
        code="partition_missing",
        remedy=f"Materialise {asset}{'' if partition is None else f' for {partition}'} first.",
    )
