"""The publication ledger: every post is claimed here before anything is sent, and every step is written first.

One row is one intent to post one source video on one channel. Dagster runs steps again whenever it likes; that a
video is nevertheless posted once rests on this file alone: unique intents, one lease at a time, writes that name the
fence they were claimed under, and states that say which call may follow. No platform is known here; what is sent in
which state is in `youtube_upload.py` and `tiktok_upload.py`.
"""

import hashlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from ettametta_pipelines.clock import Clock, pacific_quota_day
from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.redaction import redact
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import DatabaseNow, Publication, PublicationEvent
from ettametta_pipelines.state.quota import Reservation
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

# More than twice the longest single call: a lease that runs out under a living worker costs a wasted claim.
LEASE_S = 300.0
# A platform that asks for less is asked again by the queue in its own time.
LONG_WAIT_S = 3600.0
# No cap and no quota lasts longer than a day; whoever says so is asked again tomorrow.
LONGEST_WAIT_S = 86_400.0


class State(StrEnum):
    """Where a publication stands. `FINALIZING` is the line: from there on the post may exist."""

    PLANNED = "PLANNED"
    SESSION_OPEN = "SESSION_OPEN"
    FINALIZING = "FINALIZING"
    PROCESSING = "PROCESSING"
    RECONCILING = "RECONCILING"
    PUBLISHED = "PUBLISHED"
    FAILED_DEFINITE = "FAILED_DEFINITE"
    NEEDS_REVIEW = "NEEDS_REVIEW"
    INCIDENT = "INCIDENT"


# What may follow what. No way leads from FINALIZING or later back to a state in which a session is opened.
TRANSITIONS: Mapping[State, frozenset[State]] = {
    # FINALIZING, PROCESSING and INCIDENT: the post was on its way or there already, although this database, restored
    # from an older copy, did not know.
    State.PLANNED: frozenset(
        {
            State.SESSION_OPEN,
            State.FINALIZING,
            State.PROCESSING,
            State.FAILED_DEFINITE,
            State.INCIDENT,
        }
    ),
    State.SESSION_OPEN: frozenset({State.PLANNED, State.FINALIZING, State.PROCESSING, State.FAILED_DEFINITE}),
    # PUBLISHED: no worker can finish it, and a person has found it.
    State.FINALIZING: frozenset(
        {State.PROCESSING, State.RECONCILING, State.PUBLISHED, State.FAILED_DEFINITE, State.NEEDS_REVIEW}
    ),
    State.PROCESSING: frozenset(
        {State.PUBLISHED, State.RECONCILING, State.FAILED_DEFINITE, State.NEEDS_REVIEW}
    ),
    # FINALIZING: the very upload answers again, and says that bytes are missing.
    State.RECONCILING: frozenset(
        {
            State.FINALIZING,
            State.PROCESSING,
            State.PUBLISHED,
            State.FAILED_DEFINITE,
            State.NEEDS_REVIEW,
            State.INCIDENT,
        }
    ),
    # A person has looked: it is live, or it is not and a new intent may be made.
    State.NEEDS_REVIEW: frozenset({State.PUBLISHED, State.FAILED_DEFINITE}),
    State.INCIDENT: frozenset({State.PUBLISHED}),
    State.PUBLISHED: frozenset(),
    State.FAILED_DEFINITE: frozenset(),
}
SETTLED = frozenset({State.PUBLISHED, State.FAILED_DEFINITE, State.NEEDS_REVIEW, State.INCIDENT})
BEFORE_THE_LAST_BYTE = frozenset({State.PLANNED, State.SESSION_OPEN})
IN_DOUBT = frozenset({State.FINALIZING, State.RECONCILING, State.NEEDS_REVIEW, State.INCIDENT})
ON_THE_PLATFORM = frozenset({State.PROCESSING, State.PUBLISHED})

# The vendor bucket an upload takes one slot of, by platform.
UPLOAD_BUCKETS: Mapping[str, tuple[str, str]] = {"youtube": ("youtube", "videos_insert")}


class IllegalTransition(PipelineError):
    """The code tried a step its state does not allow; nothing was written."""


class PublicationBusy(TransientError):
    """Another worker holds the lease. `retry_after_s` is when it ends at the latest."""


class LeaseLost(PipelineError):
    """Somebody else has claimed the publication meanwhile; this worker must not act on it any more.

    Neither transient nor the platform's refusal, so that no `except` for those takes it for one.
    """


@dataclass(frozen=True)
class Intent:
    """What is to be posted where. `intent_no` is 1 unless a person ordered the same video to be posted again.

    `wishes` is the run configuration it was ordered with, kept for runs that nobody orders.
    """

    platform: str
    account: str
    channel_id: str
    content_id: str
    object_key: str
    sha256: str
    size_bytes: int
    title: str
    privacy: str
    intent_no: int = 1
    request_id: str | None = None
    wishes: Mapping[str, Any] | None = None

    @property
    def publication_id(self) -> str:
        """Follows from what is posted where, so that a ledger restored from a backup arrives at the same one."""
        return _publication_id(self.platform, self.channel_id, self.content_id, self.intent_no)

    @property
    def marker(self) -> str:
        """Token in the description by which the post is found on the channel again."""
        return f"ref-{self.publication_id[:12]}"


@dataclass(frozen=True)
class Claim:
    """The right to act on one publication until the lease ends or somebody claims it under a higher fence."""

    publication_id: str
    fence: int
    owner: str


class Ledger:
    """The ledger as one worker sees it. `owner` names the worker in leases and in the audit trail."""

    def __init__(
        self,
        db: StateDatabase,
        envelope: Envelope,
        *,
        clock: Clock,
        owner: str | None = None,
        lease_s: float = LEASE_S,
    ) -> None:
        self._db = db
        self._envelope = envelope
        self._clock = clock
        self._lease_s = lease_s
        self.owner = owner or f"{socket.gethostname()}:{os.getpid()}"

    def plan(self, intent: Intent, *, in_place_of_one_in_review: bool = False) -> Publication:
        """The row of this intent, made if there is none, together with its slot of the upload quota.

        A row that is still PLANNED follows the newest rendition; a later one keeps the file it began with. Raises
        QuotaExhausted, and NeedsPersonError when a repetition is ordered while the post before it is unsettled, or,
        `in_place_of_one_in_review`, was answered for meanwhile.
        """
        with self._db.session() as session:
            if intent.intent_no != 1:
                self._settle_predecessor(session, intent, in_place_of_one_in_review)
            if insert_if_absent(session, Publication, self._new_row(session, intent)):
                self._reserve_slot(session, intent)
                self._note(session, intent.publication_id, None, State.PLANNED, 0, "planned", {})
            else:
                session.execute(
                    sa.update(Publication)
                    .where(
                        Publication.id == intent.publication_id,
                        Publication.state == State.PLANNED,
                        Publication.lease_owner.is_(None),
                    )
                    .values(_file_columns(intent))
                )
            return self._row(session, intent.publication_id)

    def get(self, publication_id: str) -> Publication:
        """The row as it is now. Raises PermanentError `unknown_publication`."""
        with self._db.session(write=False) as session:
            return self._row(session, publication_id)

    @contextmanager
    def claimed(self, publication_id: str) -> Iterator[Claim]:
        """Hold the publication for the block. Only a worker that is killed leaves its lease to run out."""
        claim = self.claim(publication_id)
        try:
            yield claim
        finally:
            self.let_go(claim)

    def claim(self, publication_id: str) -> Claim:
        """Take the lease if nobody has it, raising the fence. One statement decides; else PublicationBusy."""
        with self._db.session() as session:
            fence = session.scalar(
                sa.update(Publication)
                .where(
                    Publication.id == publication_id,
                    sa.or_(Publication.lease_owner.is_(None), Publication.lease_until < DatabaseNow()),
                )
                .values(
                    lease_owner=self.owner,
                    lease_until=DatabaseNow(self._lease_s),
                    fence=Publication.fence + 1,
                    attempts=Publication.attempts + 1,
                )
                .returning(Publication.fence)
            )
            if fence is None:
                raise self._busy(session, publication_id)
        return Claim(publication_id, fence, self.owner)

    def renew(self, claim: Claim, *, received_bytes: int | None = None) -> None:
        """Lengthen the lease before the next call, noting how much has arrived. Raises LeaseLost."""
        columns: dict[str, Any] = {"lease_until": DatabaseNow(self._lease_s)}
        if received_bytes is not None:
            columns["received_bytes"] = received_bytes
        with self._db.session() as session:
            self._write(session, claim, columns)

    def let_go(self, claim: Claim) -> None:
        """Give the lease back. Quietly nothing when it was lost before."""
        with self._db.session() as session:
            session.execute(
                sa.update(Publication)
                .where(Publication.id == claim.publication_id, Publication.fence == claim.fence)
                .values(lease_owner=None, lease_until=None)
            )

    def advance(
        self,
        claim: Claim,
        to: State,
        *,
        reason: str,
        detail: Mapping[str, Any] | None = None,
        handle: Mapping[str, str] | None = None,
        **columns: Any,
    ) -> Publication:
        """Move the publication on, with its audit row, in one transaction under the claim's fence.

        `handle` (session URI, upload URL, publish id) is stored encrypted. `columns` are set as given; `detail` goes
        into the audit trail and holds no secret. An error noted before is cleared. Raises IllegalTransition, LeaseLost.
        """
        with self._db.session() as session:
            row = self._held_row(session, claim)
            before = State(row.state)
            if to not in TRANSITIONS[before]:
                raise IllegalTransition(
                    f"Publication {row.id} cannot go from {before} to {to}.",
                    code="illegal_transition",
                    remedy="Report this with the output of `ettametta trace`; nothing was sent or changed.",
                )
            cleared = {"error_code": None, "error_message": None}
            if before in BEFORE_THE_LAST_BYTE and to not in BEFORE_THE_LAST_BYTE:
                # What a platform asked to wait for before is over; the looks at the channel have a time of their own.
                cleared["next_check_at"] = None
            moved = {"state": to, "lease_until": DatabaseNow(self._lease_s)}
            columns = cleared | columns | _instants(row, to) | moved
            if handle is not None:
                columns["handle"] = self._seal(row, handle)
            if row.quota_day is not None:
                # Still reserved means never spent: this post needed no upload call.
                quota.release_in(session, _slot(row.platform, row.quota_day))
                columns["quota_day"] = None
            self._write_unique(session, claim, columns)
            self._note(session, row.id, before, to, claim.fence, reason, dict(detail or {}))
            return self._row(session, row.id)

    def spend_upload_slot(self, claim: Claim) -> None:
        """Count one upload against today's quota, right before the call. The slot reserved when planning is used.

        A slot of an earlier day is worth nothing today and is given back first. Raises QuotaExhausted.
        """
        with self._db.session() as session:
            row = self._held_row(session, claim)
            bucket = UPLOAD_BUCKETS.get(row.platform)
            if bucket is None:
                return
            today = pacific_quota_day(self._clock())
            if row.quota_day == today:
                slot = _slot(row.platform, today)
            else:
                if row.quota_day is not None:
                    quota.release_in(session, _slot(row.platform, row.quota_day))
                slot = quota.reserve_in(session, *bucket, 1, self._clock)
            quota.commit_in(session, slot)
            self._write(session, claim, {"quota_day": None})

    def note_trouble(self, claim: Claim, error: PipelineError) -> None:
        """Write down why a worker stopped without moving on. Nothing when the claim is lost: it is another's row.

        What takes no post for an hour or more, a channel at its cap or a project at its quota, is kept with its end
        (`next_check_at`), for the queue.
        """
        mine = sa.and_(Publication.id == claim.publication_id, Publication.fence == claim.fence)
        with self._db.session() as session:
            session.execute(
                sa.update(Publication)
                .where(mine)
                .values(error_code=error.code, error_message=redact(error.message))
            )
            if error.retry_after_s is not None and error.retry_after_s >= LONG_WAIT_S:
                session.execute(
                    sa.update(Publication)
                    .where(mine, Publication.state.in_(BEFORE_THE_LAST_BYTE))
                    .values(next_check_at=DatabaseNow(min(error.retry_after_s, LONGEST_WAIT_S)))
                )

    def note_remote_id(self, publication_id: str, remote_id: str, url: str | None) -> None:
        """Fill in the id of a published post that the platform tells only later."""
        with self._db.session() as session:
            session.execute(
                sa.update(Publication)
                .where(
                    Publication.id == publication_id,
                    Publication.state == State.PUBLISHED,
                    Publication.remote_id.is_(None),
                )
                .values(remote_id=remote_id, url=sa.func.coalesce(url, Publication.url))
            )

    def declare_live(self, publication_id: str, remote_id: str, *, url: str | None = None) -> Publication:
        """A person has found the post of a publication in doubt on the channel, with its page at `url`.

        Raises NeedsPersonError for a publication in another state, PublicationBusy while a worker is at it.
        """
        state = self.get(publication_id).state
        if state not in IN_DOUBT:
            raise NeedsPersonError(
                f"Publication {publication_id} is {state}, so there is nothing to settle by hand.",
                code="post_not_in_doubt",
                remedy="Run the publication without `live_remote_id`.",
            )
        with self.claimed(publication_id) as claim:
            return self.advance(claim, State.PUBLISHED, reason="declared_live", remote_id=remote_id, url=url)

    def count_check(self, claim: Claim, *, next_in: timedelta) -> int:
        """Note a look at the channel that found nothing; returns how many there were."""
        with self._db.session() as session:
            self._write(
                session,
                claim,
                {
                    "check_count": Publication.check_count + 1,
                    "next_check_at": DatabaseNow(next_in.total_seconds()),
                },
            )
            return self._row(session, claim.publication_id).check_count

    def look_is_due(self, claim: Claim) -> bool:
        """Whether the time of the next look at the channel has come, by the database's clock."""
        with self._db.session(write=False) as session:
            due = self._row(session, claim.publication_id).next_check_at
            return due is None or due <= self._db.now(session)

    def age_of_doubt(self, claim: Claim) -> timedelta:
        """How long ago the last byte was first allowed to leave, by the database's clock."""
        return self._since(claim, "first_mutation_at")

    def age_of_session(self, claim: Claim) -> timedelta:
        """How long ago the upload session was opened, by the database's clock."""
        return self._since(claim, "session_opened_at")

    def open_handle(self, publication: Publication) -> dict[str, str]:
        """The stored capability of the upload. Empty when there is none."""
        if publication.handle is None:
            return {}
        opened = self._envelope.open(
            publication.handle,
            account=publication.account_id,
            platform=publication.platform,
            column=_handle_column(publication.id),
        )
        return dict(json.loads(opened))

    def _since(self, claim: Claim, column: str) -> timedelta:
        with self._db.session(write=False) as session:
            row = self._row(session, claim.publication_id)
            return self._db.now(session) - (getattr(row, column) or row.created_at)

    def _settle_predecessor(self, session: Session, intent: Intent, must_be_in_review: bool) -> None:
        """A new intent is a person's word that the one before it is not live, or that a second post is wanted."""
        former = session.scalars(
            sa.select(Publication)
            .where(
                Publication.platform == intent.platform,
                Publication.content_id == intent.content_id,
                Publication.intent_no == intent.intent_no - 1,
                # The account may have had another channel then.
                sa.or_(Publication.channel_id == intent.channel_id, Publication.account_id == intent.account),
            )
            .order_by((Publication.channel_id == intent.channel_id).desc(), Publication.created_at.desc())
            .limit(1)
            # Somebody may be answering for it at this very moment.
            .with_for_update()
        ).first()
        if must_be_in_review and former is not None and former.state != State.NEEDS_REVIEW:
            raise not_in_review(former)
        if former is None or State(former.state) not in SETTLED:
            state = "does not exist" if former is None else f"is {former.state}"
            raise NeedsPersonError(
                f"Post {intent.intent_no} of {intent.content_id} on {intent.platform} was ordered, "
                f"but post {intent.intent_no - 1} {state}.",
                code="earlier_post_unsettled",
                remedy="Run the publication without `intent_no` until it is settled, then order the next post.",
            )
        if former.state == State.NEEDS_REVIEW:
            former.state = State.FAILED_DEFINITE
            former.fence += 1
            former.error_code = "declared_not_live"
            former.error_message = (
                f"{self.owner} said that it is not live; post {intent.intent_no} was ordered instead."
            )
            self._note(
                session, former.id, State.NEEDS_REVIEW, State.FAILED_DEFINITE, former.fence, "declared_not_live", {}
            )  # fmt: skip

    def _reserve_slot(self, session: Session, intent: Intent) -> None:
        bucket = UPLOAD_BUCKETS.get(intent.platform)
        if bucket is not None:
            slot = quota.reserve_in(session, *bucket, 1, self._clock)
            session.execute(
                sa.update(Publication)
                .where(Publication.id == intent.publication_id)
                .values(quota_day=slot.quota_day)
            )

    def _new_row(self, session: Session, intent: Intent) -> dict[str, Any]:
        now = self._db.now(session)
        return _file_columns(intent) | {
            "id": intent.publication_id, "platform": intent.platform, "account_id": intent.account,
            "channel_id": intent.channel_id, "content_id": intent.content_id, "intent_no": intent.intent_no,
            "state": State.PLANNED, "fence": 0, "marker": intent.marker, "attempts": 0, "received_bytes": 0,
            "check_count": 0, "created_at": now, "updated_at": now,
        }  # fmt: skip

    def _row(self, session: Session, publication_id: str) -> Publication:
        row = session.get(Publication, publication_id, populate_existing=True)
        if row is None:
            raise PermanentError(
                f"There is no publication {publication_id}.",
                code="unknown_publication",
                remedy="`ettametta trace` on the source video lists its publications.",
            )
        return row

    def _held_row(self, session: Session, claim: Claim) -> Publication:
        """The row, locked until the transaction ends, if the claim still holds."""
        query = sa.select(Publication).where(
            Publication.id == claim.publication_id, Publication.fence == claim.fence
        )
        row = session.scalars(query.with_for_update()).one_or_none()
        if row is None:
            raise _lease_lost(claim)
        return row

    def _write_unique(self, session: Session, claim: Claim, columns: Mapping[str, Any]) -> None:
        try:
            self._write(session, claim, columns)
        except IntegrityError as error:
            raise PermanentError(
                f"Another publication already has the post {columns.get('remote_id')}.",
                code="post_already_known",
                remedy="Check the id; `ettametta trace` on the other source video shows which publication has it.",
            ) from error

    def _write(self, session: Session, claim: Claim, columns: Mapping[str, Any]) -> None:
        written = session.execute(
            sa.update(Publication)
            .where(Publication.id == claim.publication_id, Publication.fence == claim.fence)
            .values({"updated_at": DatabaseNow(), **columns})
            .returning(Publication.id)
            .execution_options(synchronize_session=False)
        ).first()
        if written is None:
            raise _lease_lost(claim)

    def _note(
        self, session: Session, publication_id: str, before: State | None, to: State, fence: int, reason: str,
        detail: dict[str, Any],
    ) -> None:  # fmt: skip
        session.add(
            PublicationEvent(
                publication_id=publication_id, at=self._db.now(session), from_state=before, to_state=to,
                fence=fence, actor=self.owner, reason=reason, detail=detail,
            )
        )  # fmt: skip

    def _busy(self, session: Session, publication_id: str) -> PublicationBusy:
        row = self._row(session, publication_id)
        now = self._db.now(session)
        wait = max(0.0, ((row.lease_until or now) - now).total_seconds())
        return PublicationBusy(
            f"{row.content_id} is being posted on {row.platform} by {row.lease_owner}.",
            code="publication_busy",
            remedy="Look at that run. If it was killed, its lease ends by itself; run this again then.",
            retry_after_s=wait,
        )

    def _seal(self, row: Publication, handle: Mapping[str, str]) -> str:
        return self._envelope.seal(
            json.dumps(handle), account=row.account_id, platform=row.platform, column=_handle_column(row.id)
        )


def not_in_review(row: Publication) -> NeedsPersonError:
    return NeedsPersonError(
        f"Publication {row.id} is {row.state}, so it cannot be declared not live.",
        code="post_not_in_review",
        remedy="Load the page again to see what became of it.",
    )


def _lease_lost(claim: Claim) -> LeaseLost:
    return LeaseLost(
        f"Publication {claim.publication_id} was claimed by another worker after {claim.owner}.",
        code="lease_lost",
        remedy="The other worker carries on; look at its run.",
    )


def _slot(platform: str, day: date) -> Reservation:
    return Reservation(*UPLOAD_BUCKETS[platform], day, 1)


def _publication_id(platform: str, channel_id: str, content_id: str, intent_no: int) -> str:
    parts = "\x1f".join([platform, channel_id, content_id, str(intent_no)])
    return hashlib.sha256(parts.encode()).hexdigest()[:24]


def _file_columns(intent: Intent) -> dict[str, Any]:
    return {
        "object_key": intent.object_key, "sha256": intent.sha256, "size_bytes": intent.size_bytes,
        "title": intent.title, "privacy": intent.privacy, "request_id": intent.request_id,
        "wishes": None if intent.wishes is None else dict(intent.wishes),
    }  # fmt: skip


def _instants(row: Publication, to: State) -> dict[str, Any]:
    """Instants that a transition sets: first time each, except that every session has its own opening."""
    if to is State.SESSION_OPEN:
        return {"session_opened_at": DatabaseNow()}
    if to is State.FINALIZING and row.first_mutation_at is None:
        return {"first_mutation_at": DatabaseNow()}
    if to in SETTLED:
        return {"settled_at": DatabaseNow()}
    return {}


def _handle_column(publication_id: str) -> str:
    return f"publications.handle/{publication_id}"
