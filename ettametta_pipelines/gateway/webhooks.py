"""Messages from vendors: verified over the raw body, stored, answered. They are applied by the sensor `webhook_inbox`.

Nothing is applied here, not even after the answer: slow work would take the threads that store, and two ways of
applying would be two to trust. The rest is the same for every source (`webhook_sources.py`): bodies are limited and
never unpacked, a message that is repeated is stored once, and a database that is away is answered with 503, so that the
vendor tries again. Nothing is stored of a message that is not signed.
"""

import json
from typing import Any

from fastapi import APIRouter, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, Response

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.gateway.group_commit import GroupCommit
from ettametta_pipelines.gateway.webhook_sources import SOURCES, NotAccepted, Received
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import inbox
from ettametta_pipelines.state.session import StateDatabase

MAX_BODY_BYTES = 1_000_000


def webhook_routes(settings: Settings, db: StateDatabase, *, clock: Clock = utc_now) -> APIRouter:
    """`POST /webhooks/{source}`; not behind the operators' door, since vendors call it."""
    routes = APIRouter()
    writer = GroupCommit(db)

    @routes.post("/webhooks/{name}")
    async def receive(name: str, request: Request) -> Response:
        try:
            return await _receive(name, request)
        except NotAccepted as refusal:
            return JSONResponse({"error": refusal.code, "message": refusal.said}, refusal.status)
        except PipelineError as error:
            return JSONResponse({"error": error.code}, 503)

    async def _receive(name: str, request: Request) -> Response:
        source = SOURCES.get(name)
        if source is None:
            raise NotAccepted(404, "unknown_source", f"There are {', '.join(SOURCES)}.")
        body = await _limited_body(request)
        secrets = settings.webhook_secrets(source.vendor, source.secret_name)
        if not secrets:
            raise NotAccepted(400, "no_secret", f"{source.secret_name.upper()} is not set at the receiver.")
        now = clock().timestamp()
        if not any(source.is_signed(request.headers, body, secret, now) for secret in secrets):
            raise NotAccepted(400, "not_signed", "The signature is missing, wrong, or of another time.")
        received = Received(request.headers, body, _json_object(body), settings)
        event_id, kind = source.name(received)
        if source.is_ours is not None:
            await run_in_threadpool(source.is_ours, db, received)
        message = inbox.Message(name, event_id, kind, body.decode("utf-8"))
        return JSONResponse({"stored": await writer.store(message)})

    return routes


async def _limited_body(request: Request) -> bytes:
    """The raw body. One that is packed could be of any size once unpacked, and no vendor sends one."""
    if request.headers.get("content-encoding", "identity") != "identity":
        raise NotAccepted(413, "packed", "Send the body as it is, without a content encoding.")
    pieces, size = [], 0
    async for piece in request.stream():
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BODY_BYTES:
            raise NotAccepted(413, "too_large", f"A message has {MAX_BODY_BYTES} bytes at most.")
    return b"".join(pieces)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        message = json.loads(body.decode("utf-8"))
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise NotAccepted(400, "unreadable", "The body is no JSON object.")
    return message
