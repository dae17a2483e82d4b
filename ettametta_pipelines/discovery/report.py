"""What an operator reads about a night's discovery in the Dagster UI, as markdown.

Presentation only; the numbers come ready from the collectors and `trends.py`. Called by `assets.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ettametta_pipelines.discovery.search_desk import SearchPlan
from ettametta_pipelines.discovery.window import Window
from ettametta_pipelines.previews import cell, link, markdown_table, number

Row = Mapping[str, Any]

TOP = 10


def window_line(window: Window) -> str:
    return f"{window.start:%Y-%m-%d %H:%M} to {window.end:%Y-%m-%d %H:%M} UTC"


def bullet_list(sentences: Sequence[str], *, empty: str) -> str:
    return "\n".join(f"- {cell(sentence, limit=400)}" for sentence in sentences) or empty


def search_table(plan: SearchPlan) -> str:
    """Every possible search of the niche, in the order it would be made, and what became of it."""
    parked = {choice.search for choice in plan.parked}
    fates = [
        (choice, "parked" if choice.search in parked else "made" if choice in plan.chosen else "left out")
        for choice in (*plan.chosen, *plan.left_out)
    ]
    return markdown_table(
        ["Search", "", "Score", "Why"],
        [
            [cell(choice.search), fate, number(choice.score, digits=1), cell(choice.reason)]
            for choice, fate in fates
        ],
    )


def raw_table(rows: Sequence[Row], limit: int = TOP) -> str:
    """The most viewed candidates as observed."""
    shown = sorted(rows, key=lambda row: -(row["views"] or 0))[:limit]
    return markdown_table(
        ["Video", "Channel", "Views", "Channel's usual", "Found by"],
        [
            [
                link(row["title"], row["url"]),
                cell(row["channel_title"], limit=30),
                number(row["views"]),
                number(row["baseline_views"]),
                cell("; ".join(row["found_by"]), limit=60),
            ]
            for row in shown
        ],
    )


def trend_table(rows: Sequence[Row], limit: int = TOP) -> str:
    """The strongest candidates and why each stands where it does."""
    return markdown_table(
        ["#", "Video", "Platform", "Views", "Views/h", "× usual", "Age h", "Strength"],
        [
            [
                str(row["rank"]),
                link(row["title"], row["url"]),
                row["platform"],
                number(row["views"]),
                number(row["view_velocity_per_hour"]),
                number(row["outlier_ratio"], digits=1),
                number(row["age_h"]),
                number(row["trend_strength"], digits=2),
            ]
            for row in rows[:limit]
        ],
    )


def niche_table(rows: Sequence[Row]) -> str:
    """One line per niche, the liveliest first."""
    return markdown_table(
        ["Niche", "Candidates", "Median views/h", "Top decile", "Outliers", "Leads"],
        [
            [
                cell(row["niche"]),
                number(row["candidates"]),
                number(row["median_velocity_per_hour"]),
                number(row["top_decile_velocity_per_hour"]),
                number(row["outliers"]),
                link(row["top_title"], row["top_url"]),
            ]
            for row in sorted(rows, key=lambda row: -row["top_decile_velocity_per_hour"])
        ],
    )
