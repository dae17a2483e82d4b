"""Clients of vendors that make videos, over HTTP against the sandbox: one order each, refusals told apart.

What is the same for all of them is tested for all of them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from ettametta_pipelines.failures import (
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.synthesis.engines.remote import Delivery, RemoteEngine
from ettametta_pipelines.synthesis.engines.siliconflow import SiliconFlowEngine
from ettametta_pipelines.synthesis.engines.veo import VeoEngine
from ettametta_pipelines.synthesis.prices import load_engines
from ettametta_pipelines.synthesis.requests import ClipRequest
from ettametta_pipelines.vendors.google_video import GoogleVideoClient
from ettametta_pipelines.vendors.siliconflow import SiliconFlowClient
from ettametta_pipelines_tests.conftest import SandboxUnderTest

REQUEST = ClipRequest("A tide comes in", 4.0, 720, 1280, 24, 11)


@dataclass(frozen=True)
class Way:
    """One vendor: how its engine is made, and where in the sandbox it is asked for a clip."""

    name: str
    make: Callable[[Settings], RemoteEngine]
    vendor: str
    path: str
    frames: int
    cost: int


def _siliconflow(settings: Settings) -> RemoteEngine:
    endpoint = replace(settings.endpoint("siliconflow"), max_retries=1)
    model = "Wan-AI/Wan2.2-T2V-A14B"
    client = SiliconFlowClient(endpoint, sleep=lambda _: None)
    return SiliconFlowEngine(client, model, load_engines().engines["siliconflow"].models[model], poll_s=0)


def _google(vendor: str, model: str) -> Callable[[Settings], RemoteEngine]:
    def make(settings: Settings) -> RemoteEngine:
        terms = load_engines().engines["veo"].models[model]
        assert terms.backend is not None
        client = GoogleVideoClient(replace(settings.endpoint(vendor), max_retries=1), model, terms.backend)
        return VeoEngine(client, terms, poll_s=0)

    return make


WAYS = (
    Way("siliconflow", _siliconflow, "siliconflow", "video/submit", 80, 290_000),
    Way("interactions", _google("gemini", "gemini-omni-1.2-flash"), "gemini", "interactions$", 96, 479_990),
    Way(
        "vertex", _google("vertex", "veo-3.1-fast-generate-001"), "vertex", "predictLongRunning", 96, 400_000
    ),
)


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def engine(way: Way, settings_env: Settings) -> RemoteEngine:
    return way.make(settings_env)


def charges(sandbox: SandboxUnderTest, way: Way) -> int:
    from ettametta_pipelines.sandbox import clips
    from ettametta_pipelines.sandbox.core import SandboxStore

    store = SandboxStore(sandbox.home / "sandbox")
    try:
        return clips.charges(store, way.name)
    finally:
        store.close()


def finished(engine: RemoteEngine, operation: str, request: ClipRequest = REQUEST) -> Delivery:
    for _ in range(4):
        delivery = engine.look(operation, request)
        if delivery is not None:
            return delivery
    raise AssertionError("it never ended")


def test_a_clip_is_ordered_once_waited_for_and_fetched(
    engine: RemoteEngine, way: Way, sandbox: SandboxUnderTest, tmp_path: Path
) -> None:
    operation = engine.submit(REQUEST, None)
    assert engine.look(operation, REQUEST) is None
    delivery = finished(engine, operation)
    delivery.fetch(tmp_path / "clip.mp4")
    probe = require_probe(tmp_path / "clip.mp4")
    assert (probe.width, probe.height, probe.frames) == (720, 1280, way.frames)
    assert delivery.cost_of(probe.duration_s) == way.cost
    assert charges(sandbox, way) == 1


@pytest.mark.parametrize("action", ["drop_after", "status_after"])
def test_an_order_whose_answer_is_lost_is_not_sent_again(
    engine: RemoteEngine, way: Way, sandbox: SandboxUnderTest, action: str
) -> None:
    sandbox.fault(way.vendor, method="POST", path_regex=way.path, action=action, status=502, times=None)
    with pytest.raises(OutcomeUnknownError) as caught:
        engine.submit(REQUEST, None)
    assert caught.value.code == "answer_lost"
    assert charges(sandbox, way) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_vendor_that_is_busy_is_asked_once_and_charges_nothing(
    engine: RemoteEngine, way: Way, sandbox: SandboxUnderTest, status: int
) -> None:
    sandbox.fault(way.vendor, method="POST", path_regex=way.path, status=status, times=None)
    with pytest.raises(TransientError) as caught:
        engine.submit(REQUEST, None)
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert sandbox.count(way.vendor, "POST", "") == 1
    assert charges(sandbox, way) == 0


def test_a_refused_key_needs_a_person(engine: RemoteEngine, way: Way, sandbox: SandboxUnderTest) -> None:
    body = {"error": {"code": 401, "status": "UNAUTHENTICATED", "message": "no"}}
    sandbox.fault(way.vendor, method="POST", path_regex=way.path, status=401, body=body)
    with pytest.raises(NeedsPersonError):
        engine.submit(REQUEST, None)


def test_a_retired_model_is_final_and_says_which_setting_to_change(
    engine: RemoteEngine, way: Way, settings_env: Settings
) -> None:
    engine.model = "gone-1"
    if isinstance(engine, VeoEngine):
        engine.client.model = "gone-1"
    with pytest.raises(PermanentError) as caught:
        engine.submit(REQUEST, None)
    assert caught.value.code.endswith("model_retired")
    assert "MODEL" in caught.value.remedy


@pytest.mark.parametrize(("trick", "code"), [("filtered", "content_refused"), ("fails-late", "clip_failed")])
def test_a_clip_that_will_not_come_says_so_for_good_with_the_vendors_reason(
    engine: RemoteEngine, trick: str, code: str
) -> None:
    operation = engine.submit(replace(REQUEST, prompt=f"waves sandbox:{trick}"), None)
    with pytest.raises(PermanentError) as caught:
        finished(engine, operation)
    assert caught.value.code == code
    assert "no reason given" not in str(caught.value)


def test_a_refused_prompt_charges_nothing_and_is_final(
    engine: RemoteEngine, way: Way, sandbox: SandboxUnderTest
) -> None:
    with pytest.raises(PermanentError):
        engine.submit(replace(REQUEST, prompt="waves sandbox:refused"), None)
    assert charges(sandbox, way) == 0


def test_looks_outlast_a_vendor_that_fails_for_a_moment(
    engine: RemoteEngine, way: Way, sandbox: SandboxUnderTest
) -> None:
    operation = engine.submit(REQUEST, None)
    sandbox.fault(way.vendor, path_regex="status|interactions/|fetchPredict", status=503)
    assert finished(engine, operation) is not None


def test_an_expired_address_is_asked_for_afresh(settings_env: Settings, tmp_path: Path) -> None:
    engine = _siliconflow(settings_env)
    operation = engine.submit(replace(REQUEST, prompt="tide sandbox:link-expires"), None)
    finished(engine, operation).fetch(tmp_path / "clip.mp4")
    assert require_probe(tmp_path / "clip.mp4").frames == 80


def test_a_clip_the_vendor_does_not_keep_is_lost_for_good(settings_env: Settings, tmp_path: Path) -> None:
    engine = _siliconflow(settings_env)
    operation = engine.submit(replace(REQUEST, prompt="tide sandbox:link-gone"), None)
    with pytest.raises(PermanentError) as caught:
        finished(engine, operation).fetch(tmp_path / "clip.mp4")
    assert caught.value.code == "clip_expired"
    assert not (tmp_path / "clip.mp4").exists()


def test_a_still_goes_along_where_the_model_starts_from_one(
    engine: RemoteEngine, way: Way, sandbox: SandboxUnderTest
) -> None:
    from ettametta_pipelines_tests.synthesis.motion import drawn_still

    if way.name == "siliconflow":
        engine.model = "Wan-AI/Wan2.2-I2V-A14B"
    engine.submit(REQUEST, drawn_still(64, 64))
    assert charges(sandbox, way) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://files.example.com/a.mp4",
        "https://127.0.0.1/a.mp4",
        "https://metadata.internal/a.mp4",
        "file:///a",
    ],
)
def test_addresses_that_lead_inside_are_not_followed(
    url: str, settings_env: Settings, tmp_path: Path
) -> None:
    from ettametta_pipelines.vendors.video_files import fetch_video

    with pytest.raises(PipelineError) as caught:
        fetch_video(settings_env.endpoint("siliconflow"), url, tmp_path / "a.mp4", vendor="SiliconFlow")
    assert caught.value.code == "clip_file_refused"


def _redirected(sandbox: SandboxUnderTest, way: str, times: int | None = 1) -> None:
    headers = {"location": way}
    sandbox.fault("gemini", path_regex="files/.*download", status=302, headers=headers, times=times)


def test_a_finished_clip_behind_a_redirect_is_fetched(
    settings_env: Settings, sandbox: SandboxUnderTest, tmp_path: Path
) -> None:
    engine = _google("gemini", "gemini-omni-1.2-flash")(settings_env)
    delivery = finished(engine, engine.submit(REQUEST, None))
    # To the very address again, which then answers.
    _redirected(sandbox, "?alt=media")
    delivery.fetch(tmp_path / "clip.mp4")
    assert require_probe(tmp_path / "clip.mp4").frames == 96


@pytest.mark.parametrize(
    "way", ["http://127.0.0.1:1/a.mp4", "https://elsewhere.example.com/a.mp4", "file:///a"]
)
def test_a_redirect_to_a_strangers_host_is_not_followed(
    settings_env: Settings, sandbox: SandboxUnderTest, tmp_path: Path, way: str
) -> None:
    engine = _google("gemini", "gemini-omni-1.2-flash")(settings_env)
    delivery = finished(engine, engine.submit(REQUEST, None))
    _redirected(sandbox, way)
    with pytest.raises(PermanentError) as caught:
        delivery.fetch(tmp_path / "clip.mp4")
    assert caught.value.code == "clip_file_refused"
    assert not (tmp_path / "clip.mp4").exists()


def test_redirects_without_end_are_given_up(
    settings_env: Settings, sandbox: SandboxUnderTest, tmp_path: Path
) -> None:
    engine = _google("gemini", "gemini-omni-1.2-flash")(settings_env)
    delivery = finished(engine, engine.submit(REQUEST, None))
    _redirected(sandbox, "?alt=media", times=None)
    with pytest.raises(PermanentError) as caught:
        delivery.fetch(tmp_path / "clip.mp4")
    assert caught.value.code == "clip_file_refused"


def test_a_key_that_is_refused_when_the_clip_is_fetched_does_not_lose_the_clip(
    settings_env: Settings, sandbox: SandboxUnderTest, tmp_path: Path
) -> None:
    engine = _google("gemini", "gemini-omni-1.2-flash")(settings_env)
    delivery = finished(engine, engine.submit(REQUEST, None))
    sandbox.fault("gemini", path_regex="files/.*download", status=403)
    with pytest.raises(NeedsPersonError):
        delivery.fetch(tmp_path / "clip.mp4")


def test_seconds_are_paid_for_as_they_were_delivered(settings_env: Settings) -> None:
    engine = _google("vertex", "veo-3.1-fast-generate-001")(settings_env)
    delivery = finished(engine, engine.submit(REQUEST, None))
    assert (delivery.cost_of(4.04), delivery.cost_of(8.0)) == (400_000, 800_000)


def test_a_machine_without_credentials_is_a_persons_matter_and_orders_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "none.json"))
    endpoint = VendorEndpoint(
        "vertex", "live", "https://us-central1-aiplatform.googleapis.com/", "test",
        secrets={"vertex_project": SecretStr("p")},
    )  # fmt: skip
    model = "veo-3.1-fast-generate-001"
    terms = load_engines().engines["veo"].models[model]
    engine = VeoEngine(GoogleVideoClient(endpoint, model, "vertex"), terms, poll_s=0)
    with pytest.raises(NeedsPersonError) as caught:
        engine.submit(REQUEST, None)
    assert caught.value.code == "vertex_credentials_missing"
