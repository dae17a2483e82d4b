"""The rule of attribution, and that nothing is lost or gained by dividing."""

import json
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.money import round_together, split_exactly
from ettametta_pipelines.revenue.attribution import (
    Policy,
    Target,
    Touch,
    source_of_code,
    split_running,
    touches,
    weights,
)

ORDERED = datetime(2026, 3, 5, 12, tzinfo=UTC)
CODES = source_of_code({"k3x": ("acme--2", "tiktok"), "old": (None, None), "held": ("acme--3", "youtube")})
POSTED = {Target("acme--1", "youtube"), Target("acme--1"), Target("acme--2", "tiktok"), Target("acme--2")}

AMOUNT = st.integers(-(10**12), 10**12)
WEIGHTS = st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any)


@given(units=AMOUNT, parts=WEIGHTS)
def test_parts_add_up_and_none_is_off_by_a_whole_unit(units: int, parts: list[int]) -> None:
    split = split_exactly(units, parts)
    assert sum(split) == units
    for part, weight in zip(split, parts, strict=True):
        assert abs(part - Fraction(units * weight, sum(parts))) < 1
        assert weight or not part


@given(units=AMOUNT, parts=WEIGHTS)
def test_taking_back_is_giving_with_the_sign_turned(units: int, parts: list[int]) -> None:
    assert split_exactly(-units, parts) == [-part for part in split_exactly(units, parts)]


@given(parts=st.lists(AMOUNT, min_size=1, max_size=12), unit=st.sampled_from([1, 10, 1000, 10_000, 10**6]))
def test_rounding_together_rounds_the_sum_once_and_no_part_by_a_whole_unit(
    parts: list[int], unit: int
) -> None:
    rounded = round_together(parts, unit)
    # Python rounds fractions half to even.
    assert sum(rounded) == round(Fraction(sum(parts), unit))
    assert all(abs(r - Fraction(p, unit)) < 1 for r, p in zip(rounded, parts, strict=True))


@given(amounts=st.lists(AMOUNT, max_size=10), parts=WEIGHTS)
def test_every_movement_of_an_order_adds_up_and_a_full_refund_leaves_nothing_anywhere(
    amounts: list[int], parts: list[int]
) -> None:
    movements = [*amounts, -sum(amounts)]
    divided = split_running(movements, parts)
    assert [sum(movement) for movement in divided] == movements
    assert [sum(part) for part in zip(*divided, strict=True)] == [0] * len(parts)


@given(amounts=st.lists(AMOUNT, min_size=1, max_size=10), parts=WEIGHTS, cut=st.integers(0, 10))
def test_what_comes_later_changes_nothing_that_came_before(
    amounts: list[int], parts: list[int], cut: int
) -> None:
    assert split_running(amounts, parts)[:cut] == split_running(amounts[:cut], parts)


def visit(hours_before: float, content: str, source: str = "youtube", medium: str = "video") -> list[str]:
    return [(ORDERED - timedelta(hours=hours_before)).isoformat(), source, medium, "cooking", content]


def found(*visits: list[str], policy: Policy = Policy()) -> list[Touch]:
    return touches(json.dumps(visits), ORDERED, policy, POSTED, CODES)


def test_the_last_visit_from_a_post_of_ours_takes_the_order_by_default() -> None:
    seen = found(visit(1, "", "google", "organic"), visit(2, "acme--2", "tiktok"), visit(50, "acme--1"))
    assert [touch.target.source_id for touch in seen] == ["acme--1", "acme--2"]
    assert weights(seen, "last_touch") == {Target("acme--2", "tiktok"): 1}
    assert weights(seen, "first_touch") == {Target("acme--1", "youtube"): 1}
    assert weights(seen, "linear") == {Target("acme--1", "youtube"): 1, Target("acme--2", "tiktok"): 1}
    assert weights([], "last_touch") == {}


def test_the_window_is_closed_at_both_ends() -> None:
    policy = Policy(window=timedelta(days=1))
    assert len(found(visit(24, "acme--1"), visit(0, "acme--1"), policy=policy)) == 2
    assert found(visit(24.001, "acme--1"), visit(-0.001, "acme--1"), policy=policy) == []


@pytest.mark.parametrize(
    "of_nobody",
    [
        visit(1, "acme--9"),
        visit(1, "acme--1", medium="email"),
        visit(1, ""),
        visit(1, "old"),
        visit(1, "K3X"),
        # Anybody can write UTM parameters: a video of ours that is not out, or not out there, brought nobody.
        visit(1, "acme--3"),
        visit(1, "held"),
        visit(1, "acme--1", "tiktok"),
    ],
)
def test_a_link_that_names_no_post_of_ours_takes_nothing(of_nobody: list[str]) -> None:
    assert found(of_nobody) == []


def test_the_code_of_a_redirect_link_stands_for_its_video_and_platform() -> None:
    (touch,) = found(visit(1, "k3x", source="newsletter"))
    assert touch.target == Target("acme--2", "tiktok")
    (touch,) = found(visit(1, "acme--1", source="newsletter"))
    assert touch.target == Target("acme--1", None)
