"""The commerce assets as Dagster runs them, against the sandboxed shop."""

import dagster as dg

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.commerce import links
from ettametta_pipelines.commerce.assets import ASSETS
from ettametta_pipelines.commerce.links import LinkFields
from ettametta_pipelines.orchestration.resources import (
    LakeResource,
    ShopifyResource,
    StateResource,
    StoreResource,
)
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.storage.parquet import read_table
from ettametta_pipelines.storage.tables import ParquetTables

DAY = "2026-11-20"


def materialize(*selection: str, day: str | None = None) -> dg.ExecuteInProcessResult:
    store = StoreResource()
    return dg.materialize(
        ASSETS,
        selection=list(selection),
        partition_key=day,
        resources={
            "store": store, "state": StateResource(), "lake": LakeResource(), "shopify": ShopifyResource(),
            "tables": ParquetTables(store.open, ALL_TABLES),
        },
    )  # fmt: skip


def test_the_shop_is_read_and_a_niche_is_offered_what_suits_it(settings_env: Settings) -> None:
    fields = LinkFields("Trail shoes", "impact", "https://m.example.com/x", ("fitness",))
    link = links.create(open_state(settings_env), "acme", fields, by="ann")
    assert materialize("shopify_products", "affiliate_links").success
    assert materialize("product_matches", day=DAY).success
    rows = read_table(open_store(settings_env), ALL_TABLES["product_matches"], DAY).to_dict("records")
    assert {row["kind"] for row in rows} == {"product", "link"}
    assert [row["niche"] for row in rows if row["item_id"] == link.id and row["chosen"]] == ["fitness"]
