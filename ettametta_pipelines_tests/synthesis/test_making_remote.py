"""Orders at vendors that come to no end, and clips that are not what was ordered."""

from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.state import budget as budgets
from ettametta_pipelines.state import clip_orders as orders
from ettametta_pipelines.state.budget import Budget
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.engines import cinematic
from ettametta_pipelines.synthesis.engines.remote import Delivery
from ettametta_pipelines.synthesis.making import Ask, Unmade, Workshop, make_remote
from ettametta_pipelines.synthesis.requests import ClipRequest, ClipResult
from ettametta_pipelines_tests.synthesis.motion import drawn_still

ASK = Ask("plan", "veo", "m", "live", ClipRequest("a tide", 4.0, 360, 640, 24, 1), 400_000, "acme", "d|n")


class Vendor:
    """Takes every order, and delivers clips of `seconds` at 0.10 USD a second; none without."""

    engine, model, mode, standing, poll_s = "veo", "m", "live", "test", 0.0

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds, self.taken = seconds, 0

    def submit(self, request: ClipRequest, image: bytes | None) -> str:
        self.taken += 1
        return f"op-{self.taken}"

    def look(self, operation_id: str, request: ClipRequest) -> Delivery | None:
        if self.seconds is None:
            return None
        made = ClipRequest("a tide", self.seconds, 640, 360, 24, 1)

        def fetch(path: Path) -> None:
            cinematic.make_clip(made, drawn_still(700, 400), path)

        return Delivery(fetch, lambda seconds: round(seconds) * 100_000)


@pytest.fixture
def workshop(tmp_path: Path, database: StateDatabase) -> Workshop:
    (tmp_path / "store").mkdir()
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    budget = Budget("live", "acme", 1_000_000, 1_000_000, ZoneInfo("UTC"))
    return Workshop(database, store, tmp_path / "scratch", lambda *_: budget, utc_now, patience_s=0)


def only(workshop: Workshop, vendor: Vendor) -> ClipResult | Unmade:
    return make_remote(workshop, vendor, [ASK])["plan"]


def test_an_order_without_an_end_is_given_up_after_a_day_and_counts_as_spent(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = Vendor()
    first = only(workshop, vendor)
    assert isinstance(first, Unmade)
    assert first.code == "still_running"
    monkeypatch.setattr(orders, "OVERDUE", timedelta(0))
    given_up = only(workshop, vendor)
    assert isinstance(given_up, Unmade)
    # What may have been paid for is not bought elsewhere by itself.
    assert (given_up.code, given_up.allows_another_engine, vendor.taken) == ("clip_overdue", False, 1)
    spent = budgets.spending(workshop.db, "live", utc_now().date())["acme"]
    assert (spent.spent_microusd, spent.reserved_microusd) == (400_000, 0)
    assert orders.unfinished_partitions(workshop.db, quiet_for=timedelta(seconds=-1)) == []


def test_a_clip_that_is_not_what_was_ordered_says_so_and_costs_what_was_delivered(workshop: Workshop) -> None:
    made = only(workshop, Vendor(seconds=6.0))
    assert isinstance(made, ClipResult)
    assert made.provenance["differs"] == "640x360 instead of 360x640, 6.0 s instead of 4 s"
    assert made.cost_microusd == 600_000


def test_a_clip_as_ordered_has_nothing_said_about_it(workshop: Workshop) -> None:
    class Upright(Vendor):
        def look(self, operation_id: str, request: ClipRequest) -> Delivery | None:
            def fetch(path: Path) -> None:
                cinematic.make_clip(ASK.request, drawn_still(400, 700), path)

            return Delivery(fetch, lambda seconds: 400_000)

    made = only(workshop, Upright())
    assert isinstance(made, ClipResult)
    assert "differs" not in made.provenance
