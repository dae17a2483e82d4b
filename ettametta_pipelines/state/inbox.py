"""The inbox of vendors' messages: each is stored once, whatever the vendor repeats, and worked off afterwards.

Storing is the gateway's business, what a message leads to the rooms'; nothing here knows what one means. A try is
noted before it is made, so that a message that kills its process is counted as well. One that cannot be applied is
tried again after ever longer waits and then parked with its reason: it stops nothing, and `webhook_messages` shows it.
"""

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from time import monotonic

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.failures import FailureKind, PipelineError
from ettametta_pipelines.state.models import DatabaseNow, WebhookEvent
from ettametta_pipelines.state.session import INSERTS, StateDatabase
from ettametta_pipelines.untrusted import plain_text

KEPT = timedelta(days=90)
# Longer than any effect takes: until then a message whose worker died is not taken by another.
LEASE = timedelta(minutes=10)
FIRST_WAIT, LONGEST_WAIT = timedelta(seconds=30), timedelta(hours=1)
# What fails the same way each time is parked soon; twelve tries of a vendor that is away take five hours.
TRIES = {FailureKind.PERMANENT: 3, FailureKind.TRANSIENT: 12, FailureKind.NEEDS_PERSON: 12}

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """A verified message, named among those of its source by `event_id`."""

    source: str
    event_id: str
    kind: str
    body: str

    @property
    def key(self) -> tuple[str, str]:
        return self.source, self.event_id


def store(db: StateDatabase, messages: Iterable[Message]) -> set[tuple[str, str]]:
    """Put messages into the inbox in one transaction; the keys of those that were not there yet."""
    # In the same order in every process: two that insert the same keys crosswise would wait for each other.
    rows = [asdict(message) for message in sorted(messages, key=lambda message: message.key)]
    with db.session() as session:
        statement = INSERTS[db.dialect](WebhookEvent.__table__).values(received_at=DatabaseNow())
        statement = statement.on_conflict_do_nothing().returning(WebhookEvent.source, WebhookEvent.event_id)
        return {row.tuple() for row in session.execute(statement, rows)} if rows else set()


def unknown(db: StateDatabase, source: str, event_ids: Collection[str]) -> set[str]:
    """Those of the ids that never arrived."""
    with db.session(write=False) as session:
        there = sa.select(WebhookEvent.event_id).where(
            WebhookEvent.source == source, WebhookEvent.event_id.in_(event_ids)
        )
        return set(event_ids) - set(session.scalars(there))


@dataclass
class Worked:
    """What one look at the inbox did: outcomes by (source, kind, outcome), and what went wrong in sentences."""

    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    parked: list[str] = field(default_factory=list)
    # More messages are due than were taken.
    is_cut_short: bool = False


Effect = Callable[[WebhookEvent], str]


def work_off(db: StateDatabase, effect: Effect, *, limit: int = 200, seconds: float = 20) -> Worked:
    """Apply what is due, oldest first, at most `limit` messages and about so many seconds.

    `effect` says in words what a message came to. After a failure that is the vendor's, or asks for a person, the other
    messages of that source rest until the next look: they would fail as well.
    """
    worked, resting, ends = Worked(), set[str](), monotonic() + seconds
    waiting = _due(db, limit + 1)
    for number, event in enumerate(waiting):
        if number == limit or monotonic() > ends:
            worked.is_cut_short = True
            break
        if event.source in resting or not _take(db, event):
            continue
        try:
            outcome = effect(event)
        except PipelineError as error:
            _set_back(db, event, str(error), error.kind, worked)
            if error.kind is not FailureKind.PERMANENT:
                resting.add(event.source)
        except Exception as error:  # noqa: BLE001 (a poison message may raise anything, and must not stop the others)
            _log.exception("A %s message of %s could not be applied.", event.kind, event.source)
            said = f"{type(error).__name__}: {plain_text(str(error), 200)}"
            _set_back(db, event, said, FailureKind.PERMANENT, worked)
        else:
            _mark_handled(db, event, outcome)
            worked.outcomes[event.source, event.kind, outcome] += 1
    if worked.outcomes:
        with db.session() as session:
            session.execute(
                sa.delete(WebhookEvent).where(WebhookEvent.handled_at < DatabaseNow(-KEPT.total_seconds()))
            )
    return worked


@dataclass(frozen=True)
class KindSeen:
    """The messages of one kind since an instant. `problem` is that of one that failed."""

    source: str
    kind: str
    received: int
    waiting: int
    parked: int
    newest_at: datetime
    oldest_waiting_at: datetime | None
    problem: str | None


def overview(db: StateDatabase, since: datetime) -> list[KindSeen]:
    """What came in since then, and whatever still waits or is parked, by source and kind."""
    is_waiting = sa.and_(WebhookEvent.handled_at.is_(None), WebhookEvent.parked_at.is_(None))
    counted = sa.select(
        WebhookEvent.source,
        WebhookEvent.kind,
        sa.func.count(),
        sa.func.count(sa.case((is_waiting, 1))),
        sa.func.count(WebhookEvent.parked_at),
        sa.func.max(WebhookEvent.received_at),
        sa.func.min(sa.case((is_waiting, WebhookEvent.received_at))),
        sa.func.max(WebhookEvent.problem),
    )
    with db.session(write=False) as session:
        rows = session.execute(
            counted.where(sa.or_(WebhookEvent.received_at >= since, WebhookEvent.handled_at.is_(None)))
            .group_by(WebhookEvent.source, WebhookEvent.kind)
            .order_by(WebhookEvent.source, WebhookEvent.kind)
        ).tuples()
        return [KindSeen(*row) for row in rows]


def parked(db: StateDatabase, limit: int = 50) -> list[WebhookEvent]:
    """Messages that nobody tries any more, newest first."""
    with db.session(write=False) as session:
        query = sa.select(WebhookEvent).where(WebhookEvent.parked_at.is_not(None))
        return list(session.scalars(query.order_by(WebhookEvent.id.desc()).limit(limit)))


def newest_arrival(db: StateDatabase, source: str) -> datetime | None:
    """When a message of this source came last; None if none ever did."""
    with db.session(write=False) as session:
        return session.scalar(sa.select(sa.func.max(WebhookEvent.received_at)).filter_by(source=source))


def retry_parked(db: StateDatabase) -> int:
    """Give every parked message a new start, once a person has removed the cause; how many."""
    with db.session() as session:
        return _changed(
            session,
            sa.update(WebhookEvent)
            .where(WebhookEvent.parked_at.is_not(None))
            .values(parked_at=None, due_at=None, attempts=0),
        )


def _is_open() -> sa.ColumnElement[bool]:
    return sa.and_(
        WebhookEvent.handled_at.is_(None),
        WebhookEvent.parked_at.is_(None),
        sa.or_(WebhookEvent.due_at.is_(None), WebhookEvent.due_at <= DatabaseNow()),
    )


def _due(db: StateDatabase, limit: int) -> list[WebhookEvent]:
    with db.session(write=False) as session:
        return list(
            session.scalars(sa.select(WebhookEvent).where(_is_open()).order_by(WebhookEvent.id).limit(limit))
        )


def _take(db: StateDatabase, event: WebhookEvent) -> bool:
    """Count a try and hold the message for it; False when another worker has it, or its last try was that of a worker
    that died."""
    with db.session() as session:
        is_mine = _changed(
            session,
            sa.update(WebhookEvent)
            .where(WebhookEvent.id == event.id, _is_open())
            .values(attempts=WebhookEvent.attempts + 1, due_at=DatabaseNow(LEASE.total_seconds())),
        )
        if is_mine and event.attempts >= TRIES[FailureKind.TRANSIENT]:
            _park(session, event, event.problem or "whatever worked on it died")
            return False
    event.attempts += 1
    return bool(is_mine)


def _set_back(
    db: StateDatabase, event: WebhookEvent, problem: str, kind: FailureKind, worked: Worked
) -> None:
    said = f"{event.source} {event.kind} {event.event_id}: {problem}"
    with db.session() as session:
        if event.attempts >= TRIES[kind]:
            _park(session, event, problem)
            worked.parked.append(said)
            return
        wait = min(FIRST_WAIT * 2 ** (event.attempts - 1), LONGEST_WAIT)
        session.execute(
            sa.update(WebhookEvent)
            .where(WebhookEvent.id == event.id)
            .values(due_at=DatabaseNow(wait.total_seconds()), problem=problem)
        )
    worked.failed.append(said)


def _park(session: Session, event: WebhookEvent, problem: str) -> None:
    session.execute(
        sa.update(WebhookEvent)
        .where(WebhookEvent.id == event.id)
        .values(parked_at=DatabaseNow(), problem=problem)
    )


def _mark_handled(db: StateDatabase, event: WebhookEvent, outcome: str) -> None:
    """Note what a message came to. Its words go: what it was about was read from the vendor, and people are in them."""
    with db.session() as session:
        session.execute(
            sa.update(WebhookEvent)
            .where(WebhookEvent.id == event.id)
            .values(handled_at=DatabaseNow(), outcome=outcome, problem=None, body="")
        )


def _changed(session: Session, statement: sa.Update) -> int:
    return session.execute(statement.execution_options(synchronize_session=False)).rowcount  # type: ignore[attr-defined,no-any-return]
