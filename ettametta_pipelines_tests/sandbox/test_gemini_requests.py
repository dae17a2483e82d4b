"""The sandboxed Gemini over plain HTTP: what it accepts in either spelling, what it refuses, any schema it is given."""

import base64
import json
from io import BytesIO
from typing import Any

import httpx
import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ettametta_pipelines.sandbox.gemini_judge import answer, understand
from ettametta_pipelines_tests.conftest import SandboxUnderTest

MODEL = "gemini-3.5-flash-lite"
TEXT = {"contents": [{"role": "user", "parts": [{"text": "Say something about bread."}]}]}


def png() -> str:
    buffer = BytesIO()
    Image.new("RGB", (8, 8), (200, 10, 10)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def ask(
    sandbox: SandboxUnderTest,
    body: Any,
    *,
    action: str = "generateContent",
    model: str = MODEL,
    version: str = "v1",
    key: str | None = "sandbox-key",
) -> httpx.Response:
    headers = {"x-goog-api-key": key} if key is not None else {}
    return sandbox.http.post(f"/gemini/{version}/models/{model}:{action}", json=body, headers=headers)


def error(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["status"]


@pytest.mark.parametrize("version", ["v1", "v1beta"])
def test_plain_text_is_answered_with_usage(sandbox: SandboxUnderTest, version: str) -> None:
    answered = ask(sandbox, TEXT, version=version)
    assert answered.status_code == 200
    body = answered.json()
    assert "bread" in body["candidates"][0]["content"]["parts"][0]["text"].lower()
    assert body["candidates"][0]["finishReason"] == "STOP"
    usage = body["usageMetadata"]
    assert usage["totalTokenCount"] == usage["promptTokenCount"] + usage["candidatesTokenCount"]
    assert body["modelVersion"] == MODEL


def test_both_spellings_of_field_names_are_understood(sandbox: SandboxUnderTest) -> None:
    schema = {"type": "object", "properties": {"score": {"type": "number"}}, "required": ["score"]}
    camel = {
        "contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": png()}}, {"text": "x"}]}],
        "generationConfig": {"responseMimeType": "application/json", "responseJsonSchema": schema},
    }
    snake = {
        "contents": [{"parts": [{"inline_data": {"mime_type": "image/png", "data": png()}}, {"text": "x"}]}],
        "generation_config": {"response_mime_type": "application/json", "response_schema": schema},
    }
    answers = [
        ask(sandbox, body).json()["candidates"][0]["content"]["parts"][0]["text"] for body in (camel, snake)
    ]
    assert answers[0] == answers[1]
    assert 0 <= json.loads(answers[0])["score"] <= 1


def test_tokens_are_counted_from_what_was_sent(sandbox: SandboxUnderTest) -> None:
    picture = {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": png()}}]}]}
    video = {"contents": [{"parts": [{"fileData": {"fileUri": f"{sandbox.url}/youtube/watch?v=x"}}]}]}
    counts = [ask(sandbox, body, action="countTokens").json() for body in (TEXT, picture, video)]
    assert counts[0]["totalTokens"] < counts[1]["totalTokens"] < counts[2]["totalTokens"]
    assert [d["modality"] for d in counts[1]["promptTokensDetails"]] == ["IMAGE"]


@pytest.mark.parametrize(
    ("body", "named"),
    [
        ({}, "contents"),
        ({"contents": []}, "contents"),
        ({"contents": [{"parts": []}]}, "parts"),
        ({"contents": [{"parts": [{}]}]}, "parts"),
        ({**TEXT, "surprise": 1}, "surprise"),
        ({**TEXT, "generationConfig": {"temperatur": 1}}, "temperatur"),
        ({**TEXT, "generationConfig": {"responseSchema": {"type": "OBJECT"}}}, "response_mime_type"),
        (
            {"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": "%%%"}}]}]},
            "Base64",
        ),
        ({"contents": [{"parts": [{"fileData": {"fileUri": "file:///etc/passwd"}}]}]}, "URL"),
        ([1], "object"),
    ],
)
def test_requests_the_service_refuses_are_refused(sandbox: SandboxUnderTest, body: Any, named: str) -> None:
    answered = ask(sandbox, body)
    assert error(answered) == (400, "INVALID_ARGUMENT")
    assert named in answered.json()["error"]["message"]


def test_a_key_is_needed_and_the_model_must_exist(sandbox: SandboxUnderTest) -> None:
    assert error(ask(sandbox, TEXT, key=None)) == (403, "PERMISSION_DENIED")
    invalid = ask(sandbox, TEXT, key="?")
    assert error(invalid) == (400, "INVALID_ARGUMENT")
    assert invalid.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"
    assert error(ask(sandbox, TEXT, model="gemini-1.0-pro")) == (404, "NOT_FOUND")
    assert error(ask(sandbox, TEXT, version="v9")) == (404, "NOT_FOUND")
    assert error(ask(sandbox, TEXT, action="predict")) == (404, "NOT_FOUND")


def test_an_answer_longer_than_allowed_is_cut_and_says_so(sandbox: SandboxUnderTest) -> None:
    config = {"responseMimeType": "application/json", "maxOutputTokens": 2}
    candidate = ask(sandbox, {**TEXT, "generationConfig": config}).json()["candidates"][0]
    assert candidate["finishReason"] == "MAX_TOKENS"
    assert len(candidate["content"]["parts"][0]["text"]) == 8


def test_models_are_listed_and_described(sandbox: SandboxUnderTest) -> None:
    headers = {"x-goog-api-key": "sandbox-key"}
    listed = sandbox.http.get("/gemini/v1/models", headers=headers).json()["models"]
    assert f"models/{MODEL}" in {model["name"] for model in listed}
    one = sandbox.http.get(f"/gemini/v1/models/{MODEL}", headers=headers).json()
    assert one["name"] == f"models/{MODEL}"
    assert sandbox.http.get("/gemini/v1/models/none", headers=headers).status_code == 404


small, some = st.integers(-5, 5), st.integers(0, 9)
names = st.sampled_from(
    ["hook", "aesthetics", "mood", "safety", "is_safe", "hashtags", "broll_keywords", "prompt", "recipe", "x"]
)


def number(kind: str, low: int, more: int) -> dict[str, Any]:
    return {"type": kind, "minimum": low, "maximum": low + more}


def text(low: int, more: int) -> dict[str, Any]:
    return {"type": "string", "minLength": low, "maxLength": low + more}


def choice(options: list[str]) -> dict[str, Any]:
    return {"type": "STRING", "enum": options}


def structure(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "OBJECT", "properties": properties, "required": list(properties)}


def many(items: dict[str, Any], low: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": low, "maxItems": low + 2}


def optional(inner: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [inner, {"type": "null"}]}


leaves = st.one_of(
    st.builds(number, st.sampled_from(["number", "INTEGER"]), small, some),
    st.builds(text, st.integers(0, 30), st.integers(0, 60)),
    st.builds(choice, st.lists(st.text(min_size=1), min_size=1, max_size=4)),
    st.sampled_from([{"type": "boolean"}, {"type": ["string", "null"]}, {"const": 7}]),
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(structure, st.dictionaries(names, inner, max_size=4)),
        st.builds(many, inner, st.integers(0, 4)),
        st.builds(optional, inner),
    ),
    max_leaves=8,
)


def lower_types(schema: Any) -> Any:
    """Google's upper-case types as JSON Schema spells them."""
    if isinstance(schema, list):
        return [lower_types(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.lower()
        if key == "type" and isinstance(value, str)
        else (value if key == "enum" else lower_types(value))
        for key, value in schema.items()
    }


@settings(max_examples=150, deadline=None)
@given(schema=schemas, prompt=st.text(max_size=80))
def test_any_schema_gets_an_answer_that_fits_it(schema: dict[str, Any], prompt: str) -> None:
    question = understand(prompt, [], [], 1)
    value = json.loads(json.dumps(answer(schema, question)))
    jsonschema.validate(value, lower_types(schema))
    assert value == answer(schema, question)


def test_a_schema_that_refers_to_itself_ends() -> None:
    schema = {
        "$ref": "#/$defs/Node",
        "$defs": {
            "Node": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]},
                },
                "required": ["name"],
            }
        },
    }
    value = answer(schema, understand("x", [], [], 1))
    depth = 0
    while value:
        value, depth = value.get("next"), depth + 1
    assert 1 < depth < 30
