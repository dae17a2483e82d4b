"""A day's quota as an operator reads it: buckets, who spent them, when the parked searches will be done.

Presentation and one forecast; numbers come from `state/quota.py` and discovery's `search_desk.py`. For assets only.
"""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from math import ceil

from ettametta_pipelines.discovery.search_desk import Backlog
from ettametta_pipelines.previews import cell, markdown_table, number
from ettametta_pipelines.state.quota import QuotaUsage

BAR_WIDTH = 20


def forecast(waiting: Backlog, queued: Mapping[tuple[date, str], int]) -> tuple[str, date | None]:
    """When parked and queued searches will be made at the rate today allows: a sentence, and the day if there is one.

    `queued` is what runs that wait in the queue want; a partition that is parked and queued counts once.
    """
    todo = {**queued, **waiting.owed}
    searches = sum(todo.values())
    if not todo:
        return "No search is parked or queued.", None
    what = f"{searches} searches of {len(todo)} {'partition' if len(todo) == 1 else 'partitions'} are parked or queued"
    rest = max(0, searches - waiting.left_today)
    if rest and not waiting.per_day:
        return f"{what}; the niches' news takes the whole quota, so they would never be made.", None
    end = waiting.today + timedelta(days=ceil(rest / waiting.per_day) if rest else 0)
    return (
        f"{what}. {min(searches, waiting.left_today)} can be made today and {waiting.per_day} on every other day, "
        f"so the last are made on {end}.",
        end,
    )


def bucket_table(rows: Sequence[QuotaUsage]) -> str:
    return markdown_table(
        ["Bucket", "Used", "", "Reserved", "Left", "Limit", "Vendor says"],
        [
            [
                cell(f"{row.vendor} {row.bucket}"),
                number(row.used),
                _bar(row),
                number(row.reserved),
                number(row.left),
                number(row.limit),
                f"spent since {row.closed_at:%H:%M} UTC" if row.closed_at else "–",
            ]
            for row in rows
        ],
    )


def spender_table(rows: Sequence[QuotaUsage], spent: Mapping[tuple[str, str], int]) -> str:
    """Who drew on which bucket, the largest first. Calls booked one by one (uploads, metrics) stand as `others`."""
    lines = [(bucket, holder, amount) for (bucket, holder), amount in spent.items()]
    for row in rows:
        named = sum(amount for bucket, _, amount in lines if bucket == row.bucket)
        if row.used + row.reserved > named:
            lines.append((row.bucket, "others", row.used + row.reserved - named))
    lines.sort(key=lambda line: (line[0], -line[2], line[1]))
    return markdown_table(
        ["Bucket", "Drawn by", "Units"], [[cell(b), cell(holder), number(n)] for b, holder, n in lines]
    )


def _bar(row: QuotaUsage) -> str:
    filled = min(BAR_WIDTH, ceil(BAR_WIDTH * row.used / row.limit))
    return "█" * filled + "░" * (BAR_WIDTH - filled)
