"""Messages from vendors: verified over the raw body, stored, answered, and only then applied.

A source is one row of `SOURCES`: how its signature is checked and what names a message. The rest is the same for all:
bodies are limited, a message that is repeated is stored once, and a database that is away is answered with 503, so that
the vendor tries again. Nothing is stored of a message that is not signed.
"""

import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response
from starlette.background import BackgroundTask

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.publishing.removals import apply_waiting
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import inbox
from ettametta_pipelines.state.session import StateDatabase

MAX_BODY_BYTES = 64 * 1024
TOLERANCE_S = 300
_TIKTOK_SIGNATURE = re.compile(r"\s*t=([0-9]{1,12})\s*,\s*s=([0-9a-fA-F]{64})\s*")


@dataclass(frozen=True)
class Source:
    """One vendor's messages. `is_signed(headers, body, secret, now)`; `kind` is the field that names the event."""

    vendor: str
    secret_name: str
    is_signed: Callable[[Mapping[str, str], bytes, str, float], bool]
    kind: str


def signed_by_tiktok(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """`TikTok-Signature: t=…,s=…` with s = HMAC-SHA256 of `t.body`, at most five minutes old or early."""
    match = _TIKTOK_SIGNATURE.fullmatch(headers.get("tiktok-signature", ""))
    if match is None or not secret or abs(now - int(match[1])) > TOLERANCE_S:
        return False
    expected = hmac.new(secret.encode(), match[1].encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, match[2].lower())


SOURCES: Mapping[str, Source] = {
    "tiktok": Source("tiktok", "tiktok_client_secret", signed_by_tiktok, "event")
}


def webhook_routes(settings: Settings, db: StateDatabase, *, clock: Clock = utc_now) -> APIRouter:
    """`POST /webhooks/{source}`; not behind the operators' door, since vendors call it."""
    routes = APIRouter()

    @routes.post("/webhooks/{name}")
    async def receive(name: str, request: Request) -> Response:
        source = SOURCES.get(name)
        if source is None:
            return JSONResponse({"error": "unknown_source"}, 404)
        body = await _limited_body(request)
        if body is None:
            return JSONResponse({"error": "too_large"}, 413)
        secret = settings.endpoint(source.vendor).secret(source.secret_name)
        if not source.is_signed(request.headers, body, secret, clock().timestamp()):
            return JSONResponse({"error": "not_signed"}, 400)
        message = _json_object(body)
        if message is None or not isinstance(message.get(source.kind), str):
            return JSONResponse({"error": "unreadable"}, 400)
        # Repeated messages are the same bytes; vendors without an id of their own are told apart by them.
        event_id = hashlib.sha256(body).hexdigest()
        try:
            new = await run_in_threadpool(
                inbox.store, db, name, event_id, message[source.kind][:100], body.decode("utf-8")
            )
        except PipelineError as error:
            return JSONResponse({"error": error.code}, 503)
        return JSONResponse({"stored": new}, background=BackgroundTask(_apply, db))

    return routes


def _apply(db: StateDatabase) -> None:
    try:
        apply_waiting(db)
    except PipelineError:
        # The message is stored and answered; the hourly look at the channels applies it.
        return


async def _limited_body(request: Request) -> bytes | None:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            return None
    return body


def _json_object(body: bytes) -> dict[str, Any] | None:
    try:
        message = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
