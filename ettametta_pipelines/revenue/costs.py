"""What videos cost: every paid call, from the claims on accounts' money, by source video, niche, or unassigned.

A claim that names its source video is its cost. One about a candidate that a brief was written for is shared by the
videos made after that brief, one for a clip that was ordered is that of the video it became; else it is its niche's. So
nothing is lost, and the sum is the spending to the micro-unit. Not here: flat fees of vendors, and work on our own
machines. Called by the asset `content_costs`.

Whoever buys something new has it counted here by paying through `state.budget.Wallet.pay`, with the `cost_microusd` of
the answer and a purchase that names `niche`, `source_id`, or as its subject a `brief_id` or `platform:video_id`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ettametta_pipelines.money import split_exactly
from ettametta_pipelines.revenue.ledger import SHOWN, Finding, Wrong, sentence
from ettametta_pipelines.revenue.margin_contracts import CONTENT_COSTS, COST_CHECKS
from ettametta_pipelines.revenue.raw import MARTS
from ettametta_pipelines.state.budget import RESERVED
from ettametta_pipelines.state.models import AccountSpending, ModelClaim
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore

Row = dict[str, Any]
# (subject of a claim, niche or None) -> source videos made of what it was about.
Made = Mapping[tuple[str, str | None], Sequence[str]]


@dataclass
class Costs:
    """Rows by day, and what the checks found."""

    rows: dict[date, list[Row]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def make_costs(store: "ObjectStore", db: StateDatabase, lake: "Lake", days: Sequence[date]) -> Costs:
    """Compute and store `content_costs` of these days (in order) from the claims as they stand."""
    from ettametta_pipelines.storage.parquet import write_table

    claims = read_claims(db, days[0], days[-1])
    made_of = videos_made(lake)
    costs = Costs({day: [] for day in days})
    for claim in claims:
        if claim["day"] in costs.rows:
            costs.rows[claim["day"]] += cost_rows(claim, made_of)
    for day, rows in costs.rows.items():
        write_table(store, CONTENT_COSTS, CONTENT_COSTS.frame(rows), day.isoformat())
    problems = {
        "costs_equal_claims": unequal_claims(lake, claims, days),
        "claims_equal_spending": unequal_spending(db, days),
    }
    costs.findings = [
        Finding(name, sentence(Wrong(len(problems[name]), problems[name][:SHOWN])), len(claims))
        for name in COST_CHECKS
    ]
    return costs


def read_claims(db: StateDatabase, first: date, last: date) -> list[Row]:
    """Claims of these days, oldest first, as plain values."""
    columns = [column.name for column in ModelClaim.__table__.columns]
    with db.session(write=False) as session:
        rows = session.scalars(
            sa.select(ModelClaim)
            .where(ModelClaim.day.between(first, last))
            .order_by(ModelClaim.claimed_at, ModelClaim.id)
        ).all()
        return [{name: getattr(row, name) for name in columns} for row in rows]


def videos_made(lake: "Lake") -> dict[tuple[str, str | None], list[str]]:
    """Source videos by what they were made of: a brief's id, the candidate and niche it was for, a clip's name."""
    made: dict[tuple[str, str | None], list[str]] = {}
    for row in lake.rows((MARTS / "videos_of_briefs.sql").read_text()):
        for key in ((row["brief_id"], None), (row["subject"], row["niche"])):
            made.setdefault(key, []).append(row["source_id"])
    for row in lake.rows("select request_key, source_id from synthesized_clips where source_id is not null"):
        made.setdefault((row["request_key"], None), []).append(row["source_id"])
    return {key: sorted(set(sources)) for key, sources in made.items()}


def cost_rows(claim: Row, made_of: Made) -> list[Row]:
    """A claim's rows: one for each video that shares it, equal parts by largest remainder; one where none does."""
    sources: Sequence[str | None]
    if claim["source_id"]:
        sources = [claim["source_id"]]
    else:
        sources = (
            made_of.get((claim["subject"], claim["niche"])) or made_of.get((claim["subject"], None)) or [None]
        )
    open_microusd = claim["reserved_microusd"] if claim["state"] == RESERVED else 0
    parts = zip(
        sources,
        split_exactly(claim["cost_microusd"] or 0, [1] * len(sources)),
        split_exactly(open_microusd, [1] * len(sources)),
        strict=True,
    )
    return [
        {
            "day": claim["day"], "claim_id": claim["id"], "share_no": number, "mode": claim["mode"],
            "account": claim["account_id"], "source_id": source, "niche": claim["niche"],
            "bucket": "source" if source else "niche" if claim["niche"] else "unassigned",
            "kind": claim["purpose"], "vendor": claim["provider"], "subject": claim["subject"],
            "state": claim["state"], "cost_microusd": cost, "open_microusd": held,
        }
        for number, (source, cost, held) in enumerate(parts, start=1)
    ]  # fmt: skip


def unequal_claims(lake: "Lake", claims: Sequence[Row], days: Sequence[date]) -> list[str]:
    """Sentences about claims whose stored rows come to something else."""
    wanted = {
        claim["id"]: (
            claim["cost_microusd"] or 0,
            claim["reserved_microusd"] if claim["state"] == RESERVED else 0,
        )
        for claim in claims
        if claim["day"] in set(days)
    }
    stored = {
        row["claim_id"]: (row["cost_microusd"], row["open_microusd"])
        for row in lake.rows(
            "select claim_id, sum(cost_microusd) as cost_microusd, sum(open_microusd) as open_microusd "
            "from content_costs where day between $first_day and $last_day group by claim_id",
            {"first_day": days[0], "last_day": days[-1]},
        )
    }
    none = (0, 0)
    return [
        f"claim {name} cost {_dollars(wanted.get(name, none))}, its rows come to {_dollars(stored.get(name, none))}"
        for name in sorted(wanted.keys() | stored.keys())
        if wanted.get(name) != stored.get(name)
    ]


def unequal_spending(db: StateDatabase, days: Sequence[date]) -> list[str]:
    """Sentences about accounts whose counted month is not what their claims come to."""
    said = []
    for month in sorted({day.replace(day=1) for day in days}):
        until = (month + timedelta(days=32)).replace(day=1)
        is_open = ModelClaim.state == RESERVED
        claimed = (
            sa.select(
                ModelClaim.mode,
                ModelClaim.account_id,
                sa.func.sum(sa.func.coalesce(ModelClaim.cost_microusd, 0)).label("spent"),
                sa.func.sum(sa.case((is_open, ModelClaim.reserved_microusd), else_=0)).label("reserved"),
            )
            .where(ModelClaim.day >= month, ModelClaim.day < until)
            .group_by(ModelClaim.mode, ModelClaim.account_id)
            .subquery()
        )
        counted = sa.select(AccountSpending).where(AccountSpending.month == month).subquery()
        same = sa.and_(counted.c.mode == claimed.c.mode, counted.c.account_id == claimed.c.account_id)
        # One statement, so that calls that end meanwhile are in both or in neither.
        statement = sa.select(
            sa.func.coalesce(counted.c.mode, claimed.c.mode),
            sa.func.coalesce(counted.c.account_id, claimed.c.account_id),
            sa.func.coalesce(counted.c.spent_microusd, 0),
            sa.func.coalesce(counted.c.reserved_microusd, 0),
            sa.func.coalesce(claimed.c.spent, 0),
            sa.func.coalesce(claimed.c.reserved, 0),
        ).select_from(sa.join(counted, claimed, same, full=True))
        with db.session(write=False) as session:
            rows = session.execute(statement).all()
        said += [
            f"{mode} account {account} in {month:%B %Y} is counted {_dollars((spent, held))}, its claims come to "
            f"{_dollars((int(cost), int(open_)))}"
            for mode, account, spent, held, cost, open_ in rows
            if (spent, held) != (int(cost), int(open_))
        ]
    return sorted(said)


def _dollars(amounts: tuple[int, int]) -> str:
    spent, held = amounts
    return f"USD {spent / 1e6:.6f}" + (f" and {held / 1e6:.6f} set aside" if held else "")
