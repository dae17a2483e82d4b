"""Tables of what videos earn and cost, and their checks: YouTube's revenue, journeys, costs, attribution, margin.

Declarations only. Money is whole minor units or millionths (`_micro`) beside its currency; currencies are never added.
"""

from ettametta_pipelines.storage.contracts import Column, TableContract

_LIVEMODE = Column("livemode", "bool", "True for real money; false for test keys and the sandbox")

YOUTUBE_REVENUE = TableContract(
    "youtube_revenue",
    "What connected YouTube channels earned by day and video, every revision kept; estimates apart from finals",
    (
        Column("day", "date", "YouTube's day (Pacific)"),
        Column("account", "string", "Account whose channel it is"),
        Column("channel_id", "string", "Channel on YouTube"),
        Column("video_id", "string", "Video on YouTube; (rest) for all that are no posts of ours"),
        Column("source_id", "string", "Source video the post was made from", nullable=True),
        Column("publication_id", "string", "Row of the publication ledger", nullable=True),
        Column("basis", "string", "estimated, or finalised: read after its month was closed"),
        Column("revision", "int64", "Of the channel's day on this basis, from 1"),
        Column("amount_micro", "int64", "As told, net of YouTube's share, in millionths of the currency"),
        Column("booked_minor", "int64", "Its part of the channel's day in the books; 0 while estimated"),
        Column("currency", "string", "ISO 4217 code"),
        Column("exponent", "int64", "Decimals of the currency"),
        _LIVEMODE,
        Column("valid_from", "timestamp", "When this was told"),
        Column("valid_to", "timestamp", "When it was replaced; empty for what holds", nullable=True),
    ),
    key=("day", "channel_id", "video_id", "basis", "revision"),
    partitioned_by=("day",),
)

SHOPIFY_ORDERS = TableContract(
    "shopify_orders",
    "Orders of the store with the visits that led to them; no money and no customer",
    (
        Column("day", "date", "Business day of the order"),
        Column("order_id", "string", "Order at Shopify"),
        Column("order_name", "string", "Its number as people see it"),
        Column("ordered_at", "timestamp", "When it was placed"),
        Column(
            "is_ready",
            "bool",
            "Whether Shopify has the visits together; before that they are looked at again",
        ),
        Column(
            "visits",
            "string",
            "JSON [[instant, utm_source, utm_medium, utm_campaign, utm_content], ...], oldest first",
        ),
        _LIVEMODE,
        Column("fetched_at", "timestamp", "When it was read"),
    ),
    key=("order_id",),
    partitioned_by=("day",),
)

CONTENT_COSTS = TableContract(
    "content_costs",
    "What paid calls cost by video, niche and day; what is of neither is unassigned, so that all spending is here",
    (
        Column("day", "date", "Business day the call was claimed on"),
        Column("claim_id", "string", "Claim on the account's money"),
        Column("share_no", "int64", "Numbers the videos that share one call, from 1"),
        Column("mode", "string", "live, or sandbox for play money"),
        Column("account", "string", "Account that paid"),
        Column("bucket", "string", "source, niche or unassigned"),
        Column("source_id", "string", "Source video it was spent for", nullable=True),
        Column("niche", "string", "Niche it was spent for", nullable=True),
        Column("kind", "string", "What was bought: assessment, brief, voice_over and so on"),
        Column("vendor", "string", "Who was paid"),
        Column("subject", "string", "What was asked about, in the buyer's words"),
        Column("state", "string", "reserved, settled, parked or released"),
        Column("cost_microusd", "int64", "What it cost, in millionths of a US dollar"),
        Column("open_microusd", "int64", "Set aside while it is not settled"),
    ),
    key=("claim_id", "share_no"),
    partitioned_by=("day",),
)

_WHERE = (
    Column("account", "string", "Account whose video it is", nullable=True),
    Column("source_id", "string", "Source video; empty where unattributed", nullable=True),
    Column("publication_id", "string", "Post that brought it, where one is known", nullable=True),
    Column("platform", "string", "Platform of the post", nullable=True),
    Column("channel_id", "string", "Channel of the post", nullable=True),
    Column("niche", "string", "Niche of the source video", nullable=True),
    Column("format", "string", "9x16, 16x9 or 1x1", nullable=True),
    Column("recipe", "string", "Recipe of the posted rendition", nullable=True),
)

REVENUE_ATTRIBUTION = TableContract(
    "revenue_attribution",
    "Booked revenue by what brought it, with what nothing of ours is known to have brought; adds up to the books",
    (
        Column("day", "date", "Day it is booked on"),
        Column("source", "string", "stripe, shopify, youtube or affiliate"),
        Column("currency", "string", "ISO 4217 code"),
        Column("exponent", "int64", "Decimals of the currency"),
        Column("item_id", "string", "Order, video or commission; (rest) for what has no such thing"),
        Column("share_no", "int64", "Numbers the parts of one item on one day"),
        *_WHERE,
        Column("rule", "string", "video, last_touch, first_touch, linear, code, or none"),
        Column("reason", "string", "Why it is unattributed; empty where it is", nullable=True),
        Column("gross_minor", "int64", "Part of gross, in minor units"),
        Column("fee_minor", "int64", "Part of fees"),
        Column("net_minor", "int64", "gross - fee"),
        _LIVEMODE,
    ),
    key=("day", "source", "currency", "item_id", "share_no"),
    partitioned_by=("day",),
)

CONTENT_MARGIN = TableContract(
    "content_margin",
    "What videos, niches, formats, recipes, filters and platforms earned and cost over a window that ends on a day",
    (
        Column("day", "date", "Last day of the window"),
        Column("mode", "string", "live, or sandbox for play money"),
        Column("dimension", "string", "video, niche, format, recipe, filter or platform"),
        Column("value", "string", "Which of them; (unattributed), (shared) or (unknown) for what is of none"),
        Column("currency", "string", "ISO 4217 code; costs are USD alone"),
        Column("revenue_micro", "int64", "Net revenue in millionths of the currency"),
        Column("cost_micro", "int64", "Cost in millionths of the currency; 0 in other currencies than USD"),
        Column("margin_micro", "int64", "revenue - cost"),
        Column("videos", "int64", "Videos behind it"),
        Column("earning_videos", "int64", "Of these, with any revenue"),
        Column("mean_margin", "float64", "Margin per video, in units of the currency", nullable=True),
        Column("low", "float64", "Lower end of its 95 % interval; empty below five videos", nullable=True),
        Column("high", "float64", "Upper end", nullable=True),
        Column("verdict", "string", "earns, loses, unclear, or too few"),
    ),
    key=("day", "mode", "dimension", "value", "currency"),
    partitioned_by=("day",),
)

MARGIN_CONTRACTS: tuple[TableContract, ...] = (
    YOUTUBE_REVENUE,
    SHOPIFY_ORDERS,
    CONTENT_COSTS,
    REVENUE_ATTRIBUTION,
    CONTENT_MARGIN,
)

# Names and meaning of the checks, for the UI.
COST_CHECKS = {
    "costs_equal_claims": "Every claim's cost is in the table once, to the millionth of a dollar.",
    "claims_equal_spending": "What accounts are counted to have spent in the month is what their claims come to.",
}
ATTRIBUTION_CHECKS = {
    "attribution_adds_up": "Per day, source and currency, what is attributed and what is not add up to the books.",
    "refunds_follow_their_order": "What was refunded was taken from the videos the order went to, to the unit.",
}
MARGIN_CHECKS = {
    "margin_adds_up": "For every dimension that divides, revenue is what was attributed and cost what was spent.",
}
