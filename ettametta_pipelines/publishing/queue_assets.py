"""The publishing queue in the Dagster UI: what is posted when, and the act of approving. Thin: logic is beside."""

from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError
from ettametta_pipelines.media_links import media_url
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.previews import Thumb, cell, picture_strip
from ettametta_pipelines.publishing.post_choices import PostChoices
from ettametta_pipelines.publishing.queue_contracts import PUBLICATION_APPROVALS, PUBLISH_QUEUE
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.contracts import plain_rows

if TYPE_CHECKING:
    from ettametta_pipelines.publishing.approvals import Proposal, Request
    from ettametta_pipelines.publishing.policy import ChannelPolicy, Channels
    from ettametta_pipelines.publishing.queue import Planned
    from ettametta_pipelines.state.session import StateDatabase
    from ettametta_pipelines.storage.objects import ObjectStore

GROUP = "publishing"


@table_asset(
    PUBLISH_QUEUE,
    group_name=GROUP,
    kinds={"duckdb", "python"},
    deps=[
        dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping())
        for name in ("rendition_9x16", "source_media", "publication_approvals")
    ],
    description="""
What is posted when: every finished upright rendition that is not posted yet, for each channel of its account, with its
date on the channel's clock. What has no date says what it waits for: *waiting for approval* is a person's to decide
(**waiting_for_approval** links to where), *daily cap of 3 reached* and *YouTube's 100 uploads are planned for today*
name the limit that moved it to a later day. Slots, caps and approval are the channel's policy
(`publishing/channels.yaml`, or ETTAMETTA_CHANNELS). The sensor `publish_sensor` starts each post when its time comes.

**If it fails:** *bad_channels_file* names the line to correct; until then nothing is posted by itself.
""",
)
def publish_queue(
    context: dg.AssetExecutionContext, store: StoreResource, state: StateResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.publishing import queue_report
    from ettametta_pipelines.publishing.admission import live_platforms
    from ettametta_pipelines.publishing.backlog import WAITING_FOR_APPROVAL, upcoming
    from ettametta_pipelines.publishing.policy import load_channels

    settings, now = get_settings(), utc_now()
    with failure_policy(context):
        channels = load_channels(settings.channels_file)
        planned = upcoming(store.open(), state.open(), channels, now, live=live_platforms(settings))
        rows = queue_report.queue_rows(planned, channels, settings, now)
        frame = PUBLISH_QUEUE.frame(rows)
    dated = [p for p in planned if p.at is not None]
    waiting = [row for row in rows if row["why"] == WAITING_FOR_APPROVAL]
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "queue": dg.MetadataValue.md(queue_report.queue_table(rows)),
            "waiting_for_approval": dg.MetadataValue.md(queue_report.waiting_table(waiting)),
            "planned": len(dated),
            "waiting": len(waiting),
            "held": len(planned) - len(dated),
            "next_post": dg.MetadataValue.timestamp(dated[0].at) if dated and dated[0].at else "none planned",
            "channels_file": str(settings.channels_file or "packaged: every post waits for a person"),
        },
    )


class ApprovalConfig(PostChoices):
    """One decision on the posts of a video. Without one, what is to be decided is only shown."""

    decision: Literal["show", "approve", "reject", "hold"] = Field(
        default="show",
        description="approve: post it as shown, when its time comes. hold: not until it is approved. reject: not at "
        "all. show: change nothing, show what would be posted.",
    )
    platforms: list[str] = Field(
        default=[], description="youtube, tiktok; empty means every channel of the account."
    )
    not_before: str = Field(
        default="",
        description="Post it at this time or later, such as 2026-12-24 09:00 on the channel's clock.",
    )
    comment: str = Field(default="", description="Kept with the decision.")


@table_asset(
    PUBLICATION_APPROVALS,
    partitions_def=SOURCE_VIDEO,
    group_name=GROUP,
    kinds={"python"},
    description="""
The decision about a video's posts. Materialize it without a configuration and it shows what would be posted on each
channel: stills and the rendition itself, title, text, flags, rights, credit, and when. Materialize it in the launchpad
with `decision: approve`, `reject` or `hold` to decide; change title, text, tags or privacy there, or set `not_before`.

A decision is about exactly this file, these words and these flags. A rendition made again, or a credit that changed,
needs another approval; the queue and the publishing assets say so. Decisions are only added: the table has all of
them, the newest stands. Channels whose policy is automatic need none, but obey one.

**If it fails:** nothing was decided. The message names what the post lacks (a right, a channel, a shorter title).
""",
)
def publication_approvals(
    context: dg.AssetExecutionContext,
    config: ApprovalConfig,
    rendition_9x16: pd.DataFrame,
    source_media: pd.DataFrame,
    store: StoreResource,
    state: StateResource,
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.publishing import approvals, queue_report
    from ettametta_pipelines.publishing.admission import who
    from ettametta_pipelines.publishing.policy import load_channels

    settings, now = get_settings(), utc_now()
    source, rendition = plain_rows(source_media)[0], plain_rows(rendition_9x16)[0]
    with failure_policy(context):
        channels, db = load_channels(settings.channels_file), state.open()
        platforms = _platforms(config, source["account"], channels, db)
        proposals: dict[str, Proposal] = {}
        refused: dict[str, str] = {}
        for platform in platforms:
            try:
                proposals[platform] = _proposal(
                    db, _request(context, platform, source, rendition, channels, db, config), config
                )
            except PipelineError as error:
                # One channel's post can be looked at while the other's lacks something; deciding is all or nothing.
                if config.decision != "show" or len(refused) + 1 == len(platforms):
                    raise
                refused[platform] = (
                    f"It cannot be posted: {cell(error.message, limit=300)} {cell(error.remedy, limit=400)}"
                )
        if config.decision != "show":
            for platform, proposal in proposals.items():
                approvals.decide(
                    db, proposal, config.decision, by=who(context.run.tags), run_id=context.run_id,
                    comment=config.comment.strip(), niche=source["niche"],
                    not_before=_instant(config.not_before, channels.of(source["account"], platform)),
                )  # fmt: skip
        decisions = approvals.decisions_on(db, source["source_id"])
        frame = PUBLICATION_APPROVALS.frame(queue_report.decision_rows(decisions))
        dates = _planned(store.open(), db, channels, source, now)
        stills = _stills(store, rendition)
    shown = {
        platform: queue_report.proposal_table(
            proposal,
            source,
            next((d for d in decisions if d.platform == platform and d.intent_no == config.intent_no), None),
            dates.get(platform),
            channels.of(source["account"], platform),
        )
        for platform, proposal in proposals.items()
    }
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "decision": config.decision if config.decision != "show" else "only shown; nothing was decided",
            "watch": dg.MetadataValue.url(media_url(settings, rendition["object_key"])),
            "stills": dg.MetadataValue.md(stills),
            **{name: dg.MetadataValue.md(table) for name, table in (shown | refused).items()},
            "tell": ", ".join(sorted({t for p in platforms for t in channels.of(source["account"], p).tell}))
            or "nobody",
            "decisions": len(decisions),
        },
    )


def _platforms(config: ApprovalConfig, account: str, channels: "Channels", db: "StateDatabase") -> list[str]:
    from ettametta_pipelines.publishing.connections import connected

    known = {c.platform for c in connected(db) if c.account == account}
    known |= {platform for owner, platform in channels.channels if owner == account}
    unknown = set(config.platforms) - known
    if unknown or not known:
        raise NeedsPersonError(
            f"{account} has no channel on {', '.join(sorted(unknown)) or 'any platform'}.",
            code="channel_not_connected",
            remedy=f"Run `ettametta connect --account {account} --platform ...`, or name other platforms.",
        )
    return sorted(set(config.platforms) or known)


def _request(
    context: dg.AssetExecutionContext,
    platform: str,
    source: dict[str, Any],
    rendition: dict[str, Any],
    channels: "Channels",
    db: "StateDatabase",
    config: ApprovalConfig,
) -> "Request":
    from ettametta_pipelines.publishing.admission import live_platforms
    from ettametta_pipelines.publishing.approvals import Request
    from ettametta_pipelines.publishing.offers import OfferBook
    from ettametta_pipelines.publishing.variants import PostName

    policy, live = channels.of(source["account"], platform), platform in live_platforms(get_settings())
    name = PostName(platform, source["account"], source["source_id"], config.intent_no)
    with db.session(write=False) as session:
        offer = OfferBook(session, get_settings()).offer(name, source["niche"], policy, live=live)
    return Request(platform, source, rendition, policy, live, context.run_id, offer)


def _proposal(db: "StateDatabase", request: "Request", config: ApprovalConfig) -> "Proposal":
    """The post in the words of the launchpad; without any, in those that were approved before."""
    from ettametta_pipelines.publishing import approvals

    wishes = config.wishes()
    with db.session(write=False) as session:
        decision = approvals.standing(session, request.name(config.intent_no))
    if decision is not None and decision.decision == approvals.APPROVE and approvals.says_nothing(wishes):
        return approvals.proposal_of(request, decision)
    return approvals.propose(request, wishes)


def _instant(text: str, policy: "ChannelPolicy") -> datetime | None:
    """The instant of a local time as an operator writes it."""
    if not text.strip():
        return None
    try:
        instant = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise PermanentError(
            f"{text!r} is not a time.",
            code="bad_not_before",
            remedy="Write it as 2026-12-24 09:00, on the channel's clock, or with an offset as "
            "2026-12-24T09:00+01:00.",
        ) from error
    return instant if instant.tzinfo else instant.replace(tzinfo=policy.time_zone)


def _planned(
    store: "ObjectStore", db: "StateDatabase", channels: "Channels", source: dict[str, Any], now: datetime
) -> "dict[str, Planned]":
    """When the video's posts are made, or would be if they were approved, by platform."""
    from ettametta_pipelines.publishing.admission import live_platforms
    from ettametta_pipelines.publishing.backlog import upcoming

    planned = upcoming(
        store, db, channels, now, live=live_platforms(get_settings()), as_approved=source["source_id"]
    )
    return {p.entry.platform: p for p in planned if p.entry.source_id == source["source_id"]}


def _stills(store: StoreResource, rendition: dict[str, Any]) -> str:
    from ettametta_pipelines.publishing.stills import stills_of

    found = stills_of(
        store.open(), rendition["object_key"], float(rendition["duration_s"]),
        scratch=get_settings().home_dir / "scratch",
    )  # fmt: skip
    return picture_strip([Thumb(f"{second:.1f} s", jpeg) for second, jpeg in found], height=200) or "none"


QUEUE_ASSETS = [publish_queue, publication_approvals]
