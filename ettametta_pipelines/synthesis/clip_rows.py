"""Between makers' outcomes and rows of `synthesized_clips`: what was made, from what, at what cost, and why not.

Also what of a clip its sidecar states when it is handed in. Called by `assets.py`.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ettametta_pipelines.storage.contracts import TableContract
from ettametta_pipelines.synthesis.contracts import SYNTHESIZED_CLIPS
from ettametta_pipelines.synthesis.making import SANDBOX, Ask, Outcome
from ettametta_pipelines.synthesis.requests import ClipResult

Row = dict[str, Any]
TO_DO = "planned"
UNDECIDED = ("planned", "pending", "parked")


def work_list(planned: Sequence[Row], earlier: Sequence[Row]) -> list[Row]:
    """What this run works on and what it keeps: plans, and rows of earlier runs that the plan does not name anew.

    Earlier rows without an end are worked on again; orders that run are resumed, not repeated.
    """
    names = _names(SYNTHESIZED_CLIPS)
    named = {(row["plan_id"], row["account"]) for row in planned if row["status"] == TO_DO}
    rows = [{name: row.get(name) for name in names} for row in planned if row["status"] == TO_DO]
    for row in earlier:
        if (row["plan_id"], row["account"]) not in named:
            rows.append({**row, "status": TO_DO} if row["status"] in UNDECIDED else dict(row))
    return rows


def with_outcome(row: Row, ask: Ask, outcome: Outcome) -> Row:
    """The row with what became of its ask."""
    if not isinstance(outcome, ClipResult):
        return row | {
            "status": outcome.state,
            "reason_code": outcome.code,
            "reason": f"{outcome.message} {outcome.remedy}".strip(),
            "request_key": ask.key,
        }
    still = json.loads(row["wanted_json"])["still"]
    uses_still = ask.request.image_key is not None and still is not None
    cost = outcome.cost_microusd
    same = ("object_key", "sha256", "seed", "width", "height", "fps", "frames", "has_audio", "synthetic")
    provenance = dict(outcome.provenance) | ({"still": still} if uses_still else {})
    return (
        row
        | {name: getattr(outcome, name) for name in same}
        | {
            "status": "made",
            "reason_code": None,
            "reason": None,
            "request_key": outcome.request_key,
            "operation_id": outcome.provenance.get("operation_id"),
            "cost_microusd": cost,
            "cost_usd": None if cost is None else cost / 1e6,
            "drift_microusd": None if cost is None else cost - (row["quote_microusd"] or 0),
            "attribution": still["credit"] if uses_still else None,
            "provenance_json": json.dumps(provenance, sort_keys=True),
        }
    )


def is_stand_in(row: Mapping[str, Any]) -> bool:
    """Whether the sandbox made the clip, or the still it moves."""
    still = json.loads(row["wanted_json"])["still"]
    return row["mode"] == SANDBOX or bool(row["attribution"] and still and still["standing"] == SANDBOX)


def stated(row: Mapping[str, Any], *, publishes_live: bool) -> dict[str, Any]:
    """What the clip's sidecar says. Nothing of the sandbox gets a right where posts are seen by people."""
    return {
        "title": row["title"],
        "rights": None if publishes_live and is_stand_in(row) else "generated",
        "attribution": row["attribution"],
        "recipe": row["recipe"],
        "brief_id": row["brief_id"],
        "broll_keywords": row["keywords"] or None,
    }


def totals(rows: Sequence[Row]) -> dict[str, int]:
    """Quoted and real cost of the clips that were made, in millionths of a US dollar."""
    made = [row for row in rows if row["status"] == "made"]
    return {name: sum(row[f"{name}_microusd"] or 0 for row in made) for name in ("quote", "cost")}


def worst_drift(rows: Sequence[Row]) -> tuple[Row | None, float]:
    """The clip whose cost is farthest from its quote, and how far as a share of the quote."""
    told = [row for row in rows if row["drift_microusd"] and row["quote_microusd"]]
    worst = max(told, key=lambda row: abs(row["drift_microusd"] / row["quote_microusd"]), default=None)
    return worst, worst["drift_microusd"] / worst["quote_microusd"] if worst else 0.0


def _names(contract: TableContract) -> list[str]:
    return [column.name for column in contract.columns]
