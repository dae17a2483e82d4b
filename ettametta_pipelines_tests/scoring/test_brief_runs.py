"""Runs of the brief writer: what was paid for is kept, and one candidate's trouble is its own."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError
from ettametta_pipelines.scoring.briefs import Briefs, write_briefs
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.scoring.scripted import NOW, ScriptedChain, ScriptedModel, scripted_chain

DRAFT = {
    "prompt": "A pan, a hand, an egg.", "hook_text": "One pan?", "title_candidates": ["One pan"],
    "broll_keywords": ["pan"], "hashtags": ["cooking"], "recipe": "clean",
}  # fmt: skip


@pytest.fixture
def database(tmp_path: Path) -> StateDatabase:
    made = StateDatabase(f"sqlite:///{tmp_path / 'state.db'}")
    made.migrate()
    return made


def writer(database: StateDatabase, **errors: PipelineError) -> ScriptedChain:
    return scripted_chain(database, ScriptedModel("gemini", DRAFT, errors))


def pick(video_id: str, *subjects: str) -> dict[str, Any]:
    return {
        "day": NOW.date(), "niche": "home-cooking", "platform": "youtube", "video_id": video_id, "score": 0.5,
        "title": f"Title of {video_id}", "subjects": list(subjects), "mood": "cosy", "hook_reason": None,
    }  # fmt: skip


def write(chain: ScriptedChain, *picks: dict[str, Any], niche: str = "Cooking", **options: Any) -> Briefs:
    defaults: dict[str, Any] = {"template_may_write": True, "earlier": [], "clock": lambda: NOW}
    return write_briefs(picks, niche_title=niche, chain=chain, **(defaults | options))


def no_credit() -> PipelineError:
    return NeedsPersonError("No credit is left.", code="openai_credit_spent")


def test_what_was_paid_for_is_kept_when_the_credit_ends_in_between(database: StateDatabase) -> None:
    written = write(writer(database, b=no_credit()), pick("a"), pick("b"), pick("c"))
    assert [row["video_id"] for row in written.rows] == ["a"]
    assert [(f.video_id, f.error.code) for f in written.failed] == [
        ("b", "openai_credit_spent"),
        ("c", "openai_credit_spent"),
    ]


def test_where_nothing_was_written_a_person_is_called_at_once(database: StateDatabase) -> None:
    chain = writer(database, a=no_credit())
    with pytest.raises(NeedsPersonError):
        write(chain, pick("a"), pick("b"))
    assert chain.asked == ["a"]


def test_an_address_among_the_subjects_stays_out_of_the_template(database: StateDatabase) -> None:
    refused = PermanentError("Refused.", code="gemini_blocked")
    written = write(writer(database, b=refused), pick("a"), pick("b", "evil.com", " ", "Egg"))
    assert [row["written_by"] for row in written.rows] == ["model", "template"]
    assert "egg" in written.rows[1]["hook_text"].lower()
    assert "evil" not in str(written.rows[1])


def test_a_template_that_cannot_be_filled_fails_its_own_brief_only(database: StateDatabase) -> None:
    refused = PermanentError("Refused.", code="gemini_blocked")
    written = write(writer(database, b=refused), pick("a"), pick("b"), niche="Monday.com")
    assert [row["video_id"] for row in written.rows] == ["a"]
    assert [(f.video_id, f.error.code) for f in written.failed] == [("b", "brief_unusable")]


def test_a_brief_of_the_sandbox_is_none_of_a_live_model(database: StateDatabase) -> None:
    chain = writer(database)
    first = write(chain, pick("a"))
    assert write(chain, pick("a"), earlier=first.rows).reused == 1
    chain.purse.budget = replace(chain.purse.budget, mode="live")
    assert write(chain, pick("a"), earlier=first.rows).reused == 0


def test_what_cannot_be_written_again_keeps_the_brief_that_was_paid_for(database: StateDatabase) -> None:
    first = write(writer(database), pick("a"), pick("b"))
    chain = writer(database, b=PermanentError("Refused.", code="gemini_blocked"))
    again = write(chain, pick("a"), pick("b"), earlier=first.rows, ask_again=True)
    assert chain.asked == ["a", "b"]
    assert [row["written_by"] for row in again.rows] == ["model", "model"]
    assert (again.by_template, again.reused, len(again.failed)) == (0, 1, 0)
