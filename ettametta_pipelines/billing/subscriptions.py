"""What a customer may ask for: a checkout, the portal, another tier, an end. Each is asked of Stripe, none is believed.

Nothing here grants anything: after the call, and after every event it causes, Stripe is read again (`entitlements.py`).
Called by the command line and by the gateway.
"""

from typing import TYPE_CHECKING
from uuid import uuid4

import sqlalchemy as sa

from ettametta_pipelines.billing.entitlements import (
    GIVING,
    Change,
    apply_reading,
    begin_reading,
    best_of,
    entitlement_row,
    price_keys,
    refresh,
)
from ettametta_pipelines.billing.tiers import Plans, Tier
from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.state.models import Entitlement
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.vendors.stripe_billing import Plan, Price, Session, StripeBilling


def customer_of(db: StateDatabase, plans: Plans, stripe: "StripeBilling", account: str) -> str:
    """The account's customer, made at its first visit and never twice.

    It is looked for by the account's name first; for what Stripe's search does not show yet, the idempotency key is
    the account's, so that two visitors and a lost answer find the same customer.
    """
    with db.session() as session:
        known = entitlement_row(session, plans, account, db.now(session)).customer_id
    if known is not None:
        return known
    found = stripe.customer_of(account)
    customer = found or stripe.create_customer(account, key=f"ettametta-customer-{account}")
    with db.session() as session:
        entitlement_row(session, plans, account, db.now(session)).customer_id = customer
    return customer


def open_checkout(
    db: StateDatabase,
    plans: Plans,
    stripe: "StripeBilling",
    account: str,
    tier: Tier,
    *,
    success_url: str,
    cancel_url: str,
) -> "Session":
    """A page to buy a tier on. Raises PermanentError `already_subscribed` where a plan is changed, not bought again.

    Pages opened earlier are closed first: paid one after the other, they would be two subscriptions.
    """
    price = price_of(stripe, plans, tier)
    customer = customer_of(db, plans, stripe, account)
    running = best_of([plan for plan in stripe.plans_of(customer) if plan.status in GIVING], plans)
    if running is not None:
        raise PermanentError(
            f"{account} has a subscription already ({running.id}, {running.status}).",
            code="already_subscribed",
            remedy=f"Change it on its plan page, or by `ettametta plan {account} --change-to {tier.slug}`.",
        )
    for earlier in stripe.open_checkouts(customer):
        stripe.expire_checkout(earlier.id)
    return stripe.create_checkout(
        customer, account, price.id, success_url=success_url, cancel_url=cancel_url, key=uuid4().hex
    )


def open_portal(
    db: StateDatabase, plans: Plans, stripe: "StripeBilling", account: str, *, return_url: str
) -> "Session":
    """Stripe's page with the account's invoices, card and plan. Raises NeedsPersonError `no_customer`."""
    with db.session(write=False) as session:
        customer = session.scalar(
            sa.select(Entitlement.customer_id).filter_by(mode=plans.mode, account_id=account)
        )
    if customer is None:
        raise NeedsPersonError(
            f"{account} is no customer at Stripe yet.",
            code="no_customer",
            remedy=f"Buy a tier first, on its plan page or by `ettametta plan {account} --checkout`.",
        )
    return stripe.create_portal(customer, return_url=return_url, key=uuid4().hex)


def change_tier(
    db: StateDatabase, plans: Plans, stripe: "StripeBilling", account: str, tier: Tier, *, key: str = ""
) -> Change | None:
    """Up at once, for the difference, once that is paid; down, or to the free tier, when the period ends.

    `key` names the wish towards Stripe: the same wish again changes and charges nothing.
    """
    running = _running(db, plans, stripe, account)
    now_tier = plans.of_lookup_key(running.lookup_key)
    key = key or uuid4().hex
    if running.schedule_id is not None:
        # A change planned earlier would undo this one at the period's end.
        stripe.release_schedule(running.schedule_id, key=f"{key}-release")
        running = _running(db, plans, stripe, account)
    if tier.lookup_key is None:
        stripe.set_cancellation(running, leaving=True, key=key)
        return refresh(db, plans, stripe, account, because="plan change")
    if running.cancel_at_period_end:
        stripe.set_cancellation(running, leaving=False, key=f"{key}-stay")
    price = price_of(stripe, plans, tier)
    if plans.rank(tier.slug) > plans.rank(now_tier.slug if now_tier else None):
        stripe.upgrade(running, price.id, key=key)
    elif price.id != running.price_id:
        stripe.schedule_price(running, price.id, key=key)
    return refresh(db, plans, stripe, account, because="plan change")


def cancel(
    db: StateDatabase,
    plans: Plans,
    stripe: "StripeBilling",
    account: str,
    *,
    leaving: bool = True,
    key: str = "",
) -> Change | None:
    """End the subscription with its period, or take that back (`leaving=False`)."""
    running = _running(db, plans, stripe, account)
    if leaving:
        return change_tier(db, plans, stripe, account, plans.free, key=key)
    stripe.set_cancellation(running, leaving=False, key=key or uuid4().hex)
    return refresh(db, plans, stripe, account, because="plan change")


def price_of(stripe: "StripeBilling", plans: Plans, tier: Tier) -> "Price":
    """Stripe's price of a tier. Raises NeedsPersonError `price_missing`, or `price_differs` from the tiers file."""
    found = stripe.prices([tier.lookup_key]).get(tier.lookup_key) if tier.lookup_key else None
    asked = plans.table.price(tier)
    if found is None:
        raise NeedsPersonError(
            f"{tier.title} cannot be bought: Stripe has no active price with the lookup key {tier.lookup_key!r}.",
            code="price_missing",
            remedy=f"Make a monthly price of {asked} in Stripe with that lookup key, or buy another tier.",
        )
    if found.amount != asked:
        raise NeedsPersonError(
            f"{tier.title} is {asked} in the tiers file and {found.amount} at Stripe ({found.id}).",
            code="price_differs",
            remedy="Move the lookup key to a price of the right amount, or correct the tiers file.",
        )
    return found


def _running(db: StateDatabase, plans: Plans, stripe: "StripeBilling", account: str) -> "Plan":
    """The subscription that counts, as it is now; what was read is kept."""
    customer = customer_of(db, plans, stripe, account)
    number = begin_reading(db, plans, account)
    held = stripe.plans_of(customer)
    apply_reading(
        db, plans, account, number, customer=customer, held=held, price_keys=price_keys(stripe, plans, held),
        because="plan change",
    )  # fmt: skip
    running = best_of([plan for plan in held if plan.status in GIVING], plans)
    if running is None:
        raise NeedsPersonError(
            f"{account} has no subscription that could be changed.",
            code="no_subscription",
            remedy=f"Buy a tier, on its plan page or by `ettametta plan {account} --checkout`.",
        )
    return running
