"""The manifests as the cluster would get them, and the pods in them, those that Python builds included."""

import json
import os
import pickle
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
OVERLAYS = ("dev", "staging", "production")
Document = dict[str, Any]


@dataclass(frozen=True)
class Pod:
    """A pod as something in the manifests makes it."""

    owner: str
    name: str
    labels: dict[str, str]
    spec: Document

    @property
    def containers(self) -> list[Document]:
        return [*self.spec["containers"], *self.spec.get("initContainers", [])]


def render(overlay: str) -> list[Document]:
    """Documents of an overlay, new ones with every call."""
    return list(pickle.loads(_documents(overlay)))


@lru_cache
def _documents(overlay: str) -> bytes:
    return pickle.dumps(list(yaml.load_all(_text(overlay), Loader=yaml.CSafeLoader)))


def _text(overlay: str) -> str:
    if shutil.which("kubectl") is None:
        why = "kubectl, which renders the manifests, is not on PATH"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    done = subprocess.run(
        ["kubectl", "kustomize", str(ROOT / "k8s" / "overlays" / overlay)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def of_kind(documents: list[Document], *kinds: str) -> list[Document]:
    return [document for document in documents if document["kind"] in kinds]


def named(documents: list[Document], kind: str, name: str) -> Document:
    (found,) = [document for document in of_kind(documents, kind) if document["metadata"]["name"] == name]
    return found


def pods(documents: list[Document]) -> Iterator[Pod]:
    for document in documents:
        kind, name = document["kind"], document["metadata"]["name"]
        if kind in ("Deployment", "StatefulSet", "Job"):
            template = document["spec"]["template"]
        elif kind == "CronJob":
            template = document["spec"]["jobTemplate"]["spec"]["template"]
        elif kind == "PodTemplate":
            template = document["template"]
        else:
            continue
        yield Pod(kind, name, template["metadata"].get("labels", {}), template["spec"])


def with_runs(overlay: str) -> list[Document]:
    """An overlay with the Job beside it that its run launcher makes for a render."""
    return [*render(overlay), run_job(overlay, "renditions")]


def run_job(overlay: str, *steps: str) -> Document:
    """The Job that the overlay's run launcher makes for a run of these steps; its tags are an annotation."""
    return dict(pickle.loads(_run_job(overlay, steps)))


@lru_cache
def _run_job(overlay: str, steps: tuple[str, ...]) -> bytes:
    import dagster as dg
    from dagster._core.launcher import LaunchRunContext
    from kubernetes.client import ApiClient

    from ettametta_pipelines.orchestration import kubernetes_runs

    made: list[Any] = []

    class Cluster:
        def create_namespaced_job_with_retries(self, body: Any, namespace: str) -> None:
            made.append(body)

    documents = render(overlay)
    code = named(documents, "Deployment", "ettametta-code")["spec"]["template"]["spec"]["containers"][0]
    (image,) = [row["value"] for row in code["env"] if row["name"] == "DAGSTER_CURRENT_IMAGE"]
    with pytest.MonkeyPatch.context() as patch, dg.instance_for_test() as instance:
        patch.setenv("POD_NAMESPACE", "ettametta")
        patch.setattr(kubernetes_runs, "steps_of", lambda instance, run: list(steps))
        patch.setattr("dagster_k8s.launcher.load_kubernetes_config", lambda *_, **__: None)
        launcher = launcher_of(instance, dagster_yaml(documents)["run_launcher"]["config"])
        launcher._api_client = Cluster()
        run = _run(instance, image)
        launcher.launch_run(LaunchRunContext(dagster_run=run, workspace=None))
        tags = instance.get_run_by_id(run.run_id).tags  # type: ignore[union-attr]
    job = ApiClient().sanitize_for_serialization(made[0])
    job["metadata"].setdefault("annotations", {})["tags"] = json.dumps(dict(tags))
    return pickle.dumps(job)


def launcher_of(instance: Any, config: Document) -> Any:
    """The launcher as Dagster makes it from this part of dagster.yaml, its configuration checked."""
    from dagster._serdes import ConfigurableClassData

    from ettametta_pipelines.orchestration.kubernetes_runs import SizedRunLauncher

    data = ConfigurableClassData(
        "ettametta_pipelines.orchestration.kubernetes_runs", "SizedRunLauncher", yaml.safe_dump(config)
    )
    launcher = data.rehydrate(as_type=SizedRunLauncher)
    launcher.register_instance(instance)
    return launcher


def dagster_yaml(documents: list[Document]) -> Document:
    text = named(documents, "ConfigMap", "ettametta-dagster")["data"]["dagster.yaml"]
    return dict(yaml.safe_load(text))


def _run(instance: Any, image: str) -> Any:
    from dagster import DagsterRun
    from dagster._core.code_pointer import ModuleCodePointer
    from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

    repository = RepositoryPythonOrigin(
        executable_path="python",
        code_pointer=ModuleCodePointer("ettametta_pipelines.definitions", "defs"),
        container_image=image,
    )
    run = DagsterRun(job_name="ingest_upload", job_code_origin=JobPythonOrigin("ingest_upload", repository))
    return instance.run_storage.add_run(run)
