"""Velocity and acceleration from snapshots, and the words that say where they come from."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.discovery.trends import Surroundings, rank_trends
from ettametta_pipelines.discovery.virality import Motion, Observation, motion_of
from ettametta_pipelines_tests.discovery.rows import NOW, raw, snapshot


def motion(*seen: tuple[float, int]) -> Motion:
    """Motion of a video published at NOW, seen at (age in hours, views)."""
    return motion_of(NOW, [Observation(NOW + timedelta(hours=age), views) for age, views in seen])


def test_one_observation_gives_the_lifetime_mean_and_says_so() -> None:
    once = motion((10, 5000))
    assert (once.velocity, once.basis, once.acceleration) == (500, "lifetime_mean", None)


def test_two_observations_give_the_speed_between_them_not_the_lifetime_mean() -> None:
    twice = motion((10, 5000), (12, 5200))
    assert (twice.velocity, twice.basis, twice.interval_h) == (100, "last_interval", 2)
    assert twice.acceleration is None


def test_three_observations_give_the_acceleration() -> None:
    # 100 views/h around hour 11, 400 around hour 14: 300 more in three hours.
    assert motion((10, 5000), (12, 5200), (16, 6800)).acceleration == pytest.approx(100)


def test_observations_minutes_apart_are_one() -> None:
    assert motion((10, 5000), (10.2, 5400)).basis == "lifetime_mean"


def test_a_counter_that_was_corrected_downwards_is_a_negative_speed() -> None:
    assert motion((10, 5000), (12, 4000)).velocity == -500


def test_along_the_growth_curve_the_speed_now_does_not_depend_on_the_interval() -> None:
    def views(age: float) -> int:
        return round(1e9 * age / (age + 36))

    long, short = motion((24, views(24))), motion((20, views(20)), (24, views(24)))
    assert long.speed_now == pytest.approx(short.speed_now, rel=1e-6)


@given(st.lists(st.tuples(st.floats(1, 500), st.integers(0, 10**12)), min_size=1, max_size=8))
def test_the_order_of_observations_does_not_matter(seen: list[tuple[float, int]]) -> None:
    assert motion(*seen) == motion(*reversed(seen))


def test_snapshots_move_the_ranking_to_what_rises_now() -> None:
    rows = [raw("burst", views=9_000), raw("riser", views=8_000)]
    later = [snapshot("burst", 24, 9_100), snapshot("riser", 24, 30_000)]
    assert [row["video_id"] for row in rank_trends(rows).rows] == ["burst", "riser"]
    ranked = rank_trends(rows, Surroundings(snapshots=later)).rows
    assert [row["video_id"] for row in ranked] == ["riser", "burst"]
    assert {row["velocity_basis"] for row in ranked} == {"last_interval"}
    assert ranked[0]["views"] == 30_000
    assert ranked[0]["age_h"] == 24


def test_the_reason_names_speed_interval_acceleration_and_the_channels_usual() -> None:
    seen = [snapshot("a", 12, 1500), snapshot("a", 24, 6000)]
    (row,) = rank_trends([raw("a", also_in=[])], Surroundings(snapshots=seen)).rows
    assert row["why"].startswith("375 views/h over the last 12 h; gaining 17.9 views/h every hour; ")
    assert "times what its channel usually has" in row["why"]


def test_the_reason_says_how_many_are_faster() -> None:
    ranked = rank_trends([raw(f"v{n}", views=1000 * (n + 1)) for n in range(4)]).rows
    assert [f"number {n} of 4 by speed" in row["why"] for n, row in enumerate(ranked, start=1)] == [True] * 4


def test_a_row_seen_once_says_so_in_words() -> None:
    (row,) = rank_trends([raw("a", baseline_views=None, baseline_uploads=0)]).rows
    assert "on average since it came out 10 h ago (seen once)" in row["why"]
    assert "not known, which counts as the middle" in row["why"]


def test_observations_before_a_change_of_counting_are_not_compared_with_those_after() -> None:
    published = NOW.replace(month=8, day=26, hour=12)
    row = raw("a", published_at=published, observed_at=published + timedelta(hours=3))
    seen = [snapshot("a", 24, 50_000, published_at=published)]
    (ranked,) = rank_trends([row], Surroundings(snapshots=seen)).rows
    assert ranked["methodology_version"] == "youtube-across-a-change"
    assert ranked["velocity_basis"] == "lifetime_mean"
    assert ranked["outlier_ratio"] is None
