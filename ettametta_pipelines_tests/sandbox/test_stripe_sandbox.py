"""The Stripe sandbox refuses what Stripe refuses, and keeps books that add up and never change."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import stripe as sdk

from ettametta_pipelines.sandbox import stripe_books
from ettametta_pipelines.sandbox.stripe_books import BOOKS_OPENED, seeded_rows_of
from ettametta_pipelines.sandbox.stripe_requests import nested
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc

NOW = utc("2026-11-20T12:00:00")
SEED = 20_260


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxUnderTest]:
    """Shared by the tests that only read; time stands still."""
    with frozen_sandbox(tmp_path_factory.mktemp("account"), SetClock(NOW)) as running:
        yield running


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
def own_account(tmp_path: Path, clock: SetClock) -> Iterator[SandboxUnderTest]:
    """For a test that writes or moves the clock."""
    with frozen_sandbox(tmp_path, clock) as running:
        yield running


@pytest.fixture
def api(account: SandboxUnderTest) -> Iterator[httpx.Client]:
    with http_to(account) as client:
        yield client


@pytest.fixture
def own_api(own_account: SandboxUnderTest) -> Iterator[httpx.Client]:
    with http_to(own_account) as client:
        yield client


@pytest.fixture
def client(account: SandboxUnderTest) -> sdk.StripeClient:
    return sdk_to(account)


@pytest.fixture
def own_client(own_account: SandboxUnderTest) -> sdk.StripeClient:
    return sdk_to(own_account)


def http_to(account: SandboxUnderTest) -> httpx.Client:
    headers = {"Authorization": "Bearer sk_test_sandbox", "Stripe-Version": "2026-10-28.endive"}
    return httpx.Client(base_url=f"{account.url}/stripe/v1/", headers=headers)


def sdk_to(account: SandboxUnderTest) -> sdk.StripeClient:
    """The vendor's own SDK, unmodified."""
    return sdk.StripeClient("sk_test_sandbox", base_addresses={"api": f"{account.url}/stripe"})


def error_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code >= 400
    return answer.json()["error"]


def seconds(text: str) -> int:
    return int(utc(text).timestamp())


def all_rows(client: sdk.StripeClient, **params: Any) -> list[dict[str, Any]]:
    listing = client.v1.balance_transactions.list({"limit": 100, **params})
    return [row.to_dict() for row in listing.auto_paging_iter()]


# The door


def test_a_request_without_a_key_is_refused_as_stripe_words_it(account: SandboxUnderTest) -> None:
    answer = httpx.get(f"{account.url}/stripe/v1/balance")
    assert answer.status_code == 401
    assert error_of(answer)["type"] == "invalid_request_error"
    assert error_of(answer)["message"].startswith("You did not provide an API key.")


@pytest.mark.parametrize("key", ["sk_live_" + "x" * 24, "pk_test_abc"])
def test_a_live_or_public_key_is_refused_and_masked(account: SandboxUnderTest, key: str) -> None:
    answer = httpx.get(f"{account.url}/stripe/v1/balance", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 401
    assert key not in answer.text


@pytest.mark.parametrize(
    ("path", "code", "param"),
    [
        ("balance_transactions?colour=red", "parameter_unknown", "colour"),
        ("balance_transactions?limit=0", "parameter_invalid_integer", "limit"),
        ("balance_transactions?limit=101", "parameter_invalid_integer", "limit"),
        ("balance_transactions?limit=ten", "parameter_invalid_integer", "limit"),
        ("balance_transactions?starting_after=txn_nothing", "resource_missing", "starting_after"),
        ("balance_transactions?payout=po_nothing", "resource_missing", "payout"),
        ("charges/ch_nothing", "resource_missing", "id"),
    ],
)
def test_a_wrong_parameter_is_named(api: httpx.Client, path: str, code: str, param: str) -> None:
    error = error_of(api.get(path))
    assert (error["code"], error["param"]) == (code, param)


def test_a_property_that_cannot_be_expanded_is_refused(api: httpx.Client) -> None:
    assert (
        "cannot be expanded (data.customer)"
        in error_of(api.get("balance_transactions", params={"expand[]": "data.customer"}))["message"]
    )


def test_an_unknown_address_is_refused_in_stripes_shape(api: httpx.Client) -> None:
    answer = api.get("nonsense")
    assert answer.status_code == 404
    assert error_of(answer)["message"] == "Unrecognized request URL (GET: /v1/nonsense)."


def test_an_impossible_api_version_is_refused(api: httpx.Client) -> None:
    assert (
        error_of(api.get("balance", headers={"Stripe-Version": "latest"}))["type"] == "invalid_request_error"
    )


def test_bracketed_forms_become_objects_and_lists() -> None:
    pairs = [
        ("items[0][price]", "p"),
        ("items[1][price]", "q"),
        ("metadata[k]", "v"),
        ("types[]", "a"),
        ("types[]", "b"),
    ]
    assert nested(pairs) == {
        "items": [{"price": "p"}, {"price": "q"}],
        "metadata": {"k": "v"},
        "types": ["a", "b"],
    }


# Idempotency


def test_the_same_key_creates_once_and_replays_the_first_answer(own_api: httpx.Client) -> None:
    key = {"Idempotency-Key": "customer-of-account-7"}
    first = own_api.post("customers", data={"email": "a@example.com"}, headers=key)
    again = own_api.post("customers", data={"email": "a@example.com"}, headers=key)
    assert first.json()["id"] == again.json()["id"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


def test_the_same_key_with_other_parameters_is_refused(own_api: httpx.Client) -> None:
    key = {"Idempotency-Key": "k"}
    own_api.post("customers", data={"email": "a@example.com"}, headers=key)
    assert (
        error_of(own_api.post("customers", data={"email": "b@example.com"}, headers=key))["type"]
        == "idempotency_error"
    )


def test_a_refused_request_leaves_its_key_free(own_api: httpx.Client) -> None:
    key = {"Idempotency-Key": "k"}
    assert own_api.post("products", data={}, headers=key).status_code == 400
    assert own_api.post("products", data={"name": "Tier"}, headers=key).status_code == 200


def test_after_a_lost_answer_the_same_key_finds_what_was_made(
    own_api: httpx.Client, own_account: SandboxUnderTest
) -> None:
    own_account.fault("stripe", method="POST", action="drop_after")
    key = {"Idempotency-Key": "k"}
    with pytest.raises(httpx.TransportError):
        own_api.post("customers", data={"email": "a@example.com"}, headers=key)
    assert (
        own_api.post("customers", data={"email": "a@example.com"}, headers=key).headers["idempotent-replayed"]
        == "true"
    )
    assert len(own_api.get("customers", params={"email": "a@example.com"}).json()["data"]) == 1


# The books


def test_a_past_day_reads_the_same_at_any_later_time(own_client: sdk.StripeClient, clock: SetClock) -> None:
    day = {"created": {"gte": seconds("2026-11-10"), "lt": seconds("2026-11-11")}}
    then = all_rows(own_client, **day)
    assert then
    clock.sleep(90 * 86_400)
    later = all_rows(own_client, **day)
    unsettled = [{name: value for name, value in row.items() if name != "status"} for row in then]
    assert unsettled == [{name: value for name, value in row.items() if name != "status"} for row in later]
    assert {row["status"] for row in later} == {"available"}


def test_nothing_of_the_future_is_shown(own_client: sdk.StripeClient, clock: SetClock) -> None:
    rows = all_rows(own_client, created={"gte": seconds("2026-11-20")})
    assert rows
    assert all(row["created"] <= NOW.timestamp() for row in rows)
    clock.sleep(43_200 - 1)
    assert len(all_rows(own_client, created={"gte": seconds("2026-11-20")})) > len(rows)


def test_every_day_has_a_charge_at_its_first_second() -> None:
    days = [BOOKS_OPENED + timedelta(days=offset) for offset in range(330)]
    assert all(seeded_rows_of(SEED, day)[0]["created"] == stripe_books.epoch(day) for day in days)


def test_the_last_120_days_hold_every_kind_of_row(client: sdk.StripeClient) -> None:
    rows = all_rows(client, created={"gte": int((NOW - timedelta(days=120)).timestamp())})
    kinds = {(row["reporting_category"], row["currency"]) for row in rows}
    assert kinds >= {
        ("charge", "usd"), ("charge", "jpy"), ("refund", "usd"), ("dispute", "usd"), ("dispute_reversal", "usd"),
        ("payout", "usd"), ("payout", "jpy"),
    }  # fmt: skip
    assert any(row["exchange_rate"] for row in rows)
    disputes = [row for row in rows if row["reporting_category"] == "dispute"]
    assert all(row["fee"] == stripe_books.DISPUTE_FEE for row in disputes)


def test_some_refunds_fall_into_another_month_than_their_charge(client: sdk.StripeClient) -> None:
    rows = all_rows(client, type="refund", created={"gte": seconds("2026-09-01")})
    charge_months = {row["id"]: row["description"].removeprefix("Refund of ch_")[:6] for row in rows}
    assert any(stripe_books.day_at(r["created"]).strftime("%Y%m") != charge_months[r["id"]] for r in rows)


def test_every_payout_equals_the_net_of_what_it_paid(client: sdk.StripeClient) -> None:
    payouts = list(client.v1.payouts.list({"limit": 100}).auto_paging_iter())
    assert len(payouts) > 40
    for payout in payouts[:30]:
        paid = all_rows(client, payout=payout.id)
        own = [row for row in paid if row["type"] == "payout"]
        assert [row["net"] for row in own] == [-payout.amount]
        assert sum(row["net"] for row in paid) == 0


def test_no_row_is_paid_out_twice(client: sdk.StripeClient) -> None:
    payouts = client.v1.payouts.list({"limit": 100, "created": {"gte": seconds("2026-08-01")}})
    paid = [row["id"] for payout in payouts.auto_paging_iter() for row in all_rows(client, payout=payout.id)]
    assert len(paid) == len(set(paid))


def test_the_balance_is_the_sum_of_all_rows(client: sdk.StripeClient) -> None:
    sums: dict[str, int] = {}
    for row in all_rows(client):
        sums[row["currency"]] = sums.get(row["currency"], 0) + row["net"]
    balance = client.v1.balance.retrieve().to_dict()
    shown = {part["currency"]: part["amount"] for part in balance["available"]}
    for part in balance["pending"]:
        shown[part["currency"]] += part["amount"]
    assert shown == sums


def test_a_charge_says_what_was_refunded_of_it(client: sdk.StripeClient) -> None:
    refunds = client.v1.refunds.list({"limit": 50}).data
    assert refunds
    for refund in refunds:
        of_charge = client.v1.refunds.list({"charge": refund.charge, "limit": 10}).data
        assert client.v1.charges.retrieve(refund.charge).amount_refunded == sum(r.amount for r in of_charge)


# Writing


def test_a_refund_made_through_the_api_joins_the_ledger_and_the_charge(own_client: sdk.StripeClient) -> None:
    row = next(
        r for r in all_rows(own_client, type="charge") if r["currency"] == "usd" and not r["exchange_rate"]
    )
    refund = own_client.v1.refunds.create({"charge": row["source"], "amount": 500})
    (booked,) = all_rows(own_client, source=refund.id)
    assert (booked["amount"], booked["created"]) == (-500, int(NOW.timestamp()))
    assert own_client.v1.charges.retrieve(row["source"]).amount_refunded == 500
    with pytest.raises(sdk.InvalidRequestError, match="greater than unrefunded amount"):
        own_client.v1.refunds.create({"charge": row["source"], "amount": row["amount"]})


def test_a_subscription_collects_its_first_month_and_can_be_cancelled(own_client: sdk.StripeClient) -> None:
    customer = own_client.v1.customers.create({"email": "new@example.com"})
    price = own_client.v1.prices.list({"lookup_keys": ["empire_usd"]}).data[0]
    made = own_client.v1.subscriptions.create({"customer": customer.id, "items": [{"price": price.id}]})
    (charge,) = own_client.v1.charges.list({"customer": customer.id}).data
    assert charge.amount == 9900
    assert all_rows(own_client, source=charge.id)[0]["amount"] == 9900
    item = made["items"].data[0]
    assert item.current_period_end > item.current_period_start == int(NOW.timestamp())
    assert own_client.v1.subscriptions.update(made.id, {"cancel_at_period_end": True}).cancel_at_period_end
    assert own_client.v1.subscriptions.cancel(made.id).status == "canceled"
    assert own_client.v1.subscriptions.list({"customer": customer.id}).data == []


def test_a_subscription_to_nobody_is_refused(own_client: sdk.StripeClient) -> None:
    with pytest.raises(sdk.InvalidRequestError) as refusal:
        own_client.v1.subscriptions.create(
            {"customer": "cus_nobody", "items": [{"price": "price_creator_usd"}]}
        )
    assert refusal.value.code == "resource_missing"


def test_events_tell_what_happened_in_the_last_30_days(client: sdk.StripeClient) -> None:
    events = list(
        client.v1.events.list(
            {"types": ["payout.created", "charge.refunded"], "limit": 100}
        ).auto_paging_iter()
    )
    assert {event.type for event in events} == {"payout.created", "charge.refunded"}
    assert min(event.created for event in events) >= NOW.timestamp() - 30 * 86_400
    assert all(event.data.object.object in ("payout", "charge") for event in events)
