"""Percentiles and weighted means that discovery and scoring share."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.ranking import percentiles, percentiles_within, weighted_mean

numbers = st.floats(allow_nan=False, allow_infinity=False)
values = st.lists(st.one_of(st.none(), numbers), max_size=60)


def test_the_middle_of_three_is_one_half_and_equals_share_a_place() -> None:
    assert percentiles([10, 30, 20]) == pytest.approx([1 / 6, 5 / 6, 1 / 2])
    assert percentiles([5, 5, 5, 5]) == [0.5, 0.5, 0.5, 0.5]


def test_what_is_unknown_stays_unknown_and_does_not_shift_the_others() -> None:
    assert percentiles([None, 1, None, 2]) == [None, 0.25, None, 0.75]


@given(values)
def test_percentiles_lie_strictly_between_zero_and_one_and_average_to_the_middle(
    sample: list[float | None],
) -> None:
    known = [part for part in percentiles(sample) if part is not None]
    assert all(0 < part < 1 for part in known)
    if known:
        assert sum(known) / len(known) == pytest.approx(0.5)


@given(st.lists(numbers, min_size=2, max_size=60))
def test_percentiles_keep_the_order_and_no_two_sizes_share_a_place(sample: list[float]) -> None:
    parts = percentiles(sample)
    ranked = sorted(zip(sample, parts, strict=True))
    for (one, part), (other, other_part) in pairwise(ranked):
        assert part is not None
        assert other_part is not None
        assert (one < other) == (part < other_part)


@given(st.lists(st.integers(min_value=0, max_value=10**6), min_size=1, max_size=40), st.integers(1, 10**6))
def test_percentiles_do_not_depend_on_the_unit(sample: list[int], factor: int) -> None:
    assert percentiles(sample) == percentiles([value * factor for value in sample])


def test_groups_are_ranked_apart() -> None:
    parts = percentiles_within(["youtube", "tiktok", "youtube"], [1_000_000, 3, 2_000_000])
    assert parts == [0.25, 0.5, 0.75]


def test_an_unknown_part_counts_as_the_middle() -> None:
    assert weighted_mean({"a": 1.0, "b": None}, {"a": 3, "b": 1}) == pytest.approx(0.875)


def test_only_weighted_parts_count() -> None:
    assert weighted_mean({"a": 0.2, "b": 0.9}, {"a": 2}) == pytest.approx(0.2)
