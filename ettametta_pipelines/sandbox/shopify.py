"""Sandbox of Shopify's GraphQL Admin API: the store, its products and its Shopify Payments ledger.

Queries are checked against a real schema (`shopify.graphql`), costed and throttled by a leaky bucket as
Shopify does it: refusals come with HTTP 200 and an error code. The money is in `shopify_books.py`, the products and
bulk exports in `shopify_goods.py`.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from graphql import (
    FieldNode,
    FragmentDefinitionNode,
    FragmentSpreadNode,
    GraphQLError,
    GraphQLObjectType,
    GraphQLSchema,
    InlineFragmentNode,
    OperationDefinitionNode,
    OperationType,
    SelectionSetNode,
    build_schema,
    execute_sync,
    get_named_type,
    parse,
    validate,
    value_from_ast_untyped,
)

from ettametta_pipelines.clock import Clock, rfc3339
from ettametta_pipelines.money import Money
from ettametta_pipelines.sandbox import shopify_books as books
from ettametta_pipelines.sandbox import shopify_goods as goods
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.sandbox.shopify_orders import orders_root
from ettametta_pipelines.sandbox.shopify_webhooks import subscription_root

Json = dict[str, Any]

TOKEN = re.compile(r"(?:shpat_|shpca_|sandbox-)[A-Za-z0-9_-]+")
API_VERSION = re.compile(r"20\d\d-(?:01|04|07|10)|unstable")
MAX_PAGE = 250
MAX_QUERY_COST = 1000
BUCKET_SIZE = 2000.0
RESTORED_PER_S = 100.0
CURRENCY = "USD"
DOCUMENTATION = "https://shopify.dev/api/usage/rate-limits"


def router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """`POST /shopify/admin/api/{version}/graphql.json`, and the files of bulk exports."""
    api = APIRouter()

    @api.get("/bulk/{number}.jsonl")
    async def export(number: int, request: Request) -> Response:
        # As with Google's storage, whoever has the address may read, and a stranger's token is a mistake.
        file = store.blob_path(f"gid://shopify/BulkOperation/{number}")
        if not file.exists() or "x-shopify-access-token" in request.headers:
            return Response(status_code=403)
        return FileResponse(file, media_type="application/jsonl")

    @api.post("/admin/api/{version}/graphql.json")
    async def graphql(version: str, request: Request) -> Response:
        if not TOKEN.fullmatch(request.headers.get("x-shopify-access-token", "")):
            said = "[API] Invalid API key or access token (unrecognized login or wrong password)"
            return JSONResponse({"errors": said}, 401)
        if not API_VERSION.fullmatch(version):
            return JSONResponse({"errors": "Not Found"}, 404)
        try:
            asked = json.loads(await request.body())
            query, variables = asked["query"], asked.get("variables") or {}
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"errors": {"query": "Required parameter missing or invalid"}}, 400)
        now = clock()
        root = store_root(seed, public_url, now) | orders_root(store, seed, now)
        root |= shelf_root(store, public_url, now)
        return JSONResponse(answer(query, variables, root, store, clock()))

    return api


@lru_cache(maxsize=1)
def schema() -> GraphQLSchema:
    parts = ("shopify.graphql", "shopify_orders.graphql", "shopify_webhooks.graphql")
    return build_schema("\n".join(Path(__file__).with_name(name).read_text() for name in parts))


def answer(query: str, variables: Json, root: Json, store: SandboxStore, now: datetime) -> Json:
    """Validate, charge, execute: the whole body of an answer, errors and cost included."""
    try:
        document = parse(query)
    except GraphQLError as error:
        return {"errors": [error_body(error)]}
    invalid = validate(schema(), document)
    if invalid:
        return {"errors": [error_body(error) for error in invalid]}
    cost = QueryCost(document.definitions, variables)
    requested = cost.of()
    if requested > MAX_QUERY_COST:
        said = f"Query cost is {requested}, which exceeds the single query max cost limit ({MAX_QUERY_COST})."
        return {"errors": [{"message": said, "extensions": {"code": "MAX_COST_EXCEEDED", "cost": requested}}]}
    bucket = Bucket(store, now)
    if not bucket.take(requested):
        extensions = {"code": "THROTTLED", "documentation": DOCUMENTATION}
        return {
            "errors": [{"message": "Throttled", "extensions": extensions}],
            "extensions": {"cost": bucket.report(requested, None)},
        }
    warnings: list[Json] = []
    root = root | subscription_root(store, connection) | {"search_warnings": warnings}
    result = execute_sync(schema(), document, root, variable_values=variables)
    actual = cost.of(result.data) if result.data is not None else requested
    bucket.give_back(requested - actual)
    body: Json = {"data": result.data, "extensions": {"cost": bucket.report(requested, actual)}}
    if result.errors:
        body["errors"] = [error_body(error) for error in result.errors]
    if warnings:
        body["extensions"]["search"] = warnings
    return body


def error_body(error: GraphQLError) -> Json:
    """An error as Shopify words it, where the client could act on the code."""
    body: Json = {"message": error.message}
    if error.locations:
        body["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    unknown = re.match(r"Cannot query field '(\w+)' on type '(\w+)'", error.message)
    if unknown:
        body["message"] = f"Field '{unknown[1]}' doesn't exist on type '{unknown[2]}'"
        body["extensions"] = {"code": "undefinedField", "typeName": unknown[2], "fieldName": unknown[1]}
    elif error.extensions:
        body["extensions"] = error.extensions
    return body


class QueryCost:
    """Points of a query: one per object, two per connection plus its page size times what is in a node."""

    def __init__(self, definitions: Any, variables: Json) -> None:
        self.variables = variables
        self.fragments = {d.name.value: d for d in definitions if isinstance(d, FragmentDefinitionNode)}
        self.operation = next(d for d in definitions if isinstance(d, OperationDefinitionNode))

    def of(self, data: Json | None = None) -> int:
        """As requested, or with `data`, by the nodes that were really returned."""
        root, fixed = schema().query_type, 0
        if self.operation.operation is OperationType.MUTATION:
            root, fixed = schema().mutation_type, 10
        assert root is not None
        return fixed + self._children(self.operation.selection_set, root, data)

    def _children(self, selection: SelectionSetNode, parent: GraphQLObjectType, data: Any) -> int:
        total = 0
        for node in selection.selections:
            if isinstance(node, FragmentSpreadNode):
                total += self._children(self.fragments[node.name.value].selection_set, parent, data)
            elif isinstance(node, InlineFragmentNode):
                total += self._children(node.selection_set, parent, data)
            elif isinstance(node, FieldNode) and node.selection_set is not None:
                total += self._field(node, node.selection_set, parent, data)
        return total

    def _field(
        self, node: FieldNode, selection: SelectionSetNode, parent: GraphQLObjectType, data: Any
    ) -> int:
        kind = get_named_type(parent.fields[node.name.value].type)
        if not isinstance(kind, GraphQLObjectType) or kind.name == "PageInfo":
            return 0
        key = node.alias.value if node.alias else node.name.value
        inner = data.get(key) if isinstance(data, dict) else None
        if kind.name.endswith("Connection"):
            if inner is not None:
                size = max(len(inner.get("nodes", ())), len(inner.get("edges", ())))
            else:
                arguments = {
                    a.name.value: value_from_ast_untyped(a.value, self.variables) for a in node.arguments
                }
                size = arguments.get("first") or 0
            return 2 + size * self._children(selection, kind, None)
        return 1 + self._children(selection, kind, inner)


class Bucket:
    """The store's leaky bucket of query points, refilled by the clock."""

    def __init__(self, store: SandboxStore, now: datetime) -> None:
        self.store = store
        self.now = now.timestamp()
        kept = store.get("shopify_bucket", "points") or {"available": BUCKET_SIZE, "at": self.now}
        restored = kept["available"] + max(0.0, self.now - kept["at"]) * RESTORED_PER_S
        self.available: float = min(BUCKET_SIZE, restored)

    def take(self, points: int) -> bool:
        enough = points <= self.available
        self.give_back(-points if enough else 0)
        return enough

    def give_back(self, points: int) -> None:
        self.available = min(BUCKET_SIZE, self.available + points)
        self.store.put("shopify_bucket", "points", {"available": self.available, "at": self.now})

    def report(self, requested: int, actual: int | None) -> Json:
        return {
            "requestedQueryCost": requested,
            "actualQueryCost": actual,
            "throttleStatus": {
                "maximumAvailable": BUCKET_SIZE,
                "currentlyAvailable": int(self.available),
                "restoreRate": RESTORED_PER_S,
            },
        }


def store_root(seed: int, public_url: str, now: datetime) -> Json:
    """What a query can reach, as seen at `now`."""

    def rows(info: Any, **arguments: Any) -> Json:
        opened = datetime.combine(books.BOOKS_OPENED, time.min, tzinfo=UTC)
        found = books.ledger(seed, opened, now + timedelta(microseconds=1))
        if arguments["hideTransfers"]:
            found = [row for row in found if row.type != "TRANSFER"]
        found = search(found, arguments.get("query") or "", info.root_value["search_warnings"])
        sort_by = SORT_KEYS[arguments["sortKey"]]
        return connection(
            found, arguments, lambda row: (sort_by(row), row.number), lambda row: row_body(row, seed, now)
        )

    def payouts(info: Any, **arguments: Any) -> Json:
        opened = datetime.combine(books.BOOKS_OPENED, time.min, tzinfo=UTC)
        found = books.payouts(seed, opened, now + timedelta(microseconds=1))
        return connection(found, arguments, lambda p: (p.number, p.number), lambda p: payout_body(p, now))

    def balance(info: Any) -> list[Json]:
        opened = datetime.combine(books.BOOKS_OPENED, time.min, tzinfo=UTC)
        return [money(sum(row.net for row in books.ledger(seed, opened, now + timedelta(microseconds=1))))]

    account = {
        "id": "gid://shopify/ShopifyPaymentsAccount/1",
        "activated": True,
        "country": "US",
        "defaultCurrency": CURRENCY,
        "balance": balance,
        "balanceTransactions": rows,
        "payouts": payouts,
    }
    shop = {
        "id": "gid://shopify/Shop/1",
        "name": "Ettametta sandbox store",
        "email": "store@example.com",
        "myshopifyDomain": "ettametta-sandbox.myshopify.com",
        "currencyCode": CURRENCY,
        "ianaTimezone": "Etc/UTC",
        "url": f"{public_url}/shopify",
    }
    return {"shop": shop, "shopifyPaymentsAccount": account}


def shelf_root(store: SandboxStore, public_url: str, now: datetime) -> Json:
    """What a query can reach of the products, as seen at `now`."""
    shop_url = f"{public_url}/shopify"

    def connect(info: Any, items: list[Any], arguments: Json, key: Any, body: Any) -> Json:
        if info.root_value.get("is_export"):
            arguments = arguments | {"first": None, "all": True}
        return connection(items, arguments, key, body)

    def shown(product: Json) -> Json:
        return goods.product_body(product, shop_url, connect)

    def products(info: Any, **arguments: Any) -> Json:
        keys: dict[str, Callable[[Json], Any]] = {
            "ID": lambda p: p["number"],
            "TITLE": lambda p: p["title"],
            "UPDATED_AT": lambda p: shown(p)["updatedAt"],
        }
        sort_by = keys[arguments["sortKey"]]
        return connect(info, goods.products(store), arguments, lambda p: (sort_by(p), p["number"]), shown)

    def product(info: Any, id: str) -> Json | None:
        return next(
            (shown(p) for p in goods.products(store) if id == f"gid://shopify/Product/{p['number']}"), None
        )

    def count(info: Any, limit: int | None = None, **_: Any) -> Json:
        found = len(goods.products(store))
        over = limit is not None and found > limit
        return {"count": limit if over else found, "precision": "AT_LEAST" if over else "EXACT"}

    def run_export(info: Any, query: str, **_: Any) -> Json:
        found = execute_sync(schema(), parse(query), {"is_export": True, "products": products})
        problems = [str(e.message) for e in validate(schema(), parse(query)) or found.errors or ()]
        if problems or not found.data:
            errors = [{"field": ["query"], "message": said} for said in problems or ["Empty query"]]
            return {"bulkOperation": None, "userErrors": errors}
        return goods.start_export(store, list(goods.lines_of(found.data)), now, public_url)

    return {
        "products": products,
        "product": product,
        "productsCount": count,
        "bulkOperationRunQuery": run_export,
        "node": lambda info, id: goods.operation(store, id, now, public_url),
    }


SORT_KEYS: dict[str, Callable[[books.Row], Any]] = {
    "AMOUNT": lambda row: row.amount,
    "FEE": lambda row: row.fee,
    "ID": lambda row: row.number,
    "NET": lambda row: row.net,
    "PROCESSED_AT": lambda row: row.at.isoformat(),
}


def connection(
    items: list[Any], arguments: Json, key: Callable[[Any], tuple[Any, int]], body: Callable[[Any], Json]
) -> Json:
    """A page of `items` after a cursor, which holds the sort key of the last one seen, so new rows shift nothing."""
    size = max(1, len(items)) if arguments.get("all") else arguments.get("first")
    if size is None:
        raise GraphQLError("you must provide one of first or last", extensions={"code": "BAD_REQUEST"})
    if not 0 < size <= MAX_PAGE and not arguments.get("all"):
        raise GraphQLError(f"first must be between 1 and {MAX_PAGE}", extensions={"code": "BAD_REQUEST"})
    backwards = arguments["reverse"]
    items = sorted(items, key=key, reverse=backwards)
    rest = items
    if arguments.get("after"):
        seen = read_cursor(arguments["after"])
        rest = [item for item in items if (key(item) < seen if backwards else key(item) > seen)]
    chosen = rest[:size]
    cursors = [cursor_of(key(item)) for item in chosen]
    nodes = [body(item) for item in chosen]
    return {
        "nodes": nodes,
        "edges": [{"cursor": c, "node": n} for c, n in zip(cursors, nodes, strict=True)],
        "pageInfo": {
            "hasNextPage": len(rest) > size,
            "hasPreviousPage": len(rest) < len(items),
            "startCursor": cursors[0] if cursors else None,
            "endCursor": cursors[-1] if cursors else None,
        },
    }


def cursor_of(key: tuple[Any, int]) -> str:
    return base64.b64encode(json.dumps({"last_value": key[0], "last_id": key[1]}).encode()).decode()


def read_cursor(cursor: str) -> tuple[Any, int]:
    try:
        seen = json.loads(base64.b64decode(cursor, validate=True))
        return seen["last_value"], seen["last_id"]
    except (binascii.Error, ValueError, KeyError, TypeError):
        raise GraphQLError(
            "Invalid cursor for current pagination sort.", extensions={"code": "BAD_REQUEST"}
        ) from None


@dataclass(frozen=True)
class Term:
    field: str
    comparator: str
    value: str


TERM = re.compile(r"(\w+):(>=|<=|>|<)?('[^']*'|\"[^\"]*\"|[^\s'\"]+)")
COMPARATORS: dict[str, Callable[[Any, Any], bool]] = {
    "": lambda a, b: a == b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
}
SEARCHABLE: dict[str, tuple[Callable[[books.Row], Any], Callable[[str], Any]]] = {
    "processed_at": (lambda row: row.at, lambda text: instant(text)),
    "transaction_type": (lambda row: row.type, lambda text: text.upper()),
    "currency": (lambda row: CURRENCY, lambda text: text.upper()),
    "id": (lambda row: row.number, lambda text: int(text)),
}


def instant(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def search(rows: list[books.Row], query: str, warnings: list[Json]) -> list[books.Row]:
    """Rows that match all terms. A term that cannot be used is ignored with a warning, as Shopify ignores it."""
    for term in (Term(m[1], m[2] or "", m[3].strip("'\"")) for m in TERM.finditer(query)):
        try:
            value_of, read = SEARCHABLE[term.field]
            wanted = read(term.value)
        except KeyError:
            warnings.append(
                _warning(query, term.field, "Invalid search field for this query.", "invalid_field")
            )
            continue
        except ValueError:
            warnings.append(
                _warning(query, term.field, f"Input `{term.value}` is not valid.", "invalid_value")
            )
            continue
        compare = COMPARATORS[term.comparator]
        rows = [row for row in rows if compare(value_of(row), wanted)]
    return rows


def _warning(query: str, field: str, message: str, code: str) -> Json:
    path = ["shopifyPaymentsAccount", "balanceTransactions"]
    return {"path": path, "query": query, "warnings": [{"field": field, "message": message, "code": code}]}


def money(minor: int) -> Json:
    """Shopify writes amounts in major units without needless zeros but always with one decimal: `29.0`, `4.5`."""
    sign = "-" if minor < 0 else ""
    whole, cents = divmod(abs(minor), 10 ** Money(0, CURRENCY).exponent)
    text = f"{cents:02d}".rstrip("0") or "0"
    return {"amount": f"{sign}{whole}.{text}", "currencyCode": CURRENCY}


def row_body(row: books.Row, seed: int, now: datetime) -> Json:
    if row.type == "TRANSFER":
        payout = books.payout_of(seed, row.at.date())
    else:
        payout = books.payout_paying(seed, row.at.date())
    issued = payout is not None and payout.issued <= now
    associated = {
        "id": f"gid://shopify/ShopifyPaymentsPayout/{payout.number}" if issued and payout else None,
        "status": payout_status(payout, now) if issued and payout else "PENDING",
    }
    order = {"id": f"gid://shopify/Order/{row.source_number}", "name": row.order} if row.order else None
    return {
        "id": f"gid://shopify/ShopifyPaymentsBalanceTransaction/{row.number}",
        "adjustmentReason": None,
        "amount": money(row.amount),
        "associatedOrder": order,
        "associatedPayout": associated,
        "fee": money(row.fee),
        "net": money(row.net),
        "sourceId": str(row.source_number),
        "sourceType": row.source_type,
        "test": False,
        "transactionDate": rfc3339(row.at),
        "type": row.type,
    }


def payout_status(payout: books.Payout, now: datetime) -> str:
    return "PAID" if payout.issued + timedelta(days=1) <= now else "IN_TRANSIT"


def payout_body(payout: books.Payout, now: datetime) -> Json:
    return {
        "id": f"gid://shopify/ShopifyPaymentsPayout/{payout.number}",
        "issuedAt": rfc3339(payout.issued),
        "legacyResourceId": str(payout.number),
        "net": money(abs(payout.amount)),
        "status": payout_status(payout, now),
        "transactionType": "DEPOSIT" if payout.amount >= 0 else "WITHDRAWAL",
    }
