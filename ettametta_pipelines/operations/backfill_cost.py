"""What a backfill would cost, before it is launched: from what the same partitions cost when they were made last.

Pure: takes what was measured and the niches, returns rows and words. Figures that were never measured are unknown, not
zero. Where they come from is `automation/backfill_estimate.py`, the only caller.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import mean

from ettametta_pipelines.previews import cell, markdown_table, number

# Starting a run takes the daemon and a worker so long on two cores; measured in docs/backfills.md.
RUN_START_S = 4.0
# `dagster.yaml` lets so many runs of backfills go on at once.
SIDE_BY_SIDE = 3


@dataclass(frozen=True)
class Sample:
    """What one partition took when it was made: None where its metadata does not say."""

    seconds: float | None = None
    size_bytes: float | None = None
    microusd: float | None = None
    units: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Cost:
    """What one asset of a backfill would take; None is unknown."""

    asset: str
    partitions: int
    runs: int
    seconds: float | None
    size_bytes: float | None
    microusd: float | None
    units: Mapping[str, int]
    measured: int


def expected_cost(
    asset: str,
    partitions: int,
    runs: int,
    samples: Sequence[Sample],
    at_least: Mapping[str, int] | None = None,
) -> Cost:
    """`at_least` are quota units known without samples.

    A mean, not a median: what is asked is the sum.
    """
    if partitions == 0:
        return Cost(asset, 0, 0, 0.0, 0.0, 0.0, {}, len(samples))
    seconds = _mean(one.seconds for one in samples)
    buckets = sorted({bucket for one in samples for bucket in one.units})
    units = {
        bucket: ceil(partitions * mean(one.units.get(bucket, 0.0) for one in samples)) for bucket in buckets
    }
    return Cost(
        asset, partitions, runs,
        None if seconds is None else partitions * seconds,
        _times(partitions, _mean(one.size_bytes for one in samples)),
        _times(partitions, _mean(one.microusd for one in samples)),
        units | dict(at_least or {}),
        len(samples),
    )  # fmt: skip


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return mean(known) if known else None


def _times(partitions: int, each: float | None) -> float | None:
    return None if each is None else partitions * each


def wall_seconds(costs: Sequence[Cost]) -> float | None:
    """How long it would take from the first run to the last; None while a part of it is unknown."""
    if any(one.seconds is None for one in costs):
        return None
    work = sum((one.seconds or 0.0) + RUN_START_S * one.runs for one in costs)
    return work / min(SIDE_BY_SIDE, max((one.runs for one in costs), default=1) or 1)


def days_of_quota(costs: Sequence[Cost], left_a_day: Mapping[str, int]) -> tuple[int, str]:
    """Days the scarcest quota takes, and its name; (0, "") when none is asked for."""
    wanted: dict[str, int] = {}
    for one in costs:
        for bucket, amount in one.units.items():
            wanted[bucket] = wanted.get(bucket, 0) + amount
    days = {
        bucket: ceil(amount / left_a_day[bucket])
        for bucket, amount in wanted.items()
        if amount and left_a_day.get(bucket)
    }
    if not days:
        return 0, ""
    scarcest = max(sorted(days), key=lambda bucket: days[bucket])
    return days[scarcest], scarcest


def cost_table(costs: Sequence[Cost]) -> str:
    """Markdown: one line per asset."""
    return markdown_table(
        ["asset", "partitions", "runs", "work", "MB stored", "USD paid", "quota units", "measured on"],
        (
            [
                cell(one.asset),
                number(one.partitions),
                number(one.runs),
                duration(one.seconds),
                number(None if one.size_bytes is None else one.size_bytes / 1e6, digits=2),
                number(None if one.microusd is None else one.microusd / 1e6, digits=2),
                cell(", ".join(f"{amount:,} {bucket}" for bucket, amount in one.units.items() if amount) or "none"),
                f"{one.measured} partitions" if one.measured else "nothing yet",
            ]
            for one in costs
        ),
    )  # fmt: skip


def duration(seconds: float | None) -> str:
    """`3 h 20 min`, `4 min`, `12 s`; `unknown` for None."""
    if seconds is None:
        return "unknown"
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
