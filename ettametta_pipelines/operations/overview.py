"""The morning page: what the night brought, what failed, what waits, what is planned, left, spent and earned.

Everything is read from tables, the state and the findings through the functions that own it; nothing is counted anew
here, and what is not known yet is said so. Called by `overview_assets.py`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.billing.spend_caps import cap_of
from ettametta_pipelines.clock import business_day_of, pacific_quota_day
from ettametta_pipelines.money import Money
from ettametta_pipelines.operations import outbox, quota_report
from ettametta_pipelines.operations.alert_words import ago, cleaner, count, when
from ettametta_pipelines.operations.findings import Finding, accounts_of, ended_consents, posts_in_doubt
from ettametta_pipelines.previews import cell, link, markdown_table, number
from ettametta_pipelines.publishing.backlog import WAITING_FOR_APPROVAL
from ettametta_pipelines.publishing.queue_report import queue_table, waiting_table
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import budget, quota
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake

TOP = 3
CAUSES = 15
# What somebody has to act on, and how much of it the front shows.
URGENT = ("failures", "waiting")
FRONT_ROWS, HEADING_LINES = 3, 2
RENDITIONS = ("rendition_9x16", "rendition_16x9", "rendition_1x1")

FINDS_SQL = """
select day, niche, rank, title, url, channel_title, view_velocity_per_hour, outlier_ratio,
       count(*) over (partition by niche) as candidates
from trend_candidates
where day = (select max(day) from trend_candidates where day between $yesterday and $today)
qualify rank <= $top order by niche, rank
"""
REVENUE_SQL = """
select source, currency, livemode, sum(net_minor) filter (day = $yesterday) as yesterday_minor,
       sum(net_minor) as month_minor, count(distinct day) as days
from daily_revenue where day between $month and $yesterday group by all order by source, currency
"""
STORAGE_SQL = " union all ".join(
    f"select '{what}' as what, count(*) as files, sum(size_bytes) as bytes from {table}"  # noqa: S608
    for what, table in (
        ("source videos", "source_media where verdict = 'accepted'"),
        *((f"renditions {name.removeprefix('rendition_')}", name) for name in RENDITIONS),
    )
)


@dataclass(frozen=True)
class Section:
    """One part of the page: `says` in one sentence, `count` for the plot, and its table as Markdown."""

    name: str
    title: str
    says: str
    count: int | None
    table: str = ""


def finds(lake: "Lake", today: date) -> Section:
    """The strongest three of every niche, of yesterday, which the night looks at, or of today where that was done."""
    yesterday = today - timedelta(days=1)
    rows = lake.rows(FINDS_SQL, {"yesterday": yesterday, "today": today, "top": TOP})
    if not rows:
        return Section("finds", "Last night's finds", f"Nothing was discovered for {yesterday} yet.", 0)
    by_niche = {row["niche"]: row["candidates"] for row in rows}
    table = markdown_table(
        ["Niche", "#", "Video", "Channel", "Views/h", "× usual"],
        [
            [
                cell(row["niche"]), str(row["rank"]), link(row["title"] or "(no title)", row["url"]),
                cell(row["channel_title"], limit=30), number(row["view_velocity_per_hour"]),
                number(row["outlier_ratio"], digits=1),
            ]
            for row in rows
        ],
    )  # fmt: skip
    found = sum(by_niche.values())
    says = f"{count(found, 'candidate')} in {count(len(by_niche), 'niche')} for {rows[0]['day']}."
    return Section("finds", "Last night's finds", says, found, table)


def failures(findings: Iterable[Finding], settings: Settings, now: datetime) -> Section:
    """What failed in the last day and is not repaired, by cause, the gravest and most frequent first."""
    clean = cleaner(settings)
    wrong = sorted(
        (finding for finding in findings if finding.open),
        key=lambda finding: (-finding.severity, -len(finding.open), finding.fingerprint),
    )
    if not wrong:
        return Section(
            "failures", "Failures", "Nothing has failed in the last day and is still unrepaired.", 0
        )
    table = markdown_table(
        ["How often", "What", "For", "Since", "What to do", ""],
        [
            [
                cell(count(len(finding.open), finding.noun)),
                cell(clean(finding.headline, 200), limit=200),
                cell(", ".join(accounts_of(finding.open)) or None, limit=60),
                f"{ago(now - finding.open[0].at)} ago",
                cell(clean(finding.remedy, 200), limit=200),
                link("open", finding.link),
            ]
            for finding in wrong[:CAUSES]
        ],
    )
    if len(wrong) > CAUSES:
        table += f"\n\nAnd {len(wrong) - CAUSES} more causes."
    struck = sum(len(finding.open) for finding in wrong)
    says = f"{count(len(wrong), 'cause')}, {count(struck, 'time')} in all; first: {clean(wrong[0].headline, 120)}"
    return Section("failures", "Failures", says, len(wrong), table)


def waiting(
    db: StateDatabase, settings: Settings, queue: Sequence[Mapping[str, Any]], now: datetime
) -> Section:
    """What only a person can move on: posts in doubt, channels to connect again, approvals."""
    approvals = [row for row in queue if row["why"] == WAITING_FOR_APPROVAL]
    asked = [*posts_in_doubt(db, settings), *ended_consents(db, settings)]
    parts = []
    if asked:
        parts.append(
            markdown_table(
                ["What", "For", "Since", "What to do", ""],
                [
                    [
                        cell(one.what if finding.noun == "post" else finding.headline, limit=120),
                        cell(" on ".join(filter(None, (one.account, one.platform)))),
                        f"{ago(now - one.at)} ago", cell(finding.remedy, limit=200), link("open", one.link),
                    ]
                    for finding in asked
                    for one in finding.open[:CAUSES]
                ],
            )
        )  # fmt: skip
    if approvals:
        parts.append("**To be approved**\n\n" + waiting_table(approvals[:CAUSES]))
    posts = sum(len(finding.open) for finding in asked if finding.kind == "needs_review")
    channels = len(asked) - len([finding for finding in asked if finding.kind == "needs_review"])
    total = len(approvals) + posts + channels
    says = (
        f"{count(len(approvals), 'approval')}, {count(posts, 'post')} in doubt, "
        f"{count(channels, 'channel')} to connect again."
        if total
        else "Nothing waits for a person."
    )
    return Section("waiting", "Waits for a person", says, total, "\n\n".join(parts))


def todays_posts(queue: Sequence[Mapping[str, Any]], settings: Settings, now: datetime) -> Section:
    """What is planned for the rest of the operator's day."""
    today = business_day_of(now, settings.timezone)
    planned = [
        row for row in queue
        if row["planned_at"] is not None and business_day_of(row["planned_at"], settings.timezone) == today
    ]  # fmt: skip
    later = sum(row["planned_at"] is not None for row in queue) - len(planned)
    if not planned:
        says = f"Nothing is planned for the rest of today; {later} later." if later else "Nothing is planned."
        return Section("queue", "Posts of today", says, 0)
    first = when(planned[0]["planned_at"], settings.timezone)
    says = f"{count(len(planned), 'post')} today, the first {first}; {later} later."
    return Section("queue", "Posts of today", says, len(planned), queue_table(planned))


def quota_left(db: StateDatabase, now: datetime) -> Section:
    rows = quota.usage(db, pacific_quota_day(now))
    if not rows:
        return Section("quota", "Quotas", "Nothing was drawn yet on the vendor's day.", None)
    says = "; ".join(f"{row.bucket}: {row.left:,} of {row.limit:,} left" for row in rows)
    return Section("quota", "Quotas", says, None, quota_report.bucket_table(rows))


def spend(db: StateDatabase, settings: Settings, now: datetime) -> Section:
    """Money for models today and for all paid work this month, beside the caps; play money apart."""
    today = business_day_of(now, settings.timezone)
    lines, said, spent_live = [], [], 0
    for mode, of in (("live", "real money"), ("sandbox", "sandbox: no real money")):
        days, months = budget.spending(db, mode, today), budget.months_spending(db, mode, today)
        if not days and not months:
            continue
        taken, month = _taken(days.pop(budget.EVERYBODY, None)), sum(map(_taken, months.values()))
        spent_live += taken if mode == "live" else 0
        cap = settings.model_budget_microusd()
        said.append(
            f"{_dollars(taken)} of {_dollars(cap)} for models today, {_dollars(month)} this month ({of})"
        )
        lines.append(["all accounts", of, _dollars(taken), _dollars(cap), _dollars(month), "–", "–"])
        for account in sorted({*days, *months}):
            spent, most = _taken(months.get(account)), cap_of(settings, db, account).microusd
            lines.append(
                [
                    cell(account), of, _dollars(_taken(days.get(account))),
                    _dollars(settings.model_budget_microusd(account)), _dollars(spent), _dollars(most),
                    _share(spent, most),
                ]
            )  # fmt: skip
    if not lines:
        return Section("spend", "Spend", "Nothing was spent this month.", 0)
    heads = ["Account", "", "Models today", "Cap a day", "This month", "Cap a month", "Of the cap"]
    return Section("spend", "Spend", "; ".join(said) + ".", spent_live, markdown_table(heads, lines))


def _taken(spent: budget.Spending | None) -> int:
    return spent.spent_microusd + spent.reserved_microusd if spent else 0


def revenue(lake: "Lake", settings: Settings, now: datetime) -> Section:
    """Net revenue of yesterday and of the month so far, per service and currency, which are never added up."""
    yesterday = business_day_of(now, settings.timezone) - timedelta(days=1)
    rows = lake.rows(REVENUE_SQL, {"yesterday": yesterday, "month": yesterday.replace(day=1)})
    if not rows:
        return Section("revenue", "Revenue", f"No revenue is booked yet for {yesterday:%B %Y}.", None)
    table = markdown_table(
        ["Service", "Yesterday, net", f"{yesterday:%B} so far, net", "Days booked", ""],
        [
            [
                cell(row["source"]), _money(row["yesterday_minor"], row["currency"]),
                _money(row["month_minor"], row["currency"]), str(row["days"]),
                "" if row["livemode"] else "sandbox: no real money",
            ]
            for row in rows
        ],
    )  # fmt: skip
    booked = [row for row in rows if row["yesterday_minor"] is not None]
    says = "; ".join(f"{row['source']} {_money(row['yesterday_minor'], row['currency'])}" for row in booked)
    return Section("revenue", "Revenue", says or f"{yesterday} is not booked yet.", len(booked), table)


def storage(lake: "Lake") -> Section:
    """What the videos take, as their tables say."""
    rows = [row for row in lake.rows(STORAGE_SQL) if row["files"]]
    if not rows:
        return Section("storage", "Storage", "No video is stored yet.", 0)
    table = markdown_table(
        ["What", "Files", "Size"],
        [[cell(row["what"]), number(row["files"]), _size(row["bytes"])] for row in rows],
    )
    total = sum(row["bytes"] for row in rows)
    says = f"{_size(total)} in {number(sum(row['files'] for row in rows))} files."
    return Section("storage", "Storage", says, total, table)


def undelivered(db: StateDatabase, now: datetime) -> Section:
    """Messages of alerts that reached nobody."""
    lost, late = outbox.parked(db, now - timedelta(days=1)), outbox.waiting(db)
    if not lost and not late:
        return Section("alerts", "Alerts", "Every message was delivered.", 0)
    table = markdown_table(
        ["To", "Subject", "Since", "Why not"],
        [
            [cell(m.target), cell(m.subject), f"{ago(now - m.created_at)} ago", cell(m.error, limit=200)]
            for m in (*lost, *late)[:CAUSES]
        ],
    )
    says = f"{count(len(lost), 'message')} of the last day could not be delivered, {len(late)} wait."
    return Section("alerts", "Alerts", says, len(lost) + len(late), table)


def page(sections: Iterable[Section]) -> str:
    """The sections under one another."""
    return "\n\n".join(
        f"## {section.title}\n\n{cell(section.says, limit=400)}\n\n{section.table}".rstrip()
        for section in sections
    )


def front(sections: Sequence[Section]) -> str:
    """A screen of it: every section in a sentence, then the first of what failed and of what waits for a person."""
    says = [
        [f"**{one.title}**" if one.name in URGENT and one.count else one.title, cell(one.says, limit=160)]
        for one in sections
    ]
    parts = [markdown_table(["", "In short"], says)]
    for one in sections:
        if one.name in URGENT and one.count:
            parts.append(f"**{one.title}**\n\n{_first_rows(one.table)}")
    return "\n\n".join(parts)


def _first_rows(table: str) -> str:
    """The first rows of every table in a text; what is left out is on the whole page."""
    short = []
    for block in table.split("\n\n"):
        lines = block.split("\n")
        left_out = len(lines) - HEADING_LINES - FRONT_ROWS
        if block.startswith("|") and left_out > 0:
            lines = [*lines[:-left_out], "", f"and {left_out} more, on the whole page"]
        short.append("\n".join(lines))
    return "\n\n".join(short)


def _dollars(microusd: int) -> str:
    return f"${microusd / 1e6:,.2f}"


def _share(taken: int, cap: int) -> str:
    return f"{taken / cap:.0%}" if cap else "–"


def _money(minor: int | None, currency: str) -> str:
    return "–" if minor is None else str(Money(minor, currency))


def _size(size: int) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"
