"""What the clients of Gemini, OpenAI and Groq share: a validated answer with its price, and answers of no use.

An answer that was cut, blocked or does not fit the schema is charged like any other, so its failure carries the usage.
Nothing here talks to a vendor.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import BaseModel, ValidationError

from ettametta_pipelines.failures import FailureKind, OutcomeUnknownError, PermanentError, TransientError
from ettametta_pipelines.redaction import redact
from ettametta_pipelines.vendors.http import ErrorRule
from ettametta_pipelines.vendors.models import ModelPrice, Provider

if TYPE_CHECKING:
    from ettametta_pipelines.settings import VendorEndpoint

# Bounds what one answer can cost; thinking counts too.
MAX_OUTPUT_TOKENS = 8192
# Roles, separators and the like, which the vendor adds to what was sent.
FRAME_TOKENS = 256
# The longest an answer is waited for: watching a video, or thinking, takes its time.
ANSWER_TIMEOUT_S = 120.0

Image = tuple[str, bytes]


@dataclass(frozen=True)
class Usage:
    """Tokens as the answer counts them; the cost is by list price, in millionths of a US dollar."""

    prompt_tokens: int
    output_tokens: int
    cost_microusd: int


@dataclass(frozen=True)
class StructuredAnswer:
    """A finished answer: `value` is of the schema asked for, `model` as the vendor names it."""

    value: BaseModel
    model: str
    usage: Usage


class UnusableAnswer(PermanentError):
    """Answered and charged, but refused or cut: the same question ends the same way."""

    usage: Usage


class UnfinishedAnswer(TransientError):
    """Answered and charged, but broken off or outside the schema: another try may do better."""

    usage: Usage


class StructuredClient(Protocol):
    """One model behind one endpoint that answers in a schema. May be shared by threads."""

    provider: Provider
    model: str
    endpoint: "VendorEndpoint"
    watches_videos: bool

    def highest_cost(
        self, prompt: str, *, schema: type[BaseModel], pictures: int = 0, video_s: float = 0.0
    ) -> int:
        """Most one such question can cost, in millionths of a US dollar."""

    def generate_json(
        self,
        prompt: str,
        *,
        schema: type[BaseModel],
        images: Sequence[Image] = (),
        video_uri: str | None = None,
    ) -> StructuredAnswer:
        """Ask. A question that may have been answered and charged is not sent again: OutcomeUnknownError."""


def usage_at(price: ModelPrice, prompt_tokens: int, output_tokens: int, sound_tokens: int = 0) -> Usage:
    """Usage with its cost, rounded up: what is booked is never less than the bill.

    `sound_tokens` are those of `prompt_tokens` that are sound.
    """
    cost = prompt_tokens * price.prompt_microusd + output_tokens * price.output_microusd
    cost += sound_tokens * (price.sound_microusd - price.prompt_microusd)
    return Usage(prompt_tokens, output_tokens, -(-cost // 1_000_000))


def usage_told(
    vendor: str, price: ModelPrice, prompt_tokens: Any, output_tokens: Any, sound_tokens: int = 0
) -> Usage:
    """Usage by the counts in an answer. One that does not tell them may have cost anything: OutcomeUnknownError."""
    if not all(isinstance(count, int) and count >= 0 for count in (prompt_tokens, output_tokens)):
        raise answer_lost(vendor, "did not say what its answer counts")
    return usage_at(price, prompt_tokens, output_tokens, sound_tokens)


def highest_cost(
    price: ModelPrice, prompt: str, schema: type[BaseModel], pictures: int, video_s: float
) -> int:
    """Most a question can cost. A token is at least one byte of text, so bytes bound what the text counts as."""
    text = len(prompt.encode()) + len(json.dumps(schema.model_json_schema()))
    watched = ceil(video_s) * price.video_tokens_per_s
    sent = FRAME_TOKENS + text + pictures * price.image_tokens + watched
    # How much of a video is sound is not known before; all of it may be where sound is dearer.
    sound = watched if price.sound_microusd > price.prompt_microusd else 0
    return usage_at(price, sent, MAX_OUTPUT_TOKENS, sound).cost_microusd


def charged_for(error: Exception) -> Usage | None:
    """What a failure cost all the same; None when it cost nothing, or nobody knows."""
    return error.usage if isinstance(error, UnusableAnswer | UnfinishedAnswer) else None


def unusable(vendor: str, rule: ErrorRule, why: str, usage: Usage) -> UnusableAnswer | UnfinishedAnswer:
    """The failure for an answer that ended with `why`, by the vendor's rule."""
    kind = UnfinishedAnswer if rule.kind is FailureKind.TRANSIENT else UnusableAnswer
    error = kind(
        f"{vendor} ended its answer with {why}, so there is nothing to use.",
        code=rule.code,
        remedy=rule.remedy,
    )
    error.usage = usage
    return error


def answer_lost(vendor: str, what: str) -> OutcomeUnknownError:
    """The failure for a question that may have been answered and charged."""
    return OutcomeUnknownError(
        f"{vendor} {what} when asked a question, so it is not known whether it answered and charged.",
        code="answer_lost",
        remedy="It counts as spent and is not asked again within this call; the vendor's usage page knows.",
    )


def validated(vendor: str, text: str, schema: type[BaseModel], usage: Usage) -> BaseModel:
    """The answer as `schema`; else UnfinishedAnswer `{vendor}_answer_invalid`, which quotes nothing of it."""
    try:
        return schema.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'answer'}: {item['msg']}"
            for item in error.errors(include_url=False, include_context=False, include_input=False)[:3]
        )
    rejected = UnfinishedAnswer(
        f"{vendor}'s answer does not fit {schema.__name__} ({redact(problems)}).",
        code=f"{vendor.lower()}_answer_invalid",
        remedy="Run again; if it lasts, the model cannot keep to this schema.",
    )
    rejected.usage = usage
    raise rejected
