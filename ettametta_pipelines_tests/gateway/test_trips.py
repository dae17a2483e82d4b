"""How often each route waits for its database: the bars, with an agency's worth of rows in it.

A database that is 20 ms away costs a request 20 ms a trip. Whoever adds a trip raises a bar here, knowingly; a count
that grows with the rows is a query in a loop.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from ettametta_pipelines.commands.channels import connect_platform
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import Publication
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines_tests.databases import TEMPLATE, PostgresServer
from ettametta_pipelines_tests.gateway.conftest import Browser, browser_at
from ettametta_pipelines_tests.gateway.signing import by_stripe, stripe_event
from ettametta_pipelines_tests.gateway.test_access import TABLE, name_of
from ettametta_pipelines_tests.gateway.test_links import FORM, PERSON, make
from ettametta_pipelines_tests.gateway.test_postbacks import SALE, TOKEN
from ettametta_pipelines_tests.load.scenario import clicks, furnish
from ettametta_pipelines_tests.trips import Trips, counted

pytestmark = pytest.mark.postgres
NAME = "trips"
LINK = FORM | {"account": "account0"}
FILE = "label,network,target_url\n" + "".join(
    f"Link {number},impact,https://m.example.com/{number}\n" for number in range(30)
)

# Route -> (status, trips at most).
BARS: dict[str, tuple[int, int]] = {
    "GET /livez": (200, 0),
    "GET /readyz": (200, 1),
    "GET /watchz": (503, 1),
    "GET /gateway.css": (200, 0),
    "GET /icon.svg": (200, 0),
    "GET /go/{code}": (404, 1),
    "GET /media/{path:path}": (200, 0),
    "POST /webhooks/{name}": (200, 3),
    "GET /postbacks/{network}": (200, 3),
    "POST /postbacks/{network}": (200, 3),
    "GET /metrics": (200, 0),
    "GET /": (200, 3),
    "GET /publications": (200, 1),
    "GET /publications/{publication_id}": (200, 4),
    "POST /publications/{publication_id}/live": (303, 16),
    "POST /publications/{publication_id}/again": (303, 20),
    "GET /accounts": (200, 1),
    "POST /accounts/connect": (303, 4),
    "GET /oauth/{platform}": (400, 3),
    "GET /accounts/{account}/{platform}": (200, 2),
    "GET /accounts/{account}/{platform}/disconnect": (200, 1),
    "GET /links": (200, 3),
    "GET /links/new": (200, 1),
    "POST /links": (303, 5),
    "GET /links/import": (200, 1),
    "POST /links/import": (200, 1),
    "POST /links/import/confirm": (303, 7),
    "GET /links/{link_id}": (200, 2),
    "GET /links/{link_id}/edit": (200, 2),
    "POST /links/{link_id}": (303, 6),
    "GET /links/{link_id}/retire": (200, 1),
    "GET /billing": (200, 2),
    "POST /billing": (303, 0),
    "GET /billing/{account}": (200, 14),
    "POST /billing/{account}/checkout": (303, 26),
    "POST /billing/{account}/portal": (303, 18),
    "GET /billing/{account}/{question}/{tier}": (200, 2),
    "POST /billing/{account}/change": (409, 18),
    "POST /billing/{account}/resume": (409, 18),
    "POST /links/{link_id}/retire": (303, 6),
    "POST /accounts/{account}/{platform}/disconnect": (303, 6),
}
# What forms and queries say, where a route wants something.
FIELDS: dict[str, dict[str, str]] = {
    "GET /postbacks/{network}": SALE | {"token": TOKEN},
    "POST /postbacks/{network}": SALE | {"token": TOKEN, "transaction_id": "t2"},
    "POST /publications/{publication_id}/live": {"found": "a" * 11},
    "POST /publications/{publication_id}/again": {"looked": "yes"},
    "POST /accounts/connect": {"account": "acme", "platform": "tiktok"},
    "POST /links": LINK,
    "POST /links/{link_id}": LINK,
    "POST /links/import": {"account": "account0", "text": FILE},
    "POST /links/import/confirm": {"account": "account0", "text": FILE},
    "POST /billing": {"account": "account0"},
    "POST /billing/{account}/checkout": {"tier": "creator"},
    "POST /billing/{account}/change": {"tier": "creator"},
}


@dataclass
class Bench:
    """A gateway whose trips are counted, and its state without a count."""

    browser: Browser
    trips: Trips
    state: StateDatabase
    settings: Settings

    def ask(self, route: str, path: str, csrf: str) -> httpx.Response:
        fields, client = FIELDS.get(route, {}), self.browser.client
        if route == "POST /webhooks/{name}":
            body = stripe_event()
            return client.post(path, content=body, headers=by_stripe(body))
        if route.startswith("GET"):
            return client.get(path, params=fields)
        return self.browser.post(path, csrf=csrf, **fields)


@pytest.fixture
def bench(
    postgres: PostgresServer, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Bench]:
    postgres.execute(f"CREATE DATABASE {NAME} TEMPLATE {TEMPLATE}")
    with counted(postgres, NAME) as (url, trips), StateDatabase(postgres.url(NAME)) as state:
        monkeypatch.setenv("DATABASE_URL", url)
        monkeypatch.setenv("ETTAMETTA_POSTBACK_TOKENS", f"impact={TOKEN}")
        get_settings.cache_clear()
        browser = browser_at(settings := get_settings())
        with browser.client:
            yield Bench(browser, trips, state, settings)
        open_state(settings).close()
    postgres.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


def _paths(bench: Bench) -> dict[str, dict[str, Any]]:
    """What stands in the paths of all routes, and of some."""
    there = furnish(bench.state, open_store(bench.settings), earlier_clicks=100)
    channel = connect_platform(bench.settings, "acme", "youtube", None)
    with bench.state.session() as session:
        doubted = session.scalars(sa.select(Publication).where(Publication.state == "NEEDS_REVIEW")).all()
        for row in doubted:
            row.account_id, row.channel_id = "acme", channel.channel_id
    return {
        "": {
            "publication_id": there.posts[0], "link_id": there.links[0], "account": "account0",
            "platform": "youtube", "name": "stripe", "network": "impact", "code": "nosuchcode",
            "path": "renditions/load/9x16/film.mp4", "question": "upgrade", "tier": "creator",
        },
        "POST /publications/{publication_id}/live": {"publication_id": doubted[0].id},
        "POST /publications/{publication_id}/again": {"publication_id": doubted[1].id},
    } | {name_of(row): {"account": "acme"} for row in TABLE if "{platform}" in row.path}  # fmt: skip


def test_no_route_makes_more_trips_than_its_bar(bench: Bench) -> None:
    paths = _paths(bench)
    # Templates and caches are warm; a connection is open.
    bench.browser.get("/publications")
    csrf, found = bench.browser.csrf("/accounts"), {}
    for row in TABLE:
        route, before = name_of(row), bench.trips.count
        path = row.path.replace("{path:path}", "{path}").format(**(paths[""] | paths.get(route, {})))
        answer = bench.ask(route, path, csrf)
        found[route] = (answer.status_code, bench.trips.count - before)
    wrong = {
        route: f"{status}, {trips} trips; the bar: {BARS.get(route)}"
        for route, (status, trips) in found.items()
        if route not in BARS or status != BARS[route][0] or trips > BARS[route][1]
    }
    assert wrong == {}


def test_a_link_that_was_followed_lately_is_known_and_its_click_is_noted_behind_the_answer(
    bench: Bench,
) -> None:
    _, code = make(bench.state)
    before = bench.trips.count
    for number in range(3):
        assert bench.browser.client.get(f"/go/{code}", headers=PERSON).status_code == 302
        while clicks(bench.state) == number:
            time.sleep(0.01)
    assert bench.trips.count - before <= 1 + 3 * 4
