"""Assets of the publishing room: the post on each platform, and how the posts are doing. Thin: logic is beside."""

from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.related import POSTS, RENDITIONS, SOURCE, related_pages
from ettametta_pipelines.orchestration.resources import (
    StateResource,
    StoreResource,
    TikTokResource,
    YouTubeResource,
)
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import DAY, SOURCE_VIDEO
from ettametta_pipelines.previews import cell, markdown_table, number
from ettametta_pipelines.publishing.contracts import (
    PUBLICATION_METRICS,
    TIKTOK_PUBLICATIONS,
    YOUTUBE_PUBLICATIONS,
    YOUTUBE_THUMBNAILS,
)
from ettametta_pipelines.publishing.post_choices import PostChoices
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.contracts import TableContract, plain_rows

if TYPE_CHECKING:
    from ettametta_pipelines.publishing.delivery import Order, Outcome, Workshop
    from ettametta_pipelines.publishing.evidence import Evidence

PUBLISHED_CHECK = "published"
NOT_BEFORE_CHECK = "not_posted_before"
ANSWERED_CHECK = "every_channel_answered"
FIGURES = ("views", "likes", "comments", "shares")


class PublicationConfig(PostChoices):
    """What may be chosen for one post."""

    live_remote_id: str = Field(
        default="",
        description="For a held post: its id or address on the platform, after you have found it there.",
    )
    approve: bool = Field(
        default=False,
        description="You have looked at it and want it posted now, as configured here. Needed where the channel's "
        "policy is manual and publication_approvals has no approval of exactly this post.",
    )


def _workshop(context: dg.AssetExecutionContext, state: StateResource, store: StoreResource) -> "Workshop":
    from ettametta_pipelines.publishing.delivery import Workshop
    from ettametta_pipelines.publishing.tokens import open_envelope

    return Workshop(
        db=state.open(),
        store=store.open(),
        envelope=open_envelope(get_settings()),
        owner=f"run {context.run_id}",
    )


def _admitted(
    context: dg.AssetExecutionContext,
    platform: str,
    source: pd.DataFrame,
    rendition: pd.DataFrame,
    config: PublicationConfig,
    state: StateResource,
) -> "Order":
    """The order this run may carry out: approved by a person, or on a channel that needs no approval."""
    from ettametta_pipelines.publishing.admission import admitted_order

    return admitted_order(
        state.open(), get_settings(), platform, plain_rows(source)[0], plain_rows(rendition)[0], config.wishes(),
        approve=config.approve, run_id=context.run_id, tags=context.run.tags,
    )  # fmt: skip


def _published_spec(asset: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        PUBLISHED_CHECK,
        asset=asset,
        description="The post is on the platform, or being processed there.",
        blocking=True,
    )


def _not_before_spec(asset: str) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        NOT_BEFORE_CHECK,
        asset=asset,
        description="The channel has not posted anything that looks or sounds like it. Warns and stops nothing.",
    )


def _evidence(workshop: "Workshop", order: "Order", made: pd.DataFrame, source: pd.DataFrame) -> "Evidence":
    from ettametta_pipelines.publishing.evidence import gather

    scratch = get_settings().home_dir / "scratch"
    return gather(workshop, order, plain_rows(made)[0], plain_rows(source)[0], scratch=scratch)


def _told(
    contract: TableContract,
    outcome: "Outcome",
    vendor: str,
    seconds: float,
    order: "Order",
    evidence: "Evidence",
    lasts_s: float,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The outcome as table, metadata and checks."""
    from ettametta_pipelines.publishing.what_now import what_now

    row = outcome.row()
    state = row["state"]
    facts: dict[str, Any] = {
        "url": dg.MetadataValue.url(row["url"]) if row["url"] else "none",
        "title": row["title"],
        **related_pages(
            row["source_id"], SOURCE, *RENDITIONS, *(post for post in POSTS if post != contract.name)
        ),
        "vendor": get_settings().endpoint(vendor).standing,
        "took_s": round(seconds, 2),
        "video_lasts_s": lasts_s,
        "size_bytes": outcome.publication.size_bytes,
    }
    facts |= {
        name: "none" if row[name] is None else row[name]
        for name in (
            "state",
            "posted",
            "remote_id",
            "privacy",
            "account",
            "publication_id",
            "intent_no",
        )
    }
    facts |= {
        "synthetic_media": order.post.synthetic,
        "paid_promotion": order.post.paid,
        "offers": order.offer or order.offer_left_out or "nothing",
        "rights": dg.MetadataValue.md(evidence.rights_table),
    }
    if outcome.publication.error_code:
        facts["error"] = f"{outcome.publication.error_message} [{outcome.publication.error_code}]"
    advice, about = what_now(state, row["error_code"], row["intent_no"]), dict[str, Any](state=state)
    if advice is not None:
        page = f"{get_settings().gateway_url}/publications/{row['publication_id']}"
        about["page_of_the_post"] = dg.MetadataValue.url(page)
    next_look = outcome.publication.next_check_at
    if state == "RECONCILING" and next_look is not None:
        advice = (
            f"{advice} The next look is at {next_look:%Y-%m-%d %H:%M} UTC; a run before then asks nothing."
        )
        about["next_look"] = dg.MetadataValue.timestamp(next_look)
    return dg.MaterializeResult(
        value=contract.frame([row]),
        metadata=facts,
        check_results=[
            dg.AssetCheckResult(
                check_name=PUBLISHED_CHECK,
                passed=advice is None,
                description=advice,
                metadata=about,
            ),
            dg.AssetCheckResult(
                check_name=NOT_BEFORE_CHECK,
                passed=evidence.look_back.is_clean,
                severity=dg.AssetCheckSeverity.WARN,
                description=evidence.look_back.in_words,
                metadata={
                    "compared": evidence.look_back.compared,
                    "without_imprint": evidence.look_back.unknown,
                },
            ),
        ],
    )


def _lasts_s(rendition: pd.DataFrame) -> float:
    return round(float(rendition.iloc[0]["duration_s"]), 2)


@table_asset(
    YOUTUBE_PUBLICATIONS,
    partitions_def=SOURCE_VIDEO,
    group_name="publishing",
    kinds={"youtube"},
    pool="publish_youtube",
    check_specs=[_published_spec("youtube_publications"), _not_before_spec("youtube_publications")],
)
def youtube_publications(
    context: dg.AssetExecutionContext,
    config: PublicationConfig,
    rendition_9x16: pd.DataFrame,
    source_media: pd.DataFrame,
    store: StoreResource,
    state: StateResource,
    youtube: YouTubeResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The vertical rendition as a video on the account's YouTube channel, private unless configured otherwise.

    Why: the post is what the line is for. It is made exactly once per source video: running this again, in whatever
    way, finds the post and says `posted: false`. Where the channel's policy is manual, only a post that a person has
    approved is made: in publication_approvals, or here with `approve`.

    When it fails: without an approval it says how to give one; without a right or a channel the message says what to
    declare or connect. After a crash or a lost connection just run it again; it goes on at the exact byte. If the
    check `published` fails, do what it says.
    """
    with failure_policy(context, op_retries=0):
        from ettametta_pipelines.publishing import youtube_upload

        started = utc_now()
        order = _admitted(context, "youtube", source_media, rendition_9x16, config, state)
        workshop = _workshop(context, state, store)
        evidence = _evidence(workshop, order, rendition_9x16, source_media)
        outcome = youtube_upload.publish(workshop, youtube.app(), order)
        seconds = (utc_now() - started).total_seconds()
        return _told(
            YOUTUBE_PUBLICATIONS, outcome, "google", seconds, order, evidence, _lasts_s(rendition_9x16)
        )


class ThumbnailConfig(dg.Config):
    """Which of the pictures of `thumbnails` the video is shown by."""

    rank: int = Field(default=1, ge=1, description="1 is the best frame.")
    variant: str = Field(
        default="",
        description="plain, or with the title drawn: headline or block. Empty: what an experiment of the channel "
        "assigns, else plain.",
    )


@table_asset(
    YOUTUBE_THUMBNAILS,
    partitions_def=SOURCE_VIDEO,
    group_name="publishing",
    kinds={"youtube", "jpeg"},
    deps=["thumbnails"],
    pool="publish_youtube",
)
def youtube_thumbnails(
    context: dg.AssetExecutionContext,
    config: ThumbnailConfig,
    youtube_publications: pd.DataFrame,
    store: StoreResource,
    state: StateResource,
    youtube: YouTubeResource,
) -> dg.MaterializeResult[pd.DataFrame]:
    """The upright picture of the published video, set as its thumbnail on YouTube, once for each picture chosen.

    Why: the picture decides whether anybody looks. It is set after the post and apart from it: whatever happens here,
    nothing is posted. Running this again with another `rank` or `variant` changes the picture.

    When it fails: `youtube_forbidden` means that the channel may not have thumbnails of its own, which a verified
    telephone number changes. While the video is being processed, `waits_for` says so and the picture is set by the
    follow-up.
    """
    with failure_policy(context, op_retries=0):
        from ettametta_pipelines.publishing.admission import assigned_thumbnail
        from ettametta_pipelines.publishing.thumbnail import choose_picture, pictures_of, show_by

        post = plain_rows(youtube_publications)[0]
        workshop = _workshop(context, state, store)
        # One that a person chose takes no part in an experiment.
        variant = config.variant or (
            assigned_thumbnail(workshop.db, get_settings(), post["account"], post["source_id"]) or "plain"
        )
        pictures = pictures_of(workshop.store, context.partition_key)
        picture = choose_picture(pictures, "9x16", rank=config.rank, variant=variant)
        done = show_by(workshop, youtube.app(), post["publication_id"], picture)
        row = {
            "source_id": post["source_id"],
            "publication_id": done.publication_id,
            "object_key": picture.object_key if picture else None,
            "sha256": picture.sha256 if picture else None,
            "is_set": not done.waits_for,
            "set_now": done.set_now,
        }
        facts: dict[str, Any] = {"set_now": done.set_now, "picture": row["object_key"] or "none"}
        facts["vendor"] = get_settings().endpoint("google").standing
        if done.waits_for:
            facts["waits_for"] = done.waits_for
        return dg.MaterializeResult(value=YOUTUBE_THUMBNAILS.frame([row]), metadata=facts)


@table_asset(
    TIKTOK_PUBLICATIONS,
    partitions_def=SOURCE_VIDEO,
    group_name="publishing",
    kinds={"tiktok"},
    pool="publish_tiktok",
    check_specs=[_published_spec("tiktok_publications"), _not_before_spec("tiktok_publications")],
)
def tiktok_publications(
    context: dg.AssetExecutionContext,
    config: PublicationConfig,
    rendition_9x16: pd.DataFrame,
    source_media: pd.DataFrame,
    store: StoreResource,
    state: StateResource,
    tiktok: TikTokResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """The vertical rendition as a post on the account's TikTok, visible to its owner only unless configured otherwise.

    Why: the second channel of the same video, with its own ledger row. Running this again never posts again. TikTok
    names a post's id only when it is public, so a private post has none here. Where the channel's policy is manual,
    only a post that a person has approved is made: in publication_approvals, or here with `approve`.

    When it fails: without an approval it says how to give one; without a right or a channel the message says what to
    declare or connect; `privacy_not_offered` lists what TikTok offers the creator today. If the check `published`
    fails, do what it says.
    """
    with failure_policy(context, op_retries=0):
        from ettametta_pipelines.publishing import tiktok_upload

        started = utc_now()
        order = _admitted(context, "tiktok", source_media, rendition_9x16, config, state)
        workshop = _workshop(context, state, store)
        evidence = _evidence(workshop, order, rendition_9x16, source_media)
        outcome = tiktok_upload.publish(workshop, tiktok.app(), order)
        seconds = (utc_now() - started).total_seconds()
        return _told(
            TIKTOK_PUBLICATIONS, outcome, "tiktok", seconds, order, evidence, _lasts_s(rendition_9x16)
        )


@table_asset(
    PUBLICATION_METRICS,
    partitions_def=DAY,
    group_name="publishing",
    kinds={"youtube", "tiktok"},
    deps=[
        dg.AssetDep("youtube_publications", partition_mapping=dg.AllPartitionMapping()),
        dg.AssetDep("tiktok_publications", partition_mapping=dg.AllPartitionMapping()),
    ],
    check_specs=[
        dg.AssetCheckSpec(
            ANSWERED_CHECK,
            asset="publication_metrics",
            description="Every connected channel with posts gave its figures.",
        )
    ],
)
def publication_metrics(
    context: dg.AssetExecutionContext,
    store: StoreResource,
    state: StateResource,
    youtube: YouTubeResource,
    tiktok: TikTokResource,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    """Views, likes, comments and shares of our own posts, as the platforms show them when this runs.

    Why: what a post earns in attention decides what is made next. The platforms tell figures of now only, so a past
    day cannot be read later: `observed_at` says when a row was read. Posts without public figures are counted in
    `unseen`, those among them that TikTok has forgotten in `forgotten`.

    When it fails: `day_is_over` is no loss, what was read on that day stays; `reauth_required` asks to connect a
    channel again; an exhausted quota comes back at midnight Pacific. One channel's trouble does not stop the others;
    it is named in the check.
    """
    with failure_policy(context):
        from datetime import date

        from ettametta_pipelines.publishing.metrics import observe_posts

        started = utc_now()
        seen = observe_posts(
            _workshop(context, state, store),
            {"youtube": youtube.app(), "tiktok": tiktok.app()},
            date.fromisoformat(context.partition_key),
            get_settings().timezone,
        )
        frame = PUBLICATION_METRICS.frame(seen.rows)
        return dg.MaterializeResult(
            value=frame,
            metadata={
                "posts": len(frame),
                "unseen": seen.unseen,
                "forgotten": seen.forgotten,
                "channels": seen.channels,
                "vendor_youtube": get_settings().endpoint("google").standing,
                "vendor_tiktok": get_settings().endpoint("tiktok").standing,
                "views": int(frame["views"].sum()),
                "took_s": (utc_now() - started).total_seconds(),
                "preview": dg.MetadataValue.md(_best_posts(frame)),
            },
            check_results=[
                dg.AssetCheckResult(
                    check_name=ANSWERED_CHECK,
                    passed=not seen.problems,
                    severity=dg.AssetCheckSeverity.WARN,
                    description="; ".join(seen.problems) or None,
                )
            ],
        )


def _best_posts(frame: pd.DataFrame) -> str:
    """Markdown table of the ten most viewed posts."""
    best = plain_rows(frame.sort_values("views", ascending=False).head(10))
    return markdown_table(
        ("platform", "source", *FIGURES),
        [
            [cell(row["platform"]), cell(row["source_id"]), *(number(row[name]) for name in FIGURES)]
            for row in best
        ],
    )


ASSETS = [youtube_publications, youtube_thumbnails, tiktok_publications, publication_metrics]
