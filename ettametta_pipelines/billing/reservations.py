"""Video slots: what an account's tier lets it make in a period, held by whoever does the work.

A slot is reserved before a source is worked on, consumed with its first delivered rendition, released when the work has
failed for good, and returned when its lease ends. One conditional UPDATE decides, so racing processes never hold more
than the limit. A source has one slot a period, however many formats, retries and re-renders it takes. All time is the
database's. Called inside the renditions asset, so that launches from the UI, backfills, re-executions and sensors all
meet it; the limit itself is `tiers.py`'s.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.billing.entitlements import Standing, entitlement_row, standing_of
from ettametta_pipelines.billing.periods import period_of
from ettametta_pipelines.billing.tiers import Plans
from ettametta_pipelines.failures import FailureKind, NeedsPersonError, PipelineError
from ettametta_pipelines.state.models import Entitlement, VideoPeriod, VideoSlot
from ettametta_pipelines.state.session import StateDatabase

RESERVED, CONSUMED, RELEASED = "reserved", "consumed", "released"

# Longer than any run may last (max_runtime_seconds in dagster.yaml): no living run loses its slot.
LEASE = timedelta(hours=4, minutes=30)


class VideoLimitReached(NeedsPersonError):
    """The account's period has no video left; nothing was reserved."""


@dataclass(frozen=True)
class Slot:
    """One source's slot in one period. `is_new` says whether this call reserved it."""

    id: str
    account: str
    source_id: str
    state: str
    ends_at: datetime
    is_new: bool


@dataclass(frozen=True)
class Usage:
    """An account's running period; before its first video, what it would be."""

    starts_at: datetime
    ends_at: datetime
    used: int
    reserved: int
    released: int


def reserve_slot(
    db: StateDatabase, plans: Plans, account: str, source_id: str, *, holder: str, lease: timedelta = LEASE
) -> Slot:
    """Hold the source's slot, or the one it has already. Raises VideoLimitReached, and then changes nothing.

    A slot still held from the period before stays charged there. One that was consumed is not held again.
    """
    with db.session() as session:
        row = entitlement_row(session, plans, account, db.now(session))
        # Asked once the row is held: who waited for it over the begin of a period, or of the account, would otherwise
        # count in the period before, which has its own limit.
        now = db.now(session)
        return_expired(session, now, row)
        open_ = session.execute(
            sa.select(VideoSlot, VideoPeriod)
            .join(VideoPeriod)
            .where(VideoSlot.source_id == source_id, VideoSlot.state == RESERVED)
            .where(VideoPeriod.mode == plans.mode, VideoPeriod.account_id == account)
        ).first()
        if open_ is not None:
            slot, period = open_.tuple()
            slot.holder, slot.lease_until = holder, now + lease
            return _as_slot(slot, period, account, is_new=False)
        period = _current_period(session, row, now)
        found = session.scalars(
            sa.select(VideoSlot).filter_by(period_id=period.id, source_id=source_id)
        ).one_or_none()
        if found is not None and found.state == CONSUMED:
            return _as_slot(found, period, account, is_new=False)
        standing = standing_of(row, plans, now)
        if not _take(session, period, standing.tier.limit):
            session.refresh(period)
            raise _refused(plans, standing, period, source_id)
        if found is None:
            found = VideoSlot(id=uuid4().hex, period_id=period.id, source_id=source_id)
            session.add(found)
        found.state, found.holder, found.lease_until = RESERVED, holder, now + lease
        found.reason, found.reserved_at, found.settled_at = None, now, None
        return _as_slot(found, period, account, is_new=True)


def consume_slot(db: StateDatabase, plans: Plans, slot: Slot, *, made: bool = True) -> str:
    """A rendition was delivered: the slot is used, once. Returns the slot's state.

    `made=False` says that everything existed already: the slot is then given back, if the source was paid for in an
    earlier period. A slot that was returned meanwhile is reserved again, which may raise VideoLimitReached.
    """
    with db.session() as session:
        now = db.now(session)
        entitlement_row(session, plans, slot.account, now)
        row, period = _slot_and_period(session, slot.id)
        if row.state == CONSUMED:
            return CONSUMED
        if row.state == RESERVED:
            paid_before = not made and _paid_before(session, plans, slot)
            reason = "nothing_was_made" if paid_before else None
            _settle(session, row, period, RELEASED if paid_before else CONSUMED, reason, now)
            return row.state
    return consume_slot(
        db, plans, reserve_slot(db, plans, slot.account, slot.source_id, holder="late"), made=made
    )


def release_slot(db: StateDatabase, plans: Plans, slot: Slot, reason: str) -> str:
    """The work failed for good: the slot is free again, or used when the period's free failures are. Says which."""
    with db.session() as session:
        now = db.now(session)
        entitlement = entitlement_row(session, plans, slot.account, now)
        row, period = _slot_and_period(session, slot.id)
        if row.state != RESERVED:
            return row.state
        cap = standing_of(entitlement, plans, now).tier.releases
        counted = session.execute(
            sa.update(VideoPeriod)
            .where(VideoPeriod.id == period.id, VideoPeriod.released < cap)
            .values(released=VideoPeriod.released + 1)
            .returning(VideoPeriod.id)
            .execution_options(synchronize_session=False)
        ).first()
        state, why = (RELEASED, reason) if counted else (CONSUMED, f"{reason}, beyond {cap} free failures")
        _settle(session, row, period, state, why, now)
        return state


def return_expired(session: Session, now: datetime, row: Entitlement) -> int:
    """Free the slots of one account, whose row is held, that outlived their lease. Says how many."""
    expired = session.execute(
        sa.select(VideoSlot, VideoPeriod)
        .join(VideoPeriod)
        .where(VideoSlot.state == RESERVED, VideoSlot.lease_until <= now)
        .where(VideoPeriod.mode == row.mode, VideoPeriod.account_id == row.account_id)
    )
    return sum(
        _settle(session, slot, period, RELEASED, "lease_ended", now)
        for slot, period in expired.tuples().all()
    )


def reap(db: StateDatabase, plans: Plans) -> dict[str, int]:
    """Return every slot that outlived its lease: account -> how many.

    One transaction an account, its row first as everywhere here: two orders of locking would wait for each other.
    """
    with db.session(write=False) as session:
        accounts = session.scalars(
            sa.select(VideoPeriod.account_id)
            .join(VideoSlot)
            .where(VideoSlot.state == RESERVED, VideoSlot.lease_until <= db.now(session))
            .where(VideoPeriod.mode == plans.mode)
            .distinct()
            .order_by(VideoPeriod.account_id)
        ).all()
    returned = {}
    for account in accounts:
        with db.session() as session:
            now = db.now(session)
            row = entitlement_row(session, plans, account, now)
            returned[account] = return_expired(session, now, row)
    return returned


def usages(session: Session, rows: Sequence[Entitlement], now: datetime) -> dict[str, Usage]:
    """By account, its period at `now` as it stands. The rows are of one mode."""
    period = (VideoPeriod.mode, VideoPeriod.account_id)
    newest = (
        sa.select(*period, sa.func.max(VideoPeriod.ends_at))
        .where(
            VideoPeriod.mode.in_({row.mode for row in rows}),
            VideoPeriod.account_id.in_([row.account_id for row in rows]),
            VideoPeriod.starts_at <= now,
        )
        .group_by(*period)
    )
    found = session.scalars(sa.select(VideoPeriod).where(sa.tuple_(*period, VideoPeriod.ends_at).in_(newest)))
    last = {one.account_id: one for one in found}
    return {row.account_id: _usage(row, last.get(row.account_id), now) for row in rows}


def _usage(row: Entitlement, last: VideoPeriod | None, now: datetime) -> Usage:
    if last is not None and last.ends_at > now:
        return Usage(last.starts_at, last.ends_at, last.used, last.reserved, last.released)
    return Usage(*_bounds(row, last.ends_at if last else None, now), 0, 0, 0)


@contextmanager
def reserved_slot(
    db: StateDatabase, plans: Plans, account: str, source_id: str, *, holder: str
) -> Iterator[Slot]:
    """Hold the source's slot around its work, and release it when that fails for good.

    What may still succeed keeps it: a retry finds it, and a run that never comes back loses it with the lease.
    """
    slot = reserve_slot(db, plans, account, source_id, holder=holder)
    try:
        yield slot
    except PipelineError as error:
        if error.kind is not FailureKind.TRANSIENT:
            release_slot(db, plans, slot, error.code)
        raise


def _take(session: Session, period: VideoPeriod, limit: int) -> bool:
    granted = session.execute(
        sa.update(VideoPeriod)
        .where(VideoPeriod.id == period.id, VideoPeriod.used + VideoPeriod.reserved < limit)
        .values(reserved=VideoPeriod.reserved + 1)
        .returning(VideoPeriod.id)
        .execution_options(synchronize_session=False)
    ).first()
    return granted is not None


def _settle(
    session: Session, slot: VideoSlot, period: VideoPeriod, state: str, reason: str | None, now: datetime
) -> bool:
    """Close a reserved slot once; False when another process was first."""
    closed = session.execute(
        sa.update(VideoSlot)
        .where(VideoSlot.id == slot.id, VideoSlot.state == RESERVED)
        .values(state=state, reason=reason, settled_at=now)
        .returning(VideoSlot.id)
        .execution_options(synchronize_session=False)
    ).first()
    if closed is None:
        return False
    session.execute(
        sa.update(VideoPeriod)
        .where(VideoPeriod.id == period.id)
        .values(reserved=VideoPeriod.reserved - 1, used=VideoPeriod.used + int(state == CONSUMED))
        .execution_options(synchronize_session=False)
    )
    session.refresh(slot)
    session.refresh(period)
    return True


def _running(session: Session, row: Entitlement, now: datetime) -> VideoPeriod | None:
    return session.scalars(
        sa.select(VideoPeriod)
        .filter_by(mode=row.mode, account_id=row.account_id)
        .where(VideoPeriod.starts_at <= now, VideoPeriod.ends_at > now)
    ).one_or_none()


def _bounds(row: Entitlement, last: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    """The period at `now` by the anchor, begun no earlier than the one before it ended, at `last`."""
    start, end = period_of(row.anchor_at, now)
    return (max(start, last) if last is not None and last <= now else start), end


def _current_period(session: Session, row: Entitlement, now: datetime) -> VideoPeriod:
    """The running period, made if there is none. The account's row is held, so nobody else makes it meanwhile."""
    period = _running(session, row, now)
    if period is None:
        last = session.scalar(
            sa.select(sa.func.max(VideoPeriod.ends_at)).filter_by(mode=row.mode, account_id=row.account_id)
        )
        start, end = _bounds(row, last, now)
        period = VideoPeriod(
            mode=row.mode, account_id=row.account_id, starts_at=start, ends_at=end, used=0, reserved=0, released=0
        )  # fmt: skip
        session.add(period)
        session.flush()
    return period


def _slot_and_period(session: Session, slot_id: str) -> tuple[VideoSlot, VideoPeriod]:
    return (
        session.execute(sa.select(VideoSlot, VideoPeriod).join(VideoPeriod).where(VideoSlot.id == slot_id))
        .tuples()
        .one()
    )


def _paid_before(session: Session, plans: Plans, slot: Slot) -> bool:
    paid = (
        sa.select(VideoSlot.id)
        .join(VideoPeriod)
        .where(VideoSlot.source_id == slot.source_id, VideoSlot.state == CONSUMED)
        .where(VideoPeriod.mode == plans.mode, VideoPeriod.account_id == slot.account)
    )
    return session.scalar(paid.limit(1)) is not None


def _as_slot(slot: VideoSlot, period: VideoPeriod, account: str, *, is_new: bool) -> Slot:
    return Slot(slot.id, account, slot.source_id, slot.state, period.ends_at, is_new)


def _refused(plans: Plans, standing: Standing, period: VideoPeriod, source_id: str) -> VideoLimitReached:
    tier, ends = standing.tier, f"{period.ends_at:%Y-%m-%d %H:%M} UTC"
    held = f" and {period.reserved} are being made" if period.reserved else ""
    code, remedy = "video_limit_reached", f"Wait until {ends}"
    if tier.videos is None:
        code = "fair_use_reached"
        remedy += ", or raise fair_use in the tiers file if this much is meant."
    elif (above := plans.next_above(tier)) is not None:
        more = "unlimited videos" if above.videos is None else f"{above.videos} videos"
        remedy += (
            f", or upgrade to {above.title} ({more} for {plans.table.price(above)} a month): "
            f"`ettametta plan {standing.account} --checkout --tier {above.slug}`."
        )
    else:
        remedy += "."
    return VideoLimitReached(
        f"{source_id} was not made: {standing.account} has {tier.title} ({standing.why}), which gives {tier.limit} "
        f"videos a period; {period.used} are used{held} in the one that ends {ends}.",
        code=code,
        remedy=remedy,
    )
