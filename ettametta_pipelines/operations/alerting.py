"""From what a look found to messages that wait to be sent: who is told what, when again, and when that it is over.

One transaction per route brings its alerts up to date and writes its messages, so that a crash loses neither and two
daemons do not tell the same twice. A route whose hourly messages are spent is not told less, only later: its alerts
stay untold until the next message has room, and then stand in a digest. Sending is `outbox.py`.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ettametta_pipelines.operations.alert_routes import Route, Routing, Severity
from ettametta_pipelines.operations.alert_words import digest, told
from ettametta_pipelines.operations.findings import Finding, Looked, Occurrence
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import Alert, AlertBudget, AlertMessage
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent

KEPT = timedelta(days=90)
# Of these a look sees a day's; what is no longer in it was not repaired, it is only long ago.
FADES = frozenset({"failed_run", "failed_check"})
MILLI = 1000


@dataclass(frozen=True)
class Noted:
    """What one look came to, over all routes."""

    open: int
    messages: int
    waiting: int


def note(db: StateDatabase, routing: Routing, looked: Looked, settings: Settings) -> Noted:
    """Bring every route's alerts up to date with a look and write the messages that are due."""
    done = [_note_route(db, route, routing, looked, settings) for route in routing.routes]
    _forget(db, looked.at)
    return Noted(
        max((noted.open for noted in done), default=0),
        sum(noted.messages for noted in done),
        sum(noted.waiting for noted in done),
    )


def _note_route(
    db: StateDatabase, route: Route, routing: Routing, looked: Looked, settings: Settings
) -> Noted:
    now = looked.at
    views = {
        part.fingerprint: part for finding in looked.findings if (part := route.view(finding)) is not None
    }
    with db.session() as session:
        budget = _budget(session, route, now)
        known = {
            row.fingerprint: row for row in session.scalars(sa.select(Alert).where(Alert.route == route.name))
        }
        due: list[tuple[Alert, Finding, str]] = []
        for fingerprint, view in views.items():
            row = known.get(fingerprint)
            if len(view.open) >= _threshold(routing, view):
                row = known[fingerprint] = _opened(session, route, view, row, now)
                if news := _news(route, row, now):
                    due.append((row, view, news))
            elif row is not None and row.closed_at is None and not view.open:
                _close(row, view, due, now)
        for fingerprint, row in known.items():
            if row.closed_at is None and row.kind in looked.kinds and fingerprint not in views:
                _close(row, None if row.kind in FADES else _remembered(row), due, now)
        written = _write(session, route, due, budget, settings, now)
        still = sum(row.closed_at is None for row in known.values())
    return Noted(still, written, 0 if written else len(due))


def _threshold(routing: Routing, view: Finding) -> int:
    return {
        "failed_run": routing.thresholds.failed_runs,
        "failed_check": routing.thresholds.failed_checks,
    }.get(view.kind, 1)


def _opened(session: Session, route: Route, view: Finding, row: Alert | None, now: datetime) -> Alert:
    """The alert of a view, new, going on, or come back."""
    if row is None:
        row = Alert(
            route=route.name, fingerprint=view.fingerprint, kind=view.kind, opened_at=view.open[0].at,
            told=0, told_at=None, closed_at=None,
        )  # fmt: skip
        session.add(row)
    elif row.closed_at is not None:
        row.opened_at, row.closed_at, row.told = view.open[0].at, None, 0
    row.severity, row.headline = view.severity.name, view.headline
    row.seen_at, row.occurrences = now, len(view.open)
    return row


def _news(route: Route, row: Alert, now: datetime) -> str:
    """Whether the route is told now, and as what; empty when not."""
    if row.told_at is not None and now - row.told_at < route.again:
        return ""
    if row.told == 0:
        return "new"
    if row.occurrences > row.told:
        return "more"
    return "still" if row.told_at is None or now - row.told_at >= route.remind else ""


def _close(row: Alert, view: Finding | None, due: list[tuple[Alert, Finding, str]], now: datetime) -> None:
    """Over. Whoever was told is told that, too: until there is room for it, the alert stays open."""
    row.seen_at, row.occurrences = now, 0
    if row.told and view is not None:
        due.append((row, view, "resolved"))
    else:
        row.closed_at = now


def _remembered(row: Alert) -> Finding:
    """A finding that is gone, as far as its alert remembers it."""
    was = Occurrence(row.fingerprint, row.opened_at, repaired=True)
    return Finding(row.kind, row.fingerprint, Severity[row.severity], "", row.headline, "", (was,))


def _write(
    session: Session,
    route: Route,
    due: list[tuple[Alert, Finding, str]],
    budget: AlertBudget,
    settings: Settings,
    now: datetime,
) -> int:
    """Messages for what is due, as many as the budget has, or one digest; the alerts in them count as told."""
    if not due or budget.millitokens < MILLI:
        return 0
    if len(due) >= route.pace.digest_from or budget.millitokens < MILLI * len(due):
        words = [digest([(view, news) for _, view, news in due], settings, now)]
        severities = [max(view.severity for _, view, _ in due)]
    else:
        words = [told(view, news, settings, now) for _, view, news in due]
        severities = [view.severity for _, view, _ in due]
    budget.millitokens -= MILLI * len(words)
    for one, severity in zip(words, severities, strict=True):
        for target in route.targets:
            session.add(_message(route, target, one.subject, one.body, severity, now))
    for row, _, news in due:
        row.told, row.told_at = row.occurrences, now
        row.closed_at = now if news == "resolved" else None
    return len(words)


def _message(
    route: Route, target: str, subject: str, body: str, severity: Severity, now: datetime
) -> AlertMessage:
    return AlertMessage(
        route=route.name, target=target, severity=severity.name, subject=subject, body=body, created_at=now,
        due_at=now, lease_until=None, attempts=0, sent_at=None, parked_at=None, error=None,
    )  # fmt: skip


def _budget(session: Session, route: Route, now: datetime) -> AlertBudget:
    """The route's token bucket, filled to now, and locked: whoever else looks at this route waits here."""
    full = MILLI * route.pace.messages_per_hour
    row = {"route": route.name, "millitokens": full, "filled_at": now}
    insert_if_absent(session, AlertBudget, row)
    budget = session.scalars(
        sa.select(AlertBudget).where(AlertBudget.route == route.name).with_for_update()
    ).one()
    passed = max(0.0, (now - budget.filled_at).total_seconds())
    if gained := int(passed * full / 3600):
        budget.millitokens = min(full, budget.millitokens + gained)
        budget.filled_at = now
    return budget


def _forget(db: StateDatabase, now: datetime) -> None:
    with db.session() as session:
        session.execute(sa.delete(Alert).where(Alert.closed_at < now - KEPT))
        ended = sa.or_(AlertMessage.sent_at < now - KEPT, AlertMessage.parked_at < now - KEPT)
        session.execute(sa.delete(AlertMessage).where(ended))
