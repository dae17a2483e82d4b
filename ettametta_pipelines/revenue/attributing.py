"""Attribution of booked days: every movement of the books goes to a video, or says why it goes to none.

Computed anew for a day whenever asked, from stored tables alone; the rule is `attribution.py`'s. What the ledgers hold
without an order, and all of Stripe, which is the agency's own subscriptions, is unattributed by design. Called by the
asset `revenue_attribution`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from ettametta_pipelines.revenue.attribution import (
    NO_VISIT,
    NOT_READ,
    NOT_READY,
    Policy,
    Target,
    split_running,
    touches,
    weights,
)
from ettametta_pipelines.revenue.ledger import SHOWN, Finding, Wrong, lexicon, sentence
from ettametta_pipelines.revenue.margin_contracts import ATTRIBUTION_CHECKS, REVENUE_ATTRIBUTION
from ettametta_pipelines.revenue.posts import Post, Posts
from ettametta_pipelines.revenue.raw import MARTS
from ettametta_pipelines.revenue.reading import chunks
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore

Row = dict[str, Any]

REST = "(rest)"
WHY_REST = {
    "stripe": "subscriptions are the agency's own",
    "shopify": "fees and adjustments of no order",
}
NOT_OURS = "videos that are no posts of ours"
NO_LINK = "its link belongs to no video"
AMOUNTS = ("gross_minor", "fee_minor", "net_minor")


@dataclass
class Attributed:
    """Rows by day, and what the checks found."""

    rows: dict[date, list[Row]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def read_codes(db: StateDatabase) -> dict[str, tuple[str | None, str | None]]:
    """Codes of redirect links, {code: (source video, platform)}; none where the state has no such links."""
    links = sa.table("affiliate_link_codes", *(sa.column(n) for n in ("code", "source_id", "platform")))
    with db.session(write=False) as session:
        if not sa.inspect(session.connection()).has_table(links.name):
            return {}
        rows = session.execute(sa.select(links.c.code, links.c.source_id, links.c.platform)).all()
    return {code: (source, platform) for code, source, platform in rows}


def make_attribution(
    store: "ObjectStore",
    lake: "Lake",
    days: Sequence[date],
    policy: Policy,
    posts: Posts,
    codes: Mapping[str, Target],
) -> Attributed:
    """Compute and store `revenue_attribution` of these days (in order) from the stored books."""
    from ettametta_pipelines.storage.parquet import write_table

    made = Attributed()
    wrong: dict[str, Wrong] = {}
    looked_at = 0
    for chunk in chunks(days):
        bounds = {"first_day": chunk[0], "last_day": chunk[-1]}
        with lake.unchanging():
            found = [
                *_rest(lake, bounds),
                *_of_youtube(lake, bounds, posts),
                *_of_orders(lake, bounds, policy, posts, codes),
                *_of_affiliates(lake, bounds, posts, codes),
            ]
        by_day = _numbered(found)
        for day in chunk:
            made.rows[day] = by_day.get(day, [])
            write_table(
                store, REVENUE_ATTRIBUTION, REVENUE_ATTRIBUTION.frame(made.rows[day]), day.isoformat()
            )
            looked_at += len(made.rows[day])
        for name, said in attribution_problems(lake, bounds):
            wrong.setdefault(name, Wrong(0, [])).add(len(said), said[:SHOWN])
    made.findings = [Finding(name, sentence(wrong.get(name)), looked_at) for name in ATTRIBUTION_CHECKS]
    return made


def attribution_problems(lake: "Lake", bounds: Mapping[str, date]) -> Iterator[tuple[str, list[str]]]:
    """(check, sentences) of what is stored for these days."""
    with lexicon(lake):
        for name in ATTRIBUTION_CHECKS:
            yield name, sorted(row["said"] for row in lake.rows(_sql(f"check_{name}"), bounds))


def _rest(lake: "Lake", bounds: Mapping[str, date]) -> Iterator[Row]:
    for row in lake.rows(_sql("attribution_rest"), bounds):
        yield _row(row, REST, None, None, reason=WHY_REST[row["source"]])


def _of_youtube(lake: "Lake", bounds: Mapping[str, date], posts: Posts) -> Iterator[Row]:
    for row in lake.rows(_sql("attribution_youtube"), bounds):
        item = row["video_id"] if row["video_id"] != REST else f"{row['channel_id']} {REST}"
        if row["source_id"] is None:
            yield _row(row, item, None, None, reason=NOT_OURS) | {
                "account": row["account"], "channel_id": row["channel_id"], "platform": "youtube",
            }  # fmt: skip
        else:
            target = Target(row["source_id"], "youtube")
            yield _row(row, item, target, posts, rule="video", post=posts.by_id(row["publication_id"]))


def _of_orders(
    lake: "Lake",
    bounds: Mapping[str, date],
    policy: Policy,
    posts: Posts,
    codes: Mapping[str, Target],
) -> Iterator[Row]:
    """Movements of the days of every order, divided as all its movements up to then are."""
    journeys = {row["order_id"]: row for row in lake.rows(_sql("attribution_journeys"), bounds)}
    posted = {Target(post.source_id, platform) for post in posts.all for platform in (post.platform, None)}
    movements = lake.rows(_sql("attribution_orders"), bounds)
    for (order, _), group in groupby(movements, key=lambda row: (row["order_id"], row["currency"])):
        rows = list(group)
        shares, reason = _shares(journeys.get(order), policy, posted, codes)
        targets: list[Target | None] = [*shares] or [None]
        divided = {
            name: split_running([row[name] for row in rows], [*shares.values()] or [1])
            for name in ("fee_minor", "net_minor")
        }
        for place, row in enumerate(rows):
            if row["day"] < bounds["first_day"]:
                continue
            for share, target in enumerate(targets):
                fee, net = divided["fee_minor"][place][share], divided["net_minor"][place][share]
                amounts = {"gross_minor": net + fee, "fee_minor": fee, "net_minor": net}
                yield _row(row | amounts, order, target, posts, rule=policy.rule, reason=reason)


def _shares(
    journey: Row | None, policy: Policy, posted: Collection[Target], codes: Mapping[str, Target]
) -> tuple[dict[Target, int], str | None]:
    """Weights of an order's targets, or why it has none."""
    if journey is None:
        return {}, NOT_READ
    found = weights(touches(journey["visits"], journey["ordered_at"], policy, posted, codes), policy.rule)
    if found:
        return found, None
    return {}, NO_VISIT if journey["is_ready"] else NOT_READY


def _of_affiliates(
    lake: "Lake", bounds: Mapping[str, date], posts: Posts, codes: Mapping[str, Target]
) -> Iterator[Row]:
    for row in lake.rows(_sql("attribution_affiliates"), bounds):
        target = codes.get(row["link_id"] or "")
        item = f"{row['network']} {row['transaction_id']}"
        yield _row(row, item, target, posts, rule="code", reason=None if target else NO_LINK)


def _row(
    row: Row,
    item: str,
    target: Target | None,
    posts: Posts | None,
    *,
    rule: str = "none",
    reason: str | None = None,
    post: Post | None = None,
) -> Row:
    made = {name: row[name] for name in ("day", "source", "currency", "exponent", "livemode", *AMOUNTS)}
    made |= {"item_id": item, "rule": rule if target else "none", "reason": reason}
    if target is None or posts is None:
        return made
    post = post or posts.of(target.source_id, target.platform)
    account, niche = posts.sources.get(target.source_id, (None, None))
    made |= {"source_id": target.source_id, "platform": target.platform, "account": account, "niche": niche}
    if post is not None:
        made |= {
            name: getattr(post, name)
            for name in ("account", "publication_id", "platform", "channel_id", "format", "recipe")
        }
    return made


def _numbered(rows: Sequence[Row]) -> dict[date, list[Row]]:
    """Rows by day, in a stable order, the parts of one item numbered."""
    by_day: dict[date, list[Row]] = {}
    counted: dict[tuple[Any, ...], int] = {}
    for row in sorted(rows, key=lambda r: (r["day"], r["source"], r["currency"], r["item_id"])):
        key = (row["day"], row["source"], row["currency"], row["item_id"])
        counted[key] = counted.get(key, 0) + 1
        by_day.setdefault(row["day"], []).append(row | {"share_no": counted[key]})
    return by_day


def _sql(name: str) -> str:
    return (MARTS / f"{name}.sql").read_text()
