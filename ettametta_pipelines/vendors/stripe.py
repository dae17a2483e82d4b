"""Stripe through its SDK: the balance ledger, payouts, charges and subscriptions, read-only.

Amounts come back as `Money` (minor units), instants as aware UTC datetimes. Revenue is read from balance
transactions, never from charges. The SDK is imported when a client is made. Called by `revenue/`.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from ettametta_pipelines.failures import FailureKind, PipelineError
from ettametta_pipelines.money import Money
from ettametta_pipelines.vendors.http import (
    CONNECT_TIMEOUT_S,
    ErrorRule,
    call_with_retries,
    is_loopback,
    network_error,
    retry_after_seconds,
    unreadable_answer,
    vendor_error,
)

if TYPE_CHECKING:
    import stripe

    from ettametta_pipelines.settings import VendorEndpoint

T = TypeVar("T")

VENDOR = "Stripe"
PAGE_SIZE = 100

_KEY_REMEDY = "Set STRIPE_SECRET_KEY to a key that may read balance, payouts, charges and subscriptions."
# Where Stripe gives no `code`, the status stands for it.
_REASON_BY_STATUS = {401: "unauthorized", 403: "permission_denied", 409: "conflict", 429: "rate_limit"}
ERRORS = {
    "unauthorized": ErrorRule(FailureKind.NEEDS_PERSON, "stripe_unauthorized", _KEY_REMEDY),
    "api_key_expired": ErrorRule(FailureKind.NEEDS_PERSON, "stripe_key_expired", _KEY_REMEDY),
    "permission_denied": ErrorRule(FailureKind.NEEDS_PERSON, "stripe_forbidden", _KEY_REMEDY),
    "conflict": ErrorRule(FailureKind.TRANSIENT, "stripe_conflict"),
    "lock_timeout": ErrorRule(FailureKind.TRANSIENT, "stripe_lock_timeout"),
    "rate_limit": ErrorRule(FailureKind.TRANSIENT, "stripe_rate_limited"),
}


@dataclass(frozen=True)
class BalanceTransaction:
    """One movement of the account's balance. `net` = `amount` - `fee`, all three in the settlement currency.

    `presented` is what the customer saw, where Stripe's source object says it; `exchange_rate` is
    Stripe's own decimal string when the two currencies differ. `raw` is the object as received, its
    source reduced to the id.
    """

    id: str
    type: str
    reporting_category: str
    amount: Money
    fee: Money
    net: Money
    fee_details: tuple[tuple[str, Money], ...]
    created: datetime
    available_on: datetime
    status: str
    source_id: str | None
    presented: Money | None
    exchange_rate: str | None
    raw: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Payout:
    """Money sent to the bank. Its transactions can be listed only for an automatic, reconciled payout."""

    id: str
    amount: Money
    created: datetime
    arrives: datetime
    status: str
    automatic: bool
    reconciled: bool


@dataclass(frozen=True)
class Charge:
    id: str
    amount: Money
    refunded: Money
    created: datetime
    status: str
    customer_id: str | None
    disputed: bool


@dataclass(frozen=True)
class Subscription:
    """A customer's subscription; its period is that of its first item, as Stripe keeps it since 2025."""

    id: str
    customer_id: str
    status: str
    price_id: str
    unit_amount: Money
    period_start: datetime
    period_end: datetime
    cancel_at_period_end: bool


class StripeClient:
    """Reader of one Stripe account.

    Raises PipelineError subclasses only. The SDK's own retries are off: they ignore 429 and
    `Retry-After`, and two layers would multiply; every call goes through `call_with_retries` instead.
    """

    def __init__(self, endpoint: "VendorEndpoint", *, sleep: Callable[[float], None] = time.sleep) -> None:
        import requests
        import stripe

        key = endpoint.secret("stripe_secret_key")
        self.livemode = key.startswith(("sk_live_", "rk_live_"))
        self._endpoint = endpoint
        self._sleep = sleep
        session = requests.Session()
        session.trust_env = not is_loopback(endpoint.base_url)
        timeout = (min(CONNECT_TIMEOUT_S, endpoint.timeout_s), endpoint.timeout_s)
        self._api = stripe.StripeClient(
            key,
            base_addresses={"api": endpoint.base_url.rstrip("/")},
            max_network_retries=0,
            http_client=stripe.RequestsClient(timeout=timeout, session=session),
        )

    def balance_transactions(
        self, created_from: datetime, created_to: datetime
    ) -> Iterator[BalanceTransaction]:
        """Movements with created_from <= created < created_to (whole seconds), newest first.

        Cursors are ids, so rows that arrive at the top while pages are read shift nothing.
        """
        params = {"created": _range(created_from, created_to), "expand": ["data.source"]}
        rows = self._pages("list balance transactions", self._api.v1.balance_transactions.list, params)
        return (_balance_transaction(row) for row in rows)

    def payout_transactions(self, payout_id: str) -> Iterator[BalanceTransaction]:
        """What an automatic payout paid out, its own transaction (type `payout`, minus its amount) included."""
        params = {"payout": payout_id, "expand": ["data.source"]}
        doing = f"list the transactions of payout {payout_id}"
        rows = self._pages(doing, self._api.v1.balance_transactions.list, params)
        return (_balance_transaction(row) for row in rows)

    def payouts(self, created_from: datetime, created_to: datetime) -> Iterator[Payout]:
        """Payouts with created_from <= created < created_to, newest first."""
        params = {"created": _range(created_from, created_to)}
        return (_payout(row) for row in self._pages("list payouts", self._api.v1.payouts.list, params))

    def balance_transaction_pages(self, created_from: datetime, created_to: datetime) -> Iterator[str]:
        """As `balance_transactions`, as received: the JSON of each page, objects under `data`, sources expanded."""
        params = {"created": _range(created_from, created_to), "expand": ["data.source"]}
        return self._texts("list balance transactions", "/v1/balance_transactions", params)

    def payout_pages(self, created_from: datetime, created_to: datetime) -> Iterator[str]:
        """As `payouts`, as received: the JSON of each page, objects under `data`."""
        return self._texts("list payouts", "/v1/payouts", {"created": _range(created_from, created_to)})

    def payout_transaction_pages(self, payout_id: str) -> Iterator[str]:
        """As `payout_transactions`, as received."""
        doing = f"list the transactions of payout {payout_id}"
        return self._texts(doing, "/v1/balance_transactions", {"payout": payout_id})

    def object_text(self, kind: str, object_id: str = "") -> str:
        """One object as received, of a `kind` in Stripe's paths: `payouts`, `disputes`, `balance` (without an id)."""
        doing = f"read {kind} {object_id}".strip()
        return self._text(doing, "/".join(part for part in ("/v1", kind, object_id) if part), {})[0]

    def charge(self, charge_id: str) -> Charge:
        """Raises PermanentError `stripe_not_found` for an id that is not there."""
        row = self._call(f"read charge {charge_id}", lambda: self._api.v1.charges.retrieve(charge_id))
        return _charge(row.to_dict())

    def charges_of(self, customer_id: str, created_from: datetime) -> list[Charge]:
        """Charges of a customer since an instant, newest first."""
        params = {"customer": customer_id, "created": {"gte": int(created_from.timestamp())}}
        return [_charge(row) for row in self._pages("list charges", self._api.v1.charges.list, params)]

    def subscriptions(self, status: str = "all") -> Iterator[Subscription]:
        """Subscriptions of a status (`all`: cancelled ones too), newest first."""
        params = {"status": status}
        rows = self._pages("list subscriptions", self._api.v1.subscriptions.list, params)
        return (_subscription(row) for row in rows)

    def balance(self) -> dict[str, Money]:
        """Balance per currency, available and pending together."""
        row = self._call("read the balance", lambda: self._api.v1.balance.retrieve()).to_dict()
        total: dict[str, Money] = {}
        for part in (*row["available"], *row["pending"]):
            money = _money(part["amount"], part["currency"])
            total[money.currency] = total.get(money.currency, Money(0, money.currency)) + money
        return total

    def _pages(
        self, doing: str, fetch: Callable[[Any], Any], params: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        cursor: dict[str, Any] = {}
        while True:
            asked = {"limit": PAGE_SIZE, **params, **cursor}
            listing = self._call(doing, partial(fetch, asked)).to_dict()
            yield from listing["data"]
            if not listing["has_more"]:
                return
            cursor = {"starting_after": listing["data"][-1]["id"]}

    def _texts(self, doing: str, path: str, params: dict[str, Any]) -> Iterator[str]:
        cursor: dict[str, Any] = {}
        while True:
            text, page = self._text(doing, path, {"limit": PAGE_SIZE, **params, **cursor})
            yield text
            if not page["has_more"]:
                return
            cursor = {"starting_after": page["data"][-1]["id"]}

    def _text(self, doing: str, path: str, params: dict[str, Any]) -> tuple[str, Mapping[str, Any]]:
        """An answer's body as it came, and read. No object is built for each row, which costs more than the books."""
        answer = self._call(doing, lambda: self._api.raw_request("get", path, **params))
        return str(answer.body), answer.data

    def _call(self, doing: str, request: Callable[[], T]) -> T:
        import stripe

        def attempt() -> T:
            try:
                return request()
            except stripe.StripeError as error:
                raise self._failure(error, doing) from None

        return call_with_retries(attempt, retries=self._endpoint.max_retries, sleep=self._sleep, seed=doing)

    def _failure(self, error: "stripe.StripeError", doing: str) -> PipelineError:
        if error.http_status is None:
            cause = str(error.__cause__ or error)
            return network_error(
                error,
                VENDOR,
                doing,
                base_url=self._endpoint.base_url,
                was_sent="Failed to establish a new connection" not in cause,
                repeatable=True,
                timed_out="timed out" in cause,
            )
        status = error.http_status
        if status < 300:
            return unreadable_answer(VENDOR, doing)
        return vendor_error(
            VENDOR,
            doing,
            status=status,
            reason=error.code or _REASON_BY_STATUS.get(status, ""),
            # Stripe repeats part of a key it does not know.
            detail="" if status == 401 else error.user_message or "",
            rules=ERRORS,
            retry_after_s=retry_after_seconds((error.headers or {}).get("retry-after")),
        )


def _range(start: datetime, end: datetime) -> dict[str, int]:
    return {"gte": int(start.timestamp()), "lt": int(end.timestamp())}


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _money(minor: int, currency: str) -> Money:
    return Money(minor, currency.upper())


def _balance_transaction(row: dict[str, Any]) -> BalanceTransaction:
    source = row["source"]
    expanded = source if isinstance(source, dict) else {}
    presented = None
    if "amount" in expanded and expanded.get("currency"):
        presented = _money(expanded["amount"], expanded["currency"])
    rate = row["exchange_rate"]
    return BalanceTransaction(
        id=row["id"],
        type=row["type"],
        reporting_category=row["reporting_category"],
        amount=_money(row["amount"], row["currency"]),
        fee=_money(row["fee"], row["currency"]),
        net=_money(row["net"], row["currency"]),
        fee_details=tuple((d["type"], _money(d["amount"], d["currency"])) for d in row["fee_details"]),
        created=_instant(row["created"]),
        available_on=_instant(row["available_on"]),
        status=row["status"],
        source_id=expanded.get("id") or source,
        presented=presented,
        exchange_rate=None if rate is None else str(rate),
        raw=row | {"source": expanded.get("id") or source},
    )


def _payout(row: dict[str, Any]) -> Payout:
    return Payout(
        id=row["id"],
        amount=_money(row["amount"], row["currency"]),
        created=_instant(row["created"]),
        arrives=_instant(row["arrival_date"]),
        status=row["status"],
        automatic=row["automatic"],
        reconciled=row["reconciliation_status"] == "completed",
    )


def _charge(row: dict[str, Any]) -> Charge:
    return Charge(
        id=row["id"],
        amount=_money(row["amount"], row["currency"]),
        refunded=_money(row["amount_refunded"], row["currency"]),
        created=_instant(row["created"]),
        status=row["status"],
        customer_id=row["customer"],
        disputed=bool(row.get("disputed")),
    )


def _subscription(row: dict[str, Any]) -> Subscription:
    item = row["items"]["data"][0]
    price = item["price"]
    return Subscription(
        id=row["id"],
        customer_id=row["customer"],
        status=row["status"],
        price_id=price["id"],
        unit_amount=_money(price["unit_amount"], price["currency"]),
        period_start=_instant(item["current_period_start"]),
        period_end=_instant(item["current_period_end"]),
        cancel_at_period_end=row["cancel_at_period_end"],
    )
