"""Vendor quotas per day: a slot is reserved before the call it pays for, then committed or released.

One conditional UPDATE decides, so racing processes never grant more than the limit. Days are Google's: they turn at
midnight Pacific. Called by every room before a metered call; nothing here calls a vendor.
"""

from dataclasses import dataclass
from datetime import date

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.clock import PACIFIC, Clock, business_day_bounds, pacific_quota_day
from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.state.models import ApiQuota
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

# Default grants per Google project and day since June 2026 (determine_quota_cost). `units` pays for every method
# without a bucket of its own.
DAILY_LIMITS: dict[tuple[str, str], int] = {
    ("youtube", "search"): 100,
    ("youtube", "videos_insert"): 100,
    ("youtube", "batch_get_stats"): 10_000,
    ("youtube", "units"): 10_000,
}


class QuotaExhausted(TransientError):
    """The bucket has too little left today. `retry_after_s` runs to its reset at midnight Pacific."""


@dataclass(frozen=True)
class Reservation:
    """A claim on `amount` units of one bucket and day, to be committed or released exactly once."""

    vendor: str
    bucket: str
    quota_day: date
    amount: int


@dataclass(frozen=True)
class QuotaUsage:
    vendor: str
    bucket: str
    quota_day: date
    limit: int
    used: int
    reserved: int


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
    if amount < 1:
        raise ValueError(f"a reservation is for at least one unit, not {amount}")
    now = clock()
    day = pacific_quota_day(now)
    _ensure_bucket(session, vendor, bucket, day)
    granted = session.execute(
        sa.update(ApiQuota)
        .where(_is(vendor, bucket, day), ApiQuota.used + ApiQuota.reserved + amount <= ApiQuota.limit)
        .values(reserved=ApiQuota.reserved + amount)
        .returning(ApiQuota.id)
    ).first()
    if granted is None:
        reset = business_day_bounds(day, PACIFIC)[1]
        raise QuotaExhausted(
            f"The {vendor}.{bucket} quota of {day} has fewer than {amount} left.",
            code="quota_exhausted",
            remedy=f"It resets at {reset:%Y-%m-%d %H:%M} UTC; run again then, or ask the vendor for a higher quota.",
            retry_after_s=(reset - now).total_seconds(),
        )
    return Reservation(vendor, bucket, day, amount)


def commit_in(session: Session, reservation: Reservation) -> None:
    """`commit` within the caller's transaction."""
    _settle(session, reservation, spent=reservation.amount)


def release_in(session: Session, reservation: Reservation) -> None:
    """`release` within the caller's transaction."""
    _settle(session, reservation, spent=0)


def usage(db: StateDatabase, day: date) -> list[QuotaUsage]:
    """Every bucket on one quota day, untouched ones included, by vendor and bucket."""
    with db.session(write=False) as session:
        rows = session.scalars(sa.select(ApiQuota).where(ApiQuota.quota_day == day)).all()
    touched = {
        (r.vendor, r.bucket): QuotaUsage(r.vendor, r.bucket, day, r.limit, r.used, r.reserved) for r in rows
    }
    untouched = {key: QuotaUsage(*key, day, limit, 0, 0) for key, limit in DAILY_LIMITS.items()}
    return [row for _, row in sorted((untouched | touched).items())]


def _is(vendor: str, bucket: str, day: date) -> sa.ColumnElement[bool]:
    return sa.and_(ApiQuota.vendor == vendor, ApiQuota.bucket == bucket, ApiQuota.quota_day == day)


def _ensure_bucket(session: Session, vendor: str, bucket: str, day: date) -> None:
    limit = DAILY_LIMITS.get((vendor, bucket))
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
