"""Who may use the operators' pages, and proof that a form was sent by them.

The gateway knows no passwords. Either a proxy in front of it authenticates people and names them in the header of
ETTAMETTA_PROXY_USER_HEADER, or the pages answer this machine's own browser on the loopback address alone. Host and
Origin are compared with the configured address, never taken from the request: a page elsewhere that resolves to this
machine gets nothing.
"""

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from ipaddress import ip_address
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.publishing.tokens import open_envelope
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.untrusted import plain_text

MAX_FORM_BYTES = 16 * 1024
MAX_FILE_FORM_BYTES = 1024 * 1024
COOKIE_COLUMN = "browser_session"
HTTPS_ONLY = {"strict-transport-security": "max-age=31536000"}
# Set by a proxy we were told nothing of: what reaches us through it may be anybody.
FORWARDING_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip")


class PageRefused(Exception):
    """A page that is not shown; `remedy` says what would help."""

    def __init__(
        self, status: int, title: str, message: str, remedy: str = "", *, location: str = ""
    ) -> None:
        super().__init__(message)
        self.status = status
        self.title = title
        self.message = message
        self.remedy = remedy
        self.location = location


@dataclass(frozen=True)
class Operator:
    """The person behind a request: a name for the audit trail, their browser session, and their forms' token."""

    name: str
    browser: str

    @property
    def actor(self) -> str:
        return f"{self.name} (gateway)"

    @property
    def csrf(self) -> str:
        return hashlib.sha256(f"csrf/{self.browser}".encode()).hexdigest()


@dataclass(frozen=True)
class PostedForm:
    """A form that came from one of our own pages."""

    operator: Operator
    fields: dict[str, str]


class OperatorsDoor:
    """Dependencies of every operators' route: `admit` for reading, `form` for what changes something."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._settings = settings
        self.url = url.rstrip("/")
        self._host = urlsplit(self.url).netloc
        self._secure = self.url.startswith("https://")
        self.cookie = "__Host-ettametta" if self._secure else "ettametta_browser"

    def admit(self, request: Request) -> Operator:
        """The operator, with a browser session that is begun if there is none. Raises PageRefused."""
        name = self._named_by_proxy(request) if self._settings.proxy_user_header else self._local(request)
        host = request.headers.get("host", "")
        if host != self._host:
            location = f"{self.url}{request.url.path}"
            if (
                request.method == "GET"
                and not request.url.query
                and _is_loopback(urlsplit(f"//{host}").hostname)
            ):
                raise PageRefused(307, "Elsewhere", f"These pages are at {location}.", location=location)
            raise PageRefused(421, "Wrong address", f"These pages are at {self.url} only.")
        return Operator(name, self._browser(request))

    async def form(self, request: Request) -> PostedForm:
        """The fields of a form sent from our own page by an operator. Raises PageRefused."""
        return await self._form(request, MAX_FORM_BYTES)

    async def file_form(self, request: Request) -> PostedForm:
        """As `form`, with room for a text file among the fields."""
        return await self._form(request, MAX_FILE_FORM_BYTES)

    async def _form(self, request: Request, max_bytes: int) -> PostedForm:
        operator = self.admit(request)
        body = b""
        async for piece in request.stream():
            body += piece
            if len(body) > max_bytes:
                raise PageRefused(413, "Too large", "The form is too large.")
        fields = _fields(request.headers.get("content-type", ""), body)
        sent_from_here = request.headers.get("origin") == self.url
        if not sent_from_here or not hmac.compare_digest(
            fields.pop("csrf", "").encode(), operator.csrf.encode()
        ):
            raise PageRefused(
                403,
                "Form refused",
                "The form was not sent from this page, or the page was too old.",
                "Go back, load the page again, and send it once more. Cookies must be allowed.",
            )
        return PostedForm(operator, fields)

    def _named_by_proxy(self, request: Request) -> str:
        name = plain_text(request.headers.get(self._settings.proxy_user_header), 80)
        if not name:
            raise PageRefused(
                403,
                "Not signed in",
                "The proxy in front of this gateway did not say who you are.",
                f"Have it authenticate people and name them in the header {self._settings.proxy_user_header}.",
            )
        return name

    def _local(self, request: Request) -> str:
        if self._settings.production_domain or not is_this_machine(request):
            raise PageRefused(
                403,
                "Closed",
                "Operators' pages are open on this machine's own loopback address only.",
                "Put an authenticating proxy in front and set ETTAMETTA_PROXY_USER_HEADER; see docs/accounts.md.",
            )
        return "operator at this machine"

    def _browser(self, request: Request) -> str:
        envelope = open_envelope(self._settings)
        where = {"account": "", "platform": "gateway", "column": COOKIE_COLUMN}
        try:
            return envelope.open(request.cookies.get(self.cookie, ""), **where)
        except PipelineError:
            browser = secrets.token_urlsafe(32)
        # Lax and not Strict: the way back from a vendor's consent page starts at the vendor.
        attributes = "Path=/; HttpOnly; SameSite=Lax" + ("; Secure" if self._secure else "")
        request.state.set_cookie = f"{self.cookie}={envelope.seal(browser, **where)}; {attributes}"
        return browser


def _fields(content_type: str, body: bytes) -> dict[str, str]:
    """Fields of a form in either way browsers send one; of a repeated name the last."""
    if not content_type.startswith("multipart/form-data"):
        return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True))
    head = f"Content-Type: {content_type}\r\n\r\n".encode("latin-1", "replace")
    message = BytesParser(policy=HTTP).parsebytes(head + body)
    fields = {}
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        fields[str(name)] = bytes(part.get_payload(decode=True) or b"").decode("utf-8", "replace")
    return fields


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


def is_this_machine(request: Request) -> bool:
    """Whether this machine asks, and for itself: nothing says that a proxy passes somebody else's request on."""
    forwarded = any(request.headers.get(name) for name in FORWARDING_HEADERS)
    return not forwarded and _is_loopback(request.client.host if request.client else None)


class PageHeaders:
    """Outermost layer: the headers every answer carries but media, and the cookie of a session just begun."""

    def __init__(self, app: ASGIApp, *, form_targets: Sequence[str], is_https: bool = False) -> None:
        self.app = app
        # Browsers hold redirects that follow a form to its rule as well, and connecting ends at the vendor.
        targets = " ".join(["'self'", *form_targets])
        self.headers = {
            "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; media-src 'self'; "
            f"form-action {targets}; frame-ancestors 'none'; base-uri 'none'",
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            # With `no-referrer` browsers would send `Origin: null`, and no form could be told from a forged one.
            "referrer-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-store",
        } | (HTTPS_ONLY if is_https else {})
        # A film is embedded and opened elsewhere, and kept by caches; it is what its type says, and nothing else.
        self.media_headers = {"x-content-type-options": "nosniff"} | (HTTPS_ONLY if is_https else {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers_of_all = self.media_headers if scope["path"].startswith("/media/") else self.headers
        state = scope.setdefault("state", {})

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in headers_of_all.items():
                    headers.setdefault(name, value)
                if cookie := state.get("set_cookie"):
                    headers.append("set-cookie", cookie)
            await send(message)

        await self.app(scope, receive, answer)
