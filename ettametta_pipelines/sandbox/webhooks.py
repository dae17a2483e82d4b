"""The sandbox as a sender of webhooks: a control route posts Stripe's events, signed, to whoever shall hear them.

Nothing is sent by itself, so that a test decides when messages arrive, and an outage is one that was not asked for.
"""

import hashlib
import hmac
import json

import httpx
from fastapi import APIRouter
from pydantic import BaseModel

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.core import CONTROL_PREFIX, SandboxStore
from ettametta_pipelines.sandbox.stripe_books import ledger_order


class Endpoint(BaseModel):
    """Where to send, and the secret to sign with."""

    url: str
    secret: str = "sandbox-stripe-webhook-secret"


def webhook_control(store: SandboxStore, clock: Clock) -> APIRouter:
    """`POST /_control/webhooks/stripe`: every event made through the API that its receiver has not taken yet."""
    routes = APIRouter()

    @routes.post(f"{CONTROL_PREFIX}/webhooks/stripe")
    async def deliver(endpoint: Endpoint) -> dict[str, int]:
        answers: dict[str, int] = {}
        events = sorted((event for _, event in store.items("stripe_event")), key=ledger_order)
        # A test's proxy settings are meant for the clients under test; certificates, unused here, load slowly.
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=10) as client:
            for event in events:
                if store.get("stripe_delivered", event["id"]) is not None:
                    continue
                body = json.dumps(event).encode()
                answer = await client.post(
                    endpoint.url, content=body, headers=_signed(body, endpoint.secret, clock)
                )
                answers[event["id"]] = answer.status_code
                if answer.is_success:
                    store.put("stripe_delivered", event["id"], {"to": endpoint.url})
        return answers

    return routes


def _signed(body: bytes, secret: str, clock: Clock) -> dict[str, str]:
    at = str(int(clock().timestamp()))
    signature = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"Stripe-Signature": f"t={at},v1={signature}", "Content-Type": "application/json"}
