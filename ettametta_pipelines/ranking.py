"""Putting unlike signals together: percentiles within a group, and weighted means that know what is missing.

Pure arithmetic for discovery and scoring. What the signals are and what they weigh is theirs to say.
"""

from collections.abc import Mapping, Sequence

# What an unknown part counts as: the middle, so that ignorance neither lifts nor sinks a candidate.
NEUTRAL = 0.5


def percentiles(values: Sequence[float | None]) -> list[float | None]:
    """Mid-rank percentile of each value among the known ones, in (0, 1); equal values share one.

    (number below + half of the number equal, itself included) / number known; None stays None. Only order
    matters, so one giant does not push all others together, and the best is never clamped to a ceiling.
    """
    known = sorted(value for value in values if value is not None)
    first: dict[float, int] = {}
    last: dict[float, int] = {}
    for index, value in enumerate(known):
        first.setdefault(value, index)
        last[value] = index + 1
    return [None if v is None else (first[v] + last[v]) / 2 / len(known) for v in values]


def percentiles_within(groups: Sequence[str], values: Sequence[float | None]) -> list[float | None]:
    """`percentiles` of each value in its own group only: a view on one platform is not a view on another."""
    result: list[float | None] = [None] * len(values)
    for group in set(groups):
        places = [i for i, name in enumerate(groups) if name == group]
        for place, part in zip(places, percentiles([values[i] for i in places]), strict=True):
            result[place] = part
    return result


def weighted_mean(parts: Mapping[str, float | None], weights: Mapping[str, float]) -> float:
    """Mean of the parts by the weights' shares; an unknown part counts as the middle, 0.5."""
    known = {name: NEUTRAL if (part := parts[name]) is None else part for name in weights}
    return sum(weights[name] * known[name] for name in weights) / sum(weights.values())
