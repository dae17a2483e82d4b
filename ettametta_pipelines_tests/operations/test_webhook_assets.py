"""The asset and the sensor of the webhooks, as an operator sees them."""

from datetime import timedelta
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.automation.webhook_inbox import webhook_inbox
from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.operations.webhook_assets import webhook_messages
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource, StripeResource
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state import inbox
from ettametta_pipelines.state.models import WebhookEvent
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.tables import ParquetTables
from ettametta_pipelines.vendors.shopify_webhooks import TOPICS, ShopifyWebhooks, subscribe_missing
from ettametta_pipelines_tests.conftest import SandboxUnderTest

SHOPIFY = "http://127.0.0.1:8000/webhooks/shopify"


@pytest.fixture
def db(settings_env: Settings) -> StateDatabase:
    return open_state(settings_env)


def look() -> tuple[dict[str, Any], dict[str, Any]]:
    """The asset materialized: its metadata, and why each check that failed did."""
    store = StoreResource()
    resources = {
        "store": store, "tables": ParquetTables(store.open, ALL_TABLES), "state": StateResource(),
        "stripe": StripeResource(),
    }  # fmt: skip
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([webhook_messages], instance=instance, resources=resources)
    (event,) = result.asset_materializations_for_node("webhook_messages")
    failed = {e.check_name: e.description for e in result.get_asset_check_evaluations() if not e.passed}
    return {name: value.value for name, value in event.metadata.items()}, failed


def tick(db: StateDatabase) -> Any:
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_sensor_context(instance=instance, resources={"state": StateResource()}) as context,
    ):
        return webhook_inbox(context)


def told(db: StateDatabase, event_id: str, kind: str, source: str = "shopify", body: str = "{}") -> None:
    inbox.store(db, [inbox.Message(source, event_id, kind, body)])


def test_the_table_counts_every_kind_and_says_which_have_an_effect(db: StateDatabase) -> None:
    for number in range(3):
        told(db, f"o{number}", "orders/paid")
    told(db, "x", "themes/update")
    metadata, _ = look()
    assert "| shopify | orders/paid | yes | 3 | 3 | 0 |" in metadata["kinds"]
    assert "| shopify | themes/update | – | 1 | 1 | 0 |" in metadata["kinds"]


def test_a_parked_message_fails_the_check_and_is_shown_with_its_reason(db: StateDatabase) -> None:
    told(db, "evt_1", "invoice.paid", "stripe", body="no JSON")
    for _ in range(3):
        assert isinstance(tick(db), dg.SkipReason)
        with db.session() as session:
            for row in session.query(WebhookEvent).filter(WebhookEvent.due_at.is_not(None)):
                row.due_at -= timedelta(hours=1)
    metadata, failed = look()
    assert failed["nothing_is_parked"] == "1 messages are parked."
    assert "| stripe | invoice.paid | evt\\_1 |" in metadata["parked"]
    assert "JSONDecodeError" in metadata["parked"]


def test_a_live_stripe_whose_events_did_not_arrive_fails_the_check(
    db: StateDatabase, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata, failed = look()
    assert metadata["recovered"] > 0
    assert "events_arrive" not in failed, "a sandbox tells nothing by itself"
    monkeypatch.setenv("STRIPE_SECRET_KEY", "sk_test_x")
    monkeypatch.setenv("STRIPE_BASE_URL", f"{sandbox.url}/stripe/")
    get_settings.cache_clear()
    assert "events_arrive" not in look()[1]
    key = {"Authorization": "Bearer sk_test_x"}
    customer = sandbox.http.post("/stripe/v1/customers", data={"name": "a"}, headers=key).json()["id"]
    prices = sandbox.http.get("/stripe/v1/prices?lookup_keys[0]=creator_usd", headers=key).json()["data"]
    sandbox.http.post(
        "/stripe/v1/subscriptions",
        headers=key,
        data={"customer": customer, "items[0][price]": prices[0]["id"]},
    ).raise_for_status()
    monkeypatch.setattr("ettametta_pipelines.billing.hearing.ON_THEIR_WAY", timedelta(minutes=-1))
    assert "events had not arrived and were fetched" in look()[1]["events_arrive"]


def test_a_stripe_that_is_away_fails_its_check_only(db: StateDatabase, sandbox: SandboxUnderTest) -> None:
    sandbox.fault("stripe", action="status", status=401, times=None, body={"error": {"message": "no"}})
    _, failed = look()
    assert "stripe_unauthorized" in failed["events_arrive"]


def test_w16_subscriptions_that_shopify_deleted_are_made_again_and_named(
    db: StateDatabase, settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    assert look()[0]["subscribed_again"] == ", ".join(sorted(TOPICS))
    assert look()[0]["subscribed_again"] == "none"
    told(db, "e-1:orders/paid", "orders/paid")
    sandbox.server._app.state.store.delete("shopify_webhook", f"ORDERS_PAID {SHOPIFY}")
    metadata, failed = look()
    assert metadata["subscribed_again"] == "ORDERS_PAID"
    assert "Shopify had deleted the subscriptions to ORDERS_PAID" in failed["store_tells_us"]
    assert ShopifyWebhooks(settings_env.endpoint("shopify")).subscribed(SHOPIFY) == set(TOPICS)


def test_a_subscription_whose_answer_was_lost_is_made_once(
    settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    sandbox.fault("shopify", method="POST", after=1, action="drop_after")
    client = ShopifyWebhooks(settings_env.endpoint("shopify"), sleep=lambda _: None)
    assert subscribe_missing(client, SHOPIFY) == sorted(TOPICS)
    assert len(sandbox.server._app.state.store.items("shopify_webhook")) == len(TOPICS)


def test_money_that_moved_in_the_shop_has_the_books_read_again_once_an_hour(db: StateDatabase) -> None:
    for number in range(3):
        told(db, f"o{number}", "orders/paid")
    (request,) = tick(db).run_requests
    assert request.run_key.startswith("told:")
    assert {"dagster/asset_partition_range_start", "dagster/asset_partition_range_end"} <= set(request.tags)
    told(db, "o9", "orders/paid")
    assert tick(db).run_requests[0].run_key == request.run_key
    assert "No message waits." in str(tick(db).skip_message)


def test_the_sensor_says_what_it_did(db: StateDatabase) -> None:
    told(db, "1", "themes/update")
    assert tick(db).skip_message == "1 messages applied, 0 to be tried again, 0 parked."
