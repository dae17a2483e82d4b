"""Scores that look like those of the last weeks, and parts that are known."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from ettametta_pipelines.scoring.blend import WEIGHTS, score_candidates
from ettametta_pipelines.scoring.contracts import SCORED_CANDIDATES
from ettametta_pipelines.scoring.steadiness import score_shift, steadiness_of
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import write_table
from ettametta_pipelines_tests.scoring.test_blend import assessment, candidate

Row = dict[str, Any]
TODAY = date(2026, 5, 1)


def night(seed: int, *, n: int = 12, blind: bool = False) -> list[Row]:
    rng = np.random.default_rng(seed)
    candidates = [
        candidate(
            f"v{place}", rank=place + 1, view_velocity_per_hour=rng.uniform(), engagement_rate=rng.uniform(),
            outlier_ratio=None if blind else rng.uniform(),
        )
        for place in range(n)
    ]  # fmt: skip
    judged = [
        assessment(
            f"v{place}", hook_strength=None if blind else rng.uniform(), aesthetics=None if blind else rng.uniform()
        )
        for place in range(n)
    ]  # fmt: skip
    return score_candidates(candidates, judged)


def weeks(**changes: Any) -> list[Row]:
    return [row for seed in range(14) for row in night(seed, **changes)]


def test_ordinary_nights_raise_no_alarm() -> None:
    shifts = [score_shift(night(100 + seed), weeks(), WEIGHTS) for seed in range(200)]
    assert sum(not shift.passed for shift in shifts) <= 2


def test_scores_that_fall_together_are_a_shift() -> None:
    low = [row | {f"{part}_part": row[f"{part}_part"] * 0.3 for part in WEIGHTS.shares} for row in night(100)]
    shift = score_shift(low, weeks(), WEIGHTS)
    assert not shift.passed
    assert "Kolmogorov" in shift.said


def test_other_weights_alone_are_no_shift() -> None:
    from ettametta_pipelines.scoring.blend import Weights

    hook = Weights("hook-only", {"hook": 1.0})
    assert score_shift(night(100), weeks(), hook).passed


def test_too_few_scores_are_not_judged_and_say_so() -> None:
    shift = score_shift(night(1, n=3), weeks(), WEIGHTS)
    assert shift.passed
    assert "Too few" in shift.said


def test_the_niches_own_last_two_weeks_are_what_a_night_is_compared_with(tmp_path: Path) -> None:
    store = ObjectStore.from_url(tmp_path.as_uri())
    for back in (1, 2, 3, 14, 15):
        day = TODAY - timedelta(back)
        rows = [row | {"day": day} for row in night(back)]
        write_table(store, SCORED_CANDIDATES, SCORED_CANDIDATES.frame(rows), f"{day}|fitness")
    store.put(f"tables/scored_candidates/{TODAY - timedelta(4)}/fitness.parquet", b"garbage")
    steady = steadiness_of(store, night(50), f"{TODAY}|fitness", WEIGHTS)
    assert steady.shift.earlier == 48
    assert f"cannot be used: {TODAY - timedelta(4)}" in steady.shift.said
    assert steadiness_of(store, night(50), f"{TODAY}|pasta", WEIGHTS).shift.earlier == 0


def test_parts_that_are_mostly_unknown_are_named(tmp_path: Path) -> None:
    store = ObjectStore.from_url(tmp_path.as_uri())
    blind = steadiness_of(store, night(1, blind=True), f"{TODAY}|fitness", WEIGHTS)
    assert blind.mostly_unknown == ["outlier", "hook", "aesthetics"]
    assert blind.neutral["hook"] == 1.0
    assert steadiness_of(store, night(1), f"{TODAY}|fitness", WEIGHTS).mostly_unknown == []
    assert steadiness_of(store, [], f"{TODAY}|fitness", WEIGHTS).mostly_unknown == []
