"""The learned score: shares for the same parts, fitted to what became of our posts, and the test against a champion.

Ridge regression of the lift on the parts with two restraints: no share below zero, so that a better signal never
lowers a score, and shares are pulled to those of the stated formula, so that little evidence changes little. The
result is a `Weights` like the stated one and takes its place in `blend.py`. Nothing after the end of a day is used
for that day, and posts whose week overlaps a split are on neither side of it. Pure functions; decisions are kept by
`champions.py`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.ranking import NEUTRAL, weighted_mean
from ettametta_pipelines.scoring.blend import WEIGHTS, Weights
from ettametta_pipelines.scoring.calibration import cluster_of, draw, seed_of, spearman
from ettametta_pipelines.scoring.outcomes import HORIZONS, KNOWN, LINKED

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

Row = dict[str, Any]

LEARNT_ON = HORIZONS[-1]
PARTS = tuple(WEIGHTS.shares)
METHOD = "monotone-ridge-1"
LEARNED_PREFIX = "learned-"

TRAINING_NEEDS = 100
FOLD_STARTS = (0.4, 0.55, 0.7, 0.85)
FOLD_NEEDS = 30
# Without later posts to try it on, how far to leave the formula would be a guess.
FOLD_POSTS_NEED = 50
# How many posts the formula counts for; the one that ranks later posts best in the folds is taken.
PULLS = (20.0, 60.0, 200.0, 600.0)
# Variance of a percentile, by which posts become a penalty.
PART_VARIANCE = 1 / 12

TEST_NEEDS = 150
TEST_CLUSTERS = 20
MIN_GAIN = 0.05
LEVEL = 0.05
# A percentile bootstrap of few clusters is a little too sure of itself; measured in the tests against LEVEL.
TEST_P = 0.025
TEST_DRAWS = 2000


@dataclass(frozen=True)
class Example:
    """One post for learning: parts of its candidate, its lift, when it was made and when its lift was known."""

    identity: str
    cluster: str
    published_at: datetime
    parts: Mapping[str, float | None]
    lift: float

    @property
    def known_at(self) -> datetime:
        return self.published_at + LEARNT_ON.age


@dataclass(frozen=True)
class LearnedScore:
    """A version of the weights with all that led to it; what the store keeps. Correlations are Spearman's in folds."""

    version: str
    method: str
    shares: Mapping[str, float]
    trained_through: date
    known_until: datetime
    first_post: datetime
    last_post: datetime
    posts: int
    horizon: str
    formula_counts_for: float
    lift_per_part: Mapping[str, float]
    fold_posts: int
    fold_correlation: float
    fold_correlation_of_formula: float

    @property
    def weights(self) -> Weights:
        return Weights(self.version, self.shares)

    def to_json(self) -> bytes:
        return json.dumps(
            asdict(self), sort_keys=True, indent=1, default=lambda moment: moment.isoformat()
        ).encode()

    @classmethod
    def from_json(cls, data: bytes) -> "LearnedScore":
        told = json.loads(data)
        moments = {
            name: datetime.fromisoformat(told[name]) for name in ("known_until", "first_post", "last_post")
        }
        return cls(**told | moments | {"trained_through": date.fromisoformat(told["trained_through"])})


@dataclass(frozen=True)
class NothingLearned:
    """Why a day gives no new weights."""

    reason: str
    missing: int = 0


def examples_of(outcomes: Sequence[Row]) -> list[Example]:
    """Posts with a candidate and a known lift after a week, oldest first."""
    found = [
        Example(
            row["publication_id"],
            cluster_of(row),
            row["published_at"],
            {part: row[f"{part}_part"] for part in PARTS},
            row[f"lift_{LEARNT_ON.name}"],
        )
        for row in outcomes
        if row["link"] == LINKED and row[f"status_{LEARNT_ON.name}"] == KNOWN
    ]
    return sorted(found, key=lambda example: (example.published_at, example.identity))


def learn(examples: Sequence[Example], day: date, known_until: datetime) -> LearnedScore | NothingLearned:
    """Weights from posts whose lift was known by `known_until`, the end of `day`; the same posts give the same."""
    seen = [example for example in examples if example.known_at <= known_until]
    if len(seen) < TRAINING_NEEDS:
        missing = TRAINING_NEEDS - len(seen)
        return NothingLearned(
            f"{len(seen)} outcomes are known; {missing} more are needed to learn from.", missing
        )
    tried = [(_in_folds(seen, pull), pull) for pull in PULLS]
    (fold_correlation, formula_correlation, fold_posts), pull = max(
        tried, key=lambda found: (round(found[0][0], 6), found[1])
    )
    if fold_posts < FOLD_POSTS_NEED:
        missing = FOLD_POSTS_NEED - fold_posts
        return NothingLearned(
            f"{len(seen)} outcomes are known, but only {fold_posts} of them a week after enough others to learn from; "
            f"{missing} more are needed to try a learned score on.",
            missing,
        )
    lifts = fit(seen, pull)
    total = sum(lifts.values())
    if total < 1e-9:
        return NothingLearned("No part of the score goes with higher views, so there is nothing to weigh by.")
    shares = {part: round(lift / total, 6) for part, lift in lifts.items()}
    digest = hashlib.sha256(
        json.dumps([METHOD, shares, [example.identity for example in seen]], sort_keys=True).encode()
    ).hexdigest()
    return LearnedScore(
        version=f"{LEARNED_PREFIX}{day:%Y%m%d}-{digest[:8]}",
        method=METHOD,
        shares=shares,
        trained_through=day,
        known_until=known_until,
        first_post=seen[0].published_at,
        last_post=seen[-1].published_at,
        posts=len(seen),
        horizon=LEARNT_ON.name,
        formula_counts_for=pull,
        lift_per_part={part: round(lift, 6) for part, lift in lifts.items()},
        fold_posts=fold_posts,
        fold_correlation=round(fold_correlation, 6),
        fold_correlation_of_formula=round(formula_correlation, 6),
    )


def fit(examples: Sequence[Example], pull: float) -> dict[str, float]:
    """Lift (natural log) from the lowest to the highest percentile of each part, none below 0.

    The formula's own fit, one slope for all its shares, counts as much as `pull` posts.
    """
    import numpy as np
    from scipy.optimize import nnls

    parts, lifts = _matrix(examples)
    parts, lifts = parts - parts.mean(axis=0), lifts - lifts.mean()
    formula = np.array([WEIGHTS.shares[part] for part in PARTS]) / sum(WEIGHTS.shares.values())
    stated = parts @ formula
    slope = max(0.0, float(stated @ lifts) / max(float(stated @ stated), 1e-12))
    strength = (pull * PART_VARIANCE) ** 0.5
    solution, _ = nnls(
        np.vstack([parts, strength * np.eye(len(PARTS))]),
        np.concatenate([lifts, strength * slope * formula]),
    )
    return dict(zip(PARTS, solution.tolist(), strict=True))


def score(weights: Weights, parts: Mapping[str, float | None]) -> float:
    return weighted_mean(parts, weights.shares)


def _in_folds(examples: Sequence[Example], pull: float) -> tuple[float, float, int]:
    """Spearman of learned and of stated scores over later posts, forward in time, and over how many posts.

    Each fold learns only from posts whose week was over before its own first post.
    """
    import numpy as np

    starts = [int(share * len(examples)) for share in FOLD_STARTS]
    learned: list[tuple[float, int]] = []
    stated: list[tuple[float, int]] = []
    for start, end in zip(starts, [*starts[1:], len(examples)], strict=True):
        later = examples[start:end]
        before = [example for example in examples[:start] if example.known_at <= later[0].published_at]
        if len(before) < FOLD_NEEDS:
            continue
        lifts = fit(before, pull)
        fitted = Weights("fold", lifts if sum(lifts.values()) > 1e-9 else WEIGHTS.shares)
        for found, weights in ((learned, fitted), (stated, WEIGHTS)):
            found.append((_correlation(weights, later), len(later)))
    if not learned:
        return 0.0, 0.0, 0
    sizes = np.array([size for _, size in learned], dtype=float)
    means = [float(np.average([value for value, _ in found], weights=sizes)) for found in (learned, stated)]
    return means[0], means[1], int(sizes.sum())


def _correlation(weights: Weights, examples: Sequence[Example]) -> float:
    import numpy as np

    scores = np.array([score(weights, example.parts) for example in examples])
    lifts = np.array([example.lift for example in examples])
    return float(np.nan_to_num(spearman(scores, lifts, np.ones((1, len(examples))))[0]))


def _matrix(examples: Sequence[Example]) -> "tuple[Array, Array]":
    import numpy as np

    parts = [
        [NEUTRAL if (value := example.parts[part]) is None else value for part in PARTS]
        for example in examples
    ]
    return np.array(parts, dtype=float), np.array([example.lift for example in examples], dtype=float)


def _first_enough(examples: Sequence[Example]) -> list[Example]:
    """The earliest posts that make a test, whenever it is made; none when there are not enough yet."""
    clusters: set[str] = set()
    for count, example in enumerate(examples, start=1):
        clusters.add(example.cluster)
        if count >= TEST_NEEDS and len(clusters) >= TEST_CLUSTERS:
            return list(examples[:count])
    return []


@dataclass(frozen=True)
class Verdict:
    """Outcome of the one test a challenger has; `missing` posts have still to come before it is made."""

    promote: bool
    reason: str
    n: int
    missing: int = 0
    champion: float | None = None
    challenger: float | None = None
    p_value: float | None = None


def unseen(examples: Sequence[Example], known_until: datetime) -> list[Example]:
    """Posts made after a challenger's training had ended: their week overlaps none it learned from."""
    return [example for example in examples if example.published_at >= known_until]


def compare(champion: Weights, challenger: Weights, examples: Sequence[Example]) -> Verdict:
    """Whether the challenger ranks posts it has not seen better: one-sided, paired, by clusters.

    It is promoted when its Spearman is at least 0.05 above the champion's, and not above it in at most 2.5 % of the
    resamples. The test is made once, on the first 150 posts (more while they are of fewer than 20 account-days), so
    that looking often cannot make luck look like skill; then the challenger takes over or retires.
    """
    import numpy as np

    tested = _first_enough(examples)
    if not tested:
        clusters = len({example.cluster for example in examples})
        missing = max(1, TEST_NEEDS - len(examples), TEST_CLUSTERS - clusters)
        reason = f"The test waits for {missing} more outcomes of posts it has not seen."
        return Verdict(False, reason, len(examples), missing)
    lifts = np.array([example.lift for example in tested])
    scores = [
        np.array([score(weights, example.parts) for example in tested]) for weights in (champion, challenger)
    ]
    whole, drawn = (
        np.ones((1, len(tested))),
        draw(
            [example.cluster for example in tested], seed_of(champion.version, challenger.version), TEST_DRAWS
        ),
    )
    was, now = (float(np.nan_to_num(spearman(values, lifts, whole)[0])) for values in scores)
    gains = np.nan_to_num(spearman(scores[1], lifts, drawn)) - np.nan_to_num(
        spearman(scores[0], lifts, drawn)
    )
    p_value = (1 + int((gains <= 0).sum())) / (1 + TEST_DRAWS)
    better = now - was >= MIN_GAIN and p_value <= TEST_P
    reason = (
        f"On {len(tested)} posts neither had seen, its rank correlation is {now:.2f} and the champion's {was:.2f} "
        f"(p = {p_value:.3f}; it takes {MIN_GAIN} more and p at most {TEST_P})."
    )
    return Verdict(better, reason, len(tested), 0, was, now, p_value)
