"""The comparison of variants: it may be looked at after every post, and still errs at most once in twenty."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from ettametta_pipelines.publishing.variant_test import ALPHA, BETS, Throw, bet_sizes, compare

SHARES = {"plain": 0.5, "question": 0.5}
EXPERIMENTS, POSTS = 1000, 300

Lifts = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def heavy_tails(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_t(1.5, shape)


def a_channel_that_grows_in_waves(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Dependent and drifting: lifts of neighbours are alike, and their level moves by twice the usual noise."""
    walk = np.cumsum(rng.normal(0, 0.3, shape), axis=1)
    return 2 * np.sin(walk) + rng.normal(0, 0.5, shape)


def mostly_nothing(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return np.where(rng.random(shape) < 0.95, -0.1, 5.0)


def peaks(got: np.ndarray, lifts: np.ndarray, p: float) -> np.ndarray:
    """Highest evidence over time of one variant, for many experiments at once: (experiment, post) -> (experiment,)."""
    scores = (got - p) / max(p, 1 - p) * np.array([bet_sizes(row) for row in lifts.tolist()])
    paths = np.mean([np.exp(np.cumsum(np.log1p(bet * scores), axis=1)) for bet in BETS], axis=0)
    highest: np.ndarray = paths.max(axis=1)
    return highest


@pytest.mark.parametrize("lifts_of", [heavy_tails, a_channel_that_grows_in_waves, mostly_nothing])
@pytest.mark.parametrize("p", [0.5, 0.1])
def test_variants_that_are_alike_get_a_winner_at_most_once_in_twenty_however_often_one_looks(
    lifts_of: Lifts, p: float
) -> None:
    rng = np.random.default_rng(20261123)
    lifts = lifts_of(rng, (EXPERIMENTS, POSTS))
    got = rng.random((EXPERIMENTS, POSTS)) < p
    threshold = 2 / ALPHA
    wrong = (peaks(got, lifts, p) >= threshold) | (peaks(~got, lifts, 1 - p) >= threshold)
    assert wrong.mean() <= ALPHA


def test_a_variant_with_half_more_views_is_found_within_some_hundred_posts() -> None:
    rng = np.random.default_rng(7)
    got = rng.random((300, POSTS)) < 0.5
    lifts = rng.normal(3, 0.8, (300, POSTS)) + np.where(got, math.log(1.5), 0)
    assert (peaks(got, lifts, 0.5) >= 2 / ALPHA).mean() > 0.9


def throws(effect: float, count: int, shares: dict[str, float] = SHARES, seed: int = 3) -> list[Throw]:
    rng = np.random.default_rng(seed)
    names = sorted(shares)
    arms = rng.choice(names, size=count, p=[shares[name] for name in names])
    return [
        Throw(str(arm), shares, float(rng.normal(effect if arm == "question" else 0.0, 0.7))) for arm in arms
    ]


def test_the_code_follows_the_formula_that_was_simulated() -> None:
    made = throws(0.3, 60)
    result = compare(made)
    assert {arm.arm for arm in result.arms} == {throw.arm for throw in made}
    for arm in result.arms:
        got = np.array([[t.arm == arm.arm for t in made]])
        assert arm.peak == pytest.approx(max(1.0, peaks(got, np.array([[t.lift for t in made]]), 0.5)[0]))


def test_a_winner_is_named_with_what_it_brings_and_stays_one() -> None:
    won = compare(throws(1.2, 200))
    assert won.winner == "question"
    assert won.sentence.startswith("question wins after 200 posts: about ")
    # Bad luck afterwards takes nothing back: the bound is on ever reaching the threshold.
    after = [*throws(1.2, 200), *[Throw("question", SHARES, -3.0)] * 40]
    assert compare(after).winner == "question"


def test_without_a_winner_it_says_about_how_many_more_posts_are_needed() -> None:
    early = compare(throws(1.2, 20))
    assert early.winner is None
    assert early.more_posts is not None
    assert (
        early.sentence
        == f"No winner yet after 20 posts; about {early.more_posts} more if it goes on like this."
    )
    alike = compare(throws(0.0, 200))
    assert alike.more_posts is None
    assert "the variants do about the same" in alike.sentence


def test_nothing_known_is_no_evidence() -> None:
    nothing = compare([])
    assert (nothing.winner, nothing.arms) == (None, [])
    lone = compare([Throw("plain", SHARES, 0.1)])
    assert [round(arm.evidence, 2) for arm in lone.arms] == [1.03, 0.97]
    assert lone.winner is None


def test_a_post_that_could_not_get_a_variant_says_nothing_about_it() -> None:
    before = compare(throws(0.5, 50))
    forced = [Throw("plain", {"plain": 1.0}, 9.0)] * 20
    after = compare([*throws(0.5, 50), *forced])
    assert [a.evidence for a in after.arms] == pytest.approx([a.evidence for a in before.arms])


def test_three_variants_share_the_error_between_them() -> None:
    three = {"plain": 0.4, "question": 0.4, "loud": 0.2}
    assert compare(throws(0.0, 10, three)).threshold == pytest.approx(3 / ALPHA)
