"""What links and products brought: clicks from the state, commissions from the lake, joined by code.

A network gives our code back as its sub-id, which `affiliate_earnings` keeps in `link_id`. Clicks of machines are
counted apart, declined and reversed commissions not at all. Called by the assets and the gateway's pages.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ettametta_pipelines.money import Money
from ettametta_pipelines.state.models import AffiliateClick
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake

EARNINGS_SQL = """
    SELECT link_id AS code, status, currency, count(*) AS sales, sum(amount_minor) AS minor
    FROM affiliate_earnings
    WHERE link_id IS NOT NULL AND status IN ('approved', 'pending')
    GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True)
class Clicks:
    people: int = 0
    machines: int = 0


@dataclass(frozen=True)
class Earned:
    """Commissions of some codes: how many sales, and per currency what is approved and what is still pending."""

    sales: int = 0
    approved: tuple[Money, ...] = ()
    pending: tuple[Money, ...] = ()


def clicks_by_code(db: StateDatabase) -> dict[str, Clicks]:
    with db.session(write=False) as session:
        counted = session.execute(
            sa.select(
                AffiliateClick.code,
                sa.func.count().filter(~AffiliateClick.is_bot),
                sa.func.count().filter(AffiliateClick.is_bot),
            ).group_by(AffiliateClick.code)
        ).all()
    return {row[0]: Clicks(row[1], row[2]) for row in counted}


def earnings_by_code(lake: "Lake") -> dict[str, list[dict[str, object]]]:
    """Rows of EARNINGS_SQL by code."""
    found: dict[str, list[dict[str, object]]] = {}
    for row in lake.rows(EARNINGS_SQL):
        found.setdefault(row["code"], []).append(row)
    return found


def earned_by(codes: Iterable[str], earnings: Mapping[str, list[dict[str, object]]]) -> Earned:
    """What these codes earned together."""
    sums: dict[tuple[str, str], int] = {}
    sales = 0
    for code in codes:
        for row in earnings.get(code, ()):
            key = (str(row["status"]), str(row["currency"]))
            sums[key] = sums.get(key, 0) + int(str(row["minor"]))
            sales += int(str(row["sales"]))

    def of(status: str) -> tuple[Money, ...]:
        return tuple(
            Money(minor, currency) for (which, currency), minor in sorted(sums.items()) if which == status
        )

    return Earned(sales, of("approved"), of("pending"))
