"""Who may send messages to `/webhooks/{source}`: how each signs, what names a message, and which ones are refused.

A source is one row of `SOURCES`; the route (`webhooks.py`) treats all alike. Signatures are over the raw body and are
compared in constant time. What a message leads to is not said here but in `webhook_effects.py`.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.synthesis.node_client import gave_job

TOLERANCE_S = 300
# Shopify sends a message again for four hours, each time with the instant of the first.
SHOPIFY_OLDEST_S = 6 * 3600
_SECONDS = re.compile(r"[0-9]{1,12}")
_NAME = re.compile(r"[\x21-\x7e]{1,200}")


class NotAccepted(Exception):
    """A signed message that is not stored; the sender sees `code` and what it means."""

    def __init__(self, status: int, code: str, said: str) -> None:
        super().__init__(said)
        self.status = status
        self.code = code
        self.said = said


@dataclass(frozen=True)
class Received:
    """A signed message. `message` is its body as read, `headers` are looked up in any case."""

    headers: Mapping[str, str]
    body: bytes
    message: Mapping[str, Any]
    settings: Settings


IsSigned = Callable[[Mapping[str, str], bytes, str, float], bool]


@dataclass(frozen=True)
class Source:
    """One sender. `is_signed(headers, body, secret, now)`; `name` gives (event id, kind) or raises NotAccepted, as
    does `is_ours`, where the database has to be asked whether a message is for us."""

    vendor: str
    secret_name: str
    is_signed: IsSigned
    name: Callable[[Received], tuple[str, str]]
    is_ours: Callable[[StateDatabase, Received], None] | None = None


def timed(header: str, scheme: str, *, nonce: str = "") -> IsSigned:
    """Of `header: t=<unix>,<scheme>=<hex>`: HMAC-SHA256 of `t.body`, or of `t.<nonce>.body`, five minutes old or early.

    The scheme may stand there several times, as while a secret is replaced; one match is enough.
    """

    def is_signed(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
        fields = signature_fields(headers.get(header, ""))
        at, word = fields.get("t", []), fields.get(nonce, []) if nonce else [""]
        if not secret or len(at) != 1 or len(word) != 1 or not _SECONDS.fullmatch(at[0]):
            return False
        if abs(now - int(at[0])) > TOLERANCE_S:
            return False
        signed = b".".join(part.encode() for part in (*at, *filter(None, word))) + b"." + body
        expected = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest().encode()
        return any(hmac.compare_digest(expected, given.lower().encode()) for given in fields.get(scheme, []))

    return is_signed


def signature_fields(header: str) -> dict[str, list[str]]:
    """`t=1,v1=a,v1=b` by name."""
    fields: dict[str, list[str]] = {}
    for part in header.split(","):
        name, _, value = part.strip().partition("=")
        fields.setdefault(name, []).append(value)
    return fields


def signed_by_shopify(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """`X-Shopify-Hmac-Sha256`: base64 of the body's HMAC-SHA256. Its instant is not signed, but still read."""
    try:
        at = datetime.fromisoformat(headers.get("x-shopify-triggered-at", "")).timestamp()
    except (ValueError, OverflowError, OSError):
        return False
    if not secret or not -TOLERANCE_S <= now - at <= SHOPIFY_OLDEST_S:
        return False
    expected = base64.b64encode(hmac.digest(secret.encode(), body, "sha256"))
    return hmac.compare_digest(expected, headers.get("x-shopify-hmac-sha256", "").encode())


def _tiktok(received: Received) -> tuple[str, str]:
    # TikTok gives its messages no id; repeated ones are the same bytes.
    return hashlib.sha256(received.body).hexdigest(), _named(received.message.get("event"))


def _stripe(received: Received) -> tuple[str, str]:
    message = received.message
    if message.get("account"):
        raise NotAccepted(
            400, "another_account", "This is about a connected account. Let the endpoint listen to your own account."
        )  # fmt: skip
    return _named(message.get("id")), _named(message.get("type"))


def _shopify(received: Received) -> tuple[str, str]:
    headers = received.headers
    endpoint = received.settings.endpoint("shopify")
    ours = urlsplit(endpoint.base_url).hostname
    if endpoint.mode == "live" and headers.get("x-shopify-shop-domain", "").lower() != ours:
        raise NotAccepted(400, "another_shop", "This is about another store than SHOPIFY_SHOP_URL.")
    topic = _named(headers.get("x-shopify-topic"))
    event_id = headers.get("x-shopify-event-id") or headers.get("x-shopify-webhook-id")
    # One event may be of several topics, and a topic may be subscribed to twice.
    return f"{_named(event_id)}:{topic}"[:200], topic


def _render_node(received: Received) -> tuple[str, str]:
    (nonce,) = signature_fields(received.headers["x-ettametta-signature"])["n"]
    return _named(nonce), _named(received.message.get("event"))


def _knows_job(db: StateDatabase, received: Received) -> None:
    job = _named(received.message.get("job_id"))
    if not gave_job(open_store(received.settings), job):
        raise NotAccepted(404, "unknown_job", f"No job {job} was given to a render node from here.")


def _named(value: object) -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise NotAccepted(400, "unreadable", "The message lacks its id or its kind.")
    return value


SOURCES: Mapping[str, Source] = {
    "tiktok": Source("tiktok", "tiktok_client_secret", timed("tiktok-signature", "s"), _tiktok),
    "stripe": Source("stripe", "stripe_webhook_secret", timed("stripe-signature", "v1"), _stripe),
    "shopify": Source("shopify", "shopify_client_secret", signed_by_shopify, _shopify),
    "render-node": Source(
        "render node", "render_node_secret", timed("x-ettametta-signature", "v1", nonce="n"), _render_node,
        _knows_job,
    ),
}  # fmt: skip
