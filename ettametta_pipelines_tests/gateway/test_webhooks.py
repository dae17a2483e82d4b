"""TikTok's messages: signed, fresh, stored once, applied when the inbox is worked off."""

import hashlib
import hmac
import json
import logging
import time
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from ettametta_pipelines.commands.channels import connect_platform
from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.publishing.connections import find, require
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import WebhookEvent
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.webhook_effects import apply_inbox
from ettametta_pipelines_tests.gateway.conftest import Browser

SECRET = "sandbox-tiktok-client-secret"


@pytest.fixture
def open_id(settings_env: Settings) -> str:
    return connect_platform(settings_env, "acme", "tiktok", None).channel_id


def message(open_id: str, *, at: float | None = None, event: str = "authorization.removed") -> bytes:
    body = {
        "client_key": "k", "event": event, "create_time": int(at or time.time()) + 1, "user_openid": open_id,
        "content": json.dumps({"reason": 1}),
    }  # fmt: skip
    return json.dumps(body).encode()


def signature(body: bytes, *, at: float | None = None, secret: str = SECRET) -> str:
    t = str(int(at or time.time()))
    return f"t={t},s={hmac.new(secret.encode(), t.encode() + b'.' + body, hashlib.sha256).hexdigest()}"


def send(browser: Browser, body: bytes, signed: str | None = None, source: str = "tiktok") -> httpx.Response:
    headers = {"tiktok-signature": signature(body) if signed is None else signed}
    return browser.client.post(f"/webhooks/{source}", content=body, headers=headers)


def stored(db: StateDatabase) -> list[Any]:
    with db.session(write=False) as session:
        return list(session.scalars(sa.select(WebhookEvent)))


def test_a_removed_authorization_stops_the_channel_and_raises_one_alert(
    browser: Browser,
    db: StateDatabase,
    open_id: str,
    settings_env: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    body = message(open_id)
    for _ in range(3):
        assert send(browser, body).status_code == 200
    apply_inbox(settings_env, db)
    with pytest.raises(NeedsPersonError) as failure:
        require(db, "acme", "tiktok")
    assert failure.value.code == "reauth_required"
    assert [r.message for r in caplog.records if r.levelno == logging.ERROR] == [
        str(failure.value) + " Reason: TikTok says: the person disconnected the app in TikTok"
    ]
    (event,) = stored(db)
    assert event.handled_at is not None


@pytest.mark.parametrize("skew", [-301, 301])
def test_t13_a_message_outside_the_window_is_refused(
    browser: Browser, db: StateDatabase, open_id: str, skew: int
) -> None:
    body = message(open_id)
    assert send(browser, body, signature(body, at=time.time() + skew + (skew > 0))).status_code == 400
    assert send(browser, body, signature(body, at=time.time() + skew * 0.98)).status_code == 200


def test_what_is_not_signed_is_refused_and_not_stored(
    browser: Browser, db: StateDatabase, open_id: str
) -> None:
    body = message(open_id)
    good = signature(body)
    forged = [
        "",
        "t=1",
        good.replace("s=", "v0="),
        signature(body, secret=""),
        signature(body, secret="guess"),
        good[:-1],
    ]
    for signed in forged:
        assert send(browser, body, signed).status_code == 400
    assert send(browser, json.dumps(json.loads(body), indent=1).encode(), good).status_code == 400
    assert stored(db) == []
    assert require(db, "acme", "tiktok").status == "active"


def test_a_message_from_before_the_present_consent_does_not_end_it(
    browser: Browser, db: StateDatabase, open_id: str, settings_env: Settings
) -> None:
    assert send(browser, message(open_id, at=time.time() - 3600)).status_code == 200
    apply_inbox(settings_env, db)
    assert require(db, "acme", "tiktok").status == "active"
    assert [event.outcome for event in stored(db)] == ["older than the present consent"]


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"[]", 400), (b'{"event": 3}', 400), (b"\xff\xfe", 400), (b"[" * 60_000, 400), (b" " * 1_000_001, 413)],
)
def test_what_is_no_message_is_refused(browser: Browser, db: StateDatabase, body: bytes, status: int) -> None:
    assert send(browser, body).status_code == status
    assert stored(db) == []


def test_other_events_are_stored_and_left_alone(
    browser: Browser, db: StateDatabase, open_id: str, settings_env: Settings
) -> None:
    assert send(browser, message(open_id, event="post.publish.complete")).status_code == 200
    assert send(browser, json.dumps({"event": "authorization.removed"}).encode()).status_code == 200
    apply_inbox(settings_env, db)
    assert [(event.outcome, event.problem) for event in stored(db)] == [
        ("of no concern here", None),
        (None, "KeyError: 'user_openid'"),
    ]
    assert send(browser, b"{}", source="nobody").status_code == 404
    channel = find(db, "acme", "tiktok")
    assert channel is not None
    assert channel.status == "active"
