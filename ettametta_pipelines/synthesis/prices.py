"""What each engine can make and what that costs: one validated YAML file -> typed terms, and quotes from them.

A quote is reckoned before anything is spent; what a clip did cost is reckoned by the engine from its answer. Which of
several quotes is taken is `router.py`'s choice.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.synthesis.requests import ClipRequest

ENGINES_FILE = Path(__file__).parent / "engines.yaml"

EngineName = Literal["veo", "siliconflow", "ltx", "wan", "cinematic"]
# From the dearest to the one that always can; chains keep this order, since each is worked off after those before it.
ENGINES: tuple[EngineName, ...] = ("veo", "siliconflow", "ltx", "wan", "cinematic")
DEFAULT_CHAIN = "default"

_SIZE = re.compile(r"[1-9]\d{1,3}x[1-9]\d{1,3}")
Microusd = Annotated[int, Field(ge=0, strict=True)]
Size = Annotated[str, Field(pattern=_SIZE.pattern)]


class ModelTerms(BaseModel):
    """What one model can make, and its list price by size in millionths of a US dollar per second or clip."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    backend: Literal["interactions", "vertex"] | None = None
    per: Literal["second", "clip"]
    sizes: dict[Size, Microusd] = Field(min_length=1)
    lengths_s: tuple[Annotated[int, Field(ge=1, le=60)], ...] = Field(min_length=1)
    fps: int = Field(ge=1, le=120)
    audio: bool = False
    image: Literal["never", "may", "must"] = "never"
    negative: bool = False
    output_mtok: Microusd | None = None
    priced_on: date

    def price(self, size: str, seconds: float) -> int:
        """List price of a clip, whole millionths of a US dollar, rounded up."""
        return -int(-self.sizes[size] * (seconds if self.per == "second" else 1) // 1)


class EngineModels(BaseModel):
    """The model that is asked by default, and every model with a price."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str
    models: dict[str, ModelTerms] = Field(min_length=1)

    @model_validator(mode="after")
    def _default_has_terms(self) -> "EngineModels":
        if self.model not in self.models:
            raise ValueError(f"model {self.model} is not among its models")
        return self


class EngineTable(BaseModel):
    """Every engine, the chains, and the rule of the margin."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    engines: dict[EngineName, EngineModels]
    chains: dict[str, tuple[EngineName, ...]]
    spend_share: float = Field(ge=0, le=1)
    unknown_revenue_microusd: Microusd

    @model_validator(mode="after")
    def _chains_can_be_worked_off(self) -> "EngineTable":
        if not self.chains.get(DEFAULT_CHAIN):
            raise ValueError(f"chains need a {DEFAULT_CHAIN}")
        for name, chain in self.chains.items():
            if list(chain) != [engine for engine in ENGINES if engine in chain]:
                raise ValueError(f"chain {name} must keep the order {', '.join(ENGINES)}")
            if missing := [engine for engine in chain if engine not in self.engines]:
                raise ValueError(f"chain {name} names {missing[0]}, which has no models")
        return self

    def chain(self, recipe: str | None) -> tuple[EngineName, ...]:
        return self.chains.get(recipe or "", self.chains[DEFAULT_CHAIN])


@lru_cache(maxsize=8)
def load_engines(file: Path | None = None) -> EngineTable:
    """The packaged table when no file is given. Raises PermanentError `bad_engines_file` naming each bad key."""
    file = file or ENGINES_FILE
    try:
        return EngineTable.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except ValidationError as error:
        why = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'file'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False)[:5]
        )
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        why = f"it cannot be read ({type(error).__name__})"
    raise PermanentError(
        f"Engines file {file}: {why}.",
        code="bad_engines_file",
        remedy="Correct it, or unset ETTAMETTA_ENGINES; the packaged engines.yaml shows every key.",
    )


@dataclass(frozen=True)
class Quote:
    """What one engine would make of a request, and for how much; or why it cannot (`why_not`, with its code).

    `request` is the one asked for, brought to the sizes, lengths and rates of the model.
    """

    engine: str
    model: str
    request: ClipRequest
    microusd: int | None = None
    code: str = ""
    why_not: str = ""

    @property
    def is_offer(self) -> bool:
        return self.microusd is not None


def quote(engine: str, model: str, terms: ModelTerms | None, request: ClipRequest) -> Quote:
    """The quote of one model for a request; a request that cannot be met is an answer here, not an exception."""
    if terms is None:
        return Quote(
            engine, model, request, code="price_unknown", why_not=f"the price of {model} is not known"
        )
    if terms.image == "must" and request.image_sha256 is None:
        return Quote(
            engine, model, request, code="no_still", why_not=f"{model} starts from a still, and there is none"
        )
    size = _nearest_size(terms.sizes, request.width, request.height)
    if size is None:
        shape = (
            "upright"
            if request.height > request.width
            else "wide"
            if request.width > request.height
            else "square"
        )
        return Quote(engine, model, request, code="shape_unknown", why_not=f"{model} makes no {shape} clips")
    width, height = (int(side) for side in size.split("x"))
    seconds = min(terms.lengths_s, key=lambda length: (abs(length - request.seconds), -length))
    shaped = replace(
        request,
        width=width,
        height=height,
        seconds=float(seconds),
        fps=terms.fps,
        negative_prompt=request.negative_prompt if terms.negative else "",
    )
    if terms.image == "never":
        shaped = replace(shaped, image_key=None, image_sha256=None)
    return Quote(engine, model, shaped, terms.price(size, seconds))


def _nearest_size(sizes: Mapping[str, int], width: int, height: int) -> str | None:
    """The size of the same orientation whose picture is nearest in pixels; the larger one on a tie."""
    turned = (height > width) - (width > height)

    def sides(size: str) -> tuple[int, int]:
        across, down = size.split("x")
        return int(across), int(down)

    fitting = [
        size
        for size in sizes
        if (sides(size)[1] > sides(size)[0]) - (sides(size)[0] > sides(size)[1]) == turned
    ]

    def distance(size: str) -> tuple[int, int]:
        pixels = sides(size)[0] * sides(size)[1]
        return abs(pixels - width * height), -pixels

    return min(fitting, key=distance, default=None)
