"""Plans as customers live them: what counts when, through the sandboxed Stripe over HTTP."""

from dataclasses import replace
from datetime import timedelta
from unittest.mock import Mock

import pytest
import sqlalchemy as sa

from ettametta_pipelines.billing import subscriptions
from ettametta_pipelines.billing.entitlements import apply_reading, begin_reading, refresh, standing
from ettametta_pipelines.billing.reconcile import reconcile
from ettametta_pipelines.billing.reservations import VideoLimitReached, consume_slot
from ettametta_pipelines.failures import NeedsPersonError, PermanentError, TransientError
from ettametta_pipelines.state.models import Entitlement
from ettametta_pipelines_tests.billing.conftest import EVENTS, NOW, Shop, plans

FAILS, PAYS = "pm_card_chargeCustomerFail", "pm_card_visa"


def test_q5_an_upgrade_gives_forty_five_more_when_it_is_paid_and_nothing_at_the_click(shop: Shop) -> None:
    shop.make(5)
    url = shop.checkout("creator")
    shop.hear()
    refresh(shop.db, shop.plans, shop.stripe, shop.account, because="test")
    with pytest.raises(VideoLimitReached):
        shop.reserve("after-the-click")
    assert shop.act(url, "decline").status_code == 402
    shop.hear()
    assert shop.tier == "free"

    assert shop.act(url).status_code == 303
    assert "applied" in shop.hear()
    shop.make(45, first=5)
    with pytest.raises(VideoLimitReached) as refusal:
        shop.reserve("fifty-one")
    assert "acme has Creator (paid), which gives 50 videos a period; 50 are used" in str(refusal.value)
    assert "upgrade to Empire (unlimited videos for $99.00 a month)" in str(refusal.value)


def test_q5_an_upgrade_whose_invoice_is_not_paid_waits_for_it(shop: Shop) -> None:
    shop.subscribe("creator")
    shop.card(FAILS)
    shop.change("empire")
    assert shop.tier == "creator"
    shop.card(PAYS)
    (failed,) = shop.stripe.events(["invoice.payment_failed"], shop.clock() - timedelta(days=1))
    invoice = failed["data"]["object"]["id"]
    shop.post(f"invoices/{invoice}/pay")
    shop.hear()
    assert shop.tier == "empire"


@pytest.mark.parametrize("months", [0, 1])
def test_q5_a_price_changed_without_an_invoice_counts_when_it_is_paid_at_the_next_renewal(
    shop: Shop, months: int
) -> None:
    shop.subscribe("creator")
    shop.wait(days=31 * months)
    shop.hear()
    empire = shop.stripe.prices(["empire_usd"])["empire_usd"].id
    item = shop.stripe.plans_of(shop.customer)[0].item_id
    shop.post(
        f"subscriptions/{shop.subscription}",
        **{"items[0][id]": item, "items[0][price]": empire, "proration_behavior": "none"},
    )
    shop.hear()
    assert shop.tier == "creator"
    with shop.db.session(write=False) as session:
        assert session.scalars(sa.select(Entitlement.awaiting_tier)).one() == "empire"
    shop.wait(days=31)
    shop.hear()
    assert shop.tier == "empire"


@pytest.mark.parametrize(("duration", "next_month"), [("forever", "creator"), ("once", "free")])
def test_a_plan_that_costs_nothing_under_a_coupon_is_a_paid_one(
    shop: Shop, duration: str, next_month: str
) -> None:
    """A page of the operator's own with the whole price off: no card, no charge, an invoice of nothing."""
    coupon = shop.post("coupons", percent_off="100", duration=duration)["id"]
    price = shop.stripe.prices(["creator_usd"])["creator_usd"].id
    page = shop.post(
        "checkout/sessions",
        **{
            "mode": "subscription", "customer": shop.customer, "client_reference_id": shop.account,
            "line_items[0][price]": price, "line_items[0][quantity]": "1", "success_url": "http://127.0.0.1/done",
            "discounts[0][coupon]": str(coupon),
        },
    )  # fmt: skip
    assert (page["amount_total"], shop.tier) == (0, "free")
    assert shop.act(str(page["url"]), "decline").status_code == 303
    assert "applied" in shop.hear()
    assert (shop.tier, shop.standing().why) == ("creator", "paid")
    assert shop.stripe.charges_of(shop.customer, NOW - timedelta(days=1)) == []
    shop.make(6)
    # Refunds and disputes are of charges, of which there is none: nothing holds the account.
    assert reconcile(shop.db, shop.plans, shop.stripe).failed == []
    assert shop.tier == "creator"
    shop.card(FAILS)
    shop.wait(days=31 + 8)
    shop.hear()
    refresh(shop.db, shop.plans, shop.stripe, shop.account, because="test")
    assert shop.tier == next_month


def test_q6_a_downgrade_keeps_the_tier_to_the_periods_end_and_reserved_runs_finish(shop: Shop) -> None:
    shop.subscribe("creator")
    shop.make(10)
    running = shop.reserve("running")
    shop.change("free")
    shop.hear()
    assert shop.tier == "creator"
    assert shop.standing().until == shop.usage().ends_at
    shop.make(1, first=10)
    # A run still at work when the period ends.
    shop.clock.now = shop.usage().ends_at - timedelta(seconds=1)
    running = shop.reserve("running")
    shop.wait(seconds=2)
    assert shop.tier == "free", "at the end by itself, before any event arrives"
    assert consume_slot(shop.db, shop.plans, running) == "consumed"
    shop.hear()
    assert (shop.tier, shop.usage().used) == ("free", 0)
    shop.make(5, first=100)
    with pytest.raises(VideoLimitReached):
        shop.reserve("sixth")


def test_q6_a_downgrade_from_empire_follows_at_the_period_end_and_leaves_no_negative_rest(shop: Shop) -> None:
    shop.subscribe("empire")
    shop.make(60)
    shop.change("creator")
    shop.hear()
    assert shop.tier == "empire"
    shop.make(1, first=60)
    shop.wait(days=31)
    assert shop.tier == "creator"
    shop.hear()
    assert (shop.tier, shop.usage().used) == ("creator", 0)


def test_q6_a_price_lowered_at_once_by_hand_keeps_what_was_paid_for(shop: Shop) -> None:
    shop.subscribe("empire")
    plan = shop.stripe.plans_of(shop.customer)[0]
    creator = shop.stripe.prices(["creator_usd"])["creator_usd"].id
    shop.post(
        f"subscriptions/{plan.id}",
        **{"items[0][id]": plan.item_id, "items[0][price]": creator, "proration_behavior": "none"},
    )
    shop.hear()
    assert shop.tier == "empire"
    shop.wait(days=31)
    shop.hear()
    assert shop.tier == "creator"


def test_q7_going_back_and_forth_between_plans_never_resets_what_was_used(shop: Shop) -> None:
    shop.make(5)
    for _ in range(3):
        shop.wait(days=1)
        shop.subscribe("creator")
        assert shop.usage().used == 5
        shop.sandbox.http.delete(
            f"/stripe/v1/subscriptions/{shop.subscription}", headers={"Authorization": "Bearer sk_test_x"}
        ).raise_for_status()
        shop.hear()
        assert (shop.tier, shop.usage().used) == ("free", 5)
        with pytest.raises(VideoLimitReached):
            shop.reserve("another")


def test_q7_up_down_and_up_again_within_a_subscription_keeps_what_was_used(shop: Shop) -> None:
    shop.subscribe("creator")
    shop.make(20)
    for tier in ("empire", "creator", "empire"):
        shop.wait(days=2)
        shop.change(tier)
        assert (shop.tier, shop.usage().used) == ("empire", 20)


def test_q9_an_overdue_payment_keeps_the_plan_for_the_grace_and_then_blocks(shop: Shop) -> None:
    shop.subscribe("creator")
    shop.card(FAILS)
    shop.clock.now = shop.usage().ends_at + timedelta(minutes=1)
    shop.hear()
    standing = shop.standing()
    assert (standing.status, standing.tier.slug) == ("past_due", "creator")
    assert standing.until == shop.usage().starts_at + timedelta(days=7)
    shop.make(6)
    shop.wait(days=7)
    assert shop.standing().why == "payment is overdue and the grace is over"
    with pytest.raises(VideoLimitReached):
        shop.reserve("blocked")


def test_q9_a_late_reading_does_not_lengthen_the_grace(shop: Shop) -> None:
    shop.subscribe("creator")
    shop.card(FAILS)
    shop.clock.now = shop.usage().ends_at + timedelta(days=6)
    shop.hear()
    assert shop.tier == "creator"
    shop.wait(days=1, seconds=1)
    assert shop.tier == "free"


def test_q9_recovery_restores_the_plan_even_if_the_update_was_lost(shop: Shop) -> None:
    shop.subscribe("creator")
    shop.card(FAILS)
    shop.clock.now = shop.usage().ends_at + timedelta(days=8)
    shop.hear()
    assert shop.tier == "free"
    shop.card(PAYS)
    invoice = next(iter(shop.stripe.events(["invoice.payment_failed"], shop.clock() - timedelta(days=9))))
    shop.post(f"invoices/{invoice['data']['object']['id']}/pay")
    (paid, *_) = shop.stripe.events(["invoice.paid"], shop.clock() - timedelta(days=1))
    assert shop.apply(paid) == "applied"
    assert shop.tier == "creator"


@pytest.mark.parametrize("status", ["unpaid", "canceled", "paused", "incomplete_expired"])
def test_q10_a_subscription_that_gives_nothing_any_more_leaves_the_free_limits(
    shop: Shop, status: str
) -> None:
    reach = {"unpaid": _unpaid, "canceled": _canceled, "paused": _paused, "incomplete_expired": _expired}
    reach[status](shop)
    shop.hear()
    refresh(shop.db, shop.plans, shop.stripe, shop.account, because="test")
    assert (shop.standing().status, shop.tier) == (status, "free")
    shop.make(5 - shop.usage().used, first=50)
    with pytest.raises(VideoLimitReached):
        shop.reserve("sixth")


def _unpaid(shop: Shop) -> None:
    shop.subscribe()
    shop.card(FAILS)
    shop.wait(days=30 + 15)


def _canceled(shop: Shop) -> None:
    shop.subscribe()
    subscriptions.cancel(shop.db, shop.plans, shop.stripe, shop.account)
    shop.wait(days=31)


def _paused(shop: Shop) -> None:
    _create(shop, trial_period_days="7", **{"trial_settings[end_behavior][missing_payment_method]": "pause"})
    shop.wait(days=8)


def _expired(shop: Shop) -> None:
    customer = shop.customer
    shop.card(FAILS)
    _create(shop, customer=customer)
    shop.wait(days=1)


def _create(shop: Shop, **data: str) -> None:
    creator = shop.stripe.prices(["creator_usd"])["creator_usd"].id
    shop.post("subscriptions", **{"customer": shop.customer, "items[0][price]": creator, **data})


def test_q11_a_trial_gives_the_tier_and_its_end_without_payment_takes_it(shop: Shop) -> None:
    shop.make(2)
    _create(shop, trial_period_days="14")
    shop.hear()
    assert (shop.standing().status, shop.tier, shop.usage().used) == ("trialing", "creator", 2)
    shop.make(30, first=2)
    shop.card(FAILS)
    shop.wait(days=14, hours=1)
    shop.hear()
    assert (shop.standing().status, shop.tier) == ("past_due", "creator")
    shop.wait(days=7)
    assert shop.tier == "free"


def test_q12_a_disputed_payment_holds_the_account_until_it_is_won(shop: Shop) -> None:
    customer = shop.customer
    shop.card("pm_card_createDispute")
    _create(shop, customer=customer)
    shop.hear()
    assert shop.standing().why == "held: the payment was disputed"
    assert shop.tier == "free"
    (dispute,) = shop.stripe.events(["charge.dispute.created"], shop.clock() - timedelta(days=1))
    shop.post(
        f"disputes/{dispute['data']['object']['id']}",
        **{"evidence[uncategorized_text]": "winning_evidence"},
    )
    shop.hear()
    assert shop.tier == "creator"


@pytest.mark.parametrize(("policy", "tier"), [("block", "free"), ("keep", "creator")])
def test_q12_a_refund_of_the_whole_payment_does_what_the_house_says(
    shop: Shop, policy: str, tier: str
) -> None:
    table = shop.plans.table.model_copy(update={"on_refund": policy})
    object.__setattr__(shop.plans, "table", table)
    shop.subscribe()
    (charge,) = shop.sandbox.http.get(
        "/stripe/v1/charges",
        params={"customer": shop.customer},
        headers={"Authorization": "Bearer sk_test_x"},
    ).json()["data"]
    shop.post("refunds", charge=charge["id"], amount="100")
    shop.hear()
    assert shop.tier == "creator", "a part of it changes nothing"
    shop.post("refunds", charge=charge["id"])
    shop.hear()
    assert shop.tier == tier
    shop.wait(days=31)
    shop.hear()
    assert shop.tier == "creator", "the next period is paid again"


def _charges(shop: Shop) -> list[str]:
    """Ids of the account's charges, newest first."""
    since = shop.clock() - timedelta(days=300)
    return [charge.id for charge in shop.stripe.charges_of(shop.customer, since)]


def _answer_dispute(shop: Shop, charge: str, evidence: str) -> None:
    (dispute,) = shop.sandbox.http.get(
        "/stripe/v1/disputes", params={"charge": charge}, headers={"Authorization": "Bearer sk_test_x"}
    ).json()["data"]
    shop.post(f"disputes/{dispute['id']}", **{"evidence[uncategorized_text]": evidence})


def test_q12_a_dispute_that_is_won_does_not_lift_the_hold_of_one_that_is_open(shop: Shop) -> None:
    customer = shop.customer
    shop.card("pm_card_createDispute")
    _create(shop, customer=customer)
    shop.wait(days=31)
    newest, first = _charges(shop)
    shop.hear()
    _answer_dispute(shop, newest, "winning_evidence")
    shop.hear()
    assert (shop.tier, shop.standing().why) == ("free", "held: the payment was disputed")
    _answer_dispute(shop, first, "winning_evidence")
    shop.hear()
    assert shop.tier == "creator"


def test_q12_a_refund_does_not_end_the_hold_of_an_open_dispute_with_its_period(shop: Shop) -> None:
    customer = shop.customer
    shop.card("pm_card_createDispute")
    _create(shop, customer=customer)
    shop.card("pm_card_visa")
    shop.change("empire")
    upgrade = _charges(shop)[0]
    shop.post("refunds", charge=upgrade)
    shop.hear()
    assert shop.standing().until is None
    shop.wait(days=31)
    shop.hear()
    assert shop.standing().why == "held: the payment was disputed"


def test_q12_a_lost_dispute_holds_for_its_period_and_not_for_ever(shop: Shop) -> None:
    customer = shop.customer
    shop.card("pm_card_createDispute")
    _create(shop, customer=customer)
    shop.card("pm_card_visa")
    _answer_dispute(shop, _charges(shop)[0], "it was us")
    shop.hear()
    assert shop.tier == "free"
    shop.wait(days=31)
    shop.hear()
    assert shop.tier == "creator", "the next period is paid"


def test_q12_who_was_refunded_left_and_buys_again_has_what_was_bought(shop: Shop) -> None:
    shop.subscribe()
    shop.post("refunds", charge=_charges(shop)[0])
    shop.sandbox.http.delete(
        f"/stripe/v1/subscriptions/{shop.subscription}", headers={"Authorization": "Bearer sk_test_x"}
    ).raise_for_status()
    shop.hear()
    assert shop.tier == "free"
    shop.wait(days=2)
    shop.subscribe()
    assert shop.tier == "creator"


def test_a_subscription_paid_for_twice_over_is_named_and_a_payment_that_cannot_be_read_stops_nobody(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.subscribe()
    shop.post("refunds", charge=_charges(shop)[0])
    plan = shop.stripe.plans_of(shop.customer)[0]
    monkeypatch.setattr(shop.stripe, "running_plans", lambda: iter([replace(plan, quantity=2)]))
    away = TransientError("Stripe does not answer.", code="vendor_away", remedy="Wait.")
    monkeypatch.setattr(shop.stripe, "charges_of", Mock(side_effect=away))
    found = reconcile(shop.db, shop.plans, shop.stripe)
    assert found.doubled == [f"acme pays 2 times for {plan.id}, which counts once"]
    assert found.read == 1
    assert [said.endswith("Stripe does not answer.") for said in found.failed] == [True]


def test_a_customer_that_is_renamed_at_stripe_gives_no_second_account_its_plan(shop: Shop) -> None:
    shop.subscribe()
    shop.post(f"customers/{shop.customer}", **{"metadata[ettametta_account]": "beta"})
    for _ in range(2):
        with pytest.raises(NeedsPersonError) as refusal:
            refresh(shop.db, shop.plans, shop.stripe, "beta", because="test")
        assert refusal.value.code == "customer_taken"
    with pytest.raises(NeedsPersonError):
        subscriptions.customer_of(shop.db, shop.plans, shop.stripe, "beta")
    assert standing(shop.db, shop.plans, "beta").tier.slug == "free"
    assert shop.tier == "creator"


def test_q15_a_plan_that_ends_during_a_run_lets_the_run_finish(shop: Shop) -> None:
    shop.subscribe()
    shop.make(5)
    running = shop.reserve("running")
    shop.sandbox.http.delete(
        f"/stripe/v1/subscriptions/{shop.subscription}", headers={"Authorization": "Bearer sk_test_x"}
    ).raise_for_status()
    shop.hear()
    assert shop.tier == "free"
    assert consume_slot(shop.db, shop.plans, running) == "consumed"
    assert shop.usage().used == 6
    with pytest.raises(VideoLimitReached):
        shop.reserve("next")


def test_events_late_twice_and_backwards_lead_to_the_same_end(shop: Shop) -> None:
    shop.subscribe()
    shop.change("empire")
    shop.wait(days=20)
    subscriptions.cancel(shop.db, shop.plans, shop.stripe, shop.account)
    events = list(shop.stripe.events([kind for kind in EVENTS if "charge" not in kind], NOW))
    before = shop.standing()
    assert len(events) > 4
    assert {shop.apply(event) for event in [*events, *reversed(events), *events]} == {"unchanged"}
    assert shop.standing() == before


def test_a_reading_that_began_earlier_never_overwrites_one_that_began_later(shop: Shop) -> None:
    shop.subscribe()
    early = begin_reading(shop.db, shop.plans, shop.account)
    as_it_was = shop.stripe.plans_of(shop.customer)
    shop.change("empire")
    assert shop.tier == "empire"
    applied = apply_reading(
        shop.db, shop.plans, shop.account, early, customer=shop.customer, held=as_it_was, price_keys={},
        because="a slow webhook",
    )  # fmt: skip
    assert applied is None
    assert shop.tier == "empire"


def test_an_event_of_the_other_mode_or_of_a_stranger_changes_nothing(shop: Shop) -> None:
    shop.subscribe()
    (event, *_) = shop.stripe.events(["invoice.paid"], shop.clock() - timedelta(days=1))
    assert shop.apply({**event, "livemode": True}) == "wrong_mode"
    stranger = {**event, "data": {"object": {"id": "in_x", "customer": "cus_stranger", "metadata": {}}}}
    assert shop.apply(stranger) == "unknown_customer"
    assert shop.apply({**event, "type": "product.created"}) == "ignored"


def test_the_nightly_reconciliation_repairs_what_was_lost_and_names_it(shop: Shop) -> None:
    assert shop.act(shop.checkout("creator")).status_code == 303
    assert shop.tier == "free", "no event arrived"
    done = reconcile(shop.db, shop.plans, shop.stripe)
    assert shop.tier == "creator"
    (repaired,) = done.repaired
    assert repaired.startswith("acme: ")
    assert "status none → active" in repaired
    assert "tier – → creator" in repaired
    again = reconcile(shop.db, shop.plans, shop.stripe)
    assert (again.repaired, again.doubled, again.failed, again.prices, again.read) == ([], [], [], [], 1)


def test_the_reconciliation_finds_an_end_and_a_dispute_that_no_event_told_of(shop: Shop) -> None:
    customer = shop.customer
    shop.card("pm_card_createDispute")
    _create(shop, customer=customer)
    done = reconcile(shop.db, shop.plans, shop.stripe)
    assert len(done.repaired) == 2
    assert shop.standing().why == "held: the payment was disputed"
    shop.sandbox.http.delete(
        f"/stripe/v1/subscriptions/{shop.subscription}", headers={"Authorization": "Bearer sk_test_x"}
    ).raise_for_status()
    assert "status active → canceled" in reconcile(shop.db, shop.plans, shop.stripe).repaired[0]


def test_an_account_whose_row_was_lost_is_found_again_by_its_subscription(shop: Shop) -> None:
    shop.subscribe()
    with shop.db.session() as session:
        session.execute(sa.delete(Entitlement))
    assert reconcile(shop.db, shop.plans, shop.stripe).read == 1
    assert shop.tier == "creator"


def test_a_lost_row_is_found_again_while_an_upgrade_waits_for_its_payment(shop: Shop) -> None:
    shop.subscribe()
    shop.card(FAILS)
    shop.change("empire")
    with shop.db.session() as session:
        session.execute(sa.delete(Entitlement))
    reconcile(shop.db, shop.plans, shop.stripe)
    assert shop.tier == "creator"


def test_an_account_that_stripe_was_not_read_for_loses_its_plan_a_grace_after_the_period(shop: Shop) -> None:
    shop.subscribe()
    shop.clock.now = shop.usage().ends_at + timedelta(days=6)
    assert shop.tier == "creator"
    shop.wait(days=1)
    assert shop.standing().why == "the period is over and Stripe was not read since"
    assert shop.tier == "free"


def test_a_second_checkout_closes_the_first_and_a_subscriber_is_sent_to_change(shop: Shop) -> None:
    first, second = shop.checkout("creator"), shop.checkout("empire")
    assert shop.act(first).status_code == 400
    assert shop.act(second).status_code == 303
    with pytest.raises(PermanentError) as refusal:
        shop.checkout("empire")
    assert refusal.value.code == "already_subscribed"


def test_two_subscriptions_of_one_account_count_as_the_dearer_and_are_named(shop: Shop) -> None:
    shop.subscribe("empire")
    _create(shop)
    done = reconcile(shop.db, shop.plans, shop.stripe)
    assert shop.tier == "empire"
    assert "acme pays for 2 subscriptions" in done.doubled[0]


def test_a_customer_is_made_once_also_when_the_answer_was_lost(shop: Shop) -> None:
    shop.sandbox.fault("stripe", method="POST", path_regex="/v1/customers$", action="drop_after")
    first = shop.customer
    assert shop.stripe.customer_of(shop.account) == first
    with shop.db.session() as session:
        session.execute(sa.update(Entitlement).values(customer_id=None))
    assert shop.customer == first


def test_a_cancellation_can_be_taken_back_and_the_portal_does_it_too(shop: Shop) -> None:
    with pytest.raises(NeedsPersonError, match="is no customer at Stripe yet"):
        subscriptions.open_portal(
            shop.db, shop.plans, shop.stripe, shop.account, return_url="http://127.0.0.1/"
        )
    shop.subscribe()
    subscriptions.cancel(shop.db, shop.plans, shop.stripe, shop.account)
    subscriptions.cancel(shop.db, shop.plans, shop.stripe, shop.account, leaving=False)
    assert not shop.stripe.plans_of(shop.customer)[0].cancel_at_period_end
    url = subscriptions.open_portal(
        shop.db, shop.plans, shop.stripe, shop.account, return_url="http://127.0.0.1/"
    ).url
    assert url is not None
    assert shop.act(url, "cancel").status_code == 200
    shop.hear()
    with shop.db.session(write=False) as session:
        assert session.scalars(sa.select(Entitlement.next_tier)).one() == "free"


def test_a_tier_that_stripe_sells_at_another_price_is_not_sold(shop: Shop) -> None:
    dearer = shop.plans.table.tiers["creator"].model_copy(update={"monthly_minor": 3900})
    tiers = {**shop.plans.table.tiers, "creator": dearer}
    object.__setattr__(shop.plans, "table", shop.plans.table.model_copy(update={"tiers": tiers}))
    with pytest.raises(NeedsPersonError) as refusal:
        shop.checkout("creator")
    assert refusal.value.code == "price_differs"
    assert reconcile(shop.db, shop.plans, shop.stripe).prices == [
        "Creator: $39.00 in the tiers file, $29.00 at Stripe"
    ]


def test_accounts_of_the_sandbox_never_mix_with_live_ones(shop: Shop) -> None:
    shop.subscribe("empire")
    shop.make(3)
    shop.plans = plans(mode="live")
    assert (shop.tier, shop.usage().used) == ("free", 0)
