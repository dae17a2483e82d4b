"""What the sandboxed Shopify store sells: a fixed catalogue, changes made to it, and bulk exports of it.

A product of the store `shopify_product` (by number) adds to the catalogue or replaces one of it; one with
`deleted` takes it away. Called by `sandbox/shopify.py` alone.
"""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from ettametta_pipelines.clock import rfc3339
from ettametta_pipelines.sandbox.core import SandboxStore

Json = dict[str, Any]
# number, title, type, tags, what is said of it, variants as (title, price, stock); a stock of None is not counted.
_SHELF: tuple[tuple[int, str, str, str, str, tuple[tuple[str, str, int | None], ...]], ...] = (
    (1, "Preset pack", "Digital goods", "presets, editing, video", "Forty colour presets for video and photo editing.",
     (("Default Title", "19.99", None),)),
    (2, "Sticker sheet", "Stationery", "stickers, laptop", "Twelve vinyl stickers for laptops and bottles.",
     (("Default Title", "5.99", 180),)),
    (3, "Studio mug", "Mugs", "coffee, desk", "Ceramic mug for long editing nights.",
     (("White", "14.50", 42), ("Black", "14.50", 0))),
    (4, "Creator hoodie", "Clothing", "hoodie, merch", "Heavy cotton hoodie with a stitched logo.",
     (("S", "49.00", 3), ("M", "49.00", 11), ("L", "52.00", 0))),
    (5, "Resistance band set", "Fitness equipment", "home workout, mobility, strength",
     "Five latex bands for workouts at home without equipment, with a mobility routine booklet.",
     (("Light", "24.90", 35), ("Heavy", "29.90", 20))),
    (6, "Foam roller", "Fitness equipment", "recovery, mobility, running",
     "Firm roller for sore runners' legs and mobility training.", (("Default Title", "32.00", 18),)),
    (7, "Cast iron pan 26 cm", "Cookware", "one pan, dinner, kitchen",
     "Pre-seasoned skillet for one-pan dinners, from stove to oven.", (("Default Title", "39.90", 25),)),
    (8, "Glass meal prep boxes", "Kitchenware", "meal prep, storage, lunch",
     "Ten leak-proof containers for a week of high protein lunches.", (("Default Title", "44.00", 60),)),
    (9, "Budget planner notebook", "Stationery", "budgeting, savings, money",
     "Undated planner for monthly budgets, savings goals and bills.", (("Default Title", "17.50", 90),)),
    (10, "Magnetic phone tripod", "Tech accessories", "phone, camera, desk setup",
     "Folding tripod with a magnetic mount for phone camera shots.", (("Default Title", "36.00", 14),)),
    (11, "Walnut monitor stand", "Desk accessories", "desk setup, workspace, gadget",
     "Raises the screen and hides cables under it.", (("Default Title", "69.00", 0),)),
    (12, "Packing cubes", "Travel accessories", "travel, packing, luggage",
     "Six compression cubes that keep a carry-on in order.", (("Three", "22.00", 40), ("Six", "34.00", 8))),
    (13, "Street food map of Bangkok", "Maps", "travel, street food", "Folded map with eighty stalls, by a local cook.",
     (("Default Title", "12.00", 55),)),
)  # fmt: skip
DRAFTS = frozenset({13})
FIRST_SOLD = datetime.fromisoformat("2026-02-01T09:00:00+00:00")
RUNS_FOR = timedelta(seconds=2)


def products(store: SandboxStore) -> list[Json]:
    """Bare products by number: title, type, tags, status, html, variants of (title, price, stock, policy)."""
    shelf = {number: _bare(row) for number, *row in _SHELF}
    for key, changed in store.items("shopify_product"):
        number = int(key)
        if changed.get("deleted"):
            shelf.pop(number, None)
        else:
            shelf[number] = {
                **shelf.get(number, _bare(("", "", "", "", (("Default Title", "1.00", 1),)))),
                **changed,
            }
    return [{"number": number, **shelf[number]} for number in sorted(shelf)]


def _bare(row: Any) -> Json:
    title, kind, tags, html, variants = row
    return {
        "title": title,
        "type": kind,
        "tags": [tag.strip() for tag in tags.split(",") if tag.strip()],
        "html": f"<p>{html}</p>",
        "variants": [list(variant) for variant in variants],
    }


def product_body(product: Json, shop_url: str, connect: Any) -> Json:
    """One product as the schema has it; `connect` makes a page of its variants."""
    number = product["number"]
    gid = f"gid://shopify/Product/{number}"
    handle = product.get("handle") or "-".join(product["title"].lower().split()) or f"product-{number}"
    status = product.get("status", "DRAFT" if number in DRAFTS else "ACTIVE")
    variants = [
        _variant_body(number, place, variant) for place, variant in enumerate(product["variants"], start=1)
    ]

    def page(info: Any, **arguments: Any) -> Json:
        made: Json = connect(info, variants, arguments, lambda v: (v["position"], v["position"]), lambda v: v)
        return made

    is_online = status == "ACTIVE" and product.get("online", True)
    updated = product.get("updated", rfc3339(FIRST_SOLD + timedelta(days=number)))
    return {
        "id": gid,
        "title": product["title"],
        "handle": handle,
        "descriptionHtml": product["html"],
        "productType": product["type"],
        "vendor": product.get("vendor", "Ettametta sandbox store"),
        "tags": product["tags"],
        "status": status,
        "onlineStoreUrl": f"{shop_url}/products/{handle}" if is_online else None,
        "createdAt": rfc3339(FIRST_SOLD),
        "updatedAt": updated,
        "variants": page,
        "variantsCount": {"count": len(variants), "precision": "EXACT"},
    }


def _variant_body(product: int, place: int, variant: Any) -> Json:
    title, price, stock = variant[:3]
    policy = variant[3] if len(variant) > 3 else "DENY"
    return {
        "id": f"gid://shopify/ProductVariant/{product * 1000 + place}",
        "title": title,
        "position": place,
        "price": price,
        "inventoryQuantity": stock if stock is not None else 0,
        "inventoryPolicy": policy,
        "availableForSale": stock is None or stock > 0 or policy == "CONTINUE",
        "inventoryItem": {
            "id": f"gid://shopify/InventoryItem/{product * 1000 + place}",
            "tracked": stock is not None,
        },
    }


def lines_of(data: Json) -> Iterator[str]:
    """A bulk export's JSONL: every node of every connection on a line, below its parent, whose id it names."""
    for field in data.values():
        yield from _lines(field, None)


def _lines(connection: Json, parent: str | None) -> Iterator[str]:
    for edge in connection["edges"]:
        node = edge["node"]
        inner = {name: value for name, value in node.items() if isinstance(value, dict) and "edges" in value}
        plain = {name: value for name, value in node.items() if name not in inner}
        yield json.dumps(plain | ({"__parentId": parent} if parent else {}))
        for value in inner.values():
            yield from _lines(value, node["id"])


def start_export(store: SandboxStore, lines: list[str], now: datetime, public_url: str) -> Json:
    """A bulk operation that is done after `RUNS_FOR`; `userErrors` while another runs."""
    running = store.get("shopify_bulk", "latest")
    seen = operation(store, running["id"], now, public_url) if running else None
    if running and seen and seen["status"] == "RUNNING":
        said = f"A bulk query operation for this app and shop is already in progress: {running['id']}."
        return {"bulkOperation": None, "userErrors": [{"field": None, "message": said}]}
    gid = f"gid://shopify/BulkOperation/{store.counter('shopify_bulk')}"
    store.blob_path(gid).write_text("".join(f"{line}\n" for line in lines))
    record = {"id": gid, "at": now.timestamp(), "count": len(lines)}
    store.put("shopify_bulk", gid, record)
    store.put("shopify_bulk", "latest", record)
    return {"bulkOperation": operation(store, gid, now, public_url), "userErrors": []}


def operation(store: SandboxStore, gid: str, now: datetime, public_url: str) -> Json | None:
    """The operation as seen at `now`; None for one that never was."""
    record = store.get("shopify_bulk", gid)
    if record is None:
        return None
    fate = store.get("shopify_bulk_fate", "next") or {}
    done = now.timestamp() - record["at"] >= RUNS_FOR.total_seconds()
    status = fate.get("status", "COMPLETED") if done else "RUNNING"
    number = gid.rpartition("/")[2]
    url = f"{public_url}/shopify/bulk/{number}.jsonl" if status == "COMPLETED" and record["count"] else None
    return {
        "__typename": "BulkOperation",
        "id": gid,
        "status": status,
        "errorCode": fate.get("errorCode") if status == "FAILED" else None,
        "objectCount": str(record["count"]),
        "url": url,
    }
