"""Which models may be asked and what they cost: one validated YAML file -> typed prices.

Who is asked in which order is the callers' choice; what an answer cost is reckoned in `answers.py` from its usage data.
Read by the clients of Gemini, OpenAI and Groq.
"""

import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ettametta_pipelines.failures import PermanentError

Provider = Literal["gemini", "openai", "groq"]
MODELS_FILE = Path(__file__).with_name("models.yaml")

Count = Annotated[int, Field(ge=0, strict=True)]


class ModelPrice(BaseModel):
    """List price in millionths of a US dollar per million tokens, and the most a picture or second of video counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt_microusd: Count
    output_microusd: Count
    priced_on: date
    image_tokens: Count
    video_tokens_per_s: Count = 0
    audio_microusd: Count | None = None

    @property
    def sound_microusd(self) -> int:
        """What a million tokens of sound cost; as much as others where no price of their own is stated."""
        return self.prompt_microusd if self.audio_microusd is None else self.audio_microusd


class ProviderModels(BaseModel):
    """The model that is asked by default, and every model with a price."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    prices: dict[str, ModelPrice] = Field(min_length=1)

    @model_validator(mode="after")
    def _default_has_a_price(self) -> "ProviderModels":
        if self.model not in self.prices:
            raise ValueError(f"model {self.model} has no price")
        return self


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")

    providers: dict[Provider, ProviderModels]


@lru_cache(maxsize=8)
def load_models(file: Path | None = None) -> Mapping[Provider, ProviderModels]:
    """Models by provider; the packaged file when none is given. Raises PermanentError `bad_models_file`."""
    file = file or MODELS_FILE
    try:
        return _Document.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))).providers
    except ValidationError as error:
        problems = [
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg']}"
            for item in error.errors(include_url=False)
        ]
        why = "; ".join(problems[:5])
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = f"it cannot be read ({type(error).__name__})"
    raise PermanentError(
        f"Models file {file}: {why}.",
        code="bad_models_file",
        remedy="Correct it, or unset ETTAMETTA_MODELS; the packaged models.yaml shows every key.",
    )


def models_of(provider: Provider, file: Path | None = None) -> ProviderModels:
    """One provider's models. Raises PermanentError `bad_models_file` when the file leaves the provider out."""
    found = load_models(file).get(provider)
    if found is None:
        raise PermanentError(
            f"Models file {file or MODELS_FILE} has no models of {provider}.",
            code="bad_models_file",
            remedy=f"Add {provider} with a model and its price, or do not ask it.",
        )
    return found


def price_of(provider: Provider, model: str, prices: Mapping[str, ModelPrice]) -> ModelPrice:
    """Price of a model by name. Raises PermanentError `{provider}_price_unknown`: nothing is bought blindly."""
    base = re.sub(r"-(\d{3}|\d{4}-\d\d-\d\d|preview(-[\w-]+)?)$", "", model)
    price = prices.get(model) or prices.get(base)
    if price is None:
        raise PermanentError(
            f"The price of {provider} model {model!r} is not known.",
            code=f"{provider}_price_unknown",
            remedy=f"Set {provider.upper()}_MODEL to one of {', '.join(prices)}, or add its price to the models file.",
        )
    return price
