"""Clips ordered from vendors: each is claimed before it is ordered, ordered once, and resumed by the vendor's name.

States: *open* (money is set aside, nothing was sent), *sending* (it is being sent, or its sender died), *running* (the
vendor named it), then *done*, *failed*, or *parked*: the answer was lost, the order may exist, and a person must look.
Every step is one conditional UPDATE by the state before it, with the money's own in the same transaction, so that of
two processes one goes on. Only whoever turned *open* into *sending* may send. Called by `synthesis/making.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state.budget import Budget, Purchase
from ettametta_pipelines.state.models import ClipSubmission
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

OPEN, SENDING, RUNNING, DONE, FAILED, PARKED = "open", "sending", "running", "done", "failed", "parked"
UNFINISHED = (OPEN, SENDING, RUNNING)
PURPOSE = "clip"
# Longer than any request may take: whoever is still *sending* after this is dead.
SENDING_LEASE = timedelta(minutes=5)
# Vendors make a clip in minutes.
OVERDUE = timedelta(days=1)
ANSWER_LOST = "answer_lost"


@dataclass(frozen=True)
class Order:
    """A clip that is wanted: the name of its request, from whom, for whom, where it belongs, and the most it costs."""

    request_key: str
    engine: str
    model: str
    partition: str
    quote_microusd: int

    @property
    def niche(self) -> str | None:
        """Second half of the partition `day|niche`, whose cost the clip is until it has become a video."""
        return self.partition.partition("|")[2] or None


@dataclass(frozen=True)
class Standing:
    """How an order stands. Money in millionths of a US dollar."""

    request_key: str
    state: str
    attempts: int
    operation_id: str | None
    quote_microusd: int
    cost_microusd: int | None
    reason_code: str | None
    reason: str | None
    is_dead: bool
    is_overdue: bool


def open_order(
    db: StateDatabase, budget: Budget, order: Order, clock: Clock, *, again: bool = False
) -> Standing:
    """The order as it stands; one that is new has its money set aside. Raises BudgetSpent, and then changes nothing.

    With `again`, one that failed is opened anew.
    """
    with db.session() as session:
        now = db.now(session)
        fresh = {
            "mode": budget.mode, "account_id": budget.account, "engine": order.engine, "model": order.model,
            "partition": order.partition, "state": OPEN, "quote_microusd": order.quote_microusd,
            "operation_id": None, "lease_until": None, "cost_microusd": None, "reason_code": None, "reason": None,
            "opened_at": now, "sent_at": None, "closed_at": None,
        }  # fmt: skip
        key = {"request_key": order.request_key}
        # The row before the money, here and wherever an order ends: two orders of locking would wait for each other.
        is_new = insert_if_absent(session, ClipSubmission, {**fresh, **key, "attempts": 1, "claim_id": None})
        row = _row(session, order.request_key)
        if not is_new:
            if not (again and row.state == FAILED):
                return _standing(row, now)
            for name, value in fresh.items():
                setattr(row, name, value)
            row.attempts += 1
        purchase = Purchase(
            order.quote_microusd, order.engine, order.model, PURPOSE, order.request_key, niche=order.niche
        )
        row.claim_id = budgets.claim_within(session, now, budget, purchase, clock).id
        return _standing(row, now)


def begin_sending(db: StateDatabase, request_key: str, *, lease: timedelta = SENDING_LEASE) -> bool:
    """Take the right to send; False when somebody else has it, or had."""
    with db.session() as session:
        now = db.now(session)
        return _step(session, request_key, (OPEN,), state=SENDING, lease_until=now + lease, sent_at=now)


def note_operation(db: StateDatabase, request_key: str, operation_id: str) -> bool:
    """The vendor took it and named it. From here on it is looked at, never sent."""
    with db.session() as session:
        return _step(
            session,
            request_key,
            (SENDING, PARKED),
            state=RUNNING,
            operation_id=operation_id,
            lease_until=None,
            reason_code=None,
            reason=None,
            closed_at=None,
        )


def not_sent(db: StateDatabase, request_key: str, reason_code: str, reason: str) -> bool:
    """The vendor surely did not take it, and may later: it is open again, its money still set aside."""
    with db.session() as session:
        return _step(
            session,
            request_key,
            (SENDING,),
            state=OPEN,
            lease_until=None,
            reason_code=reason_code,
            reason=reason,
        )


def park(db: StateDatabase, request_key: str, reason_code: str, reason: str) -> bool:
    """Nobody knows whether it was ordered: a person must look. Its money counts as spent."""
    return _end(db, request_key, (SENDING,), PARKED, None, reason_code, reason)


def fail(
    db: StateDatabase, request_key: str, reason_code: str, reason: str, *, cost_microusd: int = 0
) -> bool:
    """There will be no clip. `cost_microusd` is what was charged all the same."""
    return _end(db, request_key, (OPEN, SENDING, RUNNING), FAILED, cost_microusd, reason_code, reason)


def finish(db: StateDatabase, request_key: str, cost_microusd: int | None) -> bool:
    """The clip is in the store. An answer that tells no cost counts as the quote."""
    return _end(db, request_key, (RUNNING,), DONE, cost_microusd, None, None)


def decide_parked(db: StateDatabase, request_key: str, found: str | None) -> Standing:
    """What a person found at the vendor: the operation's id, or None where nothing was ordered.

    With an id it is fetched like any other; without, it counts as failed and may be ordered anew. Raises
    PermanentError `order_not_parked`.
    """
    if found is not None:
        decided = note_operation(db, request_key, found)
    else:
        with db.session() as session:
            decided = _step(
                session,
                request_key,
                (PARKED,),
                state=FAILED,
                reason_code="nothing_was_ordered",
                reason="A person found no order at the vendor.",
            )
    standing = find_order(db, request_key)
    if not decided or standing is None:
        raise PermanentError(
            f"The clip {request_key} does not wait for a decision.",
            code="order_not_parked",
            remedy="Take the request key of a clip that is shown as parked.",
        )
    return standing


def find_order(db: StateDatabase, request_key: str) -> Standing | None:
    with db.session(write=False) as session:
        row = session.get(ClipSubmission, request_key)
        return None if row is None else _standing(row, db.now(session))


def unfinished_partitions(db: StateDatabase, *, quiet_for: timedelta) -> Sequence[tuple[str, str]]:
    """(partition, account) with orders that somebody has to come back for, oldest first.

    Those opened or sent within `quiet_for` are left to the run that did so.
    """
    with db.session(write=False) as session:
        since = db.now(session) - quiet_for
        moved = sa.func.coalesce(ClipSubmission.sent_at, ClipSubmission.opened_at)
        query = (
            sa.select(ClipSubmission.partition, ClipSubmission.account_id)
            .where(ClipSubmission.state.in_(UNFINISHED), moved < since)
            .group_by(ClipSubmission.partition, ClipSubmission.account_id)
            .order_by(sa.func.min(ClipSubmission.opened_at))
        )
        return [(partition, account) for partition, account in session.execute(query).tuples()]


def _row(session: Session, request_key: str) -> ClipSubmission:
    """The order, held for this transaction."""
    query = sa.select(ClipSubmission).filter_by(request_key=request_key).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one()


def _standing(row: ClipSubmission, now: datetime) -> Standing:
    return Standing(
        row.request_key,
        row.state,
        row.attempts,
        row.operation_id,
        row.quote_microusd,
        row.cost_microusd,
        row.reason_code,
        row.reason,
        row.state == SENDING and (row.lease_until is None or row.lease_until <= now),
        row.state == RUNNING and row.sent_at is not None and row.sent_at <= now - OVERDUE,
    )


def _step(session: Session, request_key: str, before: Sequence[str], **values: object) -> bool:
    moved = session.execute(
        sa.update(ClipSubmission)
        .where(ClipSubmission.request_key == request_key, ClipSubmission.state.in_(before))
        .values(values)
        .returning(ClipSubmission.request_key)
        .execution_options(synchronize_session=False)
    ).first()
    return moved is not None


def _end(
    db: StateDatabase,
    request_key: str,
    before: Sequence[str],
    state: str,
    cost_microusd: int | None,
    reason_code: str | None,
    reason: str | None,
) -> bool:
    with db.session() as session:
        now = db.now(session)
        row = _row(session, request_key)
        if row.state not in before:
            return False
        cost = row.quote_microusd if cost_microusd is None else cost_microusd
        if row.claim_id is not None:
            closed = {PARKED: budgets.PARKED, DONE: budgets.SETTLED}.get(
                state, budgets.SETTLED if cost else budgets.RELEASED
            )
            made = budgets.find_claim(session, row.claim_id)
            budgets.close_within(session, now, made, closed, cost, reason_code)
        row.state, row.claim_id, row.lease_until, row.closed_at = state, None, None, now
        row.cost_microusd = cost_microusd
        row.reason_code, row.reason = reason_code, reason
        return True
