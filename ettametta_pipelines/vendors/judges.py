"""Opens the clients that answer in a schema (Gemini, OpenAI, Groq) with the models and prices of these settings.

Which of them are asked, in which order and for how much money, is `scoring/chain.py`'s.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from ettametta_pipelines.settings import Settings
from ettametta_pipelines.vendors.answers import ANSWER_TIMEOUT_S, StructuredClient
from ettametta_pipelines.vendors.models import ModelPrice, Provider, models_of

if TYPE_CHECKING:
    from ettametta_pipelines.vendors.gemini import GeminiClient
    from ettametta_pipelines.vendors.openai import ChatClient


def open_client(settings: Settings, provider: Provider) -> StructuredClient:
    """The client of one provider. Raises PermanentError `{provider}_price_unknown` or `bad_models_file`."""
    return gemini_client(settings) if provider == "gemini" else chat_client(settings, provider)


def gemini_client(settings: Settings, *, timeout_s: float = ANSWER_TIMEOUT_S) -> "GeminiClient":
    from ettametta_pipelines.vendors.gemini import GeminiClient

    model, prices = _model_and_prices(settings, "gemini")
    endpoint = replace(settings.endpoint("gemini"), timeout_s=timeout_s)
    return GeminiClient(endpoint, model, prices=prices)


def chat_client(
    settings: Settings, provider: Literal["openai", "groq"], *, timeout_s: float = ANSWER_TIMEOUT_S
) -> "ChatClient":
    from ettametta_pipelines.vendors.groq import GROQ
    from ettametta_pipelines.vendors.openai import OPENAI, ChatClient

    model, prices = _model_and_prices(settings, provider)
    endpoint = replace(settings.endpoint(provider), timeout_s=timeout_s)
    dialect = {"openai": OPENAI, "groq": GROQ}[provider]
    return ChatClient(endpoint, model, dialect=dialect, prices=prices)


def _model_and_prices(settings: Settings, provider: Provider) -> tuple[str, Mapping[str, ModelPrice]]:
    known = models_of(provider, settings.models_file)
    named = {"gemini": settings.gemini_model, "openai": settings.openai_model, "groq": settings.groq_model}
    return named[provider] or known.model, known.prices
