"""What links and products brought: clicks from the state, commissions and orders from the lake, joined by code.

A network gives our code back as its sub-id, which `affiliate_earnings` keeps in `link_id`. Clicks of machines are
counted apart, declined and reversed commissions not at all. An order of the own shop is the sale of the product that
the last visited post offered, whatever was in the cart: what is asked is whether an offer leads to orders. Called by
the assets and the gateway's pages.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ettametta_pipelines.money import Money
from ettametta_pipelines.revenue.attribution import Policy, Target, touches
from ettametta_pipelines.state.models import AffiliateClick, AffiliateLinkCode
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake

EARNINGS_SQL = """
    SELECT link_id AS code, status, currency, count(*) AS sales, sum(amount_minor) AS minor
    FROM affiliate_earnings
    WHERE link_id IS NOT NULL AND status IN ('approved', 'pending')
    GROUP BY ALL ORDER BY ALL
"""

ORDERS_SQL = "SELECT ordered_at, visits FROM shopify_orders WHERE is_ready ORDER BY order_id"


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


def clicks_by_code(db: StateDatabase, codes: Collection[str] | None = None) -> dict[str, Clicks]:
    """Clicks of these codes, or of all; a code nobody followed is left out."""
    query = sa.select(
        AffiliateClick.code,
        sa.func.count().filter(~AffiliateClick.is_bot),
        sa.func.count().filter(AffiliateClick.is_bot),
    ).group_by(AffiliateClick.code)
    with db.session(write=False) as session:
        counted = session.execute(
            query if codes is None else query.where(AffiliateClick.code.in_(codes))
        ).all()
    return {row[0]: Clicks(row[1], row[2]) for row in counted}


def codes_followed(
    db: StateDatabase, link_ids: Collection[str]
) -> dict[str, list[tuple[AffiliateLinkCode, Clicks]]]:
    """Codes by link, the one for use outside of posts first, each with its clicks; asked for at once."""
    theirs = AffiliateLinkCode.link_id.in_(sorted(link_ids))
    counted = (
        sa.select(
            AffiliateClick.code,
            sa.func.count().filter(~AffiliateClick.is_bot).label("people"),
            sa.func.count().filter(AffiliateClick.is_bot).label("machines"),
        )
        .where(AffiliateClick.code.in_(sa.select(AffiliateLinkCode.code).where(theirs)))
        .group_by(AffiliateClick.code)
        .subquery()
    )
    query = (
        sa.select(AffiliateLinkCode, counted.c.people, counted.c.machines)
        .outerjoin(counted, counted.c.code == AffiliateLinkCode.code)
        .where(theirs)
        .order_by(
            AffiliateLinkCode.source_id.is_not(None), AffiliateLinkCode.created_at, AffiliateLinkCode.code
        )
    )
    found: dict[str, list[tuple[AffiliateLinkCode, Clicks]]] = {link_id: [] for link_id in link_ids}
    with db.session(write=False) as session:
        for code, people, machines in session.execute(query).tuples():
            found[code.link_id or ""].append((code, Clicks(people or 0, machines or 0)))
    return found


def orders_by_code(db: StateDatabase, lake: "Lake", window: timedelta) -> dict[str, int] | None:
    """Orders by the code of the post that offered a product and was visited last before them, within the window.

    None where no order with its visits was read: nobody tells then.
    """
    orders = lake.rows(ORDERS_SQL)
    if not orders:
        return None
    with db.session(write=False) as session:
        rows = session.execute(
            sa.select(AffiliateLinkCode.code, AffiliateLinkCode.source_id, AffiliateLinkCode.platform)
            .where(AffiliateLinkCode.product_id.is_not(None), AffiliateLinkCode.source_id.is_not(None))
            .order_by(AffiliateLinkCode.created_at)
        ).tuples()
        # Of two posts of a video on a platform, the newer.
        codes = {Target(str(source), platform): code for code, source, platform in rows}
    found: Counter[str] = Counter()
    for order in orders:
        seen = touches(order["visits"], order["ordered_at"], Policy(window=window), codes, {})
        if seen and (code := codes.get(seen[-1].target)):
            found[code] += 1
    return dict(found)


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
