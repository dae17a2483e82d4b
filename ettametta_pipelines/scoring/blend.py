"""Signals and judgement -> one score with its parts.

Every part is a percentile within its partition, so a judge that gives everybody 0.8 and a niche with a hundred
times the views both count the same. Weights are data with a version; learned ones (`learning.py`) replace this table,
not the code around it. Pure functions over rows of `trend_candidates` and `candidate_assessments`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ettametta_pipelines.ranking import percentiles, percentiles_within, weighted_mean

Row = dict[str, Any]


@dataclass(frozen=True)
class Weights:
    """Share of each part in the score; they need not add up to one."""

    version: str
    shares: Mapping[str, float]


# How fast and how unusually it moves says that an audience exists; the hook says whether the reason can be made
# again; engagement and looks break ties. Stated, not learned: outcomes will move them.
WEIGHTS = Weights(
    "stated-1",
    {"velocity": 0.30, "outlier": 0.25, "engagement": 0.10, "hook": 0.25, "aesthetics": 0.10},
)

# Part -> the trend candidate's column it ranks (within its platform), or the assessment's.
_SIGNALS = {"velocity": "view_velocity_per_hour", "outlier": "outlier_ratio", "engagement": "engagement_rate"}
_JUDGEMENTS = {"hook": "hook_strength", "aesthetics": "aesthetics"}

_CARRIED = (
    "day", "niche", "platform", "video_id", "url", "title", "rank", "views", "view_velocity_per_hour", "outlier_ratio",
    "thumbnail_url",
)  # fmt: skip
_JUDGED = ("hook_strength", "hook_reason", "subjects", "mood", "aesthetics", "safety")


def score_candidates(
    candidates: Sequence[Row],
    assessments: Iterable[Row],
    *,
    weights: Weights = WEIGHTS,
    challenger: Weights | None = None,
    allow_unjudged: bool = False,
) -> list[Row]:
    """Rows of `scored_candidates`, best first, the excluded ones last in trend order.

    A candidate has a score only if it was judged and found safe; `allow_unjudged` also admits those whose safety
    only a local heuristic has looked at. An unknown part stays empty, counts as 0.5 and is named in `neutral_parts`.
    What `challenger` would say stands beside the score and moves no rank.
    """
    judged = {(a["platform"], a["video_id"]): a for a in assessments}
    pairs = [(c, judged.get((c["platform"], c["video_id"]))) for c in candidates]
    platforms = [c["platform"] for c, _ in pairs]
    parts: dict[str, list[float | None]] = {
        part: percentiles_within(platforms, [c[column] for c, _ in pairs])
        for part, column in _SIGNALS.items()
    } | {
        part: percentiles([a[column] if a else None for _, a in pairs])
        for part, column in _JUDGEMENTS.items()
    }
    rows = []
    for place, (candidate, assessment) in enumerate(pairs):
        own = {part: values[place] for part, values in parts.items()}
        excluded = _exclusion(assessment, allow_unjudged)
        rows.append(
            {name: candidate[name] for name in _CARRIED}
            | {name: assessment[name] if assessment else None for name in _JUDGED}
            | {f"{part}_part": value for part, value in own.items()}
            | {
                "neutral_parts": [part for part, value in own.items() if value is None],
                "weights_version": weights.version,
                "score": None if excluded else weighted_mean(own, weights.shares),
                "challenger_score": weighted_mean(own, challenger.shares)
                if challenger and not excluded
                else None,
                "challenger_version": challenger.version if challenger else None,
                "observed_at": candidate.get("observed_at"),
                "excluded": excluded[0] if excluded else None,
                "excluded_reason": excluded[1] if excluded else None,
            }
        )
    return _ranked(rows)


def _exclusion(assessment: Row | None, allow_unjudged: bool) -> tuple[str, str] | None:
    if assessment is None:
        return "not_judged", "It ranked below the candidates that were judged."
    if assessment["status"] != "assessed":
        return "judgement_failed", str(assessment["reason"])
    if assessment["safety"] == "unsafe":
        return "unsafe", str(assessment["safety_reason"] or "Judged unsafe without a reason.")
    if assessment["safety"] != "safe" and not allow_unjudged:
        return "safety_unjudged", "Only a local heuristic looked at it, which cannot tell what is unsafe."
    return None


def _ranked(rows: list[Row]) -> list[Row]:
    def best_first(row: Row) -> tuple[bool, float, int]:
        return row["score"] is None, -(row["score"] or 0.0), row["rank"]

    ordered = sorted(rows, key=best_first)
    for place, row in enumerate(ordered, start=1):
        row["score_rank"] = None if row["score"] is None else place
    return ordered
