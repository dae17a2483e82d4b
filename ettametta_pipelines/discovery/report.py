"""What an operator reads about a night's discovery in the Dagster UI, as markdown.

Presentation only; the numbers come ready from the collectors and `trends.py`. Called by `assets.py`.
"""

from collections import Counter
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
    """The strongest candidates with what their rank is made of, and why in words. No counter of the platform's."""
    return markdown_table(
        ["#", "Video", "Channel", "Views/h", "Gaining", "× usual", "Age h", "Strength", "Why"],
        [
            [
                str(row["rank"]),
                link(row["title"] or "(no title)", row["url"]),
                cell(row["channel_title"], limit=30),
                number(row["view_velocity_per_hour"]),
                number(row["view_acceleration_per_hour2"], digits=1),
                number(row["outlier_ratio"], digits=1),
                number(row["age_h"]),
                number(row["trend_strength"], digits=2),
                cell(row["why"], limit=320),
            ]
            for row in rows[:limit]
        ],
    )


def snapshot_table(rows: Sequence[Row]) -> str:
    """How many of an hour's snapshots stand for which age."""
    slots = sorted({row["slot_h"] for row in rows})
    statuses = ("seen", "views_unknown", "gone")
    counted = Counter((row["slot_h"], row["status"]) for row in rows)
    return markdown_table(
        ["Age h", "Seen", "Views unknown", "Gone"],
        [[str(slot), *(number(counted[slot, status]) for status in statuses)] for slot in slots],
    )


def quarantine_table(rows: Sequence[Row], limit: int = TOP) -> str:
    """Candidates that stand aside, and why."""
    return markdown_table(
        ["Video", "Platform", "Reason", "In words"],
        [
            [
                link(row["title"] or "(no title)", row["url"]),
                cell(row["platform"]),
                cell(row["reason_code"]),
                cell(row["reason"], limit=160),
            ]
            for row in rows[:limit]
        ],
    )


def retention_table(lines: Sequence[Row]) -> str:
    """What is held and what was deleted, by table."""
    tables = sorted({line["table_name"] for line in lines})
    return markdown_table(
        ["Table", "Partitions", "Rows with statistics", "Rows deleted so far", "Next deletion"],
        [
            [
                cell(table),
                number(len(mine := [line for line in lines if line["table_name"] == table])),
                number(sum(line["rows_with_statistics"] for line in mine)),
                number(sum(line["deleted_rows"] for line in mine)),
                cell(_earliest(mine)),
            ]
            for table in tables
        ],
    )


def _earliest(lines: Sequence[Row]) -> str | None:
    instants = [line["delete_after"] for line in lines if line["delete_after"] is not None]
    return f"{min(instants):%Y-%m-%d %H:%M} UTC" if instants else None


def niche_table(rows: Sequence[Row], usual: Mapping[str, float], missing_share: Mapping[str, float]) -> str:
    """One line per niche, the liveliest first; a day's rows beside what is usual and what is unknown."""
    return markdown_table(
        [
            "Niche", "Candidates", "Usually", "No views known", "Median views/h", "Top decile", "Outliers", "Leads",
            "Views/h",
        ],
        [
            [
                cell(row["niche"]),
                number(row["candidates"]),
                number(usual.get(row["niche"])),
                _percent(missing_share.get(row["niche"])),
                number(row["median_velocity_per_hour"]),
                number(row["top_decile_velocity_per_hour"]),
                number(row["outliers"]),
                link(row["top_title"], row["top_url"]),
                number(row["top_velocity_per_hour"]),
            ]
            for row in sorted(rows, key=lambda row: -row["top_decile_velocity_per_hour"])
        ],
    )  # fmt: skip


def _percent(share: float | None) -> str:
    return number(None) if share is None else f"{share:.0%}"
