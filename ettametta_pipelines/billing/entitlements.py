"""Who may do what: an account's plan as Stripe has it, kept in the state database, and what follows from it now.

A webhook is a hint, a reading of the API is the truth. Readings are numbered as they begin; one that began earlier
never overwrites one that began later, in whatever order they end. What a row entitles to at a moment is `standing_of`,
a function of the row and the database's clock alone, so that a lost event cannot keep a plan for ever. Asking Stripe on
a customer's behalf is `subscriptions.py`, what was lost is found by `reconcile.py`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.billing.periods import boundary_from
from ettametta_pipelines.billing.tiers import Feature, Plans, Tier
from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.state.models import Entitlement, VideoPeriod
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

if TYPE_CHECKING:
    from ettametta_pipelines.vendors.stripe import Charge
    from ettametta_pipelines.vendors.stripe_billing import Plan, StripeBilling

NEVER_SUBSCRIBED = "none"
PAST_DUE = "past_due"
# Statuses under which a subscription gives anything; every other one gives what the first tier gives.
GIVING = ("active", "trialing", PAST_DUE)

# Shown as a change, and named when the nightly reconciliation had to make it.
OBSERVED = (
    "customer_id", "subscription_id", "status", "tier", "tier_until", "next_tier", "awaiting_tier",
    "cancel_at_period_end", "period_start", "period_end", "grace_until", "problem",
)  # fmt: skip

SUBSCRIPTION_EVENTS = (
    "checkout.session.completed",
    "customer.subscription.",
    "subscription_schedule.",
    "invoice.",
)
DISPUTE_EVENTS = ("charge.dispute.created", "charge.dispute.updated", "charge.dispute.closed")
REFUND_EVENTS = ("charge.refunded",)
LOST = "lost"
SETTLED_DISPUTES = ("won", "warning_closed", "prevented")
# Card networks give 120 days to dispute a charge, and decide within weeks.
PAYMENTS_WITHIN = timedelta(days=210)


@dataclass(frozen=True)
class Standing:
    """What an account has now, and why. `until` is when that changes by itself, as far as is known."""

    account: str
    tier: Tier
    status: str
    why: str
    until: datetime | None = None


@dataclass(frozen=True)
class Change:
    """What a reading changed: (column, before, after)."""

    account: str
    fields: tuple[tuple[str, Any, Any], ...]

    def __str__(self) -> str:
        parts = (f"{name} {_shown(before)} → {_shown(after)}" for name, before, after in self.fields)
        return f"{self.account}: {', '.join(parts)}"


def _shown(value: Any) -> str:
    return f"{value:%Y-%m-%d %H:%M}" if isinstance(value, datetime) else "–" if value is None else str(value)


def standing_of(row: Entitlement, plans: Plans, now: datetime) -> Standing:
    """The tier that counts at `now`. Any doubt that lasts longer than the grace gives the limits of the first tier."""

    def stands(tier: Tier, why: str, until: datetime | None = None) -> Standing:
        return Standing(row.account_id, tier, row.status, why, until)

    if row.hold_reason and (row.hold_until is None or now < row.hold_until):
        return stands(plans.free, f"held: the payment was {row.hold_reason}", row.hold_until)
    if row.status == NEVER_SUBSCRIBED:
        return stands(plans.default, "never subscribed")
    if row.status not in GIVING:
        return stands(plans.free, f"the subscription is {row.status}")
    if plans.rank(row.tier) < 0:
        return stands(plans.free, row.problem or "nothing is paid yet")
    tier = plans.tier(str(row.tier))
    if row.status == PAST_DUE:
        if row.grace_until and now < row.grace_until:
            return stands(tier, "payment is due; Stripe tries again", row.grace_until)
        return stands(plans.free, "payment is overdue and the grace is over")
    if row.tier_until is None or now < row.tier_until:
        return stands(tier, "paid" if row.status == "active" else "trial", row.tier_until)
    if plans.rank(row.next_tier) >= 0:
        return stands(plans.tier(str(row.next_tier)), "changed with the period's end")
    if now < row.tier_until + plans.grace:
        return stands(tier, "the period is over and Stripe was not read since", row.tier_until + plans.grace)
    return stands(plans.free, "the period is over and Stripe was not read since")


def entitlement_row(session: Session, plans: Plans, account: str, now: datetime) -> Entitlement:
    """The account's row, held for this transaction; made on first sight, its periods counted from then."""
    key = {"mode": plans.mode, "account_id": account}
    query = sa.select(Entitlement).filter_by(**key).with_for_update()
    query = query.execution_options(populate_existing=True)
    row = session.scalars(query).one_or_none()
    if row is None:
        insert_if_absent(
            session,
            Entitlement,
            {
                **key, "status": NEVER_SUBSCRIBED, "cancel_at_period_end": False,
                "anchor_at": now.replace(microsecond=0), "reads": 0, "applied_read": 0, "updated_at": now,
            },
        )  # fmt: skip
        row = session.scalars(query).one()
    return row


def standing(db: StateDatabase, plans: Plans, account: str) -> Standing:
    """What an account has by the database's clock. An account nobody has set up has the default tier."""
    with db.session(write=False) as session:
        row = session.scalars(sa.select(Entitlement).filter_by(mode=plans.mode, account_id=account)).first()
        if row is None:
            return Standing(account, plans.default, NEVER_SUBSCRIBED, "never subscribed")
        return standing_of(row, plans, db.now(session))


def allows(db: StateDatabase, plans: Plans, account: str, feature: Feature) -> bool:
    """Whether the account's tier holds a feature now."""
    return feature in standing(db, plans, account).tier.features


def begin_reading(db: StateDatabase, plans: Plans, account: str) -> int:
    """Number of a reading of Stripe that begins now, for `apply_reading`."""
    with db.session() as session:
        row = entitlement_row(session, plans, account, db.now(session))
        row.reads += 1
        return row.reads


def refresh(
    db: StateDatabase, plans: Plans, stripe: "StripeBilling", account: str, *, because: str
) -> Change | None:
    """Read the account's subscription and apply it. None when nothing changed, or it never was a customer."""
    number = begin_reading(db, plans, account)
    with db.session(write=False) as session:
        customer = session.scalar(
            sa.select(Entitlement.customer_id).filter_by(mode=plans.mode, account_id=account)
        )
    customer = customer or customer_named(db, plans, stripe, account)
    if customer is None:
        return None
    held = stripe.plans_of(customer)
    return apply_reading(
        db, plans, account, number, customer=customer, held=held, price_keys=price_keys(stripe, plans, held),
        because=because,
    )  # fmt: skip


def customer_named(db: StateDatabase, plans: Plans, stripe: "StripeBilling", account: str) -> str | None:
    """The customer that carries the account's name at Stripe. Raises NeedsPersonError `customer_taken` where it is kept
    for another account: one subscription never gives two accounts a plan."""
    customer = stripe.customer_of(account)
    keeps = _account_of_customer(db, plans, customer)
    if keeps not in (None, account):
        raise NeedsPersonError(
            f"Stripe's customer {customer} carries the name of {account} and is the customer of {keeps}.",
            code="customer_taken",
            remedy=f"Set {keeps} in the customer's metadata at Stripe again; {account} gets a customer of its own.",
        )
    return customer


def price_keys(stripe: "StripeBilling", plans: Plans, held: "list[Plan]") -> dict[str, str]:
    """Price id -> lookup key, read only where a planned change names a price by its id alone."""
    if not any(plan.next_price for plan in held):
        return {}
    keys = [tier.lookup_key for tier in plans.table.tiers.values() if tier.lookup_key]
    return {price.id: key for key, price in stripe.prices(keys).items()}


def apply_reading(
    db: StateDatabase,
    plans: Plans,
    account: str,
    number: int,
    *,
    customer: str,
    held: "list[Plan]",
    price_keys: Mapping[str, str],
    because: str,
) -> Change | None:
    """Keep what reading `number` found, unless a later one was kept already. None when nothing changed."""
    plan = best_of(held, plans)
    with db.session() as session:
        now = db.now(session)
        row = entitlement_row(session, plans, account, now)
        if number <= row.applied_read:
            return None
        before = {name: getattr(row, name) for name in OBSERVED}
        was_subscribed = row.subscription_id
        for name, value in _found(row, plans, plan, price_keys, now).items():
            setattr(row, name, value)
        row.customer_id, row.applied_read = customer, number
        row.read_at, row.read_because = now, because
        if plan is not None and plan.id != was_subscribed and row.tier is not None:
            _anchor_again(session, row, plan.anchor, now)
            if row.hold_until is not None:
                # It was for the period of the subscription before; this one is paid.
                row.hold_reason, row.hold_until = None, None
        fields = tuple((n, before[n], getattr(row, n)) for n in OBSERVED if before[n] != getattr(row, n))
        if fields:
            row.updated_at = now
    return Change(account, fields) if fields else None


def best_of(held: "list[Plan]", plans: Plans) -> "Plan | None":
    """The subscription that counts where a customer has several: one that gives something, the dearest, the newest."""

    def worth(plan: "Plan") -> tuple[bool, int, datetime]:
        tier = plans.of_lookup_key(plan.lookup_key)
        return plan.status in GIVING, plans.rank(tier.slug if tier else None), plan.created

    return max(held, key=worth, default=None)


def _found(
    row: Entitlement, plans: Plans, plan: "Plan | None", price_keys: Mapping[str, str], now: datetime
) -> dict[str, Any]:
    """The columns of OBSERVED as this reading has them."""
    blank: dict[str, Any] = {
        "tier": None, "tier_until": None, "next_tier": None, "awaiting_tier": None, "grace_until": None,
        "problem": None, "cancel_at_period_end": False,
    }  # fmt: skip
    if plan is None:
        gone = NEVER_SUBSCRIBED if row.subscription_id is None else "canceled"
        return blank | {"status": gone, "period_start": None, "period_end": None}
    found = blank | {
        "subscription_id": plan.id, "status": plan.status, "period_start": plan.period_start,
        "period_end": plan.period_end,
    }  # fmt: skip
    if plan.status not in GIVING:
        return found
    tier = plans.of_lookup_key(plan.lookup_key)
    if tier is None:
        return found | {"problem": f"no tier is sold under Stripe's price {plan.price_id}"}
    found |= {"cancel_at_period_end": plan.cancel_at_period_end}
    found |= _paid_for(row, plans, plan, tier, now)
    if plan.next_price and (following := plans.of_lookup_key(price_keys.get(plan.next_price))):
        found["next_tier"] = following.slug
    if plan.cancel_at_period_end:
        found["next_tier"] = plans.free.slug
    if plan.status == PAST_DUE:
        # Counted from the unpaid invoice, not from when we heard of it: a lost event does not lengthen it.
        unpaid = plan.invoice is not None and not plan.invoice.is_paid
        since = plan.invoice.created if plan.invoice is not None and unpaid else now
        found["grace_until"] = since + plans.grace
    return found


def _paid_for(row: Entitlement, plans: Plans, plan: "Plan", tier: Tier, now: datetime) -> dict[str, Any]:
    """The tier that counts: up only when its invoice is paid, down only when the period paid for is over."""
    still_paid = row.subscription_id == plan.id and row.tier_until is not None and now < row.tier_until
    kept = row.tier if still_paid else None
    if plans.rank(tier.slug) < plans.rank(kept):
        return {"tier": kept, "tier_until": row.tier_until, "next_tier": tier.slug}
    if tier.slug == kept or plan.status == "trialing" or _is_paid(plan):
        return {"tier": tier.slug, "tier_until": plan.period_end}
    return {"tier": kept, "tier_until": row.tier_until if kept else None, "awaiting_tier": tier.slug}


def _is_paid(plan: "Plan") -> bool:
    """Whether the price the subscription has now is paid for, as its latest invoice tells it."""
    invoice = plan.invoice
    if invoice is None:
        return False
    is_charged = plan.price_id in invoice.prices
    # Whether a renewal is paid is what the status says; an invoice for a start or a change says it itself.
    if invoice.is_paid or invoice.reason == "subscription_cycle":
        return is_charged
    # An open invoice for another price is an upgrade that waits; it says nothing against the price there is.
    return not is_charged


def _anchor_again(session: Session, row: Entitlement, anchor: datetime, now: datetime) -> None:
    """Count video periods with the new subscription's. A running period is stretched to the next boundary and keeps
    what was used of it: whoever leaves and comes back never starts a fresh one before the old one is over."""
    row.anchor_at = anchor
    session.flush()
    period = session.scalars(
        sa.select(VideoPeriod)
        .filter_by(mode=row.mode, account_id=row.account_id)
        .where(VideoPeriod.starts_at <= now, VideoPeriod.ends_at > now)
    ).one_or_none()
    if period is not None:
        period.ends_at = boundary_from(anchor, period.ends_at)


def apply_event(db: StateDatabase, plans: Plans, stripe: "StripeBilling", event: Mapping[str, Any]) -> str:
    """What a verified Stripe event leads to, in a word: applied, unchanged, ignored, unknown_customer or wrong_mode.

    Nothing of the event's content is believed but what it is about; that is read again. So events may come late, twice
    and in any order. Called by the webhook inbox and, for events that were lost, by the reconciliation.
    """
    if event["livemode"] != stripe.livemode:
        return "wrong_mode"
    kind, about = event["type"], event["data"]["object"]
    if kind in DISPUTE_EVENTS:
        return _apply_payments(db, plans, stripe, about["charge"])
    if kind in REFUND_EVENTS:
        return _apply_payments(db, plans, stripe, about["id"])
    if not kind.startswith(SUBSCRIPTION_EVENTS):
        return "ignored"
    account = _account_of_customer(db, plans, about.get("customer")) or _named_account(about)
    if account is None:
        return "unknown_customer"
    return "applied" if refresh(db, plans, stripe, account, because=kind) else "unchanged"


def _account_of_customer(db: StateDatabase, plans: Plans, customer: str | None) -> str | None:
    if customer is None:
        return None
    with db.session(write=False) as session:
        return session.scalar(
            sa.select(Entitlement.account_id).filter_by(mode=plans.mode, customer_id=customer)
        )


def _named_account(about: Mapping[str, Any]) -> str | None:
    """The account an object was made for by our own checkout. Only a hint whom to read: the customer is looked up."""
    from ettametta_pipelines.vendors.stripe_billing import ACCOUNT_KEY

    return (about.get("metadata") or {}).get(ACCOUNT_KEY) or about.get("client_reference_id")


def _apply_payments(db: StateDatabase, plans: Plans, stripe: "StripeBilling", charge_id: str) -> str:
    """Hold the account whose charge it is, or not, as all its payments stand now; so one that is in order again never
    lifts the hold of another."""
    customer = stripe.charge(charge_id).customer_id
    account = _account_of_customer(db, plans, customer)
    if customer is None or account is None:
        return "unknown_customer"
    with db.session(write=False) as session:
        since = db.now(session) - PAYMENTS_WITHIN
    charges = stripe.charges_of(customer, since)
    disputes = {charge.id: stripe.disputes_of(charge.id) for charge in charges if charge.disputed}
    with db.session() as session:
        row = entitlement_row(session, plans, account, db.now(session))
        held = _hold_for(row, plans, charges, disputes)
        if (row.hold_reason, row.hold_until) == held:
            return "unchanged"
        row.hold_reason, row.hold_until = held
        return "applied"


def _hold_for(
    row: Entitlement, plans: Plans, charges: "list[Charge]", disputes: Mapping[str, list[str]]
) -> tuple[str | None, datetime | None]:
    """(reason, until). An open dispute holds until it is decided; money that was given back, or lost in a dispute,
    holds for the period it paid for."""
    statuses = {status for found in disputes.values() for status in found}
    if plans.table.on_dispute == "block" and statuses - {LOST, *SETTLED_DISPUTES}:
        return "disputed", None
    if row.period_start is None or row.period_end is None:
        return None, None
    of_period = [charge for charge in charges if charge.created >= row.period_start]
    if plans.table.on_dispute == "block" and any(LOST in disputes.get(c.id, ()) for c in of_period):
        return "disputed", row.period_end
    if plans.table.on_refund == "block" and any(c.refunded == c.amount for c in of_period):
        return "refunded", row.period_end
    return None, None
