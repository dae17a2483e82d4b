"""OpenAI's chat completions on an API key, through the official SDK: structured answers about text and pictures.

Groq speaks the same protocol and is told apart by a `Dialect` (`groq.py`). The SDK's own retries stay off, since it
would send a paid question again without knowing whether the first was answered. Refusals with 429 and 503 cost nothing
and are waited out within the retry budget.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ettametta_pipelines.failures import FailureKind, PermanentError, PipelineError
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
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    MadeOnce,
    call_with_retries,
    is_loopback,
    network_error,
    quiet_request_logs,
    retry_after_seconds,
    vendor_error,
)
from ettametta_pipelines.vendors.models import ModelPrice, Provider, models_of, price_of

if TYPE_CHECKING:
    from openai import OpenAI

# No work was begun; other 5xx, and 408, may come from a proxy that lost a finished answer.
UNCHARGED_5XX = frozenset({503})
REQUEST_TIMEOUT_STATUS = 408


@dataclass(frozen=True)
class Dialect:
    """Where a service differs from OpenAI; `reasons` says what its error codes mean."""

    provider: Provider
    vendor: str
    key_field: str
    most_pictures: int
    reasons: Mapping[str, ErrorRule]


def reasons_of(provider: str, vendor: str, console: str) -> dict[str, ErrorRule]:
    """What the error codes both services share mean for us."""
    variable = provider.upper()
    key = ErrorRule(
        FailureKind.NEEDS_PERSON,
        "api_key_rejected",
        f"Check {variable}_API_KEY at {console}, then start again.",
    )
    refused = ErrorRule(
        FailureKind.PERMANENT,
        f"{provider}_request_refused",
        "The question itself was refused; see what the message names.",
    )
    blocked = ErrorRule(
        FailureKind.PERMANENT,
        f"{provider}_blocked",
        f"{vendor} will not answer about this content; the other questions go on.",
    )
    return {
        "invalid_api_key": key,
        "invalid_request_error": refused,
        "content_policy_violation": blocked,
        "content_filter": blocked,
        "model_not_found": ErrorRule(
            FailureKind.PERMANENT,
            f"{provider}_model_retired",
            f"Set {variable}_MODEL to a model that still exists.",
        ),
        # A 429 that waiting does not cure.
        "insufficient_quota": ErrorRule(
            FailureKind.NEEDS_PERSON,
            f"{provider}_credit_spent",
            f"Add credit at {console}; nothing was charged for this question.",
        ),
        "rate_limit_exceeded": ErrorRule(
            FailureKind.TRANSIENT, "rate_limited", "It is tried again by itself, more slowly."
        ),
    }


OPENAI = Dialect(
    "openai", "OpenAI", "openai_api_key", 50, reasons_of("openai", "OpenAI", "platform.openai.com")
)


class ChatClient:
    """One model behind one endpoint of one dialect. May be shared by threads.

    `prices` are the packaged ones unless given. Raises PermanentError `{provider}_price_unknown` for a model without a
    price: nothing is bought blindly.
    """

    watches_videos = False

    def __init__(
        self,
        endpoint: VendorEndpoint,
        model: str,
        *,
        dialect: Dialect = OPENAI,
        prices: Mapping[str, ModelPrice] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.model = model
        self.provider: Provider = dialect.provider
        self._dialect = dialect
        self._price = price_of(
            dialect.provider, model, models_of(dialect.provider).prices if prices is None else prices
        )
        self._client = MadeOnce(self._make_client)

    def _make_client(self) -> "OpenAI":
        import httpx2
        from openai import OpenAI

        quiet_request_logs()
        endpoint = self.endpoint
        return OpenAI(
            api_key=endpoint.secret(self._dialect.key_field),
            base_url=endpoint.base_url,
            # Empty, so that the environment cannot lead the requests into another's books.
            organization="",
            project="",
            max_retries=0,
            http_client=httpx2.Client(
                timeout=endpoint.timeout_s,
                trust_env=not is_loopback(endpoint.base_url),
                follow_redirects=False,
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
    ) -> StructuredAnswer:
        """Ask `prompt` about `images` ((mime type, bytes) pairs), answered in `schema`.

        Anything but a finished, valid answer raises: UnusableAnswer when refused or cut, UnfinishedAnswer when it does
        not fit the schema, OutcomeUnknownError when it was lost and may have been charged.
        """
        if video_uri is not None or len(images) > self._dialect.most_pictures:
            raise PermanentError(
                f"{self._dialect.vendor} looks at up to {self._dialect.most_pictures} pictures and at no videos.",
                code=f"{self.provider}_request_refused",
                remedy="Send sampled frames.",
            )
        pictures = [
            {"type": "image_url", "image_url": {"url": _data_uri(mime, data)}} for mime, data in images
        ]
        body: dict[str, Any] = {
            "model": self.model,
            "messages": [{"role": "user", "content": [*pictures, {"type": "text", "text": prompt}]}],
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": schema.__name__, "strict": True, "schema": strict_schema(schema)},
            },
            "max_completion_tokens": MAX_OUTPUT_TOKENS,
        }
        completion = call_with_retries(
            lambda: self._complete_once(body), retries=self.endpoint.max_retries, seed=prompt
        )
        return self._read(completion, schema)

    def check_model(self) -> None:
        """A free question that shows whether key and model work. Raises as `generate_json` does."""
        doing = f"describe {self.model}"
        call_with_retries(
            lambda: self._send(lambda: self._client().models.retrieve(self.model), doing, repeatable=True),
            retries=self.endpoint.max_retries,
            seed=doing,
        )

    def _complete_once(self, body: Mapping[str, Any]) -> Any:
        return self._send(
            lambda: self._client().chat.completions.create(**body), "answer a question", repeatable=False
        )

    def _send(self, request: Any, doing: str, *, repeatable: bool) -> Any:
        import httpx2
        import openai

        vendor = self._dialect.vendor
        try:
            return request()
        except openai.APIStatusError as error:
            status = error.status_code
            lost = status == REQUEST_TIMEOUT_STATUS or (status >= 500 and status not in UNCHARGED_5XX)
            if lost and not repeatable:
                raise answer_lost(vendor, f"answered HTTP {status}") from None
            raise self._refusal(error, doing) from None
        except openai.APIConnectionError as error:
            unsent = isinstance(error.__cause__, httpx2.ConnectError | httpx2.ConnectTimeout)
            late = isinstance(error, openai.APITimeoutError)
            if not unsent and not repeatable:
                raise answer_lost(
                    vendor, "did not answer in time" if late else "broke the connection"
                ) from None
            raise network_error(
                error, vendor, doing, base_url=self.endpoint.base_url,
                was_sent=not unsent, repeatable=repeatable, timed_out=late,
            ) from None  # fmt: skip
        except (openai.APIError, ValueError):
            # A success in status alone; it was charged all the same.
            raise answer_lost(vendor, "sent something unreadable") from None

    def _refusal(self, error: Any, doing: str) -> PipelineError:
        # The SDK hands on what stood under `error`, or the whole body where there was no such field.
        told = error.body if isinstance(error.body, Mapping) else {}
        told = told["error"] if isinstance(told.get("error"), Mapping) else told
        named = [str(told.get(name) or "") for name in ("code", "type")]
        reason = next((name for name in named if name in self._dialect.reasons), named[0] or named[1])
        return vendor_error(
            self._dialect.vendor,
            doing,
            status=error.status_code,
            reason=reason,
            detail=str(told.get("message") or ""),
            rules=self._dialect.reasons,
            retry_after_s=retry_after_seconds(error.response.headers.get("retry-after")),
        )

    def _read(self, completion: Any, schema: type[BaseModel]) -> StructuredAnswer:
        vendor, reasons = self._dialect.vendor, self._dialect.reasons
        choices = getattr(completion, "choices", None)
        counted = getattr(completion, "usage", None)
        # The SDK builds its objects from whatever came.
        choice = choices[0] if isinstance(choices, list) and choices else None
        message = getattr(choice, "message", None)
        if message is None or counted is None:
            raise answer_lost(vendor, "sent something unreadable")
        usage = self._usage(counted)
        finish = str(getattr(choice, "finish_reason", None))
        if getattr(message, "refusal", None):
            raise unusable(vendor, reasons["content_filter"], "a refusal", usage)
        if finish != "stop":
            raise unusable(vendor, self._finish_rule(finish), finish, usage)
        value = validated(vendor, message.content or "", schema, usage)
        return StructuredAnswer(value, completion.model or self.model, usage)

    def _usage(self, counted: Any) -> Usage:
        prompt, output = (getattr(counted, name, None) for name in ("prompt_tokens", "completion_tokens"))
        return usage_told(self._dialect.vendor, self._price, prompt, output)

    def _finish_rule(self, finish: str) -> ErrorRule:
        """Why an answer ended -> what that means; `stop` is the only one whose text counts."""
        cut = ErrorRule(
            FailureKind.PERMANENT,
            f"{self.provider}_answer_cut",
            "Ask for less in one answer, or raise MAX_OUTPUT_TOKENS.",
        )
        unfinished = ErrorRule(
            FailureKind.TRANSIENT, f"{self.provider}_unfinished", "Run again; this answer broke off."
        )
        rules = {"length": cut, "content_filter": self._dialect.reasons["content_filter"]}
        return rules.get(finish, unfinished)


def strict_schema(schema: type[BaseModel]) -> dict[str, Any]:
    """JSON schema as strict mode wants it: no other properties, and every one required."""

    def tightened(node: Any) -> Any:
        if isinstance(node, list):
            return [tightened(item) for item in node]
        if not isinstance(node, dict):
            return node
        kept = {name: tightened(value) for name, value in node.items() if name != "default"}
        if node.get("type") == "object" and "properties" in node:
            kept |= {"additionalProperties": False, "required": list(node["properties"])}
        return kept

    result: dict[str, Any] = tightened(schema.model_json_schema())
    return result


def _data_uri(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
