"""Daily budgets for models' answers: the most a question can cost is claimed before it is asked, and settled after.

One conditional UPDATE per budget decides, in one transaction with the claim's row, so racing processes never claim more
than a limit. A claim ends once: *settled* at what the answer says it cost, *parked* when the answer was lost (all of it
counts as spent), *released* when nothing was charged. A process that dies in between leaves it *reserved*, which counts
against its day like spent money. Days are business days. Called by `scoring/chain.py` and
`clip_orders.py`; nothing here calls a vendor.
"""

from dataclasses import dataclass
from datetime import date, datetime
from uuid import uuid4
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.clock import Clock, business_day_bounds, business_day_of
from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.state.models import ModelClaim, ModelSpending
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

EVERYBODY = "*"
RESERVED, SETTLED, PARKED, RELEASED = "reserved", "settled", "parked", "released"


class BudgetSpent(TransientError):
    """Too little is left of a budget today. `retry_after_s` runs to the next business day."""


@dataclass(frozen=True)
class Budget:
    """Whose money, and how much of it a day, in millionths of a US dollar. `mode` is sandbox or live."""

    mode: str
    account: str
    account_limit_microusd: int
    overall_limit_microusd: int
    timezone: ZoneInfo


@dataclass(frozen=True)
class Purchase:
    """What is about to be bought: the most it can cost, from whom, and what for."""

    highest_microusd: int
    provider: str
    model: str
    purpose: str
    subject: str


@dataclass(frozen=True)
class Claim:
    """Money set aside for one purchase."""

    id: str
    mode: str
    account: str
    day: date
    reserved_microusd: int


@dataclass(frozen=True)
class Spending:
    """One budget on one day. `reserved` is set aside for questions in flight, or whose process died."""

    account: str
    spent_microusd: int
    reserved_microusd: int


def claim(db: StateDatabase, budget: Budget, purchase: Purchase, clock: Clock) -> Claim:
    """Set money aside, or raise BudgetSpent `budget_spent` and change nothing."""
    with db.session() as session:
        return claim_within(session, db.now(session), budget, purchase, clock)


def claim_within(session: Session, at: datetime, budget: Budget, purchase: Purchase, clock: Clock) -> Claim:
    """As `claim`, as part of a transaction; `at` is the database's time."""
    now = clock()
    day = business_day_of(now, budget.timezone)
    wait_s = (business_day_bounds(day, budget.timezone)[1] - now).total_seconds()
    made = Claim(uuid4().hex, budget.mode, budget.account, day, purchase.highest_microusd)
    # The overall budget first, always: two orders would let two runs wait for each other.
    limits = {EVERYBODY: budget.overall_limit_microusd, budget.account: budget.account_limit_microusd}
    for account, limit in limits.items():
        if not _reserve(session, made, account, limit):
            raise _spent(account, limit, purchase, day, wait_s)
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


def _reserve(session: Session, made: Claim, account: str, limit: int) -> bool:
    key = {"mode": made.mode, "account_id": account, "day": made.day}
    insert_if_absent(session, ModelSpending, {**key, "spent_microusd": 0, "reserved_microusd": 0})
    amount = made.reserved_microusd
    granted = session.execute(
        sa.update(ModelSpending)
        .filter_by(**key)
        .where(ModelSpending.spent_microusd + ModelSpending.reserved_microusd + amount <= limit)
        .values(reserved_microusd=ModelSpending.reserved_microusd + amount)
        .returning(ModelSpending.id)
    ).first()
    return granted is not None


def find_claim(session: Session, claim_id: str) -> Claim:
    """The claim by its id, whatever became of it."""
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
    for account in (EVERYBODY, made.account):
        session.execute(
            sa.update(ModelSpending)
            .filter_by(mode=made.mode, account_id=account, day=made.day)
            .values(
                spent_microusd=ModelSpending.spent_microusd + cost_microusd,
                reserved_microusd=ModelSpending.reserved_microusd - made.reserved_microusd,
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
