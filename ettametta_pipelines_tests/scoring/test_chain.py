"""Who is asked, in which order, and with whose money."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import BaseModel

from ettametta_pipelines.failures import (
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.scoring.chain import Asked, Chain, Question
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state.models import ModelClaim
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.answers import UnusableAnswer, Usage
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.scoring.scripted import NOW, ScriptedModel, scripted_chain

ANSWER = {"word": "yes"}


class Word(BaseModel):
    word: str


def ask(chain: Chain, **options: Any) -> Asked:
    return chain.ask(
        lambda link: Question("Say a word."), schema=Word, purpose="test", subject="a", **options
    )


def model(provider: Any, error: PipelineError | None = None, **options: Any) -> ScriptedModel:
    return ScriptedModel(provider, ANSWER, {"every": error} if error else {}, **options)


def cut(cost: int) -> UnusableAnswer:
    error = UnusableAnswer("It was cut.", code="gemini_answer_cut")
    error.usage = Usage(100, 10, cost)
    return error


def lost() -> PipelineError:
    return OutcomeUnknownError("Lost.", code="answer_lost")


def busy() -> PipelineError:
    return TransientError("Busy.", code="rate_limited")


def revoked() -> PipelineError:
    return NeedsPersonError("Revoked.", code="api_key_rejected")


def claims(db: StateDatabase) -> list[tuple[Any, ...]]:
    columns = (ModelClaim.provider, ModelClaim.state, ModelClaim.cost_microusd, ModelClaim.reason_code)
    with db.session(write=False) as session:
        return [tuple(row) for row in session.execute(sa.select(*columns).order_by(ModelClaim.claimed_at))]


@pytest.fixture
def state(tmp_path: Any) -> StateDatabase:
    database = StateDatabase(f"sqlite:///{tmp_path / 'state.db'}")
    database.migrate()
    return database


def test_the_first_that_answers_is_the_only_one_asked(state: StateDatabase) -> None:
    second = model("openai")
    asked = ask(scripted_chain(state, model("gemini"), second))
    assert (asked.provider, asked.value.word, asked.left) == ("gemini", "yes", ())
    assert second.asked == []
    assert claims(state) == [("gemini", "settled", 315, None)]


def test_links_are_left_in_order_and_everything_they_cost_is_in_the_row(state: StateDatabase) -> None:
    chain = scripted_chain(state, model("gemini", cut(40)), model("openai", busy()), model("groq"))
    columns = ask(chain).columns()
    assert columns["provider"] == "groq"
    assert columns["links_left"] == ["gemini: gemini_answer_cut", "openai: rate_limited"]
    assert (columns["prompt_tokens"], columns["cost_microusd"]) == (1000, 355)
    assert columns["cost_usd"] == 0.000355
    assert claims(state) == [
        ("gemini", "settled", 40, "gemini_answer_cut"),
        ("openai", "released", 0, "rate_limited"),
        ("groq", "settled", 315, None),
    ]


def test_a_lost_answer_is_parked_at_its_highest_price_and_the_next_is_asked(state: StateDatabase) -> None:
    chain = scripted_chain(state, model("gemini", lost(), highest=900), model("openai"))
    assert ask(chain).provider == "openai"
    assert claims(state)[0] == ("gemini", "parked", 900, "answer_lost")
    assert budgets.spending(state, "sandbox", NOW.date())["acme"].spent_microusd == 900 + 315


def test_a_spent_budget_stops_questions_before_they_are_asked(state: StateDatabase) -> None:
    dear, cheap = model("gemini", highest=900), model("openai", highest=100, cost=90)
    chain = scripted_chain(state, dear, cheap, own=800)
    assert [ask(chain).provider for _ in range(8)] == ["openai"] * 8
    asked = ask(chain)
    assert asked.error is not None
    assert asked.error.code == "budget_spent"
    assert [str(link) for link in asked.left] == ["gemini: budget_spent", "openai: budget_spent"]
    assert dear.asked == []
    assert len(cheap.asked) == 8


def test_a_link_that_needs_a_person_is_asked_once(state: StateDatabase) -> None:
    first = model("gemini", revoked())
    chain = scripted_chain(state, first, model("openai"))
    assert [ask(chain).provider for _ in range(3)] == ["openai"] * 3
    assert len(first.asked) == 1


def test_a_person_is_needed_only_when_every_link_needs_one(state: StateDatabase) -> None:
    some = ask(scripted_chain(state, model("gemini", revoked()), model("openai", busy())))
    assert isinstance(some.error, TransientError)
    every = ask(scripted_chain(state, model("gemini", revoked()), model("openai", revoked())))
    assert isinstance(every.error, NeedsPersonError)


def test_an_answer_the_caller_refuses_is_paid_and_the_next_is_asked(state: StateDatabase) -> None:
    seen = []

    def first_is_bad(value: Word) -> str:
        seen.append(value)
        if len(seen) == 1:
            raise PermanentError("Unusable.", code="brief_unusable")
        return "good"

    asked = ask(scripted_chain(state, model("gemini"), model("openai")), check=first_is_bad)
    assert (asked.provider, asked.value, asked.usage.cost_microusd) == ("openai", "good", 630)


def test_a_bug_in_a_client_parks_the_claim(state: StateDatabase) -> None:
    broken = model("gemini")
    broken.generate_json = None  # type: ignore[assignment]
    with pytest.raises(TypeError):
        ask(scripted_chain(state, broken))
    assert claims(state) == [("gemini", "parked", 20_000, "TypeError")]


def test_a_chain_of_nobody_is_refused(state: StateDatabase) -> None:
    with pytest.raises(PermanentError, match="names none"):
        scripted_chain(state)


# On real settings


def test_without_keys_all_are_the_sandbox_in_the_order_named(open_models: Callable[..., Chain]) -> None:
    chain = open_models("groq", "gemini", "groq")
    assert [link.provider for link in chain.links] == ["groq", "gemini"]
    assert chain.mode == "sandbox"
    assert ask(chain).provider == "groq"


def test_a_sandbox_does_not_stand_in_where_another_is_live(
    open_models: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch, sandbox: SandboxUnderTest
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sandbox-key-of-openai")
    monkeypatch.setenv("OPENAI_BASE_URL", f"{sandbox.url}/openai/v1/")
    get_settings.cache_clear()
    chain = open_models("gemini", "openai", "groq")
    assert [link.provider for link in chain.links] == ["openai"]
    assert chain.mode == "live"
    assert "not gemini: GEMINI_API_KEY not set" in chain.standing
    sandbox.fault("openai", times=None, status=400, body={"error": {"message": "no", "code": None}})
    assert ask(chain).error is not None
    assert sandbox.requests("gemini") == []


def test_limits_are_settings_and_are_told(
    open_models: Callable[..., Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_ACCOUNT_MODEL_BUDGETS_USD", "acme=0.000001, beta=3")
    get_settings.cache_clear()
    chain = open_models("gemini")
    asked = ask(chain)
    assert asked.error is not None
    assert asked.error.code == "budget_spent"
    assert "0.0000 USD" in chain.purse.in_words()
    assert get_settings().model_budget_microusd("beta") == 3_000_000
    assert get_settings().model_budget_microusd("gamma") == 5_000_000
    assert get_settings().model_budget_microusd() == 10_000_000


def test_the_three_services_see_the_same_and_say_it_in_their_own_way(
    open_models: Callable[..., Chain],
) -> None:
    answers = [ask(open_models(name)) for name in ("gemini", "openai", "groq")]
    assert [answer.error for answer in answers] == [None] * 3
    assert all(answer.usage.cost_microusd > 0 for answer in answers)


def test_the_failure_that_passes_by_itself_decides(database: StateDatabase) -> None:
    refused = PermanentError("Refused.", code="gemini_blocked")
    chain = scripted_chain(
        database, model("gemini", refused), model("openai", busy()), model("groq", revoked())
    )
    asked = ask(chain)
    assert asked.error is not None
    assert asked.error.code == "rate_limited"
    assert [link.code for link in asked.left] == ["gemini_blocked", "rate_limited", "api_key_rejected"]
