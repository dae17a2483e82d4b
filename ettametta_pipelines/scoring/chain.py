"""Who is asked for a structured answer, in which order and with whose money: Gemini, then OpenAI, then Groq.

A link of the chain is left when it refuses, cuts its answer, is not reachable or cannot be paid; the answer says which
links were left and why. The most a question can cost is claimed from the day's budget before it is asked. What is asked
is said in `assessment.py` and `briefs.py`; what does without a model is theirs, too.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from ettametta_pipelines.clock import Clock, business_day_of
from ettametta_pipelines.failures import (
    FailureKind,
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
)
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state.budget import Budget, Cap, Claim, Purchase
from ettametta_pipelines.vendors.answers import Image, StructuredAnswer, StructuredClient, Usage, charged_for

if TYPE_CHECKING:
    from ettametta_pipelines.settings import Settings
    from ettametta_pipelines.state.session import StateDatabase

NOTHING = Usage(0, 0, 0)
# Whose failure decides where every link failed: what passes by itself is worth another run.
_PATIENCE = (FailureKind.TRANSIENT, FailureKind.PERMANENT, FailureKind.NEEDS_PERSON)


@dataclass(frozen=True)
class Question:
    """What one link is asked. `video_s` is the length of the public video at `video_uri`."""

    prompt: str
    images: tuple[Image, ...] = ()
    video_uri: str | None = None
    video_s: float = 0.0


@dataclass(frozen=True)
class LeftLink:
    """A link that did not answer, and why."""

    provider: str
    model: str
    code: str
    why: str

    def __str__(self) -> str:
        return f"{self.provider}: {self.code}"


@dataclass(frozen=True)
class Asked:
    """What came of one question: a value from a named link, or the error that decides; and what all links cost.

    `provider` and `requested_model` are the link that answered, else the first that was asked.
    """

    provider: str
    requested_model: str
    model: str
    value: Any = None
    error: PipelineError | None = None
    left: tuple[LeftLink, ...] = ()
    usage: Usage = NOTHING
    mode: str = "sandbox"

    def columns(self) -> dict[str, Any]:
        """Columns every table of answers has: who, how many tokens, what it cost, who was left and why."""
        return {
            "provider": self.provider,
            "model": self.model,
            "requested_model": self.requested_model,
            "mode": self.mode,
            "prompt_tokens": self.usage.prompt_tokens,
            "output_tokens": self.usage.output_tokens,
            "cost_microusd": self.usage.cost_microusd,
            "cost_usd": self.usage.cost_microusd / 1e6,
            "links_left": [str(link) for link in self.left],
        }


@dataclass
class Purse:
    """One account's money for the answers of a run: claims before a question, closes the claim after it."""

    db: "StateDatabase"
    budget: Budget
    clock: Clock

    def pay(self, purchase: Purchase, ask: Callable[[], StructuredAnswer]) -> StructuredAnswer:
        """Ask with money set aside. Raises BudgetSpent before asking, else what `ask` raises."""
        made = budgets.claim(self.db, self.budget, purchase, self.clock)
        try:
            answer = ask()
        except PipelineError as error:
            self._close_failed(made, error)
            raise
        except BaseException as error:
            budgets.park(self.db, made, type(error).__name__)
            raise
        budgets.settle(self.db, made, answer.usage.cost_microusd)
        return answer

    def _close_failed(self, made: Claim, error: PipelineError) -> None:
        usage = charged_for(error)
        if usage is not None:
            budgets.settle(self.db, made, usage.cost_microusd, error.code)
        elif isinstance(error, OutcomeUnknownError):
            budgets.park(self.db, made, error.code)
        else:
            budgets.release(self.db, made, error.code)

    def in_words(self) -> str:
        """What the day has cost so far, for the account and for everybody, and the account's month within its cap."""
        day = business_day_of(self.clock(), self.budget.timezone)
        known = budgets.spending(self.db, self.budget.mode, day)

        def told(row: budgets.Spending | None, limit: int | None) -> str:
            gone = row.spent_microusd + row.reserved_microusd if row else 0
            return f"{gone / 1e6:.4f}" + (f" of {limit / 1e6:.4f} USD" if limit is not None else " USD")

        own = told(known.get(self.budget.account), self.budget.account_limit_microusd)
        everybody = told(known.get(budgets.EVERYBODY), self.budget.overall_limit_microusd)
        words = f"{own} by account {self.budget.account}, {everybody} by all, on {day} ({self.budget.mode})"
        if self.budget.cap is None:
            return words
        month = budgets.month_spending(self.db, self.budget.mode, self.budget.account, day)
        return f"{words}; {told(month, self.budget.cap.microusd)} by the account in {day:%B} ({self.budget.cap.why})"


@dataclass
class Chain:
    """Links in order and the purse that pays them. May be shared by threads.

    A link that needs a person (a revoked key, no credit) is not asked again by the same chain.
    """

    links: Sequence[StructuredClient]
    purse: Purse
    not_used: tuple[LeftLink, ...] = ()
    _dropped: dict[str, PipelineError] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if not self.links:
            raise PermanentError(
                "No model may be asked: the configuration names none.",
                code="no_model_allowed",
                remedy="Name at least one of gemini, openai and groq in `models`.",
            )

    @property
    def standing(self) -> str:
        """For operators: who is asked in which order, sandbox or live, and who is not."""
        asked = " → ".join(f"{link.provider} {link.model} ({link.endpoint.why})" for link in self.links)
        return f"{self.mode}: {asked}" + "".join(
            f"; not {link.provider}: {link.why}" for link in self.not_used
        )

    @property
    def mode(self) -> str:
        return self.purse.budget.mode

    def knows(self, row: Mapping[str, Any]) -> bool:
        """Whether an earlier answer, by its row, is one this chain could have given; a sandbox's is no live one."""
        asked = row["provider"], row["requested_model"], row.get("mode")
        return any((link.provider, link.model, self.mode) == asked for link in self.links)

    def ask(
        self,
        question_for: Callable[[StructuredClient], Question],
        *,
        schema: type[BaseModel],
        purpose: str,
        subject: str,
        niche: str | None = None,
        source_id: str | None = None,
        check: Callable[[Any], Any] = lambda value: value,
    ) -> Asked:
        """Ask link after link until one answers; never raises for what links do.

        `niche` and `source_id` say whose cost it is. `question_for` may raise a PipelineError where there is nothing to
        show to a link; `check` turns an answer into what the caller needs and may refuse it. The error of an `Asked`
        without a value is that of the first link that may come back by itself, else of the first that refused;
        NeedsPersonError only when every link needs a person.
        """
        errors: list[PipelineError] = []
        left: list[LeftLink] = []
        spent = NOTHING
        for link in self.links:
            try:
                answer = self._answer(
                    link,
                    question_for,
                    schema,
                    Purchase(0, link.provider, link.model, purpose, subject, niche, source_id),
                )
                spent = _sum(spent, answer.usage)
                value = check(answer.value)
            except PipelineError as error:
                spent = _sum(spent, charged_for(error) or NOTHING)
                errors.append(error)
                left.append(LeftLink(link.provider, link.model, error.code, error.message))
            else:
                return Asked(
                    link.provider, link.model, answer.model, value=value, left=tuple(left), usage=spent,
                    mode=self.mode,
                )  # fmt: skip
        first = self.links[0]
        deciding = min(errors, key=lambda error: _PATIENCE.index(error.kind))
        return Asked(
            first.provider,
            first.model,
            first.model,
            error=deciding,
            left=tuple(left),
            usage=spent,
            mode=self.mode,
        )

    def _answer(
        self,
        link: StructuredClient,
        question_for: Callable[[StructuredClient], Question],
        schema: type[BaseModel],
        purchase: Purchase,
    ) -> StructuredAnswer:
        with self._lock:
            dropped = self._dropped.get(link.provider)
        if dropped is not None:
            raise dropped
        asked = question_for(link)
        highest = link.highest_cost(
            asked.prompt, schema=schema, pictures=len(asked.images), video_s=asked.video_s
        )
        try:
            return self.purse.pay(
                replace(purchase, highest_microusd=highest),
                lambda: link.generate_json(
                    asked.prompt, schema=schema, images=asked.images, video_uri=asked.video_uri
                ),
            )
        except NeedsPersonError as error:
            with self._lock:
                self._dropped[link.provider] = error
            raise


def open_chain(
    settings: "Settings",
    names: Sequence[Any],
    db: "StateDatabase",
    *,
    account: str,
    clock: Clock,
    cap: Cap | None = None,
) -> Chain:
    """The chain of these providers on these settings, paid by `account` within its monthly `cap`.

    Where one of them is live, those that are not stay out: a sandbox's answer must not stand beside real ones.
    """
    from ettametta_pipelines.vendors.judges import open_client

    clients = [open_client(settings, name) for name in dict.fromkeys(names)]
    live = [client for client in clients if client.endpoint.mode == "live"]
    left_out = [client for client in clients if client not in live] if live else []
    mode = "live" if live else "sandbox"
    budget = Budget(
        mode,
        account,
        settings.model_budget_microusd(account),
        settings.model_budget_microusd(),
        settings.timezone,
        cap,
    )
    return Chain(
        live or clients,
        Purse(db, budget, clock),
        tuple(
            LeftLink(client.provider, client.model, "not_live", client.endpoint.why) for client in left_out
        ),
    )


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.output_tokens + other.output_tokens,
        one.cost_microusd + other.cost_microusd,
    )
