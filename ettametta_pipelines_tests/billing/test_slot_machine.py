"""Video slots as a state machine: whatever happens in whatever order, nothing is oversold and nothing is lost.

Beside the database walks a model in plain Python; after every step the two must agree.
"""

import shutil
import tempfile
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import stateful
from hypothesis import strategies as st

from ettametta_pipelines.billing.reservations import (
    LEASE,
    Slot,
    VideoLimitReached,
    consume_slot,
    reap,
    release_slot,
)
from ettametta_pipelines_tests.billing.conftest import NOW, TimedDatabase, World, plans
from ettametta_pipelines_tests.frozen import SetClock
from ettametta_pipelines_tests.fuzz import tried

pytestmark = pytest.mark.fuzz

LIMIT, FREE_FAILURES = 5, 5
sources = st.integers(0, 6)
accounts = st.sampled_from(["acme", "other"])


@pytest.fixture(scope="module")
def empty_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated database to copy: each walk has one of its own."""
    path = tmp_path_factory.mktemp("slots") / "state.db"
    with state_of(path) as database:
        database.migrate()
    return path


def state_of(path: Path, clock: SetClock | None = None) -> TimedDatabase:
    return TimedDatabase(f"sqlite:///{path}", clock or SetClock(NOW))


class Account:
    """What the model knows of one account in its running period."""

    def __init__(self) -> None:
        self.held: dict[int, Slot] = {}
        self.used: set[int] = set()
        self.failures = 0


class Slots(stateful.RuleBasedStateMachine):
    """Reserve, consume, release, wait and reap, on two accounts, within one period."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="ettametta-slots-"))
        shutil.copy(self.template, self.folder / "state.db")
        self.clock = SetClock(NOW)
        self.db = state_of(self.folder / "state.db", self.clock)
        self.worlds = {name: World(self.clock, self.db, plans(), account=name) for name in ("acme", "other")}
        self.model = {name: Account() for name in self.worlds}
        self.until: dict[str, dict[int, float]] = {name: {} for name in self.worlds}
        self.hours = 0.0

    def teardown(self) -> None:
        self.db.close()
        shutil.rmtree(self.folder)

    def _expire(self, name: str) -> int:
        """What the model returns of an account when its rows are looked at."""
        gone = [s for s, until in self.until[name].items() if until <= self.hours]
        for source in gone:
            del self.until[name][source]
            del self.model[name].held[source]
        return len(gone)

    @stateful.rule(name=accounts, source=sources)
    def reserve(self, name: str, source: int) -> None:
        self._expire(name)
        model, world = self.model[name], self.worlds[name]
        fits = source in model.held or source in model.used or len(model.held) + len(model.used) < LIMIT
        if not fits:
            with pytest.raises(VideoLimitReached):
                world.reserve(f"s{source}")
            return
        slot = world.reserve(f"s{source}")
        assert slot.is_new is (source not in model.held and source not in model.used)
        if source not in model.used:
            model.held[source] = slot
            self.until[name][source] = self.hours + LEASE.total_seconds() / 3600

    @stateful.precondition(lambda self: any(account.held for account in self.model.values()))
    @stateful.rule(name=accounts, data=st.data())
    def consume(self, name: str, data: st.DataObject) -> None:
        model = self.model[name]
        if not model.held:
            return
        source = data.draw(st.sampled_from(sorted(model.held)))
        # A slot that was not looked at since its lease ended is still its holder's.
        assert consume_slot(self.db, self.worlds[name].plans, model.held[source]) == "consumed"
        del model.held[source], self.until[name][source]
        model.used.add(source)

    @stateful.precondition(lambda self: any(account.held for account in self.model.values()))
    @stateful.rule(name=accounts, data=st.data())
    def release(self, name: str, data: st.DataObject) -> None:
        model = self.model[name]
        if not model.held:
            return
        source = data.draw(st.sampled_from(sorted(model.held)))
        slot = model.held.pop(source)
        del self.until[name][source]
        state = release_slot(self.db, self.worlds[name].plans, slot, "decode_failed")
        if model.failures < FREE_FAILURES:
            model.failures += 1
            assert state == "released"
        else:
            model.used.add(source)
            assert state == "consumed"
        assert release_slot(self.db, self.worlds[name].plans, slot, "again") == state, "settled once"

    @stateful.rule(hours=st.sampled_from([1, 2, 5]))
    def wait(self, hours: int) -> None:
        # The whole walk stays within a period; what ends with one is tried elsewhere.
        if self.hours + hours < 24 * 25:
            self.clock.sleep(timedelta(hours=hours).total_seconds())
            self.hours += hours

    @stateful.rule()
    def reap(self) -> None:
        returned = {name: number for name in self.worlds if (number := self._expire(name))}
        assert reap(self.db, plans()) == returned

    @stateful.invariant()
    def books_agree(self) -> None:
        for name, model in self.model.items():
            found = self.worlds[name].usage()
            assert (found.used, found.reserved, found.released) == (
                len(model.used), len(model.held), model.failures,
            )  # fmt: skip
            assert found.used + found.reserved <= LIMIT


def test_no_walk_oversells_a_period_or_loses_a_slot(empty_state: Path) -> None:
    machine = type("SlotsOfThisRun", (Slots,), {"template": empty_state})
    stateful.run_state_machine_as_test(machine, settings=tried(8, dear=10, stateful_step_count=25))
