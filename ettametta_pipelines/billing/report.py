"""The room's tables as rows: accounts with what they have and used, and the slots behind the numbers. Reads only."""

from datetime import timedelta
from typing import Any

import sqlalchemy as sa

from ettametta_pipelines.billing.entitlements import standing_of
from ettametta_pipelines.billing.reservations import CONSUMED, RESERVED, usages
from ettametta_pipelines.billing.tiers import Plans
from ettametta_pipelines.state.models import DatabaseNow, Entitlement, VideoPeriod, VideoSlot
from ettametta_pipelines.state.session import StateDatabase

SHOWN_DAYS = 62
UNREAD_AFTER = timedelta(hours=26)


def account_rows(db: StateDatabase, plans: Plans, account: str | None = None) -> list[dict[str, Any]]:
    """Rows of `account_entitlements`, by account; of one account where it is named."""
    with db.session(write=False) as session:
        query = (
            sa.select(Entitlement, DatabaseNow())
            .where(Entitlement.mode == plans.mode)
            .order_by(Entitlement.account_id)
        )
        if account is not None:
            query = query.where(Entitlement.account_id == account)
        found = session.execute(query).tuples().all()
        if not found:
            return []
        entitlements, now = [row for row, _ in found], found[0][1]
        used_by = usages(session, entitlements, now)
        rows = []
        for row in entitlements:
            stands, used = standing_of(row, plans, now), used_by[row.account_id]
            copied = (
                "mode", "status", "next_tier", "awaiting_tier", "grace_until", "customer_id", "subscription_id",
                "read_at", "read_because",
            )  # fmt: skip
            rows.append(
                {name: getattr(row, name) for name in copied}
                | {
                    "account": row.account_id, "tier": stands.tier.slug, "why": stands.why, "until": stands.until,
                    "hold_reason": row.hold_reason if stands.why.startswith("held") else None,
                    "period_start": used.starts_at, "period_end": used.ends_at, "used": used.used,
                    "reserved": used.reserved, "limit": stands.tier.limit,
                    "unlimited": stands.tier.videos is None, "released": used.released, "observed_at": now,
                }
            )  # fmt: skip
    return rows


def slot_rows(db: StateDatabase, plans: Plans) -> list[dict[str, Any]]:
    """Rows of `video_slots`, newest first."""
    with db.session(write=False) as session:
        since = db.now(session) - timedelta(days=SHOWN_DAYS)
        found = session.execute(
            sa.select(VideoSlot, VideoPeriod)
            .join(VideoPeriod)
            .where(VideoPeriod.mode == plans.mode, VideoPeriod.ends_at > since)
            .order_by(VideoSlot.reserved_at.desc(), VideoSlot.id)
        ).tuples()
        return [
            {
                "account": period.account_id, "source_id": slot.source_id, "period_start": period.starts_at,
                "period_end": period.ends_at, "state": slot.state, "reason": slot.reason, "run_id": slot.holder,
                "reserved_at": slot.reserved_at, "lease_until": slot.lease_until, "settled_at": slot.settled_at,
            }
            for slot, period in found
        ]  # fmt: skip


def miscounted(db: StateDatabase, plans: Plans) -> list[str]:
    """Periods whose numbers are not those of their slots, in words. None should ever be."""
    consumed, reserved = (
        sa.func.count(sa.case((VideoSlot.state == state, 1))) for state in (CONSUMED, RESERVED)
    )
    with db.session(write=False) as session:
        found = session.execute(
            sa.select(VideoPeriod, consumed, reserved)
            .outerjoin(VideoSlot)
            .where(VideoPeriod.mode == plans.mode)
            .group_by(VideoPeriod.id)
        ).all()
    return [
        f"{period.account_id} from {period.starts_at:%Y-%m-%d}: {period.used} used and {period.reserved} reserved, "
        f"slots say {used} and {held}"
        for period, used, held in found
        if (period.used, period.reserved) != (used, held)
    ]


def unread(rows: list[dict[str, Any]]) -> list[str]:
    """Customers whose subscription was not read for longer than a night and a bit."""
    return [
        row["account"]
        for row in rows
        if row["customer_id"]
        and (row["read_at"] is None or row["observed_at"] - row["read_at"] > UNREAD_AFTER)
    ]
