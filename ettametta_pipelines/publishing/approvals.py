"""Whether a post may be made: a person's decision on exactly this file, these words and these flags.

Decisions are only ever added; of one post the newest stands. A rendition that is made again, other words or another
flag is something else than what was approved, and is refused with what differs. Channels whose policy is automatic
need no decision, but obey one. Called by the publishing assets before anything is sent, and by the queue.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.publishing.delivery import Order
from ettametta_pipelines.publishing.ledger import State
from ettametta_pipelines.publishing.offers import Offer, keep_offer
from ettametta_pipelines.publishing.orders import Wishes, order_for
from ettametta_pipelines.publishing.policy import ChannelPolicy
from ettametta_pipelines.publishing.variants import Assigned, PostName, assign, with_variants
from ettametta_pipelines.state.models import Publication, PublicationDecision
from ettametta_pipelines.state.session import StateDatabase

APPROVE, REJECT, HOLD = "approve", "reject", "hold"
# Nothing of the post has left: a decision still decides. Later the ledger only finds out what became of it.
UNDECIDED_STATES = frozenset({State.PLANNED, State.SESSION_OPEN})
_WORDS_OF = {"sha256": "the file"}
# What an offer can make too long, or may not stand in at all.
_OFFER_DOES_NOT_FIT = frozenset({"bad_title", "bad_description", "bad_privacy", "paid_promotion_private"})


@dataclass(frozen=True)
class Proposal:
    """A post as it would be made: what is shown to be approved, and what is then posted."""

    order: Order
    wishes: Wishes
    arms: list[Assigned] = field(default_factory=list)
    offer: Offer | None = None

    @property
    def name(self) -> PostName:
        order = self.order
        return PostName(order.post.platform, order.account, order.rendition.source_id, order.intent_no)

    @property
    def content(self) -> dict[str, Any]:
        """Everything an approval covers, as JSON-able values."""
        post = vars(self.order.post) | {"tags": list(self.order.post.tags)}
        return {"sha256": self.order.rendition.sha256, **post}

    @property
    def content_hash(self) -> str:
        return hashlib.sha256(json.dumps(self.content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Request:
    """What one asks about: rows of `source_media` and `rendition_9x16`, and whether people will see the post.

    `offer` is what the post offers, if it has room for it.
    """

    platform: str
    source: Mapping[str, Any]
    rendition: Mapping[str, Any]
    policy: ChannelPolicy
    live: bool = False
    run_id: str | None = None
    offer: Offer | None = None

    def name(self, intent_no: int) -> PostName:
        return PostName(self.platform, self.source["account"], self.source["source_id"], intent_no)


def propose(request: Request, wishes: Wishes) -> Proposal:
    """The post of these wishes, filled up from the channel's policy and experiments. Raises as `order_for`."""
    name = request.name(wishes.intent_no)
    arms = assign(request.policy, name, request.source["title"], wishes)
    wishes = with_variants(wishes, arms)
    known = {tag.casefold() for tag in wishes.tags}
    added = [tag for tag in request.policy.hashtags if tag.casefold() not in known]
    wishes = replace(wishes, privacy=wishes.privacy or request.policy.privacy, tags=(*wishes.tags, *added))
    return _proposal(request, wishes, arms)


def proposal_of(request: Request, decision: PublicationDecision) -> Proposal:
    """The post with the very words that were approved, and today's file, credit and flags."""
    stored = decision.wishes | {"tags": tuple(decision.wishes["tags"])}
    wishes = Wishes(**stored)
    return _proposal(request, wishes, [Assigned(**arm) for arm in decision.arms])


def says_nothing(wishes: Wishes) -> bool:
    """Whether nobody chose a word or a flag, so that what was approved, or else the policy, holds."""
    silent = Wishes(intent_no=wishes.intent_no, live_remote_id=wishes.live_remote_id)
    return replace(wishes, tags=tuple(wishes.tags)) == silent


def _proposal(request: Request, wishes: Wishes, arms: list[Assigned]) -> Proposal:
    """The post with its offer; without it, saying so, where the platform takes the post only then."""
    if request.offer is None:
        return Proposal(_order(request, wishes), wishes, arms)
    try:
        return Proposal(_order(request, wishes, request.offer), wishes, arms, request.offer)
    except PermanentError as error:
        if error.code not in _OFFER_DOES_NOT_FIT:
            raise
        left_out = f"{request.offer.label} is left out: {error.message}"
    return Proposal(replace(_order(request, wishes), offer_left_out=left_out), wishes, arms)


def _order(request: Request, wishes: Wishes, offer: Offer | None = None) -> Order:
    return order_for(
        request.platform,
        request.source,
        request.rendition,
        wishes,
        request_id=request.run_id,
        live=request.live,
        offer=offer,
    )


def decide(
    db: StateDatabase,
    proposal: Proposal,
    decision: str,
    *,
    by: str,
    run_id: str | None,
    not_before: datetime | None = None,
    comment: str = "",
    niche: str = "",
) -> PublicationDecision:
    """Add a decision on this post to the record; an approval also fixes what it offers, in posts of `niche`."""
    with db.session() as session:
        row = PublicationDecision(
            **proposal.name.columns(),
            decision=decision,
            sha256=proposal.order.rendition.sha256,
            content_hash=proposal.content_hash,
            post=proposal.content,
            wishes=asdict(replace(proposal.wishes, live_remote_id="")) | {"tags": list(proposal.wishes.tags)},
            arms=[vars(arm) for arm in proposal.arms],
            not_before=not_before,
            comment=comment,
            decided_by=by,
            run_id=run_id,
            decided_at=db.now(session),
        )
        session.add(row)
        if decision == APPROVE:
            keep_offer(db, session, proposal.name, niche, proposal.offer)
        session.flush()
    return row


def standing(session: Session, name: PostName) -> PublicationDecision | None:
    """The newest decision on this post."""
    return session.scalars(
        sa.select(PublicationDecision)
        .where(
            PublicationDecision.platform == name.platform,
            PublicationDecision.account_id == name.account,
            PublicationDecision.content_id == name.source_id,
            PublicationDecision.intent_no == name.intent_no,
        )
        .order_by(PublicationDecision.id.desc())
        .limit(1)
    ).first()


def decisions_on(db: StateDatabase, source_id: str) -> list[PublicationDecision]:
    """Every decision on posts of a source video, newest first."""
    with db.session(write=False) as session:
        return list(
            session.scalars(
                sa.select(PublicationDecision)
                .where(PublicationDecision.content_id == source_id)
                .order_by(PublicationDecision.id.desc())
            )
        )


def admit(
    db: StateDatabase, request: Request, wishes: Wishes, *, approve: bool = False, by: str = ""
) -> Proposal:
    """The post to be made now. `approve` is a person's word, given with the run, and is recorded.

    Without words of its own a run posts what was approved. Raises NeedsPersonError `approval_missing`,
    `approval_outdated` or `post_not_wanted`, and what composing the post raises. A post that may be on the platform
    already is not stopped any more: what is left to do is to find out.
    """
    name = request.name(wishes.intent_no)
    with db.session(write=False) as session:
        decision = standing(session, name)
        state = _state_of(session, name)
    approved = decision if decision is not None and decision.decision == APPROVE else None
    if approved is not None and says_nothing(wishes):
        proposal = proposal_of(request, approved)
        proposal = replace(
            proposal, order=replace(proposal.order, live_remote_id=wishes.live_remote_id.strip())
        )
    else:
        proposal = propose(request, wishes)
    if state is not None and state not in UNDECIDED_STATES:
        return replace(proposal, arms=[])
    if approve:
        if approved is None or approved.content_hash != proposal.content_hash:
            decide(
                db, proposal, APPROVE, by=by, run_id=request.run_id, comment="with the run that posts it",
                niche=request.source["niche"],
            )  # fmt: skip
        return proposal
    if decision is not None and approved is None:
        raise _not_wanted(decision)
    # The words went out when the session was opened; the file is the one it began with.
    if state == State.SESSION_OPEN or (request.policy.approval == "automatic" and approved is None):
        return proposal
    if approved is None:
        raise _missing(name)
    if approved.content_hash != proposal.content_hash:
        raise _outdated(approved, proposal)
    return proposal


def _state_of(session: Session, name: PostName) -> State | None:
    state = session.scalar(
        sa.select(Publication.state)
        .where(
            Publication.platform == name.platform,
            Publication.account_id == name.account,
            Publication.content_id == name.source_id,
            Publication.intent_no == name.intent_no,
        )
        .order_by(Publication.created_at.desc())
        .limit(1)
    )
    return None if state is None else State(state)


def differences(decision: PublicationDecision, proposal: Proposal) -> list[str]:
    """What of the post is not as it was approved, in words an operator knows."""
    now = proposal.content
    return [_WORDS_OF.get(key, key) for key in now if now[key] != decision.post.get(key)]


def _missing(name: PostName) -> NeedsPersonError:
    return NeedsPersonError(
        f"Nobody has approved the post of {name.source_id} on {name.platform} ({name.account}).",
        code="approval_missing",
        remedy=f"Materialize publication_approvals of {name.source_id} with decision `approve`, or launch this with "
        "`approve: true`.",
    )


def _outdated(decision: PublicationDecision, proposal: Proposal) -> NeedsPersonError:
    differ = differences(decision, proposal)
    again = "The rendition was made again after" if "the file" in differ else "The post has changed since"
    return NeedsPersonError(
        f"{again} {decision.decided_by} approved it on {decision.decided_at:%Y-%m-%d %H:%M} UTC; "
        f"not as approved: {', '.join(differ)}.",
        code="approval_outdated",
        remedy="Look at it in publication_approvals and approve it again, or launch this with `approve: true`.",
    )


def _not_wanted(decision: PublicationDecision) -> NeedsPersonError:
    said = {REJECT: "rejected it", HOLD: "put it on hold"}[decision.decision]
    comment = f": {decision.comment}" if decision.comment else ""
    return NeedsPersonError(
        f"{decision.decided_by} {said} on {decision.decided_at:%Y-%m-%d %H:%M} UTC{comment}.",
        code="post_not_wanted",
        remedy="Approve it in publication_approvals if it shall be posted after all.",
    )
