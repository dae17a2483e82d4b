"""A day's quota as an operator reads it: buckets, who spent them, when the parked searches will be done.

Presentation and one forecast; numbers come from `state/quota.py` and discovery's `search_desk.py`. For assets only.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from math import ceil

from ettametta_pipelines.discovery.search_desk import Backlog
from ettametta_pipelines.previews import cell, markdown_table, number
from ettametta_pipelines.state.quota import QuotaUsage

BAR_WIDTH = 20


def forecast(waiting: Backlog, queued: Mapping[tuple[date, str], int]) -> tuple[str, date | None]:
    """When backfilled days that are parked or queued will be searched: a sentence, and the last day if there is one.

    `queued` is what runs that wait in the queue want; a partition that is parked and queued counts once. A day is
    searched whole or not at all. News is left out: it has its niches' shares.
    """
    todo = {p: n for p, n in {**queued, **waiting.owed}.items() if p[0] < waiting.news_since}
    if not todo:
        return "No backfilled day is parked or queued.", None
    what = (
        f"{sum(todo.values())} searches of {len(todo)} backfilled {_days(len(todo))} are parked or queued. Beside the "
        f"niches' news and the re-runs there is room for {waiting.left_today} today and for {waiting.per_day} on every "
        "other day"
    )
    today, later, never = _spread(todo, waiting)
    if never:
        return (
            f"{what}: too few for {never} {_days(never)}, which will never be searched unless Google grants more "
            "(ETTAMETTA_YOUTUBE_QUOTA), niches want less (ETTAMETTA_SEARCHES_PER_NICHE) or there are fewer of them.",
            None,
        )
    end = waiting.today + timedelta(days=later)
    return f"{what}, so {today} {_days(today)} can be searched today and the last on {end}.", end


def _spread(todo: Mapping[tuple[date, str], int], waiting: Backlog) -> tuple[int, int, int]:
    """(days searched today, quota days until all are, days for which there is never room), each taken whole."""
    sizes: Counter[int] = Counter()
    left = waiting.left_today
    for _, size in sorted(todo.items()):
        if size <= left:
            left -= size
        else:
            sizes[size] += 1
    today = len(todo) - sizes.total()
    never = sum(n for size, n in sizes.items() if size > waiting.per_day)
    quota_days = 0
    while not never and sizes.total():
        quota_days, left = quota_days + 1, waiting.per_day
        for size in sorted(sizes, reverse=True):
            taken = min(sizes[size], left // size)
            sizes[size] -= taken
            left -= taken * size
    return today, quota_days, never


def _days(count: int) -> str:
    return "day" if count == 1 else "days"


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
