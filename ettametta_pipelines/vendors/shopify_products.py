"""Shopify's products, read whole: page by page from a small store, by a bulk export from a large one.

An export costs no query points but keeps one waiting while Shopify writes it, so it pays only where pages would be
many; and pages end at 25,000 objects. Both ways give the same products. Called by `commerce/`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.money import Money
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.http import (
    call_with_retries,
    http_client,
    is_loopback,
    raise_for_vendor,
    send,
    unreadable_answer,
)
from ettametta_pipelines.vendors.shopify import VENDOR, ShopifyClient

# Twenty pages; more of them take longer than an export.
EXPORT_ABOVE = 400
# A page costs 2 + 20 x (4 + 20 x 2) = 882 of the 1000 points a query may cost.
PAGE_SIZE = 20
VARIANTS_BESIDE = 20
VARIANTS_PAGE = 100
EXPORT_WAIT_S = 900.0
EXPORT_POLL_S = (1.0, 10.0)
EXPORT_MAX_BYTES = 1_000_000_000

_VARIANT = "id price inventoryQuantity availableForSale inventoryItem { tracked }"
_PRODUCT = "id title handle descriptionHtml productType vendor tags status onlineStoreUrl createdAt updatedAt"
COUNT_QUERY = "query Count { productsCount(limit: null) { count } }"
PAGE_QUERY = f"""
query Products($first: Int!, $after: String) {{
  products(first: $first, after: $after, sortKey: ID) {{
    nodes {{
      {_PRODUCT}
      variants(first: {VARIANTS_BESIDE}) {{ nodes {{ {_VARIANT} }} pageInfo {{ hasNextPage endCursor }} }}
    }}
    pageInfo {{ hasNextPage endCursor }}
  }}
}}
"""
VARIANTS_QUERY = f"""
query Variants($id: ID!, $first: Int!, $after: String) {{
  product(id: $id) {{
    variants(first: $first, after: $after) {{ nodes {{ {_VARIANT} }} pageInfo {{ hasNextPage endCursor }} }}
  }}
}}
"""
EXPORT_QUERY = f"""
{{ products {{ edges {{ node {{ {_PRODUCT} variants {{ edges {{ node {{ {_VARIANT} }} }} }} }} }} }} }}
"""
START_QUERY = """
mutation Export($query: String!) {
  bulkOperationRunQuery(query: $query) { bulkOperation { id } userErrors { field message } }
}
"""
LOOK_QUERY = """
query Look($id: ID!) { node(id: $id) { ... on BulkOperation { id status errorCode objectCount url } } }
"""


@dataclass(frozen=True)
class ShopifyVariant:
    """One thing that is bought. `stock` is None where the shop does not count it."""

    price: Money
    stock: int | None
    for_sale: bool


@dataclass(frozen=True)
class ShopifyProduct:
    """One product as the shop has it; `url` is None where its online store does not show it."""

    id: str
    title: str
    handle: str
    html: str
    type: str
    vendor: str
    tags: tuple[str, ...]
    status: str
    url: str | None
    created_at: datetime
    updated_at: datetime
    variants: tuple[ShopifyVariant, ...]


@dataclass(frozen=True)
class ShelfRead:
    """All products, by number; and how they were read: pages or export."""

    products: list[ShopifyProduct]
    way: str


class ShopifyShelf(ShopifyClient):
    """Reader of one store's products. Raises PipelineError subclasses only."""

    def __init__(self, endpoint: VendorEndpoint, **options: Any) -> None:
        super().__init__(endpoint, **options)
        self._endpoint = endpoint

    def read(self, currency: str) -> ShelfRead:
        """Every product of the store, drafts and archived ones too. `currency` is the shop's."""
        count = self._ask("count the products", COUNT_QUERY, {})["productsCount"]["count"]
        by_export = count > EXPORT_ABOVE
        nodes = self._exported() if by_export else self._paged()
        # Between two pages a product may have been changed, and come twice.
        latest = {node["id"]: node for node in nodes}
        products = [_product(node, currency) for node in latest.values()]
        return ShelfRead(sorted(products, key=lambda p: number_of(p.id)), "export" if by_export else "pages")

    def _ask(self, doing: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        try:
            return self._query(doing, query, variables)
        except NeedsPersonError as error:
            if error.code == "shopify_access_denied":
                error.remedy = "Give the app the scope read_products, install it again and set its new token."
            raise

    def _paged(self) -> Iterator[dict[str, Any]]:
        after: str | None = None
        while True:
            page = self._ask("list products", PAGE_QUERY, {"first": PAGE_SIZE, "after": after})["products"]
            for node in page["nodes"]:
                yield node | {"variants": [*node["variants"]["nodes"], *self._other_variants(node)]}
            if not page["pageInfo"]["hasNextPage"]:
                return
            after = page["pageInfo"]["endCursor"]

    def _other_variants(self, node: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        info = node["variants"]["pageInfo"]
        while info["hasNextPage"]:
            asked = {"id": node["id"], "first": VARIANTS_PAGE, "after": info["endCursor"]}
            product = self._ask("list variants", VARIANTS_QUERY, asked)["product"]
            if product is None:  # deleted meanwhile
                return
            yield from product["variants"]["nodes"]
            info = product["variants"]["pageInfo"]

    def _exported(self) -> list[dict[str, Any]]:
        started = self._ask("export the products", START_QUERY, {"query": EXPORT_QUERY})[
            "bulkOperationRunQuery"
        ]
        if started["userErrors"]:
            said = str(started["userErrors"][0]["message"])
            if "already in progress" in said:
                raise TransientError(
                    "Shopify is busy with another bulk export of this app.",
                    code="shopify_export_busy",
                    remedy="It is tried again by itself, when that one is done.",
                    retry_after_s=60,
                )
            raise PermanentError(
                f"Shopify refused to export the products: {said[:300]}",
                code="shopify_export_refused",
                remedy="Check EXPORT_QUERY in vendors/shopify_products.py against the shop's API version.",
            )
        done = self._await_export(started["bulkOperation"]["id"])
        if done["url"] is None:
            return []
        lines = call_with_retries(
            lambda: self._download(done["url"], int(done["objectCount"])),
            retries=self._retries, sleep=self._sleep, seed="export",
        )  # fmt: skip
        return put_together(lines)

    def _await_export(self, identifier: str) -> dict[str, Any]:
        waited, pause = 0.0, EXPORT_POLL_S[0]
        while True:
            node = self._ask("look at the export", LOOK_QUERY, {"id": identifier})["node"] or {}
            status = node.get("status")
            if status == "COMPLETED":
                return dict(node)
            if status not in ("CREATED", "RUNNING"):
                raise TransientError(
                    f"Shopify's export of the products ended as {status} ({node.get('errorCode')}).",
                    code="shopify_export_failed",
                    remedy="It is tried again by itself; if it lasts, look at Shopify's status page.",
                )
            if waited >= EXPORT_WAIT_S:
                raise TransientError(
                    f"Shopify has been writing the export of the products for {waited:.0f} seconds.",
                    code="shopify_export_slow",
                    remedy="It is tried again by itself.",
                )
            self._sleep(pause)
            waited, pause = waited + pause, min(2 * pause, EXPORT_POLL_S[1])

    def _download(self, url: str, expected: int) -> list[dict[str, Any]]:
        """The export's lines. Its address is signed and of another host, so it is asked without our token."""
        doing = "read the export of the products"
        secure = urlsplit(url).scheme == "https" or (
            is_loopback(url) and is_loopback(self._endpoint.base_url)
        )
        if not secure:
            raise unreadable_answer(VENDOR, doing)
        with http_client(self._endpoint) as http:
            response = send(http, "GET", url, vendor=VENDOR, doing=doing)
            raise_for_vendor(response, vendor=VENDOR, doing=doing)
        if len(response.content) > EXPORT_MAX_BYTES:
            raise PermanentError(
                f"Shopify's export of the products has {len(response.content):,} bytes.",
                code="shopify_export_too_large",
                remedy="Raise EXPORT_MAX_BYTES in vendors/shopify_products.py if the run has the memory.",
            )
        try:
            lines = [json.loads(line) for line in response.text.split("\n") if line]
        except ValueError:
            lines = []
        # An answer that was cut off between two lines reads well, too.
        if len(lines) != expected:
            raise unreadable_answer(VENDOR, doing)
        return lines


def put_together(lines: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Products with their variants, from an export's lines, where a variant names its parent."""
    found: dict[str, dict[str, Any]] = {}
    for line in lines:
        parent = line.get("__parentId")
        if parent is None:
            found[line["id"]] = {**line, "variants": []}
        elif parent in found:
            found[parent]["variants"].append(line)
    return list(found.values())


def number_of(gid: str) -> int:
    """The number at the end of a Shopify id."""
    return int(gid.rpartition("/")[2])


def _product(node: Mapping[str, Any], currency: str) -> ShopifyProduct:
    try:
        return ShopifyProduct(
            id=node["id"],
            title=node["title"],
            handle=node["handle"],
            html=node["descriptionHtml"] or "",
            type=node["productType"] or "",
            vendor=node["vendor"] or "",
            tags=tuple(node["tags"]),
            status=str(node["status"]).lower(),
            url=node["onlineStoreUrl"],
            created_at=datetime.fromisoformat(node["createdAt"]).astimezone(UTC),
            updated_at=datetime.fromisoformat(node["updatedAt"]).astimezone(UTC),
            variants=tuple(_variant(variant, currency) for variant in node["variants"]),
        )
    except PipelineError:
        raise
    except (KeyError, TypeError, ValueError):
        raise unreadable_answer(VENDOR, "list products") from None


def _variant(node: Mapping[str, Any], currency: str) -> ShopifyVariant:
    counted = node["inventoryItem"]["tracked"] and node["inventoryQuantity"] is not None
    return ShopifyVariant(
        price=Money.parse(node["price"], currency),
        stock=int(node["inventoryQuantity"]) if counted else None,
        for_sale=bool(node["availableForSale"]),
    )
