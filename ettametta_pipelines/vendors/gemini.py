"""Gemini on an API key, through google-genai: structured answers about text, pictures and public videos, with their
price.

The SDK's own retries stay off; ours are bounded and honour the wait Google names. Answers with status 429, 500 and 503
cost nothing and are waited out; a question whose answer was lost may have been charged and is not sent again from here.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import FailureKind, PipelineError
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.answers import (
    MAX_OUTPUT_TOKENS,
    Image,
    StructuredAnswer,
    Usage,
    answer_lost,
    highest_cost,
    unusable,
    usage_told,
    validated,
)
from ettametta_pipelines.vendors.google_api import seconds_to_quota_reset
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    MadeOnce,
    call_with_retries,
    is_loopback,
    network_error,
    quiet_request_logs,
    unreadable_answer,
    vendor_error,
)
from ettametta_pipelines.vendors.models import ModelPrice, Provider, models_of, price_of

if TYPE_CHECKING:
    from google.genai import Client

T = TypeVar("T")

VENDOR = "Gemini"
# What comes with these statuses was not carried out, or is not charged (Gemini API pricing: failed requests).
UNCHARGED_STATUSES = frozenset({429, 500, 503})
# From a proxy that may have lost a finished answer.
REQUEST_TIMEOUT_STATUS = 408

_BLOCKED = ErrorRule(
    FailureKind.PERMANENT,
    "gemini_blocked",
    "Gemini will not answer about this content; the other questions go on.",
)
_UNFINISHED = ErrorRule(FailureKind.TRANSIENT, "gemini_unfinished", "Run again; this answer broke off.")
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
REASONS: dict[str, ErrorRule] = {
    "API_KEY_INVALID": _KEY,
    "API_KEY_SERVICE_BLOCKED": _KEY,
    "API_KEY_IP_ADDRESS_BLOCKED": _KEY,
    "BILLING_DISABLED": _KEY,
    "CONSUMER_SUSPENDED": _KEY,
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
# Asked about a video, the bare status also means that this one is private or restricted; the other questions go on.
WATCHING_REASONS = REASONS | {
    "PERMISSION_DENIED": ErrorRule(
        FailureKind.PERMANENT,
        "gemini_video_refused",
        "Private and restricted videos cannot be watched. If every video ends so, check GEMINI_API_KEY.",
    )
}


class GeminiClient:
    """One model behind one endpoint. May be shared by threads. `prices` are the packaged ones unless given.

    Raises PermanentError `gemini_price_unknown` for a model without a price: nothing is bought blindly.
    """

    provider: Provider = "gemini"
    watches_videos = True

    def __init__(
        self,
        endpoint: VendorEndpoint,
        model: str,
        *,
        prices: Mapping[str, ModelPrice] | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.endpoint = endpoint
        self.model = model.removeprefix("models/")
        self._price = price_of("gemini", self.model, models_of("gemini").prices if prices is None else prices)
        self._clock = clock
        self._client = MadeOnce(self._make_client)

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
                # A redirect would carry the key along.
                client_args={"trust_env": not is_loopback(base_url), "follow_redirects": False},
            ),
        )

    def highest_cost(
        self, prompt: str, *, schema: type[BaseModel], pictures: int = 0, video_s: float = 0.0
    ) -> int:
        """Most one such question can cost, in millionths of a US dollar."""
        return highest_cost(self._price, prompt, schema, pictures, video_s)

    def generate_json(
        self,
        prompt: str,
        *,
        schema: type[BaseModel],
        images: Sequence[Image] = (),
        video_uri: str | None = None,
        seed: int | None = None,
    ) -> StructuredAnswer:
        """Ask `prompt` about `images` ((mime type, bytes) pairs) and a public YouTube video, answered in `schema`.

        Anything but a finished, valid answer raises: UnusableAnswer when blocked or cut, UnfinishedAnswer when outside
        the schema, OutcomeUnknownError when the answer was lost and may have been charged.
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
            lambda: self._client().models.generate_content(
                model=self.model, contents=types.Content(role="user", parts=parts), config=config
            ),
            "answer a question",
            repeatable=False,
            reasons=REASONS if video_uri is None else WATCHING_REASONS,
        )
        usage = self._usage(response)
        return StructuredAnswer(
            value=validated(VENDOR, _finished_text(response, usage), schema, usage),
            model=response.model_version or self.model,
            usage=usage,
        )

    def _usage(self, response: Any) -> Usage:
        counted = response.usage_metadata
        if counted is None:
            if _block_reason(response):
                return Usage(0, 0, 0)
            raise answer_lost(VENDOR, "did not say what its answer counts")
        output = (counted.candidates_token_count or 0) + (counted.thoughts_token_count or 0)
        sound = sum(
            detail.token_count or 0
            for detail in counted.prompt_tokens_details or []
            if str(getattr(detail.modality, "value", detail.modality)) == "AUDIO"
        )
        return usage_told(VENDOR, self._price, counted.prompt_token_count, output, sound)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text for this model; free of charge, so also the way to see whether the key works."""
        response = self._ask(
            lambda: self._client().models.count_tokens(model=self.model, contents=text),
            "count tokens",
            repeatable=True,
        )
        return response.total_tokens or 0

    def _ask(
        self,
        request: Callable[[], T],
        doing: str,
        *,
        repeatable: bool,
        reasons: Mapping[str, ErrorRule] = REASONS,
    ) -> T:
        return call_with_retries(
            lambda: self._ask_once(request, doing, repeatable, reasons),
            retries=self.endpoint.max_retries,
            seed=doing,
        )

    def _ask_once(
        self, request: Callable[[], T], doing: str, repeatable: bool, reasons: Mapping[str, ErrorRule]
    ) -> T:
        import httpx
        import httpx2
        from google.genai import errors

        # The SDK may run on either of two HTTP libraries that share no base class.
        try:
            return request()
        except errors.APIError as error:
            status = int(error.code)
            lost = status == REQUEST_TIMEOUT_STATUS or (status >= 500 and status not in UNCHARGED_STATUSES)
            if lost and not repeatable:
                raise answer_lost(VENDOR, f"answered HTTP {status}") from None
            raise self._refusal(error, doing, reasons) from None
        except (httpx.RequestError, httpx2.RequestError) as error:
            unsent = isinstance(
                error, httpx.ConnectError | httpx.ConnectTimeout | httpx2.ConnectError | httpx2.ConnectTimeout
            )
            late = isinstance(error, httpx.TimeoutException | httpx2.TimeoutException)
            if not unsent and not repeatable:
                raise answer_lost(
                    VENDOR, "did not answer in time" if late else "broke the connection"
                ) from None
            raise network_error(
                error, VENDOR, doing, base_url=self.endpoint.base_url,
                was_sent=not unsent, repeatable=repeatable, timed_out=late,
            ) from None  # fmt: skip
        except ValueError:
            # A success in status alone; it was charged all the same.
            if repeatable:
                raise unreadable_answer(VENDOR, doing) from None
            raise answer_lost(VENDOR, "sent something unreadable") from None

    def _refusal(self, error: Any, doing: str, reasons: Mapping[str, ErrorRule]) -> PipelineError:
        details = _details(error)
        named = [str(detail.get("reason", "")) for detail in details]
        reason = next((name for name in named if name in reasons), str(error.status or ""))
        wait = _retry_delay(details)
        if reason == "RESOURCE_EXHAUSTED" and _is_daily(details):
            reason, wait = "DAILY_LIMIT", seconds_to_quota_reset(self._clock)
        return vendor_error(
            VENDOR,
            doing,
            status=int(error.code),
            reason=reason,
            detail=str(error.message or ""),
            rules=reasons,
            retry_after_s=wait,
        )


def _finished_text(response: Any, usage: Usage) -> str:
    if not response.candidates:
        raise unusable(VENDOR, _BLOCKED, _block_reason(response) or "no candidate", usage)
    finish = response.candidates[0].finish_reason
    name = str(getattr(finish, "value", finish) or "FINISH_REASON_UNSPECIFIED")
    if name != "STOP":
        raise unusable(VENDOR, FINISH_REASONS.get(name, _BLOCKED), name, usage)
    content = response.candidates[0].content
    return "".join(part.text or "" for part in (content.parts if content else None) or [] if not part.thought)


def _block_reason(response: Any) -> str:
    """Why the prompt was blocked; "" where it was not."""
    told = getattr(response.prompt_feedback, "block_reason", None)
    return str(getattr(told, "value", told) or "")


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
    told = [detail.get("violations") for detail in details]
    violations = [v for listed in told if isinstance(listed, list) for v in listed if isinstance(v, dict)]
    return any("PerDay" in str(violation.get("quotaId", "")) for violation in violations)
