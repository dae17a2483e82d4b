"""Reading this room's stored partitions beside the one a run is about: several niches, several days, few columns.

Partitions that are not there count as no rows; a partition that cannot be read raises, naming the file. Called by the
assets; what is written goes through the IO manager.
"""

from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.storage.contracts import TableContract
from ettametta_pipelines.storage.objects import ObjectMissing
from ettametta_pipelines.storage.parquet import SUFFIX, TABLES_PREFIX, read_file, table_key

if TYPE_CHECKING:
    import pyarrow as pa

    from ettametta_pipelines.storage.objects import ObjectStore

Row = dict[str, Any]

PARALLEL_READS = 8


def days_between(first: date, last: date) -> list[date]:
    """Every day from `first` to `last`, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def day_keys(contract: TableContract, days: Iterable[date]) -> list[str]:
    """Object keys of a table partitioned by day."""
    return [table_key(contract.name, day.isoformat()) for day in days]


def niche_keys(store: "ObjectStore", contract: TableContract, days: Iterable[date]) -> list[str]:
    """Object keys of every niche's partition of a table partitioned by day and niche, as far as they are there."""
    return [
        info.key
        for day in days
        for info in store.list(f"{TABLES_PREFIX}/{contract.name}/{day.isoformat()}")
        if info.key.endswith(SUFFIX)
    ]


def read_partitions(
    store: "ObjectStore",
    contract: TableContract,
    keys: Iterable[str],
    *,
    columns: Collection[str] = (),
    where: Mapping[str, Collection[str]] | None = None,
) -> list[list[Row]]:
    """Rows of each partition that is there; only `columns`, and rows that hold one of the values in `where`."""

    def read(key: str) -> list[Row] | None:
        try:
            table = read_file(store, contract, key)
        except ObjectMissing:
            return None
        table = _kept(table, where or {})
        rows: list[Row] = (table.select(list(columns)) if columns else table).to_pylist()
        return rows

    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        return [rows for rows in pool.map(read, keys) if rows is not None]


def _kept(table: "pa.Table", where: Mapping[str, Collection[str]]) -> "pa.Table":
    import pyarrow as pa
    import pyarrow.compute as pc

    for column, values in where.items():
        table = table.filter(pc.is_in(table[column], pa.array(sorted(values), pa.string())))
    return table
