"""Runs `marts/niche_trends.sql` over the lake: the morning's roll-up of every niche, for one day or a year of them.

Computes from stored `trend_candidates` only. Called by `assets.py` and the benchmark.
"""

from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.discovery.trends import OUTLIER_RATIO

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake

NICHE_TRENDS_SQL = Path(__file__).parent / "marts" / "niche_trends.sql"


def roll_up_niches(lake: "Lake", days: Collection[date]) -> list[dict[str, Any]]:
    """Rows of `niche_trends` for these days, by day and niche; none for a day without candidates."""
    rows = lake.rows(
        NICHE_TRENDS_SQL.read_text(),
        {"first_day": min(days), "last_day": max(days), "outlier_ratio": OUTLIER_RATIO},
    )
    return [row for row in rows if row["day"] in days]
