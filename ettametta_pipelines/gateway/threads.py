"""How many pages are made at once.

Pages are made in threads, which share one processor: more of them make each later and none sooner, and every one needs
a connection to the database. What storing messages waits for is not among them (`group_commit.py`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio.to_thread import current_default_thread_limiter
from fastapi import APIRouter, FastAPI

# Fewer than SQLAlchemy has connections for (five kept and ten more): no page waits for one.
PAGES_AT_ONCE = 12


def thread_routes() -> APIRouter:
    """No routes; sets the limit when the application starts."""

    @asynccontextmanager
    async def limited(app: FastAPI) -> AsyncIterator[None]:
        current_default_thread_limiter().total_tokens = PAGES_AT_ONCE
        yield

    return APIRouter(lifespan=limited)
