"""What an earlier run of the same partition has already paid for.

Judgements and briefs cost money, so materializing again keeps what is still valid. Which rows are still valid is
said where they are made (`assessment.py`, `briefs.py`); here they are only read.
"""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.storage.contracts import ContractViolation, TableContract
from ettametta_pipelines.storage.parquet import PartitionMissing, read_table

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore

CORRUPT = "corrupt_table"

log = logging.getLogger(__name__)


def earlier_rows(
    store: "ObjectStore",
    contract: TableContract,
    partition: str,
    *,
    warn: Callable[[str], object] = log.warning,
) -> list[dict[str, Any]]:
    """Rows of the stored partition; none when there is no file.

    A file that is corrupt, or from before the contract changed, is no rows either, and `warn` gets a sentence: the run
    is what replaces it, so it must not fail on it. A store that does not answer raises.
    """
    try:
        frame = read_table(store, contract, partition)
    except PartitionMissing:
        return []
    except PermanentError as error:
        if not isinstance(error, ContractViolation) and error.code != CORRUPT:
            raise
        warn(
            f"The stored {contract.name} cannot be used and is replaced; what it held is paid for again: "
            f"{error.message} [{error.code}]"
        )
        return []
    rows: list[dict[str, Any]] = contract.to_arrow(frame).to_pylist()
    return rows
