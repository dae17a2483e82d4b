"""Every table contract of every room, by asset name: what the IO manager checks and the lake shows."""

from ettametta_pipelines.billing.contracts import CONTRACTS as BILLING
from ettametta_pipelines.commerce.contracts import CONTRACTS as COMMERCE
from ettametta_pipelines.discovery.contracts import CONTRACTS as DISCOVERY
from ettametta_pipelines.media.contracts import CONTRACTS as MEDIA
from ettametta_pipelines.operations.contracts import CONTRACTS as OPERATIONS
from ettametta_pipelines.publishing.contracts import CONTRACTS as PUBLISHING
from ettametta_pipelines.renders.contracts import CONTRACTS as RENDERS
from ettametta_pipelines.revenue.contracts import CONTRACTS as REVENUE
from ettametta_pipelines.scoring.contracts import CONTRACTS as SCORING
from ettametta_pipelines.storage.contracts import TableContract
from ettametta_pipelines.synthesis.contracts import CONTRACTS as SYNTHESIS

ALL_TABLES: dict[str, TableContract] = {
    contract.name: contract
    for contract in (
        *DISCOVERY,
        *SCORING,
        *MEDIA,
        *RENDERS,
        *PUBLISHING,
        *REVENUE,
        *OPERATIONS,
        *BILLING,
        *COMMERCE,
        *SYNTHESIS,
    )
}
