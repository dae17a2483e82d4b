"""Every source video in one list: title, whose, where it stands in plain words, what can be watched, cost and revenue.

Where Dagster shows the ids of partitions, this says what they are. Tables, ledger and queue are only read. Called by
`overview_assets.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import sqlalchemy as sa

from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.media.sidecar import title_from_name
from ettametta_pipelines.media_links import media_url
from ettametta_pipelines.operations.findings import Finding
from ettametta_pipelines.previews import cell, link, markdown_table
from ettametta_pipelines.publishing.backlog import WAITING_FOR_APPROVAL
from ettametta_pipelines.publishing.review import NEEDING_A_PERSON
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase

if TYPE_CHECKING:
    from ettametta_pipelines.storage.lake import Lake

SHOWN = 100
# An upload that was not ingested by then will not be; it is no video.
ARRIVALS = timedelta(days=30)
SOURCES_SQL = "select source_id, title, account, niche, accepted_at, verdict, reason from source_media"
RENDITIONS_SQL = " union all ".join(
    f"select source_id, format, object_key from {table}"  # noqa: S608
    for table in ("rendition_9x16", "rendition_16x9", "rendition_1x1")
)
COST_SQL = "select source_id, sum(cost_microusd) as cost_microusd from source_assessments group by source_id"
MARGIN_SQL = """
select value as source_id, mode, currency, revenue_micro, cost_micro from content_margin
where dimension = 'video' and day = (select max(day) from content_margin)
order by value, mode, currency
"""
STATES = (
    "review", "failed", "rejected", "waiting", "posting", "planned", "rendered", "accepted", "arrived", "posted",
)  # fmt: skip


@dataclass(frozen=True)
class Money:
    """What videos cost and earned as far as tables say; `said` names what is not known."""

    cost_microusd: Mapping[str, int]
    revenue: Mapping[str, list[str]]
    said: str


def catalog_rows(
    lake: "Lake",
    db: StateDatabase,
    settings: Settings,
    queue: Sequence[Mapping[str, Any]],
    findings: Iterable[Finding],
    now: datetime,
) -> tuple[list[dict[str, Any]], str]:
    """Rows of `video_catalog`, newest first, and in words which money is known."""
    sources = lake.rows(SOURCES_SQL)
    renditions: dict[str, list[str]] = defaultdict(list)
    for row in lake.rows(RENDITIONS_SQL):
        renditions[row["source_id"]].append(f"{row['format']} {media_url(settings, row['object_key'])}")
    posts = _posts(db)
    money = known_money(lake)
    planned: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for entry in queue:
        planned[entry["source_id"]].append(entry)
    failed = {
        one.partition: (one.at, finding.headline)
        for finding in findings
        if finding.kind == "failed_run"
        for one in finding.open
        if one.partition
    }
    rows = []
    for source in [*sources, *_arrivals(db, {row["source_id"] for row in sources}, now)]:
        source_id = source["source_id"]
        state, says = standing(
            source, bool(renditions[source_id]), posts[source_id],
            planned[source_id], failed.get(source_id), settings,
        )  # fmt: skip
        rows.append(
            {
                "source_id": source_id,
                "title": source["title"],
                "account": source["account"],
                "niche": source["niche"],
                "arrived_at": source["accepted_at"],
                "state": state,
                "says": says,
                "renditions": sorted(renditions[source_id]),
                "posts": [f"{post.platform} {post.url}" for post in posts[source_id] if post.url],
                "cost_microusd": money.cost_microusd.get(source_id),
                "revenue": money.revenue.get(source_id, []),
            }
        )
    rows.sort(
        key=lambda row: (row["arrived_at"] is None, row["arrived_at"] or now, row["source_id"]), reverse=True
    )
    return rows, money.said


def standing(
    source: Mapping[str, Any],
    is_rendered: bool,
    posts: Sequence[Publication],
    planned: Sequence[Mapping[str, Any]],
    failed: tuple[datetime, str] | None,
    settings: Settings,
) -> tuple[str, str]:
    """Where a video stands: one of STATES, and a sentence. What a person has to do comes first."""
    said: list[tuple[str, str]] = [_post_in_words(post, settings) for post in posts]
    posted = {post.platform for post in posts}
    for row in planned:
        if row["platform"] in posted and row["why"] != WAITING_FOR_APPROVAL:
            continue
        if row["planned_at"] is not None:
            at = row["planned_at"].astimezone(settings.timezone)
            said.append(("planned", f"planned for {row['platform']} at {at:%a %d %b %H:%M}"))
        elif row["why"] == WAITING_FOR_APPROVAL:
            said.append(("waiting", f"waiting for approval on {row['platform']}"))
        else:
            said.append(("rendered", f"rendered; not on {row['platform']}: {row['why']}"))
    if source["verdict"] == "rejected":
        said.append(("rejected", f"rejected: {source['reason']}"))
    elif failed is not None:
        said.append(("failed", f"failed: {failed[1]}"))
    elif not said and is_rendered:
        said.append(("rendered", "rendered"))
    elif not said:
        arrived = source["verdict"] is None
        said.append(
            ("arrived", "arrived, not looked at yet")
            if arrived
            else ("accepted", "accepted, not rendered yet")
        )
    said.sort(key=lambda one: STATES.index(one[0]))
    return said[0][0], "; ".join(dict.fromkeys(words for _, words in said))


def _post_in_words(post: Publication, settings: Settings) -> tuple[str, str]:
    if post.state == "PUBLISHED":
        at = (post.settled_at or post.updated_at).astimezone(settings.timezone)
        return "posted", f"on {post.platform} since {at:%a %d %b %H:%M}"
    if post.state in {str(state) for state in NEEDING_A_PERSON}:
        return "review", f"a person must look whether it is on {post.platform}"
    if post.state == "FAILED_DEFINITE":
        return "failed", f"not on {post.platform}: {post.error_message or post.error_code or 'refused'}"
    return "posting", f"on its way to {post.platform}"


def _posts(db: StateDatabase) -> dict[str, list[Publication]]:
    """The newest intent of every video on every channel."""
    newest: dict[tuple[str, str, str], Publication] = {}
    with db.session(write=False) as session:
        for post in session.scalars(sa.select(Publication).order_by(Publication.intent_no)):
            newest[post.content_id, post.platform, post.channel_id] = post
    found: dict[str, list[Publication]] = defaultdict(list)
    for (source_id, _, _), post in sorted(newest.items()):
        found[source_id].append(post)
    return found


def _arrivals(db: StateDatabase, known: set[str], now: datetime) -> list[dict[str, Any]]:
    """Uploads the sensor took up that have no row of their own yet: a run is under way, or failed."""
    with db.session(write=False) as session:
        arrived = uploads.accepted_since(session, now - ARRIVALS)
    rows = {
        upload.source_id: {
            "source_id": upload.source_id,
            "title": upload.title or title_from_name(upload.object_key.rsplit("/", 1)[-1]),
            "account": upload.account_id, "niche": upload.niche, "accepted_at": upload.seen_at, "verdict": None,
            "reason": None,
        }
        for upload in arrived
        if upload.source_id and upload.source_id not in known
    }  # fmt: skip
    return list(rows.values())


def known_money(lake: "Lake", tables: Iterable[str] = ALL_TABLES) -> Money:
    """Costs and revenue per video: of `content_margin` where it is a table with rows, else what judging cost alone."""
    margins = lake.rows(MARGIN_SQL) if "content_margin" in tables else []
    if not margins:
        costs = {row["source_id"]: int(row["cost_microusd"]) for row in lake.rows(COST_SQL)}
        return Money(costs, {}, "Costs are those of judging the video. What videos earned is not known: nothing is "
                     "in content_margin yet.")  # fmt: skip
    revenue: dict[str, list[str]] = defaultdict(list)
    for row in margins:
        if row["revenue_micro"]:
            play = "" if row["mode"] == "live" else " (sandbox)"
            revenue[row["source_id"]].append(f"{row['revenue_micro'] / 1e6:,.2f} {row['currency']}{play}")
    # Real money where there is any; a home that is all sandbox shows its play money.
    priced = [row for row in margins if row["currency"] == "USD"]
    cost = {
        row["source_id"]: row["cost_micro"] for row in sorted(priced, key=lambda row: row["mode"] == "live")
    }
    return Money(cost, revenue, "Costs and revenue are those of content_margin, of its last window.")


def catalog_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Markdown: the newest, each with its pages."""
    table = markdown_table(
        ["Arrived", "Title", "Account", "Niche", "Where it stands", "Watch", "Posts", "Cost", "Earned"],
        [
            [
                f"{row['arrived_at']:%d %b %H:%M}" if row["arrived_at"] else "–",
                source_link(row["title"], row["source_id"]),
                cell(row["account"]),
                cell(row["niche"]),
                cell(row["says"], limit=160),
                _links(row["renditions"]),
                _links(row["posts"]),
                f"${row['cost_microusd'] / 1e6:,.4f}" if row["cost_microusd"] is not None else "–",
                cell(", ".join(row["revenue"]) or None),
            ]
            for row in rows[:SHOWN]
        ],
    )
    more = len(rows) - SHOWN
    return table + (f"\n\n{more:,} older ones are in the table `video_catalog`." if more > 0 else "")


def source_link(title: str, source_id: str) -> str:
    """Markdown link to the video's partition, in whatever place the UI is served."""
    return f"[{cell(title, limit=50)}](/assets/source_media?view=partitions&partition={quote(source_id, safe='')})"


def _links(named: Iterable[str]) -> str:
    return " ".join(link(name, url) for name, _, url in (one.partition(" ") for one in named)) or "–"
