"""Finds GPU pods that nobody watches any more, since their run is over, and removes them.

A killed run leaves its pod running and paid for; the owner reference removes it only where the run had a pod of its
own. Pods of runs that are not known here may be another installation's and are left alone; their own deadline ends
them. Called by the janitor's sensor and by `ettametta gpu-pods`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from ettametta_pipelines.synthesis.pod_watch import COMPONENT, JOB_LABEL, RUN_LABEL, KubernetesApi, stage_of

if TYPE_CHECKING:
    from kubernetes.client import V1Pod


@dataclass(frozen=True)
class FoundPod:
    """A GPU pod and whether it has outlived its run."""

    name: str
    uid: str
    version: str
    run_id: str
    stage: str
    age: timedelta
    is_leaked: bool

    def as_dict(self) -> dict[str, object]:
        return asdict(self) | {"age": self.age.total_seconds()}


def find_pods(api: KubernetesApi, is_over: Callable[[str], bool], now: datetime) -> list[FoundPod]:
    """All GPU pods of the namespace; `is_over` says of a run id whether that run ended."""
    selector = ",".join([*(f"{name}={value}" for name, value in COMPONENT.items()), JOB_LABEL])
    return [_found(pod, is_over, now) for pod in api.list(selector)]


def _found(pod: "V1Pod", is_over: Callable[[str], bool], now: datetime) -> FoundPod:
    run_id = (pod.metadata.labels or {}).get(RUN_LABEL, "")
    age = now - pod.metadata.creation_timestamp
    return FoundPod(
        pod.metadata.name,
        pod.metadata.uid,
        pod.metadata.resource_version,
        run_id,
        "leaving" if pod.metadata.deletion_timestamp else stage_of(pod),
        age,
        bool(run_id) and is_over(run_id),
    )


def remove_leaked(api: KubernetesApi, found: list[FoundPod]) -> list[FoundPod]:
    """Delete the leaked ones that are not on their way out; those that were deleted.

    One that changed since it was looked at is left for the next round: a run may have taken it over.
    """
    leaked = [pod for pod in found if pod.is_leaked and pod.stage != "leaving"]
    return [pod for pod in leaked if api.delete(pod.name, pod.uid, pod.version)]
