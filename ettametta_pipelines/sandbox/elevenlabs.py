"""Sandboxed ElevenLabs: text to speech with timestamps, and the list of models.

Checks what the service checks (key, voice, model, format, length, credits of the month) and answers in its JSON. What
it says is babble of `speechlike.py`: audible, timed by character, the same for the same text and voice.
"""

import base64
import re
from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from starlette.concurrency import run_in_threadpool

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.sandbox.speechlike import FORMATS, babble, encoded

# Models served: the longest text, credits a character costs.
MODELS = {
    "eleven_v4": (5_000, 1.0),
    "eleven_v3": (5_000, 1.0),
    "eleven_multilingual_v2": (10_000, 1.0),
    "eleven_v4_turbo": (5_000, 1.0),
    "eleven_turbo_v2_5": (40_000, 1.0),
    "eleven_flash_v2_5": (40_000, 1.0),
}
CREDITS_PER_MONTH = 10_000

_KEY = re.compile(r"[A-Za-z0-9._-]{8,}")
_VOICE = re.compile(r"[A-Za-z0-9]{20}")
_FIELDS = frozenset(
    {
        "text", "model_id", "language_code", "voice_settings", "pronunciation_dictionary_locators", "seed",
        "previous_text", "next_text", "previous_request_ids", "next_request_ids", "apply_text_normalization",
        "apply_language_text_normalization", "use_pvc_as_ivc",
    }
)  # fmt: skip


class Refusal(Exception):
    """An answer that says no: `{"detail": {"status", "message"}}`, or a list of fields with 422."""

    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.body: dict[str, Any] = {"detail": {"status": status, "message": message}}


def router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """Routes below `/elevenlabs`."""
    routes = APIRouter()

    @routes.get("/v1/models")
    async def models(request: Request) -> Response:
        try:
            _check_key(request)
        except Refusal as refusal:
            return JSONResponse(refusal.body, status_code=refusal.code)
        return JSONResponse([_described(name) for name in MODELS])

    @routes.post("/v1/text-to-speech/{voice_id}/with-timestamps")
    async def speak(voice_id: str, request: Request) -> Response:
        try:
            _check_key(request)
            text, model = _asked(await _body(request))
            output = request.query_params.get("output_format", "mp3_44100_128")
            if output not in FORMATS:
                raise _unprocessable("query", "output_format", f"Input should be one of {', '.join(FORMATS)}")
            if not _VOICE.fullmatch(voice_id):
                raise Refusal(404, "voice_not_found", f"A voice with voice_id {voice_id} was not found.")
            cost = _charge(store, clock, text, model)
        except Refusal as refusal:
            return JSONResponse(refusal.body, status_code=refusal.code)
        # Making sound takes a while: not on the loop that serves everyone.
        answer = await run_in_threadpool(_spoken, text, voice_id, output, seed)
        headers = {
            "character-cost": str(cost),
            "request-id": f"sandbox{store.counter('elevenlabs_requests'):013d}",
            "current-concurrent-requests": "1",
            "maximum-concurrent-requests": "5",
        }
        return JSONResponse(answer, headers=headers)

    return routes


def _check_key(request: Request) -> None:
    key = request.headers.get("xi-api-key")
    if not key:
        raise Refusal(401, "needs_authorization", "Neither authorization header nor xi-api-key received.")
    if not _KEY.fullmatch(key):
        raise Refusal(401, "invalid_api_key", "Invalid API key")


async def _body(request: Request) -> Mapping[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        raise _unprocessable("body", "0", "JSON decode error") from None
    if not isinstance(body, dict):
        raise _unprocessable("body", "0", "Input should be a valid dictionary")
    return body


def _asked(body: Mapping[str, Any]) -> tuple[str, str]:
    """(text, model) of a request; refuses unknown fields, which the service ignores, so that a typo shows."""
    for name in body:
        if name not in _FIELDS:
            raise _unprocessable("body", name, "Extra inputs are not permitted")
    text, model = body.get("text"), body.get("model_id", "eleven_multilingual_v2")
    if not isinstance(text, str):
        raise _unprocessable("body", "text", "Field required")
    if not text.strip():
        raise Refusal(400, "input_text_empty", "Input text is empty.")
    if model not in MODELS:
        raise Refusal(400, "model_not_found", f"A model with model ID {model} does not exist.")
    if "language_code" in body and model == "eleven_multilingual_v2":
        raise Refusal(
            400, "unsupported_language", f"Model {model} does not support the language_code parameter."
        )
    longest = MODELS[model][0]
    if len(text) > longest:
        raise Refusal(
            400,
            "max_character_limit_exceeded",
            f"A single request with {model} may have {longest} characters.",
        )
    return text, model


def _charge(store: SandboxStore, clock: Clock, text: str, model: str) -> int:
    """Take the credits a text costs off the month's; refusal 401 where too few are left."""
    cost = round(MODELS[model][1] * len(text))
    month = f"elevenlabs_credits_{clock():%Y-%m}"
    left = CREDITS_PER_MONTH - store.counter(month, 0)
    if cost > left:
        raise Refusal(
            401,
            "quota_exceeded",
            f"This request exceeds your quota of {CREDITS_PER_MONTH}. You have {left} credits remaining, while {cost} "
            "credits are required for this request.",
        )
    store.counter(month, cost)
    return cost


def _spoken(text: str, voice_id: str, output: str, seed: int) -> dict[str, Any]:
    spoken = babble(text, f"{voice_id} {seed}")
    alignment = {
        "characters": list(text),
        "character_start_times_seconds": [round(start, 3) for start, _ in spoken.times],
        "character_end_times_seconds": [round(end, 3) for _, end in spoken.times],
    }
    return {
        "audio_base64": base64.b64encode(encoded(spoken, output)).decode(),
        "alignment": alignment,
        "normalized_alignment": alignment,
    }


def _described(name: str) -> dict[str, Any]:
    longest, factor = MODELS[name]
    return {
        "model_id": name,
        "name": name.replace("_", " ").title(),
        "can_do_text_to_speech": True,
        "maximum_text_length_per_request": longest,
        "model_rates": {"character_cost_multiplier": factor},
    }


def _unprocessable(where: str, field: str, message: str) -> Refusal:
    refusal = Refusal(422, "", message)
    refusal.body = {"detail": [{"type": "value_error", "loc": [where, field], "msg": message, "input": None}]}
    return refusal
