"""The HTTP helper: what is hidden, what is tried again, what a missing answer means."""

import socket
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ettametta_pipelines.failures import (
    FailureKind,
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.redaction import redact
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    call_with_retries,
    http_client,
    raise_for_vendor,
    retry_after_seconds,
    send,
    vendor_error,
)
from ettametta_pipelines.vendors.oauth import TokenSet
from ettametta_pipelines_tests.conftest import SandboxUnderTest

SECRET = "Zm9vYmFyLXNlY3JldA"

TEXTS_WITH_A_SECRET = [
    f"GET https://youtube.googleapis.com/youtube/v3/search?part=snippet&key={SECRET}&q=x failed",
    f"https://host/upload?uploadType=resumable&upload_id={SECRET}",
    f"https://bucket.s3.amazonaws.com/a.mp4?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}&x=1",
    f"https://open-upload.tiktokapis.com/video/?upload_id=1&upload_token={SECRET}",
    f"POST body access_token={SECRET}&open_id=7",
    f'{{"access_token": "{SECRET}", "refresh_token":"{SECRET}", "expires_in": 3600}}',
    f"{{'client_secret': '{SECRET}'}}",
    f"Authorization: Bearer {SECRET}",
    f"{{'authorization': 'Bearer {SECRET}'}}",
    f"x-goog-api-key: {SECRET}",
    f"X-Shopify-Access-Token: {SECRET}",
    f"postgresql://user:{SECRET}@db.internal/state",
    f"key sk_live_{SECRET} and sk_test_{SECRET} and rk_live_{SECRET}",
    f"whsec_{SECRET}",
    f"ya29.{SECRET}",
    f"act.{SECRET}!4567.u1",
    f"clt.{SECRET}",
    f"shpat_{SECRET}",
    f"refresh with 1//0g{SECRET}",
    f"callback https://127.0.0.1/oauth?code={SECRET}&state=1",
]


@pytest.mark.parametrize("text", TEXTS_WITH_A_SECRET)
def test_a_secret_does_not_survive_redaction(text: str) -> None:
    assert SECRET not in redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "HTTP 403 quotaExceeded for youtube/v3/search?part=snippet&maxResults=50",
        "code=quota_exhausted monkey=banana",
        "https://www.youtube.com/watch?v=dQw4w9WgXcQ",
        "tables/trend_candidates/2026-11-22/food.parquet",
        "exact. Then act now.",
    ],
)
def test_text_without_a_secret_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


def test_a_token_set_does_not_show_its_tokens() -> None:
    tokens = TokenSet(SECRET, SECRET, 3600, None, ("a",), "subject")
    assert SECRET not in repr(tokens)


def failing(*errors: PipelineError) -> "tuple[list[int], object]":
    calls: list[int] = []

    def fn() -> str:
        calls.append(len(calls))
        if len(calls) <= len(errors):
            raise errors[len(calls) - 1]
        return "done"

    return calls, fn


def transient(wait: float | None = None) -> TransientError:
    return TransientError("busy", code="busy", retry_after_s=wait)


def test_transient_failures_are_tried_again_and_the_answer_returned() -> None:
    calls, fn = failing(transient(), transient())
    waits: list[float] = []
    assert call_with_retries(fn, retries=2, sleep=waits.append, seed="s") == "done"  # type: ignore[arg-type]
    assert len(calls) == 3
    assert waits[1] > waits[0] > 0


def test_the_last_attempt_raises_what_failed() -> None:
    calls, fn = failing(transient(), transient(), transient())
    with pytest.raises(TransientError, match="busy"):
        call_with_retries(fn, retries=1, sleep=lambda _: None)  # type: ignore[arg-type]
    assert len(calls) == 2


def test_no_retries_is_one_attempt() -> None:
    calls, fn = failing(transient(), transient())
    with pytest.raises(TransientError, match="busy"):
        call_with_retries(fn, retries=0, sleep=lambda _: None)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_the_wait_a_vendor_asks_for_is_kept() -> None:
    waits: list[float] = []
    call_with_retries(failing(transient(7.0))[1], retries=1, sleep=waits.append)  # type: ignore[arg-type]
    assert waits == [7.0]


def test_a_long_wait_is_handed_up_instead_of_slept() -> None:
    waits: list[float] = []
    with pytest.raises(TransientError) as caught:
        call_with_retries(failing(transient(3600.0))[1], retries=2, sleep=waits.append)  # type: ignore[arg-type]
    assert waits == []
    assert caught.value.retry_after_s == 3600.0


@pytest.mark.parametrize(
    "error",
    [
        PermanentError("no", code="no"),
        NeedsPersonError("no", code="no"),
        OutcomeUnknownError("lost", code="answer_lost"),
    ],
)
def test_what_may_not_be_repeated_is_not_repeated(error: PipelineError) -> None:
    calls, fn = failing(error)
    with pytest.raises(type(error)):
        call_with_retries(fn, retries=4, sleep=lambda _: None)  # type: ignore[arg-type]
    assert len(calls) == 1


def test_the_same_seed_waits_the_same() -> None:
    first: list[float] = []
    second: list[float] = []
    for waits in (first, second):
        call_with_retries(failing(transient(), transient())[1], retries=2, sleep=waits.append, seed="a")  # type: ignore[arg-type]
    assert first == second


def test_retry_after_is_read_as_seconds_and_as_a_date() -> None:
    now = datetime(2026, 11, 22, 12, 0, 0, tzinfo=UTC)
    assert retry_after_seconds("90", lambda: now) == 90.0
    # What no clock can add is a month, or nothing.
    month = 30 * 86_400.0
    assert [retry_after_seconds(v, lambda: now) for v in ("1" * 400, "Sun, 22 Nov 9026 12:00:00 GMT")] == [
        month
    ] * 2
    assert [retry_after_seconds(v, lambda: now) for v in ("inf", "nan", "1e300", "-5", "soon")] == [None] * 5
    assert retry_after_seconds("Sun, 22 Nov 2026 12:01:30 GMT", lambda: now) == 90.0
    assert retry_after_seconds("Sun, 22 Nov 2026 11:00:00 GMT", lambda: now) == 0.0
    assert retry_after_seconds("soon", lambda: now) is None
    assert retry_after_seconds(None, lambda: now) is None


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (500, TransientError, "acme_unavailable"),
        (503, TransientError, "acme_unavailable"),
        (429, TransientError, "acme_rate_limited"),
        (401, NeedsPersonError, "acme_unauthorized"),
        (403, PermanentError, "acme_forbidden"),
        (404, PermanentError, "acme_not_found"),
        (422, PermanentError, "acme_refused"),
    ],
)
def test_a_status_without_a_known_reason_decides_the_kind(
    status: int, kind: type[PipelineError], code: str
) -> None:
    error = vendor_error("Acme", "do it", status=status)
    assert type(error) is kind
    assert error.code == code
    assert error.remedy


def test_a_known_reason_outweighs_the_status_and_brings_its_wait() -> None:
    rules = {"too_many": ErrorRule(FailureKind.TRANSIENT, "spam_risk", "Wait.", wait_s=86_400)}
    error = vendor_error("Acme", "post", status=403, reason="too_many", rules=rules)
    assert isinstance(error, TransientError)
    assert (error.code, error.retry_after_s) == ("spam_risk", 86_400)


def test_the_vendors_own_words_are_cut_and_redacted() -> None:
    error = vendor_error("Acme", "do it", status=400, detail=f"token ya29.{SECRET} " + "x" * 2000)
    assert SECRET not in str(error)
    assert len(error.message) < 500


def sandbox_client_endpoint(settings: Settings, timeout_s: float = 5.0) -> VendorEndpoint:
    return replace(settings.endpoint("youtube"), timeout_s=timeout_s)


def test_nothing_listening_is_transient_and_says_how_to_start_the_sandbox() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = VendorEndpoint("tiktok", "sandbox", f"http://127.0.0.1:{free.getsockname()[1]}/", "test")
        with http_client(endpoint) as client, pytest.raises(TransientError) as caught:
            send(client, "POST", "x", vendor="TikTok", doing="post", repeatable=False)
    assert caught.value.code == "vendor_unreachable"
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert "ettametta sandbox" in caught.value.remedy


@pytest.mark.parametrize("action", ["drop_before", "drop_after"])
def test_a_dropped_answer_is_unknown_for_a_request_that_may_not_be_repeated(
    sandbox: SandboxUnderTest, settings_env: Settings, action: str
) -> None:
    sandbox.fault("youtube", action=action)
    with http_client(sandbox_client_endpoint(settings_env)) as client, pytest.raises(OutcomeUnknownError):
        send(client, "POST", "token", vendor="Google", doing="refresh", repeatable=False, data={"a": "b"})
    assert sandbox.count("youtube", "POST", "/token") == 1


def test_a_dropped_answer_is_transient_for_a_request_that_may_be_repeated(
    sandbox: SandboxUnderTest, settings_env: Settings
) -> None:
    sandbox.fault("youtube", action="drop_after")
    with http_client(sandbox_client_endpoint(settings_env)) as client:
        with pytest.raises(TransientError) as caught:
            send(client, "GET", "watch", vendor="YouTube", doing="look")
        assert not isinstance(caught.value, OutcomeUnknownError)
        assert send(client, "GET", "watch", vendor="YouTube", doing="look").status_code == 404


def test_an_answer_later_than_the_timeout_is_a_timeout(
    sandbox: SandboxUnderTest, settings_env: Settings
) -> None:
    sandbox.fault("youtube", action="delay", delay_s=30)
    endpoint = sandbox_client_endpoint(settings_env, timeout_s=0.2)
    with http_client(endpoint) as client, pytest.raises(TransientError) as caught:
        send(client, "GET", "watch", vendor="YouTube", doing="look")
    assert caught.value.code == "vendor_timeout"


def test_an_error_answer_carries_the_wait_the_server_asks_for(
    sandbox: SandboxUnderTest, settings_env: Settings
) -> None:
    sandbox.fault("youtube", status=429, headers={"Retry-After": "12"}, body={"error": "slow down"})
    with http_client(sandbox_client_endpoint(settings_env)) as client:
        response = send(client, "GET", "watch", vendor="YouTube", doing="look")
        with pytest.raises(TransientError) as caught:
            raise_for_vendor(response, vendor="YouTube", doing="look")
    assert caught.value.retry_after_s == 12.0


def test_a_proxy_in_the_environment_is_not_used_for_the_sandbox(
    sandbox: SandboxUnderTest, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9/")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9/")
    with http_client(sandbox_client_endpoint(settings_env)) as client:
        assert send(client, "GET", "watch", vendor="YouTube", doing="look").status_code == 404


def test_a_reason_that_is_no_plain_word_is_left_out() -> None:
    error = vendor_error("Acme", "do it", status=400, reason=f"{{'token': '{SECRET}'}}")
    assert SECRET not in str(error)


def test_addresses_are_not_logged_even_where_everything_else_is(
    sandbox: SandboxUnderTest, settings_env: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(0), http_client(sandbox_client_endpoint(settings_env)) as client:
        send(client, "GET", f"watch?upload_id={SECRET}", vendor="YouTube", doing="look")
    assert SECRET not in caplog.text
