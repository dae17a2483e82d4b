"""The Shopify sandbox refuses what Shopify refuses, charges for queries, and keeps books that never change."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
import shopify

from ettametta_pipelines.sandbox.shopify_books import BOOKS_OPENED, rows_of
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc

NOW = utc("2026-11-20T12:00:00")
PAGE = """
query($first: Int, $after: String, $query: String, $reverse: Boolean) {
  shopifyPaymentsAccount {
    balanceTransactions(first: $first, after: $after, query: $query, reverse: $reverse) {
      nodes { id type transactionDate amount { amount } fee { amount } net { amount } associatedPayout { id status } }
      pageInfo { hasNextPage endCursor }
    }
  }
}
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxUnderTest]:
    """Shared by the tests that only look; time stands still, so what they spend of the bucket adds up."""
    with frozen_sandbox(tmp_path_factory.mktemp("store"), SetClock(NOW)) as running:
        yield running


@pytest.fixture
def clock() -> SetClock:
    return SetClock(NOW)


@pytest.fixture
def own_store(tmp_path: Path, clock: SetClock) -> Iterator[SandboxUnderTest]:
    """For a test that moves the clock or looks at the bucket."""
    with frozen_sandbox(tmp_path, clock) as running:
        yield running


def ask(store: SandboxUnderTest, document: str, **variables: Any) -> dict[str, Any]:
    answer = httpx.post(
        f"{store.url}/shopify/admin/api/2026-10/graphql.json",
        json={"query": document, "variables": variables},
        headers={"X-Shopify-Access-Token": "shpat_sandbox"},
    )
    assert answer.status_code == 200
    return answer.json()


def transactions(store: SandboxUnderTest, query: str, **variables: Any) -> list[dict[str, Any]]:
    nodes: list[dict[str, Any]] = []
    cursor = None
    while True:
        answer = ask(store, PAGE, query=query, after=cursor, **({"first": 100} | variables))
        listing = answer["data"]["shopifyPaymentsAccount"]["balanceTransactions"]
        nodes += listing["nodes"]
        if not listing["pageInfo"]["hasNextPage"]:
            return nodes
        cursor = listing["pageInfo"]["endCursor"]


@pytest.mark.parametrize("token", [None, "", "shppa_wrong"])
def test_a_missing_or_wrong_token_is_refused(store: SandboxUnderTest, token: str | None) -> None:
    headers = {} if token is None else {"X-Shopify-Access-Token": token}
    answer = httpx.post(
        f"{store.url}/shopify/admin/api/2026-10/graphql.json", json={"query": "{shop{id}}"}, headers=headers
    )
    assert answer.status_code == 401
    assert answer.json()["errors"].startswith("[API] Invalid API key or access token")


@pytest.mark.parametrize("version", ["2026-11", "v1"])
def test_a_version_that_is_no_quarter_is_not_found(store: SandboxUnderTest, version: str) -> None:
    headers = {"X-Shopify-Access-Token": "shpat_sandbox"}
    url = f"{store.url}/shopify/admin/api/{version}/graphql.json"
    assert httpx.post(url, json={"query": "{shop{id}}"}, headers=headers).status_code == 404


def test_the_unmodified_sdk_is_answered(store: SandboxUnderTest) -> None:
    session = shopify.Session("acme.myshopify.com", "2024-10", "shpat_sandbox")
    shopify.ShopifyResource.activate_session(session)
    shopify.ShopifyResource.site = f"{store.url}/shopify/admin/api/2024-10"
    try:
        assert json.loads(shopify.GraphQL().execute("{ shop { name } }"))["data"]["shop"]["name"]
    finally:
        shopify.ShopifyResource.clear_session()


def test_an_unknown_field_is_refused_with_its_name(store: SandboxUnderTest) -> None:
    (error,) = ask(store, "{ shop { nickname } }")["errors"]
    assert error["extensions"] == {"code": "undefinedField", "typeName": "Shop", "fieldName": "nickname"}


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("{ shop {", "Syntax Error"),
        ("{ shop { name(size: 3) } }", "Unknown argument"),
        ("query($a: Int!) { shop { name } }", "never used"),
        ("{ shopifyPaymentsAccount { balanceTransactions { nodes { id } } } }", "first or last"),
        (
            "{ shopifyPaymentsAccount { balanceTransactions(first: 251) { nodes { id } } } }",
            "between 1 and 250",
        ),
        ('{ shopifyPaymentsAccount { payouts(first: 1, after: "x") { nodes { id } } } }', "Invalid cursor"),
    ],
)
def test_a_wrong_query_is_refused_with_status_200(store: SandboxUnderTest, query: str, said: str) -> None:
    assert said in ask(store, query)["errors"][0]["message"]


def test_a_search_term_shopify_does_not_know_is_ignored_with_a_warning(store: SandboxUnderTest) -> None:
    answer = ask(store, PAGE, first=1, query="colour:red")
    assert answer["data"]["shopifyPaymentsAccount"]["balanceTransactions"]["nodes"]
    assert answer["extensions"]["search"][0]["warnings"][0]["code"] == "invalid_field"


def test_a_query_is_charged_by_what_it_returned(own_store: SandboxUnderTest) -> None:
    cost = ask(own_store, PAGE, first=100, query="processed_at:>='2026-11-19' processed_at:<'2026-11-20'")[
        "extensions"
    ]["cost"]
    assert cost["requestedQueryCost"] > 400
    assert cost["actualQueryCost"] < 40
    assert cost["throttleStatus"]["currentlyAvailable"] == 2000 - cost["actualQueryCost"]


def test_a_query_above_1000_points_is_refused(store: SandboxUnderTest) -> None:
    (error,) = ask(store, PAGE, first=250)["errors"]
    assert error["extensions"]["code"] == "MAX_COST_EXCEEDED"


def test_an_empty_bucket_throttles_and_the_clock_refills_it(
    own_store: SandboxUnderTest, clock: SetClock
) -> None:
    answers = [ask(own_store, PAGE, first=190) for _ in range(3)]
    throttled = answers[-1]
    assert throttled["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert throttled["extensions"]["cost"]["actualQueryCost"] is None
    clock.sleep(10)
    assert "errors" not in ask(own_store, PAGE, first=190)


def test_a_past_day_reads_the_same_at_any_later_time_but_for_its_payout(
    own_store: SandboxUnderTest, clock: SetClock
) -> None:
    window = "processed_at:>='2026-11-18T00:00:00Z' AND processed_at:<'2026-11-19T00:00:00Z'"
    then = transactions(own_store, window)
    clock.sleep(60 * 86_400)
    later = transactions(own_store, window)
    assert {node["associatedPayout"]["status"] for node in later} == {"PAID"}
    for node in (*then, *later):
        del node["associatedPayout"]
    assert then == later != []


def test_rows_that_arrive_between_pages_shift_nothing_in_either_direction(
    own_store: SandboxUnderTest, clock: SetClock
) -> None:
    for backwards in (False, True):
        whole = [
            node["id"] for node in transactions(own_store, "processed_at:>='2026-11-15'", reverse=backwards)
        ]
        first = ask(own_store, PAGE, first=5, query="processed_at:>='2026-11-15'", reverse=backwards)
        listing = first["data"]["shopifyPaymentsAccount"]["balanceTransactions"]
        clock.sleep(86_400)
        cursor = listing["pageInfo"]["endCursor"]
        rest = ask(
            own_store, PAGE, first=100, after=cursor, query="processed_at:>='2026-11-15'", reverse=backwards
        )
        seen = [n["id"] for n in listing["nodes"]]
        seen += [n["id"] for n in rest["data"]["shopifyPaymentsAccount"]["balanceTransactions"]["nodes"]]
        assert len(seen) == len(set(seen))
        assert set(whole) <= set(seen)


def test_every_payout_equals_the_net_of_its_rows(own_store: SandboxUnderTest) -> None:
    nodes = transactions(own_store, "processed_at:>='2026-10-19' processed_at:<'2026-11-16'")
    payouts = ask(
        own_store, "{ shopifyPaymentsAccount { payouts(first: 50) { nodes { id net { amount } } } } }"
    )
    amounts = {
        p["id"]: p["net"]["amount"] for p in payouts["data"]["shopifyPaymentsAccount"]["payouts"]["nodes"]
    }
    sums: dict[str, Decimal] = {}
    for node in nodes:
        payout = node["associatedPayout"]["id"]
        if node["type"] != "TRANSFER":
            sums[payout] = sums.get(payout, Decimal(0)) + Decimal(node["net"]["amount"])
    assert len(sums) == 4
    assert {payout: Decimal(amounts[payout]) for payout in sums} == sums


def test_every_day_has_an_order_in_its_first_seconds() -> None:
    days = [BOOKS_OPENED + timedelta(days=offset) for offset in range(330)]
    assert all(rows_of(20_260, day)[0].at.time().isoformat() == "00:00:05" for day in days)
