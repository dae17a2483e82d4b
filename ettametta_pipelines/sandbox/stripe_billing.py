"""Subscriptions of the sandboxed Stripe as they live: checkout, trials, renewals, upgrades, dunning, schedules, ends.

Objects are kept in the sandbox store. What time does to them (a renewal, a failed payment's next try, a schedule's next
phase) is done by `advance` before any request is answered, at the instant it was due, with the invoices, charges,
ledger rows and events of that instant. Which card pays is decided by the customer's default payment method, named as
Stripe's test cards are: `pm_card_chargeCustomerFail` is refused, `pm_card_createDispute` pays and is disputed.
Called through the routes in `stripe.py`; the seeded account is `stripe_account.py`'s.
"""

import json
import re
from calendar import monthrange
from datetime import UTC, datetime, timedelta

from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.sandbox.stripe_account import Account
from ettametta_pipelines.sandbox.stripe_books import (
    DAY_S,
    DISPUTE_FEE,
    Json,
    balance_row,
    converted,
    day_at,
    epoch,
    ledger_order,
    object_id,
    rate_e5,
)  # fmt: skip
from ettametta_pipelines.sandbox.stripe_objects import charge_body, subscription_body
from ettametta_pipelines.sandbox.stripe_requests import (
    Call,
    Refusal,
    created_range,
    expansions,
    missing,
    page,
    whole,
)

REFUSED_CARD, DISPUTED_CARD = "pm_card_chargeCustomerFail", "pm_card_createDispute"
# When a refused payment is tried again after its invoice, in days; then the subscription is unpaid.
RETRY_DAYS = (3, 5, 7)
UNPAID_AFTER_DAYS = 14
INCOMPLETE_FOR_S = 23 * 3600
CHECKOUT_OPEN_S = 24 * 3600
ENDED = ("canceled", "incomplete_expired", "paused")


def monthly(anchor: int, after: int) -> int:
    """The first monthly anniversary of `anchor` after an instant; the last day of a month that has no such day."""
    start = datetime.fromtimestamp(anchor, UTC)
    for month in range(2400):
        year, index = divmod(start.year * 12 + start.month - 1 + month, 12)
        day = min(start.day, monthrange(year, index + 1)[1])
        moment = int(start.replace(year=year, month=index + 1, day=day).timestamp())
        if moment > after:
            return moment
    raise ValueError(f"{after} is too far from {anchor}")


class Subscriptions:
    """Everything of the account that a subscription made through the API touches."""

    def __init__(self, account: Account, public_url: str) -> None:
        self.account = account
        self.store: SandboxStore = account.store
        self.public_url = f"{public_url.rstrip('/')}/stripe"

    # What time does

    def advance(self, now: int) -> None:
        """Everything that fell due by `now`, in the order it did."""
        for key, _ in self.store.items("stripe_subscription"):
            while self._step(self._stored("subscription", key), now):
                pass

    def _step(self, sub: Json, now: int) -> bool:
        """Do the next thing that is due; False when nothing is."""
        due = self._due(sub)
        if due is None or due[0] > now:
            return False
        at, what = due
        if what == "expire":
            self._change(sub, at, status="incomplete_expired", ended_at=at)
        elif what == "pause":
            self._change(sub, at, status="paused")
        elif what == "end":
            self._change(sub, at, status="canceled", ended_at=at, canceled_at=at)
        elif what == "retry":
            self._pay(self._stored("invoice", sub["latest_invoice"]), at)
        elif what == "give_up":
            self._change(sub, at, status="unpaid")
        else:
            self._renew(sub, at)
        return True

    def _due(self, sub: Json) -> tuple[int, str] | None:
        status, end = sub["status"], sub["items"]["data"][0]["current_period_end"]
        if status in ENDED:
            return None
        if status == "incomplete":
            return sub["created"] + INCOMPLETE_FOR_S, "expire"
        if status == "past_due":
            invoice = self._stored("invoice", sub["latest_invoice"])
            tried = invoice["attempt_count"] - 1
            after, what = (
                (RETRY_DAYS[tried], "retry") if tried < len(RETRY_DAYS) else (UNPAID_AFTER_DAYS, "give_up")
            )
            return min((invoice["created"] + after * DAY_S, what), (end, "renew"))
        if sub["cancel_at_period_end"]:
            return end, "end"
        if status == "trialing" and sub["trial_settings"] and not self._card(sub["customer"]):
            return end, "pause"
        return end, "renew"

    def _renew(self, sub: Json, at: int) -> None:
        item = sub["items"]["data"][0]
        phase = self._next_phase(sub, at)
        if phase is not None:
            item["price"] = self._price(phase["items"][0]["price"])
            sub["schedule"] = None
        item |= {
            "current_period_start": at,
            "current_period_end": monthly(sub["billing_cycle_anchor"], at),
        }
        self._put("subscription", sub)
        if sub["status"] == "unpaid":
            return
        invoice = self._invoice(
            sub, "subscription_cycle", at, [(item["price"], item["price"]["unit_amount"])]
        )
        self._pay(invoice, at)

    def _next_phase(self, sub: Json, at: int) -> Json | None:
        if sub["schedule"] is None:
            return None
        schedule = self._stored("schedule", sub["schedule"])
        phase = next((p for p in schedule["phases"] if p["start_date"] == at), None)
        if phase is not None:
            self._put("schedule", schedule | {"status": "released", "released_at": at})
        return phase

    # Invoices and payments

    def _invoice(self, sub: Json, reason: str, at: int, lines: list[tuple[Json, int]]) -> Json:
        total = self._discounted(sub, max(0, sum(amount for _, amount in lines)))
        identifier = object_id("in", day_at(at), sub["id"], self.store.counter("stripe_invoices"))
        body: Json = {
            "id": identifier, "object": "invoice", "amount_due": total, "amount_paid": 0, "attempt_count": 0,
            "billing_reason": reason, "charge": None, "created": at, "currency": sub["currency"],
            "customer": sub["customer"], "livemode": False, "metadata": {}, "status": "open", "total": total,
            "parent": {"type": "subscription_details", "subscription_details": {"subscription": sub["id"]}},
            "lines": {"object": "list", "has_more": False, "data": [
                {
                    "id": f"il_{identifier[3:]}{number}", "object": "line_item", "amount": amount,
                    "currency": sub["currency"],
                    "pricing": {"type": "price_details", "price_details": {
                        "price": price["id"], "product": price["product"],
                    }},
                }
                for number, (price, amount) in enumerate(lines)
            ]},
        }  # fmt: skip
        self._put("invoice", body)
        sub["latest_invoice"] = identifier
        self._put("subscription", sub)
        return body

    def _discounted(self, sub: Json, total: int) -> int:
        """What is left of an amount under the subscription's coupon; lines keep the price, as Stripe's do."""
        coupon = sub.get("coupon")
        if coupon is None:
            return total
        if coupon["duration"] == "once":
            sub["coupon"] = None
        return total - total * int(coupon["percent_off"]) // 100

    def create_coupon(self, call: Call) -> Json:
        percent = whole(call.params, "percent_off", low=1, high=100)
        duration = call.params.get("duration", "once")
        if duration not in ("once", "forever"):
            raise Refusal(
                400, f"Invalid duration: must be one of once or forever, not {duration}.", param="duration"
            )
        identifier = object_id("co", day_at(call.now), self.store.counter("stripe_coupons"))
        body = {
            "id": identifier, "object": "coupon", "created": call.now, "duration": duration, "livemode": False,
            "metadata": {}, "name": None, "percent_off": percent, "valid": True,
        }  # fmt: skip
        self._put("coupon", body)
        return body

    def _coupon(self, params: Json) -> Json | None:
        discounts = params.get("discounts")
        return self._stored("coupon", discounts[0].get("coupon", "")) if discounts else None

    def _pay(self, invoice: Json, at: int) -> bool:
        """Try the customer's card once, and do to the subscription what the outcome means."""
        invoice["attempt_count"] += 1
        sub = self._stored("subscription", invoice["parent"]["subscription_details"]["subscription"])
        if self._card(invoice["customer"]) == REFUSED_CARD and invoice["amount_due"]:
            self._put("invoice", invoice)
            self._event("invoice.payment_failed", invoice, at)
            if sub["status"] in ("active", "trialing") and sub["pending_update"] is None:
                self._change(sub, at, status="past_due")
            return False
        invoice |= {"status": "paid", "amount_paid": invoice["amount_due"]}
        if invoice["amount_due"]:
            invoice["charge"] = self._charge(sub, invoice["amount_due"], at)
        self._put("invoice", invoice)
        self._event("invoice.paid", invoice, at)
        pending = sub["pending_update"]
        if pending is not None and pending["invoice"] == invoice["id"]:
            sub["items"]["data"][0]["price"] = self._price(pending["price"])
            self._change(sub, at, pending_update=None)
        elif sub["status"] in ("incomplete", "past_due", "unpaid", "trialing"):
            self._change(sub, at, status="active")
        return True

    def _charge(self, sub: Json, amount: int, at: int) -> str:
        """A payment and its row in the ledger; with the disputing card, its dispute as well."""
        today, currency = day_at(at), sub["currency"]
        identifier = object_id("ch", today, sub["id"], self.store.counter("stripe_charges"))
        rate = rate_e5(self.account.seed, today) if currency == "eur" else None
        settled = converted(amount, rate)
        row = balance_row(
            "charge", "charge", identifier, created=at, amount=settled,
            currency="usd" if rate is not None else currency,
            fees=[[(settled * 29 + 500) // 1000 + 30, "Stripe processing fees"]],
            available_on=epoch(today + timedelta(days=2)), rate=rate, description="Subscription payment",
        )  # fmt: skip
        body = charge_body(identifier, at, amount, currency, sub["customer"], row["id"])
        self.store.put("stripe_charge", identifier, body)
        self.account.books.add_row(row)
        if self._card(sub["customer"]) == DISPUTED_CARD:
            self._dispute(body, settled, row["currency"], at)
        return identifier

    def _dispute(self, charge: Json, settled: int, currency: str, at: int) -> None:
        identifier = object_id("du", day_at(at), charge["id"])
        body = {
            "id": identifier, "object": "dispute", "amount": charge["amount"], "charge": charge["id"], "created": at,
            "currency": charge["currency"], "livemode": False, "reason": "fraudulent", "status": "needs_response",
        }  # fmt: skip
        self.store.put("stripe_dispute", identifier, body)
        self.account.books.add_row(
            balance_row(
                "adjustment", "dispute", identifier, created=at, amount=-settled, currency=currency,
                fees=[[DISPUTE_FEE, "Dispute fee"]], available_on=at, description=f"Dispute of {charge['id']}",
            )
        )  # fmt: skip

    def answer_dispute(self, call: Call) -> Json:
        """Evidence that says `winning_evidence` wins at once, as in Stripe's test mode; any other loses."""
        body = self.store.get("stripe_dispute", call.id)
        if body is None:
            raise missing("dispute", call.id)
        text = (call.params.get("evidence") or {}).get("uncategorized_text", "")
        body["status"] = "won" if text == "winning_evidence" else "lost"
        self.store.put("stripe_dispute", call.id, body)
        if body["status"] == "won":
            row = self.account.books.find_row(
                object_id("txn", day_at(body["created"]), call.id, "adjustment", "dispute")
            )
            if row is not None:
                self.account.books.add_row(
                    balance_row(
                        "adjustment", "dispute_reversal", call.id, created=call.now, amount=-row["amount"],
                        currency=row["currency"], fees=[], available_on=call.now,
                        description=f"Reinstatement of {body['charge']}",
                    )
                )  # fmt: skip
        self._event("charge.dispute.closed", body, call.now)
        return body

    def list_invoices(self, call: Call) -> Json:
        start, end = created_range(call)
        found = [v for _, v in self.store.items("stripe_invoice") if start <= v["created"] < end]
        for name in ("customer", "status"):
            if name in call.params:
                found = [invoice for invoice in found if invoice[name] == call.params[name]]
        return page(call, "/v1/invoices", sorted(found, key=ledger_order, reverse=True))

    def get_invoice(self, call: Call) -> Json:
        return self._named("invoice", call)

    def pay_invoice(self, call: Call) -> Json:
        invoice = self._named("invoice", call)
        if invoice["status"] != "open":
            raise Refusal(400, "Invoice is already paid", code="invoice_already_paid")
        if not self._pay(invoice, call.now):
            raise Refusal(402, "Your card was declined.", kind="card_error", code="card_declined")
        return self._stored("invoice", invoice["id"])

    # Subscriptions

    def create(self, call: Call) -> Json:
        params = call.params
        customer = self.account.get_customer(Call({}, params["customer"], call.now))
        items = params["items"]
        if not isinstance(items, list) or len(items) != 1 or set(items[0]) - {"price", "quantity"}:
            raise Refusal(400, "Exactly one item with a price is supported here.", param="items")
        days = whole(params, "trial_period_days", 0, high=730)
        price = self._price(items[0].get("price", ""))
        coupon = self._coupon(params)
        made = self._start(customer["id"], price, call.now, days, params.get("metadata", {}), coupon)
        if params.get("trial_settings"):
            made = self._change(made, call.now, trial_settings=params["trial_settings"])
        return self._shown(made, expansions(call, {"latest_invoice", "schedule"}))

    def _start(
        self, customer: str, price: Json, now: int, trial_days: int, metadata: Json, coupon: Json | None
    ) -> Json:
        identifier = object_id("sub", day_at(now), self.store.counter("stripe_subscriptions"))
        anchor = now + trial_days * DAY_S
        end = anchor if trial_days else monthly(now, now)
        body = subscription_body(identifier, customer, price, created=now, period=(now, end), ended=None)
        body |= {
            "metadata": metadata, "billing_cycle_anchor": anchor, "status": "trialing" if trial_days else "incomplete",
            "trial_end": anchor if trial_days else None, "trial_settings": None, "pending_update": None,
            "coupon": coupon,
        }  # fmt: skip
        self._put("subscription", body)
        self._event("customer.subscription.created", body, now)
        invoice = self._invoice(
            body, "subscription_create", now, [(price, 0 if trial_days else price["unit_amount"])]
        )
        if trial_days:
            self._put("invoice", invoice | {"status": "paid"})
        else:
            self._pay(invoice, now)
        return self._stored("subscription", identifier)

    def update(self, call: Call) -> Json:
        sub, params = self._own(call), call.params
        if "cancel_at_period_end" in params:
            leaving = params["cancel_at_period_end"] == "true"
            end = sub["items"]["data"][0]["current_period_end"]
            sub |= {"cancel_at_period_end": leaving, "cancel_at": end if leaving else None}
        sub["metadata"] |= params.get("metadata", {})
        sub = self._change(sub, call.now)
        if params.get("items"):
            self._switch(sub, self._price(params["items"][0].get("price", "")), call)
        return self._shown(
            self._stored("subscription", sub["id"]), expansions(call, {"latest_invoice", "schedule"})
        )

    def _switch(self, sub: Json, price: Json, call: Call) -> None:
        """Another price from now on: with an invoice for the difference where that was asked for."""
        if sub["schedule"] is not None:
            raise Refusal(400, "The subscription is managed by a subscription schedule.", param="items")
        item = sub["items"]["data"][0]
        old, begun, ends = item["price"], item["current_period_start"], item["current_period_end"]
        if call.params.get("proration_behavior", "create_prorations") != "always_invoice":
            item["price"] = price
            self._change(sub, call.now)
            return
        share = (ends - call.now, ends - begun)
        lines = [(p, sign * p["unit_amount"] * share[0] // share[1]) for p, sign in ((old, -1), (price, 1))]
        invoice = self._invoice(sub, "subscription_update", call.now, lines)
        waits = call.params.get("payment_behavior") == "pending_if_incomplete"
        sub["pending_update"] = {"price": price["id"], "invoice": invoice["id"]} if waits else None
        if not waits:
            item["price"] = price
        self._change(sub, call.now)
        self._pay(invoice, call.now)

    def cancel(self, call: Call) -> Json:
        sub = self._own(call)
        return self._change(sub, call.now, status="canceled", canceled_at=call.now, ended_at=call.now)

    def list(self, call: Call) -> Json:
        plain = Call({k: v for k, v in call.params.items() if k != "expand"}, call.id, call.now)
        listing = self.account.list_subscriptions(plain)
        expand = {
            name.removeprefix("data.") for name in expansions(call, {"data.latest_invoice", "data.schedule"})
        }
        listing["data"] = [self._shown(sub, expand) for sub in listing["data"]]
        return listing

    def get(self, call: Call) -> Json:
        plain = Call({}, call.id, call.now)
        return self._shown(
            self.account.get_subscription(plain), expansions(call, {"latest_invoice", "schedule"})
        )

    def _shown(self, sub: Json, expand: set[str]) -> Json:
        kinds = {"latest_invoice": "invoice", "schedule": "schedule"}
        return sub | {name: self._stored(kinds[name], sub[name]) for name in expand if sub[name]}

    def _own(self, call: Call) -> Json:
        sub = self.account.get_subscription(Call({}, call.id, call.now))
        if sub["status"] == "canceled":
            raise Refusal(404, f"No such subscription: '{call.id}'", code="resource_missing", param="id")
        return {"trial_settings": None, "pending_update": None, **json.loads(json.dumps(sub))}

    def _change(self, sub: Json, at: int, **changes: object) -> Json:
        sub |= changes
        self._put("subscription", sub)
        kind = "deleted" if sub["status"] == "canceled" else "updated"
        self._event(f"customer.subscription.{kind}", sub, at)
        return sub

    # Schedules

    def create_schedule(self, call: Call) -> Json:
        sub = self._own(Call({}, call.params["from_subscription"], call.now))
        if sub["schedule"] is not None:
            raise Refusal(
                400, "The subscription is already attached to a schedule.", param="from_subscription"
            )
        item = sub["items"]["data"][0]
        identifier = object_id("sched", day_at(call.now), sub["id"], self.store.counter("stripe_schedules"))
        body = {
            "id": f"sub_{identifier}", "object": "subscription_schedule", "created": call.now, "livemode": False,
            "customer": sub["customer"], "subscription": sub["id"], "status": "active", "metadata": {},
            "end_behavior": "release", "released_at": None,
            "phases": [{
                "items": [{"price": item["price"]["id"], "quantity": 1}],
                "start_date": item["current_period_start"], "end_date": item["current_period_end"],
            }],
        }  # fmt: skip
        self._put("schedule", body)
        self._change(sub, call.now, schedule=body["id"])
        return body

    def update_schedule(self, call: Call) -> Json:
        body = self._named("schedule", call)
        phases, start = [], body["phases"][0]["start_date"]
        for asked in call.params["phases"]:
            self._price(asked["items"][0]["price"])
            begin = int(asked.get("start_date", start))
            if begin != start:
                raise Refusal(400, "A phase must start where the one before it ends.", param="phases")
            end = int(asked["end_date"]) if "end_date" in asked else monthly(start, start)
            phases.append({"items": asked["items"], "start_date": begin, "end_date": end})
            start = end
        self._put("schedule", body | {"phases": phases})
        return self._stored("schedule", call.id)

    def release_schedule(self, call: Call) -> Json:
        body = self._named("schedule", call)
        if body["status"] != "active":
            raise Refusal(400, f"You cannot release a schedule that is {body['status']}.")
        self._put("schedule", body | {"status": "released", "released_at": call.now})
        self._change(self._stored("subscription", body["subscription"]), call.now, schedule=None)
        return self._stored("schedule", call.id)

    # Customers and their pages

    def update_customer(self, call: Call) -> Json:
        body = self.account.get_customer(Call({}, call.id, call.now))
        body |= {name: call.params[name] for name in ("name", "email", "description") if name in call.params}
        body["metadata"] = body.get("metadata", {}) | call.params.get("metadata", {})
        body["invoice_settings"] = body.get("invoice_settings", {}) | call.params.get("invoice_settings", {})
        self.store.put("stripe_customer", body["id"], body)
        return body

    def search_customers(self, call: Call) -> Json:
        match = re.fullmatch(r"metadata\['([^']+)'\]:'([^']*)'", call.params["query"])
        if match is None:
            raise Refusal(400, "We were unable to parse your search query.", param="query")
        found = [v for _, v in self.store.items("stripe_customer") if v["metadata"].get(match[1]) == match[2]]
        return {
            "object": "search_result", "data": found, "has_more": False, "next_page": None,
            "url": "/v1/customers/search",
        }  # fmt: skip

    def create_checkout(self, call: Call) -> Json:
        params = call.params
        customer = self.account.get_customer(Call({}, params["customer"], call.now))
        if params["mode"] != "subscription":
            raise Refusal(400, "Only mode=subscription is supported here.", param="mode")
        price = self._price(params["line_items"][0]["price"])
        identifier = object_id("cs", day_at(call.now), customer["id"], self.store.counter("stripe_checkouts"))
        identifier = f"cs_test_{identifier[3:]}"
        body = {
            "id": identifier, "object": "checkout.session", "created": call.now, "customer": customer["id"],
            "client_reference_id": params.get("client_reference_id"), "mode": "subscription", "livemode": False,
            "metadata": params.get("metadata", {}), "expires_at": call.now + CHECKOUT_OPEN_S, "status": "open",
            "payment_status": "unpaid", "subscription": None, "url": f"{self.public_url}/pay/{identifier}",
            "success_url": params["success_url"], "cancel_url": params.get("cancel_url"),
            "amount_total": price["unit_amount"], "currency": price["currency"],
        }  # fmt: skip
        data, coupon = params.get("subscription_data") or {}, self._coupon(params)
        if coupon is not None:
            body["amount_total"] -= price["unit_amount"] * coupon["percent_off"] // 100
        ordered = {
            "coupon": coupon,
            "price": price["id"],
            "metadata": data.get("metadata", {}),
            "trial": data.get("trial_period_days", 0),
        }
        self._put("checkout", body)
        self.store.put("stripe_order", identifier, ordered)
        return body

    def list_checkouts(self, call: Call) -> Json:
        found = [self._checkout(v, call.now) for _, v in self.store.items("stripe_checkout")]
        for name in ("customer", "status", "subscription"):
            if name in call.params:
                found = [session for session in found if session[name] == call.params[name]]
        return page(call, "/v1/checkout/sessions", sorted(found, key=ledger_order, reverse=True))

    def get_checkout(self, call: Call) -> Json:
        return self._checkout(self._named("checkout", call), call.now)

    def _checkout(self, body: Json, now: int) -> Json:
        return (
            body | {"status": "expired", "url": None}
            if body["status"] == "open" and body["expires_at"] <= now
            else body
        )

    def expire_checkout(self, call: Call) -> Json:
        body = self.get_checkout(call)
        if body["status"] != "open":
            raise Refusal(
                400, f'Only Checkout Sessions with a status in ["open"] can be expired, not {body["status"]}.'
            )
        self._put("checkout", body | {"status": "expired", "url": None})
        self._event("checkout.session.expired", body, call.now)
        return self._stored("checkout", call.id)

    def pay_checkout(self, identifier: str, now: int, card: str) -> Json:
        """What the customer does on the page. A refused card leaves the session open and makes nothing."""
        body = self.get_checkout(Call({}, identifier, now))
        if body["status"] != "open":
            raise Refusal(400, f"This Checkout Session is {body['status']}.")
        is_paid = bool(body["amount_total"])
        if card == REFUSED_CARD and is_paid:
            raise Refusal(402, "Your card was declined.", kind="card_error", code="card_declined")
        order = self._stored("order", identifier)
        if is_paid:
            settings = {"invoice_settings": {"default_payment_method": card}}
            self.update_customer(Call(settings, body["customer"], now))
        made = self._start(
            body["customer"], self._price(order["price"]), now, int(order["trial"]), order["metadata"],
            order["coupon"],
        )  # fmt: skip
        # A page that asks for nothing takes no card.
        status = "paid" if is_paid else "no_payment_required"
        body |= {"status": "complete", "payment_status": status, "subscription": made["id"], "url": None}
        self._put("checkout", body)
        self._event("checkout.session.completed", body, now)
        return body

    def create_portal(self, call: Call) -> Json:
        customer = self.account.get_customer(Call({}, call.params["customer"], call.now))
        identifier = object_id("bps", day_at(call.now), customer["id"], self.store.counter("stripe_portals"))
        body = {
            "id": identifier, "object": "billing_portal.session", "created": call.now, "customer": customer["id"],
            "livemode": False, "return_url": call.params.get("return_url"),
            "url": f"{self.public_url}/portal/{identifier}",
        }  # fmt: skip
        self._put("portal", body)
        return body

    # Storage

    def _card(self, customer: str) -> str:
        body = self.store.get("stripe_customer", customer) or {}
        return str(body.get("invoice_settings", {}).get("default_payment_method") or "")

    def _price(self, identifier: str) -> Json:
        return self.account.get_price(Call({}, identifier, 0))

    def _event(self, kind: str, about: Json, at: int) -> None:
        number = self.store.counter("stripe_events")
        identifier = object_id("evt", day_at(at), number)
        self.store.put(
            "stripe_event", identifier,
            {
                "id": identifier, "object": "event", "api_version": None, "created": at, "data": {"object": about},
                "livemode": False, "pending_webhooks": 0, "type": kind,
                "request": {"id": None, "idempotency_key": None},
            },
        )  # fmt: skip

    def _put(self, kind: str, body: Json) -> None:
        self.store.put(f"stripe_{kind}", body["id"], body)

    def _stored(self, kind: str, identifier: str) -> Json:
        body = self.store.get(f"stripe_{kind}", identifier)
        if body is None:
            raise missing(kind, identifier)
        return body

    def _named(self, kind: str, call: Call) -> Json:
        return self._stored(kind, call.id)
