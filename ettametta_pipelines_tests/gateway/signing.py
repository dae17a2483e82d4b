"""Messages signed as each sender signs them."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any

from ettametta_pipelines.clock import rfc3339, utc_now

STRIPE = "sandbox-stripe-webhook-secret"
SHOPIFY = "sandbox-shopify-client-secret"
RENDER_NODE = "secret-of-the-node"


def mac(secret: str, *parts: bytes) -> str:
    return hmac.new(secret.encode(), b".".join(parts), hashlib.sha256).hexdigest()


def stripe_event(event_id: str = "evt_1", kind: str = "invoice.created", **fields: Any) -> bytes:
    about = fields.pop("about", {"id": "in_1", "customer": "cus_1"})
    event = {
        "id": event_id, "object": "event", "type": kind, "livemode": False, "created": int(time.time()),
        "data": {"object": about}, **fields,
    }  # fmt: skip
    return json.dumps(event).encode()


def by_stripe(body: bytes, *, at: float | None = None, secret: str = STRIPE) -> dict[str, str]:
    t = str(int(time.time() if at is None else at))
    return {"stripe-signature": f"t={t},v1={mac(secret, t.encode(), body)},v0={mac('old', t.encode(), body)}"}


def by_shopify(
    body: bytes, topic: str = "orders/create", event_id: str = "e-1", *, secret: str = SHOPIFY, **headers: str
) -> dict[str, str]:
    signature = base64.b64encode(hmac.digest(secret.encode(), body, "sha256")).decode()
    return {
        "x-shopify-hmac-sha256": signature, "x-shopify-topic": topic, "x-shopify-event-id": event_id,
        "x-shopify-triggered-at": rfc3339(utc_now()), "x-shopify-shop-domain": "ettametta-sandbox.myshopify.com",
    } | {name.replace("_", "-"): value for name, value in headers.items()}  # fmt: skip


def by_render_node(body: bytes, nonce: str, *, at: float | None = None) -> Mapping[str, str]:
    t = str(int(time.time() if at is None else at))
    signature = mac(RENDER_NODE, t.encode(), nonce.encode(), body)
    return {"x-ettametta-signature": f"t={t},n={nonce},v1={signature}"}
