"""What an account may spend in a month on paid work: its own setting, else its tier's word, else the setting for all.

The cap is held in `state/budget.py`, where money is claimed; here is only whose word counts. Called wherever a wallet
is opened: for models' answers, voices and clips.
"""

from decimal import Decimal

from ettametta_pipelines.billing.entitlements import standing
from ettametta_pipelines.billing.tiers import Plans, Tier, open_plans
from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.budget import Budget, Cap, Wallet
from ettametta_pipelines.state.session import StateDatabase


def cap_of(settings: Settings, db: StateDatabase, account: str) -> Cap:
    """The account's cap by the plan it has now."""
    own = settings.account_spend_caps.get(account)
    raise_own = f"Raise it with ETTAMETTA_ACCOUNT_SPEND_CAPS_USD={account}=AMOUNT."
    if own is not None:
        return Cap(_micro(own), "ETTAMETTA_ACCOUNT_SPEND_CAPS_USD", raise_own)
    plans = open_plans(settings)
    tier = standing(db, plans, account).tier
    if tier.paid_work_usd is None:
        return Cap(_micro(settings.account_spend_cap), "ETTAMETTA_ACCOUNT_SPEND_CAP_USD", raise_own)
    return Cap(
        _micro(Decimal(tier.paid_work_usd)), f"tier {tier.title}", _upgrade(plans, tier, account) + raise_own
    )


def _upgrade(plans: Plans, tier: Tier, account: str) -> str:
    for above in plans.table.tiers.values():
        if plans.rank(above.slug) > plans.rank(tier.slug) and (above.paid_work_usd or 0) > (
            tier.paid_work_usd or 0
        ):
            command = f"ettametta plan {account} --checkout --tier {above.slug}"
            return f"{above.title} has {above.paid_work_usd} USD: {command}. "
    return ""


def open_wallet(
    settings: Settings, db: StateDatabase, account: str, mode: str, *, clock: Clock = utc_now
) -> Wallet:
    """The account's money for what has no daily budget of its own, such as voices; `mode` is the vendor's."""
    return Wallet(
        db, Budget(mode, account, None, None, settings.timezone, cap_of(settings, db, account)), clock
    )


def _micro(dollars: Decimal) -> int:
    return int(dollars * 1_000_000)
