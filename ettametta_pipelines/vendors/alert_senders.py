"""Where alerts leave the house: a mail server and webhooks that understand Slack's messages.

Each sender takes one message to one target and raises the failure taxonomy: permanent when this message will never be
taken, anything else when the way is closed for now. No failure names a password or a webhook's address. Who is told
what is the operations room's business.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime
from smtplib import (
    SMTP,
    SMTP_SSL,
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientsRefused,
    SMTPResponseException,
)
from urllib.parse import unquote, urlsplit

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.redaction import redact
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.http import (
    host_of,
    http_client,
    is_loopback,
    raise_for_vendor,
    send,
)

TIMEOUT_S = 10.0
DEFAULT_PORTS = {"smtp": 587, "smtps": 465}
MAX_TEXT_CHARS = 3500
# The address is revoked or wrong: that is no fault of the message, which waits for a new one.
CLOSED = frozenset({401, 403, 404, 410})


@dataclass(frozen=True)
class MailServer:
    """A mail server as `smtp://user:password@host:port` (STARTTLS) or `smtps://...` (TLS from the start).

    Only a server on this machine is spoken to without TLS.
    """

    url: str
    sender: str

    def __repr__(self) -> str:
        return f"MailServer({host_of(self.url)!r})"

    def deliver(self, recipient: str, subject: str, text: str, *, message_id: str) -> None:
        """One mail to one person. The same `message_id` again is the same mail, which mailboxes may show once."""
        mail = EmailMessage()
        mail["Subject"] = subject
        mail["From"] = self.sender
        mail["To"] = Address(addr_spec=recipient)
        mail["Date"] = format_datetime(utc_now())
        mail["Message-ID"] = f"<{message_id}@{self.sender.rpartition('@')[2].strip('>') or 'ettametta'}>"
        # Answering machines leave such mail alone.
        mail["Auto-Submitted"] = "auto-generated"
        mail.set_content(text)
        try:
            with self._connected() as server:
                server.send_message(mail)
        except (SMTPException, OSError, ssl.SSLError) as error:
            raise self._explained(error) from None

    def check(self) -> str:
        """Connect, encrypt and log in, and send nothing; the server in words."""
        try:
            with self._connected() as server:
                server.noop()
        except (SMTPException, OSError, ssl.SSLError) as error:
            raise self._explained(error) from None
        return f"{host_of(self.url)} takes mail from {self.sender}"

    def _connected(self) -> SMTP:
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or DEFAULT_PORTS.get(parts.scheme, 587)
        trusted = ssl.create_default_context()
        server: SMTP
        if parts.scheme == "smtps":
            server = SMTP_SSL(host, port, timeout=TIMEOUT_S, context=trusted)
        else:
            server = SMTP(host, port, timeout=TIMEOUT_S)
            server.ehlo_or_helo_if_needed()
            if server.has_extn("starttls"):
                server.starttls(context=trusted)
                server.ehlo()
            elif not is_loopback(self.url):
                server.close()
                raise NeedsPersonError(
                    f"The mail server {host_of(self.url)} offers no encryption, so nothing is sent through it.",
                    code="mail_not_encrypted",
                    remedy="Use a server with STARTTLS, or its smtps:// port, in ETTAMETTA_SMTP_URL.",
                )
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        return server

    def _explained(self, error: Exception) -> PipelineError:
        where, said = f"The mail server {host_of(self.url)}", redact(_reply(error))[:200]
        if isinstance(error, SMTPAuthenticationError):
            return NeedsPersonError(
                f"{where} refused the login{said}.",
                code="mail_login_refused",
                remedy="Correct user and password in ETTAMETTA_SMTP_URL (reserved characters as %40).",
            )
        if isinstance(error, SMTPRecipientsRefused | SMTPDataError) and _is_final(error):
            return PermanentError(
                f"{where} will not take this mail{said}.",
                code="mail_refused",
                remedy="Correct the address in the alerts file or the channels file.",
            )
        return TransientError(
            f"{where} took no mail ({type(error).__name__}){said}.",
            code="mail_unavailable",
            remedy="It is tried again by itself; `ettametta alert-test` shows whether it works.",
        )


def _reply(error: Exception) -> str:
    """What the server said, after a colon; empty when it said nothing."""
    if isinstance(error, SMTPRecipientsRefused):
        code, words = next(iter(error.recipients.values()))
        text = words.decode("utf-8", "replace")
    elif isinstance(error, SMTPResponseException):
        code = error.smtp_code
        text = (
            error.smtp_error
            if isinstance(error.smtp_error, str)
            else error.smtp_error.decode("utf-8", "replace")
        )
    else:
        return ""
    return f": {code} {' '.join(text.split())}"


def _is_final(error: Exception) -> bool:
    if isinstance(error, SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    return isinstance(error, SMTPResponseException) and error.smtp_code >= 500


@dataclass(frozen=True)
class Webhooks:
    """Named webhooks that take Slack's `{"text": ...}`: Slack, Mattermost, Rocket.Chat, Discord's `/slack` address."""

    addresses: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Webhooks({', '.join(self.addresses)})"

    def deliver(self, name: str, subject: str, text: str) -> None:
        """One message to one webhook. Its address is a secret and stands in no failure."""
        url = self.addresses.get(name)
        if url is None:
            raise NeedsPersonError(
                f"No webhook is called {name}.",
                code="unknown_alert_webhook",
                remedy=f"Add {name}=https://... to ETTAMETTA_ALERT_WEBHOOKS, or correct the alerts file.",
            )
        parts = urlsplit(url)
        endpoint = VendorEndpoint(
            name, "live", f"{parts.scheme}://{parts.netloc}", "configured", timeout_s=TIMEOUT_S
        )
        said = f"*{_escaped(subject)}*\n{_escaped(text)}"
        if len(said) > MAX_TEXT_CHARS:
            said = said[: MAX_TEXT_CHARS - 1] + "…"
        with http_client(endpoint) as client:
            # Sent again when the answer is lost: a message twice is better than none.
            answer = send(
                client, "POST", url, vendor=f"webhook {name}", doing="take an alert", json={"text": said}
            )
        if answer.status_code in CLOSED:
            raise NeedsPersonError(
                f"The webhook {name} is closed (HTTP {answer.status_code}).",
                code="alert_webhook_closed",
                remedy=f"Make a new one and put its address behind {name}= in ETTAMETTA_ALERT_WEBHOOKS.",
            )
        raise_for_vendor(answer, vendor=f"webhook {name}", doing="take an alert")


def _escaped(text: str) -> str:
    """Slack's three characters; with them go links and calls to everybody that text from outside might hold."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
