"""What each kind of ledger row is in the books: revenue, cost, or a transfer of our own money.

Tables only. A category that is not here is booked as `unclassified`, which stops the mart until someone
has placed it: guessing could count a loan as income. Called by `revenue/ledger.py`.
"""

REVENUE = "revenue"
COST = "cost"
TRANSFER = "transfer"
TEST = "test"
UNCLASSIFIED = "unclassified"

_BY_CLASS = {
    REVENUE: (
        "charge charge_failure refund refund_failure partial_capture_reversal dispute dispute_reversal "
        "platform_earning platform_earning_refund other_adjustment"
    ),
    COST: "fee network_cost tax contribution climate_order_purchase climate_order_refund",
    TRANSFER: (
        "payout payout_reversal transfer transfer_reversal topup topup_reversal connect_collection_transfer "
        "connect_reserved_funds risk_reserved_funds advance advance_funding anticipation_repayment "
        "financing_payout financing_payout_reversal financing_paydown financing_paydown_reversal "
        "issuing_authorization_hold issuing_authorization_release issuing_transaction issuing_dispute"
    ),
}
# By Stripe's reporting categories (docs.stripe.com/reports/reporting-categories).
BOOKING_CLASSES: dict[str, str] = {name: kind for kind, names in _BY_CLASS.items() for name in names.split()}

# Shopify's ShopifyPaymentsTransactionType, in Stripe's words.
SHOPIFY_CATEGORIES: dict[str, str] = {
    "CHARGE": "charge",
    "REFUND": "refund",
    "REFUND_FAILURE": "refund_failure",
    "CHARGE_ADJUSTMENT": "other_adjustment",
    "REFUND_ADJUSTMENT": "other_adjustment",
    "ADJUSTMENT": "other_adjustment",
    "DISPUTE_WITHDRAWAL": "dispute",
    "DISPUTE_REVERSAL": "dispute_reversal",
    "CHARGEBACK_HOLD": "dispute",
    "CHARGEBACK_HOLD_RELEASE": "dispute_reversal",
    "CHARGEBACK_FEE": "fee",
    "CHARGEBACK_FEE_REFUND": "fee",
    "APPLICATION_FEE_REFUND": "fee",
    "STRIPE_FEE": "fee",
    "BILLING_DEBIT": "fee",
    "BILLING_DEBIT_REVERSAL": "fee",
    "SHIPPING_LABEL": "fee",
    "SHIPPING_LABEL_ADJUSTMENT": "fee",
    "TAX_ADJUSTMENT_DEBIT": "tax",
    "TAX_ADJUSTMENT_DEBIT_REVERSAL": "tax",
    "TAX_ADJUSTMENT_CREDIT": "tax",
    "TAX_ADJUSTMENT_CREDIT_REVERSAL": "tax",
    "RESERVED_FUNDS": "risk_reserved_funds",
    "RESERVED_FUNDS_REVERSAL": "risk_reserved_funds",
    "RESERVED_FUNDS_WITHDRAWAL": "risk_reserved_funds",
    "ADVANCE": "advance",
    "ADVANCE_FUNDING": "advance_funding",
    "TRANSFER": "payout",
    "TRANSFER_FAILURE": "payout_reversal",
    "TRANSFER_CANCEL": "payout_reversal",
    "TRANSFER_REFUND": "payout_reversal",
}


def booking_class(category: str) -> str:
    """Class of a reporting category; `unclassified` for one that is not in the table."""
    return BOOKING_CLASSES.get(category, UNCLASSIFIED)
