"""What both uploads share: the file as it is read, how patient a worker is, and the walk through the ledger's states.

A platform's file says what is done in each state; this one repeats the step of the state the ledger is in until the
publication rests. Every call to the platform goes through `Delivery.call`, which first makes sure that this worker
still holds the publication.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.publishing.connections import Connection, require
from ettametta_pipelines.publishing.former_channels import leave_former_channels
from ettametta_pipelines.publishing.ledger import (
    BEFORE_THE_LAST_BYTE,
    LEASE_S,
    ON_THE_PLATFORM,
    SETTLED,
    Claim,
    Intent,
    Ledger,
    State,
)
from ettametta_pipelines.publishing.posts import Post
from ettametta_pipelines.publishing.remote_ids import remote_id_of
from ettametta_pipelines.publishing.tokens import (
    LOST_SECRET_CODES,
    Envelope,
    RefreshingApp,
    access_token,
)
from ettametta_pipelines.publishing.witness import Testimony, open_testimony, testify, testimony_of
from ettametta_pipelines.redaction import redact
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore

Client = TypeVar("Client")
T = TypeVar("T")
MAX_STALL_WAIT_S = 30.0
MAX_POLL_WAIT_S = 15.0
MAX_SESSIONS_PER_RUN = 3
AFTER_THE_LAST_BYTE = frozenset({State.FINALIZING, State.PROCESSING, State.RECONCILING})
# A person is asked to connect the channel; then the post goes on by itself, however late that is.
ENDED_BY_CONNECTING = frozenset({"reauth_required", "channel_not_connected", "another_channel_connected"})


class ProbeRefused(PermanentError):
    """The platform will not say how an upload is doing, now or later: its own answer is lost as an oracle."""


@dataclass(frozen=True)
class Patience:
    """How long one run waits before it leaves the rest to the next one.

    `stalls`: failed calls in a row without a byte of progress. `looks` and `look_for`: both must be exceeded before a
    publication in doubt is handed to a person, since listings lag. Looks are `look_again_in` apart, however often a
    run is started. `settle_for`: so long after its last byte a post the platform has no last word about is handed to
    a person too; TikTok's moderation and YouTube's processing may take many hours.
    """

    polls: int = 8
    poll_wait_s: float = 1.0
    stalls: int = 5
    stall_wait_s: float = 1.0
    looks: int = 3
    look_for: timedelta = timedelta(hours=24)
    look_again_in: timedelta = timedelta(minutes=30)
    settle_for: timedelta = timedelta(hours=48)


@dataclass(frozen=True)
class Rendition:
    """The finished file to post, as its table names it."""

    source_id: str
    object_key: str
    sha256: str
    size_bytes: int
    duration_s: float


@dataclass(frozen=True)
class Order:
    """What one run was asked to post. `intent_no` above 1 orders the same video again.

    `live_remote_id` is a person's word that a parked post was found on the channel under this id.
    """

    account: str
    post: Post
    rendition: Rendition
    intent_no: int = 1
    live_remote_id: str = ""
    request_id: str | None = None
    wishes: Mapping[str, Any] | None = None
    # What the description offers, and why an offer there was is not in it; for people to read.
    offer: str = ""
    offer_left_out: str = ""


@dataclass(frozen=True)
class Workshop:
    """What a worker works with, the same for every order."""

    db: StateDatabase
    store: ObjectStore
    envelope: Envelope
    patience: Patience = Patience()
    clock: Clock = utc_now
    sleep: Callable[[float], None] = time.sleep
    lease_s: float = LEASE_S
    owner: str | None = None


@dataclass(frozen=True)
class Media:
    """The file of one publication in the object store, read in ranges."""

    store: ObjectStore
    key: str
    size: int

    def check(self) -> None:
        """Raise PermanentError `rendition_changed` unless the object still has the size it was planned with."""
        found = self.store.head(self.key).size
        if found != self.size:
            raise PermanentError(
                f"{self.key} has {found} bytes, but {self.size} were planned to be posted.",
                code="rendition_changed",
                remedy="Materialize the rendition again, then publish.",
            )

    def read(self, start: int, length: int) -> bytes:
        data = self.store.read_range(self.key, start, length)
        if len(data) != length:
            raise PermanentError(
                f"{self.key} ended {length - len(data)} bytes early while it was posted.",
                code="rendition_changed",
                remedy="Materialize the rendition again, then publish.",
            )
        return data


@dataclass(frozen=True)
class Outcome:
    """Where a publication rests after a run. `posted` is True when this run sent its last byte."""

    publication: Publication
    posted: bool

    def row(self) -> dict[str, Any]:
        """Row of the platform's publications table."""
        row = self.publication
        return {
            "source_id": row.content_id,
            "platform": row.platform,
            "account": row.account_id,
            "channel_id": row.channel_id,
            "publication_id": row.id,
            "state": row.state,
            "remote_id": row.remote_id,
            "url": row.url if row.state in ON_THE_PLATFORM else None,
            "privacy": row.privacy,
            "posted": self.posted,
            "intent_no": row.intent_no,
            "title": row.title,
            "object_key": row.object_key,
            "sha256": row.sha256,
            "published_at": self._published_at(),
            "error_code": row.error_code,
        }

    def _published_at(self) -> datetime | None:
        return self.publication.settled_at if self.publication.state == State.PUBLISHED else None


class Delivery(ABC, Generic[Client]):
    """One worker's work on one claimed publication. A platform's subclass says what to do in which state."""

    # Failure codes by which the platform's client says that the access token was refused.
    unauthorized_codes: frozenset[str]

    def __init__(
        self,
        workshop: Workshop,
        order: Order,
        connection: Connection,
        ledger: Ledger,
        claim: Claim,
        media: Media,
        *,
        app: RefreshingApp,
    ) -> None:
        self._refreshing_app = app
        self.workshop = workshop
        self.order = order
        self.connection = connection
        self.ledger = ledger
        self.claim = claim
        self.media = media
        self.patience = workshop.patience
        self.sent_last_byte = False
        self._sessions = 0
        self._token: str | None = None
        self._client: Client | None = None

    @property
    @abstractmethod
    def steps(self) -> Mapping[State, Callable[[Publication], Publication | None]]:
        """What to do in which state. A step returns the moved publication, or None to leave the rest for later."""

    @abstractmethod
    def make_client(self, token: str) -> Client:
        """The platform's client for this token."""

    def run(self) -> Outcome:
        """Take steps until the publication rests. What goes wrong is noted in the ledger, then raised."""
        publication = self.ledger.get(self.claim.publication_id)
        try:
            publication = self._believe_the_witness(publication)
            while (step := self.steps.get(State(publication.state))) is not None:
                # Looks in quick succession see the same lagging listing, and would count as patience.
                if publication.state == State.RECONCILING and not self.ledger.look_is_due(self.claim):
                    break
                moved = step(publication)
                if moved is None:
                    break
                publication = moved
        except PipelineError as error:
            self.ledger.note_trouble(self.claim, error)
            if publication.state not in AFTER_THE_LAST_BYTE or error.code in ENDED_BY_CONNECTING:
                raise
            if self.wait_or_park(f"{error.message} [{error.code}]") is None:
                raise
        publication = self.ledger.get(self.claim.publication_id)
        return Outcome(publication, self.sent_last_byte and State(publication.state) in ON_THE_PLATFORM)

    def already_there(self, publication: Publication) -> Publication | None:
        """The publication moved on, if the channel shows its post before anything was sent; else None."""
        return None

    def _believe_the_witness(self, publication: Publication) -> Publication:
        """A row that says the last byte has not left is old, if it was once allowed to: then that upload decides."""
        if publication.state not in BEFORE_THE_LAST_BYTE:
            return publication
        sealed = testimony_of(self.workshop.store, publication)
        if sealed is None:
            return publication
        if publication.state == State.PLANNED and (found := self.already_there(publication)) is not None:
            return found
        return self._follow(publication, sealed)

    def _follow(self, publication: Publication, sealed: str) -> Publication:
        """Go on with the upload whose last byte was allowed to leave, whatever this row knows of."""
        known = self._testimony(publication, sealed)
        if known is None:
            return self.ledger.advance(
                self.claim, State.FINALIZING, reason="last_byte_was_allowed", handle={}
            )
        self.media = Media(self.workshop.store, known.object_key, known.size_bytes)
        return self.ledger.advance(
            self.claim,
            State.FINALIZING,
            reason="last_byte_was_allowed",
            handle=known.handle,
            object_key=known.object_key,
            sha256=known.sha256,
            size_bytes=known.size_bytes,
            url=known.url,
        )

    def _testimony(self, publication: Publication, sealed: str) -> Testimony | None:
        """What was sealed; None when its key is lost for good."""
        return self._opened(lambda: open_testimony(sealed, self.workshop.envelope, publication))

    def allow_last_byte(
        self, publication: Publication, handle: Mapping[str, str], received: int
    ) -> Publication:
        """From here on the post may exist, and no other upload is opened for it."""
        if not testify(self.workshop.store, self.workshop.envelope, publication, handle):
            sealed = testimony_of(self.workshop.store, publication)
            known = self._testimony(publication, sealed) if sealed is not None else None
            if sealed is None or known is None or known.handle != dict(handle):
                # Two databases over one store: the other one's upload was first.
                return self._follow(publication, sealed or "")
        return self.ledger.advance(
            self.claim,
            State.FINALIZING,
            reason="last_chunk_next",
            detail={"received_bytes": received},
            received_bytes=received,
        )

    def call(self, ask: Callable[[Client], T], *, received_bytes: int | None = None) -> T:
        """One call to the platform, under a lengthened lease; once more with a new token if the old one is refused."""
        self.ledger.renew(self.claim, received_bytes=received_bytes)
        try:
            return ask(self._client or self._new_client(None))
        except NeedsPersonError as error:
            if error.code not in self.unauthorized_codes:
                raise
        return ask(self._new_client(self._token))

    def _new_client(self, rejected: str | None) -> Client:
        self._token = access_token(
            self.workshop.db,
            self._refreshing_app,
            self.connection.account,
            self.connection.platform,
            envelope=self.workshop.envelope,
            rejected=rejected,
            channel_id=self.connection.channel_id,
        )
        self._client = self.make_client(self._token)
        return self._client

    def handle_of(self, publication: Publication) -> dict[str, str] | None:
        """The stored capability of the upload; None when the key it was sealed with is lost for good.

        For good means that the channel's tokens are under a newer key: it was connected again, or the key was retired.
        Where the tokens do not open either, the key is only missing here, and that is raised: a person may find it.
        """
        return self._opened(lambda: self.ledger.open_handle(publication)) or None

    def _opened(self, open_secret: Callable[[], T]) -> T | None:
        try:
            return open_secret()
        except PipelineError as error:
            if error.code not in LOST_SECRET_CODES:
                raise
        self._new_client(None)
        return None

    def count_session(self) -> None:
        """Raise TransientError once this run has opened too many sessions in vain."""
        self._sessions += 1
        if self._sessions > MAX_SESSIONS_PER_RUN:
            raise TransientError(
                f"Upload sessions for {self.media.key} keep vanishing.",
                code="upload_sessions_vanish",
                remedy="Run the publication again later; nothing has been posted.",
            )

    def poll_waits(self) -> Iterator[None]:
        """Iterates over the status polls of one run, waiting longer before each but the first."""
        for number in range(self.patience.polls):
            if number:
                self.workshop.sleep(min(self.patience.poll_wait_s * 2 ** (number - 1), MAX_POLL_WAIT_S))
            yield

    def stalls(self) -> "Stalls":
        return Stalls(self.patience, self.workshop.sleep)

    def reconcile(self, reason: str) -> Publication:
        """The platform may have the post: from now on it is only looked for."""
        return self.ledger.advance(self.claim, State.RECONCILING, reason=reason)

    def refuse(self, error: PipelineError) -> Publication:
        """The platform said no for good, and nothing can have been posted. What helps is kept with what it said."""
        return self.ledger.advance(
            self.claim,
            State.FAILED_DEFINITE,
            reason=error.code,
            error_code=error.code,
            error_message=redact(f"{error.message} {error.remedy}".strip()),
        )

    def park(self, reason: str, message: str, **evidence: str) -> Publication:
        """Nobody but a person can tell whether the post exists. `evidence` goes into the trail."""
        return self.ledger.advance(
            self.claim,
            State.NEEDS_REVIEW,
            reason=reason,
            detail={name: redact(said) for name, said in evidence.items()},
            error_code=reason,
            error_message=redact(message),
        )

    def finish_after_all(self) -> Publication:
        """The very upload answers again and lacks bytes, so nothing is posted yet: go on sending to it.

        To be preceded by a look that is counted: looks are apart, so that a platform of two minds makes no loop.
        """
        return self.ledger.advance(self.claim, State.FINALIZING, reason="upload_answers_again")

    def wait_or_park(self, last_answer: str) -> Publication | None:
        """Leave it to a later run; after long enough, give it to a person with the platform's last answer."""
        waited = self.ledger.age_of_doubt(self.claim)
        if waited < self.patience.settle_for:
            return None
        return self.park(
            "no_last_word",
            f"{self.connection.platform} has not said what became of the post for {_in_words(waited)}. "
            f"Its last answer: {last_answer}",
            last_answer=last_answer,
        )

    def count_look(self) -> int:
        """Note a look at the channel; how many there were."""
        return self.ledger.count_check(self.claim, next_in=self.patience.look_again_in)

    def look_again_or_park(self) -> Publication | None:
        """After a look at the channel that found nothing: wait for the next run, or give up after long enough."""
        looks = self.count_look()
        doubt = self.ledger.age_of_doubt(self.claim)
        if looks < self.patience.looks or doubt < self.patience.look_for:
            return None
        return self.park(
            "post_not_found", f"{looks} looks at the channel over {doubt} did not find the post."
        )


class Stalls:
    """Counts failed calls in a row; `after` waits, doubling, and raises the failure when there were too many."""

    def __init__(self, patience: Patience, sleep: Callable[[float], None]) -> None:
        self._patience = patience
        self._sleep = sleep
        self._count = 0

    def progress(self) -> None:
        self._count = 0

    def after(self, error: TransientError) -> None:
        self._count += 1
        wait = error.retry_after_s
        if wait is None:
            wait = min(self._patience.stall_wait_s * 2 ** (self._count - 1), MAX_STALL_WAIT_S)
        if self._count > self._patience.stalls or wait > MAX_STALL_WAIT_S:
            raise error
        self._sleep(wait)


def _in_words(waited: timedelta) -> str:
    return f"{waited.days} days" if waited.days > 1 else f"{waited.total_seconds() / 3600:.0f} hours"


Begin = Callable[[Workshop, Order, Connection, Ledger, Claim, Media], Delivery[Any]]
PageOf = Callable[[Publication, str], str | None]


def deliver(workshop: Workshop, order: Order, begin: Begin, *, page_of: PageOf) -> Outcome:
    """Post what was ordered, or find that it is posted: plan, claim, and let the platform's delivery do the rest.

    `page_of` gives the address of a post that a person has found, from its publication and its id.
    Raises NeedsPersonError without a usable connection, QuotaExhausted, PublicationBusy, and what the platform says.
    """
    post, rendition = order.post, order.rendition
    connection = require(workshop.db, order.account, post.platform)
    ledger = Ledger(
        workshop.db, workshop.envelope, clock=workshop.clock, owner=workshop.owner, lease_s=workshop.lease_s
    )
    intent = Intent(
        platform=post.platform,
        account=order.account,
        channel_id=connection.channel_id,
        content_id=rendition.source_id,
        object_key=rendition.object_key,
        sha256=rendition.sha256,
        size_bytes=rendition.size_bytes,
        title=post.title,
        privacy=post.privacy,
        intent_no=order.intent_no,
        request_id=order.request_id,
        wishes=order.wishes,
    )
    leave_former_channels(workshop.db, workshop.store, ledger, intent)
    publication = ledger.plan(intent)
    if order.live_remote_id and publication.state != State.PUBLISHED:
        remote_id = remote_id_of(post.platform, order.live_remote_id)
        url = page_of(publication, remote_id)
        publication = ledger.declare_live(publication.id, remote_id, url=url)
    if State(publication.state) in SETTLED:
        return Outcome(publication, posted=False)
    with ledger.claimed(publication.id) as claim:
        # The file the publication began with, which a newer rendition does not replace half-way.
        publication = ledger.get(publication.id)
        media = Media(workshop.store, publication.object_key, publication.size_bytes)
        return begin(workshop, order, connection, ledger, claim, media).run()
