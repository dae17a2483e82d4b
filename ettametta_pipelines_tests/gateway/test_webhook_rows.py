"""What reaches the inbox and what does not: the bar for webhooks (W1 to W6, W10 to W15, W17 to W19) at the gateway."""

import asyncio
import gzip
import hmac
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import rfc3339, utc_now
from ettametta_pipelines.failures import TransientError
from ettametta_pipelines.gateway import webhook_sources
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import WebhookEvent
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.synthesis.job import job_key, job_slug
from ettametta_pipelines.webhook_effects import UNKNOWN, Effect, apply_inbox
from ettametta_pipelines_tests.gateway.conftest import URL, Browser, browser_at
from ettametta_pipelines_tests.gateway.signing import (
    RENDER_NODE,
    by_render_node,
    by_shopify,
    by_stripe,
    mac,
    stripe_event,
)


def send(
    browser: Browser, body: bytes, headers: Mapping[str, str] | None = None, to: str = "stripe"
) -> httpx.Response:
    return browser.client.post(f"/webhooks/{to}", content=body, headers=headers or by_stripe(body))


def stored(db: StateDatabase) -> list[WebhookEvent]:
    with db.session(write=False) as session:
        return list(session.scalars(sa.select(WebhookEvent).order_by(WebhookEvent.id)))


@pytest.fixture
def set_env(monkeypatch: pytest.MonkeyPatch, settings_env: Settings) -> Callable[..., Browser]:
    """A gateway under other settings."""

    def restart(**variables: str) -> Browser:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()
        return browser_at(get_settings())

    return restart


@pytest.fixture
def on_both(database_url: str, set_env: Callable[..., Browser]) -> Iterator[tuple[Browser, StateDatabase]]:
    """A gateway on SQLite and on Postgres."""
    browser = set_env(DATABASE_URL=database_url)
    with browser.client, open_state(get_settings()) as db:
        yield browser, db


def test_w1_a_signed_message_is_stored_as_it_came_and_answered(browser: Browser, db: StateDatabase) -> None:
    body = stripe_event("evt_7", "invoice.paid")
    answer = send(browser, body)
    assert (answer.status_code, answer.json()) == (200, {"stored": True})
    (row,) = stored(db)
    assert (row.source, row.event_id, row.kind, row.body) == (
        "stripe",
        "evt_7",
        "invoice.paid",
        body.decode(),
    )
    assert (row.handled_at, row.attempts) == (None, 0)


def test_w2_the_same_event_a_hundred_times_at_once_is_one_row(on_both: tuple[Browser, StateDatabase]) -> None:
    browser, db = on_both
    body = stripe_event()
    headers = by_stripe(body)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: send(browser, body, headers), range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(answer.json()["stored"] for answer in answers) == 1
    assert len(stored(db)) == 1


@pytest.mark.parametrize(
    "header",
    [
        "", "t=1", "v1=ab", "t=,v1=", "{t},v0={good}", "{t},v1={other}", "{t},v1={empty}", "{t},{t},v1={good}",
        "{t},v1={short}", "{t},v1=ü", "t=-1,v1={good}", "t=1e9,v1={good}",
    ],
)  # fmt: skip
def test_w3_what_is_not_signed_with_the_secret_is_refused_and_not_stored(
    browser: Browser, db: StateDatabase, header: str
) -> None:
    body = stripe_event()
    t = str(int(time.time()))
    good = by_stripe(body)["stripe-signature"].split("v1=")[1].split(",")[0]
    parts = {
        "t": f"t={t}", "good": good, "short": good[:-1], "other": mac("guess", t.encode(), body),
        "empty": mac("", t.encode(), body),
    }  # fmt: skip
    headers = {"stripe-signature": header.format(**parts).encode("utf-8")}
    answer = browser.client.post("/webhooks/stripe", content=body, headers=headers)  # type: ignore[arg-type]
    assert (answer.status_code, answer.json()["error"]) == (400, "not_signed")
    assert stored(db) == []
    assert send(browser, body).status_code == 200


@pytest.mark.parametrize("secret", ["", " , "])
def test_w3_a_live_vendor_without_a_secret_takes_nothing_not_even_the_sandboxs(
    set_env: Callable[..., Browser], db: StateDatabase, secret: str
) -> None:
    browser = set_env(STRIPE_SECRET_KEY="sk_test_x", STRIPE_WEBHOOK_SECRET=secret)
    body = stripe_event()
    for signed_with in ("sandbox-stripe-webhook-secret", secret):
        answer = send(browser, body, by_stripe(body, secret=signed_with))
        assert (answer.status_code, answer.json()["error"]) == (400, "no_secret")
    assert stored(db) == []


def test_w3_a_gateway_on_a_public_domain_takes_no_sandbox_secret(set_env: Callable[..., Browser]) -> None:
    assert send(set_env(PRODUCTION_DOMAIN="studio.example.com"), stripe_event()).status_code == 400


@pytest.mark.parametrize("skew", [-301, 301])
def test_w4_a_signature_from_five_minutes_ago_or_ahead_is_refused(
    browser: Browser, db: StateDatabase, skew: int
) -> None:
    body = stripe_event()
    assert send(browser, body, by_stripe(body, at=time.time() + skew + (skew > 0))).status_code == 400
    assert stored(db) == []
    assert send(browser, body, by_stripe(body, at=time.time() + skew * 0.98)).status_code == 200


@pytest.mark.parametrize("hours", [-6.1, 0.1])
def test_w4_a_message_of_shopifys_older_than_its_repeats_is_refused(
    browser: Browser, db: StateDatabase, hours: float
) -> None:
    body = b'{"id": 1}'
    at = utc_now().timestamp() + hours * 3600
    stale = by_shopify(
        body, x_shopify_triggered_at=rfc3339(type(utc_now()).fromtimestamp(at, utc_now().tzinfo))
    )
    assert send(browser, body, stale, "shopify").status_code == 400
    assert send(browser, body, by_shopify(body, x_shopify_triggered_at=""), "shopify").status_code == 400
    assert stored(db) == []
    repeated = utc_now().timestamp() - 4 * 3600
    again = by_shopify(
        body, x_shopify_triggered_at=rfc3339(type(utc_now()).fromtimestamp(repeated, utc_now().tzinfo))
    )
    assert send(browser, body, again, "shopify").status_code == 200


@pytest.mark.parametrize("order", [("new", "old"), ("old", "new"), ("x", "new", "y")])
def test_w5_while_a_secret_is_replaced_either_signature_is_enough(
    set_env: Callable[..., Browser], order: tuple[str, ...]
) -> None:
    browser = set_env(STRIPE_SECRET_KEY="sk_test_x", STRIPE_WEBHOOK_SECRET="new")
    body, t = stripe_event(), str(int(time.time()))
    header = f"t={t}," + ",".join(f"v1={mac(secret, t.encode(), body)}" for secret in order)
    assert send(browser, body, {"stripe-signature": header}).status_code == 200


def test_w5_a_vendor_that_signs_once_is_heard_with_both_secrets(set_env: Callable[..., Browser]) -> None:
    browser = set_env(SHOPIFY_CLIENT_SECRET="new, old")
    body = b'{"id": 1}'
    status = {
        secret: send(browser, body, by_shopify(body, secret=secret), "shopify").status_code
        for secret in ("new", "old", "older")
    }
    assert status == {"new": 200, "old": 200, "older": 400}


@pytest.mark.parametrize("to", ["stripe", "shopify"])
def test_w6_a_body_written_again_is_refused(browser: Browser, db: StateDatabase, to: str) -> None:
    body = stripe_event()
    headers = {"stripe": by_stripe, "shopify": by_shopify}[to](body)
    for changed in (
        json.dumps(json.loads(body), indent=1).encode(),
        body + b" ",
        body.replace(b"in_1", b"in_2"),
    ):
        assert send(browser, changed, headers, to).status_code == 400
    assert stored(db) == []


def test_w10_a_database_that_is_away_is_answered_so_that_the_sender_tries_again(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> bool:
        raise TransientError("The state database did not answer.", code="state_unavailable")

    monkeypatch.setattr("ettametta_pipelines.state.inbox.store", away)
    answer = send(browser, stripe_event())
    assert (answer.status_code, answer.json()["error"]) == (503, "state_unavailable")


@pytest.mark.postgres
def test_w10_a_stopped_postgres_is_answered_with_503(set_env: Callable[..., Browser], postgres: Any) -> None:
    postgres.execute("CREATE DATABASE going TEMPLATE migrated")
    browser = set_env(DATABASE_URL=postgres.url("going"))
    assert send(browser, stripe_event("evt_1")).status_code == 200
    postgres.execute("DROP DATABASE going WITH (FORCE)")
    assert send(browser, stripe_event("evt_2")).status_code == 503


def test_w11_the_answer_waits_for_no_processing(
    browser: Browser, db: StateDatabase, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, release = threading.Event(), threading.Event()

    def slow(*_: object) -> str:
        held.set()
        assert release.wait(30)
        return "done at last"

    monkeypatch.setattr("ettametta_pipelines.webhook_effects.EFFECTS", (Effect("stripe", "*", slow),))
    send(browser, stripe_event("evt_1"))
    worker = threading.Thread(target=apply_inbox, args=(settings_env, db))
    worker.start()
    assert held.wait(30)
    # While the effect of the first still runs, the others are stored and answered.
    assert [send(browser, stripe_event(f"evt_{n}")).json() for n in range(2, 12)] == [{"stored": True}] * 10
    release.set()
    worker.join()
    assert "done at last" in {row.outcome for row in stored(db)}


def test_w12_a_body_over_a_megabyte_is_refused_before_it_is_read_to_its_end(
    browser: Browser, db: StateDatabase
) -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(10_000):
            taken += 1
            yield b" " * 10_000

    answer = asyncio.run(_post(browser, endless()))
    assert answer == 413
    assert taken <= 102
    assert stored(db) == []


async def _post(browser: Browser, pieces: Iterator[bytes]) -> int:
    """Straight to the application, piece by piece, as a server hands a body on."""
    status = 0
    headers = [(b"host", URL.removeprefix("http://").encode())]
    scope = {
        "type": "http", "method": "POST", "path": "/webhooks/stripe", "raw_path": b"", "headers": headers,
        "query_string": b"", "client": ("192.0.2.1", 1), "scheme": "http", "server": ("h", 1), "state": {},
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": next(pieces), "more_body": True}

    async def answer(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    await browser.client.app(scope, receive, answer)
    return status


def test_w12_a_packed_body_is_refused_without_unpacking_it(browser: Browser, db: StateDatabase) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    headers = by_stripe(bomb) | {"content-encoding": "gzip"}
    assert len(bomb) < 100_000
    assert send(browser, bomb, headers).status_code == 413
    assert stored(db) == []


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 500_000, b'{"a":' * 150_000, b"[]", b"null", b"", b"\xff\xfe{}", b'{"id": 1' + b"0" * 5000 + b"}",
        b"{}", b'{"id": "evt_1"}', b'{"id": "evt\\u0000", "type": "a"}', b'{"id": "evt", "type": "\\ud800"}',
        b'{"id": "evt 1", "type": "a"}', b'{"id": 1, "type": "a"}',
    ],
)  # fmt: skip
def test_w12_what_is_no_message_is_refused_however_deep_it_is(
    browser: Browser, db: StateDatabase, body: bytes
) -> None:
    answer = send(browser, body)
    assert (answer.status_code, answer.json()["error"]) == (400, "unreadable")
    assert stored(db) == []


def test_w13_unknown_kinds_are_stored_answered_and_counted(
    browser: Browser, db: StateDatabase, settings_env: Settings
) -> None:
    for number, kind in enumerate(["product.created", "product.created", "v3.invented"]):
        assert send(browser, stripe_event(f"evt_{number}", kind)).status_code == 200
    worked, _ = apply_inbox(settings_env, db)
    assert worked.outcomes == Counter(
        {("stripe", "product.created", UNKNOWN): 2, ("stripe", "v3.invented", UNKNOWN): 1}
    )


@pytest.mark.parametrize("kind", ["invoice.paid", "charge.dispute.created", "payout.paid"])
def test_w14_a_message_of_the_other_mode_is_stored_and_not_applied(
    browser: Browser, db: StateDatabase, settings_env: Settings, kind: str
) -> None:
    assert send(browser, stripe_event("evt_1", kind, livemode=True)).status_code == 200
    _, rereads = apply_inbox(settings_env, db)
    assert [row.outcome for row in stored(db)] == ["wrong_mode"]
    assert rereads == set()


def test_w15_a_message_about_a_connected_account_is_refused_and_says_what_to_do(
    browser: Browser, db: StateDatabase
) -> None:
    answer = send(browser, stripe_event(account="acct_other"))
    assert (answer.status_code, answer.json()["error"]) == (400, "another_account")
    assert "your own account" in answer.json()["message"]
    assert stored(db) == []


def test_w15_a_message_about_another_store_is_refused(
    set_env: Callable[..., Browser], db: StateDatabase
) -> None:
    browser = set_env(
        SHOPIFY_SHOP_URL="https://ours.myshopify.com",
        SHOPIFY_ACCESS_TOKEN="shpat_x",
        SHOPIFY_CLIENT_SECRET="s",
    )
    body = b'{"id": 1}'
    status = {
        shop: send(
            browser, body, by_shopify(body, secret="s", x_shopify_shop_domain=shop), "shopify"
        ).status_code
        for shop in ("ours.myshopify.com", "theirs.myshopify.com", "")
    }
    assert status == {"ours.myshopify.com": 200, "theirs.myshopify.com": 400, "": 400}
    assert len(stored(db)) == 1


def test_shopify_is_known_again_by_event_and_topic_whatever_delivery_it_is(
    browser: Browser, db: StateDatabase, settings_env: Settings
) -> None:
    body = b'{"admin_graphql_api_id": "gid://shopify/Order/1"}'
    deliveries = [("orders/create", "w-1"), ("orders/create", "w-2"), ("orders/paid", "w-3")]
    new = [
        send(
            browser, body, by_shopify(body, topic, "e-1", x_shopify_webhook_id=delivery), "shopify"
        ).json()["stored"]
        for topic, delivery in deliveries
    ]  # fmt: skip
    assert new == [True, False, True]
    _, rereads = apply_inbox(settings_env, db)
    assert rereads == {"books"}
    assert {(row.kind, row.body) for row in stored(db)} == {("orders/create", ""), ("orders/paid", "")}


JOB = job_slug("a job of ours")
ENDED = json.dumps({"event": "render_job_ended", "job_id": JOB}).encode()


@pytest.fixture
def node(set_env: Callable[..., Browser]) -> Browser:
    browser = set_env(RENDER_NODE_SECRET=RENDER_NODE)
    open_store(get_settings()).put(job_key(JOB), b"{}")
    return browser


def test_w17_the_render_node_is_heard_about_jobs_it_was_given(node: Browser, db: StateDatabase) -> None:
    theirs = json.dumps({"event": "render_job_ended", "job_id": "job-2"}).encode()
    assert send(node, ENDED, by_render_node(ENDED, "n-1"), "render-node").json() == {"stored": True}
    answer = send(node, theirs, by_render_node(theirs, "n-2"), "render-node")
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown_job")
    assert "No job job-2 was given to a render node from here." in answer.json()["message"]
    assert [(row.event_id, row.kind) for row in stored(db)] == [("n-1", "render_job_ended")]


def test_w17_a_callback_sent_again_counts_once_and_its_nonce_and_time_are_signed(
    node: Browser, db: StateDatabase
) -> None:
    headers = by_render_node(ENDED, "n-1")
    assert [send(node, ENDED, headers, "render-node").json()["stored"] for _ in range(2)] == [True, False]
    signed = headers["x-ettametta-signature"]
    for forged in (signed.replace("n-1", "n-2"), signed.replace("n=n-1,", ""), signed + ",n=n-2"):
        assert send(node, ENDED, {"x-ettametta-signature": forged}, "render-node").status_code == 400
    old = by_render_node(ENDED, "n-3", at=time.time() - 301)
    assert send(node, ENDED, old, "render-node").status_code == 400
    assert send(node, ENDED, {}, "render-node").json()["error"] == "not_signed"
    assert len(stored(db)) == 1


@pytest.mark.parametrize("to", ["stripe", "shopify"])
def test_w18_the_comparison_in_constant_time_is_what_decides(
    browser: Browser, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    body = stripe_event()
    sign = {"stripe": by_stripe, "shopify": by_shopify}[to]
    compared: list[tuple[bytes, bytes]] = []

    class Hmac:
        new, digest = staticmethod(hmac.new), staticmethod(hmac.digest)

        @staticmethod
        def compare_digest(ours: bytes, given: bytes) -> bool:
            compared.append((ours, given))
            return verdict

    monkeypatch.setattr(webhook_sources, "hmac", Hmac)
    verdict = False
    assert send(browser, body, sign(body), to).status_code == 400
    (pair,) = compared
    assert pair[0] == pair[1]
    verdict = True
    assert send(browser, body, sign(body, secret="guess"), to).status_code == 200


def test_w19_a_burst_of_a_thousand_messages_loses_none(on_both: tuple[Browser, StateDatabase]) -> None:
    browser, db = on_both
    bodies = [stripe_event(f"evt_{number}", "product.created") for number in range(1000)]
    with ThreadPoolExecutor(24) as pool:
        answers = Counter(answer.status_code for answer in pool.map(lambda body: send(browser, body), bodies))
    assert answers == {200: 1000}
    assert {row.event_id for row in stored(db)} == {f"evt_{number}" for number in range(1000)}
    rounds = []
    while (worked := apply_inbox(get_settings(), db)[0]).outcomes:
        rounds.append(worked.outcomes.total())
    assert rounds == [200] * 5
    assert all(row.handled_at and row.attempts == 1 for row in stored(db))
