"""Answers that no vendor documents: a success without its content, a file that is none, a consent that is gone."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from ettametta_pipelines.failures import OutcomeUnknownError, PermanentError, TransientError
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.synthesis.prices import load_engines
from ettametta_pipelines.vendors import video_files
from ettametta_pipelines.vendors.google_video import GoogleVideoClient
from ettametta_pipelines.vendors.http import NeverSentError, is_loopback, network_error, retry_after_seconds
from ettametta_pipelines.vendors.oauth import open_desk
from ettametta_pipelines.vendors.siliconflow import SiliconFlowClient
from ettametta_pipelines.vendors.tiktok import plan_chunks
from ettametta_pipelines.vendors.video_files import fetch_video
from ettametta_pipelines_tests.conftest import SandboxUnderTest

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def siliconflow(settings_env: Settings) -> SiliconFlowClient:
    return SiliconFlowClient(settings_env.endpoint("siliconflow"), sleep=lambda _: None)


@pytest.mark.parametrize("answer", [{"requestId": ""}, {"requestId": 7}, {}, [], "requestId"])
def test_an_order_taken_without_a_number_may_have_been_charged(
    siliconflow: SiliconFlowClient, sandbox: SandboxUnderTest, answer: Any
) -> None:
    sandbox.fault("siliconflow", method="POST", path_regex="video/submit", status=200, body=answer)
    with pytest.raises(OutcomeUnknownError) as failure:
        siliconflow.submit("m", "a tide", "720x1280", negative_prompt="text")
    assert failure.value.code == "answer_lost"


@pytest.mark.parametrize("answer", [{"status": "Paused"}, {}, [], {"status": "Succeed", "results": 7}])
def test_a_state_that_is_none_is_asked_for_again(
    siliconflow: SiliconFlowClient, sandbox: SandboxUnderTest, answer: Any
) -> None:
    sandbox.fault("siliconflow", path_regex="video/status", times=None, status=200, body=answer)
    with pytest.raises(TransientError) as failure:
        siliconflow.state("request-1")
    assert failure.value.code == "siliconflow_answer_unreadable"


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        ({"error": {"code": 13, "message": "internal"}}, PermanentError, "internal"),
        ({"error": {"code": 3, "message": "a child"}}, PermanentError, "a child"),
        ({"response": {"raiMediaFilteredCount": 1, "raiMediaFilteredReasons": ["a face"]}}, PermanentError, "a face"),
        ({"response": {"raiMediaFilteredCount": 1}}, PermanentError, "every clip was filtered"),
        ({"response": {"videos": []}}, PermanentError, "without a video"),
        ({}, PermanentError, "without a video"),
    ],
)  # fmt: skip
def test_an_operation_that_ended_without_a_video_says_why(
    settings_env: Settings, sandbox: SandboxUnderTest, answer: dict[str, Any], kind: type, said: str
) -> None:
    model = "veo-3.1-fast-generate-001"
    terms = load_engines().engines["veo"].models[model]
    assert terms.backend is not None
    client = GoogleVideoClient(settings_env.endpoint("vertex"), model, terms.backend)
    body = {"name": OPERATION, "done": True} | answer
    sandbox.fault("vertex", path_regex="fetchPredictOperation", times=None, status=200, body=body)
    with pytest.raises(kind, match=said):
        client.look(OPERATION)


OPERATION = "projects/p/locations/l/publishers/google/models/veo-3.1-fast-generate-001/operations/1"


def at(sandbox: SandboxUnderTest) -> VendorEndpoint:
    return VendorEndpoint("siliconflow", "sandbox", f"{sandbox.url}/siliconflow/", "test")


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        ({"status": 200, "body": "<html>sign in</html>"}, PermanentError, "is no MP4"),
        ({"status": 204}, PermanentError, "instead of sending a clip"),
    ],
)
def test_what_is_no_film_is_not_kept(
    sandbox: SandboxUnderTest, tmp_path: Path, fault: dict[str, Any], kind: type, said: str
) -> None:
    sandbox.fault("siliconflow", path_regex="files/", **fault)
    path = tmp_path / "clip.mp4"
    with pytest.raises(kind, match=said):
        fetch_video(at(sandbox), f"{sandbox.url}/siliconflow/files/x.mp4", path, vendor="SiliconFlow")
    assert not path.exists()


@pytest.mark.parametrize(("limit", "said"), [("MAX_BYTES", "exceeds"), ("MAX_SECONDS", "took over")])
def test_a_film_beyond_size_or_time_is_not_kept(
    sandbox: SandboxUnderTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, said: str
) -> None:
    monkeypatch.setattr(video_files, limit, -1)
    sandbox.fault("siliconflow", path_regex="files/", status=200, body="\0\0\0\x18ftypisom" * 100)
    path = tmp_path / "clip.mp4"
    with pytest.raises((PermanentError, TransientError), match=said):
        fetch_video(at(sandbox), f"{sandbox.url}/siliconflow/files/x.mp4", path, vendor="SiliconFlow")
    assert not path.exists()


def test_a_consent_that_is_gone_already_is_no_failure_and_a_refusal_behind_200_is_one(
    settings_env: Settings, sandbox: SandboxUnderTest
) -> None:
    desk = open_desk(settings_env, "tiktok")
    sandbox.fault("tiktok", path_regex="revoke", status=200, body={"error": "invalid_grant"})
    desk.revoke("gone")
    sandbox.fault("tiktok", path_regex="revoke", status=200, body={"error": "invalid_client"})
    with pytest.raises(PermanentError) as failure:
        desk.revoke("act.1")
    assert failure.value.code == "revoke_refused"


def test_a_live_desk_asks_and_revokes_at_the_vendors_own_addresses(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ettametta_pipelines.settings import load_settings

    for platform, name in (("youtube", "GOOGLE_CLIENT"), ("tiktok", "TIKTOK_CLIENT")):
        monkeypatch.setenv(f"{name}_{'ID' if platform == 'youtube' else 'KEY'}", "id")
        monkeypatch.setenv(f"{name}_SECRET", "secret")
    settings = load_settings()
    google, tiktok = open_desk(settings, "youtube"), open_desk(settings, "tiktok")
    assert google.revoke_url.startswith("https://oauth2.googleapis.com/")
    assert tiktok.revoke_url.startswith("https://open.tiktokapis.com/")
    assert (google.endpoint.mode, tiktok.endpoint.mode) == ("live", "live")


def failed(error: Exception, base_url: str, *, was_sent: bool = False) -> Exception:
    return network_error(error, "Gemini", "look", base_url=base_url, was_sent=was_sent, repeatable=True)


def test_a_refused_certificate_is_told_from_a_line_that_is_down() -> None:
    refused = httpx.ConnectError("x")
    refused.__cause__ = problem = ssl.SSLCertVerificationError(1, "certificate verify failed")
    problem.verify_message = "it has expired"
    told = failed(refused, "https://api.example.com")
    assert isinstance(told, NeverSentError)
    assert (told.code, "SSL_CERT_FILE" in told.remedy) == ("vendor_certificate", True)
    assert "it has expired" in told.message
    down = failed(httpx.ConnectError("x"), "https://api.example.com")
    assert isinstance(down, NeverSentError)
    assert (down.code, "ettametta doctor" in down.remedy) == ("vendor_unreachable", True)
    assert "ettametta sandbox" in failed(httpx.ConnectError("x"), "http://localhost:4000").remedy  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("url", "own"),
    [("http://localhost:1/x", True), ("http://[::1]/", True), ("https://example.com", False), ("", False)],
)
def test_this_machine_is_known_by_name_and_address(url: str, own: bool) -> None:
    assert is_loopback(url) is own


def test_a_date_to_come_back_at_without_a_zone_is_utc() -> None:
    assert retry_after_seconds("Sun, 22 Nov 2026 12:00:30 -0000", lambda: NOW) == 30


@pytest.mark.parametrize("size", [1, 5 * 1024 * 1024 - 1, 64_000_001])
def test_chunks_that_tiktok_would_refuse_are_a_mistake_of_ours(size: int) -> None:
    with pytest.raises(ValueError, match="chunk_size"):
        plan_chunks(100_000_000, chunk_size=size)
