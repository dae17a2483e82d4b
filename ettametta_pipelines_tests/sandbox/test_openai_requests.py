"""The sandboxed chat completions refuse what the services refuse."""

import base64
from typing import Any

import pytest

from ettametta_pipelines.sandbox.pictures import thumbnail_jpeg
from ettametta_pipelines_tests.conftest import SandboxUnderTest

KEY = {"authorization": "Bearer sandbox-openai-api-key"}
CLOSED = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}


def ask(sandbox: SandboxUnderTest, headers: dict[str, str] | None = None, **changes: Any) -> Any:
    body = {"model": "gpt-6-luna", "messages": [{"role": "user", "content": "What mood?"}]} | changes
    return sandbox.http.post("/openai/v1/chat/completions", json=body, headers=KEY | (headers or {}))


def picture(url: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]


def in_schema(schema: dict[str, Any], strict: bool = True) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "Look", "strict": strict, "schema": schema}}


JPEG = "data:image/jpeg;base64," + base64.b64encode(thumbnail_jpeg("k", "Bread", (320, 180))).decode()


def test_a_plain_question_is_answered_with_usage(sandbox: SandboxUnderTest) -> None:
    told = ask(sandbox, messages=picture(JPEG)).json()
    assert told["choices"][0]["finish_reason"] == "stop"
    usage = told["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens"] >= 765


@pytest.mark.parametrize(
    ("status", "changes"),
    [
        (404, {"model": "gpt-1"}),
        (400, {"max_output": 5}),
        (400, {"messages": []}),
        (400, {"messages": [{"role": "robot", "content": "x"}]}),
        (400, {"messages": picture("https://example.com/a.jpg")}),
        (400, {"messages": picture("data:image/jpeg;base64,@@@")}),
        (400, {"messages": picture("data:image/png;base64,aGVsbG8=")}),
        (400, {"response_format": in_schema(CLOSED)}),
        (
            400,
            {"response_format": in_schema(CLOSED | {"required": [], "additionalProperties": False})},
        ),
        (400, {"response_format": {"type": "json_schema", "json_schema": {"name": "two words"}}}),
        (401, {"headers": {"authorization": "Bearer no key!"}}),
        (401, {"headers": {"authorization": ""}}),
    ],
)
def test_what_the_services_refuse_is_refused(
    sandbox: SandboxUnderTest, status: int, changes: dict[str, Any]
) -> None:
    refused = ask(sandbox, **changes)
    assert refused.status_code == status
    assert set(refused.json()["error"]) == {"message", "type", "param", "code"}


def test_a_strict_schema_is_kept_and_a_short_limit_cuts(sandbox: SandboxUnderTest) -> None:
    wanted = in_schema(CLOSED | {"additionalProperties": False})
    told = ask(sandbox, response_format=wanted).json()["choices"][0]
    assert '"mood"' in told["message"]["content"]
    cut = ask(sandbox, response_format=wanted, max_completion_tokens=1).json()["choices"][0]
    assert cut["finish_reason"] == "length"


def test_groq_serves_its_own_models_and_takes_five_pictures(sandbox: SandboxUnderTest) -> None:
    def groq(model: str, count: int) -> int:
        content = [{"type": "image_url", "image_url": {"url": JPEG}}] * count
        body = {"model": model, "messages": [{"role": "user", "content": content}]}
        return sandbox.http.post("/groq/openai/v1/chat/completions", json=body, headers=KEY).status_code

    assert groq("qwen/qwen3.8-27b", 5) == 200
    assert groq("qwen/qwen3.8-27b", 6) == 400
    assert groq("openai/gpt-oss-120b", 1) == 400
    assert groq("gpt-6-luna", 1) == 404
