"""`GET /go/{code}`: sends a follower of a post's link on, and notes the click.

Public. What counts as a click and where a code leads is said in `commerce/clicks.py`.
"""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

from anyio import from_thread
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse, Response

from ettametta_pipelines.commerce.clicks import (
    CODE,
    FRESH_S,
    ClickLog,
    Gauge,
    Lead,
    Redirects,
    is_machine,
    referrer_host,
)
from ettametta_pipelines.commerce.networks import load_networks
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.gateway.cache import ReadCache
from ettametta_pipelines.gateway.pages import page
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase

# Longer than a look-up takes, shorter than a person waits.
LOOK_UP_S = 1.0
LOOK_UPS_AT_ONCE = 4
LEADS = "go"


class _TooMany(Exception):
    """More codes are asked for than are looked up."""


class FollowedLinks:
    """What the redirect and the pages about links share in one process."""

    def __init__(self, settings: Settings, db: StateDatabase, cache: ReadCache) -> None:
        self.cache = cache
        self.redirects = Redirects(db, lambda: load_networks(settings))
        self.log = ClickLog(db, settings.timezone)

    def forget(self) -> None:
        """A link was changed: said by a page, from its worker thread."""
        self.redirects.forget()
        from_thread.run(self.cache.forget, LEADS)


def redirect_routes(followed: FollowedLinks) -> APIRouter:
    """Not behind the operators' door. Nothing of the request gets into the address but which code it names."""
    redirects, cache, log, gauge = followed.redirects, followed.cache, followed.log, Gauge()
    # Of its own, so that a database that hangs holds up no other page.
    readers = ThreadPoolExecutor(LOOK_UPS_AT_ONCE, thread_name_prefix="go")

    @asynccontextmanager
    async def noted_at_the_end(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(log.close)
        await cache.close()

    routes = APIRouter(lifespan=noted_at_the_end)

    async def look_up(code: str) -> Lead | None:
        """Raises PipelineError or TimeoutError when nobody can tell.

        Only questions to the database are limited: whoever tries codes out turns away no follower of a known one.
        """

        async def asked() -> list[Any] | None:
            if not gauge.admits():
                raise _TooMany
            found = asyncio.get_running_loop().run_in_executor(readers, redirects.find, code)
            lead = await asyncio.wait_for(found, LOOK_UP_S)
            return None if lead is None else [lead.url, lead.is_active]

        try:
            kept = await cache.read(LEADS, code, FRESH_S, asked)
            return None if kept is None else Lead(*kept)
        except (PipelineError, TimeoutError, _TooMany):
            if (lead := redirects.remembered(code, fresh=False)) is None:
                raise
            return lead

    @routes.api_route("/go/{code}", methods=["GET", "HEAD"])
    async def follow(code: str, request: Request) -> Response:
        if not CODE.fullmatch(code):
            return _refused(404, "No such link", "This link leads nowhere.")
        try:
            lead = await look_up(code)
        except _TooMany:
            return _refused(429, "Too many at once", "Try this link again in a moment.")
        except (PipelineError, TimeoutError):
            return _refused(503, "Not now", "Try this link again in a minute.")
        if lead is None:
            return _refused(404, "No such link", "This link leads nowhere.")
        headers, peer = request.headers, request.client.host if request.client else ""
        machine = is_machine(request.method, headers)
        again = not machine and gauge.repeats(peer, headers.get("user-agent", ""), code)
        log.note(code, is_bot=machine or again, referrer=referrer_host(headers.get("referer")))
        if lead.url is None:
            return _refused(410, "This offer has ended", "What was linked here is not offered any more.")
        # Shops and networks may ask where a visitor came from: the page's host, no more.
        return RedirectResponse(
            lead.url, 302, {"X-Robots-Tag": "noindex", "Referrer-Policy": "strict-origin-when-cross-origin"}
        )

    return routes


def _refused(status: int, title: str, message: str) -> Response:
    answer = page("followed.html", None, status=status, title=title, message=message)
    if status in (429, 503):
        answer.headers["Retry-After"] = "5"
    return answer
