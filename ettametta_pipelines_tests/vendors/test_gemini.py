"""Our Gemini client, on the unmodified SDK, against the sandbox over HTTP."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
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
from ettametta_pipelines.sandbox.pictures import thumbnail_jpeg
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.vendors.answers import charged_for
from ettametta_pipelines.vendors.gemini import GeminiClient
from ettametta_pipelines.vendors.models import ModelPrice
from ettametta_pipelines_tests.conftest import SandboxUnderTest

MODEL = "gemini-3.5-flash-lite"
CANARY = "canary-of-a-secret-12345"
NOW_AGAIN = {"Retry-After": "0"}


class Look(BaseModel):
    """A judgement with the features a real one has: bounds, choices, lists, an optional part."""

    hook: float = Field(ge=0, le=1)
    aesthetics: float = Field(ge=0, le=1)
    subjects: list[str] = Field(min_length=1, max_length=5)
    mood: Literal["calm", "energetic", "dramatic"]
    safety: Literal["safe", "unsafe"]
    reason: str = Field(max_length=200)
    caption: str | None = None


@pytest.fixture
def gemini(settings_env: Settings) -> GeminiClient:
    return GeminiClient(settings_env.endpoint("gemini"), model=MODEL)


def picture(colour: tuple[int, int, int]) -> tuple[str, bytes]:
    buffer = BytesIO()
    Image.new("RGB", (64, 64), colour).save(buffer, "PNG")
    return "image/png", buffer.getvalue()


def look(gemini: GeminiClient, prompt: str = "Judge this.", **options: Any) -> Look:
    value = gemini.generate_json(prompt, schema=Look, **options).value
    assert isinstance(value, Look)
    return value


def answer_of(text: str, finish: str = "STOP") -> dict[str, Any]:
    return {
        "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": finish}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 2, "thoughtsTokenCount": 3},
    }


# A finished answer that does not say what it cost.
UNCOUNTED = {name: value for name, value in answer_of('{"hook": 0.4}').items() if name != "usageMetadata"}


def test_an_answer_is_of_the_schema_with_model_tokens_and_cost(gemini: GeminiClient) -> None:
    answer = gemini.generate_json("Judge this.", schema=Look, images=[picture((200, 90, 30))])
    assert isinstance(answer.value, Look)
    assert answer.model == MODEL
    usage = answer.usage
    assert usage.prompt_tokens >= 258
    assert usage.output_tokens > 0
    millionths = usage.prompt_tokens * 300_000 + usage.output_tokens * 2_500_000
    assert usage.cost_microusd == -(-millionths // 1_000_000)


def test_no_answer_costs_more_than_was_reckoned_before(gemini: GeminiClient) -> None:
    prompt, pictures = "Judge this. 日本語 🙂" * 20, [picture((200, 90, 30))] * 3
    highest = gemini.highest_cost(prompt, schema=Look, pictures=3)
    assert gemini.generate_json(prompt, schema=Look, images=pictures).usage.cost_microusd < highest


def test_the_same_question_has_the_same_answer_and_another_picture_another(gemini: GeminiClient) -> None:
    dark, vivid = picture((3, 3, 3)), picture((220, 120, 40))
    assert look(gemini, images=[vivid]) == look(gemini, images=[vivid])
    assert look(gemini, images=[vivid]).aesthetics > look(gemini, images=[dark]).aesthetics


def test_thumbnails_are_told_apart(gemini: GeminiClient) -> None:
    looks = [
        look(gemini, images=[("image/jpeg", thumbnail_jpeg(str(n), f"Street food number {n}", (320, 180)))])
        for n in range(8)
    ]
    assert len({one.aesthetics for one in looks}) >= 7
    assert max(one.aesthetics for one in looks) - min(one.aesthetics for one in looks) > 0.1


def test_a_title_that_makes_curious_hooks_better_than_a_flat_one(gemini: GeminiClient) -> None:
    catchy = look(gemini, '{"title": "Why nobody talks about this: 7 mistakes"}')
    flat = look(gemini, '{"title": "A walk through the park"}')
    assert catchy.hook > flat.hook


def test_unsafe_words_are_found(gemini: GeminiClient) -> None:
    assert look(gemini, '{"title": "Casino secrets"}').safety == "unsafe"
    assert look(gemini, '{"title": "Bread at home"}').safety == "safe"


def test_a_public_video_is_taken_by_its_address(gemini: GeminiClient) -> None:
    answer = gemini.generate_json("x", schema=Look, video_uri="https://www.youtube.com/watch?v=dQw4w9WgXcQ")
    assert answer.usage.prompt_tokens > 5000


def test_the_seed_changes_the_answer(gemini: GeminiClient) -> None:
    answers = {look(gemini, seed=seed).model_dump_json() for seed in range(5)}
    assert len(answers) > 1


def test_counting_tokens_is_an_answer_too(gemini: GeminiClient) -> None:
    assert gemini.count_tokens("ping " * 100) > gemini.count_tokens("ping")


def test_the_environment_does_not_lead_the_sdk_elsewhere(
    sandbox: SandboxUnderTest, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "GOOGLE_API_KEY": "another-key",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_CLOUD_PROJECT": "p",
        "GOOGLE_CLOUD_LOCATION": "us-central1",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9/",
        "HTTP_PROXY": "http://127.0.0.1:9/",
        "http_proxy": "http://127.0.0.1:9/",
    }.items():
        monkeypatch.setenv(name, value)
    assert look(GeminiClient(settings_env.endpoint("gemini"), MODEL))
    assert sandbox.requests("gemini")[0]["path"] == f"/gemini/v1/models/{MODEL}:generateContent"


def test_one_client_serves_several_threads(gemini: GeminiClient) -> None:
    with ThreadPoolExecutor(4) as pool:
        looks = list(pool.map(lambda n: look(gemini, f"Question {n}"), range(12)))
    assert looks[3] == look(gemini, "Question 3")


# What ends without a usable answer


@pytest.mark.parametrize(
    ("finish", "kind", "code"),
    [
        ("MAX_TOKENS", PermanentError, "gemini_answer_cut"),
        ("SAFETY", PermanentError, "gemini_blocked"),
        ("RECITATION", PermanentError, "gemini_blocked"),
        ("PROHIBITED_CONTENT", PermanentError, "gemini_blocked"),
        ("OTHER", TransientError, "gemini_unfinished"),
    ],
)
def test_an_answer_that_did_not_finish_is_not_used(
    sandbox: SandboxUnderTest, gemini: GeminiClient, finish: str, kind: type[PipelineError], code: str
) -> None:
    complete = look(gemini).model_dump_json()
    sandbox.fault("gemini", status=200, body=answer_of(complete, finish))
    with pytest.raises(kind) as caught:
        look(gemini)
    assert caught.value.code == code
    # What ended badly was charged all the same.
    usage = charged_for(caught.value)
    assert usage is not None
    assert (usage.prompt_tokens, usage.output_tokens, usage.cost_microusd) == (10, 5, 16)


def test_a_blocked_prompt_says_why(sandbox: SandboxUnderTest, gemini: GeminiClient) -> None:
    sandbox.fault("gemini", status=200, body={"promptFeedback": {"blockReason": "SAFETY"}})
    with pytest.raises(PermanentError, match="SAFETY"):
        look(gemini)


@pytest.mark.parametrize("text", ["{", '{"hook": 7}', "I think it is nice.", ""])
def test_an_answer_outside_the_schema_is_worth_another_try_and_quotes_nothing(
    sandbox: SandboxUnderTest, gemini: GeminiClient, text: str
) -> None:
    sandbox.fault("gemini", status=200, body=answer_of(text))
    with pytest.raises(TransientError) as caught:
        look(gemini)
    assert caught.value.code == "gemini_answer_invalid"


def test_thinking_is_paid_for_too(sandbox: SandboxUnderTest, gemini: GeminiClient) -> None:
    sandbox.fault("gemini", status=200, body=answer_of(look(gemini).model_dump_json()))
    assert gemini.generate_json("x", schema=Look).usage.output_tokens == 5


def test_sound_is_booked_at_its_own_price(sandbox: SandboxUnderTest, settings_env: Settings) -> None:
    gemini = GeminiClient(settings_env.endpoint("gemini"), "gemini-3.1-flash-lite")
    body = answer_of(look(gemini).model_dump_json())
    body["usageMetadata"] |= {
        "promptTokenCount": 10_000,
        "promptTokensDetails": [
            {"modality": "VIDEO", "tokenCount": 9_000}, {"modality": "AUDIO", "tokenCount": 1_000},
        ],
    }  # fmt: skip
    sandbox.fault("gemini", status=200, body=body)
    usage = gemini.generate_json("x", schema=Look).usage
    assert usage.cost_microusd == -(-(9_000 * 250_000 + 1_000 * 500_000 + 5 * 1_500_000) // 1_000_000)
    seconds = gemini.highest_cost("x", schema=Look, video_s=10) - gemini.highest_cost("x", schema=Look)
    assert seconds == 10 * 400 * 500_000 // 1_000_000


# Faults


def test_two_503_are_ridden_out(sandbox: SandboxUnderTest, gemini: GeminiClient) -> None:
    body = {
        "error": {
            "code": 503,
            "message": "overloaded",
            "status": "UNAVAILABLE",
            "details": [{"@type": "RetryInfo", "retryDelay": "0s"}],
        }
    }
    sandbox.fault("gemini", times=2, status=503, body=body)
    assert look(gemini)
    assert sandbox.count("gemini", "POST", "generateContent") == 3


def test_a_long_wait_is_handed_up(sandbox: SandboxUnderTest, gemini: GeminiClient) -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "340s"}]
    body = {"error": {"code": 429, "message": "slow", "status": "RESOURCE_EXHAUSTED", "details": details}}
    sandbox.fault("gemini", status=429, body=body)
    with pytest.raises(TransientError) as caught:
        look(gemini)
    assert (caught.value.code, caught.value.retry_after_s) == ("rate_limited", 340.0)
    assert sandbox.count("gemini", "POST", "generateContent") == 1


def test_a_spent_day_waits_until_midnight_pacific(sandbox: SandboxUnderTest, settings_env: Settings) -> None:
    violation = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
    details = [
        {"@type": "QuotaFailure", "violations": [violation]},
        {"@type": "RetryInfo", "retryDelay": "9s"},
    ]
    body = {"error": {"code": 429, "message": "day", "status": "RESOURCE_EXHAUSTED", "details": details}}
    sandbox.fault("gemini", status=429, body=body)
    endpoint = settings_env.endpoint("gemini")
    client = GeminiClient(endpoint, MODEL, clock=lambda: datetime(2026, 11, 23, 7, tzinfo=UTC))
    with pytest.raises(TransientError) as caught:
        look(client)
    assert (caught.value.code, caught.value.retry_after_s) == ("quota_exhausted", 3600.0)


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "drop_before"},
        {"action": "drop_after"},
        {"status": 504, "body": {"error": {"code": 504, "status": "DEADLINE_EXCEEDED"}}},
        {"status": 408, "body": {"error": {"code": 408, "status": "ABORTED"}}},
        {"status": 200, "body": "<html>one moment please"},
        {"status": 200, "body": "not packed at all", "headers": {"content-encoding": "gzip"}},
        {"status": 200, "body": []},
        {"status": 200, "body": UNCOUNTED},
        {"status": 200, "body": UNCOUNTED | {"usageMetadata": {"promptTokenCount": -5}}},
    ],
)
def test_a_lost_answer_may_have_been_charged_and_is_not_asked_for_again(
    sandbox: SandboxUnderTest, gemini: GeminiClient, fault: dict[str, Any]
) -> None:
    sandbox.fault("gemini", **fault)
    with pytest.raises(OutcomeUnknownError) as caught:
        look(gemini)
    assert caught.value.code == "answer_lost"
    assert sandbox.count("gemini", "POST", "generateContent") == 1


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (302, {}, "gemini_refused"),
        (
            429,
            {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "details": [{"violations": None}]}},
            "rate_limited",
        ),
    ],
)
def test_an_odd_refusal_is_a_failure_of_ours_and_leads_nowhere(
    sandbox: SandboxUnderTest, settings_env: Settings, status: int, body: dict[str, Any], code: str
) -> None:
    headers = {"location": f"{sandbox.url}/elsewhere"}
    sandbox.fault("gemini", times=None, status=status, body=body, headers=headers)
    endpoint = replace(settings_env.endpoint("gemini"), max_retries=0)
    with pytest.raises(PipelineError) as caught:
        look(GeminiClient(endpoint, MODEL))
    assert caught.value.code == code


def test_a_video_that_may_not_be_watched_says_nothing_about_the_key(
    sandbox: SandboxUnderTest, gemini: GeminiClient
) -> None:
    body = {"error": {"code": 403, "status": "PERMISSION_DENIED", "message": "no permission"}}
    sandbox.fault("gemini", times=None, status=403, body=body)
    with pytest.raises(PermanentError) as caught:
        look(gemini, video_uri="https://www.youtube.com/watch?v=private")
    assert caught.value.code == "gemini_video_refused"
    with pytest.raises(NeedsPersonError):
        look(gemini)


def test_an_answer_later_than_the_timeout_is_lost(sandbox: SandboxUnderTest, settings_env: Settings) -> None:
    sandbox.fault("gemini", action="delay", delay_s=30, times=None)
    endpoint = replace(settings_env.endpoint("gemini"), timeout_s=0.3)
    with pytest.raises(OutcomeUnknownError) as caught:
        look(GeminiClient(endpoint, MODEL))
    assert caught.value.code == "answer_lost"


def test_nothing_listening_says_how_to_start_the_sandbox() -> None:
    endpoint = VendorEndpoint("gemini", "sandbox", "http://127.0.0.1:9/", "test", max_retries=0)
    with pytest.raises(TransientError) as caught:
        GeminiClient(endpoint, MODEL).count_tokens("x")
    assert caught.value.code == "vendor_unreachable"
    assert "ettametta sandbox" in caught.value.remedy


def test_a_retired_model_is_permanent_and_names_the_variable(
    settings_env: Settings,
) -> None:
    price = ModelPrice(prompt_microusd=1, output_microusd=1, priced_on=date(2026, 1, 1), image_tokens=1)
    old = GeminiClient(
        settings_env.endpoint("gemini"), "gemini-2.0-flash", prices={"gemini-2.0-flash": price}
    )
    with pytest.raises(PermanentError) as caught:
        look(old)
    assert caught.value.code == "gemini_model_retired"
    assert "GEMINI_MODEL" in caught.value.remedy


def test_a_wrong_key_needs_a_person_and_is_not_shown(sandbox: SandboxUnderTest) -> None:
    url = f"{sandbox.url}/gemini/"
    wrong = VendorEndpoint("gemini", "live", url, "test", {"gemini_api_key": SecretStr("no key!")})
    with pytest.raises(NeedsPersonError) as caught:
        look(GeminiClient(wrong, MODEL))
    assert caught.value.code == "api_key_rejected"


def test_no_secret_appears_in_any_failure(sandbox: SandboxUnderTest) -> None:
    secrets = {"gemini_api_key": SecretStr(CANARY)}
    endpoint = VendorEndpoint("gemini", "live", f"{sandbox.url}/gemini/", "test", secrets, max_retries=0)
    client = GeminiClient(endpoint, MODEL)
    echo = {
        "error": {
            "code": 400,
            "message": f"key={CANARY} x-goog-api-key: {CANARY}",
            "status": "INVALID_ARGUMENT",
        }
    }
    faults: list[dict[str, Any]] = [{"status": 400, "body": echo}, {"status": 500, "body": f"key={CANARY}"}]
    for fault in [*faults, {"action": "drop_after"}]:
        sandbox.clear_faults()
        sandbox.fault("gemini", times=None, **fault)
        with pytest.raises(PipelineError) as caught:
            look(client)
        assert CANARY not in f"{caught.value}{caught.value!r}{caught.value.__cause__!r}"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"images": [("image/png", b"no picture")]}, "image"),
        ({"images": [("text/plain", b"hello")]}, "MIME"),
        ({"video_uri": "https://example.com/video.mp4"}, "URL"),
    ],
)
def test_media_gemini_cannot_read_are_a_permanent_refusal(
    gemini: GeminiClient, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(PermanentError, match=named) as caught:
        look(gemini, **options)
    assert caught.value.code == "gemini_request_refused"
