"""What YouTube channels earn, day by day: estimates while they are revised, and what stands once the month is closed.

A reading of a day is a revision; the one before stays with the time until which it held. Only what was read after the
month was closed is booked: rounded once per channel and day, and divided among videos so that they add up to it. What
of a channel's revenue is of no post of ours is a row of its own. Days are YouTube's (Pacific) and cannot be cut anew.
Called by the asset `youtube_revenue`.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from ettametta_pipelines.clock import PACIFIC, business_day_bounds
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.money import exponent_of, round_together
from ettametta_pipelines.publishing.earnings import EarningChannel
from ettametta_pipelines.revenue.ledger import lexicon
from ettametta_pipelines.revenue.margin_contracts import YOUTUBE_REVENUE
from ettametta_pipelines.revenue.raw import MARTS

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore

ESTIMATED, FINALISED = "estimated", "finalised"
# Stands for all of a channel's videos that are not posts of ours.
REST = "(rest)"
# YouTube closes a month around the tenth of the next; two days of slack.
CLOSED_ON = 12
# The first of a month of 31 days is closed 42 days later; a week more for runs that failed.
REREAD_DAYS = 50

Row = dict[str, Any]


class Reports(Protocol):
    """What is asked of a channel; `vendors/youtube_analytics.py` answers. Amounts are millionths."""

    def channel_revenue(self, first: date, last: date) -> dict[date, int]: ...

    def video_revenue(self, day: date, video_ids: Sequence[str]) -> dict[str, int]: ...


@dataclass
class RevenueRead:
    """All rows of the days, and what this reading did. `reopened` has a sentence per finalised day that changed."""

    rows: list[Row] = field(default_factory=list)
    new: int = 0
    revised: int = 0
    reopened: list[str] = field(default_factory=list)


def closes_at(day: date) -> datetime:
    """From when on the figures of a day are those of a closed month."""
    closing = (day.replace(day=1) + timedelta(days=32)).replace(day=CLOSED_ON)
    return business_day_bounds(closing, PACIFIC)[0]


def read_channel(
    channel: EarningChannel,
    reports: Reports,
    days: Sequence[date],
    read: RevenueRead,
    *,
    currency: str,
    livemode: bool,
    now: datetime,
) -> None:
    """Ask a channel about these days (in order) and add what is new or different to `read`."""
    totals = reports.channel_revenue(days[0], days[-1])
    standing = _standing(read.rows, channel.channel_id)
    for day in days:
        if day not in totals:
            continue
        there = [name for name, post in channel.posts.items() if post.published_at < _end(day)]
        told = reports.video_revenue(day, there) if there else {}
        amounts = {name: amount for name, amount in sorted(told.items()) if amount}
        amounts[REST] = totals[day] - sum(amounts.values())
        basis = FINALISED if now >= closes_at(day) else ESTIMATED
        before = standing.get(day, [])
        if before and (now <= before[0]["valid_from"] or _says(before) == (basis, amounts)):
            continue
        if before and before[0]["basis"] == FINALISED:
            read.reopened.append(_reopening(channel, day, before, amounts, currency))
        read.new += not before
        read.revised += bool(before)
        for row in before:
            row["valid_to"] = now
        read.rows += _rows(channel, day, amounts, basis, before, currency, livemode=livemode, now=now)


def read_channels(
    channels: Sequence[EarningChannel],
    open_reports: Callable[[EarningChannel], Reports],
    days: Sequence[date],
    known: Sequence[Row],
    *,
    currency: str,
    livemode: bool,
    now: datetime,
) -> tuple[RevenueRead, list[str]]:
    """What the channels told beside what is known, and a sentence for each that told nothing.

    When every channel that may tell fails, the first failure is raised.
    """
    read = RevenueRead(rows=list(known))
    failures: list[PipelineError] = []
    asked = [channel for channel in channels if channel.may_tell]
    problems = [
        f"{channel.account}'s consent does not cover revenue" for channel in channels if not channel.may_tell
    ]
    for channel in asked:
        try:
            reports = open_reports(channel)
            read_channel(channel, reports, days, read, currency=currency, livemode=livemode, now=now)
        except PipelineError as error:
            failures.append(error)
            problems.append(f"{channel.account}: {error}")
    if failures and len(failures) == len(asked):
        raise failures[0]
    return read, problems


def known_rows(store: "ObjectStore", days: Sequence[date]) -> list[Row]:
    """Every revision of these days so far."""
    from ettametta_pipelines.storage.parquet import PartitionMissing, read_table

    rows: list[Row] = []
    for day in days:
        with suppress(PartitionMissing):
            rows += YOUTUBE_REVENUE.rows(read_table(store, YOUTUBE_REVENUE, day.isoformat()))
    return rows


def store_days(
    store: "ObjectStore", read: RevenueRead, days: Sequence[date]
) -> tuple[dict[str, int], list[str]]:
    """Write the days; (rows per partition, sentences about what is wrong in what is stored)."""
    from ettametta_pipelines.storage.lake import Lake
    from ettametta_pipelines.storage.parquet import write_table

    counts = {}
    for day in days:
        rows = [row for row in read.rows if row["day"] == day]
        write_table(store, YOUTUBE_REVENUE, YOUTUBE_REVENUE.frame(rows), day.isoformat())
        counts[day.isoformat()] = len(rows)
    with Lake.over(store, {YOUTUBE_REVENUE.name: YOUTUBE_REVENUE}) as lake, lexicon(lake):
        sql = (MARTS / "check_estimates_and_finals_are_apart.sql").read_text()
        wrong = lake.rows(sql, {"first_day": days[0], "last_day": days[-1]})
    return counts, sorted(row["said"] for row in wrong)


def newest(rows: Iterable[Mapping[str, Any]]) -> list[Any]:
    """What holds now."""
    return [row for row in rows if row["valid_to"] is None]


def _rows(
    channel: EarningChannel,
    day: date,
    amounts: Mapping[str, int],
    basis: str,
    before: Sequence[Row],
    currency: str,
    *,
    livemode: bool,
    now: datetime,
) -> Iterator[Row]:
    exponent = exponent_of(currency)
    booked = round_together(list(amounts.values()), 10 ** (6 - exponent))
    same_basis = bool(before) and before[0]["basis"] == basis
    for (video, amount), minor in zip(amounts.items(), booked, strict=True):
        post = channel.posts.get(video)
        yield {
            "day": day, "account": channel.account, "channel_id": channel.channel_id, "video_id": video,
            "source_id": post.source_id if post else None, "publication_id": post.publication_id if post else None,
            "basis": basis, "revision": before[0]["revision"] + 1 if same_basis else 1, "amount_micro": amount,
            "booked_minor": minor if basis == FINALISED else 0, "currency": currency, "exponent": exponent,
            "livemode": livemode, "valid_from": now, "valid_to": None,
        }  # fmt: skip


def _standing(rows: Sequence[Row], channel_id: str) -> dict[date, list[Row]]:
    found: dict[date, list[Row]] = {}
    for row in newest(rows):
        if row["channel_id"] == channel_id:
            found.setdefault(row["day"], []).append(row)
    return found


def _says(rows: Sequence[Row]) -> tuple[str, dict[str, int]]:
    return rows[0]["basis"], _amounts(rows)


def _amounts(rows: Sequence[Row]) -> dict[str, int]:
    return {row["video_id"]: row["amount_micro"] for row in rows}


def _end(day: date) -> datetime:
    return business_day_bounds(day, PACIFIC)[1]


def _reopening(
    channel: EarningChannel, day: date, before: Sequence[Row], amounts: Mapping[str, int], currency: str
) -> str:
    old, new = sum(_amounts(before).values()), sum(amounts.values())
    told = _amounts(before)
    names = sorted(name for name in told.keys() | amounts.keys() if told.get(name, 0) != amounts.get(name, 0))
    return (
        f"{day} of {channel.account}'s channel {channel.channel_id} was {currency} {old / 1e6:.6f}, is "
        f"{new / 1e6:.6f}; changed: {', '.join(names[:5])}"
    )
