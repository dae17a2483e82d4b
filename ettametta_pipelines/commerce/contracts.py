"""Tables of commerce: what the shop sells, the affiliate links, and which of them suits which niche."""

from ettametta_pipelines.storage.contracts import Column, TableContract

SHOPIFY_PRODUCTS = TableContract(
    "shopify_products",
    "Every product of the shop, its variants reduced to one row",
    (
        Column("product_id", "string", "Shopify's id, gid://shopify/Product/..."),
        Column("title", "string", "Title as the shop has it, one line"),
        Column("handle", "string", "Its name in the shop's addresses"),
        Column("description", "string", "Description as plain text, cut at 2000 characters"),
        Column("product_type", "string", "Type as the shop calls it; empty without one"),
        Column("vendor", "string", "Vendor as the shop calls it"),
        Column("tags", "string_list", "Tags, in the shop's order"),
        Column("status", "string", "active, draft or archived", few_values=True),
        Column("url", "string", "Page in the online store; empty where it is not shown there", nullable=True),
        Column(
            "price_minor", "int64",
            "Lowest price of the variants that can be bought now, else of all, in minor units; empty without variants",
            nullable=True,
        ),
        Column("price_to_minor", "int64", "Highest price of the same variants", nullable=True),
        Column("currency", "string", "ISO 4217 code of the shop", few_values=True),
        Column("exponent", "int64", "Decimals of the currency"),
        Column("stock", "int64", "Sum over the variants whose stock is counted; empty where none is", nullable=True),
        Column("for_sale", "bool", "Whether any variant can be bought now"),
        Column("variants", "int64", "How many variants it has"),
        Column("created_at", "timestamp", "When it was added to the shop (UTC)"),
        Column("updated_at", "timestamp", "When the shop last changed it (UTC)"),
    ),
    key=("product_id",),
)  # fmt: skip

AFFILIATE_LINKS = TableContract(
    "affiliate_links",
    "Every affiliate link with what it brought: clicks of people, and commissions by currency",
    (
        Column("link_id", "string", "Id of the link"),
        Column("account", "string", "Account that earns by it"),
        Column("label", "string", "What posts call it"),
        Column("network", "string", "Affiliate network, as in networks.yaml"),
        Column("target_url", "string", "Where it leads, without our code"),
        Column("niches", "string_list", "Niches it is for; empty for any it suits"),
        Column("commission_note", "string", "The operators' note"),
        Column("status", "string", "active or retired"),
        Column("codes", "string_list", "Its codes: the one outside of posts first, then one per post and platform"),
        Column("clicks", "int64", "Clicks of people, on all codes"),
        Column("machine_requests", "int64", "Requests of crawlers, previews and repeated clicks; not in clicks"),
        Column("sales", "int64", "Sales the network has told of and not taken back"),
        Column(
            "earned", "string",
            "Commissions as JSON [[currency, exponent, approved minor units, pending minor units], ...]",
        ),
        Column("created_at", "timestamp", "When it was created (UTC)"),
        Column("retired_at", "timestamp", "When it was retired (UTC)", nullable=True),
    ),
    key=("link_id",),
)  # fmt: skip

PRODUCT_MATCHES = TableContract(
    "product_matches",
    "The best products and links for each niche on a day, each with the parts of its score and the words behind it",
    (
        Column("day", "date", "Business day"),
        Column("niche", "string", "Niche slug"),
        Column("kind", "string", "product of the shop, or link of an account"),
        Column("item_id", "string", "product_id or link_id"),
        Column("account", "string", "Account of a link; empty for products", nullable=True),
        Column("label", "string", "Title of the product or label of the link"),
        Column("rank", "int64", "1 is the best of its kind (of its account) in the niche"),
        Column("chosen", "bool", "Whether posts of the niche offer it"),
        Column("score", "float64", "Ranked by: 0.80 text + 0.08 price + 0.04 stock + 0.08 conversion"),
        Column("text_score", "float64", "How far its words are those of the niche, 0..1; below 0.40 nothing is chosen"),
        Column("price_score", "float64", "1 at the shop's usual price, less the further from it; links have 0.5"),
        Column("stock_score", "float64", "1 where it is not counted or plenty"),
        Column("conversion_score", "float64", "0.5 is what all links do on average; shrunk towards it by few clicks"),
        Column("clicks", "int64", "Clicks of people so far"),
        Column("sales", "int64", "Sales told of; empty where nobody tells", nullable=True),
        Column("words", "string_list", "The words of the niche it shares, the weightiest first"),
        Column("why", "string", "The match in words"),
    ),
    key=("niche", "kind", "item_id"),
    partitioned_by=("day",),
)  # fmt: skip

CONTRACTS: tuple[TableContract, ...] = (SHOPIFY_PRODUCTS, AFFILIATE_LINKS, PRODUCT_MATCHES)
