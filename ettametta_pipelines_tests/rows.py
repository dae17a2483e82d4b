"""Rows for tables whose other columns do not matter to a test."""

from typing import Any

from ettametta_pipelines.storage.contracts import TableContract

BLANK = {"string": "x", "int64": 1, "float64": 1.0, "bool": False, "string_list": []}


def a_row(contract: TableContract, **known: Any) -> dict[str, Any]:
    """A row with these values and something of the right type in every other column that needs one."""
    blank = {c.name: BLANK[c.type] for c in contract.columns if not c.nullable and c.name not in known}
    return blank | known
