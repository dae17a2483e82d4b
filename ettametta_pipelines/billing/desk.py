"""The counter where an account's plan is asked about and changed: one call for the command line and the pages.

It reads Stripe first, does what was asked, and says how the account then stands. No rules here.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ettametta_pipelines.billing import subscriptions
from ettametta_pipelines.billing.entitlements import entitlement_row, refresh
from ettametta_pipelines.billing.report import account_rows
from ettametta_pipelines.billing.tiers import Plans, open_plans
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.media.intake import ACCOUNT
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import open_state


@dataclass(frozen=True)
class Answer:
    """How an account stands, as a row of `account_entitlements`, and the pages that were asked for."""

    plans: Plans
    row: dict[str, Any]
    vendor: str
    pages: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return self.row | {"pages": self.pages, "vendor": self.vendor}

    def lines(self) -> list[str]:
        row, tier = self.row, self.plans.tier(self.row["tier"])
        limit = f"{row['limit']} by fair use" if row["unlimited"] else str(row["limit"])
        being_made = f", {row['reserved']} being made" if row["reserved"] else ""
        said = [
            f"{row['account']}: {tier.title}, {row['why']}.",
            f"Videos: {row['used']} of {limit}{being_made}; the month ends {row['period_end']:%Y-%m-%d %H:%M} UTC.",
        ]
        if row["awaiting_tier"]:
            said.append(f"{self.plans.tier(row['awaiting_tier']).title} begins when its invoice is paid.")
        if row["next_tier"]:
            said.append(f"Then: {self.plans.tier(row['next_tier']).title}.")
        read = f"{row['read_at']:%Y-%m-%d %H:%M} UTC" if row["read_at"] else "never: no customer there yet"
        return [*said, f"Stripe ({self.vendor}) last read: {read}.", *self.pages.values()]


def check_account(account: str) -> None:
    """Raises PermanentError `bad_account` for what can be no account's name."""
    if not ACCOUNT.fullmatch(account):
        raise PermanentError(
            f"{account!r} is not an account's name.",
            code="bad_account",
            remedy="Use 1 to 40 lower-case letters, digits and dashes, as in upload keys.",
        )


def as_kept(settings: Settings, account: str) -> Answer | None:
    """How an account stood when Stripe was last read; None for one that nobody has used yet."""
    check_account(account)
    plans, db = open_plans(settings), open_state(settings)
    rows = account_rows(db, plans, account)
    return Answer(plans, rows[0], settings.endpoint("stripe").standing) if rows else None


def do_for_account(
    settings: Settings,
    account: str,
    asked: Iterable[tuple[str, str]] = (),
    *,
    back: str = "",
    key: str = "",
) -> Answer:
    """Do each of `asked` (checkout or change with a tier; portal, cancel, resume), and say how the account stands.

    `back` is where Stripe's pages lead back to. Asked twice under one `key`, a change is made once. Raises
    PermanentError `bad_account` and `unknown_tier`, and what `subscriptions.py` raises.
    """
    from ettametta_pipelines.vendors.stripe_billing import StripeBilling

    check_account(account)
    plans, db, endpoint = open_plans(settings), open_state(settings), settings.endpoint("stripe")
    stripe, pages = StripeBilling(endpoint), {}
    home = back or f"{settings.gateway_url}/"
    with db.session() as session:
        entitlement_row(session, plans, account, db.now(session))
    for what, name in asked:
        if what == "checkout":
            pages[what] = subscriptions.open_checkout(
                db, plans, stripe, account, plans.tier(name), success_url=home, cancel_url=home
            ).url
        elif what == "portal":
            pages[what] = subscriptions.open_portal(db, plans, stripe, account, return_url=home).url
        elif what == "change":
            subscriptions.change_tier(db, plans, stripe, account, plans.tier(name), key=key)
        else:
            subscriptions.cancel(db, plans, stripe, account, leaving=what == "cancel", key=key)
    refresh(db, plans, stripe, account, because="looked at")
    (row,) = account_rows(db, plans, account)
    return Answer(plans, row, endpoint.standing, {name: url for name, url in pages.items() if url})
