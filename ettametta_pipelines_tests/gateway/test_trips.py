"""How often each route waits for its database: the bars, with an agency's worth of rows in it.

A database that is 20 ms away costs a request 20 ms a trip. Whoever adds a trip raises the bar here, knowingly; a count
that grows with the rows is a query in a loop.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import httpx
import pytest
import sqlalchemy as sa

from ettametta_pipelines.channels import connect_platform
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines_tests.databases import TEMPLATE, PostgresServer
from ettametta_pipelines_tests.gateway.conftest import Browser, browser_at
from ettametta_pipelines_tests.gateway.signing import by_stripe, stripe_event
from ettametta_pipelines_tests.gateway.test_access import TABLE, name_of
from ettametta_pipelines_tests.load.scenario import Furnished, clicks, furnish
from ettametta_pipelines_tests.trips import Trips, counted

pytestmark = pytest.mark.postgres
NAME = "trips"
PERSON = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"}
LINK = {"account": "account0", "label": "New", "network": "impact", "target_url": "https://m.example.com/"}
TOKEN = "a-token-of-the-network-impact"
CSV = "label,network,target_url\nA,impact,https://m.example.com/a\nB,impact,https://m.example.com/b\n"

# Route -> trips at most.
BARS: dict[str, int] = {}
# Forms' fields, where a route wants some.
FIELDS: dict[str, dict[str, str]] = {
    "POST /publications/{publication_id}/live": {"found": "a" * 11},
    "POST /publications/{publication_id}/again": {"looked": "yes"},
    "POST /accounts/connect": {"account": "acme", "platform": "tiktok"},
    "POST /links": LINK,
    "POST /links/{link_id}": LINK,
    "POST /links/import": {"account": "account0", "text": CSV},
    "POST /links/import/confirm": {"account": "account0", "text": CSV},
    "POST /billing": {"account": "account0"},
    "POST /billing/{account}/checkout": {"tier": "creator"},
    "POST /billing/{account}/change": {"tier": "creator"},
}


@dataclass
class Bench:
    """A gateway whose trips are counted, and its state without them."""

    browser: Browser
    trips: Trips
    there: Furnished
    state: StateDatabase

    def took(self, ask: Callable[[], httpx.Response]) -> tuple[int, int]:
        """(status, trips)"""
        before = self.trips.count
        return ask().status_code, self.trips.count - before


@pytest.fixture
def name(postgres: PostgresServer) -> Iterator[str]:
    postgres.execute(f"CREATE DATABASE {NAME} TEMPLATE {TEMPLATE}")
    yield NAME
    postgres.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def bench(
    postgres: PostgresServer, name: str, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    monkeypatch.setenv("ETTAMETTA_POSTBACK_TOKENS", f"impact={TOKEN}")
    with counted(postgres, name) as (url, trips), StateDatabase(postgres.url(name)) as state:
        monkeypatch.setenv("DATABASE_URL", url)
        get_settings.cache_clear()
        settings = get_settings()
        there = furnish(state, open_store(settings), earlier_clicks=100)
        connect_platform(settings, "acme", "youtube", None)
        browser = browser_at(settings)
        with browser.client:
            # Connections, caches and templates are warm.
            browser.get("/links")
            browser.get("/publications")
            yield Bench(browser, trips, there, state)
        open_state(settings).close()


def test_no_route_makes_more_trips_than_its_bar(bench: Bench) -> None:
    with bench.state.session(write=False) as session:
        in_doubt = session.scalar(sa.select(Publication.id).where(Publication.state == "NEEDS_REVIEW"))
    csrf = bench.browser.csrf()
    found = {}
    for row in TABLE:
        path = row.path.replace("{path:path}", "{path}").format(
            publication_id=in_doubt if row.method == "POST" else bench.there.posts[0],
            link_id=bench.there.links[0], account="acme" if "platform" in row.path else "account0",
            platform="youtube", name="stripe", network="impact", code="nosuchcode", path="renditions/x.mp4",
            question="upgrade", tier="creator",
        )  # fmt: skip
        fields = FIELDS.get(name_of(row), {})
        if row.method == "GET":
            status, trips = bench.took(lambda path=path: bench.browser.get(path))
        else:
            status, trips = bench.took(
                lambda path=path, fields=fields: bench.browser.post(path, csrf=csrf, **fields)
            )
        found[name_of(row)] = (status, trips)
    for k, v in found.items():
        print(k, v)
    assert {name for name, (_, trips) in found.items() if trips > BARS.get(name, 0)} == set()


def test_x(bench: Bench) -> None:
    for n in range(2):
        body = stripe_event(f"evt_{n}")
        print(
            bench.took(
                lambda: bench.browser.client.post("/webhooks/stripe", content=body, headers=by_stripe(body))
            )
        )
        sale = {
            "ActionId": f"t{n}",
            "Payout": "12.34",
            "token": TOKEN,
            "transaction_id": f"t{n}",
            "amount": "12",
            "currency": "usd",
            "occurred_at": "2026-11-01T12:00:00Z",
            "status": "pending",
            "link": "bcdfghjkmn",
        }
        print(bench.took(lambda: bench.browser.client.get("/postbacks/impact", params=sale)))
    code = bench.there.codes[0]
    for n in range(2):
        before = clicks(bench.state)
        c = bench.trips.count
        print(bench.took(lambda: bench.browser.client.get(f"/go/{code}", headers=PERSON)))
        while clicks(bench.state) == before:
            time.sleep(0.02)
        time.sleep(0.5)
        print("noted", bench.trips.count - c)
