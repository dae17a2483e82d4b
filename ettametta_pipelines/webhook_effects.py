"""What the messages in the inbox lead to: one row per kind of message, each naming the room's function it calls.

No message's content is believed but what it is about; that is read again from the vendor. So messages may come late,
twice and in any order, and the newest state wins. Called by the sensor `webhook_inbox`, never by the gateway.
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.billing.entitlements import apply_event
from ettametta_pipelines.billing.tiers import Plans, open_plans
from ettametta_pipelines.publishing.removals import authorization_removed
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import inbox
from ettametta_pipelines.state.models import WebhookEvent
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines.synthesis.node_client import finish_from_webhook

if TYPE_CHECKING:
    from ettametta_pipelines.vendors.stripe_billing import StripeBilling

UNKNOWN = "of no concern here"
WRONG_MODE = "wrong_mode"
BOOKS = "books"

_log = logging.getLogger(__name__)


@dataclass
class Desk:
    """What effects work with, opened when one needs it; `rereads` names what the sensor lets be read again."""

    settings: Settings
    db: StateDatabase
    rereads: set[str] = field(default_factory=set)

    @cached_property
    def plans(self) -> Plans:
        return open_plans(self.settings)

    @cached_property
    def store(self) -> ObjectStore:
        return open_store(self.settings)

    @cached_property
    def stripe(self) -> "StripeBilling":
        from ettametta_pipelines.vendors.stripe_billing import StripeBilling

        return StripeBilling(self.settings.endpoint("stripe"))


Apply = Callable[[Desk, WebhookEvent], str]


@dataclass(frozen=True)
class Effect:
    """`kind` may hold asterisks; `apply` says in words what the message came to."""

    source: str
    kind: str
    apply: Apply


def _message(event: WebhookEvent) -> Mapping[str, Any]:
    return json.loads(event.body)  # type: ignore[no-any-return]


def _consent_removed(desk: Desk, event: WebhookEvent) -> str:
    return authorization_removed(desk.db, _message(event))


def _plan(desk: Desk, event: WebhookEvent) -> str:
    return apply_event(desk.db, desk.plans, desk.stripe, _message(event))


def _books(desk: Desk, event: WebhookEvent) -> str:
    desk.rereads.add(BOOKS)
    return "the books are read again"


def _plan_and_books(desk: Desk, event: WebhookEvent) -> str:
    outcome = _plan(desk, event)
    if outcome != WRONG_MODE:
        _books(desk, event)
    return outcome


def _payout(desk: Desk, event: WebhookEvent) -> str:
    return _books(desk, event) if _message(event)["livemode"] == desk.stripe.livemode else WRONG_MODE


def _uninstalled(desk: Desk, event: WebhookEvent) -> str:
    _log.error(
        "The app was uninstalled from the Shopify store: its books can no longer be read. Install it again."
    )
    return "an operator was told"


def _nothing_kept(desk: Desk, event: WebhookEvent) -> str:
    return "no data of customers is kept"


def _commission(desk: Desk, event: WebhookEvent) -> str:
    from ettametta_pipelines.revenue.affiliates import record_postback

    said = {name: text for name, text in _message(event).items() if text}
    is_new = record_postback(
        desk.store,
        event.kind,
        said.pop("transaction_id"),
        **{"occurred_at": "", "amount": "", "currency": "", **said},
        timezone=desk.settings.timezone,
        now=event.received_at,
    )
    return "kept; the day of the sale is booked again by the next night" if is_new else "was kept before"


def _render_job_ended(desk: Desk, event: WebhookEvent) -> str:
    return finish_from_webhook(desk.settings, desk.store, _message(event))


# First match counts; a message that matches none is kept with the outcome `UNKNOWN`.
EFFECTS: tuple[Effect, ...] = (
    Effect("tiktok", "authorization.removed", _consent_removed),
    Effect("render-node", "render_job_ended", _render_job_ended),
    Effect("stripe", "checkout.session.completed", _plan),
    Effect("stripe", "customer.subscription.*", _plan),
    Effect("stripe", "subscription_schedule.*", _plan),
    Effect("stripe", "invoice.*", _plan),
    Effect("stripe", "charge.refunded", _plan_and_books),
    Effect("stripe", "charge.dispute.*", _plan_and_books),
    Effect("stripe", "payout.*", _payout),
    Effect("postback", "*", _commission),
    Effect("shopify", "orders/*", _books),
    Effect("shopify", "refunds/*", _books),
    Effect("shopify", "disputes/*", _books),
    Effect("shopify", "app/uninstalled", _uninstalled),
    # The three every public app must answer.
    Effect("shopify", "customers/data_request", _nothing_kept),
    Effect("shopify", "customers/redact", _nothing_kept),
    Effect("shopify", "shop/redact", _nothing_kept),
)


def effect_of(source: str, kind: str) -> Effect | None:
    return next((e for e in EFFECTS if e.source == source and fnmatchcase(kind, e.kind)), None)


def apply_inbox(
    settings: Settings, db: StateDatabase | None = None, **bounds: Any
) -> tuple[inbox.Worked, set[str]]:
    """Work the inbox off once, within `bounds` of `inbox.work_off`; what was done, and what shall be read again."""
    desk = Desk(settings, db or open_state(settings))

    def apply(event: WebhookEvent) -> str:
        effect = effect_of(event.source, event.kind)
        return UNKNOWN if effect is None else effect.apply(desk, event)

    return inbox.work_off(desk.db, apply, **bounds), desk.rereads
