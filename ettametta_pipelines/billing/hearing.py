"""What is heard of Stripe, and the nightly look for what was not: an endpoint that was down loses nothing.

Stripe tries for three days to deliver an event and keeps it for thirty. What it has and the inbox has not is put there,
as if it had arrived. Called by the `webhook_messages` asset.
"""

import json
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING

from ettametta_pipelines.state import inbox
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.vendors.stripe_billing import StripeBilling

SOURCE = "stripe"
# What the endpoint is registered for; twenty kinds are as many as Stripe lists in one question.
EVENTS = (
    "checkout.session.completed", "customer.subscription.created", "customer.subscription.updated",
    "customer.subscription.deleted", "customer.subscription.paused", "customer.subscription.resumed", "invoice.paid",
    "invoice.payment_failed", "charge.refunded", "charge.dispute.created", "charge.dispute.updated",
    "charge.dispute.closed", "payout.paid", "payout.failed",
)  # fmt: skip
KEPT_AT_STRIPE = timedelta(days=29)
# Younger events may still be on their way.
ON_THEIR_WAY = timedelta(hours=1)
ASKED_AT_ONCE = 500


def catch_up(db: StateDatabase, stripe: "StripeBilling", now: datetime) -> int:
    """Put every event that never arrived into the inbox; how many there were."""
    recovered = 0
    latest = int((now - ON_THEIR_WAY).timestamp())
    events = (e for e in stripe.events(EVENTS, now - KEPT_AT_STRIPE) if e["created"] <= latest)
    while listed := {event["id"]: event for event in islice(events, ASKED_AT_ONCE)}:
        missing = inbox.unknown(db, SOURCE, listed)
        messages = (
            inbox.Message(SOURCE, id_, listed[id_]["type"], json.dumps(listed[id_])) for id_ in missing
        )
        recovered += len(inbox.store(db, messages))
    return recovered
