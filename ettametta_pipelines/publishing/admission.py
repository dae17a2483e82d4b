"""From a run of a publishing asset to the order it may carry out: the channel's rules, decisions, variants.

The one gate of every way to post: sensor, backfill, re-execution and the launchpad all pass it.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ettametta_pipelines.publishing.approvals import Request, admit
from ettametta_pipelines.publishing.delivery import Order
from ettametta_pipelines.publishing.offers import OfferBook, keep_offer
from ettametta_pipelines.publishing.orders import Wishes
from ettametta_pipelines.publishing.policy import load_channels
from ettametta_pipelines.publishing.variants import PostName, assign_thumbnail, record_variants
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.tags import USER_TAG

# The vendor whose standing says whether people see what is posted.
VENDOR_OF: Mapping[str, str] = {"youtube": "google", "tiktok": "tiktok"}


def admitted_order(
    db: StateDatabase,
    settings: Settings,
    platform: str,
    source: Mapping[str, Any],
    rendition: Mapping[str, Any],
    wishes: Wishes,
    *,
    approve: bool,
    run_id: str,
    tags: Mapping[str, str],
) -> Order:
    """The order to carry out now. Raises what `approvals.admit` raises; then nothing may be posted."""
    policy = load_channels(settings.channels_file).of(source["account"], platform)
    live, name = (
        platform in live_platforms(settings),
        PostName(platform, source["account"], source["source_id"]),
    )
    name = replace(name, intent_no=wishes.intent_no)
    with db.session(write=False) as session:
        offer = OfferBook(session, settings).offer(name, source["niche"], policy, live=live)
    request = Request(platform, source, rendition, policy, live, run_id, offer)
    proposal = admit(db, request, wishes, approve=approve, by=who(tags))
    with db.session() as session:
        keep_offer(db, session, name, source["niche"], proposal.offer)
    record_variants(db, proposal.name, proposal.arms)
    return proposal.order


def assigned_thumbnail(db: StateDatabase, settings: Settings, account: str, source_id: str) -> str | None:
    """Style of the picture a YouTube post is shown by (plain, headline or block), noted; None without an experiment.

    For whoever sets the picture and was not told which.
    """
    name = PostName("youtube", account, source_id)
    arms = assign_thumbnail(load_channels(settings.channels_file).of(account, "youtube"), name)
    record_variants(db, name, arms)
    return arms[-1].text if arms else None


def live_platforms(settings: Settings) -> frozenset[str]:
    """Platforms on which posts are seen by people, not by the sandbox."""
    return frozenset(p for p, vendor in VENDOR_OF.items() if settings.endpoint(vendor).mode == "live")


def who(tags: Mapping[str, str]) -> str:
    """Who launched a run with these tags, as far as it is known."""
    return tags.get(USER_TAG) or "an operator"
