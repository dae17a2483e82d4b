"""The Parquet IO manager: how assets hand tables to one another, one file per partition.

What a file is and how it is checked lives in `parquet.py`; here are only Dagster's partitions, metadata and
failures. Made by `definitions.py` under the resource key `tables`; assets name it as their IO manager.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import dagster as dg

from ettametta_pipelines.failures import PermanentError, PipelineError, TransientError
from ettametta_pipelines.orchestration.failure_policy import definite_failure
from ettametta_pipelines.storage.contracts import Column, ContractViolation, TableContract
from ettametta_pipelines.storage.parquet import (
    PartitionMissing,
    Written,
    read_table,
    table_key,
    write_sized,
    write_table,
)

if TYPE_CHECKING:
    import pandas as pd

    from ettametta_pipelines.storage.objects import ObjectStore

__all__ = ["ParquetTables", "PartitionMissing", "read_table", "table_key", "table_metadata", "write_table"]

ALLOW_MISSING = "allow_missing_partitions"
# On an input: an asset that is run for several partitions reads them itself, one at a time.
READ_BY_ASSET = "read_by_asset"
PARALLEL_READS = 8
RETRY_WAITS_S = (2.0, 5.0, 15.0)

T = TypeVar("T")


class Logging(Protocol):
    """Any of Dagster's contexts."""

    @property
    def log(self) -> dg.DagsterLogManager: ...


class ParquetTables(dg.IOManager):
    """DataFrames in and out of the object store, checked against the contract of the asset's name.

    An asset that depends on several partitions of an upstream (a roll-up) gets them in one DataFrame. A partition
    that is not there is an error, unless the input (`dg.AssetIn(metadata=...)`) or the upstream asset says
    `allow_missing_partitions: True`; then it counts as no rows.
    """

    def __init__(
        self, store_opener: Callable[[], "ObjectStore"], contracts: Mapping[str, TableContract]
    ) -> None:
        self._open = store_opener
        self._contracts = contracts

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        with _step_policy(context):
            contract = self._contract_of(context)
            if isinstance(obj, Written):
                return
            partitions = context.asset_partition_keys if context.has_asset_partitions else [None]
            frame = _frame_of(contract, obj)
            store = _persistently(context, self._open)
            if len(partitions) == 1:
                context.add_output_metadata(_write(context, store, contract, frame, partitions[0]))
                return
            for partition, rows_of in _divide(contract, frame, [str(p) for p in partitions]).items():
                _persistently(context, partial(write_table, store, contract, rows_of, partition))

    def load_input(self, context: dg.InputContext) -> "pd.DataFrame":
        import pandas as pd

        with _step_policy(context):
            contract = self._contract_of(context)
            store = _persistently(context, self._open)
            if not context.has_asset_partitions:
                return _persistently(context, lambda: read_table(store, contract, None))
            partitions = sorted(context.asset_partition_keys)
            if len(partitions) > 1 and (context.definition_metadata or {}).get(READ_BY_ASSET):
                return contract.empty()
            may_miss = _allows_missing(context)

            def read(partition: str) -> "pd.DataFrame | None":
                try:
                    return _persistently(context, lambda: read_table(store, contract, partition))
                except PartitionMissing:
                    if may_miss:
                        return None
                    raise

            with ThreadPoolExecutor(PARALLEL_READS) as pool:
                frames = [frame for frame in pool.map(read, partitions) if frame is not None]
            if len(frames) < len(partitions):
                context.log.info(
                    f"{len(partitions) - len(frames)} of {len(partitions)} partitions of {contract.name} are not "
                    "there yet and count as empty."
                )
            return pd.concat(frames, ignore_index=True) if frames else contract.empty()

    def read(self, context: Logging, name: str, partition: str) -> "pd.DataFrame":
        """One partition of a table. Raises PartitionMissing, ContractViolation, and what the store raises."""
        store = _persistently(context, self._open)
        return _persistently(context, lambda: read_table(store, self._contracts[name], partition))

    def write(
        self, context: Logging, name: str, frame: "pd.DataFrame", partition: str
    ) -> dict[str, dg.MetadataValue]:
        """Write one partition of a table; what its materialization tells of it. Raises as `read` does."""
        contract = self._contracts[name]
        return _write(
            context, _persistently(context, self._open), contract, _frame_of(contract, frame), partition
        )

    def _contract_of(self, context: dg.InputContext | dg.OutputContext) -> TableContract:
        if not context.has_asset_key:
            raise PermanentError(
                f"{context.name} is no asset; tables are stored by asset name only.",
                code="table_without_asset",
                remedy="Use the tables IO manager for assets, and pass other values between ops without it.",
            )
        name = "/".join(context.asset_key.path)
        if name not in self._contracts:
            raise PermanentError(
                f"There is no table contract for {name}.",
                code="table_without_contract",
                remedy=f"Declare a TableContract named {name} in its room's contracts.py.",
            )
        return self._contracts[name]


def _write(
    context: Logging,
    store: "ObjectStore",
    contract: TableContract,
    frame: "pd.DataFrame",
    partition: str | None,
) -> dict[str, dg.MetadataValue]:
    table = contract.to_arrow(frame)
    key, size = _persistently(context, lambda: write_sized(store, contract, table, partition))
    rows = dg.MetadataValue.int(len(frame))
    return {
        "dagster/uri": dg.MetadataValue.text(f"{store.url}/{key}"),
        "dagster/row_count" if partition is None else "dagster/partition_row_count": rows,
        # Under one name for every table, since Dagster plots a name over time and partitions.
        "rows": rows,
        "bytes": dg.MetadataValue.int(size),
    }


def table_metadata(contract: TableContract) -> dict[str, Any]:
    """Definition metadata that makes the UI show the table's name, columns and key."""
    return {
        "dagster/table_name": contract.name,
        "dagster/column_schema": dg.TableSchema(
            columns=[_column_of(column, contract) for column in contract.columns],
            constraints=dg.TableConstraints(other=[f"unique in a partition: {', '.join(contract.key)}"])
            if contract.key
            else None,
        ),
    }


def _column_of(column: Column, contract: TableContract) -> dg.TableColumn:
    return dg.TableColumn(
        name=column.name,
        type=column.type,
        description=column.description,
        constraints=dg.TableColumnConstraints(
            nullable=column.nullable, unique=contract.key == (column.name,)
        ),
    )


def _frame_of(contract: TableContract, obj: Any) -> "pd.DataFrame":
    import pandas as pd

    if isinstance(obj, pd.DataFrame):
        return obj
    made = "no value" if obj is None else f"a {type(obj).__name__}"
    raise PermanentError(
        f"{contract.name} returned {made} where a pandas DataFrame belongs.",
        code="no_table_returned",
        remedy="Return MaterializeResult(value=frame); for no rows, the contract's empty() frame.",
    )


def _divide(
    contract: TableContract, frame: "pd.DataFrame", partitions: Sequence[str]
) -> "dict[str, pd.DataFrame]":
    """The rows of each of a run's partitions, an empty table where there are none.

    Raises before anything is written for a table whose rows do not tell their partition, and for rows of a
    partition the run is not for. Each file is written in one step; a run that ends half-way leaves whole partitions
    only, some of them from before, and may be repeated.
    """
    if not contract.partitioned_by:
        raise PermanentError(
            f"{contract.name} was run for {len(partitions)} partitions at once, but its rows do not tell which of "
            "them they belong to.",
            code="several_partitions_written",
            remedy="Run one partition per run, or declare partitioned_by in the table's contract.",
        )
    names = list(contract.partitioned_by)
    found = dict(iter(frame.groupby(names, sort=False)))
    wanted = {contract.partition_values(partition): partition for partition in partitions}
    strangers = [values for values in found if values not in wanted]
    if strangers:
        raise ContractViolation(
            f"Table {contract.name}: rows of {strangers[0]} in a run for {len(partitions)} other partitions.",
            code="table_contract_violation",
            remedy="Fix the asset that produced the rows: a run writes the partitions it is for.",
        )
    return {partition: found.get(values, frame.iloc[:0]) for values, partition in wanted.items()}


def _allows_missing(context: dg.InputContext) -> bool:
    upstream = context.upstream_output.definition_metadata if context.upstream_output else {}
    said = {**(upstream or {}), **(context.definition_metadata or {})}.get(ALLOW_MISSING, False)
    return bool(said.value if isinstance(said, dg.BoolMetadataValue) else said)


@contextmanager
def _step_policy(context: dg.InputContext | dg.OutputContext) -> Iterator[None]:
    """What `failure_policy` is to an asset's body, for what happens before and after it."""
    try:
        yield
    except PipelineError as error:
        step = context.step_context
        raise definite_failure(error, step.instance, step.run_id) from error


def _persistently(context: Logging, action: Callable[[], T]) -> T:
    """Try again here while the store is away: a step retry would repeat the body, and what it paid for."""
    for wait in RETRY_WAITS_S:
        try:
            return action()
        except TransientError as error:
            context.log.warning(f"{error} Next try in {wait:.0f} s.")
            time.sleep(wait)
    return action()
