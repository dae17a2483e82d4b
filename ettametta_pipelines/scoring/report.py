"""What an operator reads about judgements, scores and briefs in the Dagster UI, as markdown.

Presentation only; the numbers come ready from the other files of this room. Called by `assets.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ettametta_pipelines.previews import cell, link, markdown_table, number

Row = Mapping[str, Any]

TOP = 12


def usd(microusd: int) -> float:
    """Dollars for display and plots; the tables keep whole millionths."""
    return microusd / 1_000_000


def assessment_table(rows: Sequence[Row], limit: int = TOP) -> str:
    """Every judgement with its reason, or why there is none."""
    return markdown_table(
        ["#", "Video", "Hook", "Looks", "Mood", "Safety", "Why", "Judged by"],
        [
            [
                str(row["rank"]),
                link(row["title"], row["url"], limit=50),
                number(row.get("hook_strength"), digits=2),
                number(row.get("aesthetics"), digits=2),
                cell(row.get("mood")),
                cell(row.get("safety")),
                cell(row.get("hook_reason") or row.get("reason"), limit=120),
                cell(f"{row['provider']} {row['model']}"),
            ]
            for row in rows[:limit]
        ],
    )


def score_table(rows: Sequence[Row], limit: int = TOP) -> str:
    """The best candidates with every part of their score, as percentiles."""
    return markdown_table(
        ["#", "Video", "Score", "Velocity", "Outlier", "Engagement", "Hook", "Looks", "Unknown"],
        [
            [
                number(row["score_rank"]),
                link(row["title"], row["url"], limit=50),
                number(row["score"], digits=3),
                *(
                    number(row[f"{part}_part"], digits=2)
                    for part in ("velocity", "outlier", "engagement", "hook", "aesthetics")
                ),
                cell(", ".join(row["neutral_parts"])),
            ]
            for row in rows[:limit]
            if row["score"] is not None
        ],
    )


def exclusion_table(rows: Sequence[Row], limit: int = TOP) -> str:
    """Candidates that were judged and still have no score, and why."""
    shown = [row for row in rows if row["excluded"] not in (None, "not_judged")][:limit]
    return markdown_table(
        ["Video", "Excluded", "Why"],
        [
            [link(row["title"], row["url"]), cell(row["excluded"]), cell(row["excluded_reason"], limit=160)]
            for row in shown
        ],
    )


def brief_table(rows: Sequence[Row], limit: int = TOP) -> str:
    """What to make, in one line each."""
    return markdown_table(
        ["Score", "Hook", "Recipe", "B-roll", "Hashtags", "Prompt"],
        [
            [
                number(row["score"], digits=3),
                cell(row["hook_text"]),
                row["recipe"],
                cell(", ".join(row["broll_keywords"]), limit=80),
                cell(" ".join(row["hashtags"]), limit=80),
                cell(row["prompt"], limit=240),
            ]
            for row in rows[:limit]
        ],
    )
