"""The formulas behind velocity, outlier ratio and ranking."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.discovery.virality import (
    MIN_BASELINE_UPLOADS,
    MIN_BASELINE_VIEWS,
    Upload,
    age_hours,
    channel_baseline,
    engagement_rate,
    growth_share,
    outlier_ratio,
    trend_strength,
    view_velocity,
)

views = st.integers(min_value=0, max_value=10**11)
ages = st.floats(min_value=0, max_value=20_000)
baselines = st.floats(min_value=MIN_BASELINE_VIEWS, max_value=1e9)


def uploads(*counts: int, age_h: float = 48.0) -> list[Upload]:
    return [Upload(f"v{i}", count, age_h) for i, count in enumerate(counts)]


def test_velocity_is_views_per_hour_since_publication() -> None:
    assert view_velocity(12_000, 24) == 500


def test_velocity_of_a_video_minutes_old_counts_a_full_hour() -> None:
    assert view_velocity(30, 0.05) == 30


def test_age_is_hours_between_publication_and_observation() -> None:
    seen = datetime(2026, 11, 22, 12, tzinfo=UTC)
    assert age_hours(seen - timedelta(hours=36), seen) == 36


@given(views, views, ages)
def test_more_views_at_the_same_age_never_mean_less_velocity(one: int, other: int, age: float) -> None:
    low, high = sorted((one, other))
    assert view_velocity(low, age) <= view_velocity(high, age)


@given(st.integers(min_value=1, max_value=10**11), ages)
def test_velocity_has_no_ceiling(count: int, age: float) -> None:
    assert view_velocity(10 * count, age) == pytest.approx(10 * view_velocity(count, age))


@given(ages, ages)
def test_older_videos_have_earned_a_larger_share_of_their_views(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 < growth_share(low) <= growth_share(high) < 1


def test_a_video_with_what_its_channel_usually_has_at_that_age_has_ratio_one() -> None:
    baseline = channel_baseline(uploads(*[40_000] * 6, age_h=10.0 * 24))
    assert outlier_ratio(40_000, 240.0, baseline.views) == pytest.approx(1.0)


def test_the_same_views_at_a_younger_age_are_a_larger_outlier() -> None:
    young, old = outlier_ratio(9_000, 6, 10_000), outlier_ratio(9_000, 600, 10_000)
    assert young is not None
    assert old is not None
    assert young > 5 * old


@given(st.integers(min_value=0, max_value=10**9), ages, baselines, st.integers(min_value=1, max_value=1000))
def test_the_outlier_ratio_is_free_of_scale(count: int, age: float, baseline: float, factor: int) -> None:
    small, large = outlier_ratio(count, age, baseline), outlier_ratio(count * factor, age, baseline * factor)
    assert small == pytest.approx(large)


@given(views, views, ages, baselines)
def test_more_views_never_mean_a_smaller_outlier(one: int, other: int, age: float, baseline: float) -> None:
    low, high = (outlier_ratio(v, age, baseline) for v in sorted((one, other)))
    assert low is not None
    assert high is not None
    assert low <= high


@given(st.integers(min_value=1, max_value=10**9), ages, baselines)
def test_the_outlier_ratio_does_not_saturate(count: int, age: float, baseline: float) -> None:
    single, thousandfold = outlier_ratio(count, age, baseline), outlier_ratio(1000 * count, age, baseline)
    assert single is not None
    assert thousandfold == pytest.approx(1000 * single)


@given(st.integers(min_value=0, max_value=10**6), ages, st.floats(min_value=0, max_value=MIN_BASELINE_VIEWS))
def test_a_tiny_channel_is_measured_against_the_guard(count: int, age: float, baseline: float) -> None:
    assert outlier_ratio(count, age, baseline) == outlier_ratio(count, age, MIN_BASELINE_VIEWS)


def test_a_channel_with_three_views_does_not_make_three_hundred_a_hundredfold_outlier() -> None:
    baseline = channel_baseline(uploads(3, 3, 2, 4, 3, 3, age_h=2000))
    ratio = outlier_ratio(300, 2000, baseline.views)
    assert ratio is not None
    assert ratio < 1


def test_an_unknown_baseline_gives_no_ratio_rather_than_zero() -> None:
    assert outlier_ratio(1_000_000, 5, None) is None


def test_too_few_uploads_are_no_baseline_and_say_how_few() -> None:
    baseline = channel_baseline(uploads(*[1000] * (MIN_BASELINE_UPLOADS - 1)))
    assert baseline.views is None
    assert baseline.uploads == MIN_BASELINE_UPLOADS - 1


def test_a_candidate_is_not_part_of_its_own_yardstick() -> None:
    recent = [*uploads(*[1000] * 5), Upload("hit", 5_000_000, 48.0)]
    assert channel_baseline(recent, leave_out="hit") == channel_baseline(uploads(*[1000] * 5))


def test_uploads_of_the_last_hours_do_not_count_towards_the_usual() -> None:
    assert channel_baseline(uploads(*[1000] * 8, age_h=3)).views is None


def test_one_earlier_hit_does_not_move_the_usual() -> None:
    steady = channel_baseline(uploads(*[1000] * 6))
    with_hit = channel_baseline(uploads(*[1000] * 6, 90_000_000))
    assert steady.views == with_hit.views


def test_engagement_is_unknown_when_a_counter_is_hidden_or_nobody_watched() -> None:
    assert engagement_rate(1000, 40, 10) == 0.05
    assert engagement_rate(1000, None, 10) is None
    assert engagement_rate(1000, 40, None) is None
    assert engagement_rate(0, 0, 0) is None


def test_an_unknown_outlier_counts_as_the_middle() -> None:
    assert trend_strength(0.9, None) == pytest.approx(0.7)


def test_an_upload_with_a_count_below_zero_is_no_yardstick() -> None:
    uploads = [Upload("a", 1_000, 500.0), Upload("b", -4, 500.0)]
    assert channel_baseline(uploads) == channel_baseline(uploads[:1])
