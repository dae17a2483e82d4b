"""What the gateway reads often, kept for a while: in this process, or in the Redis of CACHE_URL for all of them.

A cache that is away, slow or full of nonsense costs the read it would have saved, never an answer: what goes wrong is
counted, and a cache that failed is left alone for a moment. Values are JSON, since what lies in a shared Redis must not
run. Nothing secret and nothing of a browser session is kept. Where a change must show at once its writer calls
`forget`; in other processes without Redis, and wherever nobody does, it shows when the value's time is up.
"""

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from anyio import from_thread, to_thread
from cashews import Cache
from cashews.exceptions import CacheError

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.settings import Settings

log = logging.getLogger(__name__)

PREFIX = "ettametta"
# Values of this process's memory at most.
KEPT = 20_000
# A cache answers within a millisecond or two; one that takes this long is worse than none.
PATIENCE_S = 0.25
LEFT_ALONE_S = 5.0
_counts: Counter[str] = Counter()


def cache_counts() -> dict[str, int]:
    """Reads of this process so far by outcome: `hits`, `misses`, and `errors` of the cache itself."""
    return {name: _counts[name] for name in ("hits", "misses", "errors")}


class ReadCache:
    """One cache of a gateway process, used from its event loop and, by `read_here`, from its worker threads."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._cache = Cache()
        self._clock = clock
        self._left_alone_until = 0.0
        address = settings.cache_url
        try:
            if address:
                self._cache.setup(
                    address, pickle_type="json", suppress=False, socket_timeout=PATIENCE_S,
                    socket_connect_timeout=PATIENCE_S, wait_for_connection_timeout=PATIENCE_S, max_connections=20,
                )  # fmt: skip
            else:
                self._cache.setup(f"mem://?size={KEPT}")
        except (CacheError, ValueError) as error:
            raise NeedsPersonError(
                f"CACHE_URL is no address of a cache ({type(error).__name__}).", code="bad_cache_url",
                remedy="Write it redis://host:6379/0, or unset it to keep what is read in memory.",
            ) from None  # fmt: skip

    async def read(self, kind: str, name: str, ttl_s: float, load: Callable[[], Awaitable[Any]]) -> Any:
        """What is kept, or what `load` returns, which is kept then unless it is None. Raises what `load` raises."""
        place = f"{PREFIX}:{kind}:{name}"
        found = await self._try(lambda: self._cache.get(place))
        if found is not None:
            _counts["hits"] += 1
            return found
        _counts["misses"] += 1
        value = await load()
        if value is not None:
            await self._try(lambda: self._cache.set(place, value, expire=ttl_s))
        return value

    def read_here(self, kind: str, name: str, ttl_s: float, load: Callable[[], Any]) -> Any:
        """`read` from a worker thread of the gateway; `load` runs in a thread as well."""

        async def loaded() -> Any:
            return await to_thread.run_sync(load)

        return from_thread.run(self.read, kind, name, ttl_s, loaded)

    async def forget(self, kind: str, name: str = "*") -> None:
        """Drop what is kept under a name, or of a kind."""
        await self._try(lambda: self._cache.delete_match(f"{PREFIX}:{kind}:{name}"))

    async def close(self) -> None:
        await self._cache.close()

    async def _try(self, act: Callable[[], Awaitable[Any]]) -> Any:
        """What the cache says; None where it does not."""
        if self._clock() < self._left_alone_until:
            return None
        try:
            return await act()
        # Whatever it is, the answer is in the database: no kind of trouble with a cache may cost one.
        except Exception as error:  # noqa: BLE001
            _counts["errors"] += 1
            self._left_alone_until = self._clock() + LEFT_ALONE_S
            log.warning("The cache did not answer (%s); reading without it.", type(error).__name__)
            return None
