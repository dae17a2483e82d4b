"""The nightly reading of every subscription: what webhooks lost is applied, and named as a repair.

One listing covers all subscriptions that run; accounts that are not in it are read one by one. Disputes and refunds are
not part of a subscription and are taken from the events Stripe still has. Called by the `account_entitlements` asset.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ettametta_pipelines.billing.entitlements import (
    DISPUTE_EVENTS,
    GIVING,
    REFUND_EVENTS,
    apply_event,
    apply_reading,
    begin_reading,
    price_keys,
    refresh,
)
from ettametta_pipelines.billing.tiers import Plans
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.money import Money
from ettametta_pipelines.state.models import Entitlement
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.vendors.stripe_billing import Plan, StripeBilling

# Stripe keeps events for 30 days.
EVENT_DAYS = 29
BECAUSE = "reconciliation"


@dataclass
class Reconciliation:
    """What a reconciliation read, repaired and could not settle, in sentences."""

    read: int = 0
    repaired: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    prices: list[str] = field(default_factory=list)


def reconcile(db: StateDatabase, plans: Plans, stripe: "StripeBilling") -> Reconciliation:
    """Bring every account in line with Stripe. One that cannot be read is named and stops no other."""
    found = Reconciliation(prices=wrong_prices(stripe, plans))
    with db.session(write=False) as session:
        known = dict(
            session.execute(
                sa.select(Entitlement.account_id, Entitlement.customer_id)
                .filter_by(mode=plans.mode)
                .order_by(Entitlement.account_id)
            )
            .tuples()
            .all()
        )
        now = db.now(session)
    # Numbered before the listing begins, so that an event read meanwhile is not overwritten by older rows.
    numbers = {account: begin_reading(db, plans, account) for account in known}
    by_customer: dict[str, list[Plan]] = defaultdict(list)
    for plan in stripe.running_plans():
        by_customer[plan.customer_id].append(plan)
    strangers = {
        plan.account: customer
        for customer, held in by_customer.items()
        if customer not in known.values()
        for plan in held
        if plan.account
    }
    for account in sorted(known.keys() | strangers.keys()):
        customer = known.get(account) or strangers.get(account)
        held = by_customer.get(customer or "", [])
        try:
            if held and account in numbers and customer is not None:
                change = apply_reading(
                    db, plans, account, numbers[account], customer=customer, held=held,
                    price_keys=price_keys(stripe, plans, held), because=BECAUSE,
                )  # fmt: skip
            elif customer is not None:
                change = refresh(db, plans, stripe, account, because=BECAUSE)
            else:
                continue
        except PipelineError as error:
            found.failed.append(f"{account}: {error.message}")
            continue
        found.read += 1
        if change is not None:
            found.repaired.append(str(change))
        giving = [plan.id for plan in held if plan.status in GIVING]
        if len(giving) > 1:
            found.doubled.append(f"{account} pays for {len(giving)} subscriptions: {', '.join(giving)}")
        found.doubled += [
            f"{account} pays {plan.quantity} times for {plan.id}, which counts once"
            for plan in held
            if plan.status in GIVING and plan.quantity > 1
        ]
    for event in reversed(
        list(stripe.events([*DISPUTE_EVENTS, *REFUND_EVENTS], now - timedelta(days=EVENT_DAYS)))
    ):
        what = f"{event['type']} of {event['data']['object']['id']}"
        try:
            if apply_event(db, plans, stripe, event) == "applied":
                found.repaired.append(f"{what} was not known")
        except PipelineError as error:
            found.failed.append(f"{what}: {error.message}")
    return found


def wrong_prices(stripe: "StripeBilling", plans: Plans) -> list[str]:
    """Tiers that Stripe does not sell, or at another price than the tiers file."""
    sold = {tier.lookup_key: tier for tier in plans.table.tiers.values() if tier.lookup_key}
    at_stripe = stripe.prices(list(sold))
    wrong = []
    for key, tier in sold.items():
        asked: Money = plans.table.price(tier)
        if key not in at_stripe:
            wrong.append(f"{tier.title}: Stripe has no active price with the lookup key {key}")
        elif at_stripe[key].amount != asked:
            wrong.append(f"{tier.title}: {asked} in the tiers file, {at_stripe[key].amount} at Stripe")
    return wrong
