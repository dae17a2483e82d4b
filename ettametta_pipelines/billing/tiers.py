"""The tiers that are sold, as validated configuration: prices, limits, features, and what unpaid money means.

One YAML file, cheapest tier first; ETTAMETTA_TIERS names another. No database and no Stripe here: who has which tier
is `entitlements.py`. Called by everything in this room.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.money import EXPONENTS, Money
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.yaml_files import read_yaml

DEFAULT_TIERS_FILE = Path(__file__).with_name("tiers.yaml")

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
Consequence = Literal["block", "keep"]


class TiersFileError(PermanentError):
    """The tiers file is missing, unreadable or holds a value that cannot be used."""


class Feature(StrEnum):
    """What a tier can hold beside its number of videos."""

    FULL_DISCOVERY = "full_discovery"
    STUDIO_VOICE = "studio_voice"
    # Engines that make clips; a still that moves is in every tier.
    ENGINE_VEO = "engine_veo"
    ENGINE_SILICONFLOW = "engine_siliconflow"
    ENGINE_GPU = "engine_gpu"


class Tier(BaseModel):
    """One tier. `monthly_minor` is in the file's currency; `run_priority` is added to a run's `dagster/priority`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    slug: Slug
    title: Annotated[str, StringConstraints(min_length=1, max_length=40)]
    monthly_minor: int = Field(ge=0, strict=True)
    lookup_key: Annotated[str, StringConstraints(min_length=1, max_length=200)] | None = None
    videos: int | None = Field(ge=0)
    fair_use: int | None = Field(default=None, ge=1)
    releases: int = Field(ge=0)
    features: frozenset[Feature] = frozenset()
    run_priority: int = Field(default=0, ge=0, le=100)
    gpu_priority_class: str | None = None
    # Whole US dollars a month for paid calls; without it the setting counts.
    paid_work_usd: int | None = Field(default=None, ge=0, le=1_000_000, strict=True)

    @model_validator(mode="after")
    def _bounded(self) -> "Tier":
        if self.videos is None and self.fair_use is None:
            raise ValueError("unlimited videos need fair_use, which stops a runaway")
        if bool(self.monthly_minor) != bool(self.lookup_key):
            raise ValueError("a price and the lookup_key of Stripe's price belong together")
        return self

    @property
    def limit(self) -> int:
        """Videos a period, the breaker's number where they are unlimited."""
        return self.videos if self.videos is not None else int(self.fair_use or 0)


class TierTable(BaseModel):
    """Every tier, cheapest first; the first is what an account falls back to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: Annotated[str, StringConstraints(pattern="^[A-Z]{3}$")]
    tiers: dict[str, Tier] = Field(min_length=1)
    on_dispute: Consequence
    on_refund: Consequence

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: object) -> object:
        if isinstance(value, dict) and isinstance(value.get("tiers"), dict):
            tiers = {
                slug: {**fields, "slug": slug} if isinstance(fields, dict) else fields
                for slug, fields in value["tiers"].items()
            }
            return {**value, "tiers": tiers}
        return value

    @model_validator(mode="after")
    def _ordered(self) -> "TierTable":
        prices = [tier.monthly_minor for tier in self.tiers.values()]
        keys = [tier.lookup_key for tier in self.tiers.values() if tier.lookup_key]
        if self.currency not in EXPONENTS:
            raise ValueError(f"the number of decimals of {self.currency} is not known")
        if prices[0] != 0 or prices != sorted(set(prices)):
            raise ValueError("tiers must begin with a free one and become dearer")
        if len(keys) != len(set(keys)):
            raise ValueError("two tiers have the same lookup_key")
        return self

    def price(self, tier: Tier) -> Money:
        return Money(tier.monthly_minor, self.currency)


@dataclass(frozen=True)
class Plans:
    """The tiers with what settings say about them. `mode` is Stripe's: sandbox and live accounts are kept apart."""

    table: TierTable
    default: Tier
    mode: str
    grace: timedelta

    @property
    def free(self) -> Tier:
        return next(iter(self.table.tiers.values()))

    def rank(self, slug: str | None) -> int:
        """Place from the cheapest up; below all for a tier that is none (any more)."""
        slugs = list(self.table.tiers)
        return slugs.index(slug) if slug in slugs else -1

    def tier(self, slug: str) -> Tier:
        """Raises PermanentError `unknown_tier` naming those there are."""
        return find_tier(self.table, slug)

    def of_lookup_key(self, lookup_key: str | None) -> Tier | None:
        """The tier sold under a price of Stripe's; None for a price of something else."""
        return next((t for t in self.table.tiers.values() if lookup_key and t.lookup_key == lookup_key), None)

    def next_above(self, tier: Tier) -> Tier | None:
        """The cheapest tier with more videos; None at the top."""
        return next((t for t in self.table.tiers.values() if t.limit > tier.limit), None)


def find_tier(table: TierTable, slug: str) -> Tier:
    """Raises PermanentError `unknown_tier` naming those there are."""
    if slug not in table.tiers:
        raise PermanentError(
            f"There is no tier {slug!r}; there are {', '.join(table.tiers)}.",
            code="unknown_tier",
            remedy="Use one of these, or add it to the tiers file (ETTAMETTA_TIERS).",
        )
    return table.tiers[slug]


def load_tiers(path: Path | None = None) -> TierTable:
    """The packaged tiers when no path is given. Raises TiersFileError naming the file and each bad key."""
    file = path or DEFAULT_TIERS_FILE
    try:
        return TierTable.model_validate(read_yaml(file))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        problem = f"it cannot be read ({error.__class__.__name__})"
    except ValidationError as error:
        problem = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'the file'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_context=False)
        )
    raise TiersFileError(
        f"Tiers file {file}: {problem}.",
        code="bad_tiers_file",
        remedy=f"Correct {file.name}; the packaged tiers.yaml shows every key.",
    )


def open_plans(settings: Settings) -> Plans:
    """The tiers of these settings. Accounts that never subscribed have the dearest while Stripe is the sandbox."""
    table = load_tiers(settings.tiers_file)
    mode = settings.endpoint("stripe").mode
    slugs = list(table.tiers)
    slug = settings.default_tier or (slugs[-1] if mode == "sandbox" else slugs[0])
    return Plans(table, find_tier(table, slug), mode, timedelta(days=settings.payment_grace_days))
