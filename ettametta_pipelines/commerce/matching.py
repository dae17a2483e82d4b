"""Which product or link suits which niche: words first, then price, stock and what it has brought.

Words decide whether something suits at all (`likeness.py`); the rest only puts what suits in order. What cannot be
bought now, has no price, no page or is a draft is not looked at. Nothing above the threshold means that the niche
offers nothing. The choice is kept in the state, where publishing finds it. Called by the asset.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.commerce.likeness import THRESHOLD, Likeness, Text, likenesses
from ettametta_pipelines.commerce.links import ACTIVE
from ettametta_pipelines.commerce.networks import Networks
from ettametta_pipelines.commerce.performance import Clicks
from ettametta_pipelines.commerce.targets import checked_target
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.money import Money
from ettametta_pipelines.state.models import AffiliateLink, AffiliateLinkCode, NicheOffer
from ettametta_pipelines.state.session import StateDatabase

PRODUCT, LINK = "product", "link"
# Shares of the score. Words weigh so much that the rest decides between likes alone.
TEXT, PRICE, STOCK, CONVERSION = 0.80, 0.08, 0.04, 0.08
NEUTRAL = 0.5
# Stock from which more makes no difference.
PLENTY = 20
# Clicks that a thing's own rate of sales needs to weigh as much as everybody's.
SHRINKAGE = 50
RANKED = 5


@dataclass(frozen=True)
class Candidate:
    """Something that could be offered. `niches` are those it is declared for; `sales` is None where nobody tells."""

    kind: str
    item_id: str
    account: str | None
    label: str
    text: Text
    target_url: str
    statement: str = ""
    niches: tuple[str, ...] = ()
    price: Money | None = None
    stock: int | None = None
    clicks: int = 0
    sales: int | None = None

    def may_be_in(self, niche: str) -> bool:
        return not self.niches or niche in self.niches


@dataclass(frozen=True)
class Brought:
    """What one product or link brought so far."""

    clicks: int = 0
    sales: int | None = None


def text_of_niche(niche: Niche, briefs: Iterable[Mapping[str, Any]]) -> Text:
    """A niche in its own words and in the search words and hashtags of its briefs.

    Not their prompts: props of a scene (a cup on the table) made the matches of the tuning set worse.
    """
    words: dict[str, None] = {}
    for brief in briefs:
        words |= dict.fromkeys([*brief["broll_keywords"], *(tag.lstrip("#") for tag in brief["hashtags"])])
    return Text(" . ".join([niche.title, *niche.queries]), " ".join(list(words)[:60]))


def products_on_offer(rows: Iterable[Mapping[str, Any]], brought: Mapping[str, Brought]) -> list[Candidate]:
    """Rows of `shopify_products` that may be offered: for sale, with a price and a page, neither draft nor archived."""
    found = []
    for row in rows:
        if row["status"] != "active" or not row["for_sale"] or not row["price_minor"] or not row["url"]:
            continue
        try:
            target = checked_target(row["url"])
        except PermanentError:
            continue
        own = brought.get(row["product_id"], Brought())
        found.append(
            Candidate(
                kind=PRODUCT, item_id=row["product_id"], account=None, label=row["title"], target_url=target,
                text=Text(row["title"], " ".join([row["product_type"], *row["tags"]]), row["description"]),
                price=Money(row["price_minor"], row["currency"]), stock=row["stock"],
                clicks=own.clicks, sales=own.sales,
            )
        )  # fmt: skip
    return found


def links_on_offer(
    rows: Iterable[AffiliateLink], brought: Mapping[str, Brought], networks: Networks
) -> list[Candidate]:
    """Active links of all accounts."""
    found = []
    for row in rows:
        if row.status != ACTIVE:
            continue
        own, network = brought.get(row.id, Brought()), networks.by_name.get(row.network)
        found.append(
            Candidate(
                kind=LINK, item_id=row.id, account=row.account_id, label=row.label, target_url=row.target_url,
                text=Text(row.label), niches=tuple(row.niches), statement=network.statement if network else "",
                clicks=own.clicks, sales=own.sales,
            )
        )  # fmt: skip
    return found


def brought_by(
    db: StateDatabase, clicks: Mapping[str, Clicks], sales: Mapping[str, int]
) -> dict[str, Brought]:
    """Clicks and sales of links and products, from those of their codes. Of products nobody tells the sales by code."""
    with db.session(write=False) as session:
        rows = session.execute(
            sa.select(AffiliateLinkCode.code, AffiliateLinkCode.link_id, AffiliateLinkCode.product_id)
        ).all()
    found: dict[str, Brought] = {}
    for code, link_id, product_id in rows:
        item = str(link_id or product_id)
        so_far = found.get(item, Brought(0, 0 if link_id else None))
        found[item] = Brought(
            so_far.clicks + clicks.get(code, Clicks()).people,
            None if so_far.sales is None else so_far.sales + sales.get(code, 0),
        )
    return found


def match(day: date, niches: Mapping[str, Text], candidates: Sequence[Candidate]) -> list[dict[str, Any]]:
    """Rows of `product_matches`: per niche, kind and account the best, of which the first is chosen if it suits."""
    alike = likenesses(list(niches.values()), [candidate.text for candidate in candidates])
    prices = [candidate.price for candidate in candidates if candidate.price is not None]
    usual = Money(int(median(price.minor for price in prices)), prices[0].currency) if prices else None
    average = _average_rate(candidates)
    rows: list[dict[str, Any]] = []
    for niche, found in zip(niches, alike, strict=True):
        scored = [
            _row(day, niche, candidate, likeness, usual, average)
            for candidate, likeness in zip(candidates, found, strict=True)
            if candidate.may_be_in(niche) and (likeness.score > 0 or candidate.niches)
        ]
        groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for row in sorted(scored, key=_order):
            groups.setdefault((row["kind"], row["account"] or ""), []).append(row)
        for group in groups.values():
            for rank, row in enumerate(group[:RANKED], start=1):
                rows.append(row | {"rank": rank, "chosen": rank == 1 and row["text_score"] >= THRESHOLD})
    return rows


def _order(row: Mapping[str, Any]) -> tuple[bool, float, str]:
    # What does not suit stands behind what does, however much of it is in stock.
    return row["text_score"] < THRESHOLD, -row["score"], row["item_id"]


def _row(
    day: date, niche: str, candidate: Candidate, likeness: Likeness, usual: Money | None, average: float
) -> dict[str, Any]:
    declared = niche in candidate.niches
    # A person's word that it is for this niche stands for the words they share.
    text = 1.0 if declared else likeness.score
    parts = {
        "text_score": text,
        "price_score": _price_score(candidate.price, usual),
        "stock_score": NEUTRAL if candidate.kind == LINK else _stock_score(candidate.stock),
        "conversion_score": _conversion_score(candidate, average),
    }
    score = sum(
        share * part for share, part in zip((TEXT, PRICE, STOCK, CONVERSION), parts.values(), strict=True)
    )
    return {
        "day": day, "niche": niche, "kind": candidate.kind, "item_id": candidate.item_id,
        "account": candidate.account, "label": candidate.label, "score": round(score, 6),
        **{name: round(part, 6) for name, part in parts.items()},
        "clicks": candidate.clicks, "sales": candidate.sales, "words": list(likeness.words),
        "why": _why(candidate, likeness, usual, declared=declared),
    }  # fmt: skip


def _price_score(price: Money | None, usual: Money | None) -> float:
    """1 at the shop's median price, a half at a quarter or four times of it."""
    if price is None or usual is None or usual.minor <= 0:
        return NEUTRAL
    return math.pow(0.5, abs(math.log(price.minor / usual.minor, 4)))


def _stock_score(stock: int | None) -> float:
    return 1.0 if stock is None else min(1.0, max(0, stock) / PLENTY)


def _average_rate(candidates: Sequence[Candidate]) -> float:
    """Sales per click of everything whose sales are told, as if it had begun with one in fifty."""
    told = [candidate for candidate in candidates if candidate.sales is not None]
    return (1 + sum(c.sales or 0 for c in told)) / (50 + sum(c.clicks for c in told))


def _conversion_score(candidate: Candidate, average: float) -> float:
    """A half for the average rate of sales, more above it; few clicks hardly move it."""
    if candidate.sales is None:
        return NEUTRAL
    rate = (candidate.sales + SHRINKAGE * average) / (candidate.clicks + SHRINKAGE)
    return rate / (rate + average)


def _why(candidate: Candidate, likeness: Likeness, usual: Money | None, *, declared: bool) -> str:
    """The match in words: what it shares, its price, its stock, what it brought."""
    if declared:
        said = ["declared for this niche"]
    elif likeness.words:
        said = [f"shares {', '.join(likeness.words)}"]
    else:
        said = ["shares parts of words"]
    if not declared and likeness.score < THRESHOLD:
        said.append(f"too little: {likeness.score:.2f} of {THRESHOLD:.2f}")
    if candidate.price is not None and usual is not None:
        said.append(f"{candidate.price}, the shop's usual price is {usual}")
    if candidate.kind == PRODUCT:
        said.append("stock not counted" if candidate.stock is None else f"{candidate.stock} in stock")
    if candidate.sales is not None:
        said.append(f"{candidate.sales} sales of {candidate.clicks} clicks")
    elif candidate.clicks:
        said.append(f"{candidate.clicks} clicks")
    return "; ".join(said)


def keep_choice(
    db: StateDatabase, day: date, rows: Iterable[Mapping[str, Any]], candidates: Iterable[Candidate]
) -> bool:
    """Make what was chosen the offer of its niches, and take every other offer back. False for a day gone by."""
    by_item = {(candidate.kind, candidate.item_id): candidate for candidate in candidates}
    with db.session() as session:
        newest = session.scalar(sa.select(sa.func.max(NicheOffer.day)))
        if newest is not None and newest > day:
            return False
        session.execute(sa.delete(NicheOffer))
        now = db.now(session)
        for row in rows:
            if not row["chosen"]:
                continue
            one = by_item[row["kind"], row["item_id"]]
            is_link = one.kind == LINK
            session.add(
                NicheOffer(
                    account_id=one.account or "", niche=row["niche"], kind=one.kind,
                    link_id=one.item_id if is_link else None, product_id=None if is_link else one.item_id,
                    label=one.label, target_url=None if is_link else one.target_url, statement=one.statement,
                    score=row["score"], day=day, chosen_at=now,
                )
            )  # fmt: skip
    return True
