"""Sandboxed Gemini Developer API: generateContent, countTokens and the list of models.

Checks what the service checks (key, model, request fields, schema, media) and answers 200 exactly, as the SDK takes
nothing else. Both spellings of field names are accepted, since the SDK mixes them. What is answered comes from
`gemini_judge.py`.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.sandbox.gemini_judge import Question, UnreadablePicture, answer, prose, understand
from ettametta_pipelines.sandbox.google_requests import NO_CALLER

# Models served, with the tokens they take and give.
MODELS = {
    "gemini-4-argon": (2_097_152, 65_536),
    "gemini-3.8-flash": (1_048_576, 65_536),
    "gemini-3.5-flash-lite": (1_048_576, 65_536),
    "gemini-3.1-flash-lite": (1_048_576, 65_536),
}
MAX_REQUEST_BYTES = 100 * 1024 * 1024
TOKENS_PER_PICTURE = 258
# A linked video is taken to last half a minute.
TOKENS_PER_VIDEO = 30 * 300

_PICTURE_TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/heic", "image/heif", "image/gif"})
_REQUEST_FIELDS = frozenset(
    {
        "contents", "generationConfig", "systemInstruction", "safetySettings", "tools", "toolConfig", "cachedContent",
        "model", "generateContentRequest", "labels", "serviceTier", "store",
    }
)  # fmt: skip
_CONFIG_FIELDS = frozenset(
    {
        "temperature", "topP", "topK", "candidateCount", "maxOutputTokens", "stopSequences", "responseMimeType",
        "responseSchema", "responseJsonSchema", "seed", "mediaResolution", "thinkingConfig", "presencePenalty",
        "frequencyPenalty", "responseLogprobs", "logprobs", "responseModalities", "speechConfig",
    }
)  # fmt: skip
_KEY = re.compile(r"[A-Za-z0-9._-]{8,}")
_YOUTUBE_HOSTS = frozenset({"www.youtube.com", "youtube.com", "m.youtube.com", "youtu.be"})


class GeminiRefusal(Exception):
    """An answer that says no, in google.rpc's shape."""

    def __init__(self, code: int, status: str, message: str, *details: Mapping[str, Any]) -> None:
        super().__init__(message)
        error: dict[str, Any] = {"code": code, "message": message, "status": status}
        if details:
            error["details"] = list(details)
        self.code = code
        self.body = {"error": error}


@dataclass(frozen=True)
class _Contents:
    """Parts of a request, sorted by kind."""

    text: str
    pictures: tuple[bytes, ...]
    videos: tuple[str, ...]

    @property
    def modalities(self) -> dict[str, int]:
        """Tokens by modality, the text's at about four characters each."""
        counted = {
            "TEXT": -(-len(self.text) // 4),
            "IMAGE": TOKENS_PER_PICTURE * len(self.pictures),
            "VIDEO": TOKENS_PER_VIDEO * len(self.videos),
        }
        return {name: count for name, count in counted.items() if count}


def router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """Routes below `/gemini`, for API versions v1 and v1beta."""
    routes = APIRouter()
    own_host = urlsplit(public_url).netloc

    @routes.get("/{version}/models")
    async def list_models(version: str, request: Request) -> Response:
        return _answered(lambda: _models(version, request))

    @routes.get("/{version}/models/{name}")
    async def get_model(version: str, name: str, request: Request) -> Response:
        return _answered(lambda: _model(version, name, request))

    @routes.post("/{version}/models/{call}")
    async def ask(version: str, call: str, request: Request) -> Response:
        try:
            _check_caller(version, request)
            name, _, action = call.partition(":")
            _known_model(name)
            body = await _body(request)
            # Pictures are decoded, which takes a while: not on the loop that serves everyone.
            return await run_in_threadpool(_respond, store, seed, own_host, name, action, body)
        except GeminiRefusal as refusal:
            return JSONResponse(refusal.body, status_code=refusal.code)

    return routes


def _answered(make: Any) -> Response:
    try:
        return JSONResponse(make())
    except GeminiRefusal as refusal:
        return JSONResponse(refusal.body, status_code=refusal.code)


def _check_caller(version: str, request: Request) -> None:
    if version not in ("v1", "v1beta"):
        raise GeminiRefusal(404, "NOT_FOUND", "The requested URL was not found on this server.")
    key = request.headers.get("x-goog-api-key") or request.query_params.get("key")
    if not key:
        raise GeminiRefusal(403, "PERMISSION_DENIED", NO_CALLER)
    if not _KEY.fullmatch(key):
        raise GeminiRefusal(
            400,
            "INVALID_ARGUMENT",
            "API key not valid. Please pass a valid API key.",
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"},
        )


def _known_model(name: str) -> tuple[int, int]:
    limits = MODELS.get(re.sub(r"-\d{3}$", "", name))
    if limits is None:
        raise GeminiRefusal(
            404,
            "NOT_FOUND",
            f"models/{name} is not found for API version v1, or is not supported for generateContent.",
        )
    return limits


def _models(version: str, request: Request) -> dict[str, Any]:
    _check_caller(version, request)
    return {"models": [_described(name) for name in MODELS]}


def _model(version: str, name: str, request: Request) -> dict[str, Any]:
    _check_caller(version, request)
    _known_model(name)
    return _described(name)


def _described(name: str) -> dict[str, Any]:
    input_limit, output_limit = _known_model(name)
    return {
        "name": f"models/{name}",
        "displayName": name.replace("-", " ").title(),
        "inputTokenLimit": input_limit,
        "outputTokenLimit": output_limit,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }


async def _body(request: Request) -> dict[str, Any]:
    raw = await request.body()
    if len(raw) > MAX_REQUEST_BYTES:
        raise _invalid(f"Request payload size exceeds the limit: {MAX_REQUEST_BYTES} bytes.")
    try:
        body = json.loads(raw)
    except ValueError:
        raise _invalid("Invalid JSON payload received. Unable to parse the request.") from None
    if not isinstance(body, dict):
        raise _invalid("Invalid JSON payload received. Expected an object.")
    return _camel_keys(body, _REQUEST_FIELDS, "")


def _respond(
    store: SandboxStore, seed: int, own_host: str, model: str, action: str, body: dict[str, Any]
) -> Response:
    contents = _contents(body, own_host)
    counted = contents.modalities
    details = [{"modality": name, "tokenCount": count} for name, count in counted.items()]
    if action == "countTokens":
        return JSONResponse({"totalTokens": sum(counted.values()), "promptTokensDetails": details})
    if action != "generateContent":
        raise GeminiRefusal(404, "NOT_FOUND", f"Method {action!r} is not found for {model}.")
    config = _camel_keys(body.get("generationConfig") or {}, _CONFIG_FIELDS, " at 'generation_config'")
    schema = _schema(config)
    try:
        question = understand(
            contents.text, contents.pictures, contents.videos, seed + int(config.get("seed") or 0)
        )
    except UnreadablePicture as error:
        raise _invalid("Unable to process input image. Please retry or report.") from error
    text, finish = _written(schema, question, config)
    output = max(1, -(-len(text) // 4))
    usage = {
        "promptTokenCount": sum(counted.values()),
        "candidatesTokenCount": output,
        "totalTokenCount": sum(counted.values()) + output,
        "promptTokensDetails": details,
    }
    number = store.counter("gemini_answers")
    candidate = {
        "content": {"role": "model", "parts": [{"text": text}]},
        "finishReason": finish,
        "index": 0,
    }
    return JSONResponse(
        {
            "candidates": [candidate],
            "usageMetadata": usage,
            "modelVersion": model,
            "responseId": f"sandbox-{number:08d}",
        }
    )


def _written(
    schema: Mapping[str, Any] | None, question: Question, config: Mapping[str, Any]
) -> tuple[str, str]:
    """(text, finish reason): cut at `maxOutputTokens` like the real thing, JSON or not."""
    text = prose(question) if schema is None else json.dumps(answer(schema, question), ensure_ascii=False)
    limit = config.get("maxOutputTokens")
    if limit is not None and len(text) > int(limit) * 4:
        return text[: int(limit) * 4], "MAX_TOKENS"
    return text, "STOP"


def _schema(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The schema asked for: None for plain text, an empty one for JSON of any shape."""
    schemas = [config[name] for name in ("responseSchema", "responseJsonSchema") if config.get(name)]
    wants_json = config.get("responseMimeType") == "application/json"
    if len(schemas) > 1:
        raise _invalid(
            "Only one of response_schema and response_json_schema may be set in generation_config."
        )
    if schemas and not wants_json:
        raise _invalid("Schema is only supported with response_mime_type 'application/json'.")
    if schemas and not isinstance(schemas[0], dict):
        raise _invalid("Invalid value at 'generation_config.response_schema'.")
    if not wants_json:
        return None
    return schemas[0] if schemas else {"type": "object", "properties": {"answer": {"type": "string"}}}


def _contents(body: Mapping[str, Any], own_host: str) -> _Contents:
    contents = body.get("contents")
    if isinstance(contents, dict):
        contents = [contents]
    if not isinstance(contents, list) or not contents:
        raise _invalid("* GenerateContentRequest.contents: contents is not specified")
    texts, pictures, videos = [], [], []
    system = body.get("systemInstruction")
    for content in [*([system] if isinstance(system, dict) else []), *contents]:
        for part in content.get("parts", []) if isinstance(content, dict) else []:
            inline = part.get("inlineData") or part.get("inline_data")
            linked = part.get("fileData") or part.get("file_data")
            if isinstance(part.get("text"), str):
                texts.append(part["text"])
            elif isinstance(inline, dict):
                pictures.append(_picture(inline))
            elif isinstance(linked, dict):
                videos.append(_video(linked, own_host))
            else:
                raise _invalid("* GenerateContentRequest.contents.parts: contents.parts must not be empty.")
    if not (texts or pictures or videos):
        raise _invalid("* GenerateContentRequest.contents.parts: contents.parts must not be empty.")
    return _Contents("\n".join(texts), tuple(pictures), tuple(videos))


def _picture(inline: Mapping[str, Any]) -> bytes:
    mime = inline.get("mimeType") or inline.get("mime_type")
    if mime not in _PICTURE_TYPES:
        raise _invalid(f"Unsupported MIME type: {mime}")
    try:
        # The SDK writes the URL-safe alphabet, others the standard one.
        return base64.b64decode(
            str(inline.get("data", "")).replace("-", "+").replace("_", "/"), validate=True
        )
    except binascii.Error:
        raise _invalid(
            "Invalid value at 'contents[0].parts[0].inline_data.data' (TYPE_BYTES), Base64 decoding failed."
        ) from None


def _video(linked: Mapping[str, Any], own_host: str) -> str:
    uri = str(linked.get("fileUri") or linked.get("file_uri") or "")
    parts = urlsplit(uri)
    # Besides YouTube's pages, those of the sandbox itself stand for videos here.
    if parts.scheme == "https" and parts.hostname in _YOUTUBE_HOSTS:
        return uri
    if parts.netloc == own_host and parts.path.startswith("/youtube/watch"):
        return uri
    raise _invalid(
        "Cannot fetch content from the provided URL. Please ensure the URL is valid and accessible."
    )


def _camel_keys(values: Mapping[str, Any], known: frozenset[str], where: str) -> dict[str, Any]:
    """Top-level keys in camelCase, each known; refusal 400 for others."""
    renamed = {}
    for name, value in values.items():
        camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
        if camel not in known:
            raise _invalid(f'Invalid JSON payload received. Unknown name "{name}"{where}: Cannot find field.')
        renamed[camel] = value
    return renamed


def _invalid(message: str) -> GeminiRefusal:
    return GeminiRefusal(400, "INVALID_ARGUMENT", message)
