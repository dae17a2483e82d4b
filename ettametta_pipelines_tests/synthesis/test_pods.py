"""GPU pods against a stand-in cluster that runs them: every way a pod can go wrong ends soon, with the right words."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import FailureKind, PipelineError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import ObjectStore, open_store
from ettametta_pipelines.synthesis.job import Outcome
from ettametta_pipelines.synthesis.pipes import current_context
from ettametta_pipelines.synthesis.pod import PodRunner
from ettametta_pipelines.synthesis.pod_janitor import find_pods, remove_leaked
from ettametta_pipelines.synthesis.pod_watch import Deadlines, KubernetesApi
from ettametta_pipelines.synthesis.requests import ClipFailure, ClipRequest, ClipResult
from ettametta_pipelines.tags import GPU_PRIORITY_TAG
from ettametta_pipelines_tests.synthesis.cluster import Cluster, RunningPod

FAKE_WORKER = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]
QUICK = Deadlines(schedule_s=60, pull_s=60, run_s=60, api_s=1, gone_s=2, drain_s=3, poll_s=0.05)
# For what is waited for in vain: nothing that is to succeed has to be quicker than a busy machine.
IMPATIENT = Deadlines(schedule_s=0.5, pull_s=0.5, run_s=20, api_s=1, gone_s=2, drain_s=3, poll_s=0.05)


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    made = Cluster(FAKE_WORKER)
    yield made
    made.close()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ETTAMETTA_GPU_IMAGE", "registry.example/gpu-worker@sha256:00")
    return Settings(_env_file=None)


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings)


def shots(*prompts: str) -> list[ClipRequest]:
    return [ClipRequest(prompt, 0.4, 32, 32, 24, seed) for seed, prompt in enumerate(prompts)]


class Ordered:
    """One order of clips in a Dagster run: its outcomes or its failure, and what the event log says."""

    def __init__(
        self,
        cluster: Cluster,
        settings: Settings,
        store: ObjectStore,
        requests: list[ClipRequest],
        deadlines: Deadlines = QUICK,
        tags: dict[str, str] | None = None,
    ) -> None:
        self.outcomes: list[Outcome] = []
        self.failure: PipelineError | None = None

        @dg.asset
        def clips(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
            runner = PodRunner(context, settings, store, api=cluster.api, deadlines=deadlines)
            try:
                self.outcomes = list(runner.run("order-1", "ltx", "ltx-2-distilled", requests))
            except PipelineError as error:
                self.failure = error
                raise
            return dg.MaterializeResult()

        with dg.DagsterInstance.ephemeral() as instance:
            began = time.monotonic()
            result = dg.materialize([clips], instance=instance, raise_on_error=False, tags=tags)
            self.seconds = time.monotonic() - began
            self.success, self.run_id = result.success, result.run_id
            self.said = [entry.message for entry in instance.all_logs(result.run_id)]
            if not result.success and self.failure is None:
                raise AssertionError(result.all_events[-1])

    def heard(self, words: str) -> bool:
        return any(words in message for message in self.said)

    @property
    def ended_as(self) -> tuple[FailureKind, str]:
        assert self.failure is not None
        return (self.failure.kind, self.failure.code)


Order = Callable[..., Ordered]


@pytest.fixture
def order(cluster: Cluster, settings: Settings, store: ObjectStore) -> Order:
    def make(*prompts: str, **options: Any) -> Ordered:
        return Ordered(cluster, settings, store, shots(*prompts), **options)

    return make


def test_a_pod_makes_the_clips_and_is_removed(cluster: Cluster, order: Order, store: ObjectStore) -> None:
    ordered = order("a kite", "a boat")
    assert [type(outcome) for outcome in ordered.outcomes] == [ClipResult, ClipResult]
    assert store.exists(ordered.outcomes[0].object_key)  # type: ignore[union-attr]
    assert ordered.heard("painting a boat")
    assert cluster.pods == {}


def test_the_pod_is_the_template_with_job_run_and_tier_filled_in(
    cluster: Cluster, settings: Settings, store: ObjectStore
) -> None:
    owned = settings.model_copy(
        update={"pod_name": "run-pod", "pod_uid": "u-1", "pod_namespace": "gpu", "gpu_namespace": "gpu"}
    )
    ordered = Ordered(cluster, owned, store, shots("a kite"), tags={GPU_PRIORITY_TAG: "ettametta-priority"})
    (pod,) = cluster.created
    container = pod["spec"]["containers"][0]
    template = yaml.safe_load(Path("k8s/base/gpu-pod.yaml").read_text())["template"]["spec"]
    assert pod["metadata"]["labels"]["dagster/run-id"] == ordered.run_id
    assert pod["metadata"]["ownerReferences"] == [
        {"apiVersion": "v1", "kind": "Pod", "name": "run-pod", "uid": "u-1"}
    ]
    assert pod["spec"]["priorityClassName"] == "ettametta-priority"
    assert pod["spec"]["tolerations"] == template["tolerations"]
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert pod["spec"]["securityContext"]["runAsNonRoot"] is True
    assert container["resources"] == template["containers"][0]["resources"]
    assert {"name": "models", "mountPath": "/models", "readOnly": True} in container["volumeMounts"]
    assert container["image"] == "registry.example/gpu-worker@sha256:00"


def test_a_step_that_used_a_pod_returns_what_it_likes(
    cluster: Cluster, settings: Settings, store: ObjectStore
) -> None:
    @dg.op
    def make() -> list[str]:
        context = current_context()
        assert context is not None
        runner = PodRunner(context, settings, store, api=cluster.api, deadlines=QUICK)
        return [
            type(outcome).__name__ for outcome in runner.run("op", "ltx", "ltx-2-distilled", shots("a kite"))
        ]

    @dg.graph_asset
    def clips() -> Any:
        return make()

    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize([clips], instance=instance)
        assert result.output_for_node("clips.make") == ["ClipResult"]


def test_clips_that_exist_ask_for_no_pod(cluster: Cluster, order: Order) -> None:
    order("a kite")
    again = order("a kite")
    assert again.success
    assert cluster.count("POST") == 1


def test_a_shot_that_failed_is_an_outcome_and_not_the_end_of_the_others(order: Order) -> None:
    failed, made = order("fail", "a kite").outcomes
    assert isinstance(failed, ClipFailure)
    assert (failed.code, failed.kind) == ("gpu_out_of_memory", FailureKind.PERMANENT)
    assert isinstance(made, ClipResult)


@pytest.mark.parametrize("prompt", ["wait 30"])
def test_a_pod_that_vanishes_while_its_log_is_followed_is_lost_at_once(
    cluster: Cluster, order: Order, prompt: str
) -> None:
    cluster.on_running = lambda pod: threading.Timer(0.5, cluster.vanish, [pod]).start()
    ordered = order(prompt)
    assert ordered.ended_as == (FailureKind.TRANSIENT, "gpu_pod_lost")
    assert ordered.seconds < 15


def test_a_pod_that_is_deleted_while_it_waits_for_a_node_is_lost_at_once(
    cluster: Cluster, order: Order
) -> None:
    cluster.unschedulable = True

    def delete_once_it_waits() -> None:
        while not any(request.startswith("GET ") for request in list(cluster.requests)):
            time.sleep(0.02)
        cluster.delete(next(iter(cluster.pods)))

    deleting = threading.Thread(target=delete_once_it_waits, daemon=True)
    deleting.start()
    ordered = order("a kite", deadlines=Deadlines(300, 300, 300, 5, 5, 3, 0.05))
    deleting.join()
    assert ordered.ended_as == (FailureKind.TRANSIENT, "gpu_pod_lost")


def test_a_mesh_that_puts_its_container_before_ours_neither_hides_our_end_nor_our_words(
    cluster: Cluster, order: Order
) -> None:
    cluster.injects_sidecar = True
    ordered = order("a kite")
    assert ordered.success
    assert ordered.heard("painting a kite")
    assert cluster.pods == {}
    assert order("exit 2").ended_as == (FailureKind.PERMANENT, "bad_gpu_job")


def test_an_order_too_large_for_an_environment_goes_by_the_store(
    cluster: Cluster, settings: Settings, store: ObjectStore
) -> None:
    many = [ClipRequest("a kite " * 280, 0.4, 32, 32, 24, seed) for seed in range(200)]
    cluster.unschedulable = True
    Ordered(cluster, settings, store, many, IMPATIENT)
    (pod,) = cluster.created
    # The kernel takes 128 KiB a variable.
    assert all(len(entry.get("value", "")) < 16_000 for entry in pod["spec"]["containers"][0]["env"])


def test_a_misspelt_pod_template_is_a_persons_matter_before_a_pod_is_asked_for(
    cluster: Cluster, settings: Settings, store: ObjectStore, tmp_path: Path
) -> None:
    template = tmp_path / "pod.yaml"
    template.write_text(Path("k8s/base/gpu-pod.yaml").read_text().replace("resources:", "resorces:"))
    ordered = Ordered(
        cluster, settings.model_copy(update={"gpu_pod_template": template}), store, shots("a kite")
    )
    assert ordered.ended_as == (FailureKind.NEEDS_PERSON, "gpu_pod_template")
    assert "resorces" in str(ordered.failure)
    assert cluster.requests == []


def test_a_log_that_nobody_can_read_costs_words_and_no_clip(cluster: Cluster, order: Order) -> None:
    cluster.fail("LOG", *[500] * 500)
    assert [type(outcome) for outcome in order("a kite").outcomes] == [ClipResult]


def test_a_pod_that_no_node_takes_ends_at_its_deadline_with_the_schedulers_words(
    cluster: Cluster, order: Order
) -> None:
    cluster.unschedulable = True
    ordered = order("a kite", deadlines=IMPATIENT)
    assert ordered.ended_as == (FailureKind.TRANSIENT, "gpu_pod_unschedulable")
    assert ordered.heard(
        "Waiting for a node (Unschedulable): 0/3 nodes are available: 3 Insufficient nvidia.com/gpu"
    )
    assert cluster.pods == {}


def test_an_image_that_cannot_be_loaded_is_waited_for_and_then_a_persons_matter(
    cluster: Cluster, order: Order
) -> None:
    cluster.image_missing = True
    ordered = order("a kite", deadlines=IMPATIENT)
    assert ordered.ended_as == (FailureKind.NEEDS_PERSON, "gpu_image_unavailable")
    assert ordered.heard('ImagePullBackOff): Back-off pulling image "nowhere/worker:1"')


def test_a_worker_that_comes_to_no_end_is_ended_by_its_deadline(cluster: Cluster, order: Order) -> None:
    ordered = order("wait 60", deadlines=Deadlines(1, 1, 1.5, 2, 2, 1, 0.05))
    assert ordered.ended_as == (FailureKind.TRANSIENT, "gpu_pod_overran")
    assert cluster.pods == {}


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "LOG"])
def test_the_api_servers_hiccups_are_sat_out(cluster: Cluster, order: Order, method: str) -> None:
    cluster.fail(method, 500, 503, 429)
    ordered = order("a kite")
    assert ordered.success
    assert cluster.pods == {}


def test_an_api_server_that_stays_away_ends_the_wait(cluster: Cluster, order: Order) -> None:
    cluster.fail("POST", *[500] * 60)
    assert order("a kite").ended_as == (FailureKind.TRANSIENT, "kubernetes_unreachable")


def test_a_pod_whose_creation_was_not_confirmed_is_taken_over_and_not_made_twice(
    cluster: Cluster, order: Order
) -> None:
    cluster.forget_answer_of_create = True
    assert order("a kite").success
    assert len(cluster.created) == 1


def test_a_pod_that_a_killed_run_left_at_work_is_taken_over(
    cluster: Cluster, order: Order, settings: Settings, store: ObjectStore
) -> None:
    first = threading.Thread(target=order, args=("wait 2", "a boat"))
    first.start()
    while not cluster.pods or cluster.only.process is None:
        time.sleep(0.02)
    second = order("wait 2", "a boat")
    first.join()
    assert second.success
    assert second.heard("is taken over")
    assert second.heard("painting a boat")
    assert len(cluster.created) == 1


def test_a_failed_pod_in_the_way_is_replaced(cluster: Cluster, order: Order) -> None:
    cluster.fail("DELETE", *[500] * 60)
    assert order("exit 75").ended_as == (FailureKind.TRANSIENT, "gpu_worker_interrupted")
    assert len(cluster.pods) == 1
    cluster.faults.clear()
    order("a kite")
    assert len(cluster.created) == 2
    assert cluster.pods == {}


def test_a_pod_on_a_lost_node_is_given_up_and_its_name_is_free_once_it_is_gone(
    cluster: Cluster, order: Order
) -> None:
    def lose(pod: RunningPod) -> None:
        cluster.node_is_lost = True
        cluster.delete(pod.document["metadata"]["name"])

    cluster.on_running = lose
    first = order("wait 600")
    assert first.ended_as == (FailureKind.TRANSIENT, "gpu_pod_lost")
    assert "a node that does not answer" in str(first.failure)
    assert order("wait 600").ended_as == (FailureKind.TRANSIENT, "gpu_pod_stuck")
    assert len(cluster.created) == 1
    cluster.node_is_lost, cluster.on_running = False, lambda pod: None
    cluster.delete(next(iter(cluster.pods)))
    assert order("a kite").success


def test_a_pod_of_another_image_is_replaced_and_not_waited_for(
    cluster: Cluster, order: Order, settings: Settings, store: ObjectStore
) -> None:
    cluster.image_missing = True
    cluster.fail("DELETE", *[500] * 60)
    wrong = settings.model_copy(update={"gpu_image": "nowhere/worker:1"})
    assert Ordered(cluster, wrong, store, shots("a kite"), IMPATIENT).failure is not None
    assert cluster.only.document["status"]["phase"] == "Pending"
    cluster.faults.clear()
    cluster.image_missing = False
    ordered = order("a kite")
    assert ordered.success
    assert ordered.heard("was made from another image or template")
    assert [pod["spec"]["containers"][0]["image"] for pod in cluster.created] == [
        "nowhere/worker:1",
        settings.gpu_image,
    ]


def test_the_janitor_leaves_a_pod_that_a_run_takes_over_meanwhile(cluster: Cluster) -> None:
    cluster.unschedulable = True
    labels = {"app.kubernetes.io/component": "gpu-worker", "ettametta/job": "j", "dagster/run-id": "killed"}
    spec = {"containers": [{"name": "worker", "image": "i"}]}
    cluster.create({"metadata": {"name": "p", "labels": labels}, "spec": spec})
    api = KubernetesApi(cluster.api, "default", QUICK)
    found = find_pods(api, lambda run_id: run_id == "killed", utc_now())
    api.patch("p", {"metadata": {"labels": {"dagster/run-id": "alive"}, "ownerReferences": []}})
    assert remove_leaked(api, found) == []
    assert list(cluster.pods) == ["p"]


def test_a_removal_that_finds_nothing_does_not_hide_why_the_job_failed(
    cluster: Cluster, order: Order
) -> None:
    cluster.fail("DELETE", 404)
    assert order("exit 2").ended_as == (FailureKind.PERMANENT, "bad_gpu_job")


def test_a_spent_quota_is_waited_for(cluster: Cluster, order: Order) -> None:
    cluster.fail("POST", 403, 403, message='pods "x" is forbidden: exceeded quota: gpus')
    ordered = order("a kite")
    assert ordered.success
    assert ordered.heard("exceeded quota: gpus")


def test_a_quota_that_stays_spent_ends_the_wait(cluster: Cluster, order: Order) -> None:
    cluster.fail("POST", *[403] * 90, message='pods "x" is forbidden: exceeded quota: gpus')
    assert order("a kite", deadlines=IMPATIENT).ended_as == (FailureKind.TRANSIENT, "gpu_quota_exceeded")


def test_missing_rights_are_a_persons_matter_at_once(cluster: Cluster, order: Order) -> None:
    cluster.fail("POST", 403, message="pods is forbidden: User cannot create resource")
    assert order("a kite").ended_as == (FailureKind.NEEDS_PERSON, "kubernetes_forbidden")


def test_a_pod_that_admission_refuses_is_a_persons_matter(cluster: Cluster, order: Order) -> None:
    cluster.fail("POST", 422, message="spec.containers[0].image: Required value")
    ordered = order("a kite")
    assert ordered.ended_as == (FailureKind.NEEDS_PERSON, "gpu_pod_refused")
    assert "Required value" in str(ordered.failure)


def test_a_cut_log_loses_and_repeats_nothing(cluster: Cluster, order: Order) -> None:
    cluster.cut_log_after = 3
    ordered = order("wait 0.5", "a kite", "a boat")
    painted = [message for message in ordered.said if message.startswith("painting")]
    assert painted == ["painting wait 0.5", "painting a kite", "painting a boat"]


def test_a_progress_bar_does_not_swallow_messages(order: Order) -> None:
    ordered = order("bar", "a kite")
    assert ordered.heard("painting bar")
    assert ordered.heard("painting a kite")


EVICTED = {"reason": "Evicted", "message": "The node was low on resource: memory."}


@pytest.mark.parametrize(
    ("mark", "code", "kind"),
    [
        (
            {"ended": {"exitCode": 137, "reason": "OOMKilled"}},
            "gpu_worker_out_of_memory",
            FailureKind.NEEDS_PERSON,
        ),
        (
            {"condition": ("DisruptionTarget", "PreemptionByScheduler")},
            "gpu_pod_disrupted",
            FailureKind.TRANSIENT,
        ),
        ({"status": EVICTED}, "gpu_pod_disrupted", FailureKind.TRANSIENT),
        ({"status": {"reason": "DeadlineExceeded"}}, "gpu_pod_overran", FailureKind.TRANSIENT),
        ({}, "gpu_worker_killed", FailureKind.TRANSIENT),
    ],
    ids=["out of memory", "preempted", "evicted", "own deadline", "killed"],
)
def test_who_killed_the_worker_is_told_apart(
    cluster: Cluster, order: Order, mark: dict[str, Any], code: str, kind: FailureKind
) -> None:
    def on_running(pod: RunningPod) -> None:
        if "ended" in mark:
            pod.document["ended"] = mark["ended"]
        if "condition" in mark:
            pod.condition(mark["condition"][0], "True", mark["condition"][1], "a more important pod came")
        if "status" in mark:
            plain = pod.status
            pod.status = lambda phase, **fields: plain(phase, **fields, **mark["status"])  # type: ignore[method-assign]

    cluster.on_running = on_running
    assert order("crash").ended_as == (kind, code)


@pytest.mark.parametrize(
    ("code", "kind", "name"),
    [
        (1, FailureKind.PERMANENT, "gpu_worker_failed"),
        (2, FailureKind.PERMANENT, "bad_gpu_job"),
        (3, FailureKind.NEEDS_PERSON, "gpu_model_missing"),
        (12, FailureKind.NEEDS_PERSON, "gpu_worker_out_of_memory"),
        (75, FailureKind.TRANSIENT, "gpu_worker_interrupted"),
        (143, FailureKind.TRANSIENT, "gpu_worker_stopped"),
        (139, FailureKind.TRANSIENT, "gpu_worker_killed"),
    ],
)
def test_exit_codes_are_failures_of_the_taxonomy_with_the_workers_last_words(
    order: Order, code: int, kind: FailureKind, name: str
) -> None:
    ordered = order(f"exit {code}")
    assert ordered.ended_as == (kind, name)
    assert f"leaving with {code}" in str(ordered.failure)


def test_a_worker_that_claims_success_without_a_clip_is_not_believed(order: Order) -> None:
    ordered = order("lie")
    assert ordered.ended_as == (FailureKind.TRANSIENT, "clips_missing")
    assert not ordered.success


def test_a_clip_that_is_not_what_its_note_says_does_not_count(order: Order, store: ObjectStore) -> None:
    (made,) = order("a kite").outcomes
    assert isinstance(made, ClipResult)
    store.put(made.object_key, b"something else")
    assert order("a kite", "lie").ended_as == (FailureKind.TRANSIENT, "clips_missing")


def test_a_request_no_worker_could_use_asks_for_no_pod(
    cluster: Cluster, settings: Settings, store: ObjectStore
) -> None:
    ordered = Ordered(cluster, settings, store, [ClipRequest("", 1, 32, 32, 24, 0)])
    assert ordered.ended_as == (FailureKind.PERMANENT, "bad_gpu_job")
    assert cluster.requests == []


RUN_ONE = """
import sys
from pathlib import Path
from kubernetes import client
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines_tests.synthesis.test_pods import Ordered, shots
class Elsewhere:
    configuration = client.Configuration()
    configuration.host = sys.argv[1]
    api = client.CoreV1Api(client.ApiClient(configuration))
settings = Settings(_env_file=None)
Ordered(Elsewhere(), settings, open_store(settings), shots("wait 30"))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_run_removes_its_pod_and_the_janitor_that_of_a_killed_one(
    cluster: Cluster, settings: Settings, number: signal.Signals
) -> None:
    host = cluster.api.api_client.configuration.host
    # Started from a shell in the background, SIGTERM would be ignored; Dagster takes SIGINT's handler for it.
    run = subprocess.Popen([sys.executable, "-c", RUN_ONE, host], env=os.environ, stderr=subprocess.DEVNULL)
    while not cluster.pods or cluster.only.process is None:
        time.sleep(0.05)
        assert run.poll() is None
    worker = cluster.only.process
    run.send_signal(number)
    run.wait(20)
    api = KubernetesApi(cluster.api, "default", QUICK)
    if number == signal.SIGKILL:
        (alive,) = find_pods(api, lambda run_id: False, utc_now())
        assert not alive.is_leaked
        assert remove_leaked(api, [alive]) == []
        (found,) = find_pods(api, lambda run_id: True, utc_now())
        assert found.is_leaked
        assert found.age < timedelta(minutes=1)
        remove_leaked(api, [found])
    assert cluster.pods == {}
    assert worker.poll() is not None
