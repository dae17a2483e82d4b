"""The Shopify client against the sandbox over HTTP: reading, paging, throttling and what errors mean."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.money import Money
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors import shopify as shopify_module
from ettametta_pipelines.vendors.shopify import ShopifyClient, admin_site, throttle_wait
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc

NOW = utc("2026-11-20T12:00:00")


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
def store(tmp_path: Path, clock: SetClock) -> Iterator[SandboxUnderTest]:
    """The sandbox at a fixed time."""
    with frozen_sandbox(tmp_path, clock) as running:
        yield running


@pytest.fixture
def shopify(store: SandboxUnderTest, clock: SetClock) -> ShopifyClient:
    return ShopifyClient(endpoint(store.url), sleep=clock.sleep)


def endpoint(url: str, token: str | None = None) -> VendorEndpoint:
    secrets = {} if token is None else {"shopify_access_token": SecretStr(token)}
    return VendorEndpoint("shopify", "sandbox", f"{url}/shopify/", "test", secrets)


def test_transactions_of_a_window_come_oldest_first_over_pages_each_once(shopify: ShopifyClient) -> None:
    start, end = utc("2026-09-01"), utc("2026-11-01")
    rows = list(shopify.balance_transactions(start, end))
    assert len(rows) > 150
    assert len({row.id for row in rows}) == len(rows)
    assert [row.processed_at for row in rows] == sorted(row.processed_at for row in rows)
    assert all(start <= row.processed_at < end for row in rows)
    assert {row.type for row in rows} >= {"CHARGE", "REFUND", "TRANSFER"}


def test_decimal_strings_become_exact_cents(shopify: ShopifyClient) -> None:
    rows = list(shopify.balance_transactions(utc("2026-10-01"), utc("2026-10-08")))
    assert rows
    for row in rows:
        assert row.net == row.amount - row.fee
        assert Money.parse(row.raw["amount"]["amount"], "USD") == row.amount


def test_a_row_names_its_payout_once_it_is_paid(shopify: ShopifyClient) -> None:
    (old, *_) = shopify.balance_transactions(utc("2026-10-05"), utc("2026-10-06"))
    (new, *_) = shopify.balance_transactions(utc("2026-11-20"), utc("2026-11-21"))
    assert (old.payout_status, new.payout_status) == ("PAID", "PENDING")
    assert old.payout_id is not None
    assert new.payout_id is None


def test_a_throttled_query_waits_until_the_bucket_is_full_enough(
    shopify: ShopifyClient, clock: SetClock, store: SandboxUnderTest
) -> None:
    rows = list(shopify.balance_transactions(utc("2026-01-01"), utc("2026-11-20")))
    assert len(rows) > 1000
    assert clock() > NOW
    # Every page was asked for once, some of them twice.
    assert store.count("shopify", "POST", "graphql") < 2 * (len(rows) // 100 + 1)


def test_the_wait_follows_shopifys_formula() -> None:
    status = {"maximumAvailable": 2000.0, "currentlyAvailable": 102, "restoreRate": 100.0}
    answer = {"extensions": {"cost": {"requestedQueryCost": 502, "throttleStatus": status}}}
    assert throttle_wait(answer) == 4.0


def test_the_shop_is_read(shopify: ShopifyClient) -> None:
    shop = shopify.shop()
    assert (shop.currency, shop.domain) == ("USD", "ettametta-sandbox.myshopify.com")


def test_a_refused_token_needs_a_person_and_is_not_shown(store: SandboxUnderTest) -> None:
    client = ShopifyClient(endpoint(store.url, "shppa_secret-of-an-app"))
    with pytest.raises(NeedsPersonError) as refusal:
        client.shop()
    assert refusal.value.code == "shopify_unauthorized"
    assert "secret-of-an-app" not in str(refusal.value)


REFUSALS: list[tuple[dict[str, Any], type[PipelineError], str]] = [
    ({"status": 402, "body": {"errors": "Payment Required"}}, NeedsPersonError, "shopify_shop_frozen"),
    ({"status": 423, "body": {"errors": "Locked"}}, NeedsPersonError, "shopify_shop_locked"),
    (
        {"status": 200, "body": {"errors": [{"message": "no", "extensions": {"code": "ACCESS_DENIED"}}]}},
        NeedsPersonError,
        "shopify_access_denied",
    ),
    (
        {"status": 200, "body": {"errors": [{"message": "x", "extensions": {"code": "MAX_COST_EXCEEDED"}}]}},
        PermanentError,
        "shopify_query_too_costly",
    ),
    ({"status": 502, "times": None}, TransientError, "shopify_unavailable"),
]


@pytest.mark.parametrize(("fault", "kind", "code"), REFUSALS, ids=lambda value: str(value)[:30])
def test_an_error_means_the_same_wherever_shopify_puts_it(
    shopify: ShopifyClient,
    store: SandboxUnderTest,
    fault: dict[str, Any],
    kind: type[PipelineError],
    code: str,
) -> None:
    store.fault("shopify", **fault)
    with pytest.raises(kind) as refusal:
        shopify.shop()
    assert refusal.value.code == code


def test_a_field_shopify_does_not_have_is_an_error_of_ours(
    shopify: ShopifyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shopify_module, "SHOP_QUERY", "{ shop { nickname } }")
    with pytest.raises(PermanentError, match="nickname"):
        shopify.shop()


def test_a_filter_that_shopify_ignored_does_not_pass_for_an_answer(
    shopify: ShopifyClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    misspelt = shopify_module.LEDGER_QUERY.replace("query: $query", 'query: "procesed_at:>2026-01-01"')
    monkeypatch.setattr(shopify_module, "LEDGER_QUERY", misspelt.replace(", $query: String!", ""))
    with pytest.raises(PermanentError) as refusal:
        list(shopify.balance_transactions(utc("2026-11-01"), utc("2026-11-02")))
    assert refusal.value.code == "shopify_filter_ignored"


def test_a_store_without_shopify_payments_is_told_apart(
    shopify: ShopifyClient, store: SandboxUnderTest
) -> None:
    store.fault("shopify", status=200, body={"data": {"shopifyPaymentsAccount": None}})
    with pytest.raises(PermanentError) as refusal:
        list(shopify.balance_transactions(utc("2026-11-01"), utc("2026-11-02")))
    assert refusal.value.code == "shopify_payments_missing"


@pytest.mark.parametrize(
    ("base_url", "site"),
    [
        ("https://acme/", "https://acme.myshopify.com/admin/api/2026-10"),
        ("https://acme.myshopify.com/", "https://acme.myshopify.com/admin/api/2026-10"),
        ("http://127.0.0.1:8400/shopify/", "http://127.0.0.1:8400/shopify/admin/api/2026-10"),
        ("https://proxy.example.com/acme/", "https://proxy.example.com/acme/admin/api/2026-10"),
    ],
)
def test_a_shop_is_addressed_by_name_and_any_other_address_is_kept(base_url: str, site: str) -> None:
    assert admin_site(base_url) == site


def test_a_page_instead_of_an_answer_is_transient_and_asked_for_again(
    shopify: ShopifyClient, store: SandboxUnderTest
) -> None:
    store.fault("shopify", status=200, body="<html>Just a moment</html>")
    assert shopify.shop().currency == "USD"


UNREADABLE: list[Any] = ["<html>Just a moment</html>", "[]", {}, {"data": None}]


@pytest.mark.parametrize("body", UNREADABLE, ids=str)
def test_an_answer_without_data_is_transient_and_has_a_code(
    shopify: ShopifyClient, store: SandboxUnderTest, body: Any
) -> None:
    store.fault("shopify", status=200, body=body, times=None)
    with pytest.raises(TransientError) as refusal:
        shopify.shop()
    assert refusal.value.code == "shopify_answer_unreadable"


THROTTLED = {"message": "Throttled", "extensions": {"code": "THROTTLED"}}


def test_throttling_without_its_cost_waits_like_any_transient_failure(
    shopify: ShopifyClient, store: SandboxUnderTest, clock: SetClock
) -> None:
    store.fault("shopify", status=200, body={"errors": [THROTTLED]})
    assert shopify.shop().currency == "USD"
    assert clock() > NOW
    store.fault("shopify", status=200, body={"errors": [THROTTLED], "extensions": {"cost": {}}}, times=None)
    with pytest.raises(TransientError) as refusal:
        shopify.shop()
    assert refusal.value.code == "shopify_throttled"


def test_an_error_that_is_only_a_sentence_is_told_in_shopifys_words(
    shopify: ShopifyClient, store: SandboxUnderTest
) -> None:
    store.fault("shopify", status=200, body={"errors": "Invalid API version"})
    with pytest.raises(PermanentError, match="Invalid API version"):
        shopify.shop()
