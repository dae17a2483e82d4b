"""Figures of the state database for Prometheus: posts, quotas, money, the inbox, alerts, clips and GPU time.

Every query asks for what is open, or for a last hour or day, through an index: it costs as much with ten million posts
as with ten. Labels are names of ours (states, vendors, engines), never accounts. Served by `automation/metrics.py`.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from prometheus_client.core import GaugeMetricFamily
from sqlalchemy.orm import InstrumentedAttribute, Session

from ettametta_pipelines.clock import Clock, business_day_of, pacific_quota_day, utc_now
from ettametta_pipelines.publishing.ledger import SETTLED, State
from ettametta_pipelines.publishing.review import NEEDING_A_PERSON
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import quota
from ettametta_pipelines.state.models import (
    AccountSpending,
    Alert,
    AlertMessage,
    ClipSubmission,
    GpuClip,
    ModelSpending,
    Publication,
    VideoSlot,
    WebhookEvent,
)
from ettametta_pipelines.state.session import StateDatabase

OPEN_STATES = sorted((frozenset(State) - SETTLED) | NEEDING_A_PERSON)
ENDED_STATES = sorted(SETTLED - NEEDING_A_PERSON)
PLATFORMS = ("youtube", "tiktok")
CLIPS_UNDER_WAY = ("open", "sending", "running", "parked")
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class StateFigures:
    """One reading of the state at a time; see `automation/metrics.py` for how often."""

    def __init__(self, settings: Settings, db: StateDatabase, clock: Clock = utc_now) -> None:
        self._settings, self._db, self._clock = settings, db, clock

    def __call__(self) -> Iterator[GaugeMetricFamily]:
        yield from _quotas(self._db, self._clock())
        with self._db.session(write=False) as session:
            now = self._db.now(session)
            for read in (_posts, _inbox, _outbox, _alerts, _clips):
                yield from read(session, now)
            yield from self._spending(session)

    def _spending(self, session: Session) -> Iterator[GaugeMetricFamily]:
        """Money of all accounts together, the day's beside its cap."""
        today = business_day_of(self._clock(), self._settings.timezone)
        spent = GaugeMetricFamily(
            "ettametta_spend_microusd",
            "Spent and set aside, all accounts together",
            labels=["mode", "period"],
        )
        ways: list[tuple[str, Any, Any]] = [
            ("day", ModelSpending, sa.and_(ModelSpending.day == today, ModelSpending.account_id == "*")),
            ("month", AccountSpending, AccountSpending.month == today.replace(day=1)),
        ]
        for period, table, which in ways:
            taken = sa.func.sum(table.spent_microusd + table.reserved_microusd)
            found = _by_name(session, sa.select(table.mode, taken).where(which).group_by(table.mode))
            for mode in ("live", "sandbox"):
                spent.add_metric([mode, period], found.get(mode, 0))
        yield spent
        yield GaugeMetricFamily(
            "ettametta_spend_cap_microusd", "What models may cost in a day, all accounts together",
            value=self._settings.model_budget_microusd(),
        )  # fmt: skip


def _posts(session: Session, now: datetime) -> Iterator[GaugeMetricFamily]:
    open_posts = session.execute(
        sa.select(
            Publication.platform, Publication.state, sa.func.count(), sa.func.min(Publication.created_at)
        )
        .where(Publication.state.in_(OPEN_STATES))
        .group_by(Publication.platform, Publication.state)
    ).all()
    count = GaugeMetricFamily(
        "ettametta_publications", "Posts in a state that is not final", labels=["platform", "state"]
    )
    oldest = GaugeMetricFamily(
        "ettametta_publication_oldest_seconds", "Since when the oldest post of a state exists",
        labels=["platform", "state"],
    )  # fmt: skip
    found = {(platform, state): (number, begun) for platform, state, number, begun in open_posts}
    for platform in PLATFORMS:
        for state in OPEN_STATES:
            number, begun = found.get((platform, state), (0, None))
            count.add_metric([platform, state], number)
            oldest.add_metric([platform, state], _age(begun, now))
    yield count
    yield oldest
    ended = GaugeMetricFamily(
        "ettametta_publications_last_day",
        "Posts that ended in the last 24 hours",
        labels=["platform", "state"],
    )
    done = {
        (platform, state): number
        for platform, state, number in session.execute(
            sa.select(Publication.platform, Publication.state, sa.func.count())
            .where(Publication.state.in_(ENDED_STATES), Publication.settled_at > now - DAY)
            .group_by(Publication.platform, Publication.state)
        )
    }
    for platform in PLATFORMS:
        for state in ENDED_STATES:
            ended.add_metric([platform, state], done.get((platform, state), 0))
    yield ended
    leaked = sa.select(sa.func.count()).where(
        VideoSlot.state == "reserved", VideoSlot.lease_until < now - HOUR
    )
    yield GaugeMetricFamily(
        "ettametta_video_slots_leaked", "Video slots held for an hour beyond their lease",
        value=session.scalar(leaked) or 0,
    )  # fmt: skip


def _quotas(db: StateDatabase, now: datetime) -> list[GaugeMetricFamily]:
    families = {
        name: GaugeMetricFamily(f"ettametta_quota_{name}", says, labels=["vendor", "bucket"])
        for name, says in (
            ("limit", "What a vendor grants on its day"),
            ("left", "What is left of it"),
            ("closed", "Whether the vendor itself said that it is spent"),
        )
    }
    for row in quota.usage(db, pacific_quota_day(now)):
        labels = [row.vendor, row.bucket]
        families["limit"].add_metric(labels, row.limit)
        families["left"].add_metric(labels, row.left)
        families["closed"].add_metric(labels, row.closed_at is not None)
    return list(families.values())


def _inbox(session: Session, now: datetime) -> Iterator[GaugeMetricFamily]:
    waits, parked = WebhookEvent.parked_at.is_(None), WebhookEvent.parked_at.is_not(None)
    row = _counted(session, WebhookEvent.received_at, WebhookEvent.handled_at.is_(None), waits, parked)
    yield from _backlog("webhook_inbox", "Messages of vendors not applied yet", row, now)


def _outbox(session: Session, now: datetime) -> Iterator[GaugeMetricFamily]:
    # What is parked stays for three months; older than a day it is told of elsewhere.
    waits = AlertMessage.parked_at.is_(None)
    parked = AlertMessage.parked_at > now - DAY
    row = _counted(session, AlertMessage.created_at, AlertMessage.sent_at.is_(None), waits, parked)
    yield from _backlog("alert_outbox", "Messages of alerts not delivered", row, now)


def _counted(
    session: Session,
    since: InstrumentedAttribute[datetime],
    which: sa.ColumnElement[bool],
    waits: sa.ColumnElement[bool],
    parked: sa.ColumnElement[bool],
) -> Any:
    return session.execute(
        sa.select(
            sa.func.count(sa.case((waits, 1))),
            sa.func.count(sa.case((parked, 1))),
            sa.func.min(sa.case((waits, since))),
        ).where(which)
    ).one()


def _backlog(name: str, says: str, row: Any, now: datetime) -> Iterator[GaugeMetricFamily]:
    waiting, parked, since = row
    count = GaugeMetricFamily(f"ettametta_{name}", says, labels=["state"])
    count.add_metric(["waiting"], waiting)
    count.add_metric(["parked"], parked)
    yield count
    yield GaugeMetricFamily(f"ettametta_{name}_oldest_seconds", f"{says}: the oldest", value=_age(since, now))


def _alerts(session: Session, now: datetime) -> Iterator[GaugeMetricFamily]:
    # One alert stands once for each route.
    number = sa.func.count(sa.distinct(Alert.fingerprint))
    found = _by_name(
        session, sa.select(Alert.severity, number).where(Alert.closed_at.is_(None)).group_by(Alert.severity)
    )
    family = GaugeMetricFamily(
        "ettametta_alerts_open", "What is wrong as the product's own alerts know it", labels=["severity"]
    )
    for severity in ("WARNING", "ERROR", "CRITICAL"):
        family.add_metric([severity], found.get(severity, 0))
    yield family


def _clips(session: Session, now: datetime) -> Iterator[GaugeMetricFamily]:
    found = _by_name(
        session,
        sa.select(ClipSubmission.state, sa.func.count())
        .where(ClipSubmission.state.in_(CLIPS_UNDER_WAY))
        .group_by(ClipSubmission.state),
    )
    orders = GaugeMetricFamily(
        "ettametta_clip_orders", "Clips ordered from vendors and not closed", labels=["state"]
    )
    for state in CLIPS_UNDER_WAY:
        orders.add_metric([state], found.get(state, 0))
    yield orders
    painted = GaugeMetricFamily(
        "ettametta_gpu_seconds_last_hour",
        "GPU seconds of the clips finished in the last hour",
        labels=["engine"],
    )
    used = _by_name(
        session,
        sa.select(GpuClip.engine, sa.func.sum(GpuClip.gpu_ms))
        .where(GpuClip.made_at > now - HOUR)
        .group_by(GpuClip.engine),
    )
    for engine in sorted({"ltx", "wan", *used}):
        painted.add_metric([engine], used.get(engine, 0) / 1000)
    yield painted


def _by_name(session: Session, query: Any) -> dict[str, int]:
    return {row[0]: int(row[1] or 0) for row in session.execute(query)}


def _age(since: datetime | None, now: datetime) -> float:
    return max(0.0, (now - since).total_seconds()) if since else 0.0


Figures = Callable[[], Iterator[GaugeMetricFamily]]
