"""How good a score is: rank correlation, lift of the top over a random pick, calibration; each with an interval.

Pure arithmetic over arrays. Intervals are percentiles of a seeded bootstrap that draws whole clusters (an account's
posts of one day), since posts that share a day share its luck. A resample is a row of weights, so all of them are
computed at once. Too few outcomes give no number but how many are missing. Called by `quality_assets.py`, and by
`learning.py` for the test.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.scoring.outcomes import HORIZONS, KNOWN, LINKED

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.float64]

Row = dict[str, Any]

ALL = "all"
DRAWS = 1000
INTERVAL = (2.5, 97.5)
TOP_SHARE = 0.2
BINS = 5
# Resamples of a handful of clusters hardly differ; an interval from them would look sure of itself.
FEWEST_VALUES = 20
# Below these a figure would be mostly luck: a Spearman of 20 pairs has a standard error of 0.23.
NEEDS = {"rank_correlation": 20, "top_lift": 25, "reliability": 25, "isotonic": 25, "brier_skill": 60}


@dataclass(frozen=True)
class Sample:
    """Posts by time: `score` as it was before the post, `lift` as it turned out, `cluster` what shares luck."""

    score: "Array"
    lift: "Array"
    cluster: Sequence[str]

    @property
    def n(self) -> int:
        return len(self.cluster)


@dataclass(frozen=True)
class Measure:
    """One figure, or how many outcomes it lacks. Bins only where there are any."""

    name: str
    n: int
    value: float | None = None
    low: float | None = None
    high: float | None = None
    missing: int = 0
    bin: int = 0
    score_low: float | None = None
    score_high: float | None = None


def quality_rows(outcomes: Sequence[Row], scorers: Mapping[str, Callable[[Row], float | None]]) -> list[Row]:
    """Rows of `score_quality` but for the day: every measure per scorer, horizon and niche, and over all.

    `scorers` give the score a post's candidate had before the post, or None where it had none.
    """
    linked = [row for row in outcomes if row["link"] == LINKED]
    niches = [ALL, *sorted({row["niche"] for row in linked})]
    rows: list[Row] = []
    for scorer, score_of in scorers.items():
        for horizon in (h.name for h in HORIZONS):
            known = [row for row in linked if row[f"status_{horizon}"] == KNOWN]
            for niche in niches:
                mine = [row for row in known if niche in (ALL, row["niche"])]
                sample = sample_of(mine, score_of, f"lift_{horizon}")
                identity = {"niche": niche, "horizon": horizon, "scorer": scorer}
                for measure in measures(sample, seed=seed_of(niche, horizon, scorer)):
                    rows.append(
                        identity
                        | {
                            "measure": measure.name, "bin": measure.bin, "score_low": measure.score_low,
                            "score_high": measure.score_high, "value": measure.value, "low": measure.low,
                            "high": measure.high, "n": measure.n, "missing": measure.missing,
                        }
                    )  # fmt: skip
    return rows


def sample_of(rows: Sequence[Row], score_of: Callable[[Row], float | None], outcome: str) -> Sample:
    """Posts with a score and a known outcome, oldest first."""
    import numpy as np

    scored = sorted(
        (
            (row["published_at"], row["publication_id"], cluster_of(row), score, row[outcome])
            for row in rows
            if (score := score_of(row)) is not None and row[outcome] is not None
        ),
    )
    return Sample(
        np.array([s for *_, s, _ in scored], dtype=float),
        np.array([lift for *_, lift in scored], dtype=float),
        [cluster for _, _, cluster, *_ in scored],
    )


def cluster_of(row: Row) -> str:
    """An account's posts of one day, on all platforms: the same video on two of them is no second witness."""
    return f"{row['account']} {row['published_at'].date()}"


def seed_of(*parts: str) -> int:
    return int.from_bytes(hashlib.sha256("\x1f".join(parts).encode()).digest()[:8])


def measures(sample: Sample, *, seed: int) -> list[Measure]:
    """Every measure of one sample; those it is too small for say how many are missing."""
    found: list[Measure] = []
    computed: dict[str, Callable[[Array], list[Measure]]] = {
        "rank_correlation": lambda drawn: [_correlation(sample, drawn)],
        "top_lift": lambda drawn: [_top_lift(sample, drawn)],
        "brier_skill": lambda drawn: [_brier_skill(sample, drawn)],
        "reliability": lambda drawn: _reliability(sample, drawn),
        "isotonic": lambda drawn: _isotonic_bins(sample, drawn),
    }
    drawn = draw(sample.cluster, seed) if sample.n else None
    for name, compute in computed.items():
        if drawn is None or sample.n < NEEDS[name]:
            found.append(Measure(name, sample.n, missing=NEEDS[name] - sample.n))
        else:
            found += compute(drawn)
    return found


def draw(clusters: Sequence[str], seed: int, draws: int = DRAWS) -> "Array":
    """Resamples as weights, draws x posts: how often each post is in it. Whole clusters are drawn."""
    import numpy as np

    names = {name: place for place, name in enumerate(dict.fromkeys(clusters))}
    counts = np.random.default_rng(seed).multinomial(
        len(names), np.full(len(names), 1 / max(1, len(names))), size=draws
    )
    weights: Array = counts[:, [names[name] for name in clusters]].astype(float)
    return weights


def spearman(x: "Array", y: "Array", weights: "Array") -> "Array":
    """Rank correlation under each row of weights (draws x posts); NaN where one side does not vary.

    Mid-ranks within the weighted sample, so whole weights give exactly the Spearman of the resample.
    """
    import numpy as np

    ranks = [_weighted_ranks(values, weights) for values in (x, y)]
    total = weights.sum(axis=1, keepdims=True)
    centred = [rank - (rank * weights).sum(axis=1, keepdims=True) / total for rank in ranks]
    covariance = (centred[0] * centred[1] * weights).sum(axis=1)
    spread = [(part**2 * weights).sum(axis=1) for part in centred]
    scale = np.sqrt(spread[0] * spread[1])
    result: Array = np.full(len(weights), np.nan)
    np.divide(covariance, scale, out=result, where=scale > 1e-12)
    return result


def _weighted_ranks(values: "Array", weights: "Array") -> "Array":
    import numpy as np

    _, group = np.unique(values, return_inverse=True)
    order = np.argsort(group, kind="stable")
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    mass = np.add.reduceat(weights[:, order], starts, axis=1)
    middle = np.cumsum(mass, axis=1) - mass / 2
    ranks: Array = middle[:, group]
    return ranks


def _correlation(sample: Sample, drawn: "Array") -> Measure:
    import numpy as np

    value = spearman(sample.score, sample.lift, np.ones((1, sample.n)))[0]
    if np.isnan(value):
        return Measure("rank_correlation", sample.n)
    return _with_interval("rank_correlation", sample.n, value, spearman(sample.score, sample.lift, drawn))


def _top_lift(sample: Sample, drawn: "Array") -> Measure:
    """Typical views of the top fifth by score, over those of a random pick; 1.5 is half as many again."""
    import numpy as np

    threshold = np.sort(sample.score)[-max(1, round(TOP_SHARE * sample.n))]
    top = drawn * (sample.score >= threshold)
    best = sample.lift[sample.score >= threshold].mean()
    value = np.exp(best - sample.lift.mean())
    return _with_interval(
        "top_lift", sample.n, value, np.exp(_means(sample.lift, top) - _means(sample.lift, drawn))
    )


def _brier_skill(sample: Sample, drawn: "Array") -> Measure:
    """Whether "a score of s beats the usual with chance p", learned on the earlier half, holds on the later one.

    1 - Brier(chance from isotonic regression) / Brier(the earlier half's share for everybody); below 0 it misleads.
    """
    import numpy as np

    half = sample.n // 2
    beat = (sample.lift > 0).astype(float)
    predict = isotonic(sample.score[:half], beat[:half])
    errors = (predict(sample.score[half:]) - beat[half:]) ** 2
    plain = (beat[:half].mean() - beat[half:]) ** 2
    if not plain.any():
        return Measure("brier_skill", sample.n)
    later = drawn[:, half:]
    left, at_all = _means(errors, later), _means(plain, later)
    taken: Array = np.full(len(later), np.nan)
    np.divide(left, at_all, out=taken, where=at_all > 0)
    return _with_interval("brier_skill", sample.n, 1 - errors.mean() / plain.mean(), 1 - taken)


def _reliability(sample: Sample, drawn: "Array") -> list[Measure]:
    beat = (sample.lift > 0).astype(float)
    return _by_bin("reliability", sample, lambda member: (beat[member].mean(), _means(beat, drawn * member)))


def _isotonic_bins(sample: Sample, drawn: "Array") -> list[Measure]:
    """The isotonic regression at each bin's mean score; no interval, the reliability beside it has one."""
    curve = isotonic(sample.score, (sample.lift > 0).astype(float))
    return _by_bin("isotonic", sample, lambda member: (curve(sample.score[member]).mean(), None))


def _by_bin(
    name: str, sample: Sample, figure: Callable[["npt.NDArray[np.bool_]"], tuple[float, "Array | None"]]
) -> list[Measure]:
    """Bins of equally many posts by score; equal scores stay together, so that there may be fewer."""
    import numpy as np

    edges = np.unique(np.quantile(sample.score, [part / BINS for part in range(1, BINS)]))
    place = np.searchsorted(edges, sample.score, side="left")
    found = []
    for number, used in enumerate(np.unique(place), start=1):
        member = place == used
        value, resampled = figure(member)
        measure = (
            Measure(name, int(member.sum()), float(value))
            if resampled is None
            else _with_interval(name, int(member.sum()), value, resampled)
        )
        found.append(
            Measure(
                name, measure.n, measure.value, measure.low, measure.high, bin=number,
                score_low=float(sample.score[member].min()), score_high=float(sample.score[member].max()),
            )
        )  # fmt: skip
    return found


def isotonic(x: "Array", y: "Array") -> Callable[["Array"], "Array"]:
    """The rising step function nearest to the points (scipy's pool-adjacent-violators), flat beyond their ends."""
    import numpy as np
    from scipy.optimize import isotonic_regression

    at, group = np.unique(x, return_inverse=True)
    count = np.bincount(group)
    rising = isotonic_regression(np.bincount(group, weights=y) / count, weights=count).x
    return lambda asked: np.interp(asked, at, rising)


def _means(values: "Array", weights: "Array") -> "Array":
    """Mean under each row of weights; NaN where a resample holds none of the posts."""
    import numpy as np

    total = weights.sum(axis=1)
    result: Array = np.full(len(weights), np.nan)
    np.divide((values * weights).sum(axis=1), total, out=result, where=total > 0)
    return result


def _with_interval(name: str, n: int, value: Any, resampled: "Array") -> Measure:
    import numpy as np

    if len(np.unique(resampled[~np.isnan(resampled)])) < FEWEST_VALUES:
        return Measure(name, n, float(value))
    low, high = np.nanpercentile(resampled, INTERVAL)
    return Measure(name, n, float(value), float(low), float(high))
