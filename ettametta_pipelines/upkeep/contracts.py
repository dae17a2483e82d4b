"""Tables of the upkeep room. Declarations only."""

from ettametta_pipelines.storage.contracts import Column, TableContract

TABLE_PACKS = TableContract(
    "table_packs",
    "Months of small files that were put together in one file, as of the last run.",
    columns=(
        Column("table_name", "string", "Table"),
        Column("month", "string", "Month, as in 2026-01"),
        Column("files", "int64", "Files of the month"),
        Column("rows", "int64", "Rows in the pack"),
        Column("size_bytes", "int64", "Size of the pack"),
        Column("written", "bool", "Whether this run wrote the pack; otherwise it was up to date"),
        Column("problem", "string", "Why the month could not be packed; empty when it was", nullable=True),
    ),
    key=("table_name", "month"),
)

CONTRACTS: tuple[TableContract, ...] = (TABLE_PACKS,)
