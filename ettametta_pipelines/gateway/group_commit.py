"""Storing of messages in groups: what arrives while one commit is under way goes into the next, all of it together.

A commit costs the same for one message as for fifty. So the busier it gets the less each costs, and what a stall of the
database has let pile up is stored at once instead of one after the other.
"""

import asyncio

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from ettametta_pipelines.state import inbox
from ettametta_pipelines.state.session import StateDatabase


class GroupCommit:
    """A writer of an application's inbox, one for each kind of senders. Used within one event loop."""

    def __init__(self, db: StateDatabase) -> None:
        self._db = db
        self._next: dict[tuple[str, str], inbox.Message] = {}
        self._commit: asyncio.Task[set[tuple[str, str]]] | None = None
        self._one_at_a_time = asyncio.Lock()
        # Of its own: messages do not wait until pages are made.
        self._thread = CapacityLimiter(1)

    async def store(self, message: inbox.Message) -> bool:
        """Return once the message is committed; False when it was there already. Raises what the database raises."""
        is_first = message.key not in self._next
        self._next[message.key] = message
        if len(self._next) == 1 and is_first:
            self._commit = asyncio.create_task(self._commit_next())
        commit = self._commit
        assert commit is not None
        # A sender that hangs up takes back its own request only.
        return message.key in await asyncio.shield(commit) and is_first

    async def _commit_next(self) -> set[tuple[str, str]]:
        async with self._one_at_a_time:
            group, self._next = self._next, {}
            return await run_sync(inbox.store, self._db, group.values(), limiter=self._thread)
