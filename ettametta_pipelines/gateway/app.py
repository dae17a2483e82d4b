"""The gateway application: health probes, media links, vendors' webhooks, and the operators' pages.

`GET /media/{key}` serves immutable objects of the store's `media/` tree with byte ranges, so that a rendition's
link in the Dagster UI plays in the browser. Uploads, tables and state are never served. The server binds the
loopback interface unless told otherwise (`gateway/server.py`). Who may use the pages is said in `operators.py`.
"""

import mimetypes
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request
from fastapi.exception_handlers import http_exception_handler
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.exceptions import HTTPException as StarletteHTTPException

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import FailureKind, PipelineError
from ettametta_pipelines.gateway.access import Access, Rule, open_to
from ettametta_pipelines.gateway.accounts import account_routes
from ettametta_pipelines.gateway.billing import billing_routes, stripe_origins
from ettametta_pipelines.gateway.cache import ReadCache, cache_counts
from ettametta_pipelines.gateway.limits import RequestLimits
from ettametta_pipelines.gateway.links import link_routes
from ettametta_pipelines.gateway.metrics import Counts, measure
from ettametta_pipelines.gateway.operators import OperatorsDoor, PageHeaders, PageRefused, is_this_machine
from ettametta_pipelines.gateway.pages import icon, nothing_there, refusal, stylesheet, wants_a_page
from ettametta_pipelines.gateway.postbacks import postback_routes
from ettametta_pipelines.gateway.publications import publication_routes
from ettametta_pipelines.gateway.redirects import FollowedLinks, redirect_routes
from ettametta_pipelines.gateway.threads import in_turn
from ettametta_pipelines.gateway.webhooks import webhook_routes
from ettametta_pipelines.media_links import is_signed
from ettametta_pipelines.operations.last_look import is_silent, last_look
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.objects import ObjectInfo, ObjectMissing, ObjectStore, open_store
from ettametta_pipelines.vendors.oauth import RULES, open_desk

SERVED_PREFIX = "media/"
CHUNK_BYTES = 1 << 20
IMMUTABLE = "public, max-age=31536000, immutable"
STATUS_OF_CODE = {
    "unknown_publication": 404, "channel_not_connected": 404, "bad_account": 404, "unknown_tier": 404,
    "already_subscribed": 409, "no_subscription": 409, "no_customer": 409, "unknown_link": 404,
}  # fmt: skip
# Every answer but the good ones, wherever it may come from; tests hold all routes to it.
STATUSES: dict[int | str, dict[str, str]] = {
    303: {"description": "Done; see there"}, 302: {"description": "Elsewhere"}, 307: {"description": "Elsewhere"},
    206: {"description": "A part"}, 400: {"description": "Not understood"}, 403: {"description": "Not allowed"},
    404: {"description": "Not there"}, 405: {"description": "Not this way"}, 409: {"description": "Not now"},
    410: {"description": "Gone"}, 413: {"description": "Too large"}, 416: {"description": "No such part"},
    421: {"description": "Wrong address"}, 422: {"description": "Not complete"}, 429: {"description": "Too many"},
    503: {"description": "Try again later"},
}  # fmt: skip
# Python knows it from 3.13 on; before, only where the system has a table of types.
mimetypes.add_type("image/webp", ".webp")
_RANGE = re.compile(r"^bytes=(\d{0,18})-(\d{0,18})$", re.ASCII)


class _Film(FileResponse):
    """Read in pieces of a size at which waiting for a thread does not count; Starlette's are a sixteenth of it."""

    chunk_size = CHUNK_BYTES


def create_gateway(settings: Settings, *, url: str | None = None) -> FastAPI:
    """The ASGI application over the configured store and state; `url` is where browsers find it."""
    # A redirect to the same path without its last slash would name the host that the request names.
    app = FastAPI(
        title="ettametta gateway",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
        responses=STATUSES,
    )
    store = open_store(settings)
    state = open_state(settings)

    # Waits for no thread: a gateway that is busy is alive.
    @app.get("/livez", dependencies=[open_to(Rule.PUBLIC)])
    async def livez() -> dict[str, str]:
        return {"service": "ettametta-gateway", "status": "alive"}

    @app.get("/readyz", dependencies=[open_to(Rule.PUBLIC)])
    def readyz() -> JSONResponse:
        problems = _readiness_problems(store, state)
        return JSONResponse({"ready": not problems, "problems": problems}, 503 if problems else 200)

    # For a watch outside: who looks for what is wrong cannot tell that it is gone itself.
    @app.get("/watchz", dependencies=[open_to(Rule.PUBLIC)])
    def watchz() -> JSONResponse:
        looked = last_look(state)
        watching = looked is not None and not is_silent(looked, utc_now())
        at = looked.isoformat(timespec="seconds") if looked else None
        return JSONResponse({"watching": watching, "last_look": at}, 200 if watching else 503)

    @app.api_route("/media/{path:path}", methods=["GET", "HEAD"], dependencies=[open_to(Rule.SIGNED)])
    def media(path: str, request: Request) -> Response:
        key = SERVED_PREFIX + path
        _check_link(settings, key, request)
        return _serve_media(store, key, request.headers.get("range"))

    for path, static in (("/gateway.css", stylesheet), ("/icon.svg", icon)):
        app.add_api_route(path, static, methods=["GET"], dependencies=[open_to(Rule.PUBLIC)])
    _add_pages(app, settings, state, store, url or settings.gateway_url)
    return app


def _add_pages(app: FastAPI, settings: Settings, state: StateDatabase, store: ObjectStore, url: str) -> None:
    """The operators' pages and the webhooks, with the headers and refusals they share."""
    door, cache = OperatorsDoor(settings, url), ReadCache(settings)
    followed = FollowedLinks(settings, state, cache)
    for routes, rule in (
        (webhook_routes(settings, state), Rule.SIGNED),
        (postback_routes(settings, state), Rule.SIGNED),
        (redirect_routes(followed), Rule.PUBLIC),
    ):
        app.include_router(routes, dependencies=[open_to(rule)])
    turns, access = in_turn(), Access(settings, door)
    for pages in (
        publication_routes(settings, state, store, access, cache),
        account_routes(settings, state, door, access),
        link_routes(settings, state, door, access, followed),
        billing_routes(settings, door, access),
    ):
        app.include_router(pages, dependencies=[turns])

    @app.exception_handler(PageRefused)
    def refused(request: Request, error: PageRefused) -> Response:
        return refusal(error)

    @app.exception_handler(PipelineError)
    def failed(request: Request, error: PipelineError) -> Response:
        status = 503 if error.kind is FailureKind.TRANSIENT else STATUS_OF_CODE.get(error.code, 400)
        return refusal(PageRefused(status, "That did not work", error.message, error.remedy))

    @app.exception_handler(StarletteHTTPException)
    async def missing(request: Request, error: StarletteHTTPException) -> Response:
        if error.status_code == 404 and wants_a_page(request):
            return nothing_there(error.detail)
        return await http_exception_handler(request, error)

    app.add_middleware(RequestLimits, settings=settings)
    # Outside of the limits: what they refuse bears the headers too.
    app.add_middleware(
        PageHeaders,
        form_targets=[*_consent_origins(settings), *stripe_origins(settings)],
        is_https=url.startswith("https://"),
    )
    lost = Counts("ettametta_clicks", "Clicks", "outcome", lambda: {"lost": followed.log.lost})
    reads = Counts("ettametta_cache_reads", "Reads of the cache", "outcome", cache_counts)
    measure(app, state, [lost, reads])


def _consent_origins(settings: Settings) -> list[str]:
    """Where connecting a channel leads; a vendor that is half configured has no consent page."""
    origins = set()
    for platform in RULES:
        try:
            address = urlsplit(open_desk(settings, platform).authorize_url)
        except PipelineError:
            continue
        origins.add(f"{address.scheme}://{address.netloc}")
    return sorted(origins)


def _readiness_problems(store: ObjectStore, state: StateDatabase) -> list[str]:
    problems = []
    try:
        store.check_reachable()
    except PipelineError as error:
        problems.append(f"object store: {error.code}")
    try:
        with state.session(write=False) as session:
            state.now(session)
    except PipelineError as error:
        problems.append(f"state database: {error.code}")
    return problems


def _check_link(settings: Settings, key: str, request: Request) -> None:
    """Raises HTTPException unless the link is signed by us, or this very machine asks a gateway that signs nothing."""
    if settings.media_keys:
        if not is_signed(settings, key, request.query_params, utc_now()):
            raise HTTPException(403, "the link is not signed, was changed, or has ended")
    elif settings.production_domain or not is_this_machine(request):
        raise HTTPException(403, "media are closed: this gateway has no MEDIA_SIGNING_KEYS")


def _serve_media(store: ObjectStore, key: str, range_header: str | None) -> Response:
    try:
        info = store.head(key)
    except ObjectMissing:
        raise HTTPException(404, "no such media") from None
    except PipelineError as error:
        status = 404 if error.code == "bad_object_key" else 503
        raise HTTPException(status, error.code) from None
    content_type = mimetypes.guess_type(key)[0] or "application/octet-stream"
    headers = {"Cache-Control": IMMUTABLE, "ETag": f'"{info.etag.strip(chr(34))}"', "Accept-Ranges": "bytes"}
    local = store.local_path(key)
    if local is not None:
        return _Film(local, media_type=content_type, headers=headers)
    start, end = _resolve_range(range_header, info)
    partial = range_header is not None
    if partial:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{info.size}"
    headers["Content-Length"] = str(end - start)
    body = _read_span(store, key, start, end)
    return StreamingResponse(body, 206 if partial else 200, headers=headers, media_type=content_type)


def _resolve_range(header: str | None, info: ObjectInfo) -> tuple[int, int]:
    """Half-open byte span of a single-range request (RFC 9110 section 14); 416 when it cannot be satisfied."""
    if header is None:
        return 0, info.size
    match = _RANGE.match(header.strip())
    first, last = match.groups() if match else ("", "")
    if first:
        start, end = int(first), min(int(last) + 1, info.size) if last else info.size
    elif last:
        start, end = max(info.size - int(last), 0), info.size
    else:
        start, end = 0, 0
    if start >= end:
        raise HTTPException(416, "range not satisfiable", {"Content-Range": f"bytes */{info.size}"})
    return start, end


def _read_span(store: ObjectStore, key: str, start: int, end: int) -> Iterator[bytes]:
    while start < end:
        length = min(CHUNK_BYTES, end - start)
        yield store.read_range(key, start, length)
        start += length
