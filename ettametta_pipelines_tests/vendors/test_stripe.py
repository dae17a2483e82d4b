"""The Stripe client against the sandbox over HTTP: reading, paging, retries and what errors mean."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, TransientError
from ettametta_pipelines.money import Money, UnknownCurrency
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.stripe import StripeClient
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc

NOW = utc("2026-11-20T12:00:00")
MONTH = (utc("2026-10-01"), utc("2026-11-01"))
KEY = {"Authorization": "Bearer sandbox-key"}


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
def account(tmp_path: Path, clock: SetClock) -> Iterator[SandboxUnderTest]:
    """The sandbox at a fixed time."""
    with frozen_sandbox(tmp_path, clock) as running:
        yield running


@pytest.fixture
def stripe(account: SandboxUnderTest, clock: SetClock) -> StripeClient:
    return StripeClient(endpoint(account.url), sleep=clock.sleep)


def endpoint(url: str, key: str | None = None, retries: int = 3) -> VendorEndpoint:
    secrets = {} if key is None else {"stripe_secret_key": SecretStr(key)}
    return VendorEndpoint("stripe", "sandbox", f"{url}/stripe/", "test", secrets, max_retries=retries)


def test_transactions_of_a_window_come_newest_first_over_pages_each_once(stripe: StripeClient) -> None:
    rows = list(stripe.balance_transactions(*MONTH))
    assert len(rows) > 200
    assert len({row.id for row in rows}) == len(rows)
    assert [row.created for row in rows] == sorted((row.created for row in rows), reverse=True)
    assert all(MONTH[0] <= row.created < MONTH[1] for row in rows)


def test_a_window_has_its_first_second_and_not_its_last(stripe: StripeClient) -> None:
    (row, *_) = (
        r for r in stripe.balance_transactions(*MONTH) if r.created.hour == 0 and r.created.minute == 0
    )
    from_it = list(stripe.balance_transactions(row.created, MONTH[1]))
    up_to_it = list(stripe.balance_transactions(MONTH[0], row.created))
    assert row.id in {r.id for r in from_it}
    assert row.id not in {r.id for r in up_to_it}


def test_rows_that_arrive_between_pages_shift_nothing(
    stripe: StripeClient, account: SandboxUnderTest, clock: SetClock
) -> None:
    whole_day = (utc("2026-11-01"), utc("2026-11-21"))
    before = {row.id for row in stripe.balance_transactions(*whole_day)}
    pages = stripe.balance_transactions(*whole_day)
    seen = [next(pages).id]
    charge = next(row.source_id for row in stripe.balance_transactions(*MONTH) if row.type == "charge")
    for _ in range(3):
        clock.sleep(1)
        refund = {"charge": charge, "amount": "100"}
        httpx.post(f"{account.url}/stripe/v1/refunds", data=refund, headers=KEY).raise_for_status()
    seen += [row.id for row in pages]
    assert len(seen) == len(set(seen))
    assert before <= set(seen)


def test_a_converted_charge_keeps_what_the_customer_saw_and_stripes_own_rate(stripe: StripeClient) -> None:
    row = next(r for r in stripe.balance_transactions(*MONTH) if r.exchange_rate and r.type == "charge")
    assert row.presented is not None
    assert row.presented.currency == "EUR"
    assert row.amount.currency == "USD"
    assert abs(row.presented.minor * float(row.exchange_rate or 0) - row.amount.minor) <= 0.5


def test_yen_are_whole_units(stripe: StripeClient) -> None:
    row = next(
        r for r in stripe.balance_transactions(*MONTH) if r.amount.currency == "JPY" and r.type == "charge"
    )
    assert row.amount in (Money(4300, "JPY"), Money(14800, "JPY"))


def test_what_is_kept_as_received_names_its_source_by_id_alone(stripe: StripeClient) -> None:
    row = next(stripe.balance_transactions(*MONTH))
    assert row.raw["source"] == row.source_id


def test_subscriptions_carry_the_period_of_their_item(stripe: StripeClient) -> None:
    subscriptions = list(stripe.subscriptions())
    assert {s.status for s in subscriptions} == {"active", "canceled"}
    active = [s for s in subscriptions if s.status == "active"]
    assert all(s.period_start <= NOW < s.period_end for s in active)
    assert {s.unit_amount for s in active} >= {Money(2900, "USD"), Money(9900, "USD")}


def test_a_charge_is_read_by_id_with_what_was_refunded(stripe: StripeClient) -> None:
    refund = next(r for r in stripe.balance_transactions(*MONTH) if r.type == "refund")
    charge = stripe.charge(refund.raw["description"].removeprefix("Refund of "))
    assert charge.refunded.minor > 0
    with pytest.raises(PermanentError) as refusal:
        stripe.charge("ch_nothing")
    assert refusal.value.code == "stripe_not_found"


def test_too_many_requests_is_waited_out_for_as_long_as_stripe_says(
    stripe: StripeClient, account: SandboxUnderTest, clock: SetClock
) -> None:
    body = {"error": {"type": "invalid_request_error", "message": "Request rate limit exceeded."}}
    account.fault("stripe", status=429, headers={"retry-after": "7"}, body=body, times=2)
    assert stripe.balance()
    assert (clock() - NOW).total_seconds() == 14


def test_a_server_error_is_tried_again_and_a_lasting_one_is_transient(
    stripe: StripeClient, account: SandboxUnderTest
) -> None:
    account.fault("stripe", status=500, times=1)
    assert stripe.balance()
    account.fault("stripe", status=503, times=None)
    with pytest.raises(TransientError) as refusal:
        stripe.balance()
    assert refusal.value.code == "stripe_unavailable"
    assert account.count("stripe", "GET", "/v1/balance") == 2 + 4


def test_a_connection_cut_on_the_third_page_is_read_again(
    stripe: StripeClient, account: SandboxUnderTest
) -> None:
    account.fault("stripe", path_regex="balance_transactions", after=2, action="drop_after")
    rows = list(stripe.balance_transactions(*MONTH))
    assert len({row.id for row in rows}) == len(rows) > 300


def test_a_stripe_that_cannot_be_reached_is_transient_and_named() -> None:
    client = StripeClient(endpoint("http://127.0.0.1:9", retries=0))
    with pytest.raises(TransientError) as failure:
        client.balance()
    assert failure.value.code == "vendor_unreachable"
    assert "127.0.0.1:9" in str(failure.value)


@pytest.mark.parametrize("key", ["sk_live_" + "x" * 24, "nonsense"])
def test_a_refused_key_needs_a_person_and_is_not_shown(account: SandboxUnderTest, key: str) -> None:
    client = StripeClient(endpoint(account.url, key))
    with pytest.raises(NeedsPersonError) as refusal:
        client.balance()
    assert refusal.value.code == "stripe_unauthorized"
    assert key not in str(refusal.value)
    assert account.count("stripe", "GET", "/v1/balance") == 1


def test_a_live_key_is_known_by_its_prefix(account: SandboxUnderTest) -> None:
    assert StripeClient(endpoint(account.url, "rk_live_x")).livemode
    assert not StripeClient(endpoint(account.url, "sk_test_x")).livemode


def test_a_currency_of_unknown_decimals_stops_the_reading(
    stripe: StripeClient, account: SandboxUnderTest
) -> None:
    balance = {
        "object": "balance",
        "available": [{"amount": 5, "currency": "xqq", "source_types": {}}],
        "pending": [],
    }
    account.fault("stripe", path_regex="/v1/balance$", status=200, body=balance)
    with pytest.raises(UnknownCurrency):
        stripe.balance()


def test_a_page_instead_of_an_answer_is_transient_and_asked_for_again(
    stripe: StripeClient, account: SandboxUnderTest
) -> None:
    account.fault("stripe", status=200, body="<html>One moment</html>")
    assert stripe.balance()
    account.fault("stripe", status=200, body="<html>One moment</html>", times=None)
    with pytest.raises(TransientError) as failure:
        stripe.balance()
    assert failure.value.code == "stripe_answer_unreadable"
