"""From a message to the plan it is about: in any order, late, after days of silence. Stripe is the sandbox."""

import json
from itertools import permutations
from typing import Any

import pytest

from ettametta_pipelines.billing import desk
from ettametta_pipelines.billing.hearing import EVENTS, catch_up
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.stripe_billing import StripeBilling
from ettametta_pipelines.webhook_effects import apply_inbox, effect_of
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.gateway.conftest import Browser
from ettametta_pipelines_tests.gateway.signing import by_stripe
from ettametta_pipelines_tests.gateway.test_billing_pages import buy

KEY = {"Authorization": "Bearer sk_test_x"}
PLAN = "customer.subscription."


@pytest.fixture
def stripe(settings_env: Settings) -> StripeBilling:
    return StripeBilling(settings_env.endpoint("stripe"))


def events(stripe: StripeBilling, *kinds: str) -> list[dict[str, Any]]:
    """What happened in the last day, oldest first."""
    since = utc_now().replace(hour=0, minute=0)
    return [e for e in reversed(list(stripe.events(EVENTS, since))) if not kinds or e["type"] in kinds]


def deliver(browser: Browser, event: dict[str, Any]) -> bool:
    body = json.dumps(event).encode()
    answer = browser.client.post("/webhooks/stripe", content=body, headers=by_stripe(body))
    assert answer.status_code == 200, answer.text
    return bool(answer.json()["stored"])


def leave(settings: Settings, stripe: StripeBilling, sandbox: SandboxUnderTest) -> None:
    """The subscription is ended at Stripe, at once."""
    answer = desk.as_kept(settings, "acme")
    assert answer is not None
    (plan,) = stripe.plans_of(answer.row["customer_id"])
    sandbox.http.delete(f"/stripe/v1/subscriptions/{plan.id}", headers=KEY).raise_for_status()


def kept(settings: Settings) -> tuple[str, str]:
    """(tier, status) as they stand in the state database, without asking Stripe."""
    answer = desk.as_kept(settings, "acme")
    assert answer is not None
    return answer.row["tier"], answer.row["status"]


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_w7_whatever_order_messages_come_in_the_final_state_is_stripes(
    browser: Browser,
    db: StateDatabase,
    settings_env: Settings,
    stripe: StripeBilling,
    sandbox: SandboxUnderTest,
    order: tuple[int, ...],
) -> None:
    buy(browser)
    leave(settings_env, stripe, sandbox)
    happened = events(stripe, f"{PLAN}created", f"{PLAN}updated", f"{PLAN}deleted")
    for place in order:
        deliver(browser, happened[place])
        worked, _ = apply_inbox(settings_env, db)
        assert (worked.failed, worked.parked) == ([], [])
    assert kept(settings_env) == ("free", "canceled")


def test_w8_an_old_event_that_comes_after_a_newer_one_changes_nothing(
    browser: Browser, db: StateDatabase, settings_env: Settings, stripe: StripeBilling
) -> None:
    buy(browser, tier="creator")
    old = events(stripe, f"{PLAN}created", "checkout.session.completed")
    browser.post("/billing/acme/change", tier="empire", csrf=browser.csrf("/billing"))
    for event in events(stripe, f"{PLAN}updated", "invoice.paid"):
        deliver(browser, event)
    apply_inbox(settings_env, db)
    assert kept(settings_env) == ("empire", "active")
    assert [deliver(browser, event) for event in old * 2] == [True, True, False, False]
    worked, _ = apply_inbox(settings_env, db)
    assert {outcome for _, _, outcome in worked.outcomes} == {"unchanged"}
    assert kept(settings_env) == ("empire", "active")


def test_w16_what_happened_while_the_endpoint_was_down_for_four_days_is_fetched(
    browser: Browser,
    db: StateDatabase,
    settings_env: Settings,
    stripe: StripeBilling,
    sandbox: SandboxUnderTest,
) -> None:
    buy(browser)
    browser.get("/billing/acme")
    heard = events(stripe)
    for event in heard:
        deliver(browser, event)
    apply_inbox(settings_env, db)
    # From here on nothing is delivered, and the customer leaves.
    leave(settings_env, stripe, sandbox)
    assert kept(settings_env) == ("creator", "active")
    sandbox.advance(days=4)
    now = utc_now() + sandbox.clock.ahead
    assert catch_up(db, stripe, now) > 0
    while apply_inbox(settings_env, db)[0].outcomes:
        pass
    assert kept(settings_env) == ("free", "canceled")
    assert catch_up(db, stripe, now) == 0, "what was heard or fetched is not fetched again"
    assert [deliver(browser, event) for event in heard] == [False] * len(heard)


def test_events_of_the_last_hour_are_left_to_their_delivery(
    browser: Browser, db: StateDatabase, stripe: StripeBilling
) -> None:
    catch_up(db, stripe, utc_now())
    buy(browser)
    assert events(stripe)
    assert catch_up(db, stripe, utc_now()) == 0


def test_everything_the_endpoint_is_registered_for_has_an_effect() -> None:
    assert len(EVENTS) <= 20
    assert [kind for kind in EVENTS if effect_of("stripe", kind) is None] == []
