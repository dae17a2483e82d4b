"""The outbox of alerts: messages are claimed one by one, sent, and settled; those nobody can deliver are parked.

A claim is a lease. A process that dies between sending and settling leaves the message to be sent once more when the
lease is over: at most one repeated message for one death, and none lost. A transport that does not answer is left
alone for the rest of a delivery, so that a dead mail server costs one timeout and not one a message.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from ettametta_pipelines.failures import FailureKind, NeedsPersonError, PipelineError
from ettametta_pipelines.operations.alert_routes import LOG, WEBHOOK, webhooks
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import AlertMessage
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.vendors.alert_senders import MailServer, Webhooks

log = logging.getLogger(__name__)

LEASE = timedelta(minutes=2)
FIRST_WAIT = timedelta(minutes=1)
LONGEST_WAIT = timedelta(minutes=30)
# Whoever is not reached within a day learns of it from the morning page; the message is kept there.
GIVE_UP_AFTER = timedelta(hours=24)
# A message that took its process with it so often is not tried again.
MAX_DEATHS = 3
BUDGET_S = 20.0

Send = Callable[[AlertMessage], None]


@dataclass
class Delivered:
    """What one delivery came to."""

    sent: int = 0
    failed: int = 0
    parked: int = 0
    waiting: int = 0


def deliver(
    db: StateDatabase, senders: Mapping[str, Send], now: Callable[[], datetime], *, budget_s: float = BUDGET_S
) -> Delivered:
    """Send what is due, oldest first, for at most about `budget_s` and one call's timeout. Raises for nothing sent."""
    done, dead, deadline = Delivered(), set[str](), time.monotonic() + budget_s
    while time.monotonic() < deadline:
        message = _claim(db, now(), [name for name in senders if name not in dead])
        if message is None:
            break
        transport = transport_of(message.target)
        try:
            senders[transport](message)
        except PipelineError as error:
            if error.kind is not FailureKind.PERMANENT:
                dead.add(transport)
            parked = _failed(db, message, error, now())
            done.parked += parked
            done.failed += not parked
        else:
            _settle(db, message.id, sent_at=now(), error=None)
            done.sent += 1
    done.waiting = len(waiting(db))
    return done


def open_senders(settings: Settings) -> dict[str, Send]:
    """A sender for every transport. One that is not configured refuses with the variable to set."""
    mail = mail_server(settings)
    hooks = Webhooks(webhooks(settings))

    def by_mail(message: AlertMessage) -> None:
        if mail is None:
            raise NeedsPersonError(
                "No mail server is configured.", code="no_mail_server", remedy="Set ETTAMETTA_SMTP_URL."
            )
        told_by = f"alert-{message.id}-{message.created_at:%Y%m%d%H%M%S}"
        mail.deliver(message.target, message.subject, message.body, message_id=told_by)

    def by_webhook(message: AlertMessage) -> None:
        hooks.deliver(message.target.removeprefix(WEBHOOK), message.subject, message.body)

    def by_log(message: AlertMessage) -> None:
        told = " | ".join(line for line in message.body.splitlines() if line)
        log.log(LEVELS[message.severity], "%s | %s", message.subject, told)

    return {"email": by_mail, "webhook": by_webhook, LOG: by_log}


def mail_server(settings: Settings) -> MailServer | None:
    """The mail server of the settings, if they name one."""
    url = settings.smtp_url.get_secret_value()
    sender = settings.alert_from or f"ettametta@{settings.production_domain.partition(':')[0] or 'localhost'}"
    return MailServer(url, sender) if url else None


LEVELS = {"WARNING": logging.WARNING, "ERROR": logging.ERROR, "CRITICAL": logging.CRITICAL}


def transport_of(target: str) -> str:
    """`email`, `webhook` or `log`."""
    if target == LOG:
        return LOG
    return "webhook" if target.startswith(WEBHOOK) else "email"


def waiting(db: StateDatabase) -> list[AlertMessage]:
    """Messages not delivered yet."""
    return _listed(db, AlertMessage.sent_at.is_(None), AlertMessage.parked_at.is_(None))


def parked(db: StateDatabase, since: datetime) -> list[AlertMessage]:
    """Messages that could not be delivered, parked since then."""
    return _listed(db, AlertMessage.parked_at >= since)


def _listed(db: StateDatabase, *which: sa.ColumnElement[bool]) -> list[AlertMessage]:
    with db.session(write=False) as session:
        return list(
            session.scalars(sa.select(AlertMessage).where(*which).order_by(AlertMessage.id).limit(500))
        )


def _claim(db: StateDatabase, now: datetime, transports: list[str]) -> AlertMessage | None:
    """The next message that is due and whose transport answers, leased; parks those that killed too often."""
    kinds = {
        LOG: AlertMessage.target == LOG,
        "webhook": AlertMessage.target.startswith(WEBHOOK),
        "email": sa.and_(AlertMessage.target != LOG, ~AlertMessage.target.startswith(WEBHOOK)),
    }
    with db.session() as session:
        session.execute(
            sa.update(AlertMessage)
            .where(
                AlertMessage.sent_at.is_(None),
                AlertMessage.parked_at.is_(None),
                AlertMessage.lease_until <= now,
                AlertMessage.attempts >= MAX_DEATHS,
            )
            .values(parked_at=now, lease_until=None, error="the process that sent it died each time")
        )
        message = session.scalars(
            sa.select(AlertMessage)
            .where(
                AlertMessage.sent_at.is_(None),
                AlertMessage.parked_at.is_(None),
                AlertMessage.due_at <= now,
                sa.or_(AlertMessage.lease_until.is_(None), AlertMessage.lease_until <= now),
                sa.or_(sa.false(), *(kinds[name] for name in transports)),
            )
            .order_by(AlertMessage.id)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if message is not None:
            message.lease_until = now + LEASE
            message.attempts += 1
    return message


def _failed(db: StateDatabase, message: AlertMessage, error: PipelineError, now: datetime) -> bool:
    """Put a message off, or park it; True when it is parked. The lease ends: this process is alive."""
    gone = error.kind is FailureKind.PERMANENT or now - message.created_at > GIVE_UP_AFTER
    wait = min(LONGEST_WAIT, max(FIRST_WAIT, now - message.created_at))
    log.warning(
        "An alert to %s was not delivered (%s): %s",
        message.target,
        "parked" if gone else "tried again",
        error,
    )
    settled = {"parked_at": now} if gone else {"due_at": now + wait, "attempts": 0}
    _settle(db, message.id, error=str(error)[:500], **settled)
    return gone


def _settle(db: StateDatabase, message_id: int, **values: object) -> None:
    with db.session() as session:
        session.execute(
            sa.update(AlertMessage).where(AlertMessage.id == message_id).values(lease_until=None, **values)
        )
