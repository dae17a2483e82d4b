"""Tables of the revenue room: what the payment services said, one ledger per service, and the marts over them.

Money is whole minor units beside its currency and exponent. A row belongs to the business day it was
posted on.
"""

from ettametta_pipelines.revenue.margin_contracts import MARGIN_CONTRACTS
from ettametta_pipelines.storage.contracts import Column, TableContract

# What the books say. Fetching a closed day again gives these columns the same values.
_BUSINESS = (
    Column("day", "date", "Posting date: the business day the row was posted on"),
    Column("source", "string", "Service whose ledger it is: stripe or shopify"),
    Column("entry_id", "string", "Balance transaction at the service"),
    Column("type", "string", "Type in the service's words"),
    Column("reporting_category", "string", "Accounting category in Stripe's words, for both services"),
    Column("booking_class", "string", "revenue, cost, transfer, test or unclassified"),
    Column(
        "amount_minor", "int64", "Gross, in minor units of the settlement currency; money out is negative"
    ),
    Column("fee_minor", "int64", "The service's fee"),
    Column("net_minor", "int64", "What the balance changed by: amount - fee"),
    Column("currency", "string", "ISO 4217 code of the settlement currency"),
    Column("exponent", "int64", "Decimals of the currency: 2 for USD, 0 for JPY"),
    Column(
        "fee_details", "string", "Parts of the fee as JSON [[type, minor], ...]; Stripe only", nullable=True
    ),
    Column("source_object_id", "string", "Charge, refund, dispute or payout behind the row", nullable=True),
    Column(
        "presented_minor", "int64", "What the customer saw, in minor units of its currency", nullable=True
    ),
    Column("presented_currency", "string", "Currency the customer saw", nullable=True),
    Column("exchange_rate", "string", "The service's own rate, as it wrote it", nullable=True),
    Column("occurred_at", "timestamp", "Instant the service posted it"),
    Column("business_timezone", "string", "Zone whose midnights bound the day"),
    Column("livemode", "bool", "True for real money; false for test keys, test rows and the sandbox"),
)

# How far the money has travelled; these change until it is at the bank.
_SETTLEMENT = (
    Column("available_on", "timestamp", "When the money can be paid out", nullable=True),
    Column("status", "string", "State at the time of fetching, in the service's words", nullable=True),
    Column(
        "payout_id",
        "string",
        "Payout that took it to the bank, if there was one when the row was read",
        nullable=True,
    ),
    Column("fetched_at", "timestamp", "When this row was read"),
    Column("order_id", "string", "Order behind it; Shopify only", nullable=True),
)

BUSINESS_COLUMNS = tuple(column.name for column in _BUSINESS)


def _raw(source: str, title: str) -> TableContract:
    return TableContract(
        f"{source}_raw",
        f"What {title} said, as received: every version of every object, never changed once written",
        (
            Column("day", "date", "Business day of the object when it was first filed"),
            Column("kind", "string", "entries for movements of the balance, others for all else"),
            Column(
                "batch", "string", "The reading that brought it: its time and a digest of what it brought"
            ),
            Column(
                "object_type",
                "string",
                "balance_transaction, payout, payout_rows (what a payout paid), dispute, balance, or reading: the "
                "note that the day was read",
                few_values=True,
            ),
            Column("object_id", "string", "The service's id"),
            Column("occurred_at", "timestamp", "Instant the service gives the object"),
            Column("fetched_at", "timestamp", "When this version was first seen"),
            Column("livemode", "bool", "Read with a key for real money"),
            Column("payload_sha256", "string", "SHA-256 of the payload; `gone` when it was no longer listed"),
            Column("facts", "string", "What the books take from it, as JSON", nullable=True),
            Column(
                "about",
                "string",
                "Id, status and amounts of the object behind a movement, or of the object itself, as JSON",
                nullable=True,
            ),
            Column(
                "payload", "string", "The object's JSON; null when it was no longer listed", nullable=True
            ),
        ),
        key=("object_type", "object_id"),
        partitioned_by=("day", "kind", "batch"),
    )


STRIPE_RAW = _raw("stripe", "Stripe")
SHOPIFY_RAW = _raw("shopify", "Shopify")

STRIPE_LEDGER = TableContract(
    "stripe_ledger",
    "Every movement of the Stripe balance, by posting date",
    (*_BUSINESS, *_SETTLEMENT),
    key=("entry_id",),
    partitioned_by=("day",),
)

SHOPIFY_LEDGER = TableContract(
    "shopify_ledger",
    "Every movement of the Shopify Payments balance, by posting date",
    (*_BUSINESS, *_SETTLEMENT),
    key=("entry_id",),
    partitioned_by=("day",),
)

DAILY_REVENUE = TableContract(
    "daily_revenue",
    "What was earned per business day, service and currency; transfers to the bank stand beside it, not in it",
    (
        Column("day", "date", "Business day"),
        Column("source", "string", "Service: stripe, shopify or youtube"),
        Column("currency", "string", "ISO 4217 code; currencies are never added up"),
        Column("exponent", "int64", "Decimals of the currency"),
        Column("gross_minor", "int64", "Charges less refunds, disputes and adjustments"),
        Column("fee_minor", "int64", "Fees on any row, and costs the service booked on their own"),
        Column("net_minor", "int64", "gross - fee"),
        Column("refunds_minor", "int64", "Part of gross that is refunds; negative"),
        Column("disputes_minor", "int64", "Part of gross that is disputes and their reversals"),
        Column("transactions", "int64", "Rows that count as revenue or cost"),
        Column("transfers_minor", "int64", "Payouts and other moves of our own money; not revenue"),
        Column("transfers", "int64", "Rows that are transfers"),
        Column("business_timezone", "string", "Zone whose midnights bound the day"),
        Column("livemode", "bool", "True when every row is real money"),
    ),
    key=("day", "source", "currency"),
    partitioned_by=("day",),
)

LEDGER_RECONCILIATION = TableContract(
    "ledger_reconciliation",
    "Every payout posted on a day beside the sum of what it paid",
    (
        Column("day", "date", "Posting day of the payout"),
        Column("source", "string", "Service: stripe or shopify"),
        Column("payout_id", "string", "Payout at the service"),
        Column("currency", "string", "ISO 4217 code"),
        Column("exponent", "int64", "Decimals of the currency"),
        Column("amount_minor", "int64", "What went to the bank; negative when money was fetched from there"),
        Column(
            "rows_listed", "int64", "Movements the payout paid; null while it is not itemised", nullable=True
        ),
        Column("paid_minor", "int64", "Sum of their net", nullable=True),
        Column("difference_minor", "int64", "amount - paid: zero when the books agree", nullable=True),
        Column("standing", "string", "agrees, differs, not itemised yet, or history incomplete"),
    ),
    key=("source", "payout_id"),
    partitioned_by=("day",),
)

_AFFILIATE = (
    Column("status", "string", "pending, approved, declined or reversed, in the network's last word"),
    Column("amount_minor", "int64", "Commission in minor units; negative when it was taken back"),
    Column("currency", "string", "ISO 4217 code"),
    Column("exponent", "int64", "Decimals of the currency"),
    Column(
        "link_id", "string", "Affiliate link that was followed, as we named it to the network", nullable=True
    ),
    Column("order_id", "string", "Order at the merchant", nullable=True),
    Column("occurred_at", "timestamp", "When the sale was made"),
)

AFFILIATE_RAW = TableContract(
    "affiliate_raw",
    "What affiliate networks said, as imported or called back: never changed once written",
    (
        Column("day", "date", "Business day of the sale"),
        Column("batch", "string", "The import or postback that brought it, by a digest of its content"),
        Column("network", "string", "Affiliate network"),
        Column(
            "transaction_id", "string", "The network's id, or hash of the file and line where it gives none"
        ),
        *_AFFILIATE,
        Column("received_at", "timestamp", "When it was imported or called back"),
        Column("file", "string", "Name of the imported file, or postback"),
    ),
    key=("network", "transaction_id"),
    partitioned_by=("day", "batch"),
)

AFFILIATE_EARNINGS = TableContract(
    "affiliate_earnings",
    "Commissions by the day of the sale, in the networks' last word; different statuses are never added up",
    (
        Column("day", "date", "Business day of the sale"),
        Column("network", "string", "Affiliate network"),
        Column(
            "transaction_id", "string", "The network's id, or hash of the file and line where it gives none"
        ),
        *_AFFILIATE,
        Column("business_timezone", "string", "Zone whose midnights bound the day"),
        Column("received_at", "timestamp", "When the network's last word came"),
        Column("file", "string", "Name of the imported file, or postback"),
    ),
    key=("network", "transaction_id"),
    partitioned_by=("day",),
)

CONTRACTS = (
    AFFILIATE_RAW,
    AFFILIATE_EARNINGS,
    STRIPE_RAW,
    SHOPIFY_RAW,
    STRIPE_LEDGER,
    SHOPIFY_LEDGER,
    DAILY_REVENUE,
    LEDGER_RECONCILIATION,
    *MARGIN_CONTRACTS,
)
