"""The ElevenLabs client against the sandbox over HTTP: speech with its times and price, and what refusals mean."""

from typing import Any

import pytest
from pydantic import SecretStr

from ettametta_pipelines.failures import (
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.vendors.elevenlabs import ElevenLabsClient
from ettametta_pipelines.vendors.http import NeverSentError
from ettametta_pipelines_tests.conftest import SandboxUnderTest

VOICE = "JBFqnCBsd6RMkjVDRZzb"
TEXT = "Bread, slowly. Then salt!"


def client(url: str, *, model: str = "eleven_multilingual_v2", key: str | None = None) -> ElevenLabsClient:
    secrets = {} if key is None else {"elevenlabs_api_key": SecretStr(key)}
    endpoint = VendorEndpoint("elevenlabs", "live", f"{url}/elevenlabs/", "test", secrets)
    return ElevenLabsClient(endpoint, model, sleep=lambda seconds: None)


def asked(sandbox: SandboxUnderTest) -> int:
    return sandbox.count("elevenlabs", "POST", "/with-timestamps")


def test_speech_comes_as_mp3_with_the_time_of_every_character_and_its_price(
    sandbox: SandboxUnderTest,
) -> None:
    speech = client(sandbox.url).speak(TEXT, VOICE)
    assert speech.audio[:3] == b"ID3" or speech.audio[0] == 0xFF
    assert "".join(time.character for time in speech.times) == TEXT
    assert all(one.start_s < one.end_s for one in speech.times)
    assert (speech.charged_characters, speech.cost_microusd) == (len(TEXT), 80 * len(TEXT))
    assert speech.request_id.startswith("sandbox")


def test_a_cheaper_model_costs_half_and_is_told_the_language(sandbox: SandboxUnderTest) -> None:
    speech = client(sandbox.url, model="eleven_flash_v2_5").speak(TEXT, VOICE, language="en")
    assert speech.cost_microusd == 40 * len(TEXT)
    # The sandbox refuses the language where the model takes none.
    assert client(sandbox.url).speak(TEXT, VOICE, language="en").audio


REFUSALS: list[tuple[dict[str, Any], type[PipelineError], str]] = [
    (
        {"status": 401, "body": {"detail": {"status": "quota_exceeded", "message": "0 credits remaining"}}},
        NeedsPersonError,
        "elevenlabs_quota_exceeded",
    ),
    (
        {
            "status": 401,
            "body": {"detail": {"status": "missing_permissions", "message": "no text_to_speech"}},
        },
        NeedsPersonError,
        "elevenlabs_permission_missing",
    ),
    (
        {"status": 422, "body": {"detail": [{"loc": ["body", "text"], "msg": "too strange"}]}},
        PermanentError,
        "elevenlabs_request_refused",
    ),
]


@pytest.mark.parametrize(("answer", "kind", "code"), REFUSALS, ids=[row[2] for row in REFUSALS])
def test_a_refusal_says_what_to_do_and_is_not_asked_twice(
    sandbox: SandboxUnderTest, answer: dict[str, Any], kind: type[PipelineError], code: str
) -> None:
    sandbox.fault("elevenlabs", action="status", times=None, **answer)
    with pytest.raises(kind) as refused:
        client(sandbox.url).speak(TEXT, VOICE)
    assert refused.value.code == code
    assert refused.value.remedy
    assert asked(sandbox) == 1


def test_a_wrong_key_needs_a_person_and_is_not_shown(sandbox: SandboxUnderTest) -> None:
    with pytest.raises(NeedsPersonError) as refused:
        client(sandbox.url, key="no key").speak(TEXT, VOICE)
    assert refused.value.code == "api_key_rejected"
    assert "no key" not in str(refused.value)


def test_an_unknown_voice_is_named(sandbox: SandboxUnderTest) -> None:
    with pytest.raises(PermanentError) as refused:
        client(sandbox.url).speak(TEXT, "nobody")
    assert refused.value.code == "elevenlabs_voice_unknown"


@pytest.mark.parametrize(
    "answer", [{"status": 429, "body": {"detail": {"status": "system_busy"}}}, {"status": 503}]
)
def test_an_answer_that_was_certainly_not_charged_is_asked_for_again(
    sandbox: SandboxUnderTest, answer: dict[str, Any]
) -> None:
    sandbox.fault("elevenlabs", action="status", times=2, **answer)
    assert client(sandbox.url).speak(TEXT, VOICE).audio
    assert asked(sandbox) == 3


LOSSES: list[dict[str, Any]] = [
    {"action": "drop_after"},
    {"action": "status", "status": 500},
    {"action": "status", "status": 502, "body": "Bad Gateway"},
    {"action": "status", "status": 200, "body": {"audio_base64": "not base64"}},
    {"action": "status", "status": 200, "body": "<html>"},
]


@pytest.mark.parametrize("loss", LOSSES)
def test_an_answer_that_may_have_been_charged_is_never_asked_for_again(
    sandbox: SandboxUnderTest, loss: dict[str, Any]
) -> None:
    sandbox.fault("elevenlabs", times=None, **loss)
    with pytest.raises(OutcomeUnknownError):
        client(sandbox.url).speak(TEXT, VOICE)
    assert asked(sandbox) == 1


def test_a_machine_that_is_not_there_was_never_asked() -> None:
    with pytest.raises(NeverSentError):
        client("http://127.0.0.1:9").speak(TEXT, VOICE)


def test_the_credits_of_a_month_end(sandbox: SandboxUnderTest) -> None:
    speaker = client(sandbox.url)
    for _ in range(3):
        speaker.speak("salt " * 600, VOICE)
    with pytest.raises(NeedsPersonError, match="1000 credits remaining") as refused:
        speaker.speak("salt " * 600, VOICE)
    assert refused.value.code == "elevenlabs_quota_exceeded"
    sandbox.advance(days=31)
    assert speaker.speak(TEXT, VOICE).audio


def test_nothing_is_bought_from_a_model_without_a_price(sandbox: SandboxUnderTest) -> None:
    with pytest.raises(PermanentError) as refused:
        client(sandbox.url, model="eleven_v9")
    assert refused.value.code == "elevenlabs_price_unknown"


def test_the_model_is_looked_up_for_the_doctor(sandbox: SandboxUnderTest) -> None:
    client(sandbox.url).check_model()
    sandbox.fault("elevenlabs", action="status", status=200, body=[{"model_id": "another"}])
    with pytest.raises(PermanentError) as retired:
        client(sandbox.url).check_model()
    assert retired.value.code == "elevenlabs_model_retired"
    sandbox.fault("elevenlabs", action="status", status=200, body="<html>", times=None)
    with pytest.raises(TransientError):
        client(sandbox.url).check_model()


def test_the_doctor_says_which_voice_speaks(
    sandbox: SandboxUnderTest, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.commands.doctor import examine
    from ettametta_pipelines.settings import load_settings

    rows, parts = examine(settings_env)
    (row,) = [row for row in rows if row.integration == "elevenlabs"]
    assert (row.standing, "espeak-ng" in row.why) == ("sandbox", True)
    (part,) = [part for part in parts if part.part == "local voice"]
    assert part.ok
    assert part.detail.startswith("espeak-ng 1.")
    monkeypatch.setenv("ELEVENLABS_BASE_URL", f"{sandbox.url}/elevenlabs/")
    rows, _ = examine(load_settings())
    (row,) = [row for row in rows if row.integration == "elevenlabs"]
    assert (row.standing, row.remedy) == ("live", "")
