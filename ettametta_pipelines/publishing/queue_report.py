"""The publishing queue and its approvals as tables and rows that operators read. Called by `queue_assets.py`."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from ettametta_pipelines.media_links import media_url
from ettametta_pipelines.previews import cell, link, markdown_table
from ettametta_pipelines.publishing.approvals import Proposal, differences
from ettametta_pipelines.publishing.policy import ChannelPolicy, Channels
from ettametta_pipelines.publishing.queue import Planned
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import PublicationDecision

# Longer tables are cut; the stored table has every row.
ROWS_SHOWN = 60


def queue_rows(
    planned: Sequence[Planned], channels: Channels, settings: Settings, now: datetime
) -> list[dict[str, Any]]:
    """Rows of `publish_queue`."""
    return [
        {
            "position": number,
            "planned_at": p.at,
            "why": p.why,
            "platform": p.entry.platform,
            "account": p.entry.account,
            "time_zone": channels.of(*p.entry.channel).time_zone.key,
            "source_id": p.entry.source_id,
            "intent_no": p.entry.intent_no,
            "title": p.entry.title,
            "preview_url": media_url(settings, p.entry.object_key),
            "sha256": p.entry.sha256,
            "ready_at": p.entry.ready_at,
            "not_before": p.entry.not_before,
            "attempts": p.entry.attempts,
            "tell": list(channels.of(*p.entry.channel).tell),
            "observed_at": now,
        }
        for number, p in enumerate(planned, start=1)
    ]


def queue_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Markdown: date on the channel's clock, channel, title, preview, and what it waits for."""
    rows = list(rows)
    table = markdown_table(
        ("when", "account", "platform", "title", "preview", "waits for"),
        [
            [
                when(row["planned_at"], row["time_zone"]),
                cell(row["account"]),
                cell(row["platform"]),
                decision_link(row["title"], row["source_id"]),
                link("watch", row["preview_url"]),
                cell(row["why"], limit=120),
            ]
            for row in rows[:ROWS_SHOWN]
        ],
    )
    more = len(rows) - ROWS_SHOWN
    return f"{table}\n\n{more} more in the table." if more > 0 else table


def waiting_table(rows: Iterable[Mapping[str, Any]]) -> str:
    """Markdown: what a person has to decide, oldest first, each with the page where it is decided."""
    return markdown_table(
        ("since", "account", "platform", "title", "preview", "decide"),
        [
            [
                when(row["ready_at"], row["time_zone"]),
                cell(row["account"]),
                cell(row["platform"]),
                cell(row["title"]),
                link("watch", row["preview_url"]),
                decision_link("open, then Materialize with a decision", row["source_id"]),
            ]
            for row in rows
        ],
    )


def decision_link(text: str, source_id: str) -> str:
    """Markdown link to the partition of `publication_approvals`, in whatever place the UI is served."""
    page = f"/assets/publication_approvals?view=partitions&partition={quote(source_id, safe='')}"
    return f"[{cell(text, limit=60)}]({page})"


def when(instant: datetime | None, time_zone: str) -> str:
    """`Tue 24 Nov 09:00 Europe/Berlin`; an en dash for no date."""
    if instant is None:
        return "–"
    return f"{instant.astimezone(ZoneInfo(time_zone)):%a %d %b %H:%M} {time_zone}"


def proposal_table(
    proposal: Proposal,
    source: Mapping[str, Any],
    decision: PublicationDecision | None,
    planned: Planned | None,
    policy: ChannelPolicy,
) -> str:
    """Markdown: exactly what is asked to be approved for one channel."""
    post = proposal.order.post
    facts = {
        "title": post.title,
        "description": post.description or "none",
        "tags": ", ".join(post.tags) or "none",
        "who may see it": post.privacy,
        "synthetic media": _yes(post.synthetic),
        "paid promotion": _yes(post.paid),
        "own brand": _yes(post.own_brand),
        "offers": proposal.order.offer or proposal.order.offer_left_out or "nothing",
        "made for kids": _yes(post.made_for_kids),
        "rights": source["rights"],
        "credit": source["attribution"] or "none needed",
        "variants": ", ".join(f"{a.experiment}: {a.arm}" for a in proposal.arms) or "none",
        "rendition": f"{proposal.order.rendition.duration_s:.1f} s, sha256 {proposal.order.rendition.sha256[:12]}",
        "planned": _planned(planned, policy, decision),
        "decision": _decided(decision, proposal),
    }
    return markdown_table(
        ("", proposal.order.account), [[name, cell(value, limit=600)] for name, value in facts.items()]
    )


def decision_rows(decisions: Sequence[PublicationDecision]) -> list[dict[str, Any]]:
    """Rows of `publication_approvals`; `decisions` newest first."""
    stands: set[tuple[str, str, int]] = set()
    rows = []
    for row in decisions:
        post = (row.platform, row.account_id, row.intent_no)
        shown = ("title", "description", "tags", "privacy", "synthetic", "paid", "made_for_kids")
        rows.append(
            {
                "decision_id": row.id,
                "platform": row.platform,
                "account": row.account_id,
                "source_id": row.content_id,
                "intent_no": row.intent_no,
                "decision": row.decision,
                "stands": post not in stands,
                "decided_at": row.decided_at,
                "decided_by": row.decided_by,
                "run_id": row.run_id,
                **{name: row.post[name] for name in shown},
                "not_before": row.not_before,
                "comment": row.comment,
                "sha256": row.sha256,
                "content_hash": row.content_hash,
            }
        )
        stands.add(post)
    return rows


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _planned(planned: Planned | None, policy: ChannelPolicy, decision: PublicationDecision | None) -> str:
    if planned is None:
        return "not in the queue: posted, rejected, or a person's to settle"
    if planned.at is None:
        return planned.why
    condition = "if approved now: " if decision is None and policy.approval == "manual" else ""
    return f"{condition}{when(planned.at, policy.time_zone.key)}, {planned.why}"


def _decided(decision: PublicationDecision | None, proposal: Proposal) -> str:
    if decision is None:
        return "none yet"
    said = f"{decision.decision} by {decision.decided_by} on {decision.decided_at:%Y-%m-%d %H:%M} UTC"
    said += f": {decision.comment}" if decision.comment else ""
    differ = differences(decision, proposal)
    return f"{said}; since then changed: {', '.join(differ)}" if differ else said
