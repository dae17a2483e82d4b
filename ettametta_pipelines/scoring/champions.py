"""Which weights rank, which run in shadow, and every decision that led there.

Learned weights are immutable objects, `models/scores/{version}.json`. Decisions are numbered objects beside them,
each made only if its number is free: a log that nothing rewrites and two runs cannot both extend. What holds now is
the log read from the start. The stated formula ranks until a decision says otherwise. Called by the assets of this
room; no Dagster here.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.scoring.blend import WEIGHTS, Weights
from ettametta_pipelines.scoring.learning import LEARNED_PREFIX, LearnedScore
from ettametta_pipelines.storage.objects import ObjectExists, ObjectMissing

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore

MODELS = "models/scores"
DECISIONS = "models/scores/decisions"
# A version is part of a key, and an operator may type it.
_VERSION = re.compile(rf"{LEARNED_PREFIX}\d{{8}}-[0-9a-f]{{8}}")


@dataclass(frozen=True)
class Decision:
    """One step of the log. `day` is that of the outcomes it rests on; None when a person decided."""

    action: str
    version: str
    reason: str
    by: str
    at: datetime
    day: date | None = None
    number: int = 0


@dataclass(frozen=True)
class Standing:
    """What holds after the log. `former` are earlier champions, the last one last."""

    champion: str = WEIGHTS.version
    challenger: str | None = None
    pinned: bool = False
    former: tuple[str, ...] = ()
    decided_through: date | None = None

    def after(self, decision: Decision) -> "Standing":
        then = _STEPS[decision.action](self, decision.version)
        return replace(then, decided_through=decision.day) if decision.day else then


def _crowned(now: Standing, version: str) -> Standing:
    if version == now.champion:
        return now
    challenger = None if now.challenger == version else now.challenger
    return replace(now, champion=version, challenger=challenger, former=(*now.former, now.champion))


_STEPS: dict[str, Callable[[Standing, str], Standing]] = {
    "enlist": lambda now, version: replace(now, challenger=version),
    "retire": lambda now, version: replace(now, challenger=None),
    "promote": _crowned,
    "pin": lambda now, version: replace(_crowned(now, version), pinned=True),
    "unpin": lambda now, version: replace(now, pinned=False),
    "rollback": lambda now, version: replace(now, champion=version, former=now.former[:-1]),
}


def read_decisions(store: "ObjectStore") -> list[Decision]:
    """The whole log, oldest first."""
    return [_decision(store.get(info.key)) for info in store.list(DECISIONS)]


def standing_of(decisions: Sequence[Decision]) -> Standing:
    standing = Standing()
    for decision in decisions:
        standing = standing.after(decision)
    return standing


def decide(store: "ObjectStore", decisions: Sequence[Decision], decision: Decision) -> list[Decision]:
    """The log with one decision more, stored. Raises TransientError when another run decided meanwhile.

    Repeating a run's own decision changes nothing, so that a step that is tried again decides once.
    """
    if any(
        (made.by, made.action, made.version) == (decision.by, decision.action, decision.version)
        for made in decisions
    ):
        return list(decisions)
    numbered = replace(decision, number=len(decisions) + 1)
    body = json.dumps(asdict(numbered), sort_keys=True, indent=1, default=lambda moment: moment.isoformat())
    try:
        store.create(f"{DECISIONS}/{numbered.number:06d}.json", body.encode())
    except ObjectExists as error:
        raise TransientError(
            "Another run has just decided about the weights.",
            code="weights_decided_meanwhile",
            remedy="Look at score_weights, then run this again if it is still wanted.",
        ) from error
    return [*decisions, numbered]


def keep(store: "ObjectStore", learned: LearnedScore) -> None:
    """Store a learned score under its version, which names its content."""
    try:
        store.create(_key(learned.version), learned.to_json())
    except ObjectExists:
        return


def read_learned(store: "ObjectStore", version: str) -> LearnedScore | None:
    """The learned score of a version; None for the stated formula. Raises PermanentError `unknown_weights`."""
    if version == WEIGHTS.version:
        return None
    try:
        stored = store.get(_key(version)) if _VERSION.fullmatch(version) else None
    except ObjectMissing:
        stored = None
    if stored is not None:
        return LearnedScore.from_json(stored)
    kept = (info.key for info in store.list(MODELS) if not info.key.startswith(DECISIONS))
    known = [key.rsplit("/", 1)[-1].removesuffix(".json") for key in kept]
    raise PermanentError(
        f"There are no weights of version {version!r}.",
        code="unknown_weights",
        remedy=f"Known are {', '.join([WEIGHTS.version, *known[-5:]])}.",
    )


def weights_of(store: "ObjectStore", version: str) -> Weights:
    learned = read_learned(store, version)
    return learned.weights if learned else WEIGHTS


@dataclass(frozen=True)
class Contest:
    """Champion and challenger as scoring needs them."""

    champion: Weights = WEIGHTS
    challenger: Weights | None = None
    pinned: bool = False


def read_contest(store: "ObjectStore") -> Contest:
    """Who ranks and who shadows, now."""
    standing = standing_of(read_decisions(store))
    challenger = weights_of(store, standing.challenger) if standing.challenger else None
    return Contest(weights_of(store, standing.champion), challenger, standing.pinned)


def order(
    store: "ObjectStore", action: str, *, version: str, reason: str, by: str, at: datetime
) -> list[Decision]:
    """What an operator ordered, put in the log; returns the log.

    `pin` and `promote` take a version, `promote` without one the challenger; `rollback` goes to the champion before.
    What `by` has ordered already is not ordered again: what it names without a version is another one by then.
    Raises PermanentError `reason_missing`, `unknown_weights`, or `no_such_weights` when there is nothing to go to.
    """
    decisions = read_decisions(store)
    if any((made.by, made.action) == (by, action) for made in decisions):
        return decisions
    standing = standing_of(decisions)
    if not reason.strip():
        raise PermanentError(
            f"No reason is given to {action}.", code="reason_missing", remedy="Say why; it stays in the log."
        )
    chosen = {
        "pin": version or standing.champion,
        "promote": version or standing.challenger,
        "unpin": standing.champion,
        "rollback": standing.former[-1] if standing.former else None,
    }[action]
    if chosen is None:
        raise PermanentError(
            f"There are no weights to {action} to.",
            code="no_such_weights",
            remedy="Name a version of score_challenger, or wait until there is a challenger.",
        )
    read_learned(store, chosen)
    return decide(store, decisions, Decision(action, chosen, reason.strip(), by, at))


def _key(version: str) -> str:
    return f"{MODELS}/{version}.json"


def _decision(data: bytes) -> Decision:
    told = json.loads(data)
    day = date.fromisoformat(told["day"]) if told["day"] else None
    return Decision(**told | {"at": datetime.fromisoformat(told["at"]), "day": day})


def decision_rows(decisions: Sequence[Decision]) -> list[dict[str, Any]]:
    """Rows of `score_weights`, the newest first, each with the champion that ranked after it."""
    rows = []
    standing = Standing()
    for decision in decisions:
        standing = standing.after(decision)
        rows.append(asdict(decision) | {"champion_after": standing.champion})
    return rows[::-1]


def scores_before(store: "ObjectStore") -> dict[str, Callable[[dict[str, Any]], float | None]]:
    """Scorers for `calibration.quality_rows`: the stored score, if its weights were learned before the post was made.

    A partition scored again later may carry weights that have seen the post's own outcome; those count as none.
    """
    learned: dict[str, LearnedScore | None] = {}

    def reader(score: str, version: str) -> Callable[[dict[str, Any]], float | None]:
        def read(row: dict[str, Any]) -> float | None:
            name = row[version]
            if name is None:
                return None
            if name not in learned:
                learned[name] = read_learned(store, name) if name.startswith(LEARNED_PREFIX) else None
            model = learned[name]
            return row[score] if model is None or model.known_until <= row["published_at"] else None

        return read

    return {
        "champion": reader("score", "weights_version"),
        "challenger": reader("challenger_score", "challenger_version"),
    }
