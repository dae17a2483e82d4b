"""One run for several partitions of an asset that computes one partition from stored tables.

Starting a run costs seconds, computing a stored partition milliseconds; so a backfill takes many partitions in one
run. The asset is written for one partition, and `each_partition` calls it once for each: its tables cut to the
partition, its metadata and row count noted for that partition. `storage/tables.py` then writes one file per
partition. For assets without side effects only.
"""

import warnings
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.storage.contracts import TableContract

# Said once for every asset at every start; the pinned version has what is used here.
warnings.filterwarnings("ignore", "Parameter `backfill_policy`", dg.BetaWarning)

# A hundred partitions of a busy niche are some 50 MB of rows; one run that fails loses the work of a hundred.
PARTITIONS_PER_RUN = 100
RANGE_POLICY = dg.BackfillPolicy.multi_run(max_partitions_per_run=PARTITIONS_PER_RUN)

# For what reads and writes its partitions itself, a part of them at a time: starting more runs would only cost more.
SINGLE_RUN_POLICY = dg.BackfillPolicy.single_run()

Body = Callable[..., dg.MaterializeResult]  # type: ignore[type-arg]


class OnePartition:
    """The context of a run as the body of an asset sees it for one of the run's partitions."""

    has_partition_key = True

    def __init__(self, context: dg.AssetExecutionContext, partition_key: str, retry_number: int = 0) -> None:
        self._context = context
        self.partition_key = partition_key
        # The step's own tries come on top of the partition's.
        self.retry_number = retry_number

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)


def each_partition(contract: TableContract, **inputs: TableContract) -> Callable[[Body], Body]:
    """Decorates the body of the asset of `contract`; `inputs` names its table parameters with their contracts.

    A run of one partition calls the body as it is. In a run of several, numbers and texts of its metadata appear on
    each partition and are summed up for the run; a check passes when it passes for every partition.
    """

    def decorate(body: Body) -> Body:
        @wraps(body)
        def run(context: dg.AssetExecutionContext, **arguments: Any) -> dg.MaterializeResult:  # type: ignore[type-arg]
            if len(context.partition_keys) == 1:
                return body(context, **arguments)
            tables = {name: _Cut(table, arguments[name]) for name, table in inputs.items()}
            results = {}
            for key in context.partition_keys:
                cut = {name: tables[name].partition(key) for name in tables}
                result = body(OnePartition(context, key), **(arguments | cut))
                context.add_asset_metadata(
                    {**(result.metadata or {}), "dagster/partition_row_count": len(result.value)},
                    partition_key=key,
                )
                results[key] = result
            return dg.MaterializeResult(
                value=pd.concat([result.value for result in results.values()], ignore_index=True),
                check_results=list(_together(results)),
            )

        return run

    return decorate


class _Cut:
    """A table of several partitions, to be taken apart."""

    def __init__(self, contract: TableContract, frame: pd.DataFrame) -> None:
        self._contract = contract
        self._empty = frame.iloc[:0]
        by = list(contract.partitioned_by)
        self._frames = dict(iter(frame.groupby(by, sort=False)))

    def partition(self, key: str) -> pd.DataFrame:
        rows = self._frames.get(self._contract.partition_values(key), self._empty)
        return rows.reset_index(drop=True)


def _together(results: dict[str, dg.MaterializeResult]) -> Iterator[dg.AssetCheckResult]:  # type: ignore[type-arg]
    """One result per check over all partitions; what failed is named by partition."""
    by_check: dict[str, list[tuple[str, dg.AssetCheckResult]]] = {}
    for key, result in results.items():
        for check in result.check_results or ():
            by_check.setdefault(str(check.check_name), []).append((key, check))
    for name, checks in by_check.items():
        failed = [key for key, check in checks if not check.passed]
        yield dg.AssetCheckResult(
            check_name=name,
            passed=not failed,
            severity=checks[0][1].severity,
            metadata={
                "partitions": len(checks),
                "failed": len(failed),
                "failed_partitions": ", ".join(failed[:20]) or "none",
            },
        )
