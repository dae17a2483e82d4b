"""Tables of the billing room. Declarations only."""

from ettametta_pipelines.storage.contracts import Column, TableContract

ACCOUNT_ENTITLEMENTS = TableContract(
    "account_entitlements",
    "One row per account: its tier and why, the videos of its running period, and when Stripe was last read for it.",
    columns=(
        Column("account", "string", "Account"),
        Column("mode", "string", "sandbox or live: which Stripe this is about"),
        Column("tier", "string", "Tier that counts now"),
        Column("status", "string", "The subscription's status at Stripe; none if there never was one"),
        Column("why", "string", "Why this tier counts now"),
        Column("until", "timestamp", "When that changes by itself, as far as is known", nullable=True),
        Column("next_tier", "string", "Tier that follows when the paid period ends", nullable=True),
        Column("awaiting_tier", "string", "Tier whose invoice is not paid yet", nullable=True),
        Column("grace_until", "timestamp", "Until when an overdue payment changes nothing", nullable=True),
        Column("hold_reason", "string", "disputed or refunded, while that holds the account", nullable=True),
        Column("period_start", "timestamp", "Start of the running period of videos (UTC)"),
        Column("period_end", "timestamp", "Its end"),
        Column("used", "int64", "Videos delivered in it"),
        Column("reserved", "int64", "Videos being made"),
        Column("limit", "int64", "Videos the tier gives a period; for unlimited tiers, their fair use"),
        Column("unlimited", "bool", "Whether the limit is fair use only"),
        Column("released", "int64", "Videos that failed for good and cost nothing"),
        Column("customer_id", "string", "Customer at Stripe", nullable=True),
        Column("subscription_id", "string", "Subscription at Stripe", nullable=True),
        Column("read_at", "timestamp", "When Stripe was last read for this account", nullable=True),
        Column("read_because", "string", "What made us read: an event, the reconciliation, a change", nullable=True),
        Column("observed_at", "timestamp", "When this row was made"),
    ),
    key=("account",),
)  # fmt: skip

VIDEO_SLOTS = TableContract(
    "video_slots",
    "One row per source and period that holds or held a slot, of periods that ended in the last 62 days or run.",
    columns=(
        Column("account", "string", "Account"),
        Column("source_id", "string", "Source video"),
        Column("period_start", "timestamp", "Start of the period it counts in (UTC)"),
        Column("period_end", "timestamp", "Its end"),
        Column("state", "string", "reserved, consumed or released"),
        Column("reason", "string", "Why it was released, or consumed without a video", nullable=True),
        Column("run_id", "string", "Run that held it last"),
        Column("reserved_at", "timestamp", "When it was reserved"),
        Column("lease_until", "timestamp", "When it returns by itself, if its run never comes back"),
        Column("settled_at", "timestamp", "When it was consumed or released", nullable=True),
    ),
    key=("account", "source_id", "period_start"),
)

CONTRACTS: tuple[TableContract, ...] = (ACCOUNT_ENTITLEMENTS, VIDEO_SLOTS)
