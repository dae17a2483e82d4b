"""Assets of the billing room: every account's plan as Stripe has it, and the video slots behind its numbers. Thin."""

from collections.abc import Sequence
from typing import Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.billing.contracts import ACCOUNT_ENTITLEMENTS, VIDEO_SLOTS
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import StateResource, StripeResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.previews import cell, markdown_table, number
from ettametta_pipelines.settings import get_settings

GROUP = "billing"
SHOWN = 50

CHECKS = {
    "every_customer_was_read": "Stripe was read for each customer in the last 26 hours.",
    "one_subscription_each": "No account pays for two subscriptions at once.",
    "prices_match": "Each tier is sold at Stripe, at the price of the tiers file.",
    "slots_add_up": "What periods count is what their slots say.",
}


@table_asset(
    ACCOUNT_ENTITLEMENTS,
    group_name=GROUP,
    kinds={"stripe", "python"},
    check_specs=[
        dg.AssetCheckSpec(name, asset="account_entitlements", description=means)
        for name, means in CHECKS.items()
    ],
    description="""
What each account has and why: its tier, the subscription's status, the videos used in the running period of how many,
and when Stripe was last read (*read_at*). Every run reads all subscriptions from Stripe; what a lost webhook had left
wrong is put right and stands under *repaired*. An upgrade counts when its invoice is paid, a downgrade or cancellation
when the paid period ends, and an overdue payment changes nothing until *grace_until*. Accounts that never subscribed
have the tier of `ETTAMETTA_DEFAULT_TIER` (docs/plans.md).

**If it fails:** Stripe did not answer, which is tried again by itself; accounts keep what they had, a paid period and
its grace at most. *stripe_unauthorized* needs a look at STRIPE_SECRET_KEY. A check that warns names the accounts:
`ettametta plan ACCOUNT` reads one of them again.
""",
)
def account_entitlements(
    context: dg.AssetExecutionContext, state: StateResource, stripe: StripeResource
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.billing import report
    from ettametta_pipelines.billing.reconcile import reconcile
    from ettametta_pipelines.billing.tiers import open_plans

    with failure_policy(context):
        plans, db = open_plans(get_settings()), state.open()
        done = reconcile(db, plans, stripe.billing())
        rows = report.account_rows(db, plans)
        problems: dict[str, list[str]] = {
            "every_customer_was_read": [*done.failed, *report.unread(rows)],
            "one_subscription_each": done.doubled,
            "prices_match": done.prices,
            "slots_add_up": report.miscounted(db, plans),
        }
    metadata: dict[str, Any] = {
        "vendor": get_settings().endpoint("stripe").standing,
        "accounts": len(rows),
        "read": done.read,
        "repaired_count": len(done.repaired),
        "repaired": dg.MetadataValue.md(_bullets(done.repaired)),
        "plans": dg.MetadataValue.md(_plans_table(rows)),
    }
    return dg.MaterializeResult(
        value=ACCOUNT_ENTITLEMENTS.frame(rows),
        metadata=metadata,
        check_results=[
            dg.AssetCheckResult(
                check_name=name,
                passed=not problems[name],
                severity=dg.AssetCheckSeverity.ERROR
                if name == "slots_add_up"
                else dg.AssetCheckSeverity.WARN,
                description="; ".join(problems[name][:10]) or None,
                metadata={"problems": len(problems[name])},
            )
            for name in CHECKS
        ],
    )


@table_asset(
    VIDEO_SLOTS,
    group_name=GROUP,
    kinds={"python"},
    description="""
Which source holds, used or gave back which video of its account, and which run did it. A slot is reserved inside the
renditions, used with the first rendition that is delivered, and free again when the work fails for good. Every run
first returns slots whose run never came back (*returned*): a lease lasts four and a half hours, longer than a run may.

**If it fails:** the state database did not answer; it is tried again every hour, and reserving does the same for the
account it is about, so nothing waits for this.
""",
)
def video_slots(
    context: dg.AssetExecutionContext, state: StateResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.billing.report import slot_rows
    from ettametta_pipelines.billing.reservations import reap
    from ettametta_pipelines.billing.tiers import open_plans

    with failure_policy(context):
        plans, db = open_plans(get_settings()), state.open()
        returned = reap(db, plans)
        rows = slot_rows(db, plans)
    return dg.MaterializeResult(
        value=VIDEO_SLOTS.frame(rows),
        metadata={
            "returned": sum(returned.values()),
            "returned_to": dg.MetadataValue.md(_bullets([f"{who}: {n}" for who, n in returned.items()])),
            **{
                f"{name}_count": sum(row["state"] == name for row in rows)
                for name in ("reserved", "consumed")
            },
            "newest": dg.MetadataValue.md(_slots_table(rows)),
        },
    )


def _plans_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        [
            cell(row["account"]), cell(row["tier"]), cell(row["status"]), cell(row["why"]),
            f"{row['used'] + row['reserved']} of {number(row['limit'])}{' (fair use)' if row['unlimited'] else ''}",
            f"{row['period_end']:%Y-%m-%d}", cell(row["next_tier"]), cell(row["awaiting_tier"]),
            f"{row['read_at']:%Y-%m-%d %H:%M}" if row["read_at"] else "–",
        ]
        for row in rows[:SHOWN]
    ]  # fmt: skip
    heads = ["Account", "Tier", "Stripe says", "Why", "Videos", "Until", "Then", "Awaits payment", "Read"]
    return markdown_table(heads, lines)


def _slots_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        [
            cell(row["account"]), cell(row["source_id"]), cell(row["state"]), cell(row["reason"]),
            f"{row['reserved_at']:%Y-%m-%d %H:%M}",
        ]
        for row in rows[:SHOWN]
    ]  # fmt: skip
    return markdown_table(["Account", "Source", "State", "Reason", "Reserved"], lines)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {cell(line, limit=400)}" for line in lines[:SHOWN]) or "nothing"


ASSETS = [account_entitlements, video_slots]
