"""What an operator reads about outcomes, the quality of the score and the contest of weights, as markdown."""

from collections.abc import Iterable, Sequence
from typing import Any

from ettametta_pipelines.previews import cell, markdown_table, number

Row = dict[str, Any]

_SHOWN = ("rank_correlation", "top_lift", "brier_skill")


def quality_table(rows: Sequence[Row]) -> str:
    """One line per niche, horizon and scorer: each measure with its interval, or how many outcomes it lacks."""
    found: dict[tuple[str, str, str], dict[str, Row]] = {}
    for row in rows:
        if row["measure"] in _SHOWN:
            found.setdefault((row["niche"], row["horizon"], row["scorer"]), {})[row["measure"]] = row
    return markdown_table(
        ["Niche", "After", "Score", "Posts", "Rank correlation", "Top fifth over random", "Brier skill"],
        [
            [
                cell(niche),
                horizon,
                scorer,
                number(measured["rank_correlation"]["n"]),
                *(_figure(measured[name], factor=name == "top_lift") for name in _SHOWN),
            ]
            for (niche, horizon, scorer), measured in found.items()
        ],
    )


def _figure(row: Row, *, factor: bool) -> str:
    if row["missing"]:
        return f"{row['missing']} outcomes missing"
    if row["value"] is None:
        return "all equal"
    sign = "×" if factor else ""
    return f"{sign}{number(row['value'], digits=2)} ({number(row['low'], digits=2)} to {number(row['high'], digits=2)})"


def reliability_table(rows: Iterable[Row]) -> str:
    """Bins of one scorer and horizon over all niches."""
    return markdown_table(
        ["Scores", "Posts", "Above the usual", "95 % interval"],
        [
            [
                f"{number(row['score_low'], digits=2)} to {number(row['score_high'], digits=2)}",
                number(row["n"]),
                f"{row['value']:.0%}",
                "–" if row["low"] is None else f"{row['low']:.0%} to {row['high']:.0%}",
            ]
            for row in rows
        ],
    )


def outcome_table(rows: Sequence[Row], limit: int = 12) -> str:
    """The newest posts that have a candidate and a day behind them: what was thought, and what became of them."""
    linked = [r for r in reversed(rows) if r["link"] == "linked" and r["status_24h"] != "too_young"][:limit]
    return markdown_table(
        ["Post", "Niche", "Score", "Views 24 h", "over usual", "Views 7 d", "over usual"],
        [
            [
                cell(f"{row['platform']} {row['source_id']}"),
                cell(row["niche"]),
                number(row["score"], digits=3),
                *(text for horizon in ("24h", "7d") for text in _views(row, horizon)),
            ]
            for row in linked
        ],
    )


def _views(row: Row, horizon: str) -> tuple[str, str]:
    import math

    views, lift = row[f"views_{horizon}"], row[f"lift_{horizon}"]
    over = cell(row[f"status_{horizon}"]) if lift is None else f"×{number(math.exp(lift), digits=2)}"
    return number(views), over


def contest_table(rows: Sequence[Row], parts: Sequence[str]) -> str:
    return markdown_table(
        [
            "Role",
            "Version",
            *(part.capitalize() for part in parts),
            "Trained on",
            "Tested on",
            "Spearman",
            "Decision",
        ],
        [
            [
                row["role"],
                cell(row["version"]),
                *(number(row[f"{part}_share"], digits=2) for part in parts),
                number(row["training_posts"]),
                number(row["test_posts"]),
                number(row["rank_correlation"], digits=2),
                cell(row["decision"]),
            ]
            for row in rows
        ],
    )


def decision_table(rows: Sequence[Row], limit: int = 12) -> str:
    return markdown_table(
        ["#", "When", "What", "Weights", "Ranks then", "Why", "By"],
        [
            [
                str(row["number"]),
                f"{row['at']:%Y-%m-%d %H:%M}",
                row["action"],
                cell(row["version"]),
                cell(row["champion_after"]),
                cell(row["reason"], limit=200),
                cell(row["by"]),
            ]
            for row in rows[:limit]
        ],
    )
