"""Whether today's scores look like those of the last weeks, and how much of them rests on what is not known.

A model that changed under us, a vendor that stopped telling likes or a judge that gives everybody the same shows here
first. Called by the asset `scored_candidates` for its checks; reads the niche's own stored partitions.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.ranking import weighted_mean
from ettametta_pipelines.scoring.blend import Weights
from ettametta_pipelines.scoring.contracts import SCORED_CANDIDATES
from ettametta_pipelines.scoring.earlier import CORRUPT
from ettametta_pipelines.storage.contracts import ContractViolation
from ettametta_pipelines.storage.parquet import read_file, table_key

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore

Row = Mapping[str, Any]

WEEKS = 2
SCORES_NEEDED = 8
EARLIER_NEEDED = 50
# Two-sample Kolmogorov-Smirnov: unlike PSI its threshold holds for the dozen scores of a night too.
SHIFT_P = 0.005
SHIFT_SIZE = 0.3
# More than a third of the parts unknown, and the score says more about the middle than about the candidate.
NEUTRAL_LIMIT = 1 / 3
PARALLEL = 8


@dataclass(frozen=True)
class Shift:
    """Today's scores against earlier ones; `said` completes a sentence for the operator. None: too few to tell."""

    passed: bool
    said: str
    today: int
    earlier: int
    distance: float | None = None
    p_value: float | None = None


@dataclass(frozen=True)
class Steadiness:
    """The shift of the scores, the share of unknowns per part, and the parts with too many of them."""

    shift: Shift
    neutral: dict[str, float]
    mostly_unknown: list[str]


def steadiness_of(store: "ObjectStore", rows: Sequence[Row], partition: str, weights: Weights) -> Steadiness:
    """Today's rows of `scored_candidates`, of the partition `date|niche`, against the niche's last two weeks."""
    day, niche = str(partition).split("|")
    scored = [row for row in rows if row["score"] is not None]
    earlier, unusable = earlier_scored(store, date.fromisoformat(day), niche)
    neutral = neutral_shares(scored, tuple(weights.shares))
    too_many = [part for part, share in neutral.items() if share > NEUTRAL_LIMIT]
    shift = score_shift(scored, earlier, weights)
    if unusable:
        shift = replace(
            shift, said=f"{shift.said} Left out, their tables cannot be used: {', '.join(unusable)}."
        )
    return Steadiness(shift, neutral, too_many)


def earlier_scored(store: "ObjectStore", day: date, niche: str) -> tuple[list[Row], list[str]]:
    """Candidates of the niche with a score in the two weeks before `day`, and the days whose table is unusable."""
    days = [(day - timedelta(days=back)).isoformat() for back in range(1, 7 * WEEKS + 1)]
    with ThreadPoolExecutor(PARALLEL) as pool:
        tables = dict(
            zip(days, pool.map(lambda earlier: _scored(store, f"{earlier}|{niche}"), days), strict=True)
        )
    unusable = [earlier for earlier, rows in tables.items() if rows is None]
    return [row for rows in tables.values() for row in rows or ()], unusable


def _scored(store: "ObjectStore", partition: str) -> list[Row] | None:
    """None for a table that is corrupt or from before the contract changed."""
    from ettametta_pipelines.storage.objects import ObjectMissing

    try:
        table = read_file(store, SCORED_CANDIDATES, table_key(SCORED_CANDIDATES.name, partition))
    except ObjectMissing:
        return []
    except PermanentError as error:
        if not isinstance(error, ContractViolation) and error.code != CORRUPT:
            raise
        return None
    # A range of days scored again asks this of every day: the columns that matter, and no detour over pandas.
    parts = [column.name for column in SCORED_CANDIDATES.columns if column.name.endswith("_part")]
    return [row for row in table.select(["score", *parts]).to_pylist() if row["score"] is not None]


def score_shift(today: Sequence[Row], earlier: Sequence[Row], weights: Weights) -> Shift:
    """Whether scores are distributed as before.

    Earlier parts are weighed by today's weights, so that a promotion is no shift; compared is what goes into a score.
    """
    now, before = (
        [weighted_mean(_parts(row, weights), weights.shares) for row in rows] for rows in (today, earlier)
    )
    if len(now) < SCORES_NEEDED or len(before) < EARLIER_NEEDED:
        said = (
            f"Too few scores to compare: {len(now)} today (of {SCORES_NEEDED}), {len(before)} earlier "
            f"(of {EARLIER_NEEDED})."
        )
        return Shift(True, said, len(now), len(before))
    from scipy.stats import ks_2samp

    found = ks_2samp(now, before)
    distance, p_value = float(found.statistic), float(found.pvalue)
    shifted = p_value < SHIFT_P and distance > SHIFT_SIZE
    said = (
        f"Kolmogorov-Smirnov distance {distance:.2f}, p = {p_value:.3f}; a shift is more than {SHIFT_SIZE} with "
        f"p below {SHIFT_P}."
    )
    return Shift(not shifted, said, len(now), len(before), distance, p_value)


def neutral_shares(scored: Sequence[Row], parts: Sequence[str]) -> dict[str, float]:
    """Share of candidates with a score for which each part is unknown and counted as the middle."""
    return {
        part: sum(row[f"{part}_part"] is None for row in scored) / len(scored) if scored else 0.0
        for part in parts
    }


def _parts(row: Row, weights: Weights) -> dict[str, float | None]:
    return {part: row[f"{part}_part"] for part in weights.shares}
