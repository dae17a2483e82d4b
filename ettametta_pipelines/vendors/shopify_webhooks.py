"""Webhook subscriptions of our app in the Shopify store: which there are, and making one.

Shopify deletes a subscription whose endpoint fails for four hours, so they are looked after every night
(`operations/webhook_assets.py`).
"""

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.vendors.shopify import ShopifyClient

# Topic -> what is heard about it. Messages carry ids only: what they are about is read from the API.
TOPICS = ("ORDERS_PAID", "REFUNDS_CREATE", "APP_UNINSTALLED")
INCLUDED_FIELDS = ["id"]
_TAKEN = "already been taken"

SUBSCRIPTIONS_QUERY = """
query WebhookSubscriptions($after: String) {
  webhookSubscriptions(first: 100, after: $after) {
    nodes { id topic uri }
    pageInfo { hasNextPage endCursor }
  }
}
"""
SUBSCRIBE_MUTATION = """
mutation Subscribe($topic: WebhookSubscriptionTopic!, $subscription: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $subscription) {
    webhookSubscription { id }
    userErrors { field message }
  }
}
"""


class ShopifyWebhooks(ShopifyClient):
    """The app's subscriptions in one store. Raises PipelineError subclasses only."""

    def subscribed(self, uri: str) -> set[str]:
        """Topics that are sent to this address."""
        topics, cursor = set[str](), None
        while True:
            variables = {"after": cursor}
            listing = self._query("list webhook subscriptions", SUBSCRIPTIONS_QUERY, variables)[
                "webhookSubscriptions"
            ]
            topics |= {node["topic"] for node in listing["nodes"] if node["uri"] == uri}
            if not listing["pageInfo"]["hasNextPage"]:
                return topics
            cursor = listing["pageInfo"]["endCursor"]

    def subscribe(self, topic: str, uri: str) -> None:
        """Have a topic sent to this address. Asked twice, as after a lost answer, there is one subscription."""
        variables = {
            "topic": topic,
            "subscription": {"uri": uri, "format": "JSON", "includeFields": INCLUDED_FIELDS},
        }
        answer = self._query(f"subscribe to {topic}", SUBSCRIBE_MUTATION, variables)
        errors = [error["message"] for error in answer["webhookSubscriptionCreate"]["userErrors"]]
        if errors and not all(_TAKEN in said for said in errors):
            raise NeedsPersonError(
                f"Shopify did not take the subscription to {topic}: {'; '.join(errors)}",
                code="shopify_subscription_refused",
                remedy="Look at PRODUCTION_DOMAIN, which must be a public https address, and at the app's scopes.",
            )


def subscribe_missing(client: ShopifyWebhooks, uri: str) -> list[str]:
    """Have every topic sent to this address; those that were missing."""
    missing = sorted(set(TOPICS) - client.subscribed(uri))
    for topic in missing:
        client.subscribe(topic, uri)
    return missing
