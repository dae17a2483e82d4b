"""Stripe's objects as JSON, as the sandbox answers them; no state and no requests here."""

from datetime import date

from ettametta_pipelines.sandbox.stripe_books import (
    BOOKS_OPENED,
    TIERS,
    Customer,
    Event,
    Json,
    Tier,
    day_at,
    epoch,
    object_id,
    price_id,
    product_id,
)


def charge_body(identifier: str, created: int, amount: int, currency: str, customer: str, row: str) -> Json:
    return {
        "id": identifier, "object": "charge", "amount": amount, "amount_captured": amount,
        "balance_transaction": row, "captured": True, "created": created, "currency": currency,
        "customer": customer, "description": "Subscription payment", "livemode": False, "metadata": {}, "paid": True,
        "payment_intent": identifier.replace("ch_", "pi_"), "status": "succeeded",
    }  # fmt: skip


def refund_body(event: Event) -> Json:
    charge = event.charge
    return {
        "id": event.id, "object": "refund", "amount": event.amount,
        "balance_transaction": object_id("txn", day_at(event.created), event.id, "refund", "refund"),
        "charge": charge.id, "created": event.created, "currency": charge.currency, "metadata": {},
        "reason": "requested_by_customer", "status": "succeeded",
    }  # fmt: skip


def dispute_body(event: Event, status: str) -> Json:
    return {
        "id": event.id, "object": "dispute", "amount": event.amount, "charge": event.charge.id,
        "created": event.created, "currency": event.charge.currency, "livemode": False, "reason": "general",
        "status": status,
    }  # fmt: skip


def customer_body(customer: Customer) -> Json:
    number = customer.id[-6:]
    return {
        "id": customer.id, "object": "customer", "created": epoch(customer.started, customer.second_of_day),
        "description": None, "email": f"creator-{number}@example.com", "livemode": False, "metadata": {},
        "name": f"Creator {number}",
    }  # fmt: skip


def product_body(tier: Tier) -> Json:
    return {
        "id": product_id(tier), "object": "product", "active": True, "created": epoch(BOOKS_OPENED),
        "livemode": False, "metadata": {}, "name": tier.name,
    }  # fmt: skip


def seeded_prices() -> list[Json]:
    return [
        {
            "id": price_id(tier, currency), "object": "price", "active": True, "created": epoch(BOOKS_OPENED),
            "currency": currency, "livemode": False, "lookup_key": f"{tier.name.lower()}_{currency}", "metadata": {},
            "product": product_id(tier), "recurring": {"interval": "month", "interval_count": 1},
            "type": "recurring", "unit_amount": amount,
        }
        for tier in TIERS for currency, amount in tier.monthly.items()
    ]  # fmt: skip


def billing_days(started: date, count: int) -> list[date]:
    """First `count` billing days: the start, then the same day of each month (the 28th for later ones)."""
    days = [started]
    year, month = started.year, started.month
    for _ in range(count - 1):
        year, month = (year, month + 1) if month < 12 else (year + 1, 1)
        days.append(date(year, month, min(started.day, 28)))
    return days


def subscription_body(
    identifier: str, customer: str, price: Json, *, created: int, period: tuple[int, int], ended: int | None
) -> Json:
    item = {
        "id": identifier.replace("sub_", "si_"), "object": "subscription_item", "created": created, "price": price,
        "quantity": 1, "subscription": identifier, "current_period_start": period[0], "current_period_end": period[1],
    }  # fmt: skip
    return {
        "id": identifier, "object": "subscription", "cancel_at": None, "cancel_at_period_end": False,
        "canceled_at": ended, "created": created, "currency": price["currency"], "customer": customer,
        "ended_at": ended, "items": {"object": "list", "data": [item], "has_more": False},
        "livemode": False, "metadata": {}, "start_date": created, "status": "canceled" if ended else "active",
        "billing_cycle_anchor": created, "latest_invoice": None, "schedule": None,
    }  # fmt: skip
