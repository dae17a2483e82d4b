"""Which weights rank: the log of decisions, what an operator may order, and a day of the contest."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.scoring.blend import WEIGHTS
from ettametta_pipelines.scoring.champions import (
    Decision,
    decide,
    keep,
    order,
    read_contest,
    read_decisions,
    scores_before,
    standing_of,
)
from ettametta_pipelines.scoring.contest import ContestDay, hold_contest
from ettametta_pipelines.scoring.learning import PARTS, LearnedScore, learn
from ettametta_pipelines.scoring.quality_contracts import SCORE_CHALLENGER
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines_tests.scoring.test_learning import HOOK_ONLY, examples
from ettametta_pipelines_tests.scoring.world import end_of

NOW = datetime(2026, 5, 1, 3, tzinfo=UTC)
DAY = date(2026, 4, 10)
STRONG = {part: 2 * share for part, share in HOOK_ONLY.items()}


@pytest.fixture
def learned(store: ObjectStore) -> LearnedScore:
    found = learn(examples(400, STRONG, seed=1), DAY, end_of(DAY))
    assert isinstance(found, LearnedScore)
    keep(store, found)
    return found


def ordered(
    store: ObjectStore, action: str, version: str = "", reason: str = "wanted", run: str = "1"
) -> None:
    order(store, action, version=version, reason=reason, by=f"operator, run {run}", at=NOW)


def outcomes(posts: int, truth: dict[str, float]) -> list[dict[str, object]]:
    return [
        {
            "publication_id": post.identity, "account": post.cluster, "published_at": post.published_at,
            "link": "linked", "status_7d": "known", "lift_7d": post.lift,
            **{f"{part}_part": post.parts[part] for part in PARTS},
        }
        for post in examples(posts, truth, seed=1)
    ]  # fmt: skip


def contest(store: ObjectStore, day: date, truth: dict[str, float] = STRONG) -> ContestDay:
    rows = [row for row in outcomes(900, truth) if row["published_at"] + timedelta(days=7) <= end_of(day)]  # type: ignore[operator]
    held = hold_contest(store, rows, day, end_of(day), by=f"test, run {day}", at=NOW)
    SCORE_CHALLENGER.frame([{"day": day} | row for row in held.rows])
    return held


def test_without_any_decision_the_stated_formula_ranks_alone(store: ObjectStore) -> None:
    found = read_contest(store)
    assert (found.champion, found.challenger) == (WEIGHTS, None)


def test_an_operator_pins_promotes_and_rolls_back_and_the_log_says_why(
    store: ObjectStore, learned: LearnedScore
) -> None:
    ordered(store, "promote", learned.version, "looks right", run="1")
    assert read_contest(store).champion.version == learned.version
    ordered(store, "rollback", reason="views fell", run="2")
    assert read_contest(store).champion == WEIGHTS
    ordered(store, "pin", learned.version, "campaign", run="3")
    assert (read_contest(store).champion.version, read_contest(store).pinned) == (learned.version, True)
    ordered(store, "unpin", reason="over", run="4")
    assert not read_contest(store).pinned
    assert [made.reason for made in read_decisions(store)] == [
        "looks right",
        "views fell",
        "campaign",
        "over",
    ]


@pytest.mark.parametrize(
    ("action", "version", "reason", "code"),
    [
        ("promote", "", "why not", "no_such_weights"),
        ("rollback", "", "why not", "no_such_weights"),
        ("promote", "learned-19990101-ffffffff", "why not", "unknown_weights"),
        ("pin", "", "  ", "reason_missing"),
        ("pin", "decisions/000001", "why not", "unknown_weights"),
        ("pin", "../../posts", "why not", "unknown_weights"),
    ],
)
def test_an_order_that_cannot_be_followed_changes_nothing(
    store: ObjectStore, action: str, version: str, reason: str, code: str
) -> None:
    decide(store, [], Decision("unpin", WEIGHTS.version, "so that there is a log", "run 0", NOW))
    with pytest.raises(PermanentError) as failure:
        ordered(store, action, version, reason)
    assert failure.value.code == code
    assert len(read_decisions(store)) == 1


def test_two_runs_cannot_both_make_the_next_decision(store: ObjectStore, learned: LearnedScore) -> None:
    seen: list[Decision] = []
    decide(store, seen, Decision("promote", learned.version, "first", "run 1", NOW))
    with pytest.raises(TransientError):
        decide(store, seen, Decision("promote", learned.version, "second", "run 2", NOW))


def test_a_step_that_is_tried_again_decides_once(store: ObjectStore, learned: LearnedScore) -> None:
    for _ in range(2):
        ordered(store, "promote", learned.version, run="same")
    assert len(read_decisions(store)) == 1


def test_a_rollback_that_is_tried_again_goes_back_once(store: ObjectStore, learned: LearnedScore) -> None:
    newer = replace(learned, version="learned-20260411-00000000")
    keep(store, newer)
    ordered(store, "promote", learned.version, run="1")
    ordered(store, "promote", newer.version, run="2")
    for _ in range(3):
        ordered(store, "rollback", run="3")
    assert read_contest(store).champion.version == learned.version
    assert len(read_decisions(store)) == 3


def test_a_promotion_of_the_challenger_that_is_tried_again_is_no_failure(
    store: ObjectStore, learned: LearnedScore
) -> None:
    decide(store, [], Decision("enlist", learned.version, "learned", "test, run 1", NOW, DAY))
    for _ in range(2):
        ordered(store, "promote", run="2")
    assert read_contest(store).champion.version == learned.version
    assert len(read_decisions(store)) == 2


def test_a_challenger_is_enlisted_tested_once_and_replaces_the_champion_with_a_reason(
    store: ObjectStore,
) -> None:
    first = contest(store, DAY)
    (enlisted,) = [row for row in first.rows if row["role"] == "enlisted"]
    assert read_contest(store).challenger is not None
    assert read_contest(store).champion == WEIGHTS
    waiting = contest(store, DAY + timedelta(days=10))
    assert waiting.missing > 0
    decided = contest(store, DAY + timedelta(days=30))
    assert decided.standing.champion == enlisted["version"]
    assert {row["role"]: row["decision"] for row in decided.rows} == {
        "champion": "replaced", "challenger": "promoted", "enlisted": "enlisted",
    }  # fmt: skip
    promotion = read_decisions(store)[1]
    assert (promotion.action, promotion.day) == ("promote", DAY + timedelta(days=30))
    assert "rank correlation" in promotion.reason


def test_a_challenger_that_has_learned_nothing_retires(store: ObjectStore) -> None:
    stated = {part: 2 * share for part, share in WEIGHTS.shares.items()}
    contest(store, DAY, stated)
    held = contest(store, DAY + timedelta(days=30), stated)
    assert held.standing.champion == WEIGHTS.version
    assert {row["role"]: row["decision"] for row in held.rows}["challenger"] == "retired"


def test_while_the_champion_is_pinned_nothing_is_tested(store: ObjectStore) -> None:
    contest(store, DAY)
    ordered(store, "pin", reason="campaign")
    held = contest(store, DAY + timedelta(days=30))
    assert held.standing.champion == WEIGHTS.version
    assert "pinned" in held.said[0]
    ordered(store, "unpin", reason="over", run="2")
    assert contest(store, DAY + timedelta(days=31)).standing.champion != WEIGHTS.version


def test_a_backfill_of_a_decided_day_shows_what_was_decided_and_adds_nothing(store: ObjectStore) -> None:
    contest(store, DAY)
    decided = contest(store, DAY + timedelta(days=30))
    log = read_decisions(store)
    again = contest(store, DAY + timedelta(days=30))
    assert again.rows == decided.rows
    contest(store, DAY - timedelta(days=3))
    assert read_decisions(store) == log


def test_a_score_made_with_weights_that_had_seen_the_post_does_not_count(
    store: ObjectStore, learned: LearnedScore
) -> None:
    read = scores_before(store)["champion"]
    row = {"score": 0.7, "weights_version": learned.version, "published_at": learned.known_until}
    assert read(row) == 0.7
    assert read(row | {"published_at": learned.known_until - timedelta(seconds=1)}) is None
    assert read(row | {"weights_version": WEIGHTS.version, "published_at": learned.first_post}) == 0.7


def test_standing_is_the_log_read_from_its_start(learned: LearnedScore) -> None:
    made = Decision("enlist", "learned-a", "r", "by", NOW, DAY)
    log = [made, replace(made, action="promote"), replace(made, action="enlist", version="learned-b")]
    standing = standing_of(log)
    assert (standing.champion, standing.challenger, standing.former) == (
        "learned-a",
        "learned-b",
        ("stated-1",),
    )
