"""Briefs: stable ids, and answers held to what the next room accepts."""

from datetime import date
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ettametta_pipelines
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.scoring.briefs import RECIPES, BriefDraft, brief_id, check_draft, hashtag

DAY = date(2026, 11, 22)


def draft(**changes: object) -> BriefDraft:
    fields = {
        "prompt": "A pan, a hand, an egg.", "hook_text": "One pan?", "broll_keywords": ["pan", "egg"],
        "hashtags": ["cooking"], "recipe": "clean",
    }  # fmt: skip
    return BriefDraft.model_validate(fields | changes)


def test_the_same_day_niche_and_video_give_the_same_id_and_others_do_not() -> None:
    ids = {
        brief_id(DAY, "fitness", "youtube", "a"),
        brief_id(date(2026, 11, 23), "fitness", "youtube", "a"),
        brief_id(DAY, "travel", "youtube", "a"),
        brief_id(DAY, "fitness", "tiktok", "a"),
        brief_id(DAY, "fitness", "youtube", "b"),
    }
    assert len(ids) == 5
    assert brief_id(DAY, "fitness", "youtube", "a") in ids


def test_every_recipe_that_can_be_suggested_is_a_preset_of_the_render_room() -> None:
    presets = {
        file.stem for file in (Path(ettametta_pipelines.__file__).parent / "renders/recipes").glob("*.yaml")
    }
    assert set(RECIPES) <= presets
    assert set(RECIPES) == set(get_args(BriefDraft.model_fields["recipe"].annotation))


def test_another_recipe_is_no_answer() -> None:
    with pytest.raises(ValueError):
        draft(recipe="vaporwave")


def test_hashtags_are_brought_to_form_and_said_once() -> None:
    checked = check_draft(draft(hashtags=["#OnePan", "one pan", "onepan", "#", "2026", "Küche!"]), "v")
    assert checked["hashtags"] == ["#OnePan", "#Küche"]


@given(st.text(max_size=200))
def test_any_text_becomes_a_hashtag_or_nothing(text: str) -> None:
    tag = hashtag(text)
    assert tag == "" or (tag.startswith("#") and 2 <= len(tag) <= 31 and " " not in tag)


def test_hook_text_fits_on_the_screen() -> None:
    assert len(check_draft(draft(hook_text="word " * 60), "v")["hook_text"]) <= 80


def test_an_answer_with_nothing_usable_left_is_refused_naming_what_is_missing() -> None:
    with pytest.raises(PermanentError, match="without hook_text and hashtags") as refused:
        check_draft(draft(hook_text=" \u200b ", hashtags=["!!!"]), "v")
    assert refused.value.code == "brief_unusable"
