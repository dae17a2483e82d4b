"""The one HTTP helper of all vendor clients: connections with timeouts, bounded retries, errors in our taxonomy.

A vendor's words pass `redact` before they become an error's. Its own reasons are tables of `ErrorRule` in its file.
"""

import logging
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from random import Random
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from urllib.parse import urlsplit

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import (
    ERROR_BY_KIND,
    FailureKind,
    OutcomeUnknownError,
    PipelineError,
    TransientError,
    kind_of_status,
)
from ettametta_pipelines.redaction import redact

if TYPE_CHECKING:
    import httpx

    from ettametta_pipelines.settings import VendorEndpoint

T = TypeVar("T")


class NeverSentError(TransientError):
    """The request did not leave this machine: nothing happened at the vendor and nothing was charged."""


USER_AGENT = "ettametta-pipelines/0.1"
CONNECT_TIMEOUT_S = 10.0
MAX_DETAIL_CHARS = 300
LONGEST_RETRY_AFTER_S = 30 * 86_400.0

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_REASON = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,79}")


@dataclass(frozen=True)
class ErrorRule:
    """What one reason code of a vendor means for us. `wait_s` is how long that vendor wants to be left alone."""

    kind: FailureKind
    code: str
    remedy: str = ""
    wait_s: float | None = None


def vendor_error(
    vendor: str,
    doing: str,
    *,
    status: int,
    reason: str = "",
    detail: str = "",
    rules: Mapping[str, ErrorRule] | None = None,
    retry_after_s: float | None = None,
) -> PipelineError:
    """The failure for an answer that says no. By `rules[reason]` where the vendor's reason is known, else by status.

    `doing` completes "YouTube refused to ..."; `detail` is the vendor's own sentence, redacted and cut here. A
    `reason` that is no plain word is not one of the vendor's reasons and is left out.
    """
    reason = reason if _REASON.fullmatch(reason) else ""
    rule = (rules or {}).get(reason)
    if rule is None:
        kind = kind_of_status(status)
        rule = ErrorRule(kind, _code_of_status(vendor, status), _REMEDIES[kind].format(vendor=vendor))
    said = redact(detail).strip()
    if len(said) > MAX_DETAIL_CHARS:
        said = said[:MAX_DETAIL_CHARS].rstrip() + "…"
    cause = f"HTTP {status}" + (f" {reason}" if reason else "")
    return ERROR_BY_KIND[rule.kind](
        f"{vendor} refused to {doing} ({cause})" + (f": {said.rstrip('.')}." if said else "."),
        code=rule.code,
        remedy=rule.remedy,
        retry_after_s=retry_after_s if retry_after_s is not None else rule.wait_s,
    )


_REMEDIES = {
    FailureKind.TRANSIENT: "It is tried again by itself; if it lasts, look at {vendor}'s status page.",
    FailureKind.NEEDS_PERSON: "Check the {vendor} key or reconnect the account; `ettametta doctor` shows which it is.",
    FailureKind.PERMANENT: "Correct what the request asks for; the same request fails the same way again.",
}


def _code_of_status(vendor: str, status: int) -> str:
    names = {401: "unauthorized", 403: "forbidden", 404: "not_found", 429: "rate_limited"}
    return f"{vendor.lower()}_{names.get(status, 'unavailable' if status >= 500 else 'refused')}"


def network_error(
    error: Exception,
    vendor: str,
    doing: str,
    *,
    base_url: str,
    was_sent: bool,
    repeatable: bool,
    timed_out: bool = False,
) -> PipelineError:
    """The failure for an answer that never came.

    NeverSentError when the request cannot have arrived, TransientError when it may have but is `repeatable`, else
    OutcomeUnknownError, so that no layer sends it again without looking first.
    """
    what = "did not answer in time" if timed_out else f"broke the connection ({type(error).__name__})"
    if was_sent and not repeatable:
        return OutcomeUnknownError(
            f"{vendor} {what} when asked to {doing}, so it is not known whether that happened.",
            code="answer_lost",
            remedy="It is looked up before anything is sent again.",
        )
    refused = _certificate_problem(error)
    if not was_sent:
        what = f"cannot be reached at {host_of(base_url)}"
    if refused:
        remedy = f"Look at the machine's clock and its certificates (SSL_CERT_FILE); else it is {vendor}'s to mend."
        return NeverSentError(
            f"{vendor} {what} when asked to {doing}: {refused}.", code="vendor_certificate", remedy=remedy
        )
    remedy = (
        f"Check the network; it is tried again by itself. `ettametta doctor` shows whether {vendor} answers."
    )
    if is_loopback(base_url):
        remedy = "Start the sandbox with `ettametta sandbox` (or `make dev`); it is tried again by itself."
    return (TransientError if was_sent else NeverSentError)(
        f"{vendor} {what} when asked to {doing}.",
        code="vendor_timeout" if timed_out else "vendor_unreachable",
        remedy=remedy,
    )


def _certificate_problem(error: BaseException | None) -> str:
    """What is wrong with the other side's certificate; empty where it was not the certificate."""
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return f"its certificate was refused ({error.verify_message})"
        error = error.__cause__ or error.__context__
    return ""


def unreadable_answer(vendor: str, doing: str) -> TransientError:
    """The failure for a success in status alone: a proxy's waiting page, or an answer that was cut off."""
    return TransientError(
        f"{vendor} answered something unreadable when asked to {doing}.",
        code=f"{vendor.lower()}_answer_unreadable",
        remedy=_REMEDIES[FailureKind.TRANSIENT].format(vendor=vendor),
    )


def host_of(url: str) -> str:
    """Host and port of a URL: what may be said in an error, unlike its path and query."""
    parts = urlsplit(url)
    return f"{parts.hostname or ''}" + (f":{parts.port}" if parts.port else "")


def is_loopback(url: str) -> bool:
    """Whether the address is this machine, where proxies of the environment must not be used."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def retry_after_seconds(value: str | None, clock: Clock = utc_now) -> float | None:
    """Seconds of a `Retry-After` header (a number or an HTTP date), a month at most; None when absent or unreadable."""
    if not value:
        return None
    if _SECONDS.fullmatch(value.strip()):
        return min(float(value), LONGEST_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max(0.0, (moment - clock()).total_seconds()), LONGEST_RETRY_AFTER_S)


def call_with_retries(
    fn: Callable[[], T],
    *,
    retries: int,
    sleep: Callable[[float], None] = time.sleep,
    seed: str = "",
    base_s: float = 0.5,
    max_wait_s: float = 20.0,
) -> T:
    """Call `fn` once, and after transient failures again, at most `retries` times (`VendorEndpoint.max_retries`).

    Waits what the vendor asked for, else a doubling pause with jitter drawn from `seed`. A wait beyond `max_wait_s`
    (a spent daily quota) is not slept here: the failure goes up, where a run can end and come back. An
    OutcomeUnknownError is never repeated.
    """
    jitter = Random(seed)
    failed_before = 0
    while True:
        try:
            return fn()
        except OutcomeUnknownError:
            raise
        except TransientError as error:
            wait = error.retry_after_s
            if wait is None:
                wait = min(base_s * 2**failed_before, max_wait_s) * (0.5 + jitter.random() / 2)
            if failed_before >= retries or wait > max_wait_s:
                raise
            sleep(wait)
            failed_before += 1


def http_client(endpoint: "VendorEndpoint", *, headers: Mapping[str, str] | None = None) -> "httpx.Client":
    """httpx client for one vendor: base URL, connect and read timeouts, no redirects, no proxy on loopback."""
    import httpx

    quiet_request_logs()
    return httpx.Client(
        base_url=endpoint.base_url,
        timeout=httpx.Timeout(endpoint.timeout_s, connect=min(CONNECT_TIMEOUT_S, endpoint.timeout_s)),
        follow_redirects=False,
        trust_env=not is_loopback(endpoint.base_url),
        headers={"user-agent": USER_AGENT, **(headers or {})},
    )


def quiet_request_logs() -> None:
    """Keep the HTTP libraries from logging addresses: those of uploads are as good as a password."""
    for name in ("httpx", "httpx2", "httpcore", "httpcore2"):
        logger = logging.getLogger(name)
        logger.setLevel(max(logger.level, logging.WARNING))


def send(
    client: "httpx.Client",
    method: str,
    url: str,
    *,
    vendor: str,
    doing: str,
    repeatable: bool = True,
    **options: Any,
) -> "httpx.Response":
    """One request, any status returned. No answer raises TransientError, or OutcomeUnknownError if not `repeatable`."""
    import httpx

    try:
        return client.request(method, url, **options)
    except httpx.TransportError as error:
        never_sent = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol)
        raise network_error(
            error,
            vendor,
            doing,
            base_url=str(client.base_url),
            was_sent=not isinstance(error, never_sent),
            repeatable=repeatable,
            timed_out=isinstance(error, httpx.TimeoutException),
        ) from None


def raise_for_vendor(
    response: "httpx.Response",
    *,
    vendor: str,
    doing: str,
    reason: str = "",
    detail: str = "",
    rules: Mapping[str, ErrorRule] | None = None,
) -> None:
    """Raise the failure of an answer with a status of 300 or more, honouring `Retry-After`; else return."""
    if response.status_code < 300:
        return
    raise vendor_error(
        vendor,
        doing,
        status=response.status_code,
        reason=reason,
        detail=detail,
        rules=rules,
        retry_after_s=retry_after_seconds(response.headers.get("retry-after")),
    )


class MadeOnce(Generic[T]):
    """A client made when it is first used and kept, also between threads.

    One that is dropped would close the connections of whoever still uses it.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: T | None = None

    def __call__(self) -> T:
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made
