"""An asset that is a table: what `dg.asset` needs to be told alike for all of them, said once.

The asset is named after its contract, written and checked as Parquet by the table IO manager, and owned by the team of
its group. Used by the rooms' `*assets.py`.
"""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.freshness import freshness_of
from ettametta_pipelines.storage.contracts import TableContract
from ettametta_pipelines.storage.tables import table_metadata


def table_asset(
    contract: TableContract, *, group_name: str, **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Decorates the function that makes the table of `contract`; `options` are those of `dg.asset`."""

    def decorate(body: Callable[..., Any]) -> dg.AssetsDefinition:
        if body.__name__ != contract.name:
            raise ValueError(f"{body.__name__} makes the table {contract.name}: they must be called the same")
        # With checks declared an asset has several outputs, of which Dagster must be told the table's type.
        made = dg.asset(
            group_name=group_name,
            owners=[f"team:{group_name}"],
            io_manager_key="tables",
            dagster_type=pd.DataFrame,
            metadata=table_metadata(contract),
            freshness_policy=freshness_of(contract.name),
            **options,
        )(body)
        assert isinstance(made, dg.AssetsDefinition)
        return made

    return decorate
