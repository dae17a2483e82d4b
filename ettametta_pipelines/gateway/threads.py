"""How many pages are made at once.

Pages are made in threads, which share one processor: more of them make each later and none sooner, and every one needs
a connection to the database. So pages take turns, and films, probes and messages never wait behind them.
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import Depends
from fastapi.params import Depends as Dependency

# With the readers of links, the writers of messages and clicks, and probes: as many as SQLAlchemy has connections for
# (five kept and ten more), so that no page waits for one.
PAGES_AT_ONCE = 8


def in_turn(limit: int = PAGES_AT_ONCE) -> Dependency:
    """A dependency of routes, of which no more than `limit` requests are then worked on at once."""
    turns = asyncio.Semaphore(limit)

    async def turn() -> AsyncIterator[None]:
        async with turns:
            yield

    dependency: Dependency = Depends(turn)
    return dependency
