"""What an earlier run of the same partition has already paid for.

Judgements and briefs cost money, so materializing again keeps what is still valid. Which rows are still valid is
said where they are made (`assessment.py`, `briefs.py`); here they are only read.
"""

from typing import TYPE_CHECKING, Any

from ettametta_pipelines.storage.contracts import ContractViolation, TableContract
from ettametta_pipelines.storage.parquet import PartitionMissing, read_table

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore


def earlier_rows(store: "ObjectStore", contract: TableContract, partition: str) -> list[dict[str, Any]]:
    """Rows of the stored partition; none when there is no file, or one from before the contract changed."""
    try:
        frame = read_table(store, contract, partition)
    except (PartitionMissing, ContractViolation):
        return []
    rows: list[dict[str, Any]] = contract.to_arrow(frame).to_pylist()
    return rows
