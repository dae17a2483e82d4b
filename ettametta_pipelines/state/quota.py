"""Vendor quotas per day: an inventory that every run draws from and none can oversell.

One conditional UPDATE of the bucket's row decides, so racing processes never grant more than the limit. Two ways to
draw: a reservation for one call (`reserve`, then `commit` or `release`), and a lease for many, of which each part is
spent right *before* its call is sent. What a dead run leased and did not spend was therefore never sent and is free
again when the lease ends; a reservation of a dead run may have been sent and stays counted. Every transaction here
takes the bucket's row first. Days are Google's: they turn at midnight Pacific. Nothing here calls a vendor.
"""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.clock import PACIFIC, Clock, business_day_bounds, pacific_quota_day
from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.state.models import ApiQuota, DatabaseNow, QuotaLease
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

# Default grants per Google project and day since June 2026 (determine_quota_cost). `units` pays for every method
# without a bucket of its own.
DAILY_LIMITS: dict[tuple[str, str], int] = {
    ("youtube", "search"): 100,
    ("youtube", "videos_insert"): 100,
    ("youtube", "batch_get_stats"): 10_000,
    ("youtube", "units"): 10_000,
}

# Longer than any step spends on its calls; what a crashed run held is free again after it.
LEASE_S = 900.0


class QuotaExhausted(TransientError):
    """The bucket has too little left today. `retry_after_s` runs to its reset at midnight Pacific."""


class LeaseEnded(TransientError):
    """The lease has expired or has too little left; nothing was spent. Lease again before sending."""


@dataclass(frozen=True)
class Reservation:
    """A claim on `amount` units of one bucket and day, to be committed or released exactly once."""

    vendor: str
    bucket: str
    quota_day: date
    amount: int


@dataclass(frozen=True)
class Lease:
    """`amount` units of one bucket and day, held for one run until spent, given back or expired."""

    id: str
    vendor: str
    bucket: str
    quota_day: date
    amount: int


@dataclass(frozen=True)
class QuotaUsage:
    """One bucket on one day. `closed_at`: when the vendor said it is spent, whatever our book says."""

    vendor: str
    bucket: str
    quota_day: date
    limit: int
    used: int
    reserved: int
    closed_at: datetime | None = None

    @property
    def left(self) -> int:
        return 0 if self.closed_at else self.limit - self.used - self.reserved


def daily_limits() -> dict[tuple[str, str], int]:
    """(vendor, bucket) -> what a day grants: Google's defaults, or what ETTAMETTA_YOUTUBE_QUOTA says instead."""
    granted = get_settings().youtube_quota
    return DAILY_LIMITS | {("youtube", bucket): amount for bucket, amount in granted.items()}


def reserve(db: StateDatabase, vendor: str, bucket: str, amount: int, clock: Clock) -> Reservation:
    """Reserve in a transaction of its own. Raises QuotaExhausted, and PermanentError for an unknown bucket."""
    with db.session() as session:
        return reserve_in(session, vendor, bucket, amount, clock)


def commit(db: StateDatabase, reservation: Reservation) -> None:
    """The call was made: the reserved amount is spent."""
    with db.session() as session:
        commit_in(session, reservation)


def release(db: StateDatabase, reservation: Reservation) -> None:
    """The call was not made: the amount is free again."""
    with db.session() as session:
        release_in(session, reservation)


def reserve_in(session: Session, vendor: str, bucket: str, amount: int, clock: Clock) -> Reservation:
    """Reserve within the caller's transaction, so that the claim and what it is for stand or fall together."""
    row = _take(session, vendor, bucket, amount, clock)
    return Reservation(vendor, bucket, row.quota_day, amount)


def commit_in(session: Session, reservation: Reservation) -> None:
    """`commit` within the caller's transaction."""
    _settle(session, reservation, spent=reservation.amount)


def release_in(session: Session, reservation: Reservation) -> None:
    """`release` within the caller's transaction."""
    _settle(session, reservation, spent=0)


def standing_in(session: Session, vendor: str, bucket: str, clock: Clock) -> QuotaUsage:
    """Today's bucket right now. Holds its row until the transaction ends, so that it stays true."""
    row = _todays(session, vendor, bucket, clock())
    return QuotaUsage(vendor, bucket, row.quota_day, row.limit, row.used, row.reserved, row.closed_at)


def lease(
    db: StateDatabase, vendor: str, bucket: str, amount: int, clock: Clock, *, holder: str, at_least: int = 1
) -> Lease:
    """Lease `amount`, or what there is of it but `at_least`. Raises QuotaExhausted when there is less."""
    with db.session() as session:
        there = max(at_least, min(amount, standing_in(session, vendor, bucket, clock).left))
        return lease_in(session, vendor, bucket, there, clock, holder=holder)


def lease_in(
    session: Session,
    vendor: str,
    bucket: str,
    amount: int,
    clock: Clock,
    *,
    holder: str,
    for_s: float = LEASE_S,
) -> Lease:
    """Lease exactly `amount` for `holder` within the caller's transaction. Raises QuotaExhausted."""
    row = _take(session, vendor, bucket, amount, clock)
    lease_id = uuid4().hex
    session.execute(
        sa.insert(QuotaLease).values(
            id=lease_id,
            vendor=vendor,
            bucket=bucket,
            quota_day=row.quota_day,
            holder=holder,
            unspent=amount,
            spent=0,
            expires_at=DatabaseNow(for_s),
        )
    )
    return Lease(lease_id, vendor, bucket, row.quota_day, amount)


def spend(db: StateDatabase, held: Lease, amount: int = 1) -> None:
    """Book `amount` of the lease as spent, right before the calls it pays for are sent.

    Raises LeaseEnded when the lease has not that much (any more), QuotaExhausted when the vendor closed the bucket.
    """
    with db.session() as session:
        row = _locked(session, held.vendor, held.bucket, held.quota_day)
        if row.closed_at:
            raise _closed(row)
        booked = session.execute(
            sa.update(QuotaLease)
            .where(
                QuotaLease.id == held.id,
                QuotaLease.unspent >= amount,
                QuotaLease.expires_at > DatabaseNow(),
            )
            .values(unspent=QuotaLease.unspent - amount, spent=QuotaLease.spent + amount)
            .returning(QuotaLease.id)
        ).first()
        if booked is None:
            raise LeaseEnded(
                f"The lease of {held.vendor}.{held.bucket} has fewer than {amount} left or has expired.",
                code="quota_lease_ended",
                remedy="It is leased again by itself.",
            )
        _move(session, held, reserved=-amount, used=amount)


def take_back(db: StateDatabase, held: Lease, amount: int = 1) -> None:
    """Undo `spend` for calls that provably never left this machine. The amount is free for everyone."""
    with db.session() as session:
        _locked(session, held.vendor, held.bucket, held.quota_day)
        undone = session.execute(
            sa.update(QuotaLease)
            .where(QuotaLease.id == held.id, QuotaLease.spent >= amount)
            .values(spent=QuotaLease.spent - amount)
            .returning(QuotaLease.id)
        ).first()
        if undone is not None:
            _move(session, held, reserved=0, used=-amount)


def give_back(db: StateDatabase, held: Lease) -> None:
    """End a lease: what is unspent is free again. Does nothing for one that has ended."""
    with db.session() as session:
        _locked(session, held.vendor, held.bucket, held.quota_day)
        _end_leases(session, QuotaLease.id == held.id)


def close_bucket(db: StateDatabase, vendor: str, bucket: str, clock: Clock) -> None:
    """The vendor says that today's bucket is spent: grant nothing more of it today, whatever our book says."""
    now = clock()
    with db.session() as session:
        row = _locked(session, vendor, bucket, pacific_quota_day(now))
        row.closed_at = row.closed_at or now


def usage(db: StateDatabase, day: date) -> list[QuotaUsage]:
    """Every bucket on one quota day, untouched ones included, by vendor and bucket."""
    with db.session(write=False) as session:
        rows = session.scalars(sa.select(ApiQuota).where(ApiQuota.quota_day == day)).all()
    touched = {
        (r.vendor, r.bucket): QuotaUsage(r.vendor, r.bucket, day, r.limit, r.used, r.reserved, r.closed_at)
        for r in rows
    }
    untouched = {key: QuotaUsage(*key, day, limit, 0, 0) for key, limit in daily_limits().items()}
    return [row for _, row in sorted((untouched | touched).items())]


def spent_by_holder(session: Session, vendor: str, day: date) -> dict[tuple[str, str], int]:
    """(bucket, holder) -> what their leases spent or still hold on one day. Single reservations name nobody."""
    rows = session.execute(
        sa.select(QuotaLease.bucket, QuotaLease.holder, sa.func.sum(QuotaLease.spent + QuotaLease.unspent))
        .where(QuotaLease.vendor == vendor, QuotaLease.quota_day == day)
        .group_by(QuotaLease.bucket, QuotaLease.holder)
    )
    return {(bucket, holder): int(amount) for bucket, holder, amount in rows if amount}


def _is(vendor: str, bucket: str, day: date) -> sa.ColumnElement[bool]:
    return sa.and_(ApiQuota.vendor == vendor, ApiQuota.bucket == bucket, ApiQuota.quota_day == day)


def _locked(session: Session, vendor: str, bucket: str, day: date) -> ApiQuota:
    """The bucket's row, made if there is none and held for this transaction, without what expired leases held."""
    _ensure_bucket(session, vendor, bucket, day)
    query = sa.select(ApiQuota).where(_is(vendor, bucket, day)).with_for_update()
    row = session.scalars(query.execution_options(populate_existing=True)).one()
    expired = sa.and_(
        QuotaLease.vendor == vendor,
        QuotaLease.bucket == bucket,
        QuotaLease.quota_day == day,
        QuotaLease.unspent > 0,
        QuotaLease.expires_at <= DatabaseNow(),
    )
    if session.scalar(sa.select(QuotaLease.id).where(expired).limit(1)) is not None:
        _end_leases(session, expired)
        session.refresh(row)
    return row


def _todays(session: Session, vendor: str, bucket: str, now: datetime) -> ApiQuota:
    """Today's bucket as `_locked`, with today's grant: one that was changed during the day counts at once.

    One lowered below what is spent leaves nothing; what is spent stays on the books.
    """
    row = _locked(session, vendor, bucket, pacific_quota_day(now))
    row.limit = max(daily_limits()[vendor, bucket], row.used + row.reserved)
    session.flush()
    return row


def _end_leases(session: Session, which: sa.ColumnElement[bool]) -> None:
    """Free what these leases of one locked bucket have not spent."""
    for row in session.scalars(sa.select(QuotaLease).where(which, QuotaLease.unspent > 0)).all():
        held = Lease(row.id, row.vendor, row.bucket, row.quota_day, row.unspent)
        _move(session, held, reserved=-row.unspent, used=0)
        row.unspent = 0
    session.flush()


def _take(session: Session, vendor: str, bucket: str, amount: int, clock: Clock) -> ApiQuota:
    """Count `amount` as reserved, or raise QuotaExhausted."""
    if amount < 1:
        raise ValueError(f"a reservation is for at least one unit, not {amount}")
    now = clock()
    row = _todays(session, vendor, bucket, now)
    if row.closed_at:
        raise _closed(row, now)
    granted = session.execute(
        sa.update(ApiQuota)
        .where(ApiQuota.id == row.id, ApiQuota.used + ApiQuota.reserved + amount <= ApiQuota.limit)
        .values(reserved=ApiQuota.reserved + amount)
        .returning(ApiQuota.id)
        .execution_options(synchronize_session=False)
    ).first()
    if granted is None:
        raise _exhausted(
            f"The {vendor}.{bucket} quota of {row.quota_day} has fewer than {amount} left.", row, now
        )
    return row


def _closed(row: ApiQuota, now: datetime | None = None) -> QuotaExhausted:
    said = (
        f"The vendor says that the {row.vendor}.{row.bucket} quota of {row.quota_day} is spent, though only "
        f"{row.used} of {row.limit} were spent here: something else uses the same project."
    )
    return _exhausted(said, row, now or row.closed_at)


def _exhausted(message: str, row: ApiQuota, now: datetime | None) -> QuotaExhausted:
    reset = business_day_bounds(row.quota_day, PACIFIC)[1]
    return QuotaExhausted(
        message,
        code="quota_exhausted",
        remedy=f"It resets at {reset:%Y-%m-%d %H:%M} UTC; run again then, or ask the vendor for a higher quota.",
        retry_after_s=(reset - now).total_seconds() if now else None,
    )


def _move(session: Session, held: Lease, *, reserved: int, used: int) -> None:
    session.execute(
        sa.update(ApiQuota)
        .where(_is(held.vendor, held.bucket, held.quota_day))
        .values(reserved=ApiQuota.reserved + reserved, used=ApiQuota.used + used)
        .execution_options(synchronize_session=False)
    )


def _ensure_bucket(session: Session, vendor: str, bucket: str, day: date) -> None:
    limit = daily_limits().get((vendor, bucket))
    if limit is None:
        raise PermanentError(
            f"There is no quota bucket {vendor}.{bucket}.",
            code="unknown_quota_bucket",
            remedy="Add it to DAILY_LIMITS in state/quota.py.",
        )
    if session.scalar(sa.select(ApiQuota.id).where(_is(vendor, bucket, day))) is None:
        row = {"vendor": vendor, "bucket": bucket, "quota_day": day, "limit": limit, "used": 0, "reserved": 0}
        insert_if_absent(session, ApiQuota, row)


def _settle(session: Session, reservation: Reservation, *, spent: int) -> None:
    settled = session.execute(
        sa.update(ApiQuota)
        .where(
            _is(reservation.vendor, reservation.bucket, reservation.quota_day),
            ApiQuota.reserved >= reservation.amount,
        )
        .values(reserved=ApiQuota.reserved - reservation.amount, used=ApiQuota.used + spent)
        .returning(ApiQuota.id)
    ).first()
    if settled is None:
        raise PermanentError(
            f"{reservation} is not reserved (any more).",
            code="quota_already_settled",
            remedy="A reservation is committed or released once; look for a second settlement in the caller.",
        )
