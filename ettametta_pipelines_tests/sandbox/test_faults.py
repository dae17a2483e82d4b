"""Fault rules over HTTP: which requests they hit, and what the client sees."""

import time

import httpx
import pytest

from ettametta_pipelines_tests.conftest import SandboxUnderTest

PATH = "/youtube/watch?v=none"


def statuses(sandbox: SandboxUnderTest, count: int) -> list[int]:
    return [sandbox.http.get(PATH).status_code for _ in range(count)]


def test_a_rule_hits_after_some_requests_and_as_often_as_it_says(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", after=1, times=2, status=503)
    assert statuses(sandbox, 5) == [404, 503, 503, 404, 404]


def test_a_rule_without_times_stays_until_it_is_cleared(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", times=None, status=500)
    assert statuses(sandbox, 3) == [500, 500, 500]
    sandbox.clear_faults()
    assert statuses(sandbox, 1) == [404]


def test_a_rule_hits_only_its_vendor_method_and_path(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("stripe", times=None)
    sandbox.fault("youtube", method="POST", times=None)
    sandbox.fault("youtube", path_regex="/v3/search$", times=None)
    assert statuses(sandbox, 1) == [404]
    assert sandbox.http.post("/youtube/token").status_code == 503
    assert sandbox.http.get("/youtube/youtube/v3/search").status_code == 503


def test_a_canned_answer_has_the_status_body_and_headers_of_the_rule(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", status=429, body={"error": "slow"}, headers={"Retry-After": "3"})
    answer = sandbox.http.get(PATH)
    assert (answer.status_code, answer.json(), answer.headers["retry-after"]) == (429, {"error": "slow"}, "3")


def test_a_large_body_is_read_before_a_canned_answer(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", status=503)
    answer = sandbox.http.put("/youtube/upload/youtube/v3/videos", content=b"x" * 3_000_000)
    assert answer.status_code == 503


@pytest.mark.parametrize(("action", "executed"), [("drop_before", 0), ("drop_after", 1)])
def test_a_dropped_answer_closes_the_connection_with_or_without_effect(
    sandbox: SandboxUnderTest, action: str, executed: int
) -> None:
    sandbox.fault("youtube", method="POST", path_regex="/token$", action=action)
    form = {
        "grant_type": "authorization_code",
        "code": "sandbox-acme",
        "client_id": "i",
        "client_secret": "s",
    }
    with pytest.raises(httpx.TransportError):
        sandbox.http.post("/youtube/token", data=form)
    ran = [r for r in sandbox.requests("youtube") if r["status"] == 200]
    assert len(ran) == executed
    assert sandbox.http.post("/youtube/token", data=form).status_code == 200


def test_a_delayed_request_still_runs(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", action="delay", delay_s=0.05)
    assert statuses(sandbox, 1) == [404]
    assert sandbox.requests("youtube")[0]["fault"] == "delay"


def test_a_held_request_does_not_keep_the_server_from_stopping(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", action="delay", delay_s=3600)
    with pytest.raises(httpx.ReadTimeout):
        sandbox.http.get(PATH, timeout=0.1)


@pytest.mark.parametrize(
    "rule",
    [
        {"vendor": "youtube", "action": "explode"},
        {"vendor": "youtube", "path_regex": "("},
        {"vendor": "youtube", "times": 0},
        {"vendor": "youtube", "surprise": 1},
        {"action": "status"},
    ],
)
def test_a_rule_that_makes_no_sense_is_refused(sandbox: SandboxUnderTest, rule: dict[str, object]) -> None:
    assert sandbox.http.post("/_control/faults", json=rule).status_code == 422


CONSENT = {"grant_type": "authorization_code", "code": "sandbox-acme", "client_id": "i", "client_secret": "s"}


def test_an_answer_can_be_replaced_after_the_request_took_effect(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", path_regex="/token$", action="status_after", status=500)
    assert sandbox.http.post("/youtube/token", data=CONSENT).status_code == 500
    assert "acme" in dict(sandbox.server._server.config.app.state.store.items("youtube_channel"))


def test_an_answer_can_be_kept_back_after_the_request_took_effect(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", path_regex="/token$", action="delay_after", delay_s=3600)
    with pytest.raises(httpx.ReadTimeout):
        sandbox.http.post("/youtube/token", data=CONSENT, timeout=0.5)
    assert "acme" in dict(sandbox.server._server.config.app.state.store.items("youtube_channel"))


def test_a_request_can_take_effect_after_its_sender_was_hung_up_on(sandbox: SandboxUnderTest) -> None:
    store = sandbox.server._server.config.app.state.store
    sandbox.fault("youtube", path_regex="/token$", action="late", delay_s=0.2)
    with pytest.raises(httpx.TransportError):
        sandbox.http.post("/youtube/token", data=CONSENT)
    assert store.items("youtube_channel") == []
    deadline = time.monotonic() + 30
    while not store.items("youtube_channel") and time.monotonic() < deadline:
        time.sleep(0.02)
    assert dict(store.items("youtube_channel")).keys() == {"acme"}


def test_a_rule_can_sleep_until_a_range_of_bytes_has_passed(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", path_regex="/watch", armed_by=r"-9/10$", times=None, status=410)
    assert statuses(sandbox, 2) == [404, 404]
    sandbox.http.put(
        "/youtube/upload/youtube/v3/videos", headers={"content-range": "bytes 0-9/10"}, content=b"x" * 10
    )
    assert statuses(sandbox, 1) == [410]
    sandbox.fault("youtube", method="PUT", range_regex=r"bytes \*/", status=418)
    ask = [
        sandbox.http.put("/youtube/x", headers={"content-range": text}).status_code
        for text in ("bytes 0-1/2", "bytes */2")
    ]
    assert ask == [404, 418]
