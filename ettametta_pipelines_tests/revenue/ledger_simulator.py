"""A Stripe account that remembers: charges, refunds, disputes and payouts as a script makes them happen, over HTTP.

Pages are small, so that a few rows make several; a page can fail once, and rows can arrive while pages are read. The
real client talks to it. `ShopifyPayments` is the store's side, handed to the reader as its client.
"""

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ettametta_pipelines.money import Money
from ettametta_pipelines_tests.frozen import SetClock

Json = dict[str, Any]


class StripeAccount:
    """The account's state. Amounts are minor units; everything happens now unless `at` says otherwise."""

    def __init__(self, clock: SetClock, page_size: int = 7) -> None:
        self.clock = clock
        self.page_size = page_size
        self.rows: list[Json] = []
        self.charges: dict[str, Json] = {}
        self.refunds: dict[str, Json] = {}
        self.disputes: dict[str, Json] = {}
        self.payouts: dict[str, Json] = {}
        self.paid_by: dict[str, list[str]] = {}
        self.hidden: dict[str, datetime] = {}
        self.fail_on_page = 0
        self.while_reading: Callable[[], None] | None = None
        self.balance_error = 0
        self._numbers = iter(range(1, 10**9))

    # --- what happens ------------------------------------------------------------------------------------------

    def charge(
        self, amount: int, currency: str = "usd", *, settled: int | None = None, into: str | None = None,
        rate: str | None = None, at: datetime | None = None, withheld: int = 0,
    ) -> str:  # fmt: skip
        """A payment; with `settled`, `into` and `rate` it settles in another currency. `withheld` is tax kept back."""
        created = self._second(at)
        name = self._name("ch")
        self.charges[name] = {
            "id": name, "object": "charge", "amount": amount, "currency": currency, "amount_refunded": 0,
            "created": created, "status": "succeeded", "disputed": False,
        }  # fmt: skip
        base = amount if settled is None else settled
        fees = [("stripe_fee", base * 29 // 1000 + 3)] + ([("withheld_tax", withheld)] if withheld else [])
        self._row(
            "charge", "charge", name, base, into or currency, fees, created=created, rate=rate, wait_days=2
        )
        return name

    def refund(self, charge: str, amount: int, *, settled: int | None = None, into: str | None = None) -> str:
        name = self._name("re")
        currency = self.charges[charge]["currency"]
        self.refunds[name] = {
            "id": name, "object": "refund", "amount": amount, "currency": currency, "charge": charge,
            "status": "succeeded",
        }  # fmt: skip
        self.charges[charge]["amount_refunded"] += amount
        self._row("refund", "refund", name, -(settled or amount), into or currency)
        return name

    def fail_refund(self, name: str) -> None:
        refund = self.refunds[name]
        refund["status"] = "failed"
        self.charges[refund["charge"]]["amount_refunded"] -= refund["amount"]
        self._row("refund_failure", "refund_failure", name, refund["amount"], refund["currency"])

    def dispute(self, charge: str, amount: int, fee: int = 1500) -> str:
        name = self._name("du")
        currency = self.charges[charge]["currency"]
        self.disputes[name] = {
            "id": name, "object": "dispute", "amount": amount, "currency": currency, "charge": charge,
            "status": "needs_response", "created": self._second(None),
        }  # fmt: skip
        self._row("adjustment", "dispute", name, -amount, currency, [("stripe_fee", fee)])
        return name

    def win(self, name: str, short_by: int = 0) -> None:
        dispute = self.disputes[name]
        dispute["status"] = "won"
        self._row("adjustment", "dispute_reversal", name, dispute["amount"] - short_by, dispute["currency"])

    def lose(self, name: str) -> None:
        self.disputes[name]["status"] = "lost"

    def move(self, category: str, amount: int, currency: str = "usd", *, at: datetime | None = None) -> str:
        """A movement without an object behind it: `fee` (also given back), `other_adjustment`, `tax` ..."""
        return str(self._row("adjustment", category, None, amount, currency, created=self._second(at))["id"])

    def pay_out(self, currency: str = "usd") -> str:
        """The automatic payout of everything not paid out yet; negative when that is a debt."""
        waiting = [
            row for row in self.rows
            if row["currency"] == currency and row["id"] not in self._paid() and row["type"] != "payout"
            and row["id"] not in self.hidden
        ]  # fmt: skip
        payout = self._payout(currency, sum(row["net"] for row in waiting), automatic=True)
        self.paid_by[payout["id"]] = [row["id"] for row in waiting] + [self.rows[-1]["id"]]
        payout["reconciliation_status"] = "completed"
        return str(payout["id"])

    def pay_instantly(self, amount: int, fee: int, currency: str = "usd") -> str:
        """A manual instant payout, whose rows Stripe cannot list."""
        return str(self._payout(currency, amount, automatic=False, fee=fee)["id"])

    def fail_payout(self, name: str, short_by: int = 0) -> None:
        payout = self.payouts[name]
        payout["status"] = "failed"
        self._row("payout_failure", "payout_reversal", name, payout["amount"] - short_by, payout["currency"])

    def late(self, amount: int, shown_from: datetime) -> str:
        """A movement of now that the account's listings leave out until later; the balance has it at once."""
        name = self.move("other_adjustment", amount)
        self.hidden[name] = shown_from
        return name

    def delete(self, entry_id: str) -> None:
        self.rows = [row for row in self.rows if row["id"] != entry_id]

    def entry(self, entry_id: str) -> Json:
        return next(row for row in self.rows if row["id"] == entry_id)

    def entry_of(self, source: str) -> Json:
        return next(row for row in self.rows if row["source"] == source)

    def _paid(self) -> set[str]:
        return {entry for entries in self.paid_by.values() for entry in entries}

    def _payout(self, currency: str, amount: int, *, automatic: bool, fee: int = 0) -> Json:
        name = self._name("po")
        payout = {
            "id": name, "object": "payout", "amount": amount, "currency": currency, "automatic": automatic,
            "created": self._second(None), "status": "paid", "reconciliation_status": "not_applicable",
        }  # fmt: skip
        self.payouts[name] = payout
        self._row("payout", "payout", name, -amount, currency, [("stripe_fee", fee)] if fee else [])
        return payout

    def _row(
        self, kind: str, category: str, source: str | None, amount: int, currency: str,
        fees: list[tuple[str, int]] | None = None, *, created: int | None = None, rate: str | None = None,
        wait_days: int = 0,
    ) -> Json:  # fmt: skip
        fees = fees or []
        fee = sum(part for _, part in fees)
        created = self._second(None) if created is None else created
        row = {
            "id": self._name("txn"), "object": "balance_transaction", "type": kind, "reporting_category": category,
            "amount": amount, "fee": fee, "net": amount - fee, "currency": currency, "created": created,
            "available_on": created + wait_days * 86_400, "source": source,
            "exchange_rate": None if rate is None else float(rate),
            "fee_details": [{"type": t, "amount": part, "currency": currency} for t, part in fees],
        }  # fmt: skip
        self.rows.append(row)
        return row

    def _second(self, at: datetime | None) -> int:
        # A moment before now, which a reading at this instant has in its window.
        return int((at or self.clock() - timedelta(seconds=1)).timestamp())

    def _name(self, prefix: str) -> str:
        return f"{prefix}_{next(self._numbers):06d}"

    # --- what is answered --------------------------------------------------------------------------------------

    def answer(self, path: str, query: dict[str, list[str]]) -> tuple[int, Json]:
        parts = path.removeprefix("/v1/").split("/")
        if parts[0] == "balance":
            return 200, self._balance()
        if len(parts) == 2:
            return 200, {"payouts": self.payouts, "disputes": self.disputes}[parts[0]][parts[1]]
        if self.fail_on_page:
            self.fail_on_page -= 1
            if not self.fail_on_page:
                return 500, {"error": {"type": "api_error", "message": "An unknown error occurred"}}
        found = [
            dict(item)
            for item in (self.rows if parts[0] == "balance_transactions" else self.payouts.values())
        ]
        found = [item for item in found if self.hidden.get(item["id"], self.clock()) <= self.clock()]
        if "payout" in query:
            listed = self.paid_by[query["payout"][0]]
            found = [row for entry in listed for row in found if row["id"] == entry]
        first, last = (
            int(query.get(f"created[{end}]", [bound])[0]) for end, bound in (("gte", 0), ("lt", 2**40))
        )
        found = [item for item in found if first <= item["created"] < last]
        found.sort(key=lambda item: (item["created"], item["id"]), reverse=True)
        return 200, self._page(found, query)

    def _page(self, found: list[Json], query: dict[str, list[str]]) -> Json:
        start = 0
        if "starting_after" in query:
            start = next(n for n, item in enumerate(found) if item["id"] == query["starting_after"][0]) + 1
        page = found[start : start + self.page_size]
        if self.while_reading is not None:
            arrive, self.while_reading = self.while_reading, None
            arrive()
        expand = "data.source" in [
            value for name in query if name.startswith("expand") for value in query[name]
        ]
        now = self.clock().timestamp()
        for row in page:
            if row["object"] == "balance_transaction":
                row["status"] = "available" if row["available_on"] <= now else "pending"
                if expand and row["source"]:
                    row["source"] = self._object(row["source"])
        return {"object": "list", "data": page, "has_more": start + self.page_size < len(found)}

    def _object(self, name: str) -> Json | str:
        kinds = (self.charges, self.refunds, self.disputes)
        # A payout stays an id: not every object can be expanded.
        return next((kind[name] for kind in kinds if name in kind), name)

    def _balance(self) -> Json:
        sums: dict[str, int] = {}
        for row in self.rows:
            sums[row["currency"]] = sums.get(row["currency"], 0) + row["net"]
        parts = [{"currency": name, "amount": amount + self.balance_error} for name, amount in sums.items()]
        return {"object": "balance", "available": parts, "pending": []}


class StripeServer:
    """The account on a free port, for as long as the block lasts."""

    def __init__(self, account: StripeAccount) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                status, body = account.answer(parts.path, parse_qs(parts.query))
                data = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class ShopifyPayments:
    """The store's balance: rows as Shopify writes them, and payouts that name their rows."""

    mode = "sandbox"

    def __init__(self, clock: SetClock, currency: str = "USD") -> None:
        self.clock = clock
        self.currency = currency
        self.nodes: list[Json] = []
        self._numbers = iter(range(1, 10**9))

    def move(self, kind: str, amount: str, fee: str = "0.00", source: str | None = None) -> Json:
        number = next(self._numbers)
        net = Money.parse(amount, self.currency) - Money.parse(fee, self.currency)
        text = f"{net.minor / 10**net.exponent:.{net.exponent}f}"
        node = {
            "id": f"gid://shopify/ShopifyPaymentsBalanceTransaction/{number}", "type": kind, "test": False,
            "transactionDate": (self.clock() - timedelta(seconds=1)).astimezone(UTC).isoformat(),
            "sourceId": source or str(number), "sourceType": None, "adjustmentReason": None,
            "amount": self._money(amount), "fee": self._money(fee), "net": self._money(text),
            "associatedPayout": {"id": None, "status": "PENDING"},
        }  # fmt: skip
        self.nodes.append(node)
        return node

    def pay_out(self) -> str:
        waiting = [node for node in self.nodes if node["associatedPayout"]["id"] is None]
        total = sum(Money.parse(node["net"]["amount"], self.currency).minor for node in waiting)
        digits = Money(0, self.currency).exponent
        own = self.move("TRANSFER", f"{-total / 10**digits:.{digits}f}", source="payout-1")
        payout = f"gid://shopify/ShopifyPaymentsPayout/{next(self._numbers)}"
        for node in [*waiting, own]:
            node["associatedPayout"] = {"id": payout, "status": "PAID"}
        return payout

    def balance_transaction_pages(self, start: datetime, end: datetime) -> Iterator[str]:
        found = [n for n in self.nodes if start <= datetime.fromisoformat(n["transactionDate"]) < end]
        for place in range(0, max(1, len(found)), 5):
            yield json.dumps({"data": found[place : place + 5]})

    def _money(self, amount: str) -> Json:
        return {"amount": amount, "currencyCode": self.currency}
