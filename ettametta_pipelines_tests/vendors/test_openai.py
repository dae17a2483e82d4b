"""Our client of OpenAI and Groq, on the unmodified SDK, against the sandbox over HTTP."""

from dataclasses import replace
from io import BytesIO
from typing import Any, Literal

import pytest
from PIL import Image
from pydantic import BaseModel, Field, SecretStr

from ettametta_pipelines.failures import (
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.vendors.answers import charged_for
from ettametta_pipelines.vendors.groq import GROQ
from ettametta_pipelines.vendors.http import NeverSentError
from ettametta_pipelines.vendors.judges import chat_client
from ettametta_pipelines.vendors.openai import OPENAI, ChatClient, Dialect, strict_schema
from ettametta_pipelines_tests.conftest import SandboxUnderTest

CANARY = "canary-of-a-secret-12345"
Provider = Literal["openai", "groq"]
DIALECTS: dict[Provider, tuple[Dialect, str, str]] = {
    "openai": (OPENAI, "gpt-6-luna", "openai/v1/"),
    "groq": (GROQ, "qwen/qwen3.8-27b", "groq/openai/v1/"),
}


class Look(BaseModel):
    hook: float = Field(ge=0, le=1)
    subjects: list[str]
    safety: Literal["safe", "unsafe"]
    caption: str | None = None


@pytest.fixture(params=["openai", "groq"])
def provider(request: pytest.FixtureRequest) -> Provider:
    return request.param


@pytest.fixture
def client(settings_env: Settings, provider: Provider) -> ChatClient:
    return chat_client(settings_env, provider)


def picture(colour: tuple[int, int, int] = (200, 90, 30)) -> tuple[str, bytes]:
    buffer = BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return "image/png", buffer.getvalue()


def answered(content: str | None, finish: str = "stop", refusal: str | None = None) -> dict[str, Any]:
    message = {"role": "assistant", "content": content, "refusal": refusal}
    return {
        "id": "x", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }  # fmt: skip


def refusal(code: str | None, kind: str = "invalid_request_error", message: str = "no") -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "code": code, "param": None}}


def asked(sandbox: SandboxUnderTest, provider: str) -> int:
    return sandbox.count(provider, "POST", "/chat/completions")


def test_an_answer_is_of_the_schema_with_model_tokens_and_cost(client: ChatClient) -> None:
    answer = client.generate_json('{"title": "Why nobody bakes"}', schema=Look, images=[picture()])
    assert isinstance(answer.value, Look)
    assert answer.model == client.model
    assert answer.usage.prompt_tokens > 700
    highest = client.highest_cost("Why nobody bakes", schema=Look, pictures=1)
    assert 0 < answer.usage.cost_microusd < highest


def test_each_service_is_asked_on_its_own_path(
    client: ChatClient, sandbox: SandboxUnderTest, provider: Provider
) -> None:
    client.generate_json("x", schema=Look)
    assert [r["path"] for r in sandbox.requests(provider)] == [f"/{DIALECTS[provider][2]}chat/completions"]


def test_strict_schemas_are_closed_and_require_everything() -> None:
    schema = strict_schema(Look)
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["hook", "subjects", "safety", "caption"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (answered('{"hook": 0.4', "length"), "answer_cut"),
        (answered(None, "content_filter"), "blocked"),
        (answered(None, refusal="I will not look at this."), "blocked"),
        (answered("", "tool_calls"), "unfinished"),
        (answered('{"hook": 7}'), "answer_invalid"),
        (answered("I think it is nice."), "answer_invalid"),
    ],
)
def test_a_refused_cut_or_unfitting_answer_is_no_answer_and_was_charged(
    sandbox: SandboxUnderTest, client: ChatClient, provider: Provider, body: dict[str, Any], code: str
) -> None:
    sandbox.fault(provider, status=200, body=body)
    with pytest.raises(PipelineError) as caught:
        client.generate_json("x", schema=Look)
    assert caught.value.code == f"{provider}_{code}"
    usage = charged_for(caught.value)
    assert usage is not None
    assert (usage.prompt_tokens, usage.output_tokens) == (10, 5)
    assert usage.cost_microusd > 0


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (401, refusal("invalid_api_key"), NeedsPersonError, "api_key_rejected"),
        (429, refusal("insufficient_quota", "insufficient_quota"), NeedsPersonError, "{}_credit_spent"),
        (404, refusal("model_not_found"), PermanentError, "{}_model_retired"),
        (400, refusal("content_policy_violation"), PermanentError, "{}_blocked"),
        (400, refusal(None), PermanentError, "{}_request_refused"),
    ],
)
def test_a_refusal_is_told_by_its_code_asked_once_and_costs_nothing(
    sandbox: SandboxUnderTest, client: ChatClient, provider: Provider, status: int, body: dict[str, Any],
    kind: type[PipelineError], code: str,
) -> None:  # fmt: skip
    sandbox.fault(provider, times=None, status=status, body=body)
    with pytest.raises(kind) as caught:
        client.generate_json("x", schema=Look)
    assert caught.value.code == code.format(provider)
    assert charged_for(caught.value) is None
    assert asked(sandbox, provider) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_refusals_that_began_no_work_are_ridden_out(
    sandbox: SandboxUnderTest, client: ChatClient, provider: Provider, status: int
) -> None:
    sandbox.fault(
        provider, times=2, status=status, body=refusal(None, "server_error"), headers={"Retry-After": "0"}
    )
    assert client.generate_json("x", schema=Look)
    assert asked(sandbox, provider) == 3


def test_a_long_wait_is_handed_up(sandbox: SandboxUnderTest, client: ChatClient, provider: Provider) -> None:
    body = refusal("rate_limit_exceeded", "tokens")
    sandbox.fault(provider, times=None, status=429, body=body, headers={"Retry-After": "340"})
    with pytest.raises(TransientError) as caught:
        client.generate_json("x", schema=Look)
    assert (caught.value.code, caught.value.retry_after_s) == ("rate_limited", 340.0)


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "drop_before"},
        {"action": "drop_after"},
        {"status": 500, "body": refusal(None)},
        {"status": 502, "body": "bad gateway"},
        {"status": 200, "body": "<html>one moment please"},
        {"status": 200, "body": "{", "headers": {"content-type": "application/json"}},
        {"status": 200, "body": {"id": "x"}},
        {"status": 200, "body": answered("{}") | {"choices": [{}]}},
        {"status": 200, "body": answered("{}") | {"choices": "none"}},
        {"status": 200, "body": answered("{}") | {"usage": {}}},
        {"status": 200, "body": answered("{}") | {"usage": {"prompt_tokens": -5, "completion_tokens": 5}}},
        {"status": 200, "body": answered("{}") | {"usage": {"prompt_tokens": "x", "completion_tokens": 5}}},
        {"status": 302, "headers": {"location": "https://example.com/"}},
    ],
)
def test_a_lost_answer_may_have_been_charged_and_is_not_asked_for_again(
    sandbox: SandboxUnderTest, client: ChatClient, provider: Provider, fault: dict[str, Any]
) -> None:
    sandbox.fault(provider, times=None, **fault)
    with pytest.raises(PipelineError) as caught:
        client.generate_json("x", schema=Look)
    lost = fault.get("status") != 302
    assert isinstance(caught.value, OutcomeUnknownError) is lost
    assert asked(sandbox, provider) == 1


def test_an_answer_later_than_the_timeout_is_lost(
    sandbox: SandboxUnderTest, settings_env: Settings, provider: Provider
) -> None:
    sandbox.fault(provider, action="delay", delay_s=30, times=None)
    with pytest.raises(OutcomeUnknownError):
        chat_client(settings_env, provider, timeout_s=0.3).generate_json("x", schema=Look)


def test_a_question_that_never_left_is_not_lost() -> None:
    endpoint = VendorEndpoint("openai", "sandbox", "http://127.0.0.1:9/v1/", "test", max_retries=0)
    with pytest.raises(NeverSentError):
        ChatClient(endpoint, "gpt-6-luna").generate_json("x", schema=Look)


def test_the_environment_does_not_lead_the_sdk_elsewhere(
    sandbox: SandboxUnderTest, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, CANARY)
    for name in ("OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    assert chat_client(settings_env, "openai").generate_json("x", schema=Look)
    assert asked(sandbox, "openai") == 1


def test_no_secret_appears_in_any_failure(sandbox: SandboxUnderTest, provider: Provider) -> None:
    dialect, model, path = DIALECTS[provider]
    secrets = {dialect.key_field: SecretStr(CANARY)}
    endpoint = VendorEndpoint(provider, "live", f"{sandbox.url}/{path}", "test", secrets, max_retries=0)
    client = ChatClient(endpoint, model, dialect=dialect)
    echo = refusal("invalid_api_key", message=f"Authorization: Bearer {CANARY} api_key={CANARY}")
    for fault in ({"status": 401, "body": echo}, {"status": 500, "body": CANARY}, {"action": "drop_after"}):
        sandbox.clear_faults()
        sandbox.fault(provider, times=None, **fault)
        with pytest.raises(PipelineError) as caught:
            client.generate_json("x", schema=Look)
        assert CANARY not in f"{caught.value}{caught.value!r}{caught.value.__cause__!r}"


def test_the_free_question_shows_whether_key_and_model_work(
    sandbox: SandboxUnderTest, client: ChatClient, provider: Provider
) -> None:
    client.check_model()
    assert asked(sandbox, provider) == 0
    dialect, model, path = DIALECTS[provider]
    wrong = VendorEndpoint(
        provider, "live", f"{sandbox.url}/{path}", "test", {dialect.key_field: SecretStr("no key!")}
    )
    with pytest.raises(NeedsPersonError):
        ChatClient(wrong, model, dialect=dialect).check_model()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"images": [("image/png", b"no picture")]}, "image"),
        ({"images": [("text/plain", b"hello")]}, "image"),
        ({"video_uri": "https://www.youtube.com/watch?v=dQw4w9WgXcQ"}, "videos"),
    ],
)
def test_what_it_cannot_look_at_is_a_permanent_refusal(
    client: ChatClient, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(PermanentError, match=named):
        client.generate_json("x", schema=Look, **options)


def test_groq_takes_five_pictures(settings_env: Settings, sandbox: SandboxUnderTest) -> None:
    groq = chat_client(settings_env, "groq")
    assert groq.generate_json("x", schema=Look, images=[picture()] * 5)
    with pytest.raises(PermanentError, match="up to 5"):
        groq.generate_json("x", schema=Look, images=[picture()] * 6)
    assert asked(sandbox, "groq") == 1


def test_retries_count_the_tries_after_the_first(
    sandbox: SandboxUnderTest, settings_env: Settings, provider: Provider
) -> None:
    sandbox.fault(provider, times=None, status=503, body="busy", headers={"Retry-After": "0"})
    dialect, model, _ = DIALECTS[provider]
    endpoint = replace(settings_env.endpoint(provider), max_retries=1)
    with pytest.raises(TransientError):
        ChatClient(endpoint, model, dialect=dialect).generate_json("x", schema=Look)
    assert asked(sandbox, provider) == 2
