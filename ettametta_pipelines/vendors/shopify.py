"""Shopify's Admin GraphQL: the store and its Shopify Payments ledger, read-only.

The SDK serves what it is good at, addressing a shop and its API versions; the queries go through httpx,
since the SDK's own GraphQL call has no timeout and prints error bodies. Amounts come back as `Money`,
read exactly from Shopify's decimal strings. Called by `revenue/`.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ettametta_pipelines.clock import rfc3339
from ettametta_pipelines.failures import FailureKind, PermanentError
from ettametta_pipelines.money import Money
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    call_with_retries,
    http_client,
    raise_for_vendor,
    send,
    unreadable_answer,
    vendor_error,
)

if TYPE_CHECKING:
    import httpx

    from ettametta_pipelines.settings import VendorEndpoint

VENDOR = "Shopify"
API_VERSION = "2026-10"
# One page costs up to 2 + 100 x 5 of the 1000 points a single query may cost.
PAGE_SIZE = 100

_SCOPE_REMEDY = (
    "Give the app the scopes read_shopify_payments_payouts and read_orders, install it again and set its "
    "new token."
)
_TOKEN_REMEDY = (
    "Set SHOPIFY_SHOP_URL and SHOPIFY_ACCESS_TOKEN to a store and the token of an app installed there."
)
_SHOP_REMEDY = "Open the store's admin and settle what it asks for; then run again."
# Refusals of the door, where Shopify gives no code.
_REASON_BY_STATUS = {401: "unauthorized", 402: "shop_frozen", 423: "shop_locked"}
ERRORS = {
    "THROTTLED": ErrorRule(FailureKind.TRANSIENT, "shopify_throttled"),
    "INTERNAL_SERVER_ERROR": ErrorRule(FailureKind.TRANSIENT, "shopify_unavailable"),
    "TIMEOUT": ErrorRule(FailureKind.TRANSIENT, "shopify_unavailable"),
    "ACCESS_DENIED": ErrorRule(FailureKind.NEEDS_PERSON, "shopify_access_denied", _SCOPE_REMEDY),
    "SHOP_INACTIVE": ErrorRule(FailureKind.NEEDS_PERSON, "shopify_shop_inactive", _SHOP_REMEDY),
    "unauthorized": ErrorRule(FailureKind.NEEDS_PERSON, "shopify_unauthorized", _TOKEN_REMEDY),
    "shop_frozen": ErrorRule(FailureKind.NEEDS_PERSON, "shopify_shop_frozen", _SHOP_REMEDY),
    "shop_locked": ErrorRule(FailureKind.NEEDS_PERSON, "shopify_shop_locked", _SHOP_REMEDY),
    "MAX_COST_EXCEEDED": ErrorRule(
        FailureKind.PERMANENT, "shopify_query_too_costly", "Ask for smaller pages in vendors/shopify.py."
    ),
}

SHOP_QUERY = "query Shop { shop { name myshopifyDomain currencyCode ianaTimezone } }"
LEDGER_QUERY = """
query Ledger($first: Int!, $after: String, $query: String!) {
  shopifyPaymentsAccount {
    balanceTransactions(first: $first, after: $after, sortKey: PROCESSED_AT, query: $query) {
      nodes {
        id
        type
        test
        transactionDate
        sourceId
        sourceType
        adjustmentReason
        amount { amount currencyCode }
        fee { amount currencyCode }
        net { amount currencyCode }
        associatedOrder { id }
        associatedPayout { id status }
      }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""


@dataclass(frozen=True)
class ShopifyBalanceTransaction:
    """One movement of the Shopify Payments balance; `payout_id` is None until it is paid out."""

    id: str
    type: str
    amount: Money
    fee: Money
    net: Money
    processed_at: datetime
    source_id: str | None
    source_type: str | None
    payout_id: str | None
    payout_status: str | None
    test: bool
    raw: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Shop:
    name: str
    domain: str
    currency: str
    timezone: str


class ShopifyClient:
    """Reader of one store. Raises PipelineError subclasses only; throttling is waited out within the retry budget."""

    def __init__(self, endpoint: "VendorEndpoint", *, sleep: Callable[[float], None] = time.sleep) -> None:
        token = endpoint.secret("shopify_access_token")
        self.mode = endpoint.mode
        self._retries = endpoint.max_retries
        self._sleep = sleep
        self._url = f"{admin_site(endpoint.base_url)}/graphql.json"
        self._http = http_client(endpoint, headers={"X-Shopify-Access-Token": token})

    def shop(self) -> Shop:
        data = self._query("read the shop", SHOP_QUERY, {})["shop"]
        return Shop(data["name"], data["myshopifyDomain"], data["currencyCode"], data["ianaTimezone"])

    def balance_transactions(
        self, processed_from: datetime, processed_to: datetime
    ) -> Iterator[ShopifyBalanceTransaction]:
        """Movements with processed_from <= processed_at < processed_to, oldest first."""
        for page in self._ledger_pages(processed_from, processed_to):
            yield from (_balance_transaction(node) for node in page)

    def balance_transaction_pages(self, processed_from: datetime, processed_to: datetime) -> Iterator[str]:
        """As `balance_transactions`, as received: the JSON of each page, objects under `data`."""
        for page in self._ledger_pages(processed_from, processed_to):
            yield json.dumps({"data": page})

    def _ledger_pages(
        self, processed_from: datetime, processed_to: datetime
    ) -> Iterator[list[dict[str, Any]]]:
        window = f"processed_at:>='{rfc3339(processed_from)}' AND processed_at:<'{rfc3339(processed_to)}'"
        cursor: str | None = None
        while True:
            variables = {"first": PAGE_SIZE, "after": cursor, "query": window}
            account = self._query("list balance transactions", LEDGER_QUERY, variables)[
                "shopifyPaymentsAccount"
            ]
            if account is None:
                raise PermanentError(
                    "The Shopify store has no Shopify Payments account, so there is no ledger to read.",
                    code="shopify_payments_missing",
                    remedy="Turn on Shopify Payments in the store, or unset SHOPIFY_ACCESS_TOKEN.",
                )
            listing = account["balanceTransactions"]
            yield listing["nodes"]
            if not listing["pageInfo"]["hasNextPage"]:
                return
            cursor = listing["pageInfo"]["endCursor"]

    def _query(self, doing: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        return call_with_retries(
            lambda: self._query_once(doing, query, variables),
            retries=self._retries,
            sleep=self._sleep,
            seed=doing,
        )

    def _query_once(self, doing: str, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        body = {"query": query, "variables": variables}
        response = send(self._http, "POST", self._url, vendor=VENDOR, doing=doing, json=body)
        raise_for_vendor(
            response,
            vendor=VENDOR,
            doing=doing,
            reason=_REASON_BY_STATUS.get(response.status_code, ""),
            detail=response.text,
            rules=ERRORS,
        )
        answer = _object_of(response, doing)
        if answer.get("errors"):
            reason, detail = _first_error(answer["errors"])
            raise vendor_error(
                VENDOR,
                doing,
                status=response.status_code,
                reason=reason,
                detail=detail,
                rules=ERRORS,
                retry_after_s=throttle_wait(answer) if reason == "THROTTLED" else None,
            )
        _refuse_ignored_filters(answer, doing)
        data = answer.get("data")
        if not isinstance(data, dict):
            raise unreadable_answer(VENDOR, doing)
        return data


def admin_site(base_url: str) -> str:
    """Root of the versioned Admin API. A bare or myshopify.com host is a shop's name; other addresses stay as given."""
    import shopify

    version = shopify.ApiVersion.coerce_to_version(API_VERSION)
    parts = urlsplit(base_url)
    host = parts.hostname or ""
    if parts.scheme == "https" and ("." not in host or host.endswith(".myshopify.com")):
        return str(shopify.Session(host, API_VERSION).site)
    return str(version.api_path(base_url.rstrip("/")))


def throttle_wait(answer: dict[str, Any]) -> float | None:
    """Seconds until the bucket holds what the query asks for: (requested - available) / restore rate.

    None when Shopify throttles without telling the cost.
    """
    try:
        cost = answer["extensions"]["cost"]
        status = cost["throttleStatus"]
        missing = cost["requestedQueryCost"] - status["currentlyAvailable"]
        return max(0.0, float(missing / status["restoreRate"]))
    except (KeyError, TypeError, ZeroDivisionError):
        return None


def _object_of(response: "httpx.Response", doing: str) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise unreadable_answer(VENDOR, doing)
    return answer


def _first_error(errors: Any) -> tuple[str, str]:
    """(code, sentence) of `errors`: GraphQL's list, or the bare sentence of the gateway before it."""
    first = errors[0] if isinstance(errors, list) else errors
    if not isinstance(first, dict):
        return "", str(first)
    return str((first.get("extensions") or {}).get("code", "")), str(first.get("message", ""))


def _refuse_ignored_filters(answer: dict[str, Any], doing: str) -> None:
    """Shopify ignores a search term it does not know and answers with everything; that must not reach the books."""
    ignored = [
        w for search in answer.get("extensions", {}).get("search", ()) for w in search.get("warnings", ())
    ]
    if ignored:
        raise PermanentError(
            f"Shopify ignored the filter {ignored[0]['field']!r} when asked to {doing}.",
            code="shopify_filter_ignored",
            remedy=f"Check the query against the search fields of API version {API_VERSION}.",
        )


def _balance_transaction(node: dict[str, Any]) -> ShopifyBalanceTransaction:
    def money(name: str) -> Money:
        return Money.parse(node[name]["amount"], node[name]["currencyCode"])

    payout = node["associatedPayout"] or {}
    return ShopifyBalanceTransaction(
        id=node["id"],
        type=node["type"],
        amount=money("amount"),
        fee=money("fee"),
        net=money("net"),
        processed_at=datetime.fromisoformat(node["transactionDate"]).astimezone(UTC),
        source_id=None if node["sourceId"] is None else str(node["sourceId"]),
        source_type=node["sourceType"],
        payout_id=payout.get("id"),
        payout_status=payout.get("status"),
        test=node["test"],
        raw=node,
    )
