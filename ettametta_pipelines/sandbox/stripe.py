"""Sandbox of Stripe's API v1, strict about keys, versions, parameters and idempotency as Stripe is.

The door: which methods there are, with which parameters. What they answer is `stripe_account.py`, the
money itself `stripe_books.py`.
"""

import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.sandbox.stripe_account import Account
from ettametta_pipelines.sandbox.stripe_billing import Subscriptions
from ettametta_pipelines.sandbox.stripe_books import Json
from ettametta_pipelines.sandbox.stripe_pages import pages
from ettametta_pipelines.sandbox.stripe_requests import Call, Refusal, authorise, nested, stored_answer

Handler = Callable[[Call], Json]

LISTING = {"limit", "starting_after", "ending_before", "expand"}


@dataclass(frozen=True)
class Route:
    """One method of the API with the parameters it takes; any other parameter is refused as Stripe does."""

    method: str
    path: str
    handler: Handler
    allowed: frozenset[str] = frozenset()
    required: tuple[str, ...] = ()


def router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """Routes under `/stripe`; checkout and portal pages are served under `public_url`."""
    api = APIRouter()
    account = Account(store, seed)
    subscriptions = Subscriptions(account, public_url)
    api.include_router(pages(subscriptions, clock))
    for route in routes_of(account, subscriptions):
        api.add_api_route(
            route.path,
            _endpoint(route, store, clock, subscriptions),
            methods=[route.method],
            name=f"{route.method} {route.path}",
        )

    @api.api_route("/{rest:path}", methods=["GET", "POST", "DELETE"])
    async def unknown(request: Request) -> Response:
        try:
            authorise(request)
        except Refusal as refusal:
            return JSONResponse(refusal.body, refusal.status)
        path = request.url.path.removeprefix("/stripe")
        message = f"Unrecognized request URL ({request.method}: {path})."
        return JSONResponse(Refusal(404, message).body, 404)

    return api


def _endpoint(
    route: Route, store: SandboxStore, clock: Clock, subscriptions: Subscriptions
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        posted = request.method == "POST"
        text = (await request.body()).decode("utf-8", "replace") if posted else request.url.query
        key = request.headers.get("idempotency-key", "") if posted else ""
        headers = {
            "request-id": f"req_{store.counter('stripe_requests'):014d}",
            "stripe-version": request.headers.get("stripe-version", ""),
        }
        if key:
            headers["idempotency-key"] = key
        try:
            authorise(request)
            pairs = parse_qsl(text, keep_blank_values=True)
            asked = f"{request.method} {request.url.path} {sorted(pairs)}"
            fingerprint = hashlib.sha256(asked.encode()).hexdigest()
            stored = stored_answer(store, key, fingerprint) if key else None
            if stored is not None:
                return JSONResponse(stored["body"], 200, headers | {"idempotent-replayed": "true"})
            params = nested(pairs)
            _check_names(route, params)
            call = Call(params, request.path_params.get("id", ""), int(clock().timestamp()))
            subscriptions.advance(call.now)
            answer = route.handler(call)
        except Refusal as refusal:
            # Not stored under the key: Stripe stores an answer only once a request passed validation.
            return JSONResponse(refusal.body, refusal.status, headers)
        if key:
            store.put("stripe_idempotency", key, {"fingerprint": fingerprint, "body": answer})
        return JSONResponse(answer, 200, headers)

    return endpoint


def _check_names(route: Route, params: Json) -> None:
    for name in params:
        if name not in route.allowed:
            raise Refusal(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)
    for name in route.required:
        if not params.get(name):
            raise Refusal(400, f"Missing required param: {name}.", code="parameter_missing", param=name)


def routes_of(account: Account, subscriptions: Subscriptions) -> list[Route]:
    ranged = frozenset(LISTING | {"created"})
    one = frozenset({"expand"})
    rows = ranged | {"payout", "type", "source", "currency"}
    texts = {"metadata", "description", "name"}
    return [
        Route("GET", "/v1/balance", account.balance),
        Route("GET", "/v1/balance_transactions", account.list_rows, rows),
        Route("GET", "/v1/balance_transactions/{id}", account.get_row, one),
        Route("GET", "/v1/payouts", account.list_payouts, ranged | {"status", "arrival_date", "destination"}),
        Route("GET", "/v1/payouts/{id}", account.get_payout, one),
        Route("GET", "/v1/charges", account.list_charges, ranged | {"customer", "payment_intent"}),
        Route("GET", "/v1/charges/{id}", account.get_charge, one),
        Route("GET", "/v1/refunds", account.list_refunds, ranged | {"charge", "payment_intent"}),
        Route("GET", "/v1/refunds/{id}", account.get_refund, one),
        Route(
            "POST", "/v1/refunds", account.create_refund,
            frozenset({"charge", "amount", "reason", "metadata", "expand"}), ("charge",),
        ),
        Route("GET", "/v1/disputes", account.list_disputes, ranged | {"charge", "payment_intent"}),
        Route("GET", "/v1/disputes/{id}", account.get_dispute, one),
        Route("GET", "/v1/customers", account.list_customers, ranged | {"email"}),
        *billing_routes(subscriptions),
        Route("GET", "/v1/customers/{id}", account.get_customer, one),
        Route("POST", "/v1/customers", account.create_customer, frozenset(texts | {"email", "expand"})),
        Route("GET", "/v1/products", account.list_products, ranged | {"active"}),
        Route("GET", "/v1/products/{id}", account.get_product, one),
        Route("POST", "/v1/products", account.create_product, frozenset(texts | {"active", "expand"}), ("name",)),
        Route("GET", "/v1/prices", account.list_prices, ranged | {"active", "product", "currency", "lookup_keys"}),
        Route("GET", "/v1/prices/{id}", account.get_price, one),
        Route(
            "POST", "/v1/prices", account.create_price,
            frozenset({"product", "unit_amount", "currency", "recurring", "lookup_key", "metadata", "expand"}),
            ("product", "unit_amount", "currency"),
        ),
        Route("GET", "/v1/events", account.list_events, ranged | {"type", "types"}),
    ]  # fmt: skip


def billing_routes(subscriptions: Subscriptions) -> list[Route]:
    """What sells subscriptions, and the subscriptions themselves."""
    ranged = frozenset(LISTING | {"created"})
    one, none = frozenset({"expand"}), frozenset[str]()
    shown = frozenset({"metadata", "description", "name", "email", "invoice_settings", "expand"})
    changed = frozenset({"metadata", "expand", "items"})
    scheduled = frozenset({"from_subscription"})
    listed = ranged | {"customer", "status", "subscription"}
    sold = frozenset(
        {"mode", "customer", "client_reference_id", "line_items", "subscription_data", "success_url", "cancel_url",
         "discounts"}
    )  # fmt: skip
    return [
        Route(
            "GET", "/v1/customers/search", subscriptions.search_customers, frozenset({"query", "limit", "page"}),
            ("query",),
        ),
        Route("POST", "/v1/customers/{id}", subscriptions.update_customer, shown),
        Route("GET", "/v1/subscriptions", subscriptions.list, ranged | {"customer", "status", "price"}),
        Route("GET", "/v1/subscriptions/{id}", subscriptions.get, one),
        Route(
            "POST", "/v1/subscriptions", subscriptions.create,
            changed | {"customer", "trial_period_days", "trial_settings", "discounts"}, ("customer", "items"),
        ),
        Route("POST", "/v1/coupons", subscriptions.create_coupon, frozenset({"percent_off", "duration"})),
        Route(
            "POST", "/v1/subscriptions/{id}", subscriptions.update,
            changed | {"cancel_at_period_end", "proration_behavior", "payment_behavior"},
        ),
        Route("DELETE", "/v1/subscriptions/{id}", subscriptions.cancel),
        Route("POST", "/v1/subscription_schedules", subscriptions.create_schedule, scheduled, (*scheduled,)),
        Route(
            "POST", "/v1/subscription_schedules/{id}", subscriptions.update_schedule,
            frozenset({"phases", "end_behavior", "proration_behavior"}), ("phases",),
        ),
        Route("POST", "/v1/subscription_schedules/{id}/release", subscriptions.release_schedule, none),
        Route(
            "POST", "/v1/checkout/sessions", subscriptions.create_checkout, sold,
            ("mode", "customer", "line_items", "success_url"),
        ),
        Route("GET", "/v1/checkout/sessions", subscriptions.list_checkouts, listed),
        Route("GET", "/v1/checkout/sessions/{id}", subscriptions.get_checkout, one),
        Route("POST", "/v1/checkout/sessions/{id}/expire", subscriptions.expire_checkout, none),
        Route(
            "POST", "/v1/billing_portal/sessions", subscriptions.create_portal, frozenset({"customer", "return_url"}),
            ("customer",),
        ),
        Route("GET", "/v1/invoices", subscriptions.list_invoices, ranged | {"customer", "status"}),
        Route("GET", "/v1/invoices/{id}", subscriptions.get_invoice, one),
        Route("POST", "/v1/invoices/{id}/pay", subscriptions.pay_invoice, none),
        Route("POST", "/v1/disputes/{id}", subscriptions.answer_dispute, frozenset({"evidence"})),
    ]  # fmt: skip
