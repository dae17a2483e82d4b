"""What the gateway tells somebody outside when the daemon is gone, and a browser that asks for what is not there."""

from datetime import datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.gateway.app import create_gateway
from ettametta_pipelines.operations.alert_routes import load_routing
from ettametta_pipelines.operations.alerting import note
from ettametta_pipelines.operations.findings import merged
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.gateway.conftest import Browser, browser_at

STANDS = "Nothing has been looked at since"


def look(db: StateDatabase, settings: Settings, at: datetime) -> None:
    """What a tick of the sensor leaves when it found nothing."""
    note(db, load_routing(settings), merged((), at), settings)


@pytest.mark.parametrize(("minutes_ago", "watching"), [((), False), ((30, 1), True), ((12, 11), False)])
def test_an_outside_watch_hears_when_nobody_looks_any_more(
    settings_env: Settings, db: StateDatabase, minutes_ago: tuple[int, ...], watching: bool
) -> None:
    for minutes in minutes_ago:
        look(db, settings_env, utc_now() - timedelta(minutes=minutes))
    answer = TestClient(create_gateway(settings_env)).get("/watchz")
    assert (answer.status_code, answer.json()["watching"]) == (200 if watching else 503, watching)


def test_the_first_page_says_that_the_daemon_stands_once_it_ran(
    settings_env: Settings, db: StateDatabase
) -> None:
    browser: Browser = browser_at(settings_env)
    assert STANDS not in browser.get("/").text
    look(db, settings_env, utc_now() - timedelta(minutes=11))
    assert STANDS in browser.get("/").text
    look(db, settings_env, utc_now())
    assert STANDS not in browser.get("/").text


@pytest.mark.parametrize("path", ["/plans", "/media/renditions/none.mp4"])
def test_a_browser_gets_a_page_where_nothing_is_and_a_program_its_json(
    settings_env: Settings, path: str
) -> None:
    client = TestClient(
        create_gateway(settings_env), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 1)
    )
    asked = client.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (asked.status_code, "Not found" in asked.text, 'href="/accounts"' in asked.text) == (
        404,
        True,
        True,
    )
    assert client.get(path).json()["detail"]
