"""The sandbox's stand-ins for Stripe's own pages: the checkout a customer pays on, and the customer portal.

No key is asked for, as on Stripe's pages: the address is the capability. Mounted by `stripe.py`.
"""

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.core import read_form
from ettametta_pipelines.sandbox.stripe_billing import REFUSED_CARD, Subscriptions
from ettametta_pipelines.sandbox.stripe_requests import Call, Refusal

CARDS = {"pay": ("pm_card_visa", "Pay"), "decline": (REFUSED_CARD, "Pay with a card that is refused")}
PORTAL = {"cancel": ("true", "Cancel at the period's end"), "keep": ("false", "Keep the subscription")}


def pages(subscriptions: Subscriptions, clock: Clock) -> APIRouter:
    """`/pay/{session}` and `/portal/{session}`, each a page with buttons."""
    api = APIRouter()

    def now() -> int:
        moment = int(clock().timestamp())
        subscriptions.advance(moment)
        return moment

    @api.get("/pay/{identifier}")
    async def show_checkout(identifier: str) -> Response:
        try:
            session = subscriptions.get_checkout(Call({}, identifier, now()))
        except Refusal as refusal:
            return _page(refusal.body["error"]["message"], {}, refusal.status)
        price = f"{session['amount_total'] / 100:.2f} {session['currency'].upper()} a month"
        title = f"Sandbox checkout, {session['status']}: {price}"
        return _page(title, CARDS if session["url"] else {}, back=session["cancel_url"] or "")

    @api.post("/pay/{identifier}")
    async def pay(identifier: str, request: Request) -> Response:
        card = CARDS.get((await read_form(request)).get("action", "pay"), CARDS["decline"])[0]
        try:
            session = subscriptions.pay_checkout(identifier, now(), card)
        except Refusal as refusal:
            return _page(refusal.body["error"]["message"], CARDS, refusal.status)
        target = session["success_url"].replace("{CHECKOUT_SESSION_ID}", identifier)
        return RedirectResponse(target, 303)

    @api.get("/portal/{identifier}")
    async def show_portal(identifier: str) -> Response:
        plan = _plan_of(subscriptions, identifier, now())
        return _page(
            f"Sandbox portal: {plan['status'] if plan else 'no subscription'}",
            PORTAL if plan else {},
            back=_back(subscriptions, identifier),
        )

    @api.post("/portal/{identifier}")
    async def act(identifier: str, request: Request) -> Response:
        moment = now()
        plan = _plan_of(subscriptions, identifier, moment)
        wish = PORTAL.get((await read_form(request)).get("action", ""))
        if plan is None or wish is None:
            return _page("There is nothing to change.", {}, 400)
        subscriptions.update(Call({"cancel_at_period_end": wish[0]}, plan["id"], moment))
        return _page("Changed.", PORTAL, back=_back(subscriptions, identifier))

    return api


def _plan_of(subscriptions: Subscriptions, identifier: str, now: int) -> dict[str, Any] | None:
    session = subscriptions.store.get("stripe_portal", identifier)
    if session is None:
        return None
    plans = subscriptions.list(Call({"customer": session["customer"]}, "", now))["data"]
    return plans[0] if plans else None


def _back(subscriptions: Subscriptions, identifier: str) -> str:
    session = subscriptions.store.get("stripe_portal", identifier)
    return (session or {}).get("return_url") or ""


def _page(
    title: str, buttons: dict[str, tuple[str, str]], status: int = 200, *, back: str = ""
) -> HTMLResponse:
    forms = "".join(
        f'<form method="post"><button name="action" value="{name}">{escape(label)}</button></form>'
        for name, (_, label) in buttons.items()
    )
    link = f'<p><a href="{escape(back)}">Back to the seller</a></p>' if back else ""
    head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    # Without an icon of its own a page makes the browser ask for one that is not there.
    return HTMLResponse(f'{head}<link rel="icon" href="data:,"><h1>{escape(title)}</h1>{forms}{link}', status)
