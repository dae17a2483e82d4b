"""Figures of a score's quality, against what is known of them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from ettametta_pipelines.scoring.calibration import (
    NEEDS,
    Measure,
    Sample,
    draw,
    isotonic,
    measures,
    quality_rows,
    spearman,
)
from ettametta_pipelines.scoring.quality_contracts import SCORE_QUALITY


def sample(n: int, skill: float, seed: int = 0, per_cluster: int = 3) -> Sample:
    rng = np.random.default_rng(seed)
    score = rng.uniform(size=n)
    lift = skill * (score - 0.5) + rng.normal(0, 0.5, n)
    return Sample(score, lift, [f"c{place // per_cluster}" for place in range(n)])


def named(found: list[Measure], name: str) -> list[Measure]:
    return [measure for measure in found if measure.name == name]


def test_weighted_rank_correlation_is_that_of_the_resample_with_ties() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.integers(0, 6, 40).astype(float), rng.integers(0, 6, 40).astype(float)
    weights = draw([str(place // 2) for place in range(40)], seed=1, draws=20)
    for row, found in zip(weights, spearman(x, y, weights), strict=True):
        again = row.astype(int)
        assert found == pytest.approx(spearmanr(np.repeat(x, again), np.repeat(y, again)).statistic)


def test_a_bootstrap_draws_whole_clusters_and_the_same_for_the_same_seed() -> None:
    weights = draw(["a", "a", "b", "c"], seed=7)
    assert (weights[:, 0] == weights[:, 1]).all()
    assert (weights == draw(["a", "a", "b", "c"], seed=7)).all()
    assert (weights != draw(["a", "a", "b", "c"], seed=8)).any()


def test_skill_is_seen_with_an_interval_around_it() -> None:
    found = {m.name: m for m in measures(sample(300, 2.0), seed=1)}
    correlation, lift, skill = (found[name] for name in ("rank_correlation", "top_lift", "brier_skill"))
    assert correlation.value is not None
    assert correlation.low is not None
    assert correlation.high is not None
    assert 0 < correlation.low < correlation.value < correlation.high < 1
    assert lift.low is not None
    assert lift.low > 1
    assert skill.value is not None
    assert skill.value > 0.1


def test_intervals_hold_what_they_promise_where_there_is_no_skill() -> None:
    covered = 0
    for seed in range(100):
        (found,) = named(measures(sample(60, 0.0, seed), seed=seed), "rank_correlation")
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 0 <= found.high
    assert covered >= 90


def test_too_few_outcomes_give_no_number_but_how_many_are_missing() -> None:
    for n in (0, 1, 19):
        told = measures(sample(n, 2.0), seed=1)
        assert {found.name for found in told} <= NEEDS.keys()
        assert told
        for found in told:
            assert (found.value, found.n, found.missing) == (None, n, NEEDS[found.name] - n)


def test_reliability_bins_hold_all_posts_once_and_the_isotonic_curve_never_falls() -> None:
    found = measures(sample(101, 1.5), seed=1)
    bins, curve = named(found, "reliability"), named(found, "isotonic")
    assert sum(measure.n for measure in bins) == 101
    values = [measure.value for measure in curve if measure.value is not None]
    assert values == sorted(values)


def test_equal_scores_are_one_bin_and_have_no_rank_correlation() -> None:
    flat = Sample(np.full(80, 0.5), np.linspace(-1, 1, 80), [str(i) for i in range(80)])
    found = measures(flat, seed=1)
    assert len(named(found, "reliability")) == 1
    (correlation,) = named(found, "rank_correlation")
    assert (correlation.value, correlation.missing) == (None, 0)


def test_posts_that_all_came_out_alike_leave_no_error_to_take_away() -> None:
    same = Sample(np.linspace(0, 1, 80), np.full(80, 0.3), [str(i) for i in range(80)])
    (skill,) = named(measures(same, seed=1), "brier_skill")
    assert skill.value is None


def test_isotonic_regression_pools_what_falls() -> None:
    curve = isotonic(np.array([0.1, 0.2, 0.3]), np.array([0.0, 1.0, 0.0]))
    assert curve(np.array([0.0, 0.2, 0.3, 0.9])).tolist() == [0.0, 0.5, 0.5, 0.5]


def test_there_are_figures_per_niche_and_over_all_in_the_tables_shape() -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    rng = np.random.default_rng(3)
    rows: list[dict[str, Any]] = [
        {
            "publication_id": str(place), "account": "a", "published_at": at + timedelta(hours=6 * place),
            "link": "linked", "niche": ("fitness", "pasta")[place % 2], "score": rng.uniform(),
            **{f"status_{h}": "known" for h in ("24h", "7d")}, **{f"lift_{h}": rng.normal() for h in ("24h", "7d")},
        }
        for place in range(80)
    ]  # fmt: skip
    found = quality_rows(rows, {"champion": lambda row: row["score"], "challenger": lambda row: None})
    SCORE_QUALITY.frame([{"day": at.date()} | row for row in found])
    counts = {(r["niche"], r["scorer"]): r["n"] for r in found if r["measure"] == "rank_correlation"}
    assert counts == {
        ("all", "champion"): 80, ("fitness", "champion"): 40, ("pasta", "champion"): 40,
        ("all", "challenger"): 0, ("fitness", "challenger"): 0, ("pasta", "challenger"): 0,
    }  # fmt: skip
