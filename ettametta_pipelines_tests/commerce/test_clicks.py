"""What a gateway remembers of codes and visitors is bounded, ends, and outlives a database that is away."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from ettametta_pipelines.clock import PACIFIC
from ettametta_pipelines.commerce import clicks
from ettametta_pipelines.commerce.clicks import CLICKS_A_MINUTE, FRESH_S, ClickLog, Gauge, Redirects
from ettametta_pipelines.commerce.networks import Networks, load_networks
from ettametta_pipelines.settings import load_settings
from ettametta_pipelines.state.models import AffiliateClick, AffiliateLinkCode
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.gateway.test_links import TARGET, make


def networks() -> Networks:
    return load_networks(load_settings())


class Ticks:
    """A clock in seconds that goes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


def test_a_lead_is_fresh_for_a_while_and_remembered_beyond(database: StateDatabase, ticks: Ticks) -> None:
    _, code = make(database)
    redirects = Redirects(database, networks, ticks)
    assert redirects.remembered(code, fresh=False) is None
    found = redirects.find(code)
    assert found is not None
    assert (found.url, found.is_active) == (f"{TARGET}&subId1={code}", True)
    ticks.now += FRESH_S
    assert redirects.remembered(code, fresh=True) == found
    ticks.now += 1
    assert redirects.remembered(code, fresh=True) is None
    assert redirects.remembered(code, fresh=False) == found


def test_of_too_many_leads_the_one_found_longest_ago_is_forgotten(
    database: StateDatabase, ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicks, "REMEMBERED", 2)
    codes = [make(database, target_url=f"{TARGET}&n={n}")[1] for n in range(3)]
    redirects = Redirects(database, networks, ticks)
    for code in (codes[0], codes[1], codes[0], codes[2]):
        redirects.find(code)
    known = [redirects.remembered(code, fresh=False) is not None for code in codes]
    assert known == [True, False, True]


def test_a_code_of_a_product_that_lost_its_address_leads_nowhere(database: StateDatabase) -> None:
    with database.session() as session:
        session.add(
            AffiliateLinkCode(
                code="product222", account_id="acme", product_id="gid://1", created_at=database.now(session)
            )
        )
    found = Redirects(database, networks).find("product222")
    assert found is not None
    assert (found.url, found.is_active) == (None, False)


def test_a_visitor_counts_a_few_times_in_each_minute_and_anew_in_the_next(ticks: Ticks) -> None:
    gauge = Gauge(ticks)
    said = [gauge.repeats("203.0.113.5", "code222") for _ in range(CLICKS_A_MINUTE + 2)]
    assert said == [False] * CLICKS_A_MINUTE + [True, True]
    assert not gauge.repeats("203.0.113.5", "other22"), "another code is counted by itself"
    ticks.now += 60
    assert gauge.repeats("203.0.113.5", "code222")
    ticks.now += 1
    assert not gauge.repeats("203.0.113.5", "code222")


def test_of_too_many_visitors_the_one_seen_longest_ago_is_forgotten(
    ticks: Ticks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicks, "REMEMBERED", 2)
    monkeypatch.setattr(clicks, "CLICKS_A_MINUTE", 1)
    gauge = Gauge(ticks)
    for visitor in ("a", "b", "c"):
        assert not gauge.repeats(visitor)
    assert [gauge.repeats(visitor) for visitor in ("c", "b", "a")] == [True, True, False]


def test_lookups_are_admitted_in_bursts_and_at_a_rate(ticks: Ticks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clicks, "BURST", 2.0)
    gauge = Gauge(ticks)
    assert [gauge.admits() for _ in range(3)] == [True, True, False]
    ticks.now += 1.5 / clicks.RATE
    assert [gauge.admits() for _ in range(2)] == [True, False]


def test_clicks_come_in_batches_and_each_is_noted_once(
    database: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clicks, "BATCH", 3)
    log = ClickLog(database, PACIFIC)
    for number in range(8):
        log.note(f"code{number:04}", is_bot=False, referrer=None)
    log.close(within_s=60)
    with database.session(write=False) as session:
        assert sorted(session.scalars(sa.select(AffiliateClick.code))) == [f"code{n:04}" for n in range(8)]
    assert log.lost == 0


def test_clicks_that_cannot_be_stored_before_the_end_are_counted_as_lost(tmp_path: Path) -> None:
    with StateDatabase(f"sqlite:///{tmp_path}/nowhere/state.db") as away:
        log = ClickLog(away, PACIFIC)
        log.note("code2222", is_bot=False, referrer=None)
        log.close(within_s=60)
    assert log.lost == 1
