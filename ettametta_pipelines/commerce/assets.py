"""Assets of commerce: what the shop sells, the affiliate links, and which of them suits which niche. Thin."""

from datetime import date, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.commerce.contracts import AFFILIATE_LINKS, PRODUCT_MATCHES, SHOPIFY_PRODUCTS
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import LakeResource, ShopifyResource, StateResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import DAY
from ettametta_pipelines.settings import get_settings

GROUP = "commerce"


@table_asset(
    SHOPIFY_PRODUCTS,
    group_name=GROUP,
    kinds={"shopify"},
    description="""
Everything the shop has, one row per product: price in minor units of the shop's currency, stock, tags, page in the
online store. The price is the lowest of the variants that can be bought now, the stock the sum of those the shop
counts. Each run reads the whole shop (page by page, a large one by a bulk export), so that what was removed there is
gone here. Posts offer only what is active, for sale, and has a price and a page.

**If it fails:** the table keeps what the last run read. *shopify_access_denied* and *shopify_unauthorized* need a look
at the app's scope `read_products` and at SHOPIFY_ACCESS_TOKEN; a shop that does not answer is tried again by itself.
""",
)
def shopify_products(
    context: dg.AssetExecutionContext, shopify: ShopifyResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.commerce import report
    from ettametta_pipelines.commerce.products import product_rows

    with failure_policy(context):
        shelf = shopify.shelf()
        shop = shelf.shop()
        read = shelf.read(shop.currency)
        rows = product_rows(read.products, shop.currency)
    return dg.MaterializeResult(
        value=SHOPIFY_PRODUCTS.frame(rows),
        metadata={
            "vendor": get_settings().endpoint("shopify").standing,
            "shop": shop.domain,
            "currency": shop.currency,
            "read_by": read.way,
            "sold_out": sum(row["status"] == "active" and not row["for_sale"] for row in rows),
            **report.counts_by_status(rows),
            "products": dg.MetadataValue.md(report.products_table(rows)),
        },
    )


@table_asset(
    AFFILIATE_LINKS,
    group_name=GROUP,
    kinds={"python"},
    deps=[dg.AssetDep("affiliate_earnings", partition_mapping=dg.AllPartitionMapping())],
    description="""
The affiliate links that operators keep on the gateway's page Links, with what each brought: clicks of people (crawlers,
previews and repeated clicks are counted apart) and the networks' commissions, approved and pending, by currency. A
sale finds its link by our code, which the network gives back as its sub-id.

**If it fails:** *bad_networks_file* names the field to correct; else the state database did not answer, and the next
run reads it. Links and clicks are in the state and lose nothing.
""",
)
def affiliate_links(
    context: dg.AssetExecutionContext, state: StateResource, lake: LakeResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.commerce import report
    from ettametta_pipelines.commerce.performance import earnings_by_code

    settings = get_settings()
    with failure_policy(context), lake.open() as tables:
        rows = report.link_rows(state.open(), earnings_by_code(tables))
    return dg.MaterializeResult(
        value=AFFILIATE_LINKS.frame(rows),
        metadata={
            "active": sum(row["status"] == "active" for row in rows),
            "retired": sum(row["status"] == "retired" for row in rows),
            "clicks": sum(row["clicks"] for row in rows),
            "machine_requests": sum(row["machine_requests"] for row in rows),
            "links": dg.MetadataValue.md(report.links_table(rows, settings.gateway_url)),
            "edit": dg.MetadataValue.url(f"{settings.gateway_url}/links"),
        },
    )


@table_asset(
    PRODUCT_MATCHES,
    partitions_def=DAY,
    group_name=GROUP,
    kinds={"scikitlearn", "python"},
    deps=[
        "shopify_products",
        "affiliate_links",
        "creative_briefs",
        dg.AssetDep("shopify_orders", partition_mapping=dg.AllPartitionMapping()),
    ],
    description="""
Which product of the shop, and which link of each account, suits each niche: by the words they share with the niche and
the day's briefs, then by price, stock and sales per click. Each row says which words, and what each part gave. The best
above the threshold is *chosen*: posts of the niche offer it, on channels whose policy has `offers` (channels.yaml).
Nothing above it means that nothing is offered. Drafts, sold-out, unpriced and unlisted products are never looked at; a
link that names niches is offered in those alone.

**If it fails:** posts go on offering what was chosen before. *bad_niches_file* and *bad_networks_file* name the field.
A day gone by is computed and shown, but changes no offer once a later day was matched.
""",
)
def product_matches(
    context: dg.AssetExecutionContext, state: StateResource, lake: LakeResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.commerce import links, matching, report
    from ettametta_pipelines.commerce.networks import load_networks
    from ettametta_pipelines.commerce.performance import (
        clicks_by_code,
        earned_by,
        earnings_by_code,
        orders_by_code,
    )
    from ettametta_pipelines.discovery.niches import load_niches

    settings, day = get_settings(), date.fromisoformat(context.partition_key)
    with failure_policy(context), lake.open() as tables:
        db, niches = state.open(), load_niches(settings.niches_file)
        earnings = earnings_by_code(tables)
        brought = matching.brought_by(
            db,
            clicks_by_code(db),
            {code: earned_by([code], earnings).sales for code in earnings},
            orders_by_code(db, tables, timedelta(days=settings.attribution_window_days)),
        )
        candidates = [
            *matching.products_on_offer(
                tables.rows("SELECT * FROM shopify_products ORDER BY product_id"), brought
            ),
            *matching.links_on_offer(links.listed(db), brought, load_networks(settings)),
        ]
        briefs: dict[str, list[dict[str, Any]]] = {niche: [] for niche in niches}
        for brief in tables.rows(BRIEFS_SQL, {"day": day}):
            briefs.setdefault(brief["niche"], []).append(brief)
        texts = {slug: matching.text_of_niche(niche, briefs[slug]) for slug, niche in niches.items()}
        rows = matching.match(day, texts, candidates)
        took_effect = matching.keep_choice(db, day, rows, candidates)
    chosen = [row for row in rows if row["chosen"]]
    return dg.MaterializeResult(
        value=PRODUCT_MATCHES.frame(rows),
        metadata={
            "candidates": len(candidates),
            "chosen": len(chosen),
            "niches_without": ", ".join(sorted(set(niches) - {row["niche"] for row in chosen})) or "none",
            "takes_effect": took_effect or "no: a later day was matched already",
            "matches": dg.MetadataValue.md(report.matches_table(rows, niches)),
        },
    )


BRIEFS_SQL = (
    "SELECT niche, broll_keywords, hashtags FROM creative_briefs WHERE day = $day ORDER BY niche, brief_id"
)
ASSETS = [shopify_products, affiliate_links, product_matches]
