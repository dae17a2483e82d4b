"""Dagster resources: thin openers of the plain clients in `storage/`, `state/` and `vendors/`.

A resource holds no secret and does no work until a method is called; keys are taken from settings at that
moment, so nothing secret can appear in run configuration or in the UI. Imports of SDKs and drivers happen inside
the methods for the same reason definitions load quickly.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.settings import get_settings

if TYPE_CHECKING:
    from ettametta_pipelines.scoring.chain import Chain
    from ettametta_pipelines.state.session import StateDatabase
    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.vendors.pexels import PexelsClient
    from ettametta_pipelines.vendors.shopify import ShopifyClient
    from ettametta_pipelines.vendors.shopify_orders import ShopifyOrders
    from ettametta_pipelines.vendors.shopify_products import ShopifyShelf
    from ettametta_pipelines.vendors.stripe import StripeClient
    from ettametta_pipelines.vendors.stripe_billing import StripeBilling
    from ettametta_pipelines.vendors.tiktok import TikTokApp, TikTokCreator
    from ettametta_pipelines.vendors.youtube import YouTubeApp, YouTubeData


class StoreResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The object store (a directory or S3)."""

    def open(self) -> "ObjectStore":
        from ettametta_pipelines.storage.objects import open_store

        return open_store(get_settings())


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """DuckDB over every table in the store."""

    def open(self) -> "Lake":
        from ettametta_pipelines.storage.lake import open_lake

        return open_lake(get_settings(), ALL_TABLES)


class StateResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The relational state: publications, quotas, connections, uploads seen."""

    def open(self) -> "StateDatabase":
        from ettametta_pipelines.state.session import open_state

        return open_state(get_settings())


class YouTubeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """YouTube: public data by API key, and the app that channels are connected to."""

    def data(self) -> "YouTubeData":
        from ettametta_pipelines.vendors.youtube import YouTubeData

        return YouTubeData(get_settings().endpoint("youtube"))

    def app(self) -> "YouTubeApp":
        from ettametta_pipelines.vendors.youtube import YouTubeApp

        settings = get_settings()
        endpoint = settings.endpoint("google")
        token_url = settings.google_token_url if endpoint.mode == "live" else endpoint.base_url + "token"
        return YouTubeApp(endpoint, token_url=token_url)


class TikTokResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """TikTok: the app that creators are connected to."""

    def app(self) -> "TikTokApp":
        from ettametta_pipelines.vendors.tiktok import TikTokApp

        return TikTokApp(get_settings().endpoint("tiktok"))

    def creator(self, db: "StateDatabase", account: str) -> "TikTokCreator":
        """What TikTok shows of an account's own channel. Raises NeedsPersonError where its consent has ended."""
        from ettametta_pipelines.publishing.tokens import access_token

        app = self.app()
        return app.creator(access_token(db, app, account, "tiktok"))


class JudgesResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The models that judge and write (Gemini, OpenAI, Groq), paid from an account's daily budget."""

    def chain(self, models: Sequence[str], *, account: str) -> "Chain":
        from ettametta_pipelines.billing.spend_caps import cap_of
        from ettametta_pipelines.clock import utc_now
        from ettametta_pipelines.scoring.chain import open_chain
        from ettametta_pipelines.state.session import open_state

        settings = get_settings()
        db = open_state(settings)
        cap = cap_of(settings, db, account)
        return open_chain(settings, models, db, account=account, clock=utc_now, cap=cap)


class StripeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Stripe: the balance ledger, and the subscriptions it sells."""

    def client(self) -> "StripeClient":
        from ettametta_pipelines.vendors.stripe import StripeClient

        return StripeClient(get_settings().endpoint("stripe"))

    def billing(self) -> "StripeBilling":
        from ettametta_pipelines.vendors.stripe_billing import StripeBilling

        return StripeBilling(get_settings().endpoint("stripe"))


class ShopifyResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Shopify: its Payments' balance ledger, and the products of the store."""

    def client(self) -> "ShopifyClient":
        from ettametta_pipelines.vendors.shopify import ShopifyClient

        return ShopifyClient(get_settings().endpoint("shopify"))

    def shelf(self) -> "ShopifyShelf":
        from ettametta_pipelines.vendors.shopify_products import ShopifyShelf

        return ShopifyShelf(get_settings().endpoint("shopify"))

    def orders(self) -> "ShopifyOrders":
        from ettametta_pipelines.vendors.shopify_orders import ShopifyOrders

        return ShopifyOrders(get_settings().endpoint("shopify"))


class PexelsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Pexels' stock footage."""

    def client(self) -> "PexelsClient":
        from ettametta_pipelines.vendors.pexels import PexelsClient

        return PexelsClient(get_settings().endpoint("pexels"))
