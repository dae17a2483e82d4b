"""Gemini on an API key, through google-genai: structured answers about text, pictures and public videos, with their
price.

The SDK's own retries stay off; ours are bounded and honour the wait Google names. A repeated question is a second
charge of a fraction of a cent and changes nothing, so lost answers are asked for again too.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import FailureKind, PermanentError, PipelineError, TransientError
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.google_api import seconds_to_quota_reset
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    call_with_retries,
    is_loopback,
    network_error,
    quiet_request_logs,
    redact,
    vendor_error,
)

if TYPE_CHECKING:
    from google.genai import Client

T = TypeVar("T")

VENDOR = "Gemini"
# Bounds what one answer can cost; thinking counts too.
MAX_OUTPUT_TOKENS = 8192


@dataclass(frozen=True)
class TokenPrice:
    """List price in millionths of a US dollar per million tokens (so 0.30 USD is 300_000)."""

    prompt: int
    output: int


# Pricing page as of October 2026. Dated and preview names (`-001`, `-preview-...`) cost what their model costs.
PRICES: Mapping[str, TokenPrice] = {
    "gemini-4-argon": TokenPrice(2_000_000, 10_000_000),
    "gemini-3.8-flash": TokenPrice(750_000, 3_750_000),
    "gemini-3.5-flash-lite": TokenPrice(300_000, 2_500_000),
    "gemini-3.1-flash-lite": TokenPrice(250_000, 1_500_000),
}

_BLOCKED = ErrorRule(
    FailureKind.PERMANENT,
    "gemini_blocked",
    "Gemini will not answer about this content; the other candidates go on.",
)
_UNFINISHED = ErrorRule(FailureKind.TRANSIENT, "gemini_unfinished", "It is tried again by itself.")
# Why an answer ended -> what that means. STOP is the only one whose text counts.
FINISH_REASONS: Mapping[str, ErrorRule] = {
    "MAX_TOKENS": ErrorRule(
        FailureKind.PERMANENT, "gemini_answer_cut", "Ask for less in one answer, or raise MAX_OUTPUT_TOKENS."
    ),
    "OTHER": _UNFINISHED,
    "MALFORMED_RESPONSE": _UNFINISHED,
    "FINISH_REASON_UNSPECIFIED": _UNFINISHED,
}

_KEY = ErrorRule(
    FailureKind.NEEDS_PERSON,
    "api_key_rejected",
    "Check GEMINI_API_KEY in Google AI Studio, then start again.",
)
REASONS: Mapping[str, ErrorRule] = {
    "API_KEY_INVALID": _KEY,
    "UNAUTHENTICATED": _KEY,
    "PERMISSION_DENIED": _KEY,
    "SERVICE_DISABLED": _KEY,
    "NOT_FOUND": ErrorRule(
        FailureKind.PERMANENT,
        "gemini_model_retired",
        "Set GEMINI_MODEL to a model that still exists.",
    ),
    "RESOURCE_EXHAUSTED": ErrorRule(
        FailureKind.TRANSIENT, "rate_limited", "It is tried again by itself, more slowly."
    ),
    "DAILY_LIMIT": ErrorRule(
        FailureKind.TRANSIENT,
        "quota_exhausted",
        "It goes on by itself after midnight Pacific; raise the project's tier if this happens often.",
    ),
    "INVALID_ARGUMENT": ErrorRule(
        FailureKind.PERMANENT,
        "gemini_request_refused",
        "The question itself was refused; see what the message names.",
    ),
}


@dataclass(frozen=True)
class GeminiAnswer:
    """A validated answer: `value` is of the schema asked for, `cost_microusd` by the list price, rounded up."""

    value: BaseModel
    model: str
    prompt_tokens: int
    output_tokens: int
    cost_microusd: int


class GeminiClient:
    """One model behind one endpoint. May be shared by threads.

    Raises PermanentError `gemini_price_unknown` for a model without a price: nothing is bought blindly.
    """

    def __init__(self, endpoint: VendorEndpoint, model: str, *, clock: Clock = utc_now) -> None:
        self.endpoint = endpoint
        self.model = model.removeprefix("models/")
        self._price = price_of(self.model)
        self._clock = clock
        self._lock = threading.Lock()
        self._made: Client | None = None

    @property
    def _client(self) -> "Client":
        # Made once and kept: a client that is dropped closes the connections of whoever still uses it.
        with self._lock:
            if self._made is None:
                self._made = self._make_client()
            return self._made

    def _make_client(self) -> "Client":
        from google import genai
        from google.genai import types

        quiet_request_logs()
        base_url = self.endpoint.base_url
        return genai.Client(
            vertexai=False,
            api_key=self.endpoint.secret("gemini_api_key"),
            http_options=types.HttpOptions(
                base_url=base_url,
                timeout=int(self.endpoint.timeout_s * 1000),
                retry_options=types.HttpRetryOptions(attempts=1),
                client_args={"trust_env": not is_loopback(base_url)},
            ),
        )

    def generate_json(
        self,
        prompt: str,
        *,
        schema: type[BaseModel],
        images: Sequence[tuple[str, bytes]] = (),
        video_uri: str | None = None,
        seed: int | None = None,
    ) -> GeminiAnswer:
        """Ask `prompt` about `images` ((mime type, bytes) pairs) and a public YouTube video, answered in `schema`.

        Anything but a finished, valid answer raises: blocked or cut answers are permanent, unreadable ones transient.
        """
        from google.genai import types

        parts = [types.Part.from_bytes(data=data, mime_type=mime) for mime, data in images]
        if video_uri is not None:
            parts.append(types.Part(file_data=types.FileData(file_uri=video_uri)))
        parts.append(types.Part(text=prompt))
        config = types.GenerateContentConfig(
            response_mime_type="application/json",
            response_json_schema=schema.model_json_schema(),
            max_output_tokens=MAX_OUTPUT_TOKENS,
            seed=seed,
        )
        response = self._ask(
            lambda: self._client.models.generate_content(
                model=self.model, contents=types.Content(role="user", parts=parts), config=config
            ),
            "answer a question",
        )
        usage = response.usage_metadata
        prompt_tokens = (usage and usage.prompt_token_count) or 0
        output_tokens = ((usage and usage.candidates_token_count) or 0) + (
            (usage and usage.thoughts_token_count) or 0
        )
        return GeminiAnswer(
            value=_validated(_finished_text(response), schema),
            model=response.model_version or self.model,
            prompt_tokens=prompt_tokens,
            output_tokens=output_tokens,
            cost_microusd=cost_microusd(self._price, prompt_tokens, output_tokens),
        )

    def count_tokens(self, text: str) -> int:
        """Tokens of a text for this model; free of charge, so also the way to see whether the key works."""
        response = self._ask(
            lambda: self._client.models.count_tokens(model=self.model, contents=text), "count tokens"
        )
        return response.total_tokens or 0

    def _ask(self, request: Callable[[], T], doing: str) -> T:
        return call_with_retries(
            lambda: self._ask_once(request, doing), retries=self.endpoint.max_retries, seed=doing
        )

    def _ask_once(self, request: Callable[[], T], doing: str) -> T:
        import httpx
        import httpx2
        from google.genai import errors

        # The SDK may run on either of two HTTP libraries that share no base class.
        try:
            return request()
        except errors.APIError as error:
            raise self._refusal(error, doing) from None
        except (httpx.TransportError, httpx2.TransportError) as error:
            unsent = (httpx.ConnectError, httpx.ConnectTimeout, httpx2.ConnectError, httpx2.ConnectTimeout)
            raise network_error(
                error,
                VENDOR,
                doing,
                base_url=self.endpoint.base_url,
                was_sent=not isinstance(error, unsent),
                repeatable=True,
                timed_out=isinstance(error, httpx.TimeoutException | httpx2.TimeoutException),
            ) from None

    def _refusal(self, error: Any, doing: str) -> PipelineError:
        details = _details(error)
        named = [str(detail.get("reason", "")) for detail in details]
        reason = next((name for name in named if name in REASONS), str(error.status or ""))
        wait = _retry_delay(details)
        if reason == "RESOURCE_EXHAUSTED" and _is_daily(details):
            reason, wait = "DAILY_LIMIT", seconds_to_quota_reset(self._clock)
        return vendor_error(
            VENDOR,
            doing,
            status=int(error.code),
            reason=reason,
            detail=str(error.message or ""),
            rules=REASONS,
            retry_after_s=wait,
        )


def price_of(model: str) -> TokenPrice:
    """Price of a model by name; PermanentError `gemini_price_unknown` when the table has none."""
    base = re.sub(r"-(\d{3}|preview(-[\w-]+)?)$", "", model)
    price = PRICES.get(base)
    if price is None:
        raise PermanentError(
            f"The price of Gemini model {model!r} is not known.",
            code="gemini_price_unknown",
            remedy=f"Set GEMINI_MODEL to one of {', '.join(PRICES)}, or add its price to PRICES.",
        )
    return price


def cost_microusd(price: TokenPrice, prompt_tokens: int, output_tokens: int) -> int:
    """Cost in millionths of a dollar, rounded up: a bill is never smaller than what is booked for it."""
    return -(-(prompt_tokens * price.prompt + output_tokens * price.output) // 1_000_000)


def _finished_text(response: Any) -> str:
    feedback = response.prompt_feedback
    if not response.candidates:
        blocked = str(getattr(feedback, "block_reason", None) or "no candidate")
        raise _unusable(_BLOCKED, blocked.removeprefix("BlockedReason."))
    finish = response.candidates[0].finish_reason
    name = str(getattr(finish, "value", finish) or "FINISH_REASON_UNSPECIFIED")
    if name != "STOP":
        raise _unusable(FINISH_REASONS.get(name, _BLOCKED), name)
    content = response.candidates[0].content
    return "".join(part.text or "" for part in (content.parts if content else None) or [] if not part.thought)


def _unusable(rule: ErrorRule, why: str) -> PipelineError:
    kinds: dict[FailureKind, type[PipelineError]] = {FailureKind.TRANSIENT: TransientError}
    return kinds.get(rule.kind, PermanentError)(
        f"Gemini ended its answer with {why}, so there is nothing to use.", code=rule.code, remedy=rule.remedy
    )


def _validated(text: str, schema: type[BaseModel]) -> BaseModel:
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'answer'}: {item['msg']}"
            for item in error.errors(include_url=False, include_context=False, include_input=False)[:3]
        )
        raise TransientError(
            f"Gemini's answer does not fit {schema.__name__} ({redact(problems)}).",
            code="gemini_answer_invalid",
            remedy="It is asked again by itself; if it lasts, the model cannot keep to this schema.",
        ) from None


def _details(error: Any) -> list[dict[str, Any]]:
    body = error.details
    if isinstance(body, str):
        try:
            body = json.loads(body)
        except ValueError:
            return []
    inner = body.get("error", body) if isinstance(body, dict) else {}
    found = inner.get("details", []) if isinstance(inner, dict) else []
    return [detail for detail in found if isinstance(detail, dict)]


def _retry_delay(details: Sequence[Mapping[str, Any]]) -> float | None:
    """Seconds of a RetryInfo (`"34s"`)."""
    for detail in details:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)s", str(detail.get("retryDelay", "")))
        if match:
            return float(match[1])
    return None


def _is_daily(details: Sequence[Mapping[str, Any]]) -> bool:
    violations = [v for detail in details for v in detail.get("violations", []) if isinstance(v, dict)]
    return any("PerDay" in str(violation.get("quotaId", "")) for violation in violations)
