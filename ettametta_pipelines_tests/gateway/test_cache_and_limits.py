"""What is read often is kept, and the keeper may die; a client has a rate, a request a size, and a line in the log."""

import asyncio
import json
import logging
import shutil
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from ettametta_pipelines.gateway import limits
from ettametta_pipelines.gateway.app import create_gateway
from ettametta_pipelines.gateway.cache import cache_counts
from ettametta_pipelines.gateway.limits import MAX_BODY_BYTES, Rates, RequestLimits
from ettametta_pipelines.settings import Settings, load_settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines_tests.gateway.test_links import make
from ettametta_pipelines_tests.production.servers import Redis

PERSON = {"user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"}


@pytest.fixture
def redis() -> Iterator[Redis]:
    if shutil.which("redis-server") is None:
        pytest.skip("needs redis-server; scripts/install_test_servers.sh installs it")
    with Redis() as server:
        yield server


def follow(client: TestClient, code: str) -> int:
    return int(client.get(f"/go/{code}", headers=PERSON, follow_redirects=False).status_code)


def since(before: dict[str, int]) -> dict[str, int]:
    return {name: count - before[name] for name, count in cache_counts().items()}


def test_a_link_is_looked_up_once_for_all_gateways_and_a_dead_cache_costs_no_answer(
    settings_env: Settings, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CACHE_URL", redis.url)
    settings = load_settings()
    _, code = make(open_state(settings))
    before = cache_counts()
    with TestClient(create_gateway(settings)) as one, TestClient(create_gateway(settings)) as other:
        assert [follow(one, code), follow(other, code), follow(one, code)] == [302, 302, 302]
        assert since(before) == {"hits": 2, "misses": 1, "errors": 0}
        redis.stop()
        assert [follow(one, code), follow(other, code), follow(one, code)] == [302, 302, 302]
        assert since(before)["hits"] == 2
        assert since(before)["errors"] >= 2


def test_without_a_cache_server_what_was_read_is_kept_in_memory(settings_env: Settings) -> None:
    _, code = make(open_state(settings_env))
    before = cache_counts()
    with TestClient(create_gateway(settings_env)) as client:
        assert [follow(client, code), follow(client, code)] == [302, 302]
    assert since(before) == {"hits": 1, "misses": 1, "errors": 0}


def test_a_client_that_asks_too_often_is_told_when_to_come_back_and_others_are_not(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_REQUESTS_A_SECOND", "0.5")
    monkeypatch.setenv("ETTAMETTA_CLIENT_HEADER", "X-Forwarded-For")
    client = TestClient(create_gateway(load_settings()))

    def ask(path: str, client_address: str) -> tuple[int, str | None]:
        answer = client.get(path, headers={"X-Forwarded-For": f"made-up, {client_address}"})
        return answer.status_code, answer.headers.get("retry-after")

    assert [ask("/gateway.css", "203.0.113.5")[0] for _ in range(2)] == [200, 200]
    code, wait = ask("/gateway.css", "203.0.113.5")
    assert code == 429
    assert wait is not None
    assert 1 <= int(wait) <= 3
    assert ask("/gateway.css", "203.0.113.6")[0] == 200
    assert ask("/livez", "203.0.113.5")[0] == 200, "probes are not counted"


def test_a_bucket_fills_again() -> None:
    now = [0.0]
    rates = Rates(2.0, clock=lambda: now[0])
    assert [rates.wait_s("a") for _ in range(8)] == [0.0] * 8
    assert rates.wait_s("a") == pytest.approx(0.5)
    now[0] = 0.6
    assert rates.wait_s("a") == 0.0
    assert rates.wait_s("a") > 0


@pytest.mark.parametrize("says_its_length", [True, False])
def test_a_body_that_is_too_large_is_not_taken(settings_env: Settings, says_its_length: bool) -> None:
    client = TestClient(create_gateway(settings_env))
    body = b"x" * (MAX_BODY_BYTES + 1)
    pieces = (body[at : at + 65536] for at in range(0, len(body), 65536))
    answer = client.post("/webhooks/stripe", content=body if says_its_length else pieces)
    assert answer.status_code == 413


def test_every_answer_bears_its_request_id_and_the_log_has_no_code_and_no_query(
    settings_env: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="ettametta_pipelines.gateway.requests")
    client = TestClient(create_gateway(settings_env))
    given = client.get("/go/secretcode?token=hidden", headers={"X-Request-ID": "from-the-proxy-1"})
    made = client.get("/nowhere/secret", headers={"X-Request-ID": "no\x7fid here"})
    assert given.headers["x-request-id"] == "from-the-proxy-1"
    assert len(made.headers["x-request-id"]) == 32
    first, second = (json.loads(record.getMessage()) for record in caplog.records[-2:])
    assert (first["request_id"], first["path"], first["status"]) == ("from-the-proxy-1", "/go/{code}", 404)
    assert (second["path"], second["status"]) == ("/nowhere", 404)
    assert "secret" not in caplog.text
    assert "hidden" not in caplog.text


def limited(app: ASGIApp, settings: Settings, **how: float) -> TestClient:
    return TestClient(RequestLimits(app, settings=settings, **how), raise_server_exceptions=False)


def test_an_answer_that_does_not_begin_in_time_is_given_up_with_its_work(settings_env: Settings) -> None:
    given_up = []

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            given_up.append(scope["path"])
            raise

    answer = limited(slow, settings_env, patience_s=0.05).get("/slow")
    assert (answer.status_code, answer.json()) == (503, {"error": "took_too_long"})
    assert answer.headers["retry-after"] == "5"
    assert given_up == ["/slow"]


def test_an_answer_that_has_begun_may_take_as_long_as_it_takes(settings_env: Settings) -> None:
    async def film(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.sleep(0.3)
        await send({"type": "http.response.body", "body": b"the end"})

    answer = limited(film, settings_env, patience_s=0.05).get("/film")
    assert (answer.status_code, answer.content) == (200, b"the end")


def test_a_mistake_of_ours_is_answered_without_its_words_and_logged_with_them(
    settings_env: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        raise ZeroDivisionError("a secret of ours")

    answer = limited(broken, settings_env).get("/broken", headers={"X-Request-ID": "from-the-proxy-1"})
    assert (answer.status_code, answer.json()) == (500, {"error": "failed"})
    assert answer.headers["x-request-id"] == "from-the-proxy-1"
    assert "a secret of ours" in caplog.text


def test_a_mistake_after_the_answer_began_cuts_it_off(settings_env: Settings) -> None:
    async def broken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    client = TestClient(RequestLimits(broken, settings=settings_env))
    with pytest.raises(ZeroDivisionError):
        client.get("/broken")


def test_of_too_many_clients_the_one_seen_longest_ago_starts_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENTS_KEPT", 2)
    rates = Rates(0.25, clock=lambda: 0.0)
    assert [rates.wait_s(client) for client in ("a", "b", "c")] == [0.0] * 3
    assert [rates.wait_s(client) > 0 for client in ("c", "b", "a")] == [True, True, False]
