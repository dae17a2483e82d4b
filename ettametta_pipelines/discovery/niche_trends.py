"""The morning's roll-up of every niche, and whether the night looks like others: SQL over the lake.

Computes from stored tables only, for one day or a year of them. What the numbers mean is said in `marts/*.sql`.
Called by `assets.py` and the benchmark.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.discovery.trends import OUTLIER_RATIO

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake

MARTS = Path(__file__).parent / "marts"

# Four weeks hold four of every weekday. Fewer than a week of mornings say nothing about what is usual.
USUAL_DAYS = 28
MIN_USUAL_DAYS = 7
# Niches breathe: half of the usual volume is what a spent quota or a broken query looks like, a quiet Sunday is not.
MIN_VOLUME = 0.5
# Views are hidden by hardly anybody, likes and comments by many.
MAX_MISSING: Mapping[str, float] = {"without_views": 0.1, "without_likes": 0.5, "without_comments": 0.5}


@dataclass(frozen=True)
class NightHealth:
    """One night against the weeks before it.

    `usual` is the median number of candidates by niche, for niches known long enough; `missing_share` the share of
    raw candidates without a view count. The sentences name the niches that fail, and are empty when none does.
    """

    usual: Mapping[str, float]
    missing_share: Mapping[str, float]
    too_few: Sequence[str]
    too_unknown: Sequence[str]


def roll_up_niches(lake: "Lake", days: Collection[date]) -> list[dict[str, Any]]:
    """Rows of `niche_trends` for these days, by day and niche; none for a day without candidates.

    Asked for two months at a time: a year in one query holds every channel and velocity of the year in memory at
    once, which is slower as well.
    """
    wanted = sorted(set(days))
    rows: list[dict[str, Any]] = []
    with lake.unchanging():
        for _, together in groupby(wanted, key=lambda day: (day.year, (day.month - 1) // 2)):
            part = set(together)
            bounds = {"first_day": min(part), "last_day": max(part), "outlier_ratio": OUTLIER_RATIO}
            rows += [row for row in lake.rows(_sql("niche_trends"), bounds) if row["day"] in part]
    return rows


def night_health(lake: "Lake", day: date, rows: Sequence[Mapping[str, Any]]) -> NightHealth:
    """How one day's rows of `niche_trends` compare with the four weeks before, and what its raw rows lack."""
    window = {"first_day": day - timedelta(days=USUAL_DAYS), "last_day": day - timedelta(days=1)}
    usual = {
        row["niche"]: row["candidates"]
        for row in lake.rows(_sql("usual_volume"), window)
        if row["days"] >= MIN_USUAL_DAYS
    }
    found = {row["niche"]: row["candidates"] for row in rows if row["day"] == day}
    too_few = [
        f"{niche}: {found[niche]} candidates, usually {count:.0f}"
        for niche, count in usual.items()
        if niche in found and found[niche] < MIN_VOLUME * count
    ]
    raw = lake.rows(_sql("candidate_health"), {"day": day})
    too_unknown = [
        f"{row['niche']}: {row[name]} of {row['candidates']} {name.replace('_', ' ')}"
        for row in raw
        for name, share in MAX_MISSING.items()
        if row[name] > share * row["candidates"]
    ]
    missing = {row["niche"]: row["without_views"] / row["candidates"] for row in raw}
    return NightHealth(usual, missing, too_few, too_unknown)


def _sql(name: str) -> str:
    return (MARTS / f"{name}.sql").read_text()
