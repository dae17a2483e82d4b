"""Runs GPU jobs in Kubernetes pods through Dagster Pipes: the pod's words in the run's event log, its clips in the
store.

Built on dagster-k8s' pod builder and Dagster's Pipes session; the watching is `pod_watch.py`'s. Messages are for
people: what counts is looked up in the object store, so nothing here materializes an asset by itself. Used by the
assets through `runners.open_runner`.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dagster import PipesEnvContextInjector, PipesMessageReader

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import (
    ClipJob,
    Outcome,
    all_outcomes,
    finished_before,
    job_slug,
    make_job,
)
from ettametta_pipelines.synthesis.pipes import Context, open_session
from ettametta_pipelines.synthesis.pod_watch import (
    COMPONENT,
    CONTAINER_ANNOTATION,
    JOB_LABEL,
    RUN_LABEL,
    SPEC_ANNOTATION,
    Deadlines,
    GpuPod,
    KubernetesApi,
)
from ettametta_pipelines.synthesis.requests import ClipRequest
from ettametta_pipelines.tags import GPU_PRIORITY_TAG

if TYPE_CHECKING:
    from dagster._core.pipes.context import PipesMessageHandler
    from dagster_pipes import PipesParams
    from kubernetes.client import CoreV1Api, V1Pod

TEMPLATE = Path(__file__).parents[2] / "k8s" / "base" / "gpu-pod.yaml"
# The kubelet's own deadline, should nobody watch any more: somewhat behind ours.
BACKSTOP_S = 300


class PodMessages(PipesMessageReader):
    """Messages as lines of a pod's log, handed in by whoever follows it."""

    def __init__(self) -> None:
        self._handler: PipesMessageHandler | None = None

    @contextmanager
    def read_messages(self, handler: "PipesMessageHandler") -> "Iterator[PipesParams]":
        self._handler = handler
        try:
            yield {"stdio": "stderr"}
        finally:
            self._handler = None

    def line(self, text: str) -> None:
        """One line of the log: a message, or words for the run's standard output."""
        from dagster._core.pipes.utils import extract_message_or_forward_to_stdout

        if self._handler is not None:
            extract_message_or_forward_to_stdout(self._handler, text)

    def no_messages_debug_text(self) -> str:
        return "They are looked for in the pod's log."


class PodRunner:
    """`ClipRunner` by GPU pods: one pod a job, taken over if it is at work already."""

    def __init__(
        self,
        context: Context,
        settings: Settings,
        store: ObjectStore,
        *,
        api: "CoreV1Api | None" = None,
        deadlines: Deadlines | None = None,
    ) -> None:
        self._context, self._settings, self._store = context, settings, store
        self._deadlines = deadlines or Deadlines(
            settings.gpu_schedule_s, settings.gpu_pull_s, settings.gpu_run_s
        )
        self._api = KubernetesApi(api or core_api(), namespace_of(settings), self._deadlines)

    def run(
        self, job_id: str, engine: str, model: str, requests: Sequence[ClipRequest]
    ) -> "Sequence[Outcome]":
        """One outcome a request. Raises PipelineError as `pod_watch` names it, or `clips_missing`."""
        job = make_job(job_id, engine, model, requests)
        if (before := finished_before(self._store, job)) is not None:
            return before
        self._store.put(job.key, job.as_json())
        reader = PodMessages()
        with open_session(self._context, PipesEnvContextInjector(), reader) as session:
            body = self._body(job, session.get_bootstrap_env_vars())
            GpuPod(self._api, body, self._deadlines, self._context.log.info, reader.line).run()
        return all_outcomes(self._store, job)

    def _body(self, job: ClipJob, env: Mapping[str, str]) -> "V1Pod":
        from dagster_k8s.pipes import build_pod_body

        template = load_template(self._settings.gpu_pod_template or TEMPLATE)
        meta, spec = template.get("metadata", {}), template["spec"]
        labels = {
            **meta.get("labels", {}),
            **COMPONENT,
            JOB_LABEL: job_slug(job.job_id),
            RUN_LABEL: self._context.run_id,
        }
        owner = self._owner()
        spec["activeDeadlineSeconds"] = int(self._deadlines.pull_s + self._deadlines.run_s + BACKSTOP_S)
        spec["containers"][0]["args"] = ["--job", f"store:{job.key}"]
        priority = self._context.run.tags.get(GPU_PRIORITY_TAG)
        if priority:
            spec["priorityClassName"] = priority
        annotations = {
            **meta.get("annotations", {}),
            CONTAINER_ANNOTATION: spec["containers"][0]["name"],
            SPEC_ANNOTATION: _fingerprint(self._settings.gpu_image, spec),
        }
        meta = {**meta, "labels": labels, "annotations": annotations}
        return build_pod_body(
            pod_name=f"ettametta-gpu-{job_slug(job.job_id)}",
            image=self._settings.gpu_image or None,
            command=None,
            env_vars={
                **env,
                "ETTAMETTA_STORE": self._store.url,
                "ETTAMETTA_GPU_MEMORY": self._settings.gpu_memory,
            },
            base_pod_meta=meta | ({"ownerReferences": [owner]} if owner else {}),
            base_pod_spec=spec,
        )

    def _owner(self) -> dict[str, Any] | None:
        """The pod of this run, with which the GPU pod goes; owners are of the same namespace only."""
        settings = self._settings
        if not (settings.pod_name and settings.pod_uid) or settings.pod_namespace != self._api.namespace:
            return None
        return {"apiVersion": "v1", "kind": "Pod", "name": settings.pod_name, "uid": settings.pod_uid}


def _fingerprint(image: str, spec: Mapping[str, Any]) -> str:
    """Of what a pod is to be, whichever run asks for it."""
    return hashlib.sha256(json.dumps([image, spec], sort_keys=True, default=str).encode()).hexdigest()[:16]


def load_template(path: Path) -> dict[str, Any]:
    """The pod of a PodTemplate file. Raises NeedsPersonError `gpu_pod_template`."""
    import yaml

    try:
        template = yaml.safe_load(path.read_text())["template"]
        containers = template["spec"]["containers"]
        if not isinstance(containers, list) or len(containers) != 1:
            raise TypeError("it must have one container")
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise _bad_template(path, error) from error
    _check_spec(path, template["spec"])
    return dict(template)


def _check_spec(path: Path, spec: Mapping[str, Any]) -> None:
    from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict
    from kubernetes.client import V1PodSpec

    try:
        k8s_model_from_dict(V1PodSpec, k8s_snake_case_dict(V1PodSpec, spec))
    except (
        Exception
    ) as error:  # what dagster-k8s raises for a key that does not exist has no class of its own
        raise _bad_template(path, error) from error


def _bad_template(path: Path, error: Exception) -> NeedsPersonError:
    return NeedsPersonError(
        f"The pod template {path} cannot be used: {error}.",
        code="gpu_pod_template",
        remedy="Set ETTAMETTA_GPU_POD_TEMPLATE to a file like k8s/base/gpu-pod.yaml.",
    )


def namespace_of(settings: Settings) -> str:
    return settings.gpu_namespace or settings.pod_namespace or "default"


def core_api() -> "CoreV1Api":
    """The cluster this process runs in, else the one of the kubeconfig. Raises NeedsPersonError `no_cluster`."""
    from kubernetes import client, config

    configuration = client.Configuration()
    try:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            config.load_kube_config(client_configuration=configuration)
    except config.ConfigException as error:
        raise NeedsPersonError(
            f"There is no Kubernetes cluster to be found: {error}.",
            code="no_cluster",
            remedy="Run inside the cluster, or set KUBECONFIG.",
        ) from error
    return client.CoreV1Api(client.ApiClient(configuration))
