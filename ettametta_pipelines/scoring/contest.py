"""One day of the contest between the weights that rank and those in shadow: test, promote or retire, enlist.

Puts `learning.py` (what is computed) and `champions.py` (what is kept) together. Called by `score_challenger`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.scoring.blend import WEIGHTS, Weights
from ettametta_pipelines.scoring.champions import (
    Decision,
    Standing,
    decide,
    keep,
    read_decisions,
    read_learned,
    standing_of,
)
from ettametta_pipelines.scoring.learning import (
    Example,
    LearnedScore,
    NothingLearned,
    Verdict,
    compare,
    examples_of,
    learn,
    unseen,
)

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore

Row = dict[str, Any]

# What the day's decision about the challenger is called in its row, and in the champion's.
_WORDS = {"promote": ("promoted", "replaced"), "retire": ("retired", "defended")}


@dataclass
class ContestDay:
    """Rows of `score_challenger`, what holds now, in words what happened, and how many outcomes are waited for."""

    standing: Standing
    rows: list[Row] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    missing: int = 0


def hold_contest(
    store: "ObjectStore", outcomes: Sequence[Row], day: date, as_of: datetime, *, by: str, at: datetime
) -> ContestDay:
    """Test the challenger if enough posts have come that it has not seen; enlist a new one where there is none.

    Decisions go forward in time only: for a day that a decision has passed, the table shows what was decided on it,
    so that a backfill rewrites no history. While the champion is pinned nothing is tested, and the challenger keeps
    its one test.
    """
    log = read_decisions(store)
    passed = next((place for place, made in enumerate(log) if made.day and made.day >= day), None)
    before = standing_of(log[:passed])
    contest = ContestDay(before)
    examples = examples_of(outcomes)
    verdict = _test(contest, store, examples)
    if passed is not None:
        decided = [made for made in log[passed:] if made.day == day]
        contest.said.append(
            f"Decisions have been made through {standing_of(log).decided_through}; none is added."
        )
    else:
        wishes = _wishes(contest, store, verdict, examples, day, as_of)
        decided = [Decision(wish.action, wish.version, wish.reason, by, at, day) for wish in wishes]
        for made in decided:
            log = decide(store, log, made)
    contest.rows = _rows(store, before, verdict, decided)
    contest.said += [f"{made.action} {made.version}: {made.reason}" for made in decided]
    contest.standing = standing_of(log)
    return contest


@dataclass(frozen=True)
class _Wish:
    action: str
    version: str
    reason: str


def _wishes(
    contest: ContestDay,
    store: "ObjectStore",
    verdict: Verdict | None,
    examples: Sequence[Example],
    day: date,
    as_of: datetime,
) -> list[_Wish]:
    """What the day decides: a verdict where one is due, and a new challenger where none is left."""
    challenger = contest.standing.challenger
    wishes = []
    if challenger is not None:
        if verdict is None or verdict.missing:
            return []
        wishes.append(_Wish("promote" if verdict.promote else "retire", challenger, verdict.reason))
    learned = learn(examples, day, as_of)
    if isinstance(learned, NothingLearned):
        contest.said.append(learned.reason)
        contest.missing = learned.missing
        return wishes
    keep(store, learned)
    reason = (
        f"Trained on {learned.posts} posts; on {learned.fold_posts} later ones in forward folds its rank correlation "
        f"was {learned.fold_correlation:.2f}, the formula's {learned.fold_correlation_of_formula:.2f}."
    )
    return [*wishes, _Wish("enlist", learned.version, reason)]


def _test(contest: ContestDay, store: "ObjectStore", examples: Sequence[Example]) -> Verdict | None:
    """The challenger's verdict; None without one, or while the champion is pinned."""
    standing = contest.standing
    challenger = read_learned(store, standing.challenger) if standing.challenger else None
    if challenger is None:
        return None
    if standing.pinned:
        contest.said.append(f"{standing.champion} is pinned; {challenger.version} is not tested.")
        return None
    champion = read_learned(store, standing.champion)
    trained = max(learned.known_until for learned in (champion, challenger) if learned)
    verdict = compare(
        champion.weights if champion else WEIGHTS, challenger.weights, unseen(examples, trained)
    )
    if verdict.missing:
        contest.said.append(f"{challenger.version}: {verdict.reason}")
        contest.missing = verdict.missing
    return verdict


def _rows(
    store: "ObjectStore", before: Standing, verdict: Verdict | None, decided: Sequence[Decision]
) -> list[Row]:
    """Champion and challenger as they went into the day, and whom it enlisted."""
    ruling = next((made for made in decided if made.action in _WORDS), None)
    of_challenger, of_champion = _WORDS[ruling.action] if ruling else ("shadows", "ranks")
    reason = ruling.reason if ruling else verdict.reason if verdict else "Nothing was tested."
    if before.pinned:
        of_champion = "pinned"
    rows = [_row("champion", before.champion, store, of_champion, reason, verdict)]
    if before.challenger:
        rows.append(_row("challenger", before.challenger, store, of_challenger, reason, verdict))
    rows += [
        _row("enlisted", made.version, store, "enlisted", made.reason)
        for made in decided
        if made.action == "enlist"
    ]
    return rows


def _row(
    role: str,
    version: str,
    store: "ObjectStore",
    decision: str,
    reason: str,
    verdict: Verdict | None = None,
) -> Row:
    learned: LearnedScore | None = read_learned(store, version)
    weights: Weights = learned.weights if learned else WEIGHTS
    total = sum(weights.shares.values())
    figures: Row = {"test_posts": 0, "rank_correlation": None}
    if verdict is not None:
        figures = {"test_posts": verdict.n, "rank_correlation": getattr(verdict, role)}
        if role == "challenger":
            figures["p_value"] = verdict.p_value
    return {
        "role": role,
        "version": version,
        "trained_through": learned.trained_through if learned else None,
        **{f"{part}_share": share / total for part, share in weights.shares.items()},
        "training_posts": learned.posts if learned else 0,
        "decision": decision,
        "reason": reason,
    } | figures
