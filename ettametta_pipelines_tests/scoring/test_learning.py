"""What is learned from outcomes, and the test that lets nothing by that is luck."""

from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest

from ettametta_pipelines.scoring.blend import WEIGHTS, Weights
from ettametta_pipelines.scoring.learning import (
    LEVEL,
    PARTS,
    TEST_NEEDS,
    TRAINING_NEEDS,
    Example,
    LearnedScore,
    NothingLearned,
    compare,
    fit,
    learn,
    unseen,
)
from ettametta_pipelines_tests.scoring.world import end_of

START = datetime(2026, 3, 1, tzinfo=UTC)
HOOK_ONLY = {part: float(part == "hook") for part in PARTS}


def examples(n: int, truth: dict[str, float], seed: int, *, luck: float = 0.8) -> list[Example]:
    """Posts of three accounts, nine a day, whose lift follows `truth`; posts of an account-day share some luck."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(0, luck / 2, size=n)
    found = []
    for place in range(n):
        parts = dict(zip(PARTS, rng.uniform(size=len(PARTS)).tolist(), strict=True))
        day, account = place // 9, place % 3
        lift = sum(truth[part] * (value - 0.5) for part, value in parts.items()) + rng.normal(0, luck)
        at = START + timedelta(days=day, minutes=place % 9)
        found.append(Example(f"{place:04}", f"{account} {day}", at, parts, lift + shared[day * 3 + account]))
    return found


def test_a_challenger_that_is_noise_is_promoted_less_often_than_the_stated_level() -> None:
    nothing = dict.fromkeys(PARTS, 0.0)
    promoted = 0
    for seed in range(200):
        shares = np.random.default_rng(seed).dirichlet(np.ones(len(PARTS))).tolist()
        noise = Weights(f"learned-{seed}", dict(zip(PARTS, shares, strict=True)))
        # The hardest case: the champion knows nothing either, so that luck alone decides.
        promoted += compare(WEIGHTS, noise, examples(TEST_NEEDS, nothing, seed)).promote
    assert promoted / 200 < LEVEL


def test_noise_does_not_replace_a_champion_that_knows_something() -> None:
    truth = {part: 1.5 * share for part, share in WEIGHTS.shares.items()}
    for seed in range(60):
        shares = np.random.default_rng(seed).dirichlet(np.ones(len(PARTS))).tolist()
        noise = Weights(f"learned-{seed}", dict(zip(PARTS, shares, strict=True)))
        assert not compare(WEIGHTS, noise, examples(TEST_NEEDS, truth, seed)).promote


def test_a_challenger_that_is_clearly_better_is_promoted() -> None:
    truth = {part: 2 * share for part, share in HOOK_ONLY.items()}
    verdicts = [
        compare(WEIGHTS, Weights("learned-x", HOOK_ONLY), examples(TEST_NEEDS, truth, seed))
        for seed in range(20)
    ]
    assert sum(verdict.promote for verdict in verdicts) >= 18


def test_the_test_is_made_on_the_first_posts_however_many_have_come() -> None:
    posts = examples(3 * TEST_NEEDS, HOOK_ONLY, seed=3)
    challenger = Weights("learned-x", HOOK_ONLY)
    assert compare(WEIGHTS, challenger, posts) == compare(WEIGHTS, challenger, posts[:TEST_NEEDS])


def test_before_enough_posts_the_test_says_how_many_are_missing() -> None:
    verdict = compare(WEIGHTS, Weights("learned-x", HOOK_ONLY), examples(TEST_NEEDS - 7, HOOK_ONLY, seed=1))
    assert (verdict.promote, verdict.missing, verdict.challenger) == (False, 7, None)


def test_many_posts_of_a_few_account_days_make_no_test() -> None:
    posts = [
        Example(post.identity, f"one {place % 4}", post.published_at, post.parts, post.lift)
        for place, post in enumerate(examples(2 * TEST_NEEDS, HOOK_ONLY, seed=1))
    ]
    assert compare(WEIGHTS, Weights("learned-x", HOOK_ONLY), posts).missing == 16


def test_learning_sees_nothing_that_was_not_known_by_the_end_of_its_day() -> None:
    day = date(2026, 4, 20)
    posts = examples(600, HOOK_ONLY, seed=2)
    known = [post for post in posts if post.known_at <= end_of(day)]
    future = [
        Example(post.identity, post.cluster, post.published_at, post.parts, -100.0)
        for post in posts
        if post.known_at > end_of(day)
    ]
    learned = learn([*known, *future], day, end_of(day))
    assert learned == learn(known, day, end_of(day))
    assert isinstance(learned, LearnedScore)
    assert all(post.published_at >= end_of(day) for post in unseen(posts, learned.known_until))


def test_the_same_posts_give_the_same_weights_under_the_same_version() -> None:
    day = date(2026, 5, 30)
    posts = examples(400, HOOK_ONLY, seed=4)
    first, again = learn(posts, day, end_of(day)), learn(list(posts), day, end_of(day))
    assert first == again
    assert isinstance(first, LearnedScore)
    assert LearnedScore.from_json(first.to_json()) == first
    assert sum(first.shares.values()) == pytest.approx(1, abs=1e-5)


def test_too_few_outcomes_teach_nothing_and_say_how_many_are_missing() -> None:
    day = date(2026, 5, 30)
    found = learn(examples(40, HOOK_ONLY, seed=4), day, end_of(day))
    assert isinstance(found, NothingLearned)
    assert found.missing == TRAINING_NEEDS - 40


def test_no_part_weighs_less_than_nothing_even_where_it_does_harm() -> None:
    harmful = {part: -3.0 if part == "velocity" else 1.0 for part in PARTS}
    lifts = fit(examples(400, harmful, seed=6), pull=20.0)
    assert lifts["velocity"] == 0
    assert all(lift >= 0 for lift in lifts.values())


def test_with_little_evidence_the_learned_shares_stay_near_the_formula() -> None:
    posts = examples(120, WEIGHTS.shares | {"hook": 0.5}, seed=7)
    near, far = (
        sum(abs(lifts[part] / sum(lifts.values()) - WEIGHTS.shares[part]) for part in PARTS)
        for lifts in (fit(posts, pull=600.0), fit(posts, pull=20.0))
    )
    assert near < far
    assert near < 0.4
