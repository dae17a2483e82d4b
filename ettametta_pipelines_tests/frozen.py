"""A sandbox whose time stands where a test put it, for books that must read the same on every day of the year."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ettametta_pipelines.sandbox.server import SandboxServer
from ettametta_pipelines_tests.conftest import MovingClock, SandboxUnderTest


class SetClock(MovingClock):
    """`clock()` tells the time, `clock.sleep(s)` lets it pass without waiting."""

    def __init__(self, now: datetime) -> None:
        super().__init__()
        self.now = now

    def __call__(self) -> datetime:
        return self.now + self.ahead

    def sleep(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def utc(text: str) -> datetime:
    """Aware UTC instant of an ISO string: `2026-11-20` or `2026-11-20T08:30:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@contextmanager
def frozen_sandbox(home: Path, clock: SetClock) -> Iterator[SandboxUnderTest]:
    with SandboxServer(home, clock=clock) as server:
        yield SandboxUnderTest(server, home, clock)
