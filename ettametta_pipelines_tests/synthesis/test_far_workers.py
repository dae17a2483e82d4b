"""What goes wrong with a worker elsewhere: a pod that does not start, a node whose clips arrive damaged."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from ettametta_pipelines.failures import FailureKind, NeedsPersonError, PermanentError, TransientError
from ettametta_pipelines.settings import Settings, load_settings
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines.synthesis.job import finished_clip
from ettametta_pipelines.synthesis.node_client import NodeRunner, _fetch_clip, _late
from ettametta_pipelines.synthesis.pod import load_template
from ettametta_pipelines.synthesis.pod_watch import _overdue
from ettametta_pipelines.synthesis.requests import ClipRequest, ClipResult

CLIP = b"a whole clip"


@pytest.fixture
def result() -> ClipResult:
    return ClipResult(
        "ltx",
        "ltx-2-distilled",
        "a" * 32,
        "x",
        hashlib.sha256(CLIP).hexdigest(),
        0,
        32,
        32,
        24,
        10,
        False,
        None,
    )


@pytest.fixture
def store(settings_env: Settings) -> ObjectStore:
    return open_store(settings_env)


def waiting(reason: str | None) -> object:
    from kubernetes.client import (
        V1Container,
        V1ContainerState,
        V1ContainerStateWaiting,
        V1ContainerStatus,
        V1ObjectMeta,
        V1Pod,
        V1PodSpec,
        V1PodStatus,
    )

    state = V1ContainerState(waiting=V1ContainerStateWaiting(reason=reason, message="no") if reason else None)
    status = V1ContainerStatus(
        name="worker", image="i", image_id="", ready=False, restart_count=0, state=state, started=False
    )
    return V1Pod(
        metadata=V1ObjectMeta(name="gpu-1", uid="u"),
        spec=V1PodSpec(containers=[V1Container(name="worker")]),
        status=V1PodStatus(phase="Pending", container_statuses=[status], conditions=[]),
    )


@pytest.mark.parametrize(
    ("stage", "reason", "code", "kind"),
    [
        ("schedule", None, "gpu_pod_unschedulable", FailureKind.TRANSIENT),
        ("run", None, "gpu_pod_overran", FailureKind.TRANSIENT),
        ("start", "ImagePullBackOff", "gpu_image_unavailable", FailureKind.NEEDS_PERSON),
        ("start", "CreateContainerConfigError", "gpu_pod_misconfigured", FailureKind.NEEDS_PERSON),
        ("start", "ContainerCreating", "gpu_pod_start_timeout", FailureKind.TRANSIENT),
        ("start", None, "gpu_pod_start_timeout", FailureKind.TRANSIENT),
    ],
)
def test_a_pod_that_is_late_says_what_it_waits_for_and_whether_a_person_must_look(
    stage: str, reason: str | None, code: str, kind: FailureKind
) -> None:
    late = _overdue(waiting(reason), stage, 90)  # type: ignore[arg-type]
    assert (late.code, late.kind) == (code, kind)
    assert "90 s" in late.message
    assert late.remedy


@pytest.mark.parametrize(
    "text",
    [
        "",
        "template: {}",
        "template: {spec: {containers: []}}",
        "template: {spec: {containers: [{}, {}]}}",
        "template: [",
    ],
)
def test_a_template_of_no_or_several_containers_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pod.yaml"
    file.write_text(text)
    with pytest.raises(NeedsPersonError) as failure:
        load_template(file)
    assert failure.value.code == "gpu_pod_template"


class Line:
    """A node whose answers are these, one after the other."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = list(answers)

    def download(self, job: str, key: str, path: Path) -> None:
        path.write_bytes(self.answers.pop(0))


def test_a_clip_that_arrives_damaged_is_asked_for_again_and_kept_only_whole(
    store: ObjectStore, result: ClipResult
) -> None:
    line = Line(CLIP[:-1], CLIP)
    assert _fetch_clip(line, store, "n", result)  # type: ignore[arg-type]
    kept = finished_clip(store, "media/clips/ltx", result.request_key)
    assert kept is not None
    assert store.get(kept.object_key) == CLIP
    assert not _fetch_clip(Line(), store, "n", result), "it is not fetched twice"  # type: ignore[arg-type]


def test_a_clip_that_never_arrives_whole_is_not_kept(store: ObjectStore, result: ClipResult) -> None:
    with pytest.raises(TransientError) as failure:
        _fetch_clip(Line(*[b"half"] * 20), store, "n", result)  # type: ignore[arg-type]
    assert failure.value.code == "clip_damaged"
    assert finished_clip(store, "media/clips/ltx", result.request_key) is None


@pytest.mark.parametrize("changed", [{"engine": "../../uploads"}, {"request_key": "../x"}])
def test_a_node_cannot_say_where_a_clip_is_written(
    store: ObjectStore, result: ClipResult, changed: dict[str, str]
) -> None:
    with pytest.raises(PermanentError) as failure:
        _fetch_clip(Line(CLIP), store, "n", replace(result, **changed))  # type: ignore[arg-type]
    assert failure.value.code == "render_node_nonsense"
    assert list(store.list("media")) == []


def test_a_node_that_is_late_was_either_busy_or_slow() -> None:
    assert _late("queued", 60).code == "render_node_busy"
    assert _late("running", 60).code == "render_node_slow"


def test_a_node_is_asked_only_with_its_secret_and_for_a_picture_whose_content_is_known(
    settings_env: Settings, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RENDER_NODE_URL", "http://127.0.0.1:9")
    with pytest.raises(NeedsPersonError) as half:
        NodeRunner(settings_env, store)
    assert half.value.code == "render_node_unconfigured"
    monkeypatch.setenv("RENDER_NODE_SECRET", "s" * 40)
    runner = NodeRunner(load_settings(), store)
    request = ClipRequest("a kite", 0.4, 32, 32, 24, 0, image_key="media/stills/a.jpg")
    with pytest.raises(PermanentError) as unnamed:
        runner.run("j", "ltx", "ltx-2-distilled", [request])
    assert unnamed.value.code == "bad_gpu_job"
