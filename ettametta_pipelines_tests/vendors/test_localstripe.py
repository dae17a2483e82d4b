"""The Stripe client against somebody else's Stripe: localstripe, which knows nothing of our sandbox.

It serves charges, refunds, single balance transactions, customers and events. It has no lists by creation time and no
ledger of payouts, so the books are tried against the sandbox alone.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue

import httpx
import pytest
from pydantic import SecretStr

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.gateway.webhook_sources import SOURCES
from ettametta_pipelines.money import Money
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.stripe_billing import StripeBilling
from ettametta_pipelines_tests.servers import Server

KEY = "sk_test_of_a_test"
# Its own command listens on every interface and keeps its objects in a file of the machine's /tmp.
SERVE = """
import sys
from aiohttp import web
from localstripe import resources, server
resources.store.dump_to_disk = lambda: None
web.run_app(server.app, host="127.0.0.1", port=int(sys.argv[1]), print=None)
"""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    class LocalStripe(Server):
        def command(self) -> list[str]:
            return [sys.executable, "-c", SERVE, str(self.port)]

    with LocalStripe() as server:
        yield f"http://127.0.0.1:{server.port}"


@pytest.fixture
def stripe(address: str) -> StripeBilling:
    secrets = {"stripe_secret_key": SecretStr(KEY)}
    return StripeBilling(VendorEndpoint("stripe", "live", f"{address}/", "test", secrets, max_retries=0))


def post(address: str, path: str, **data: str) -> dict[str, str]:
    answer = httpx.post(f"{address}/v1/{path}", data=data, auth=(KEY, ""), trust_env=False)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def paid_charge(address: str, customer: str, amount: int, currency: str) -> str:
    card = {
        "card[number]": "4242424242424242", "card[exp_month]": "12", "card[exp_year]": "2039", "card[cvc]": "123"
    }  # fmt: skip
    method = post(address, "payment_methods", type="card", **card)["id"]
    post(address, f"payment_methods/{method}/attach", customer=customer)
    intent = post(
        address, "payment_intents", amount=str(amount), currency=currency, customer=customer,
        payment_method=method, confirm="true",
    )  # fmt: skip
    assert intent["status"] == "succeeded"
    return intent["latest_charge"]["id"]  # type: ignore[index]


@pytest.mark.parametrize(("amount", "currency"), [(2900, "usd"), (500, "jpy"), (12345, "eur")])
def test_what_was_refunded_of_a_charge_is_the_sum_of_its_refunds(
    address: str, stripe: StripeBilling, amount: int, currency: str
) -> None:
    customer = stripe.create_customer("acme", key=f"test-{currency}")
    charge = paid_charge(address, customer, amount, currency)
    parts = (amount // 5, amount // 7)
    for part in parts:
        post(address, "refunds", charge=charge, amount=str(part))
    read = stripe.charge(charge)
    assert (read.amount, read.refunded) == (
        Money(amount, currency.upper()), Money(sum(parts), currency.upper())
    )  # fmt: skip
    assert (read.status, read.customer_id) == ("succeeded", customer)


def test_a_customer_made_by_the_client_carries_the_account(address: str, stripe: StripeBilling) -> None:
    made = stripe.create_customer("acme", key="test-name")
    kept = httpx.get(f"{address}/v1/customers/{made}", auth=(KEY, ""), trust_env=False).json()
    assert kept["metadata"] == {"ettametta_account": "acme"}


def test_what_it_does_not_have_is_a_failure_with_a_code_and_not_an_empty_list(stripe: StripeBilling) -> None:
    with pytest.raises(PermanentError) as refusal:
        stripe.charge("ch_of_nobody")
    assert refusal.value.code == "stripe_not_found"


def test_its_signed_events_are_taken_by_the_gateway_and_by_no_other_secret(
    address: str, stripe: StripeBilling
) -> None:
    with Hooks() as hooks:
        config = {"url": hooks.url, "secret": "whsec_of_a_test"}
        httpx.post(f"{address}/_config/webhooks/gateway", json=config, trust_env=False).raise_for_status()
        stripe.create_customer("acme", key="test-event")
        headers, body = hooks.received.get(timeout=20)
    source, now = SOURCES["stripe"], time.time()
    assert json.loads(body)["type"] == "customer.created"
    assert source.is_signed(headers, body, "whsec_of_a_test", now)
    assert not source.is_signed(headers, body, "whsec_of_another", now)
    assert not source.is_signed(headers, body + b" ", "whsec_of_a_test", now)


class Hooks:
    """Somewhere events are sent to: what arrived, as headers in lower case and the raw body."""

    def __init__(self) -> None:
        self.received: Queue[tuple[dict[str, str], bytes]] = Queue()
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                received.put(({name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/"

    def __enter__(self) -> "Hooks":
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *raised: object) -> None:
        self.server.shutdown()
        self.server.server_close()
