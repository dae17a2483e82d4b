"""ElevenLabs over httpx: text to speech with the time of every character, and its price.

A request that may have been carried out is never sent again from here: speech has no idempotency key, and every answer
is paid for. Refusals (4xx, 503) cost nothing and are waited out within the retry budget where waiting helps. Called by
`renders/voiceover.py`, which makes each text once.
"""

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import FailureKind, OutcomeUnknownError, PermanentError, PipelineError
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    call_with_retries,
    http_client,
    raise_for_vendor,
    send,
    unreadable_answer,
)

if TYPE_CHECKING:
    import httpx

    from ettametta_pipelines.settings import VendorEndpoint

VENDOR = "ElevenLabs"
# A minute of speech takes several seconds to make; a long text waits in a queue first.
SPEECH_TIMEOUT_S = 240.0
# The best quality every plan has.
OUTPUT_FORMAT = "mp3_44100_128"
MAX_ANSWER_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class Model:
    """List price in millionths of a US dollar per character, the longest text, whether it is told the language."""

    microusd_per_character: int
    max_characters: int
    takes_language: bool


# Pricing and model pages as of October 2026.
MODELS: Mapping[str, Model] = {
    "eleven_v4": Model(80, 5_000, True),
    "eleven_v3": Model(80, 5_000, True),
    "eleven_multilingual_v2": Model(80, 10_000, False),
    "eleven_v4_turbo": Model(40, 5_000, True),
    "eleven_turbo_v2_5": Model(40, 40_000, True),
    "eleven_flash_v2_5": Model(40, 40_000, True),
}

_KEY = ErrorRule(
    FailureKind.NEEDS_PERSON,
    "api_key_rejected",
    "Check ELEVENLABS_API_KEY at elevenlabs.io, then start again; without it a local voice speaks.",
)
_BUSY = ErrorRule(FailureKind.TRANSIENT, "rate_limited", "It is tried again by itself, more slowly.")
REASONS: Mapping[str, ErrorRule] = {
    "invalid_api_key": _KEY,
    "needs_authorization": _KEY,
    "missing_permissions": ErrorRule(
        FailureKind.NEEDS_PERSON,
        "elevenlabs_permission_missing",
        "Give the key access to Text to Speech and to Models at elevenlabs.io.",
    ),
    # Comes with HTTP 401, as if the key were wrong.
    "quota_exceeded": ErrorRule(
        FailureKind.NEEDS_PERSON,
        "elevenlabs_quota_exceeded",
        "Buy credits at elevenlabs.io or wait for the next month; nothing was charged for this text.",
    ),
    "voice_not_found": ErrorRule(
        FailureKind.PERMANENT,
        "elevenlabs_voice_unknown",
        "Set ELEVENLABS_VOICE, or the recipe's voice, to an id from elevenlabs.io's voice library.",
    ),
    "model_not_found": ErrorRule(
        FailureKind.PERMANENT,
        "elevenlabs_model_retired",
        "Set ELEVENLABS_MODEL to a model that still exists.",
    ),
    "too_many_concurrent_requests": _BUSY,
    "system_busy": _BUSY,
    "rate_limit_exceeded": _BUSY,
    "invalid_request": ErrorRule(
        FailureKind.PERMANENT, "elevenlabs_request_refused", "The text itself was refused; see the message."
    ),
}


@dataclass(frozen=True)
class CharacterTime:
    """One character of the text and when it is spoken, in seconds of the audio."""

    character: str
    start_s: float
    end_s: float


@dataclass(frozen=True)
class ElevenLabsSpeech:
    """Speech as the vendor made it. `audio` is an MP3; `cost_microusd` is by list price for what was charged."""

    audio: bytes
    times: tuple[CharacterTime, ...]
    charged_characters: int
    cost_microusd: int
    request_id: str


class ElevenLabsClient:
    """One model behind one endpoint.

    Raises PermanentError `elevenlabs_price_unknown` for a model without a price: nothing is bought blindly.
    """

    def __init__(
        self, endpoint: "VendorEndpoint", model: str, *, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        known = MODELS.get(model)
        if known is None:
            raise PermanentError(
                f"The price of ElevenLabs model {model!r} is not known.",
                code="elevenlabs_price_unknown",
                remedy=f"Set ELEVENLABS_MODEL to one of {', '.join(MODELS)}, or add its price to MODELS.",
            )
        self.model = model
        self._terms = known
        self._retries = endpoint.max_retries
        self._sleep = sleep
        self._http = http_client(
            endpoint,
            headers={"xi-api-key": endpoint.secret("elevenlabs_api_key"), "accept": "application/json"},
        )

    def speak(self, text: str, voice: str, *, language: str | None = None) -> ElevenLabsSpeech:
        """Speech of `text` by a voice id; `language` is an ISO 639-1 code, passed on where the model takes one.

        Raises OutcomeUnknownError `voice_answer_lost` when it may have been made and charged all the same; after any
        other PipelineError nothing was charged.
        """
        if len(text) > self._terms.max_characters:
            raise PermanentError(
                f"{self.model} speaks {self._terms.max_characters} characters at once, the text has {len(text)}.",
                code="voice_over_too_long",
                remedy="Shorten the text, or set ELEVENLABS_MODEL to a model for longer ones.",
            )
        body: dict[str, Any] = {"text": text, "model_id": self.model}
        if language and self._terms.takes_language:
            body["language_code"] = language
        response = call_with_retries(
            lambda: self._ask_once(voice, body), retries=self._retries, sleep=self._sleep, seed=text
        )
        audio, times = _read(response, text)
        charged = _charged(response, text)
        return ElevenLabsSpeech(
            audio=audio,
            times=times,
            charged_characters=charged,
            cost_microusd=charged * self._terms.microusd_per_character,
            request_id=response.headers.get("request-id", "")[:80],
        )

    def highest_cost(self, text: str) -> int:
        """The list price of a text in millionths of a US dollar; reckoned before it is spoken."""
        return len(text) * self._terms.microusd_per_character

    def check_model(self) -> None:
        """A free question that shows whether key and model work. Raises as `speak` does."""
        doing = "list its models"

        def ask() -> "httpx.Response":
            response = send(self._http, "GET", "v1/models", vendor=VENDOR, doing=doing)
            _raise_refusal(response, doing)
            return response

        response = call_with_retries(ask, retries=self._retries, sleep=self._sleep, seed=doing)
        try:
            names = {str(row["model_id"]) for row in response.json()}
        except (ValueError, KeyError, TypeError):
            raise unreadable_answer(VENDOR, doing) from None
        if self.model not in names:
            rule = REASONS["model_not_found"]
            raise PermanentError(f"ElevenLabs has no model {self.model}.", code=rule.code, remedy=rule.remedy)

    def _ask_once(self, voice: str, body: Mapping[str, Any]) -> "httpx.Response":
        doing = "speak a text"
        response = send(
            self._http,
            "POST",
            f"v1/text-to-speech/{voice}/with-timestamps",
            vendor=VENDOR,
            doing=doing,
            repeatable=False,
            params={"output_format": OUTPUT_FORMAT},
            json=body,
            timeout=SPEECH_TIMEOUT_S,
        )
        # 503 says that no work was begun; the other 5xx may come from a proxy that lost a finished answer.
        if response.status_code >= 500 and response.status_code != 503:
            raise _lost(f"answered HTTP {response.status_code}")
        _raise_refusal(response, doing)
        return response


def _lost(what: str) -> PipelineError:
    return OutcomeUnknownError(
        f"{VENDOR} {what} when asked to speak a text, so it is not known whether it was made and charged.",
        code="voice_answer_lost",
        remedy="It is not asked again by itself; look into the history at elevenlabs.io.",
    )


def _raise_refusal(response: "httpx.Response", doing: str) -> None:
    """Raise what a refusal says: `{"detail": {"status", "message"}}`, a list of fields with 422, or bare text."""
    if response.status_code < 300:
        return
    reason, detail = "", ""
    try:
        told = response.json().get("detail")
    except (ValueError, AttributeError):
        told = None
    if isinstance(told, dict):
        reason, detail = str(told.get("status") or told.get("code") or ""), str(told.get("message") or "")
    elif isinstance(told, list):
        rows = [row for row in told if isinstance(row, dict)]
        reason = "invalid_request"
        detail = "; ".join(
            f"{'.'.join(map(str, row.get('loc') or ()))}: {row.get('msg')}" for row in rows[:3]
        )
    elif isinstance(told, str):
        detail = told
    raise_for_vendor(response, vendor=VENDOR, doing=doing, reason=reason, detail=detail, rules=REASONS)


def _read(response: "httpx.Response", text: str) -> tuple[bytes, tuple[CharacterTime, ...]]:
    """Audio and times of a success. One that cannot be read was charged all the same, so it counts as lost."""
    try:
        document = response.json()
        audio = base64.b64decode(document["audio_base64"], validate=True)
        alignment = document.get("alignment") or {}
        times = tuple(
            CharacterTime(str(character), float(start), float(end))
            for character, start, end in zip(
                alignment.get("characters", ()),
                alignment.get("character_start_times_seconds", ()),
                alignment.get("character_end_times_seconds", ()),
                strict=True,
            )
        )
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error):
        raise _lost("sent something unreadable") from None
    if not audio or len(audio) > MAX_ANSWER_BYTES:
        raise _lost(f"sent {len(audio)} bytes of sound")
    # Captions may only follow times that speak of this very text.
    spoken = "".join(time.character for time in times)
    return audio, times if spoken == text else ()


def _charged(response: "httpx.Response", text: str) -> int:
    """What the answer says it cost in characters, else the text's length."""
    told = response.headers.get("character-cost", "")
    return int(told) if told.isascii() and told.isdigit() else len(text)
