"""Selling subscriptions through Stripe's SDK: customers, Checkout, the customer portal, plan changes, events.

Every writing call names its idempotency key, so that a lost answer is asked for again without doing anything twice.
What a subscription entitles to is decided in `billing/`, the only caller; the balance ledger is `stripe.py`'s.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ettametta_pipelines.money import Money
from ettametta_pipelines.vendors.stripe import StripeClient, _instant, _money

ACCOUNT_KEY = "ettametta_account"
# What of a subscription is read with it, in one call.
EXPANDED = ("latest_invoice", "schedule")


@dataclass(frozen=True)
class Invoice:
    """A subscription's latest invoice. `prices` are those it charges for, credits for an old plan not among them."""

    id: str
    status: str
    reason: str
    created: datetime
    prices: tuple[str, ...]

    @property
    def is_paid(self) -> bool:
        return self.status == "paid"


@dataclass(frozen=True)
class Plan:
    """A customer's subscription as its entitlement needs it. The period is its item's; `next_price` a schedule's."""

    id: str
    customer_id: str
    account: str | None
    status: str
    created: datetime
    item_id: str
    quantity: int
    price_id: str
    lookup_key: str | None
    period_start: datetime
    period_end: datetime
    anchor: datetime
    cancel_at_period_end: bool
    schedule_id: str | None
    next_price: str | None
    invoice: Invoice | None
    livemode: bool


@dataclass(frozen=True)
class Price:
    id: str
    lookup_key: str | None
    amount: Money
    active: bool


@dataclass(frozen=True)
class Session:
    """A page of Stripe's that a customer is sent to. `url` is None once it cannot be used any more."""

    id: str
    url: str | None


class StripeBilling(StripeClient):
    """Seller of subscriptions in one Stripe account. Raises PipelineError subclasses only."""

    def prices(self, lookup_keys: Sequence[str]) -> dict[str, Price]:
        """Active recurring prices by lookup key; those that Stripe does not have are missing."""
        asked: Any = {"lookup_keys": list(lookup_keys), "active": True}
        rows = self._pages("list prices", self._api.v1.prices.list, asked)
        return {
            row["lookup_key"]: Price(
                row["id"], row["lookup_key"], _money(row["unit_amount"], row["currency"]), row["active"]
            )
            for row in rows
        }

    def customer_of(self, account: str) -> str | None:
        """The customer that carries this account's name; the oldest where there are several."""
        query: Any = {"query": f"metadata['{ACCOUNT_KEY}']:'{account}'", "limit": 100}
        doing = f"look for the customer of {account}"
        found = self._call(doing, lambda: self._api.v1.customers.search(query)).to_dict()["data"]
        return min(found, key=lambda row: (row["created"], row["id"]))["id"] if found else None

    def create_customer(self, account: str, *, key: str) -> str:
        params: Any = {"name": account, "metadata": {ACCOUNT_KEY: account}}
        doing = f"create the customer of {account}"
        made = self._call(doing, lambda: self._api.v1.customers.create(params, {"idempotency_key": key}))
        return made.id

    def plans_of(self, customer_id: str) -> list[Plan]:
        """Every subscription of a customer, ended ones too, newest first."""
        return list(self._plans({"customer": customer_id, "status": "all"}))

    def running_plans(self) -> Iterator[Plan]:
        """Subscriptions of all customers that have not ended, newest first."""
        return self._plans({})

    def _plans(self, params: dict[str, Any]) -> Iterator[Plan]:
        asked = {**params, "expand": [f"data.{name}" for name in EXPANDED]}
        rows = self._pages("list subscriptions", self._api.v1.subscriptions.list, asked)
        return (_plan(row) for row in rows)

    def open_checkouts(self, customer_id: str) -> list[Session]:
        asked = {"customer": customer_id, "status": "open"}
        rows = self._pages("list checkout sessions", self._api.v1.checkout.sessions.list, asked)
        return [Session(row["id"], row["url"]) for row in rows]

    def expire_checkout(self, session_id: str) -> None:
        doing = f"expire checkout session {session_id}"
        self._call(doing, lambda: self._api.v1.checkout.sessions.expire(session_id))

    def create_checkout(
        self, customer_id: str, account: str, price_id: str, *, success_url: str, cancel_url: str, key: str
    ) -> Session:
        """A page on which the customer pays for a subscription. Nothing is sold until it is paid."""
        params: Any = {
            "mode": "subscription",
            "customer": customer_id,
            "client_reference_id": account,
            "line_items": [{"price": price_id, "quantity": 1}],
            "subscription_data": {"metadata": {ACCOUNT_KEY: account}},
            "success_url": success_url,
            "cancel_url": cancel_url,
        }
        doing = f"open the checkout of {account}"
        made = self._call(
            doing, lambda: self._api.v1.checkout.sessions.create(params, {"idempotency_key": key})
        )
        return Session(made.id, made.url)

    def create_portal(self, customer_id: str, *, return_url: str, key: str) -> Session:
        """A short-lived page on which the customer sees invoices and changes card or plan."""
        params: Any = {"customer": customer_id, "return_url": return_url}
        made = self._call(
            "open the customer portal",
            lambda: self._api.v1.billing_portal.sessions.create(params, {"idempotency_key": key}),
        )
        return Session(made.id, made.url)

    def upgrade(self, plan: Plan, price_id: str, *, key: str) -> None:
        """Change the price now and charge the difference at once; the change takes effect when that is paid."""
        params: Any = {
            "items": [{"id": plan.item_id, "price": price_id}],
            "proration_behavior": "always_invoice",
            "payment_behavior": "pending_if_incomplete",
        }
        self._update(plan.id, params, key)

    def set_cancellation(self, plan: Plan, *, leaving: bool, key: str) -> None:
        """End the subscription with its period, or take that back."""
        self._update(plan.id, {"cancel_at_period_end": leaving}, key)

    def _update(self, subscription_id: str, params: Any, key: str) -> None:
        self._call(
            f"change subscription {subscription_id}",
            lambda: self._api.v1.subscriptions.update(subscription_id, params, {"idempotency_key": key}),
        )

    def schedule_price(self, plan: Plan, price_id: str, *, key: str) -> None:
        """Keep the price to the period's end and go on with another one from there, without proration."""
        schedules = self._api.v1.subscription_schedules
        schedule_id = plan.schedule_id
        if schedule_id is None:
            params: Any = {"from_subscription": plan.id}
            doing = f"schedule subscription {plan.id}"
            made = self._call(doing, lambda: schedules.create(params, {"idempotency_key": f"{key}-create"}))
            schedule_id = made.id
        start, end = int(plan.period_start.timestamp()), int(plan.period_end.timestamp())
        phases: Any = {
            "end_behavior": "release",
            "proration_behavior": "none",
            "phases": [
                {"items": [{"price": plan.price_id, "quantity": 1}], "start_date": start, "end_date": end},
                {"items": [{"price": price_id, "quantity": 1}], "duration": {"interval": "month"}},
            ],
        }
        chosen = schedule_id
        self._call(
            f"schedule subscription {plan.id}",
            lambda: schedules.update(chosen, phases, {"idempotency_key": f"{key}-update"}),
        )

    def release_schedule(self, schedule_id: str, *, key: str) -> None:
        """Forget a planned change; the subscription goes on as it is."""
        self._call(
            f"release schedule {schedule_id}",
            lambda: self._api.v1.subscription_schedules.release(schedule_id, {}, {"idempotency_key": key}),
        )

    def disputes_of(self, charge_id: str) -> list[str]:
        """Statuses of a charge's disputes: `won`, `lost`, `under_review` ... as Stripe names them."""
        rows = self._pages("list disputes", self._api.v1.disputes.list, {"charge": charge_id})
        return [row["status"] for row in rows]

    def events(self, types: Sequence[str], created_from: datetime) -> Iterator[dict[str, Any]]:
        """Events of at most 20 types since an instant, newest first. Stripe keeps them for 30 days."""
        params = {"types": list(types), "created": {"gte": int(created_from.timestamp())}}
        return self._pages("list events", self._api.v1.events.list, params)


def _plan(row: dict[str, Any]) -> Plan:
    item = row["items"]["data"][0]
    price, schedule, invoice = item["price"], row.get("schedule"), row.get("latest_invoice")
    return Plan(
        id=row["id"],
        customer_id=row["customer"],
        account=row["metadata"].get(ACCOUNT_KEY),
        status=row["status"],
        created=_instant(row["created"]),
        item_id=item["id"],
        quantity=item.get("quantity") or 1,
        price_id=price["id"],
        lookup_key=price["lookup_key"],
        period_start=_instant(item["current_period_start"]),
        period_end=_instant(item["current_period_end"]),
        anchor=_instant(row["billing_cycle_anchor"]),
        cancel_at_period_end=row["cancel_at_period_end"],
        schedule_id=schedule["id"] if schedule else None,
        next_price=_next_price(schedule, item["current_period_end"]) if schedule else None,
        invoice=_invoice(invoice) if invoice else None,
        livemode=row["livemode"],
    )


def _next_price(schedule: dict[str, Any], period_end: int) -> str | None:
    """Id of the price that a schedule goes on with when the period ends."""
    return next((p["items"][0]["price"] for p in schedule["phases"] if p["start_date"] == period_end), None)


def _invoice(row: dict[str, Any]) -> Invoice:
    charged = (line for line in row["lines"]["data"] if line["amount"] >= 0)
    prices = (line["pricing"]["price_details"]["price"] for line in charged if line.get("pricing"))
    return Invoice(
        row["id"],
        row["status"],
        row["billing_reason"],
        _instant(row["created"]),
        tuple(dict.fromkeys(prices)),
    )
