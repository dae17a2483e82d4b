"""The margin mart: revenue beside cost by video, niche, format, recipe, filter and platform, over a window of days.

Computed by `marts/content_margin.sql` from stored attribution and costs alone. Costs are US dollars and revenue stays
in the currency it was booked in: nothing is converted, so a margin in another currency is its revenue. Live and sandbox
money are never in one row. Called by the asset `content_margin`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.money import EXPONENTS
from ettametta_pipelines.revenue.ledger import Finding, Wrong, sentence
from ettametta_pipelines.revenue.margin_contracts import CONTENT_MARGIN, MARGIN_CHECKS
from ettametta_pipelines.revenue.posts import Posts
from ettametta_pipelines.revenue.raw import MARTS, relations, slices
from ettametta_pipelines.revenue.reading import chunks

if TYPE_CHECKING:
    import pyarrow as pa

    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.objects import ObjectStore

Row = dict[str, Any]

UNATTRIBUTED = "(unattributed)"
# Of so many videos nothing is said about the next.
ENOUGH_VIDEOS = 5
DIMENSIONS = ("niche", "format", "recipe", "filter", "platform", "video")


@dataclass
class Margins:
    """Rows by day, and what the check found."""

    rows: dict[date, list[Row]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def make_margin(
    store: "ObjectStore", lake: "Lake", days: Sequence[date], posts: Posts, *, window_days: int
) -> Margins:
    """Compute and store `content_margin` for the windows that end on these days (in order)."""
    from ettametta_pipelines.storage.parquet import write_arrow

    made = Margins()
    wrong = Wrong(0, [])
    for chunk in chunks(days):
        given = {
            "first_day": chunk[0] - timedelta(days=window_days - 1),
            "last_day": chunk[-1],
            "enough": ENOUGH_VIDEOS,
        }
        with lake.unchanging(), relations(lake, **_relations(chunk, posts, window_days)):
            rows = CONTENT_MARGIN.checked(lake.arrow(_sql("content_margin"), given))
            with relations(lake, made=rows):
                bounds = {name: given[name] for name in ("first_day", "last_day")}
                said = sorted(row["said"] for row in lake.rows(_sql("check_margin_adds_up"), bounds))
        wrong.add(len(said), said)
        by_day = dict(slices(rows, "day"))
        for day in chunk:
            table = by_day.get(day, rows.slice(0, 0))
            write_arrow(store, CONTENT_MARGIN, table, day.isoformat())
            made.rows[day] = table.to_pylist()
    looked_at = sum(map(len, made.rows.values()))
    made.findings = [Finding(name, sentence(wrong), looked_at) for name in MARGIN_CHECKS]
    return made


def _relations(days: Sequence[date], posts: Posts, window_days: int) -> "dict[str, pa.Table]":
    import pyarrow as pa

    text = pa.string()
    kept = ("publication_id", "source_id", "platform", "format", "recipe")
    return {
        "windows": pa.table(
            {
                "day": pa.array(days, pa.date32()),
                "since": pa.array([day - timedelta(days=window_days - 1) for day in days], pa.date32()),
            }
        ),
        "posts": pa.table(
            {name: pa.array([getattr(post, name) for post in posts.all], text) for name in kept}
            | {
                "filters": pa.array([list(post.filters) for post in posts.all], pa.list_(text)),
                "published_on": pa.array([post.published_at.date() for post in posts.all], pa.date32()),
            }
        ),
        "sources": pa.table(
            {
                "source_id": pa.array(list(posts.sources), text),
                "niche": pa.array([niche for _, niche in posts.sources.values()], text),
            }
        ),
        "currencies": pa.table({"currency": list(EXPONENTS), "exponent": list(EXPONENTS.values())}),
    }


def unattributed_in_words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence per mode and currency about how much of the revenue is of no video."""
    said = []
    for mode, currency in sorted({(row["mode"], row["currency"]) for row in rows}):
        found = [
            row
            for row in rows
            if (row["mode"], row["currency"], row["dimension"]) == (mode, currency, "video")
        ]
        total = sum(row["revenue_micro"] for row in found)
        none = sum(row["revenue_micro"] for row in found if row["value"] == UNATTRIBUTED)
        share = f", {none / total:.0%}" if total > 0 and 0 <= none <= total else ""
        said.append(
            f"Of {currency} {total / 1e6:,.2f} booked ({mode}), {currency} {none / 1e6:,.2f}{share} are of no video "
            "that is known."
        )
    return said


def _sql(name: str) -> str:
    return (MARTS / f"{name}.sql").read_text()
