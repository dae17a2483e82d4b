"""Tables as Parquet objects: where a partition lies, how it is written, and what is checked when it is read.

No Dagster and no SQL: the IO manager in `tables.py` and the lake both go through these functions.
"""

from typing import TYPE_CHECKING

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.storage.contracts import TableContract

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from ettametta_pipelines.storage.objects import ObjectStore

TABLES_PREFIX = "tables"
UNPARTITIONED = "all"
SUFFIX = ".parquet"


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


def write_table(
    store: "ObjectStore", contract: TableContract, frame: "pd.DataFrame", partition: str | None
) -> str:
    """Check the rows against the contract and write them in one step, replacing the partition; returns the key.

    The same rows give the same bytes. Raises ContractViolation before anything is written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    key = table_key(contract.name, partition)
    sink = pa.BufferOutputStream()
    pq.write_table(contract.to_arrow(frame), sink, compression="zstd")
    store.put(key, sink.getvalue().to_pybytes())
    return key


def read_table(store: "ObjectStore", contract: TableContract, partition: str | None) -> "pd.DataFrame":
    """One partition, typed as the contract says. Raises PartitionMissing, or ContractViolation naming the file."""
    from ettametta_pipelines.storage.objects import ObjectMissing

    try:
        table = read_file(store, contract, table_key(contract.name, partition))
    except ObjectMissing:
        raise missing_partition(contract.name, partition, store.url) from None
    return contract.to_pandas(table)


def read_file(store: "ObjectStore", contract: TableContract, key: str) -> "pa.Table":
    """One stored file as the contract has it now. Raises ObjectMissing, ContractViolation, or `corrupt_table`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    data = store.get(key)
    try:
        table = pq.ParquetFile(pa.BufferReader(data)).read()
    except (pa.ArrowException, OSError) as error:
        raise PermanentError(
            f"{key} in {store.url} is no readable Parquet file: {error}",
            code="corrupt_table",
            remedy="Materialise that partition again; restore the file from a backup if that is not possible.",
        ) from error
    return contract.conform(table, source=f"{store.url}/{key}")


def missing_partition(asset: str, partition: str | None, where: str) -> PartitionMissing:
    what = "has not been materialised" if partition is None else f"has no partition {str(partition)!r}"
    return PartitionMissing(
        f"Table {asset} {what} in {where}.",
        code="partition_missing",
        remedy=f"Materialise {asset}{'' if partition is None else f' for {partition}'} first.",
    )
