"""Sandboxed chat completions of OpenAI and Groq: one protocol, two services with limits of their own.

Checks what the services check (key, model, fields, strict schema, pictures) and answers with usage data. What is
answered comes from `gemini_judge.py`, so the three agree on what they see as far as three models would.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.sandbox.gemini_judge import UnreadablePicture, answer, prose, understand

TOKENS_PER_PICTURE = 765

_KEY = re.compile(r"[A-Za-z0-9._-]{8,}")
_FIELDS = frozenset(
    {
        "model", "messages", "response_format", "max_completion_tokens", "max_tokens", "seed", "temperature", "top_p",
        "n", "stop", "stream", "user", "store", "metadata", "reasoning_effort", "service_tier", "tools", "tool_choice",
        "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "safety_identifier", "verbosity",
    }
)  # fmt: skip
_PICTURE = re.compile(r"data:(image/(?:png|jpeg|gif|webp));base64,(.*)", re.DOTALL)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True)
class Service:
    """One of the two: the path before its calls, its models (seeing or not), its limits, and its own opinion."""

    name: str
    prefix: str
    models: Mapping[str, bool]
    most_pictures: int
    most_picture_bytes: int
    opinion: int


OPENAI = Service(
    "openai",
    "/v1",
    {"gpt-6-sol": True, "gpt-6-luna": True, "gpt-5.6-luna": True, "gpt-5.4-mini": True},
    500,
    50 << 20,
    opinion=1,
)
GROQ = Service(
    "groq", "/openai/v1", {"qwen/qwen3.8-27b": True, "openai/gpt-oss-120b": False}, 5, 4 << 20, opinion=2
)


class Refusal(Exception):
    """An answer that says no: `{"error": {"message", "type", "code", "param"}}`."""

    def __init__(
        self, status: int, message: str, *, kind: str = "invalid_request_error", code: str | None = None,
        param: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.status = status
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def openai_router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """Routes below `/openai`."""
    return _router(OPENAI, store, clock, seed)


def groq_router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """Routes below `/groq`."""
    return _router(GROQ, store, clock, seed)


def _router(service: Service, store: SandboxStore, clock: Clock, seed: int) -> APIRouter:
    routes = APIRouter(prefix=service.prefix)

    @routes.get("/models/{name:path}")
    async def model(name: str, request: Request) -> Response:
        try:
            _check_key(request)
            _known_model(service, name)
        except Refusal as refusal:
            return JSONResponse(refusal.body, status_code=refusal.status)
        return JSONResponse(
            {"id": name, "object": "model", "created": 1_780_000_000, "owned_by": service.name}
        )

    @routes.post("/chat/completions")
    async def complete(request: Request) -> Response:
        try:
            _check_key(request)
            body = await _body(request)
            # Pictures are decoded, which takes a while: not on the loop that serves everyone.
            told = await run_in_threadpool(_completed, service, body, seed)
        except Refusal as refusal:
            return JSONResponse(refusal.body, status_code=refusal.status)
        number = store.counter(f"{service.name}_answers")
        told |= {"id": f"chatcmpl-sandbox{number:08d}", "created": int(clock().timestamp())}
        return JSONResponse(told, headers={"x-request-id": f"req_sandbox{number:08d}"})

    return routes


def _check_key(request: Request) -> None:
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise Refusal(401, "You didn't provide an API key.", kind="invalid_request_error")
    if not _KEY.fullmatch(key):
        raise Refusal(401, "Incorrect API key provided.", code="invalid_api_key")


def _known_model(service: Service, name: Any) -> bool:
    """Whether the model sees; refusal 404 for one that is not there."""
    if not isinstance(name, str) or name not in service.models:
        raise Refusal(
            404, f"The model `{name}` does not exist or you do not have access to it.", code="model_not_found"
        )
    return service.models[name]


async def _body(request: Request) -> Mapping[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal(400, "We could not parse the JSON body of your request.")
    for name in body:
        if name not in _FIELDS:
            raise Refusal(
                400, f"Unrecognized request argument supplied: {name}", code="unknown_parameter", param=name
            )
    return body


def _completed(service: Service, body: Mapping[str, Any], seed: int) -> dict[str, Any]:
    sees = _known_model(service, body.get("model"))
    text, pictures = _contents(service, body.get("messages"))
    if pictures and not sees:
        raise Refusal(400, "This model does not support image input.", param="messages")
    schema = _schema(body.get("response_format"))
    try:
        question = understand(text, pictures, (), seed + service.opinion + int(body.get("seed") or 0))
    except UnreadablePicture as error:
        raise Refusal(
            400, "You uploaded an unsupported image.", code="invalid_image_format", param="messages"
        ) from error
    said = prose(question) if schema is None else json.dumps(answer(schema, question), ensure_ascii=False)
    finish = "stop"
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None and len(said) > int(limit) * 4:
        said, finish = said[: int(limit) * 4], "length"
    prompt_tokens = -(-len(text) // 4) + TOKENS_PER_PICTURE * len(pictures)
    output_tokens = max(1, -(-len(said) // 4))
    message = {"role": "assistant", "content": said, "refusal": None}
    return {
        "object": "chat.completion",
        "model": body["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": output_tokens,
            "total_tokens": prompt_tokens + output_tokens,
        },
    }


def _contents(service: Service, messages: Any) -> tuple[str, tuple[bytes, ...]]:
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "Invalid 'messages': empty array.", code="empty_array", param="messages")
    texts, pictures = [], []
    for part in _parts(messages):
        if part.get("type") == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif part.get("type") == "image_url" and isinstance(part.get("image_url"), dict):
            pictures.append(_picture(service, str(part["image_url"].get("url", ""))))
        else:
            raise Refusal(
                400, f"Invalid value: '{part.get('type')}'.", code="invalid_value", param="messages"
            )
    if len(pictures) > service.most_pictures:
        raise Refusal(400, f"Too many images: at most {service.most_pictures}.", param="messages")
    return "\n".join(texts), tuple(pictures)


def _parts(messages: list[Any]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in (
            "system",
            "developer",
            "user",
            "assistant",
        ):
            raise Refusal(400, "Invalid 'messages'.", code="invalid_value", param="messages")
        content = message.get("content")
        if isinstance(content, str):
            yield {"type": "text", "text": content}
        else:
            yield from (part for part in content or [] if isinstance(part, dict))


def _picture(service: Service, url: str) -> bytes:
    matched = _PICTURE.fullmatch(url)
    if matched is None:
        # Addresses are fetched by the real services; here nothing is, so only data URIs are taken.
        raise Refusal(400, "Failed to download image.", code="invalid_image_url", param="messages")
    if len(matched[2]) > service.most_picture_bytes * 4 // 3:
        raise Refusal(413, "Request too large: image exceeds the limit.", code="request_too_large")
    try:
        return base64.b64decode(matched[2], validate=True)
    except binascii.Error:
        raise Refusal(400, "Invalid base64 image_url.", code="invalid_base64", param="messages") from None


def _schema(wanted: Any) -> Mapping[str, Any] | None:
    """The schema asked for; None for plain text."""
    if wanted is None or (isinstance(wanted, dict) and wanted.get("type") == "text"):
        return None
    given = wanted.get("json_schema") if isinstance(wanted, dict) else None
    if not isinstance(given, dict) or wanted.get("type") != "json_schema":
        raise Refusal(400, "Invalid value for response_format.", param="response_format")
    if not _NAME.fullmatch(str(given.get("name") or "")):
        raise Refusal(400, "Missing or invalid 'response_format.json_schema.name'.", param="response_format")
    schema = given.get("schema")
    if not isinstance(schema, dict):
        raise Refusal(400, "Missing 'response_format.json_schema.schema'.", param="response_format")
    if given.get("strict"):
        _check_strict(schema, given["name"])
    return schema


def _check_strict(node: Any, name: str) -> None:
    """Strict mode: every object closed, every property required."""
    if isinstance(node, list):
        for item in node:
            _check_strict(item, name)
    if not isinstance(node, dict):
        return
    if node.get("type") == "object":
        if node.get("additionalProperties") is not False:
            raise _bad_schema(name, "'additionalProperties' is required to be supplied and to be false")
        if set(node.get("required", [])) != set(node.get("properties", {})):
            raise _bad_schema(
                name, "'required' is required to be supplied and to list every key in properties"
            )
    for value in node.values():
        _check_strict(value, name)


def _bad_schema(name: str, why: str) -> Refusal:
    return Refusal(400, f"Invalid schema for response_format '{name}': {why}.", param="response_format")
