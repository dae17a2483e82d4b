"""What waits to be posted, gathered for the queue: finished videos, decisions, channels, posts made, quotas.

`upcoming` is the queue as everybody shows it; `take_due` claims the posting times that have come, in the database and
before a run is asked for, so that a daemon that dies in between is made up for and two daemons do not post into one
slot. Reads the lake and the state database; posts nothing.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.clock import pacific_quota_day
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.publishing.approvals import APPROVE, HOLD, REJECT, Request, proposal_of, propose
from ettametta_pipelines.publishing.finished import UNFINISHED, waiting_rows
from ettametta_pipelines.publishing.ledger import BEFORE_THE_LAST_BYTE, UPLOAD_BUCKETS, State
from ettametta_pipelines.publishing.offers import OfferBook
from ettametta_pipelines.publishing.orders import Wishes
from ettametta_pipelines.publishing.policy import Channels
from ettametta_pipelines.publishing.queue import (
    ClosedUntil,
    Entry,
    Planned,
    QuotaLeft,
    Taken,
    plan,
    post_name,
)
from ettametta_pipelines.publishing.tokens import ACTIVE
from ettametta_pipelines.publishing.variants import PostName
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import (
    OAuthConnection,
    Publication,
    PublicationDecision,
    PublicationSlot,
)
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent
from ettametta_pipelines.storage.objects import ObjectStore

Row = Mapping[str, Any]

WAITING_FOR_APPROVAL = "waiting for approval"
# A run that has not posted by then has failed, or was never started.
RUN_MAY_TAKE = timedelta(hours=1)
MAX_ATTEMPTS = 3
# Caps count a local day and 24 hours back; nothing older matters.
LOOKED_BACK = timedelta(hours=50)
# More source videos than this are not named in a query, but all of them read.
MOST_NAMED = 5000


@dataclass(frozen=True)
class Backlog:
    """What `plan` takes: the entries, the times gone, and what is left of uploads all accounts share."""

    entries: list[Entry]
    taken: list[Taken]
    quota_left: QuotaLeft
    closed_until: ClosedUntil


@dataclass(frozen=True)
class Claimed:
    """A posting time taken for a post, whose run has `run_key`."""

    name: PostName
    slot_at: datetime
    run_key: str


def upcoming(
    store: ObjectStore,
    db: StateDatabase,
    channels: Channels,
    now: datetime,
    *,
    live: frozenset[str] = frozenset(),
    as_approved: str = "",
) -> list[Planned]:
    """The queue at `now`: what is posted when, then what is held and why. `live` names platforms people see.

    Posts of the source video `as_approved` count as approved. Costs what waits, not what is posted.
    """
    sources, renditions = waiting_rows(store, db, known_platforms(db, channels))
    backlog = gather(db, sources, renditions, channels, now, live=live, as_approved=as_approved)
    return plan(backlog.entries, backlog.taken, channels, now, backlog.quota_left, backlog.closed_until)


def known_platforms(db: StateDatabase, channels: Channels) -> dict[str, list[str]]:
    """Account -> platforms it has a channel on, or is meant to have one."""
    with db.session(write=False) as session:
        known = {
            tuple(row)
            for row in session.execute(sa.select(OAuthConnection.account_id, OAuthConnection.platform))
        }
    found: dict[str, list[str]] = {}
    for account, platform in sorted(known | set(channels.channels)):
        found.setdefault(account, []).append(platform)
    return found


def may_post(db: StateDatabase, channels: Channels) -> bool:
    """Whether anything could be due: an automatic channel, or an approved post that is not made.

    Cheap, where `upcoming` reads the row of every video that waits.
    """
    if any(policy.approval == "automatic" for policy in (channels.defaults, *channels.channels.values())):
        return True
    made = sa.exists().where(
        Publication.platform == PublicationDecision.platform,
        Publication.account_id == PublicationDecision.account_id,
        Publication.content_id == PublicationDecision.content_id,
        Publication.intent_no == PublicationDecision.intent_no,
        Publication.state.not_in(sorted(UNFINISHED)),
    )
    with db.session(write=False) as session:
        approved = sa.select(PublicationDecision.id).where(PublicationDecision.decision == APPROVE, ~made)
        return session.scalar(approved.limit(1)) is not None


def gather(
    db: StateDatabase,
    sources: Iterable[Row],
    renditions: Iterable[Row],
    channels: Channels,
    now: datetime,
    *,
    live: frozenset[str] = frozenset(),
    as_approved: str = "",
) -> Backlog:
    """Entries of every finished video on every channel of its account that it is not posted on.

    Posts of the source video `as_approved` count as approved: that shows when they would be made.
    """
    source_of = {row["source_id"]: row for row in sources}
    platforms_of = known_platforms(db, channels)
    with db.session(write=False) as session:
        desk = _Desk(session, frozenset(source_of), channels, now, live, as_approved)
    entries = [
        entry
        for rendition in renditions
        if (source := source_of.get(rendition["source_id"])) is not None
        for platform in platforms_of.get(source["account"], ())
        if (entry := desk.entry(platform, source, rendition)) is not None
    ]
    return Backlog(entries, desk.taken(), desk.quota_left(db), desk.closed_until())


def take_due(db: StateDatabase, planned: Sequence[Planned], now: datetime) -> list[Claimed]:
    """Claim the times that have come. What another process claimed first is left out."""
    with db.session() as session:
        claimed = [
            claim
            for p in planned
            if p.is_due(now)
            and p.at is not None
            and (claim := _claim(session, p.entry, p.at, db.now(session)))
        ]
    return claimed


def recent_claims(db: StateDatabase, now: datetime) -> list[Claimed]:
    """Claims young enough that their run may be missing because a daemon died before it asked for it."""
    with db.session(write=False) as session:
        rows = session.scalars(
            sa.select(PublicationSlot)
            .where(PublicationSlot.taken_at > now - RUN_MAY_TAKE)
            .order_by(PublicationSlot.slot_at, PublicationSlot.id)
        ).all()
    return [
        Claimed(
            PostName(row.platform, row.account_id, row.content_id, row.intent_no), row.slot_at, row.run_key
        )
        for row in rows
    ]


def _claim(session: Session, entry: Entry, at: datetime, now: datetime) -> Claimed | None:
    name = PostName(entry.platform, entry.account, entry.source_id, entry.intent_no)
    same = (
        PublicationSlot.platform == name.platform,
        PublicationSlot.account_id == name.account,
        PublicationSlot.content_id == name.source_id,
        PublicationSlot.intent_no == name.intent_no,
    )
    last = session.scalar(sa.select(sa.func.max(PublicationSlot.attempt)).where(*same))
    run_key = f"post:{name.platform}:{name.source_id}:{name.intent_no}:{at:%Y-%m-%dT%H:%M:%SZ}"
    row = name.columns() | {"attempt": (last or 0) + 1, "slot_at": at, "run_key": run_key, "taken_at": now}
    return Claimed(name, at, run_key) if insert_if_absent(session, PublicationSlot, row) else None


class _Desk:
    """What the state knows about posts of these source videos, and about those of late; read in one transaction."""

    def __init__(
        self,
        session: Session,
        sources: frozenset[str],
        channels: Channels,
        now: datetime,
        live: frozenset[str],
        as_approved: str,
    ) -> None:
        self._channels = channels
        self._now = now
        self._live = live
        self._as_approved = as_approved
        self._offers = OfferBook(session, get_settings())
        self._status = {
            (row.account_id, row.platform): row.status
            for row in session.scalars(sa.select(OAuthConnection).order_by(OAuthConnection.platform))
        }
        named = sorted(sources | _of_late(session, now - LOOKED_BACK))
        self._decisions = {
            _key(row): row
            for row in session.scalars(
                sa.select(PublicationDecision)
                .where(_is_of(PublicationDecision, named))
                .order_by(PublicationDecision.intent_no, PublicationDecision.id)
            )
        }
        self._posts = {
            _key(row): row
            for row in session.scalars(
                sa.select(Publication)
                .where(_is_of(Publication, named))
                .order_by(Publication.intent_no, Publication.created_at)
            )
        }
        self._claims: dict[tuple[str, str, str], list[PublicationSlot]] = {}
        for claim in session.scalars(
            sa.select(PublicationSlot).where(_is_of(PublicationSlot, named)).order_by(PublicationSlot.id)
        ):
            self._claims.setdefault(_key(claim), []).append(claim)

    def entry(self, platform: str, source: Row, rendition: Row) -> Entry | None:
        """The entry of one video on one channel; None when it is posted, rejected, or a person's to settle."""
        key = (platform, source["account"], source["source_id"])
        decision, post = self._decisions.get(key), self._posts.get(key)
        intent_no = max(decision.intent_no if decision else 1, post.intent_no if post else 1)
        if decision is not None and decision.intent_no < intent_no:
            decision = None
        if post is not None and post.intent_no == intent_no and State(post.state) not in UNFINISHED:
            return None
        if decision is not None and decision.decision == REJECT:
            return None
        told_to_wait = _told_to_wait(post) if post is not None and post.intent_no == intent_no else None
        tries = [
            claim
            for claim in self._claims.get(key, ())
            if claim.intent_no == intent_no
            and (decision is None or claim.taken_at > decision.decided_at)
            # A try that met a closed channel says nothing about the post.
            and (told_to_wait is None or claim.taken_at > told_to_wait)
        ]
        return Entry(
            platform=platform,
            account=source["account"],
            source_id=source["source_id"],
            title=decision.post["title"] if decision else source["title"],
            ready_at=source["accepted_at"],
            intent_no=intent_no,
            sha256=rendition["sha256"],
            object_key=rendition["object_key"],
            not_before=decision.not_before if decision else None,
            held=self._held(platform, source, rendition, decision, tries),
            attempts=len(tries),
        )

    def _held(
        self,
        platform: str,
        source: Row,
        rendition: Row,
        decision: PublicationDecision | None,
        tries: list[PublicationSlot],
    ) -> str:
        """Why it cannot be planned; empty when it can."""
        status = self._status.get((source["account"], platform))
        if status != ACTIVE:
            return "the channel is not connected" if status is None else "the channel must be connected again"
        if tries and tries[-1].taken_at > self._now - RUN_MAY_TAKE:
            return "being posted"
        if len(tries) >= MAX_ATTEMPTS:
            return f"its run failed {len(tries)} times: see the last one, then approve it again"
        if decision is not None and decision.decision == HOLD:
            return f"on hold: {decision.comment}" if decision.comment else "on hold"
        policy = self._channels.of(source["account"], platform)
        live, intent_no = platform in self._live, decision.intent_no if decision else 1
        name = PostName(platform, source["account"], source["source_id"], intent_no)
        offer = self._offers.offer(name, source["niche"], policy, live=live)
        request = Request(platform, source, rendition, policy, live=live, offer=offer)
        try:
            if decision is not None and decision.decision == APPROVE:
                same = proposal_of(request, decision).content_hash == decision.content_hash
                return "" if same or self._approves(source) else _what_changed(decision, rendition)
            propose(request, Wishes())
        except PipelineError as error:
            return f"cannot be posted: {error.message}"
        return "" if policy.approval == "automatic" or self._approves(source) else WAITING_FOR_APPROVAL

    def _approves(self, source: Row) -> bool:
        return bool(source["source_id"] == self._as_approved)

    def taken(self) -> list[Taken]:
        """Posting times of the last days: claims, and posts that were made without one."""
        since = self._now - LOOKED_BACK
        claims = [
            Taken(c.platform, c.account_id, c.slot_at, post_name(c.content_id, c.intent_no))
            for claims in self._claims.values()
            for c in claims
            if c.slot_at > since
        ]
        by_hand = [
            Taken(post.platform, post.account_id, at, post_name(post.content_id, post.intent_no))
            for key, post in self._posts.items()
            if (at := post.first_mutation_at or post.session_opened_at) is not None
            and at > since
            and post.state != State.FAILED_DEFINITE
            and not any(claim.intent_no == post.intent_no for claim in self._claims.get(key, ()))
        ]
        return [*claims, *by_hand]

    def closed_until(self) -> ClosedUntil:
        """Channels that take no post before an instant, because their platform said so when one was tried."""
        closed: dict[tuple[str, str], datetime] = {}
        for (platform, account, _), post in self._posts.items():
            until = _told_to_wait(post)
            if until is not None and until > self._now:
                closed[account, platform] = max(until, closed.get((account, platform), until))
        return closed

    def quota_left(self, db: StateDatabase) -> QuotaLeft:
        """Uploads left today by the quota's own book, less those of claims that it does not know of yet."""
        today, granted = pacific_quota_day(self._now), quota.daily_limits()
        left = {
            (u.vendor, u.bucket): max(0, u.left) for u in quota.usage(db, today) if u.vendor in UPLOAD_BUCKETS
        }
        unbooked = Counter(
            claims[-1].platform
            for key, claims in self._claims.items()
            if claims[-1].taken_at > self._now - RUN_MAY_TAKE and key not in self._posts
        )

        def left_on(platform: str, day: date) -> int | None:
            bucket = UPLOAD_BUCKETS.get(platform)
            if bucket is None:
                return None
            return left[bucket] - unbooked[platform] if day == today else granted[bucket]

        return left_on


def _of_late(session: Session, since: datetime) -> frozenset[str]:
    """Source videos with a posting time or a post since then: these count under caps."""
    posted = sa.func.coalesce(Publication.first_mutation_at, Publication.session_opened_at)
    claimed = sa.or_(PublicationSlot.slot_at > since, PublicationSlot.taken_at > since)
    return frozenset(
        [
            *session.scalars(sa.select(Publication.content_id).where(posted > since)),
            *session.scalars(sa.select(PublicationSlot.content_id).where(claimed)),
        ]
    )


def _is_of(
    model: type[Publication] | type[PublicationDecision] | type[PublicationSlot], sources: list[str]
) -> sa.ColumnElement[bool]:
    return model.content_id.in_(sources) if len(sources) <= MOST_NAMED else sa.true()


def _key(row: Any) -> tuple[str, str, str]:
    return row.platform, row.account_id, row.content_id


def _told_to_wait(post: Publication) -> datetime | None:
    """Until when the platform wants no post of the channel, as it told this one; later it is a look's own time."""
    return post.next_check_at if State(post.state) in BEFORE_THE_LAST_BYTE else None


def _what_changed(decision: PublicationDecision, rendition: Row) -> str:
    made_again = decision.sha256 != rendition["sha256"]
    what = "the video was made again" if made_again else "the post has changed"
    return f"{what} since its approval: approve it again"
