"""Whatever is sent to the gateway: an answer that it declares, never a crash.

The operations come from the application's own OpenAPI document, which it serves to nobody.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import status_code_conformance

from ettametta_pipelines.clock import rfc3339, utc_now
from ettametta_pipelines.gateway.app import STATUSES, create_gateway
from ettametta_pipelines.gateway.webhook_sources import SOURCES, signature_fields
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.webhook_effects import apply_inbox
from ettametta_pipelines_tests.fuzz import misfitting, spoilt, tried
from ettametta_pipelines_tests.gateway.conftest import URL
from ettametta_pipelines_tests.gateway.signing import RENDER_NODE, by_render_node, by_shopify, by_stripe, mac
from ettametta_pipelines_tests.gateway.test_watch import look

pytestmark = pytest.mark.fuzz

TIKTOK = "sandbox-tiktok-client-secret"
TOKEN = "a-token-of-the-network-impact"
STRIPE_EVENT = {
    "id": "evt_1", "type": "invoice.paid", "livemode": False, "created": 1, "account": None,
    "data": {"object": {"id": "in_1", "customer": "cus_1", "charge": "ch_1", "metadata": {"account": "acme"}}},
}  # fmt: skip
TIKTOK_EVENT = {
    "client_key": "k", "event": "authorization.removed", "create_time": 1, "user_openid": "o",
    "content": '{"reason": 1}',
}  # fmt: skip
NODE_EVENT = {"event": "render_job_ended", "job_id": "a" * 32, "status": "done"}
SHOP_ORDER = {"id": 1, "admin_graphql_api_id": "gid://shopify/Order/1", "total_price": "1.00"}
SALE = {"ActionId": "t1", "transaction_id": "t1", "amount": "12.34", "currency": "usd", "status": "pending"}


def by_tiktok(body: bytes) -> dict[str, str]:
    t = str(int(time.time()))
    return {"tiktok-signature": f"t={t},s={mac(TIKTOK, t.encode(), body)}"}


SIGNED: dict[str, tuple[dict[str, Any], Callable[[bytes], Any]]] = {
    "tiktok": (TIKTOK_EVENT, by_tiktok),
    "stripe": (STRIPE_EVENT, by_stripe),
    "shopify": (SHOP_ORDER, by_shopify),
    "render-node": (NODE_EVENT, lambda body: by_render_node(body, "nonce-1")),
}


@pytest.fixture
def app(settings_env: Settings, monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    for name, value in {
        "ETTAMETTA_REQUESTS_A_SECOND": "0",
        "RENDER_NODE_SECRET": RENDER_NODE,
        "ETTAMETTA_POSTBACK_TOKENS": f"impact={TOKEN}",
    }.items():
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    return create_gateway(get_settings(), url=URL)


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url=URL, client=("127.0.0.1", 4000), follow_redirects=False) as client:
        yield client


def test_every_source_is_tried() -> None:
    assert set(SIGNED) == set(SOURCES)


@pytest.mark.parametrize("source", SIGNED)
def test_a_signed_message_of_any_content_is_stored_or_refused_and_stops_no_other(
    source: str, client: TestClient, app: FastAPI
) -> None:
    valid, sign = SIGNED[source]

    @tried(25)
    @given(body=spoilt([json.dumps(valid).encode()]) | misfitting([valid]))
    def deliver(body: bytes) -> None:
        answer = client.post(f"/webhooks/{source}", content=body, headers=sign(body))
        assert answer.status_code in (200, 400, 404)
        assert isinstance(answer.json(), dict)

    deliver()
    apply_inbox(get_settings(), open_state(get_settings()))


@tried(60)
@given(
    source=st.sampled_from(sorted(SIGNED)),
    header=spoilt(
        [
            b"t=1700000000,v1=abc,v1=abd,v0=x,s=1,n=2",
            b"2026-11-20T12:00:00Z",
            b"",
            b"0001-01-01T00:00:00+14:00",
        ]
    ),
)
def test_no_signature_header_is_a_signature_or_a_crash(source: str, header: bytes) -> None:
    text = header.decode("latin-1")
    names = (
        "tiktok-signature", "stripe-signature", "x-ettametta-signature", "x-shopify-triggered-at",
        "x-shopify-hmac-sha256",
    )  # fmt: skip
    given_headers = dict.fromkeys(names, text)
    assert SOURCES[source].is_signed(given_headers, b"{}", "secret", time.time()) is False
    given_headers["x-shopify-triggered-at"] = rfc3339(utc_now())
    assert SOURCES[source].is_signed(given_headers, b"{}", "secret", time.time()) is False
    assert all(isinstance(values, list) for values in signature_fields(text).values())


def test_a_postback_of_any_content_is_stored_or_refused(client: TestClient) -> None:
    form = "&".join(f"{name}={value}" for name, value in SALE.items()).encode()

    @tried(40)
    @given(
        body=spoilt([form, json.dumps(SALE).encode()]) | misfitting([SALE]),
        kind=st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", ""]),
    )
    def call(body: bytes, kind: str) -> None:
        answer = client.post(
            "/postbacks/impact", params={"token": TOKEN}, content=body, headers={"content-type": kind}
        )
        assert answer.status_code in (200, 400, 404)

    call()
    apply_inbox(get_settings(), open_state(get_settings()))


def test_requests_made_from_the_schema_get_declared_answers(app: FastAPI) -> None:
    document = app.openapi()
    schema = schemathesis.openapi.from_dict(document)
    schema.app = app
    # While nobody looks, /watchz answers 503 on purpose.
    look(open_state(get_settings()), get_settings(), utc_now())

    for operation in schema.get_all_operations():

        @tried(4, dear=20)
        @given(case=operation.ok().as_strategy())
        def ask(case: Any) -> None:
            case.call_and_validate(
                base_url=URL, checks=[not_a_server_error, status_code_conformance],
                headers={"host": "127.0.0.1:8000", "origin": URL},
            )  # fmt: skip

        ask()


FIELDS = (
    "account", "platform", "found", "looked", "reason", "text", "file", "tier", "url", "label", "network", "code",
    "source_id", "intent_no", "decision", "title", "key", "target",
)  # fmt: skip
VALUES = (
    "", "acme", "youtube", "../../etc", "'; DROP TABLE publications;--", "<script>alert(1)</script>", "\x00", "\ud800",
    "9" * 5000, "http://[", "javascript:x", "creator", "%", "[0:v]movie=x", "\u202e", "1e999", "a,b\n" * 50, "yes",
)  # fmt: skip
word = st.sampled_from(VALUES) | st.text(st.characters(), max_size=20)


def test_forms_of_our_own_page_with_any_fields_get_declared_answers(app: FastAPI, client: TestClient) -> None:
    match = re.search(r'name="csrf" value="([0-9a-f]{64})"', client.get("/accounts").text)
    assert match is not None
    operations = [
        (method, path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if not path.startswith(("/webhooks", "/postbacks"))
    ]
    assert len(operations) > 20

    @tried(60)
    @given(
        operation=st.sampled_from(operations),
        words=st.lists(word, min_size=4, max_size=4),
        fields=st.dictionaries(st.sampled_from(FIELDS), word, max_size=6),
    )
    def send(operation: tuple[str, str], words: list[str], fields: dict[str, str]) -> None:
        method, path = operation
        left = iter(words)
        path = re.sub(r"\{[^}]+\}", lambda _: quote(readable(next(left)), safe="") or "x", path)
        said = {name: readable(value) for name, value in fields.items()}
        if method == "post":
            answer = client.post(path, data=said | {"csrf": match[1]}, headers={"origin": URL})
        else:
            answer = client.request(method.upper(), path, params=said)
        assert answer.status_code < 500, (operation, answer.text[:300])
        assert answer.status_code in {200, 206, *STATUSES}

    send()


def readable(text: str) -> str:
    """What a browser can send: it has no lone surrogates."""
    return text.encode("utf-8", "replace").decode()


@pytest.mark.parametrize("host", [b"[", b"[::1", b"]", b"[v1.x]", b"a b", b"\xb2", b""])
def test_a_host_that_is_none_is_a_wrong_address(client: TestClient, host: bytes) -> None:
    assert client.get("/accounts", headers={"host": host}).status_code == 421  # type: ignore[dict-item]


@pytest.mark.parametrize("length", [b"\xb2", b"9" * 5000, b"-1", b"1e3", b"0x1", b" "])
def test_a_length_that_is_none_is_refused(client: TestClient, length: bytes) -> None:
    answer = client.get("/livez", headers={"content-length": length})  # type: ignore[dict-item]
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "span", ["bytes=" + "9" * 5000 + "-", "bytes=0-" + "9" * 5000, "bytes=-" + "9" * 5000]
)
def test_a_range_of_thousands_of_digits_is_no_range(span: str) -> None:
    from fastapi import HTTPException

    from ettametta_pipelines.gateway.app import _resolve_range
    from ettametta_pipelines.storage.objects import ObjectInfo

    with pytest.raises(HTTPException) as refused:
        _resolve_range(span, ObjectInfo("media/a", 10, "e", utc_now()))
    assert refused.value.status_code == 416
