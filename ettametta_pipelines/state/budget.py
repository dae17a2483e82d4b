"""Money for paid calls: the most one can cost is claimed before it is made, and settled after.

Models' answers have daily budgets; everything an account buys has a monthly cap. One conditional UPDATE per limit
decides, in one transaction with the claim's row, so racing processes never claim more than a limit. A claim ends once:
*settled* at what the answer says it cost, *parked* when the answer was lost (all of it counts as spent), *released*
when nothing was charged. A process that dies in between leaves it *reserved*, which counts against its day and month
like spent money. Days are business days, months calendar months of theirs. Whoever buys anything goes through here,
with `Wallet.pay` or as `scoring/chain.py` and `clip_orders.py` do; costs per video are made from the claims.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, TypeVar
from uuid import uuid4
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.clock import Clock, business_day_bounds, business_day_of
from ettametta_pipelines.failures import (
    FailureKind,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.state.models import AccountSpending, ModelClaim, ModelSpending
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

EVERYBODY = "*"
RESERVED, SETTLED, PARKED, RELEASED = "reserved", "settled", "parked", "released"

T = TypeVar("T")


class BudgetSpent(TransientError):
    """Too little is left of a budget today. `retry_after_s` runs to the next business day."""


class SpendCapReached(BudgetSpent):
    """The account's cap for the month leaves too little. Waiting for days is no retry, so a person is asked."""

    kind = FailureKind.NEEDS_PERSON


@dataclass(frozen=True)
class Cap:
    """What an account may spend in a calendar month on all paid work, and by whose word."""

    microusd: int
    why: str
    remedy: str = "Set ETTAMETTA_ACCOUNT_SPEND_CAPS_USD."


@dataclass(frozen=True)
class Budget:
    """Whose money, and how much of it, in millionths of a US dollar. `mode` is sandbox or live.

    The two limits are of a day and for models' answers; what is bought from a budget without them meets the cap alone.
    """

    mode: str
    account: str
    account_limit_microusd: int | None
    overall_limit_microusd: int | None
    timezone: ZoneInfo
    cap: Cap | None = None


@dataclass(frozen=True)
class Purchase:
    """What is about to be bought: the most it can cost, from whom, what for, and whose cost it is as far as known."""

    highest_microusd: int
    provider: str
    model: str
    purpose: str
    subject: str
    niche: str | None = None
    source_id: str | None = None


@dataclass(frozen=True)
class Claim:
    """Money set aside for one purchase. `is_daily` where it counts against the day's budgets too."""

    id: str
    mode: str
    account: str
    day: date
    reserved_microusd: int
    is_daily: bool = True

    @property
    def month(self) -> date:
        return self.day.replace(day=1)


@dataclass(frozen=True)
class Spending:
    """One budget on one day. `reserved` is set aside for questions in flight, or whose process died."""

    account: str
    spent_microusd: int
    reserved_microusd: int


@dataclass(frozen=True)
class Wallet:
    """An account's money in the hands of whoever buys."""

    db: StateDatabase
    budget: Budget
    clock: Clock

    def pay(self, purchase: Purchase, buy: Callable[[], T], cost_microusd: Callable[[T], int]) -> T:
        """Buy with money set aside, at what `cost_microusd` reads from the answer.

        Raises BudgetSpent or SpendCapReached before buying, else what `buy` raises: after an OutcomeUnknownError, or
        anything that is no PipelineError, it counts as bought; after any other PipelineError as not charged.
        """
        made = claim(self.db, self.budget, purchase, self.clock)
        try:
            bought = buy()
        except OutcomeUnknownError as error:
            park(self.db, made, error.code)
            raise
        except PipelineError as error:
            release(self.db, made, error.code)
            raise
        except BaseException as error:
            park(self.db, made, type(error).__name__)
            raise
        settle(self.db, made, cost_microusd(bought))
        return bought


def claim(db: StateDatabase, budget: Budget, purchase: Purchase, clock: Clock) -> Claim:
    """Set money aside, or raise BudgetSpent `budget_spent` or SpendCapReached `spend_cap_reached`, changing nothing."""
    with db.session() as session:
        return claim_within(session, db.now(session), budget, purchase, clock)


def claim_within(session: Session, at: datetime, budget: Budget, purchase: Purchase, clock: Clock) -> Claim:
    """As `claim`, as part of a transaction; `at` is the database's time."""
    now = clock()
    day = business_day_of(now, budget.timezone)
    daily = {EVERYBODY: budget.overall_limit_microusd, budget.account: budget.account_limit_microusd}
    # The overall budget first, always: two orders would let two runs wait for each other.
    limits = {account: limit for account, limit in daily.items() if limit is not None}
    made = Claim(uuid4().hex, budget.mode, budget.account, day, purchase.highest_microusd, bool(limits))
    wait_s = (business_day_bounds(day, budget.timezone)[1] - now).total_seconds()
    for account, limit in limits.items():
        key: dict[str, Any] = {"mode": made.mode, "account_id": account, "day": day}
        if not _reserve(session, ModelSpending, key, made.reserved_microusd, limit):
            raise _spent(account, limit, purchase, day, wait_s)
    key = {"mode": made.mode, "account_id": made.account, "month": made.month}
    cap = budget.cap.microusd if budget.cap else None
    if not _reserve(session, AccountSpending, key, made.reserved_microusd, cap):
        raise _capped(session, budget, key, purchase, day)
    session.add(
        ModelClaim(
            id=made.id,
            mode=made.mode,
            account_id=made.account,
            day=day,
            provider=purchase.provider,
            model=purchase.model,
            purpose=purchase.purpose,
            subject=purchase.subject,
            niche=purchase.niche,
            source_id=purchase.source_id,
            state=RESERVED,
            reserved_microusd=made.reserved_microusd,
            claimed_at=at,
        )
    )
    return made


def settle(db: StateDatabase, made: Claim, cost_microusd: int, reason_code: str | None = None) -> None:
    """It was answered: what it cost is spent, the rest is free again. More than was claimed is booked as it is."""
    _close(db, made, SETTLED, cost_microusd, reason_code)


def park(db: StateDatabase, made: Claim, reason_code: str) -> None:
    """The answer was lost and may have been charged: all that was claimed counts as spent."""
    _close(db, made, PARKED, made.reserved_microusd, reason_code)


def release(db: StateDatabase, made: Claim, reason_code: str) -> None:
    """Nothing was charged: what was claimed is free again."""
    _close(db, made, RELEASED, 0, reason_code)


def spending(db: StateDatabase, mode: str, day: date) -> dict[str, Spending]:
    """What a day has cost so far, by account; everybody's is under `*`."""
    with db.session(write=False) as session:
        rows = session.scalars(
            sa.select(ModelSpending).where(ModelSpending.mode == mode, ModelSpending.day == day)
        ).all()
    return {
        row.account_id: Spending(row.account_id, row.spent_microusd, row.reserved_microusd) for row in rows
    }


def month_spending(db: StateDatabase, mode: str, account: str, day: date) -> Spending:
    """What an account has spent on all paid work in the month of a day."""
    key = {"mode": mode, "account_id": account, "month": day.replace(day=1)}
    with db.session(write=False) as session:
        return _counted(session, key)


def months_spending(db: StateDatabase, mode: str, day: date) -> dict[str, Spending]:
    """What every account has spent on all paid work in the month of a day, by account."""
    with db.session(write=False) as session:
        rows = session.scalars(
            sa.select(AccountSpending).where(
                AccountSpending.mode == mode, AccountSpending.month == day.replace(day=1)
            )
        ).all()
    return {
        row.account_id: Spending(row.account_id, row.spent_microusd, row.reserved_microusd) for row in rows
    }


def _counted(session: Session, key: dict[str, Any]) -> Spending:
    row = session.scalars(sa.select(AccountSpending).filter_by(**key)).first()
    return Spending(key["account_id"], *((row.spent_microusd, row.reserved_microusd) if row else (0, 0)))


def _reserve(
    session: Session,
    counter: type[ModelSpending] | type[AccountSpending],
    key: dict[str, Any],
    amount: int,
    limit: int | None,
) -> bool:
    insert_if_absent(session, counter, {**key, "spent_microusd": 0, "reserved_microusd": 0})
    asked = sa.update(counter).filter_by(**key)
    if limit is not None:
        asked = asked.where(counter.spent_microusd + counter.reserved_microusd + amount <= limit)
    asked = asked.values(reserved_microusd=counter.reserved_microusd + amount)
    return session.execute(asked.returning(counter.id)).first() is not None


def find_claim(session: Session, claim_id: str) -> Claim:
    """A claim on daily budgets by its id, whatever became of it."""
    row = session.get_one(ModelClaim, claim_id)
    return Claim(row.id, row.mode, row.account_id, row.day, row.reserved_microusd)


def _close(db: StateDatabase, made: Claim, state: str, cost_microusd: int, reason_code: str | None) -> None:
    with db.session() as session:
        close_within(session, db.now(session), made, state, cost_microusd, reason_code)


def close_within(
    session: Session, at: datetime, made: Claim, state: str, cost_microusd: int, reason_code: str | None
) -> None:
    """End a claim as part of a transaction: settled, parked or released, as the functions above."""
    closed = session.execute(
        sa.update(ModelClaim)
        .where(ModelClaim.id == made.id, ModelClaim.state == RESERVED)
        .values(state=state, cost_microusd=cost_microusd, reason_code=reason_code, closed_at=at)
        .returning(ModelClaim.id)
    ).first()
    if closed is None:
        raise PermanentError(
            f"The claim {made.id} is not open (any more).",
            code="claim_already_closed",
            remedy="A claim is settled, parked or released once; look for a second end in the caller.",
        )
    for account in (EVERYBODY, made.account) if made.is_daily else ():
        key: dict[str, Any] = {"mode": made.mode, "account_id": account, "day": made.day}
        _book(session, ModelSpending, key, made, cost_microusd)
    key = {"mode": made.mode, "account_id": made.account, "month": made.month}
    _book(session, AccountSpending, key, made, cost_microusd)


def _book(
    session: Session,
    counter: type[ModelSpending] | type[AccountSpending],
    key: dict[str, Any],
    made: Claim,
    cost_microusd: int,
) -> None:
    session.execute(
        sa.update(counter)
        .filter_by(**key)
        .values(
            spent_microusd=counter.spent_microusd + cost_microusd,
            reserved_microusd=counter.reserved_microusd - made.reserved_microusd,
        )
    )


def _spent(account: str, limit: int, purchase: Purchase, day: date, wait_s: float) -> BudgetSpent:
    whose = "of all accounts together" if account == EVERYBODY else f"of account {account}"
    name = "ETTAMETTA_MODEL_BUDGET_USD" if account == EVERYBODY else "ETTAMETTA_ACCOUNT_MODEL_BUDGET_USD"
    return BudgetSpent(
        f"The budget {whose} for models, {limit / 1e6:g} USD on {day}, has too little left for a question to "
        f"{purchase.provider} that can cost {purchase.highest_microusd / 1e6:.4f} USD.",
        code="budget_spent",
        remedy=f"It is new tomorrow; or raise {name}.",
        retry_after_s=wait_s,
    )


def _capped(
    session: Session, budget: Budget, key: dict[str, Any], purchase: Purchase, day: date
) -> SpendCapReached:
    assert budget.cap is not None
    counted = _counted(session, key)
    held = f" and {counted.reserved_microusd / 1e6:.4f} set aside" if counted.reserved_microusd else ""
    next_month = (key["month"] + timedelta(days=32)).replace(day=1)
    return SpendCapReached(
        f"Account {budget.account} may spend {budget.cap.microusd / 1e6:g} USD on paid work in {day:%B %Y} "
        f"({budget.cap.why}) and has spent {counted.spent_microusd / 1e6:.4f}{held}, which leaves too little for "
        f"{purchase.purpose} by {purchase.provider} that can cost {purchase.highest_microusd / 1e6:.4f} USD.",
        code="spend_cap_reached",
        remedy=f"It is new on {next_month:%-d %B}. {budget.cap.remedy}",
    )
