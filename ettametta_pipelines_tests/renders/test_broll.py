"""When a video cuts away, and for which words footage is sought."""

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ettametta_pipelines.renders.broll import (
    HOOK_S,
    MAX_CUTAWAYS,
    MIN_APART_S,
    MIN_LENGTH_S,
    SNAP_S,
    TAIL_S,
    BrollReport,
    Clip,
    Placed,
    Skipped,
    Slot,
    keywords_for,
    plan_slots,
    split_keywords,
)
from ettametta_pipelines.renders.formats import OUTPUT_RATES
from ettametta_pipelines.renders.recipe import (
    Broll,
    Recipe,
    RecipeError,
    canonical_json,
    load_preset,
    render_key,
    with_broll,
)

brolls = st.builds(
    Broll,
    every_s=st.floats(3, 120),
    length_s=st.floats(1, 6),
    share=st.floats(0.05, 0.5),
)


@given(
    brolls,
    st.integers(0, 2**31 - 1),
    st.floats(0.5, 1200),
    st.sampled_from(OUTPUT_RATES),
    st.lists(st.floats(0, 1), max_size=80),
)
def test_cutaways_leave_hook_and_end_alone_lie_apart_and_keep_their_share(
    broll: Broll, seed: int, duration_s: float, rate: Fraction, cuts: list[float]
) -> None:
    boundaries = [0.0, *(cut * duration_s for cut in cuts)]
    slots = plan_slots(broll, seed, duration_s, rate, boundaries)
    frames = round(duration_s * rate)
    assert slots == plan_slots(broll, seed, duration_s, rate, boundaries)
    assert len(slots) <= MAX_CUTAWAYS
    assert sum(slot.end - slot.start for slot in slots) <= broll.share * frames
    for slot in slots:
        assert slot.start >= HOOK_S * rate
        assert slot.end <= (duration_s - TAIL_S) * float(rate) + 1e-6
        assert MIN_LENGTH_S * rate <= slot.end - slot.start <= (max(1, broll.length_s) + SNAP_S) * rate + 2
    for one, two in pairwise(slots):
        assert two.start - one.end >= MIN_APART_S * rate
    starts = {round(cut * rate) for cut in boundaries}
    begun_at_cuts = [slot.start in starts for slot in slots]
    assert all(begun_at_cuts) or not any(
        HOOK_S * rate <= cut <= (duration_s - TAIL_S - MIN_LENGTH_S) * rate - 1 for cut in starts
    )


def test_a_single_shot_is_cut_away_from_evenly_and_another_seed_elsewhere() -> None:
    broll, rate = Broll(every_s=10, length_s=2), Fraction(25)
    slots = plan_slots(broll, 1, 120, rate, [0.0])
    gaps = [(two.start - one.start) / 25 for one, two in pairwise(slots)]
    assert 9 <= len(slots) <= 14
    assert all(7.4 <= gap <= 12.6 for gap in gaps)
    assert slots != plan_slots(broll, 2, 120, rate, [0.0])


def test_an_end_near_a_cut_goes_to_the_cut() -> None:
    cuts = [0.0, 5.0, 7.2]
    planned = [
        plan_slots(Broll(length_s=2, every_s=60), seed, 20, Fraction(25), cuts)[0] for seed in range(30)
    ]
    assert {slot.start for slot in planned} == {125, 180}
    assert {slot.end for slot in planned if slot.start == 125} == {180}


@pytest.mark.parametrize("duration_s", [1.0, 3.5, 4.4])
def test_a_video_too_short_for_a_cutaway_has_none(duration_s: float) -> None:
    assert plan_slots(Broll(share=0.5), 1, duration_s, Fraction(30), [0.0]) == ()
    assert BrollReport(Fraction(30)).in_words == "none: the video is too short for a cutaway"


def test_words_come_from_the_sidecar_else_from_the_title_and_niche() -> None:
    assert keywords_for(["  sharp\tknife ", "onions", "onions"], "T", "home-cooking") == (
        "sharp knife",
        "onions",
    )
    assert keywords_for([], "How to sharpen your Küchenmesser in 5 minutes", "home-cooking") == (
        "sharpen küchenmesser minutes",
        "home cooking",
    )
    assert keywords_for([], "IMG_2034", "travel") == ("travel",)
    assert keywords_for([], "20340101_113000", "") == ()
    assert split_keywords(" a, b c ,,\u202e") == ["a", "b c"]


def test_cutaways_off_leave_a_recipes_key_as_it_was_and_on_change_it() -> None:
    plain = Recipe(name="a")
    assert "broll" not in canonical_json(plain)
    key = render_key("ab" * 32, plain, 1, "1x1", "n9")
    assert render_key("ab" * 32, with_broll(plain, "any"), 1, "1x1", "n9") != key
    shown = with_broll(plain, "pexels")
    keys = {render_key("ab" * 32, shown, 1, "1x1", "n9", None, digest) for digest in (None, "x", "y")}
    assert len(keys) == 3
    assert with_broll(shown, "none") == plain


def test_a_source_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(RecipeError, match="'youtube' is no source of cutaways"):
        with_broll(Recipe(name="a"), "youtube")
    with pytest.raises(ValidationError):
        Broll(share=0.9)
    assert load_preset("story").broll is not None


def clip_of(number: int, credit: str | None) -> Clip:
    return Clip(
        sha256=f"{number:064x}", object_key=f"media/broll/{number:064x}.mp4", vendor="pexels", vendor_id=str(number),
        rights="licensed", licence="Pexels License", credit=credit, author=None, author_url=None, url=None, query="x",
        duration_s=5.0, fetched_at="2026-11-23T00:00:00Z",
    )  # fmt: skip


def test_a_report_names_each_credit_once_and_what_was_skipped_and_why() -> None:
    placed = tuple(
        Placed(Slot(100 * n, 100 * n + 50), clip_of(n, credit), 0.5)
        for n, credit in ((1, "Footage: A / Pexels"), (2, None), (3, "Footage: A / Pexels"))
    )
    report = BrollReport(
        Fraction(25), placed, (Skipped(Slot(400, 450), "pexels_rate_limited", "Pexels refused."),)
    )
    assert report.credits == ("Footage: A / Pexels",)
    assert report.in_words == "3 cutaways, 1 skipped: Pexels refused."
    document = report.document()
    assert document["cutaways"][0]["start_s"] == 4.0
    assert document["cutaways"][0]["rights"] == "licensed"
    assert document["skipped"] == [
        {"start_s": 16.0, "end_s": 18.0, "code": "pexels_rate_limited", "reason": "Pexels refused."}
    ]
    nothing = BrollReport(Fraction(25), (), report.skipped)
    assert nothing.in_words == "skipped: Pexels refused."
    assert nothing.digest is None
    moved = (Placed(Slot(101, 151), placed[0].clip, 0.5), *placed[1:])
    assert len({report.digest, BrollReport(Fraction(25), moved).digest}) == 2
