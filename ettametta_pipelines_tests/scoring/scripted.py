"""Models that answer by a script, for tests of what the chain and its callers make of it."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.scoring.chain import Chain, Purse
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.state.budget import Budget
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.answers import Image, StructuredAnswer, Usage
from ettametta_pipelines.vendors.models import Provider

NOW = datetime(2026, 11, 22, 18, tzinfo=UTC)
GOOD = {
    "hook_strength": 0.8, "hook_reason": "a question", "subjects": ["pan"], "mood": "cosy", "pacing": "unclear",
    "text_on_screen": "", "aesthetics": 0.6, "safety": "safe", "safety_reason": "", "edit_direction": "Cut sooner.",
}  # fmt: skip


class ScriptedModel:
    """Answers `answer` to every question, but raises an error where its name stands in the prompt after "Title of"."""

    watches_videos = False

    def __init__(
        self,
        provider: Provider,
        answer: Mapping[str, Any],
        errors: Mapping[str, PipelineError] | None = None,
        *,
        highest: int = 20_000,
        cost: int = 315,
    ) -> None:
        self.provider = provider
        self.model = "scripted"
        self.endpoint = VendorEndpoint(provider, "sandbox", "http://127.0.0.1:9/", "scripted")
        self.asked: list[str] = []
        self._answer = answer
        self._errors = errors or {}
        self._highest = highest
        self._cost = cost

    def highest_cost(self, prompt: str, **_: Any) -> int:
        return self._highest

    def generate_json(
        self,
        prompt: str,
        *,
        schema: type[BaseModel],
        images: Sequence[Image] = (),
        video_uri: str | None = None,
    ) -> StructuredAnswer:
        name = prompt.partition("Title of ")[2].partition('"')[0]
        self.asked.append(name)
        error = self._errors.get(name) or self._errors.get("every")
        if error is not None:
            raise error
        return StructuredAnswer(
            schema.model_validate(self._answer), "scripted-001", Usage(900, 60, self._cost)
        )


class ScriptedChain(Chain):
    """A chain of scripted models; `asked` is what the first of them was asked about."""

    @property
    def asked(self) -> list[str]:
        first = self.links[0]
        assert isinstance(first, ScriptedModel)
        return first.asked


def scripted_chain(
    database: StateDatabase, *models: ScriptedModel, own: int = 5_000_000, overall: int = 5_000_000
) -> ScriptedChain:
    budget = Budget("sandbox", "acme", own, overall, ZoneInfo("UTC"))
    return ScriptedChain(models, Purse(database, budget, lambda: NOW))
