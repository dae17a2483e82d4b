"""What every request meets before a route: an id, a size, a rate and a time it may not exceed, and a line in the log.

The id comes from X-Request-ID if it is one, else it is made; it goes back in the same header and into the line. A line
is one JSON object on standard error, without query, cookies, bodies or what a code or a token in a path says. A client
is who the header of ETTAMETTA_CLIENT_HEADER names, else the peer. Requests of this machine itself are not limited, nor
those through a proxy that names nobody: there all people would share one rate.
"""

import asyncio
import json
import logging
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from uuid import uuid4

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.settings import Settings

REQUEST_ID = "X-Request-ID"
# What routes that take more than a form refuse at a smaller size themselves.
MAX_BODY_BYTES = 2_000_000
# Until the answer begins; a proxy in front gives up after 60 s mostly. A film may take as long as it takes.
PATIENCE_S = 30.0
# A client's requests come in bursts of so many seconds' worth.
BURST_S = 4.0
CLIENTS_KEPT = 50_000
# Asked by the machinery around us, at a rate it decides.
_FREE = ("/livez", "/readyz", "/metrics")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
# First part of a path -> what stands for the rest of it in the log: it names no person, secret or vendor's id.
_SHOWN_PARTS = 2

log = logging.getLogger("ettametta_pipelines.gateway.requests")


class _TooLarge(Exception):
    pass


class Rates:
    """A bucket for each client, refilled at a rate. Memory is bounded: who was not seen longest starts anew."""

    def __init__(self, a_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = a_second, a_second * BURST_S, clock
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._lock = threading.Lock()

    def wait_s(self, client: str) -> float:
        """Take one request of a client: 0 when it may pass, else after how many seconds one would."""
        if not self._rate:
            return 0.0
        with self._lock:
            now = self._clock()
            left, at = self._left.pop(client, (self._burst, now))
            left = min(self._burst, left + (now - at) * self._rate)
            passes = left >= 1
            self._left[client] = (left - 1 if passes else left, now)
            while len(self._left) > CLIENTS_KEPT:
                self._left.popitem(last=False)
        return 0.0 if passes else (1 - left) / self._rate


class RequestLimits:
    """Outermost layer of the gateway."""

    def __init__(self, app: ASGIApp, *, settings: Settings, patience_s: float = PATIENCE_S) -> None:
        self.app = app
        self._header = settings.client_header
        self._is_behind_a_proxy = bool(settings.proxy_user_header)
        self._rates = Rates(settings.requests_a_second)
        self._patience_s = patience_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        scope.setdefault("state", {})["request_id"] = request_id
        began, answer = time.monotonic(), _Answer(send, request_id)
        try:
            await self._limited(scope, receive, answer, headers)
        except Exception:
            log.exception("Request %s failed.", request_id)
            if answer.status:
                raise
            await _refuse(answer, scope, receive, 500, "failed")
        finally:
            _note(scope, headers, request_id, answer, time.monotonic() - began)

    async def _limited(self, scope: Scope, receive: Receive, answer: "_Answer", headers: Headers) -> None:
        client = self._client(scope, headers)
        if client and scope["path"] not in _FREE and (wait := self._rates.wait_s(client)):
            await _refuse(
                answer, scope, receive, 429, "too_many_requests", {"Retry-After": str(int(wait) + 1)}
            )
            return
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length[:12]) > MAX_BODY_BYTES:
            await _refuse(answer, scope, receive, 413, "too_large", {"Connection": "close"})
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MAX_BODY_BYTES:
                raise _TooLarge
            return message

        work = asyncio.ensure_future(self.app(scope, counted, answer))
        try:
            await asyncio.wait({work, began := asyncio.ensure_future(answer.began.wait())},
                               timeout=self._patience_s, return_when=asyncio.FIRST_COMPLETED)  # fmt: skip
            began.cancel()
            if work.done() or answer.began.is_set():
                await work
                return
        except _TooLarge:
            if answer.status:
                raise
            await _refuse(answer, scope, receive, 413, "too_large", {"Connection": "close"})
            return
        finally:
            if not work.done():
                work.cancel()
        await _refuse(answer, scope, receive, 503, "took_too_long", {"Retry-After": "5"})

    def _client(self, scope: Scope, headers: Headers) -> str:
        """Whose rate this counts for; empty where it is nobody's."""
        if self._header and (named := headers.get(self._header)):
            # The last one is what the proxy next to us saw; those before it are what it was told.
            return named.rpartition(",")[2].strip()[:64]
        peer = scope["client"][0] if scope.get("client") else ""
        try:
            own = ip_address(peer).is_loopback
        except ValueError:
            own = False
        return "" if own or self._is_behind_a_proxy else peer


class _Answer:
    """`send` that knows whether and how the answer began, and marks it with the request's id."""

    def __init__(self, send: Send, request_id: str) -> None:
        self._send, self._request_id = send, request_id
        self.status = 0
        self.sent_bytes = 0
        self.began = asyncio.Event()

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.began.set()
            MutableHeaders(scope=message)[REQUEST_ID] = self._request_id
        self.sent_bytes += len(message.get("body", b""))
        await self._send(message)


async def _refuse(
    answer: _Answer,
    scope: Scope,
    receive: Receive,
    status: int,
    code: str,
    headers: dict[str, str] | None = None,
) -> None:
    await JSONResponse({"error": code}, status, headers)(scope, receive, answer)


def _note(scope: Scope, headers: Headers, request_id: str, answer: _Answer, seconds: float) -> None:
    if scope["path"] in _FREE and answer.status < 500:
        return
    log.info("%s", json.dumps({
        "at": utc_now().isoformat(timespec="milliseconds"), "request_id": request_id, "method": scope["method"],
        "path": _shown_path(scope), "status": answer.status, "ms": round(seconds * 1000, 1),
        "bytes": answer.sent_bytes,
    }))  # fmt: skip


def _shown_path(scope: Scope) -> str:
    """The route as it is declared, `/go/{code}`; of no route, the first part."""
    route = getattr(scope.get("route"), "path", "")
    return route or "/" + scope["path"].split("/", _SHOWN_PARTS)[1][:40]


def log_requests() -> None:
    """One line a request on standard error, whatever else is logged in this process."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    log.handlers[:] = [handler]
    log.propagate = False
    log.setLevel(logging.INFO)
