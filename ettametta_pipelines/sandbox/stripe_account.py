"""What each method of the sandboxed Stripe answers: seeded objects, and those made through the API.

Reads the ledger of `stripe_books.py`; called through the routes in `stripe.py`.
"""

from typing import Any

from ettametta_pipelines.money import EXPONENTS
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.sandbox.stripe_books import (
    BOOKS_OPENED,
    DAY_S,
    DISPUTE_DECIDED_AFTER_S,
    TIERS,
    Books,
    Charge,
    Customer,
    Event,
    Json,
    balance_row,
    charges_of,
    converted,
    customers_of,
    day_at,
    day_of_id,
    days_between,
    epoch,
    events_on,
    later_events_of,
    ledger_order,
    object_id,
    rate_e5,
)
from ettametta_pipelines.sandbox.stripe_objects import (
    billing_days,
    charge_body,
    customer_body,
    dispute_body,
    product_body,
    refund_body,
    seeded_prices,
    subscription_body,
)
from ettametta_pipelines.sandbox.stripe_requests import (
    Call,
    Refusal,
    created_range,
    expansions,
    missing,
    page,
    whole,
)

EVENT_RETENTION_DAYS = 30
EVENT_TYPES = {
    "charge": "charge.succeeded",
    "refund": "charge.refunded",
    "dispute": "charge.dispute.created",
    "dispute_reversal": "charge.dispute.funds_reinstated",
    "payout": "payout.created",
}


class Account:
    """The sandboxed account: seeded objects, those made through the API, and the methods over both."""

    def __init__(self, store: SandboxStore, seed: int) -> None:
        self.store = store
        self.seed = seed
        self.books = Books(seed, store)

    # Ledger

    def balance(self, call: Call) -> Json:
        sums: dict[tuple[str, bool], int] = {}
        for row in self.books.rows(epoch(BOOKS_OPENED), call.end):
            key = (row["currency"], row["available_on"] <= call.now)
            sums[key] = sums.get(key, 0) + row["net"]
        currencies = sorted({currency for currency, _ in sums} | {"usd"})

        def part(available: bool) -> list[Json]:
            return [
                {
                    "amount": sums.get((c, available), 0),
                    "currency": c,
                    "source_types": {"card": sums.get((c, available), 0)},
                }
                for c in currencies
            ]

        return {"object": "balance", "livemode": False, "available": part(True), "pending": part(False)}

    def list_rows(self, call: Call) -> Json:
        params = call.params
        start, end = created_range(call)
        if "payout" in params:
            payout = self.books.find_payout(params["payout"])
            if payout is None or payout["created"] > call.now:
                raise missing("payout", params["payout"], "payout")
            rows = self.books.rows_of_payout(payout)
        else:
            rows = self.books.rows(start, end)
        for name in ("type", "source", "currency"):
            if name in params:
                rows = [row for row in rows if row[name] == params[name]]
        rows = [row for row in rows if start <= row["created"] < end]
        listing = page(call, "/v1/balance_transactions", rows)
        expand = expansions(call, {"data.source"})
        listing["data"] = [
            self._row(row, call, expand_source="data.source" in expand) for row in listing["data"]
        ]
        return listing

    def get_row(self, call: Call) -> Json:
        row = self.books.find_row(call.id)
        if row is None or row["created"] > call.now:
            raise missing("balance transaction", call.id)
        return self._row(row, call, expand_source="source" in expansions(call, {"source"}))

    def _row(self, row: Json, call: Call, *, expand_source: bool) -> Json:
        status = "available" if row["available_on"] <= call.now else "pending"
        source: Any = self._source(row["source"], call) if expand_source else row["source"]
        return row | {"status": status, "source": source}

    def _source(self, identifier: str, call: Call) -> Json:
        readers = {
            "ch": self.get_charge,
            "re": self.get_refund,
            "du": self.get_dispute,
            "po": self.get_payout,
        }
        return readers[identifier.split("_")[0]](Call({}, identifier, call.now))

    def list_payouts(self, call: Call) -> Json:
        payouts = [self._payout(payout, call) for payout in self.books.payouts(*created_range(call))]
        for name in ("status", "destination"):
            if name in call.params:
                payouts = [payout for payout in payouts if payout[name] == call.params[name]]
        if "arrival_date" in call.params:
            start, end = created_range(Call({"created": call.params["arrival_date"]}, "", 2**40))
            payouts = [payout for payout in payouts if start <= payout["arrival_date"] < end]
        return page(call, "/v1/payouts", payouts)

    def get_payout(self, call: Call) -> Json:
        payout = self.books.find_payout(call.id)
        if payout is None or payout["created"] > call.now:
            raise missing("payout", call.id)
        return self._payout(payout, call)

    def _payout(self, payout: Json, call: Call) -> Json:
        arrived = payout["arrival_date"] <= call.now
        return payout | {
            "status": "paid" if arrived else "in_transit",
            "reconciliation_status": "completed" if arrived else "in_progress",
        }

    # Charges, refunds, disputes

    def list_charges(self, call: Call) -> Json:
        start, end = created_range(call)
        charges = [c for day in days_between(start, end) for c in charges_of(self.seed, day)]
        found = [self._charge(charge, call) for charge in charges if start <= charge.created < end]
        found += [
            self._with_refunds(value, [], call) for _, value in self.store.items("stripe_charge")
            if start <= value["created"] < end
        ]  # fmt: skip
        if "customer" in call.params:
            found = [charge for charge in found if charge["customer"] == call.params["customer"]]
        return page(call, "/v1/charges", sorted(found, key=ledger_order, reverse=True))

    def get_charge(self, call: Call) -> Json:
        charge = self._find_charge(call.id)
        if charge is not None and charge.created <= call.now:
            return self._charge(charge, call)
        stored = self.store.get("stripe_charge", call.id)
        if stored is None:
            raise missing("charge", call.id)
        return self._with_refunds(stored, [], call)

    def _find_charge(self, identifier: str) -> Charge | None:
        day = day_of_id(identifier)
        return next((c for c in charges_of(self.seed, day) if c.id == identifier), None) if day else None

    def _charge(self, charge: Charge, call: Call) -> Json:
        body = charge_body(
            charge.id, charge.created, charge.amount, charge.currency, charge.customer.id,
            object_id("txn", day_at(charge.created), charge.id, "charge", "charge"),
        )  # fmt: skip
        events = [e for e in later_events_of(self.seed, day_at(charge.created)) if e.charge.id == charge.id]
        return self._with_refunds(body, [e for e in events if e.created <= call.now], call)

    def _with_refunds(self, body: Json, events: list[Event], call: Call) -> Json:
        live = [v for _, v in self.store.items("stripe_refund") if v["charge"] == body["id"]]
        refunded = sum(e.amount for e in events if e.kind == "refund") + sum(r["amount"] for r in live)
        return body | {
            "amount_refunded": refunded,
            "refunded": refunded == body["amount"],
            "disputed": any(e.kind == "dispute" for e in events) or self._is_disputed(body["id"]),
        }

    def _is_disputed(self, charge: str) -> bool:
        return any(v["charge"] == charge for _, v in self.store.items("stripe_dispute"))

    def _events_in(self, start: int, end: int) -> list[Event]:
        found = (e for day in days_between(start, end) for e in events_on(self.seed, day))
        return [e for e in found if start <= e.created < end]

    def list_refunds(self, call: Call) -> Json:
        start, end = created_range(call)
        found = [refund_body(e) for e in self._events_in(start, end) if e.kind == "refund"]
        found += [v for _, v in self.store.items("stripe_refund") if start <= v["created"] < end]
        if "charge" in call.params:
            found = [refund for refund in found if refund["charge"] == call.params["charge"]]
        return page(call, "/v1/refunds", sorted(found, key=ledger_order, reverse=True))

    def get_refund(self, call: Call) -> Json:
        stored = self.store.get("stripe_refund", call.id)
        return stored if stored is not None else refund_body(self._find_event("refund", call))

    def _find_event(self, name: str, call: Call) -> Event:
        day = day_of_id(call.id)
        events = events_on(self.seed, day) if day else ()
        event = next((e for e in events if e.id == call.id and e.created <= call.now), None)
        if event is None:
            raise missing(name, call.id)
        return event

    def create_refund(self, call: Call) -> Json:
        params = call.params
        try:
            charge = self.get_charge(Call({}, params["charge"], call.now))
        except Refusal:
            raise missing("charge", params["charge"], "charge") from None
        left = charge["amount"] - charge["amount_refunded"]
        if left == 0:
            raise Refusal(
                400, f"Charge {charge['id']} has already been refunded.", code="charge_already_refunded"
            )
        if charge["disputed"]:
            raise Refusal(
                400,
                f"Charge {charge['id']} has been charged back; cannot issue a refund.",
                code="charge_disputed",
            )
        amount = whole(params, "amount", left, low=1)
        if amount > left:
            raise Refusal(
                400,
                f"Refund amount ({amount}) is greater than unrefunded amount on charge ({left})",
                param="amount",
            )
        reasons = ("duplicate", "fraudulent", "requested_by_customer")
        if params.get("reason") not in (None, *reasons):
            raise Refusal(400, f"Invalid reason: must be one of {', '.join(reasons)}", param="reason")
        today = day_at(call.now)
        identifier = object_id("re", today, charge["id"], self.store.counter("stripe_refunds"))
        rate = rate_e5(self.seed, today) if charge["currency"] == "eur" else None
        row = balance_row(
            "refund", "refund", identifier, created=call.now, amount=-converted(amount, rate),
            currency="usd" if rate is not None else charge["currency"], fees=[], available_on=call.now, rate=rate,
            description=f"Refund of {charge['id']}",
        )  # fmt: skip
        refund = {
            "id": identifier, "object": "refund", "amount": amount, "balance_transaction": row["id"],
            "charge": charge["id"], "created": call.now, "currency": charge["currency"],
            "metadata": params.get("metadata", {}), "reason": params.get("reason"), "status": "succeeded",
        }  # fmt: skip
        self.store.put("stripe_refund", identifier, refund)
        self.books.add_row(row)
        return refund

    def list_disputes(self, call: Call) -> Json:
        start, end = created_range(call)
        stored = [value for _, value in self.store.items("stripe_dispute")]
        found = [body for body in stored if start <= body["created"] < end]
        found += [
            dispute_body(event, self._outcome(event, call))
            for event in self._events_in(start, end) if event.kind == "dispute"
        ]  # fmt: skip
        if "charge" in call.params:
            found = [body for body in found if body["charge"] == call.params["charge"]]
        return page(call, "/v1/disputes", sorted(found, key=ledger_order, reverse=True))

    def get_dispute(self, call: Call) -> Json:
        if (stored := self.store.get("stripe_dispute", call.id)) is not None:
            return stored
        event = self._find_event("dispute", call)
        return dispute_body(event, self._outcome(event, call))

    def _outcome(self, event: Event, call: Call) -> str:
        if event.created + DISPUTE_DECIDED_AFTER_S > call.now:
            return "under_review"
        same = later_events_of(self.seed, day_at(event.charge.created))
        return "won" if any(e.kind == "reinstatement" and e.id == event.id for e in same) else "lost"

    # Customers, catalogue, subscriptions

    def _customers(self, start: int, end: int) -> list[Customer]:
        return [
            c for day in days_between(start, end) for c in customers_of(self.seed, day)
            if start <= epoch(c.started, c.second_of_day) < end
        ]  # fmt: skip

    def _find_customer(self, identifier: str, now: int) -> Customer | None:
        day = day_of_id(identifier)
        found = customers_of(self.seed, day) if day else ()
        return next(
            (c for c in found if c.id == identifier and epoch(c.started, c.second_of_day) <= now), None
        )

    def list_customers(self, call: Call) -> Json:
        start, end = created_range(call)
        found = [customer_body(c) for c in self._customers(start, end)]
        found += [v for _, v in self.store.items("stripe_customer") if start <= v["created"] < end]
        if "email" in call.params:
            found = [customer for customer in found if customer["email"] == call.params["email"]]
        return page(call, "/v1/customers", sorted(found, key=ledger_order, reverse=True))

    def get_customer(self, call: Call) -> Json:
        seeded = self._find_customer(call.id, call.now)
        customer = customer_body(seeded) if seeded else self.store.get("stripe_customer", call.id)
        if customer is None:
            raise missing("customer", call.id)
        return customer

    def create_customer(self, call: Call) -> Json:
        return self._create(
            "stripe_customer", "cus", call, {"object": "customer", "email": call.params.get("email")}
        )

    def _create(self, kind: str, prefix: str, call: Call, fields: Json) -> Json:
        identifier = object_id(prefix, day_at(call.now), kind, self.store.counter(kind))
        texts: Json = {name: call.params[name] for name in ("name", "description") if name in call.params}
        body: Json = {
            "id": identifier, "created": call.now, "livemode": False, "metadata": call.params.get("metadata", {}),
            **texts, **fields,
        }  # fmt: skip
        self.store.put(kind, identifier, body)
        return body

    def list_products(self, call: Call) -> Json:
        found = [product_body(tier) for tier in TIERS] + [v for _, v in self.store.items("stripe_product")]
        if "active" in call.params:
            found = [p for p in found if p["active"] == (call.params["active"] == "true")]
        return page(call, "/v1/products", sorted(found, key=ledger_order, reverse=True))

    def get_product(self, call: Call) -> Json:
        return self._one_of([product_body(tier) for tier in TIERS], "product", call)

    def _one_of(self, seeded: list[Json], name: str, call: Call) -> Json:
        found = next((item for item in seeded if item["id"] == call.id), None)
        found = found or self.store.get(f"stripe_{name}", call.id)
        if found is None:
            raise missing(name, call.id)
        return found

    def create_product(self, call: Call) -> Json:
        active = call.params.get("active", "true") == "true"
        return self._create("stripe_product", "prod", call, {"object": "product", "active": active})

    def list_prices(self, call: Call) -> Json:
        found = seeded_prices() + [v for _, v in self.store.items("stripe_price")]
        for name in ("product", "currency"):
            if name in call.params:
                found = [price for price in found if price[name] == call.params[name]]
        if "lookup_keys" in call.params:
            found = [price for price in found if price["lookup_key"] in call.params["lookup_keys"]]
        return page(call, "/v1/prices", sorted(found, key=ledger_order, reverse=True))

    def get_price(self, call: Call) -> Json:
        return self._one_of(seeded_prices(), "price", call)

    def create_price(self, call: Call) -> Json:
        params = call.params
        currency = params["currency"]
        if currency != currency.lower() or currency.upper() not in EXPONENTS:
            raise Refusal(400, f"Invalid currency: {currency}.", param="currency")
        self.get_product(Call({}, params["product"], call.now))
        return self._create(
            "stripe_price", "price", call,
            {
                "object": "price", "active": True, "product": params["product"], "currency": currency,
                "unit_amount": whole(params, "unit_amount"), "lookup_key": params.get("lookup_key"),
                "recurring": params.get("recurring"), "type": "recurring" if "recurring" in params else "one_time",
            },
        )  # fmt: skip

    def list_subscriptions(self, call: Call) -> Json:
        start, end = created_range(call)
        by_id = {c.subscription_id: self._subscription(c, call.now) for c in self._customers(start, end)}
        by_id |= {k: v for k, v in self.store.items("stripe_subscription") if start <= v["created"] < end}
        found = list(by_id.values())
        status = call.params.get("status", "active_ones")
        if status == "active_ones":
            found = [s for s in found if s["status"] != "canceled"]
        elif status != "all":
            found = [s for s in found if s["status"] == status]
        if "customer" in call.params:
            found = [s for s in found if s["customer"] == call.params["customer"]]
        if "price" in call.params:
            found = [
                s for s in found if any(i["price"]["id"] == call.params["price"] for i in s["items"]["data"])
            ]
        return page(call, "/v1/subscriptions", sorted(found, key=ledger_order, reverse=True))

    def get_subscription(self, call: Call) -> Json:
        stored = self.store.get("stripe_subscription", call.id)
        if stored is not None:
            return stored
        customer = self._find_customer(call.id.replace("sub_", "cus_"), call.now)
        if customer is None:
            raise missing("subscription", call.id)
        return self._subscription(customer, call.now)

    def _subscription(self, customer: Customer, now: int) -> Json:
        starts = [
            epoch(day, customer.second_of_day) for day in billing_days(customer.started, customer.months + 1)
        ]
        ended = starts[-1] if starts[-1] <= now else None
        latest = max(i for i, start in enumerate(starts) if start <= now)
        current = min(latest, customer.months - 1)
        price = next(p for p in seeded_prices() if p["id"] == customer.price_id())
        return subscription_body(
            customer.subscription_id, customer.id, price,
            created=starts[0], period=(starts[current], starts[current + 1]), ended=ended,
        )  # fmt: skip

    # Events

    def list_events(self, call: Call) -> Json:
        """Events of the last 30 days; older ones are gone, as at Stripe."""
        start, end = created_range(call)
        start = max(start, call.now - EVENT_RETENTION_DAYS * DAY_S)
        wanted = call.params.get("types", [call.params["type"]] if "type" in call.params else None)
        events = [event for row in self.books.rows(start, end) for event in [self._event(row, call)]]
        events += [v for _, v in self.store.items("stripe_event") if start <= v["created"] < end]
        events.sort(key=ledger_order, reverse=True)
        if wanted is not None:
            events = [event for event in events if event["type"] in wanted]
        return page(call, "/v1/events", events)

    def _event(self, row: Json, call: Call) -> Json:
        kind = EVENT_TYPES[row["reporting_category"]]
        source = self._source(row["source"], call)
        about = (
            source if source["object"] != "refund" else self.get_charge(Call({}, source["charge"], call.now))
        )
        return {
            "id": row["id"].replace("txn_", "evt_"), "object": "event", "api_version": None,
            "created": row["created"], "data": {"object": about}, "livemode": False, "pending_webhooks": 0,
            "request": {"id": None, "idempotency_key": None}, "type": kind,
        }  # fmt: skip
