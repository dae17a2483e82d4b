"""What can be wrong, as alerts and the morning page share it: causes, and each time they were met.

A finding is one cause with everything it struck; who is told of it is `alert_routes.py`, when and how often
`alerting.py`. Here are the shapes and what the state database alone shows; what Dagster knows (runs, checks, missing
partitions) is found by `automation/alert_looks.py`. Reads only.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from ettametta_pipelines.billing.spend_caps import cap_of
from ettametta_pipelines.clock import business_day_of, pacific_quota_day
from ettametta_pipelines.operations.alert_routes import Severity, Thresholds
from ettametta_pipelines.publishing.connections import connected, events
from ettametta_pipelines.publishing.reauth import CONSENT_ENDED, REAUTH_REQUIRED, reauth_required
from ettametta_pipelines.publishing.review import NEEDING_A_PERSON, listed
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import budget, quota
from ettametta_pipelines.state.models import VideoPeriod, VideoSlot
from ettametta_pipelines.state.session import StateDatabase

# A search left unused in the evening is a search wasted: that bucket is meant to be spent every night.
SPENT_ON_PURPOSE = frozenset({("youtube", "search")})
# Slots are returned every hour; one that is still held long after its lease is not being returned.
SLOT_GRACE = timedelta(hours=2)
MAX_LISTED = 500


@dataclass(frozen=True)
class Occurrence:
    """One thing a cause struck: which, when, whose. `repaired` when it has gone well since. `link` is its page."""

    subject: str
    at: datetime
    what: str = ""
    account: str | None = None
    niche: str | None = None
    platform: str | None = None
    link: str = ""
    repaired: bool = False
    partition: str | None = None


@dataclass(frozen=True)
class Finding:
    """One cause. `cause` is stable over time: with `kind` it is what alerts are told apart by.

    `noun` names an occurrence ("run"); `headline` completes "3 runs: ...". `group` is the asset group, if it is one's.
    """

    kind: str
    cause: str
    severity: Severity
    noun: str
    headline: str
    remedy: str
    occurrences: tuple[Occurrence, ...]
    group: str | None = None
    link: str = ""

    @property
    def fingerprint(self) -> str:
        return f"{self.kind}:{self.cause}"

    @property
    def open(self) -> tuple[Occurrence, ...]:
        """Those not repaired, oldest first."""
        return tuple(
            sorted(
                (one for one in self.occurrences if not one.repaired), key=lambda one: (one.at, one.subject)
            )
        )

    def only(self, belongs: Callable[[Occurrence], bool]) -> "Finding":
        """The same with the occurrences that belong to somebody."""
        return replace(self, occurrences=tuple(one for one in self.occurrences if belongs(one)))


@dataclass(frozen=True)
class Looked:
    """One look: what was found, and the kinds that could be looked at; of the others nothing is known now."""

    at: datetime
    findings: tuple[Finding, ...]
    kinds: frozenset[str]


def merged(looks: Iterable[Looked], at: datetime) -> Looked:
    """Several looks as one."""
    taken = list(looks)
    return Looked(
        at,
        tuple(finding for look in taken for finding in look.findings),
        frozenset(kind for look in taken for kind in look.kinds),
    )


REAUTH, REVIEW, SPENDING, QUOTA, LEAKED_SLOT = "reauth", "needs_review", "spending", "quota", "leaked_slot"


def look_at_state(db: StateDatabase, settings: Settings, thresholds: Thresholds, now: datetime) -> Looked:
    """Everything the state database shows by itself."""
    findings = (
        *ended_consents(db, settings),
        *posts_in_doubt(db, settings),
        *spending_near_cap(db, settings, thresholds, now),
        *caps_near(db, settings, thresholds, now),
        *quotas_nearly_spent(db, settings, thresholds, now),
        *slots_not_returned(db, settings, now),
    )
    return Looked(now, findings, frozenset({REAUTH, REVIEW, SPENDING, QUOTA, LEAKED_SLOT}))


def ended_consents(db: StateDatabase, settings: Settings) -> list[Finding]:
    """Channels that may not be posted to until their owner consents again; one finding per channel."""
    found = []
    for channel in connected(db):
        if channel.status != REAUTH_REQUIRED:
            continue
        asked = reauth_required(channel.account, channel.platform)
        page = f"{settings.gateway_url}/accounts/{channel.account}/{channel.platform}"
        told = events(db, channel.account, channel.platform)
        since = next((event.at for event in told if event.event == CONSENT_ENDED), channel.connected_at)
        struck = Occurrence(
            page, since, channel.reauth_reason or "the platform took the consent back",
            channel.account, None, channel.platform, page,
        )  # fmt: skip
        found.append(
            Finding(
                REAUTH, f"{channel.account}/{channel.platform}", Severity.CRITICAL, "channel",
                f"{channel.channel_title or channel.account} on {channel.platform} must be connected again; "
                "its posts wait",
                asked.remedy, (struck,), "publishing", page,
            )
        )  # fmt: skip
    return found


def posts_in_doubt(db: StateDatabase, settings: Settings) -> list[Finding]:
    """Posts of which nobody knows whether they are on the channel, and posts that should not be; by state."""
    posts = listed(db, NEEDING_A_PERSON, limit=MAX_LISTED)
    found = []
    for state in sorted({post.state for post in posts}):
        struck = tuple(
            Occurrence(
                post.id, post.updated_at, post.title, post.account_id, None, post.platform,
                f"{settings.gateway_url}/publications/{post.id}",
            )
            for post in posts
            if post.state == state
        )  # fmt: skip
        found.append(
            Finding(
                REVIEW, state, Severity.CRITICAL, "post", IN_DOUBT[state],
                "Open the post's page, look on the channel, and say there whether it is live.",
                struck, "publishing", f"{settings.gateway_url}/publications",
            )
        )  # fmt: skip
    return found


IN_DOUBT = {
    "NEEDS_REVIEW": "may or may not be on the channel; a person has to look",
    "INCIDENT": "appeared on a channel although our book says otherwise",
}


def spending_near_cap(
    db: StateDatabase, settings: Settings, thresholds: Thresholds, now: datetime
) -> list[Finding]:
    """Daily budgets for models that are spent to the threshold, everybody's and each account's."""
    day = business_day_of(now, settings.timezone)
    found = []
    for mode in ("live", "sandbox"):
        for account, spent in budget.spending(db, mode, day).items():
            shared = account == budget.EVERYBODY
            cap = settings.model_budget_microusd(None if shared else account)
            taken = spent.spent_microusd + spent.reserved_microusd
            if not cap or 100 * taken < thresholds.spend_percent * cap:
                continue
            whose = "all accounts together" if shared else account
            play = "" if mode == "live" else " (sandbox: no real money)"
            name = "ETTAMETTA_MODEL_BUDGET_USD" if shared else "ETTAMETTA_ACCOUNT_MODEL_BUDGETS_USD"
            found.append(
                Finding(
                    SPENDING, f"{mode}/{account}/{day}",
                    Severity.ERROR if mode == "live" and taken >= cap else Severity.WARNING,
                    "budget",
                    f"models cost {taken / 1e6:.2f} of {cap / 1e6:.2f} USD today for {whose}{play}",
                    f"Nothing: it is new tomorrow, and questions wait until then. To go on today raise {name}.",
                    (Occurrence(f"{mode}/{account}", now, account=None if shared else account),),
                    "scoring", f"{settings.ui_url}/assets/candidate_assessments",
                )
            )  # fmt: skip
    return found


def caps_near(db: StateDatabase, settings: Settings, thresholds: Thresholds, now: datetime) -> list[Finding]:
    """Accounts whose month's cap for all paid work is spent to the threshold."""
    day = business_day_of(now, settings.timezone)
    found = []
    for mode in ("live", "sandbox"):
        for account, spent in budget.months_spending(db, mode, day).items():
            cap = cap_of(settings, db, account)
            taken = spent.spent_microusd + spent.reserved_microusd
            if not cap.microusd or 100 * taken < thresholds.spend_percent * cap.microusd:
                continue
            play = "" if mode == "live" else " (sandbox: no real money)"
            found.append(
                Finding(
                    SPENDING, f"{mode}/{account}/{day:%Y-%m}",
                    Severity.ERROR if mode == "live" and taken >= cap.microusd else Severity.WARNING,
                    "cap",
                    f"{account} spent {taken / 1e6:.2f} of {cap.microusd / 1e6:.2f} USD this month ({cap.why}){play}",
                    f"At the cap its paid work stops until the month ends. {cap.remedy}",
                    (Occurrence(f"{mode}/{account}", now, account=account),),
                    "billing", f"{settings.ui_url}/assets/operations_overview",
                )
            )  # fmt: skip
    return found


def quotas_nearly_spent(
    db: StateDatabase, settings: Settings, thresholds: Thresholds, now: datetime
) -> list[Finding]:
    """Vendors' daily quotas nearly drawn, or closed by the vendor although our book has some left."""
    found = []
    for row in quota.usage(db, pacific_quota_day(now)):
        drawn = row.used + row.reserved
        closed_early = row.closed_at is not None and drawn < row.limit
        on_purpose = (row.vendor, row.bucket) in SPENT_ON_PURPOSE
        if not closed_early and (on_purpose or 100 * drawn < thresholds.quota_percent * row.limit):
            continue
        said = (
            f"{row.vendor} says its quota {row.bucket} is spent, although our book shows {drawn} of {row.limit}"
            if closed_early
            else f"{drawn} of {row.limit} of {row.vendor}'s quota {row.bucket} are drawn today"
        )
        remedy = (
            "Something else uses the same API project: find it, or give this system a project of its own."
            if closed_early
            else "Nothing: it is new at midnight Pacific, and what does not fit waits. More is asked of Google."
        )
        found.append(
            Finding(
                QUOTA, f"{row.vendor}/{row.bucket}/{row.quota_day}", Severity.WARNING, "quota", said, remedy,
                (Occurrence(f"{row.vendor}/{row.bucket}", row.closed_at or now),),
                "operations", f"{settings.ui_url}/assets/api_quota_usage",
            )
        )  # fmt: skip
    return found


def slots_not_returned(db: StateDatabase, settings: Settings, now: datetime) -> list[Finding]:
    """Video slots whose lease is long over and that are still held: they take from their accounts' videos."""
    with db.session(write=False) as session:
        rows = session.execute(
            sa.select(VideoSlot.id, VideoSlot.source_id, VideoSlot.lease_until, VideoPeriod.account_id)
            .join(VideoPeriod)
            .where(VideoSlot.state == "reserved", VideoSlot.lease_until < now - SLOT_GRACE)
            .order_by(VideoSlot.lease_until)
            .limit(MAX_LISTED)
        ).all()
    if not rows:
        return []
    struck = tuple(Occurrence(row.id, row.lease_until, row.source_id, row.account_id) for row in rows)
    return [
        Finding(
            LEAKED_SLOT, "video_slots", Severity.WARNING, "video slot",
            "held by runs that ended long ago, so their accounts can make fewer videos",
            "Materialize video_slots, which returns them; if it fails, its run says why.",
            struck, "billing", f"{settings.ui_url}/assets/video_slots",
        )
    ]  # fmt: skip


def accounts_of(struck: Collection[Occurrence]) -> list[str]:
    return sorted({one.account for one in struck if one.account})
