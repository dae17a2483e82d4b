"""Webhook subscriptions of the sandboxed store: kept, listed, refused twice. Nothing is ever sent to them."""

from collections.abc import Callable
from typing import Any

from ettametta_pipelines.sandbox.core import SandboxStore

KIND = "shopify_webhook"
Json = dict[str, Any]


def subscription_root(store: SandboxStore, connection: Callable[..., Json]) -> Json:
    """What a query or mutation can reach of the subscriptions; `connection` makes pages as `shopify.py` does."""

    def subscriptions(info: Any, **arguments: Any) -> Json:
        kept = [value for _, value in store.items(KIND)]
        return connection(kept, arguments, lambda row: (row["number"], row["number"]), lambda row: row)

    def create(info: Any, topic: str, webhookSubscription: Json) -> Json:
        uri = webhookSubscription.get("uri") or ""
        key = f"{topic} {uri}"
        taken = store.get(KIND, key) is not None
        if taken or not uri.startswith(("https://", "http://127.0.0.1")):
            said = "Address for this topic has already been taken" if taken else "Address is invalid"
            errors = [{"field": ["webhookSubscription", "callbackUrl"], "message": said}]
            return {"webhookSubscription": None, "userErrors": errors}
        number = store.counter("shopify_webhooks")
        made = {
            "id": f"gid://shopify/WebhookSubscription/{number}", "number": number, "topic": topic, "uri": uri,
            "includeFields": webhookSubscription.get("includeFields") or [],
        }  # fmt: skip
        store.put(KIND, key, made)
        return {"webhookSubscription": made, "userErrors": []}

    return {"webhookSubscriptions": subscriptions, "webhookSubscriptionCreate": create}
