"""Watches over one GPU pod, from its creation to its removal, so that nothing about it can wait for ever.

Every stage (waiting for a node, loading the image, running) has a deadline of its own and says why it waits; a pod
that was seen and is gone is lost, not late; the API server's hiccups are sat out. How a pod ended becomes a failure
of the taxonomy. No Dagster here: `pod.py` binds this to Pipes, `pod_janitor.py` removes what a killed process left.
"""

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ettametta_pipelines.failures import (
    ERROR_BY_KIND,
    FailureKind,
    NeedsPersonError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.synthesis.job import Exit
from ettametta_pipelines.synthesis.pod_log import LogFollower

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api, V1Pod

T = TypeVar("T")
Stage = Literal["schedule", "pull", "run", "ended"]
Say = Callable[[str], None]

JOB_LABEL = "ettametta/job"
RUN_LABEL = "dagster/run-id"
COMPONENT = {"app.kubernetes.io/component": "gpu-worker"}
REQUEST_TIMEOUT = (5.0, 30.0)
SAY_AGAIN_S = 60.0
LAST_LINES = 5


@dataclass(frozen=True)
class Deadlines:
    """Seconds. `api_s` is how long the API server may be away, `gone_s` how long a pod may take to be removed."""

    schedule_s: float = 900
    pull_s: float = 900
    run_s: float = 3600
    api_s: float = 300
    gone_s: float = 180
    drain_s: float = 20
    poll_s: float = 2


class KubernetesApi:
    """The calls that are needed, each repeated while the API server is away or busy."""

    def __init__(self, api: "CoreV1Api", namespace: str, deadlines: Deadlines) -> None:
        self.raw, self.namespace, self._deadlines = api, namespace, deadlines

    def ask(self, doing: str, call: Callable[[], T]) -> T:
        """Call until it is answered. ApiException of what was refused (4xx but 429) passes through.

        Raises TransientError `kubernetes_unreachable` after `api_s`, NeedsPersonError `kubernetes_forbidden`.
        """
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        deadline, wait = time.monotonic() + self._deadlines.api_s, min(0.5, self._deadlines.poll_s)
        while True:
            try:
                return call()
            except ApiException as error:
                if error.status in (401, 403) and not over_quota(error):
                    raise _forbidden(doing, error) from error
                if error.status not in (0, 429) and error.status < 500:
                    raise
                cause = f"HTTP {error.status}"
            except HTTPError as error:
                cause = type(error).__name__
            if time.monotonic() + wait > deadline:
                raise TransientError(
                    f"The Kubernetes API did not {doing} for {self._deadlines.api_s:g} s ({cause}).",
                    code="kubernetes_unreachable",
                    remedy="It is tried again by itself; if it lasts, look at the cluster's control plane.",
                )
            time.sleep(wait * (0.5 + random.random() / 2))
            wait = min(wait * 2, 10.0)

    def read(self, name: str) -> "V1Pod | None":
        """The pod as it is; None when there is none."""
        return self._unless_missing(
            "read the pod",
            lambda: self.raw.read_namespaced_pod(name, self.namespace, _request_timeout=REQUEST_TIMEOUT),
        )

    def delete(self, name: str, uid: str | None = None, version: str | None = None) -> bool:
        """Remove a pod; False where it is gone, another one has its name, or it has changed since `version`."""
        wanted = {"uid": uid, "resourceVersion": version}
        body = {"preconditions": {key: value for key, value in wanted.items() if value}}
        removed = self._unless_missing(
            "delete the pod",
            lambda: self.raw.delete_namespaced_pod(
                name, self.namespace, body=body, _request_timeout=REQUEST_TIMEOUT
            ),
        )
        return removed is not None

    def _unless_missing(self, doing: str, call: Callable[[], T]) -> T | None:
        from kubernetes.client import ApiException

        try:
            return self.ask(doing, call)
        except ApiException as error:
            if error.status in (404, 409):
                return None
            raise

    def list(self, selector: str) -> "list[V1Pod]":
        found = self.ask(
            "list pods",
            lambda: self.raw.list_namespaced_pod(
                self.namespace, label_selector=selector, _request_timeout=REQUEST_TIMEOUT
            ),
        )
        return list(found.items)

    def patch(self, name: str, body: Mapping[str, Any]) -> None:
        self._unless_missing(
            "take the pod over",
            lambda: self.raw.patch_namespaced_pod(
                name, self.namespace, body, _request_timeout=REQUEST_TIMEOUT
            ),
        )


def over_quota(error: Any) -> bool:
    return error.status == 403 and "exceeded quota" in str(error.body)


def _forbidden(doing: str, error: Any) -> NeedsPersonError:
    return NeedsPersonError(
        f"Kubernetes does not let this process {doing} (HTTP {error.status}).",
        code="kubernetes_forbidden",
        remedy="Give its service account create, get, list, patch and delete on pods and get on pods/log.",
    )


# Read by kubectl as well: whose log is meant where a pod has several.
CONTAINER_ANNOTATION = "kubectl.kubernetes.io/default-container"
# What the pod was made from: image and template, not whose run it was.
SPEC_ANNOTATION = "ettametta/spec"


class GpuPod:
    """One pod, run to its end. `on_line` gets every line it logs, in another thread; `say` what an operator wants to
    know meanwhile."""

    def __init__(
        self,
        api: KubernetesApi,
        body: "V1Pod",
        deadlines: Deadlines,
        say: Say,
        on_line: Callable[[str], None],
    ) -> None:
        self._api, self._body, self._deadlines, self._say, self._on_line = api, body, deadlines, say, on_line
        self.name: str = body.metadata.name
        self._uid: str | None = None
        self._last_words, self._said_at = "", 0.0

    def run(self) -> None:
        """Create or take over the pod, wait for its end, remove it. Returns if its container ended with 0.

        Raises PipelineError naming what became of it. However it ends, the pod is removed.
        """
        container = container_name(self._body)
        follower = LogFollower(self._api.raw, self._api.namespace, self.name, container, self._on_line)
        try:
            self._uid = self._create_or_adopt()
            pod = self._wait(follower)
            follower.finish(self._deadlines.drain_s)
            failure = failure_of(pod, follower.tail(LAST_LINES))
            if failure is not None:
                raise failure
        finally:
            follower.close()
            self._remove()

    def _create_or_adopt(self) -> str:
        """The uid of the pod that does the job: a new one, or one that an earlier run left at work."""
        from kubernetes.client import ApiException

        deadline = time.monotonic() + self._deadlines.schedule_s
        while True:
            try:
                made = self._api.ask(
                    "create the pod",
                    lambda: self._api.raw.create_namespaced_pod(
                        self._api.namespace, self._body, _request_timeout=REQUEST_TIMEOUT
                    ),
                )
                return str(made.metadata.uid)
            except ApiException as error:
                if error.status == 409:
                    adopted = self._adopt()
                    if adopted is not None:
                        return adopted
                elif not over_quota(error):
                    raise _refused(error) from error
                else:
                    self._words("Waiting for the namespace's quota: " + _message_of(error))
                    if time.monotonic() > deadline:
                        raise TransientError(
                            f"The namespace's quota left no room for {self._deadlines.schedule_s:g} s: "
                            f"{_message_of(error)}",
                            code="gpu_quota_exceeded",
                            remedy="Wait for other GPU jobs, or raise the ResourceQuota.",
                        ) from error
            time.sleep(self._deadlines.poll_s)

    def _adopt(self) -> str | None:
        """The uid of the pod that has our name, if it is of use; else it is removed and None returned."""
        pod = self._api.read(self.name)
        if pod is None:
            return None
        meta = self._body.metadata
        is_ours = (pod.metadata.annotations or {}).get(SPEC_ANNOTATION) == meta.annotations[SPEC_ANNOTATION]
        if not is_ours:
            self._say(f"Pod {self.name} was made from another image or template and is replaced.")
        elif pod.metadata.deletion_timestamp is None and pod.status.phase != "Failed":
            ours = {"labels": {RUN_LABEL: (meta.labels or {}).get(RUN_LABEL)}}
            owners = [
                self._api.raw.api_client.sanitize_for_serialization(o) for o in meta.owner_references or []
            ]
            # Without this it would be removed together with the run that left it.
            self._api.patch(self.name, {"metadata": {**ours, "ownerReferences": owners}})
            self._say(f"Pod {self.name} is at work on this job already and is taken over.")
            return str(pod.metadata.uid)
        self._api.delete(self.name, pod.metadata.uid)
        self._wait_until_gone(pod.metadata.uid)
        return None

    def _wait_until_gone(self, uid: str) -> None:
        deadline = time.monotonic() + self._deadlines.gone_s
        while (pod := self._api.read(self.name)) is not None and pod.metadata.uid == uid:
            if time.monotonic() > deadline:
                raise TransientError(
                    f"An earlier pod {self.name} does not go away.",
                    code="gpu_pod_stuck",
                    remedy="Look at its node; delete the pod with --force if the node is lost.",
                )
            time.sleep(self._deadlines.poll_s)

    def _wait(self, follower: LogFollower) -> "V1Pod":
        """The pod once it has ended. Raises for a stage that takes too long, and for a pod that is gone."""
        stage, since, leaving = "schedule", time.monotonic(), 0.0
        while True:
            pod = self._api.read(self.name)
            if pod is None or pod.metadata.uid != self._uid:
                follower.finish(self._deadlines.drain_s)
                raise _lost(self.name, stage, "was deleted")
            now_in = stage_of(pod)
            if now_in == "ended":
                follower.start()
                return pod
            if now_in != stage:
                stage, since = now_in, time.monotonic()
            if stage == "run":
                follower.start()
            if pod.metadata.deletion_timestamp is not None:
                leaving = leaving or time.monotonic()
                if time.monotonic() - leaving > self._deadlines.gone_s:
                    raise _lost(self.name, stage, "is being deleted from a node that does not answer")
            self._words(words_of(pod, stage))
            if time.monotonic() - since > getattr(self._deadlines, f"{stage}_s"):
                raise _overdue(pod, stage, time.monotonic() - since)
            time.sleep(self._deadlines.poll_s)

    def _words(self, words: str) -> None:
        """Say why it waits when that changes, and once a minute."""
        if words and (words != self._last_words or time.monotonic() - self._said_at > SAY_AGAIN_S):
            self._say(words)
            self._last_words, self._said_at = words, time.monotonic()

    def _remove(self) -> None:
        if self._uid is None:
            return
        try:
            self._api.delete(self.name, self._uid)
        except PipelineError as error:
            self._say(f"Pod {self.name} could not be removed and is left to the janitor: {error.message}")


def stage_of(pod: "V1Pod") -> Stage:
    """How far a pod is. A terminated container counts as the end even where the phase lags behind."""
    state = _container_state(pod)
    if pod.status.phase in ("Succeeded", "Failed") or (state is not None and state.terminated is not None):
        return "ended"
    if state is not None and state.running is not None:
        return "run"
    if pod.spec.node_name or _condition(pod, "PodScheduled", "True") is not None:
        return "pull"
    return "schedule"


def words_of(pod: "V1Pod", stage: Stage) -> str:
    """Why a pod is not running yet, in the words of the scheduler or the kubelet; "" while it runs."""
    if stage == "schedule":
        condition = _condition(pod, "PodScheduled", "False")
        if condition is None:
            return "Waiting for the scheduler."
        return f"Waiting for a node ({condition.reason}): {condition.message}"
    state = _container_state(pod)
    if stage == "pull":
        waiting = state.waiting if state is not None else None
        if waiting is None:
            return f"Starting on {pod.spec.node_name}."
        said = f": {waiting.message}" if waiting.message else ""
        return f"Starting on {pod.spec.node_name} ({waiting.reason}){said}"
    return ""


def _container_state(pod: "V1Pod") -> Any:
    name = container_name(pod)
    return next((each.state for each in pod.status.container_statuses or [] if each.name == name), None)


def container_name(pod: "V1Pod") -> str:
    """The worker's container. A mesh may have put its own beside or before it."""
    named = (pod.metadata.annotations or {}).get(CONTAINER_ANNOTATION)
    return str(named or pod.spec.containers[0].name)


def _condition(pod: "V1Pod", kind: str, status: str) -> Any:
    return next((c for c in pod.status.conditions or [] if c.type == kind and c.status == status), None)


def _message_of(error: Any) -> str:
    import json

    try:
        return str(json.loads(error.body)["message"])
    except (ValueError, KeyError, TypeError):
        return str(error.reason)


def _refused(error: Any) -> NeedsPersonError:
    return NeedsPersonError(
        f"Kubernetes refused the GPU pod (HTTP {error.status}): {_message_of(error)}",
        code="gpu_pod_refused",
        remedy="Correct k8s/base/gpu-pod.yaml, or the namespace's admission rules.",
    )


def _lost(name: str, stage: str, what: str) -> TransientError:
    return TransientError(
        f"Pod {name} {what} while it was to {stage}; its node was reclaimed or somebody removed it.",
        code="gpu_pod_lost",
        remedy="It is tried again by itself; finished clips are kept.",
    )


# Reasons with which a kubelet gives up only for now, and those that no waiting mends.
_IMAGE_TROUBLE = {
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "ImageInspectError",
}
_CONFIG_TROUBLE = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError"}


def _overdue(pod: "V1Pod", stage: Stage, waited: float) -> PipelineError:
    words = words_of(pod, stage)
    if stage == "schedule":
        return TransientError(
            f"No node took the GPU pod for {waited:.0f} s. {words}",
            code="gpu_pod_unschedulable",
            remedy="Add GPU nodes, wait for other jobs, or correct its tolerations and node selector.",
        )
    if stage == "run":
        return TransientError(
            f"The GPU pod worked for {waited:.0f} s without coming to an end.",
            code="gpu_pod_overran",
            remedy="Order fewer shots a job, or raise ETTAMETTA_GPU_RUN_S; finished clips are kept.",
        )
    state = _container_state(pod)
    reason = state.waiting.reason if state is not None and state.waiting is not None else ""
    if reason in _IMAGE_TROUBLE:
        return NeedsPersonError(
            f"The GPU pod's image cannot be loaded ({waited:.0f} s). {words}",
            code="gpu_image_unavailable",
            remedy="Correct ETTAMETTA_GPU_IMAGE or the namespace's pull secret.",
        )
    if reason in _CONFIG_TROUBLE:
        return NeedsPersonError(
            f"The GPU pod's container cannot be made ({waited:.0f} s). {words}",
            code="gpu_pod_misconfigured",
            remedy="Correct the secrets and volumes that k8s/base/gpu-pod.yaml names.",
        )
    return TransientError(
        f"The GPU pod did not start within {waited:.0f} s. {words}",
        code="gpu_pod_start_timeout",
        remedy="Load the image onto the nodes beforehand, or raise ETTAMETTA_GPU_PULL_S.",
    )


# Of the pod, not of its work: another try elsewhere may do.
_DISRUPTIONS = {
    "Evicted", "Preempted", "Preempting", "Shutdown", "Terminated", "NodeLost", "NodeShutdown", "NodeAffinity",
    "UnexpectedAdmissionError", "OutOfcpu", "OutOfmemory", "OutOfpods", "OutOfnvidia.com/gpu",
}  # fmt: skip


@dataclass(frozen=True)
class _Ending:
    kind: FailureKind
    code: str
    what: str
    remedy: str


_ENDINGS: dict[int, _Ending] = {
    Exit.BUG: _Ending(
        FailureKind.PERMANENT, "gpu_worker_failed", "broke off with an error", "See its last lines and report them."
    ),
    Exit.BAD_JOB: _Ending(
        FailureKind.PERMANENT, "bad_gpu_job", "refused the job", "See its last lines and correct the request."
    ),
    Exit.NO_MODEL: _Ending(
        FailureKind.NEEDS_PERSON, "gpu_model_missing", "found no model",
        "Mount the checkpoint under ETTAMETTA_GPU_MODELS_DIR; see docs/gpu.md.",
    ),
    Exit.OUT_OF_MEMORY: _Ending(
        FailureKind.NEEDS_PERSON, "gpu_worker_out_of_memory", "had no memory to load the model",
        "Raise its memory limit or take a larger GPU.",
    ),
    Exit.TRY_AGAIN: _Ending(
        FailureKind.TRANSIENT, "gpu_worker_interrupted", "could not reach what it needs", "It is tried again by itself."
    ),
    Exit.STOPPED: _Ending(
        FailureKind.TRANSIENT, "gpu_worker_stopped", "was told to stop",
        "The next try makes the clips that are missing."
    ),
}  # fmt: skip
_KILLED = _Ending(
    FailureKind.TRANSIENT, "gpu_worker_killed", "was killed or crashed", "It is tried again by itself."
)  # fmt: skip
_OUT_OF_MEMORY = _Ending(
    FailureKind.NEEDS_PERSON, "gpu_worker_out_of_memory", "used more memory than it may",
    "Raise the memory limit (k8s/base/gpu-pod.yaml), or order smaller clips.",
)  # fmt: skip


def failure_of_exit(
    who: str, code: int, last_lines: str = "", *, out_of_memory: bool = False
) -> PipelineError:
    """The failure of a worker that ended with something else than 0; below 0 is a signal, as `subprocess` has it."""
    ending = _OUT_OF_MEMORY if out_of_memory else _ENDINGS.get(128 - code if code < 0 else code)
    if ending is None:
        ending = _KILLED if code < 0 or code > 128 else _ENDINGS[Exit.BUG]
    said = f" Last lines: {last_lines}" if last_lines else ""
    return ERROR_BY_KIND[ending.kind](
        f"{who} {ending.what} (exit code {code}).{said}", code=ending.code, remedy=ending.remedy
    )


def failure_of(pod: "V1Pod", last_lines: str = "") -> PipelineError | None:
    """What the end of a pod means; None where its container ended with 0."""
    state = _container_state(pod)
    ended = state.terminated if state is not None else None
    if ended is not None and ended.exit_code == 0:
        return None
    who = f"Pod {pod.metadata.name}"
    target = _condition(pod, "DisruptionTarget", "True")
    reason = target.reason if target is not None else pod.status.reason
    if target is not None or reason in _DISRUPTIONS:
        message = target.message if target is not None else pod.status.message
        return TransientError(
            f"{who} had to leave its node ({reason}): {message}",
            code="gpu_pod_disrupted",
            remedy="It is tried again by itself; finished clips are kept.",
        )
    if reason == "DeadlineExceeded":
        return TransientError(
            f"{who} ran into its own deadline.",
            code="gpu_pod_overran",
            remedy="Order fewer shots a job, or raise ETTAMETTA_GPU_RUN_S; finished clips are kept.",
        )
    if ended is None:
        return TransientError(
            f"{who} ended without its container having run ({reason or pod.status.phase}).",
            code="gpu_pod_lost",
            remedy="It is tried again by itself; look at the node if it lasts.",
        )
    return failure_of_exit(who, ended.exit_code, last_lines, out_of_memory=ended.reason == "OOMKilled")
