"""What an operator reads about judgements, scores and briefs in the Dagster UI, as markdown.

Presentation only; the numbers come ready from the other files of this room. Called by `assets.py`.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ettametta_pipelines.previews import cell, link, markdown_table, number

Row = Mapping[str, Any]

TOP = 12


def usd(microusd: int) -> float:
    """Dollars for display and plots; the tables keep whole millionths."""
    return microusd / 1_000_000


def links_left(rows: Sequence[Row]) -> str:
    """Which models were asked in vain, why, and how often."""
    counted = Counter(link for row in rows for link in row.get("links_left") or [])
    return ", ".join(f"{link} ({count})" for link, count in counted.most_common()) or "none"


def assessment_table(rows: Sequence[Row], limit: int = TOP) -> str:
    """Every judgement with its reason, or why there is none."""
    return markdown_table(
        ["#", "Video", "Hook", "Looks", "Mood", "Safety", "Why", "To make", "Judged by", "USD"],
        [
            [
                str(row["rank"]),
                link(row["title"], row["url"], limit=50),
                number(row.get("hook_strength"), digits=2),
                number(row.get("aesthetics"), digits=2),
                cell(row.get("mood")),
                cell(row.get("safety")),
                cell(row.get("hook_reason") or row.get("reason"), limit=120),
                cell(row.get("edit_direction"), limit=120),
                cell(_judged_by(row)),
                number(usd(row["cost_microusd"]), digits=5),
            ]
            for row in rows[:limit]
        ],
    )


def _judged_by(row: Row) -> str:
    if row["status"] != "assessed":
        return f"nobody ({', '.join(row.get('links_left') or [])})"
    left = f" (after {', '.join(row['links_left'])})" if row.get("links_left") else ""
    return f"{row['provider']} {row['model']}{left}"


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
        ["Score", "Hook", "Title", "Recipe", "B-roll", "Hashtags", "Prompt", "Written by"],
        [
            [
                number(row["score"], digits=3),
                cell(row["hook_text"]),
                cell((row.get("title_candidates") or [None])[0]),
                row["recipe"],
                cell(", ".join(row["broll_keywords"]), limit=80),
                cell(" ".join(row["hashtags"]), limit=80),
                cell(row["prompt"], limit=240),
                cell(f"{row.get('written_by') or 'model'} {row['model']}"),
            ]
            for row in rows[:limit]
        ],
    )
