"""The channel's yardstick: matched by age, shrunk as far as it is little known, never across a change of counting."""

import math
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ettametta_pipelines.discovery.baselines import (
    Series,
    Spread,
    Usual,
    fit_spread,
    outlier_of,
    usual_views,
    views_at,
)
from ettametta_pipelines.discovery.counting import ALL_COUNT_STARTS, SHORTS_COUNT_STARTS, counting_version
from ettametta_pipelines.discovery.trends import Surroundings, rank_trends
from ettametta_pipelines.discovery.virality import Upload, channel_baseline, growth_share
from ettametta_pipelines_tests.discovery.rows import NOW, raw, snapshot

NICHE = Spread(video_variance=0.64, channel_median=math.log(20_000), channel_variance=2.0)


def usual(views: float, uploads: int) -> Usual:
    found = usual_views(24.0, views, uploads)
    assert found is not None
    return found


def test_a_well_known_channel_stands_for_itself() -> None:
    outlier = outlier_of(round(10 * 2_000 * growth_share(24)), 24, usual(2_000, 50), NICHE)
    assert outlier.channel_weight > 0.95
    assert outlier.ratio == pytest.approx(10, rel=0.3)
    assert outlier.unshrunk_ratio == pytest.approx(10, rel=0.01)


def test_the_same_ratio_on_one_known_upload_is_held_back() -> None:
    views = round(10 * 2_000 * growth_share(24))
    known, unknown = (outlier_of(views, 24, usual(2_000, n), NICHE) for n in (50, 1))
    assert 1 < unknown.ratio < known.ratio / 2
    assert unknown.unshrunk_ratio == pytest.approx(known.unshrunk_ratio)


@given(st.integers(0, 10**10), st.integers(0, 10**10), st.integers(1, 50), st.floats(1, 1e8))
def test_more_views_never_mean_a_smaller_shrunk_ratio(
    one: int, other: int, uploads: int, level: float
) -> None:
    low, high = sorted((one, other))
    yardstick = usual(level, uploads)
    assert outlier_of(low, 24, yardstick, NICHE).ratio <= outlier_of(high, 24, yardstick, NICHE).ratio


@given(st.integers(1, 49), st.floats(1.5, 100))
def test_more_uploads_known_let_a_ratio_stand_out_more(uploads: int, ratio: float) -> None:
    views = round(ratio * 20_000 * growth_share(24))
    fewer, more = (outlier_of(views, 24, usual(20_000, n), NICHE).ratio for n in (uploads, uploads + 1))
    assert 1 <= fewer <= more * 1.0001


def test_few_candidates_are_no_prior() -> None:
    assert fit_spread([("UC1", 9.0, usual(5_000, 3))] * 3) == Spread()


def test_the_spread_is_that_of_the_data() -> None:
    levels = [6 + 0.5 * step for step in range(12)]
    videos = [
        (f"UC{place}", level + (-1) ** place * 0.7, Usual(level, 20, 20.0, "growth_curve"))
        for place, level in enumerate(levels)
    ]
    spread = fit_spread(videos)
    assert spread.channel_median == pytest.approx(8.75)
    assert 2.0 < spread.channel_variance < 6.5
    assert 0.7 < spread.video_variance < 1.3


SERIES: Series = [(3.0, 300), (6.0, 900), (24.0, 3_000)]


def test_an_uploads_views_at_an_age_lie_between_its_snapshots() -> None:
    seen = views_at(SERIES, 12.0)
    assert seen is not None
    assert 900 < seen < 3_000
    assert views_at(SERIES, 6.0) == pytest.approx(900)


def test_no_snapshot_near_an_age_is_no_figure() -> None:
    assert views_at(SERIES, 100.0) is None
    assert views_at(SERIES, 1.0) is None
    assert views_at(SERIES, 26.0) == 3_000
    assert views_at([], 5.0) is None
    assert views_at([(3.0, 10), (168.0, 90)], 30.0) is None


def test_uploads_seen_at_the_same_age_outweigh_the_growth_curve_as_they_become_many() -> None:
    def level(count: int) -> float:
        found = usual_views(24.0, 100_000, 15, [[(24.0, 4_000)]] * count)
        assert found is not None
        return found.log_views

    curve, few, many = level(0), level(2), level(40)
    same_age = math.log(4_000 / growth_share(24))
    assert curve == pytest.approx(math.log(100_000))
    assert same_age < many < few < curve
    assert many - same_age < 0.2 * (curve - same_age)


def test_snapshots_alone_are_a_baseline() -> None:
    others = [snapshot(f"old{n}", 10, 500 + n, published_at=NOW - timedelta(days=3)) for n in range(3)]
    (row,) = rank_trends(
        [raw("a", views=5_000, baseline_views=None, baseline_uploads=0)], Surroundings(snapshots=others)
    ).rows
    assert row["baseline_basis"] == "snapshots"
    assert row["unshrunk_outlier_ratio"] == pytest.approx(10, rel=0.05)


def version(published: Any, observed: Any, duration: float | None = 30.0, platform: str = "youtube") -> str:
    return counting_version(platform, published, observed, duration)


def test_views_counted_in_different_ways_have_different_versions() -> None:
    hour = timedelta(hours=1)
    before, between, after = SHORTS_COUNT_STARTS - 9 * hour, ALL_COUNT_STARTS - 9 * hour, ALL_COUNT_STARTS
    assert version(after, NOW) == version(after, NOW, 4000.0) == "youtube-starts-2026-08"
    assert version(between, between + hour) == "youtube-shorts-starts-2025-03"
    assert version(between, between + hour, 4000.0) == version(before, before + hour) == "youtube-watched"
    assert version(between, NOW) == version(before, between) == "youtube-across-a-change"
    assert version(before, between, 4000.0) == "youtube-watched"
    assert version(between, between + hour, None) == "youtube-unknown-format"
    assert version(before, NOW, platform="tiktok") == "platform-default"


def test_a_baseline_takes_only_uploads_counted_as_the_candidate_was() -> None:
    uploads = [Upload(f"v{n}", 1_000, 48.0, "old") for n in range(6)]
    uploads += [Upload("new", 90_000, 48.0, "now")]
    mixed, alike = channel_baseline(uploads), channel_baseline(uploads, version="now")
    assert (mixed.uploads, alike.uploads) == (7, 1)
    assert alike.views == pytest.approx(90_000 / growth_share(48))


def test_snapshots_of_another_way_of_counting_are_no_baseline() -> None:
    old = NOW.replace(month=8, day=1)
    others = [snapshot(f"old{n}", 10, 500, published_at=old) for n in range(5)]
    (row,) = rank_trends(
        [raw("a", baseline_views=None, baseline_uploads=0)], Surroundings(snapshots=others)
    ).rows
    assert row["outlier_ratio"] is None
