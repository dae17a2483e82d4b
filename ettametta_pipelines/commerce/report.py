"""Commerce as operators see it in the Dagster UI: rows of `affiliate_links`, and tables in words."""

import json
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ettametta_pipelines.commerce import links
from ettametta_pipelines.commerce.performance import Clicks, clicks_by_code, earned_by
from ettametta_pipelines.commerce.targets import shown_host
from ettametta_pipelines.money import Money
from ettametta_pipelines.previews import cell, link, markdown_table, number
from ettametta_pipelines.state.session import StateDatabase

Row = Mapping[str, Any]
SHOWN = 30


def link_rows(db: StateDatabase, earnings: Mapping[str, list[dict[str, object]]]) -> list[dict[str, Any]]:
    """Rows of `affiliate_links`, active ones first."""
    found = links.listed(db)
    codes, clicks = links.codes_of(db, [row.id for row in found]), clicks_by_code(db)
    rows = []
    for row in found:
        own = [code.code for code in codes[row.id]]
        counted = [clicks.get(code, Clicks()) for code in own]
        earned = earned_by([*own, row.id], earnings)
        approved = {money.currency: money.minor for money in earned.approved}
        pending = {money.currency: money.minor for money in earned.pending}
        rows.append(
            {
                "link_id": row.id, "account": row.account_id, "label": row.label, "network": row.network,
                "target_url": row.target_url, "niches": list(row.niches), "commission_note": row.commission_note,
                "status": row.status, "codes": own, "clicks": sum(one.people for one in counted),
                "machine_requests": sum(one.machines for one in counted), "sales": earned.sales,
                "earned": json.dumps(
                    [
                        [currency, Money(0, currency).exponent, approved.get(currency, 0), pending.get(currency, 0)]
                        for currency in sorted(approved | pending)
                    ]
                ),
                "created_at": row.created_at, "retired_at": row.retired_at,
            }
        )  # fmt: skip
    return rows


def links_table(rows: Sequence[Row], gateway_url: str) -> str:
    """Markdown: the links that were followed most, each with its page in the gateway."""
    best = sorted(rows, key=lambda row: (row["status"] != links.ACTIVE, -row["clicks"]))[:SHOWN]
    return markdown_table(
        ("link", "account", "leads to", "state", "clicks", "sales", "approved", "pending"),
        [
            [
                link(row["label"], f"{gateway_url}/links/{row['link_id']}"), cell(row["account"]),
                cell(shown_host(row["target_url"])), row["status"], number(row["clicks"]), number(row["sales"]),
                _amounts(row["earned"], 2), _amounts(row["earned"], 3),
            ]
            for row in best
        ],
    )  # fmt: skip


def _amounts(earned: str, place: int) -> str:
    return " ".join(str(Money(row[place], row[0])) for row in json.loads(earned) if row[place]) or "–"


def products_table(rows: Sequence[Row]) -> str:
    """Markdown: products as the shop shows them, the last changed first."""
    latest = sorted(rows, key=lambda row: (row["updated_at"], row["product_id"]), reverse=True)[:SHOWN]
    table = markdown_table(
        ("product", "type", "price", "stock", "status"),
        [
            [
                link(row["title"], row["url"]), cell(row["product_type"] or "–"), _price(row), number(row["stock"]),
                cell(row["status"]) + ("" if row["for_sale"] else ", sold out"),
            ]
            for row in latest
        ],
    )  # fmt: skip
    more = len(rows) - len(latest)
    return f"{table}\n\n{more} more in the table." if more else table


def _price(row: Row) -> str:
    if row["price_minor"] is None:
        return "–"
    low, high = (Money(row[name], row["currency"]) for name in ("price_minor", "price_to_minor"))
    return str(low) if low == high else f"{low} to {high}"


def counts_by_status(rows: Sequence[Row]) -> dict[str, int]:
    counted = Counter(row["status"] for row in rows)
    return {status: counted[status] for status in ("active", "draft", "archived")}


def matches_table(rows: Sequence[Row], niches: Collection[str]) -> str:
    """Markdown: what each niche offers and why; and what came nearest where nothing suits."""
    lines = []
    for niche in niches:
        found = [row for row in rows if row["niche"] == niche]
        chosen = [row for row in found if row["chosen"]]
        if not chosen:
            near = next(iter(found), None)
            said = f"nearest: {near['label']}: {near['why']}" if near else "no product or link shares a word"
            lines.append([cell(niche), "nothing suits", "–", "–", cell(said, limit=200)])
        for row in chosen:
            what = f"{row['kind']} of {row['account']}" if row["account"] else row["kind"]
            lines.append(
                [
                    cell(niche),
                    cell(row["label"]),
                    cell(what),
                    f"{row['score']:.2f}",
                    cell(row["why"], limit=200),
                ]
            )
    return markdown_table(("niche", "offers", "kind", "score", "why"), lines)
