"""Subscriptions in the Stripe sandbox live as Stripe's do: they renew, fail, are tried again, change and end."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe as sdk

from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc
from ettametta_pipelines_tests.sandbox.test_stripe_sandbox import all_rows, sdk_to

NOW = utc("2027-01-31T12:00:00")
DAY_S = 86_400


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
def account(tmp_path: Path, clock: SetClock) -> Iterator[SandboxUnderTest]:
    with frozen_sandbox(tmp_path, clock) as running:
        yield running
        running.close()


@pytest.fixture
def client(account: SandboxUnderTest) -> sdk.StripeClient:
    """The vendor's own SDK, unmodified."""
    return sdk_to(account)


def subscribe(client: sdk.StripeClient, **params: Any) -> sdk.Subscription:
    customer = client.v1.customers.create({"name": "acme"})
    return client.v1.subscriptions.create(
        {"customer": customer.id, "items": [{"price": "price_creator_usd"}], **params}
    )


def period_end(client: sdk.StripeClient, subscription: str) -> str:
    item = client.v1.subscriptions.retrieve(subscription)["items"].data[0]
    return f"{datetime.fromtimestamp(item.current_period_end, UTC):%m-%d}"


def test_renewals_fall_on_the_anchors_day_or_a_shorter_months_last_and_are_booked_when_due(
    client: sdk.StripeClient, clock: SetClock
) -> None:
    made = subscribe(client)
    ends = [period_end(client, made.id)]
    for _ in range(3):
        clock.sleep(31 * DAY_S)
        ends.append(period_end(client, made.id))
    assert ends == ["02-28", "03-31", "04-30", "05-31"]
    charges = client.v1.charges.list({"customer": str(made.customer)}).data
    assert [charge.created for charge in charges] == [
        int(utc(f"2027-{day}T12:00:00").timestamp()) for day in ("04-30", "03-31", "02-28", "01-31")
    ]
    assert all(all_rows(client, source=charge.id)[0]["created"] == charge.created for charge in charges)


def test_what_fell_due_is_booked_before_the_ledger_is_read(client: sdk.StripeClient, clock: SetClock) -> None:
    subscribe(client)
    clock.sleep(29 * DAY_S)
    day = {"created": {"gte": int(utc("2027-02-28").timestamp()), "lt": int(utc("2027-03-01").timestamp())}}
    first = {row["id"] for row in all_rows(client, **day)}
    clock.sleep(60 * DAY_S)
    assert {row["id"] for row in all_rows(client, **day)} == first


def test_a_refused_card_is_tried_three_times_more_and_then_the_subscription_is_unpaid(
    client: sdk.StripeClient, clock: SetClock
) -> None:
    made = subscribe(client)
    refused: Any = {"invoice_settings": {"default_payment_method": "pm_card_chargeCustomerFail"}}
    client.v1.customers.update(str(made.customer), refused)
    clock.now = utc("2027-02-28T12:00:01")
    assert client.v1.subscriptions.retrieve(made.id).status == "past_due"
    clock.sleep(15 * DAY_S)
    assert client.v1.subscriptions.retrieve(made.id).status == "unpaid"
    failed = client.v1.events.list({"type": "invoice.payment_failed", "limit": 100}).data
    assert [(event.created - failed[-1].created) // DAY_S for event in reversed(failed)] == [0, 3, 5, 7]


def test_an_upgrade_charges_the_difference_and_waits_for_its_payment(
    client: sdk.StripeClient, clock: SetClock
) -> None:
    made = subscribe(client)
    clock.sleep(14 * DAY_S)
    refused: Any = {"invoice_settings": {"default_payment_method": "pm_card_chargeCustomerFail"}}
    client.v1.customers.update(str(made.customer), refused)
    change: Any = {
        "items": [{"id": made["items"].data[0].id, "price": "price_empire_usd"}],
        "proration_behavior": "always_invoice", "payment_behavior": "pending_if_incomplete",
        "expand": ["latest_invoice"],
    }  # fmt: skip
    changed = client.v1.subscriptions.update(made.id, change)
    assert changed["items"].data[0].price.id == "price_creator_usd"
    invoice: Any = changed.latest_invoice
    assert (invoice.status, invoice.amount_due) == ("open", 3500), "half a month of the difference"
    client.v1.customers.update(
        str(made.customer), {"invoice_settings": {"default_payment_method": "pm_card_visa"}}
    )
    client.v1.invoices.pay(invoice.id)
    assert client.v1.subscriptions.retrieve(made.id)["items"].data[0].price.id == "price_empire_usd"


def test_a_checkout_is_paid_once_and_lapses_after_a_day(
    client: sdk.StripeClient, account: SandboxUnderTest, clock: SetClock
) -> None:
    customer = client.v1.customers.create({"name": "acme", "metadata": {"k": "v"}})
    order: Any = {
        "mode": "subscription", "customer": customer.id, "line_items": [{"price": "price_creator_usd", "quantity": 1}],
        "success_url": "http://127.0.0.1/done?s={CHECKOUT_SESSION_ID}",
    }  # fmt: skip
    first, late = (client.v1.checkout.sessions.create(order) for _ in range(2))
    assert "29.00 USD a month" in account.http.get(str(first.url)).text
    assert account.http.post(str(first.url), data={"action": "decline"}).status_code == 402
    paid = account.http.post(str(first.url), data={"action": "pay"})
    assert (paid.status_code, paid.headers["location"]) == (303, f"http://127.0.0.1/done?s={first.id}")
    assert account.http.post(str(first.url)).status_code == 400
    clock.sleep(DAY_S + 1)
    assert client.v1.checkout.sessions.retrieve(late.id).status == "expired"
    assert len(client.v1.subscriptions.list({"customer": customer.id}).data) == 1
    found = client.v1.customers.search({"query": "metadata['k']:'v'"})
    assert [row.id for row in found.data] == [customer.id]


def test_a_page_that_does_not_exist_says_so(account: SandboxUnderTest) -> None:
    answer: httpx.Response = account.http.get("/stripe/pay/cs_test_nothing")
    assert answer.status_code == 404
