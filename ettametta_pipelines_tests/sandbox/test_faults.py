"""Fault rules over HTTP: which requests they hit, and what the client sees."""

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
