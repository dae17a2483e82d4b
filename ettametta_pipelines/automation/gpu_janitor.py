"""The janitor's sensor: GPU pods whose run is over are removed, every minute."""

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

import dagster as dg

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.settings import Settings, get_settings

if TYPE_CHECKING:
    from ettametta_pipelines.synthesis.pod_janitor import FoundPod

# A run that was killed is tried again within this time and takes its pod over.
GRACE_S = 300.0


def finished_runs(instance: dg.DagsterInstance, now: datetime) -> Callable[[str], bool]:
    """Whether a run ended so long ago that no retry takes up its pod."""

    def is_over(run_id: str) -> bool:
        record = instance.get_run_record_by_id(run_id)
        if record is None or not record.dagster_run.is_finished:
            return False
        return record.end_time is None or now.timestamp() - record.end_time > GRACE_S

    return is_over


@dg.sensor(
    name="gpu_pod_janitor",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Deletes GPU pods whose run ended more than five minutes ago: a killed run leaves its pod behind, which goes "
        "on costing money. Does nothing where ETTAMETTA_GPU_IMAGE is not set."
    ),
)
def gpu_pod_janitor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    return dg.SkipReason(sweep(get_settings(), context.instance))


def sweep(settings: Settings, instance: dg.DagsterInstance) -> str:
    """Remove leaked pods; says in a sentence what was done."""
    if not settings.gpu_image:
        return "No GPU pods are used here (ETTAMETTA_GPU_IMAGE is not set)."
    found = look_after_pods(settings, instance, remove=True)
    removed = [pod for pod in found if pod.is_leaked]
    return f"{len(found)} GPU pods looked at, {len(removed)} removed." + "".join(
        f" {pod.name} (run {pod.run_id})." for pod in removed
    )


def pods_of_cluster(settings: Settings, *, remove: bool) -> "list[FoundPod]":
    """The GPU pods, judged by the runs of this home's Dagster instance; the leaked ones removed if asked."""
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        return look_after_pods(settings, instance, remove=remove)


def look_after_pods(settings: Settings, instance: dg.DagsterInstance, *, remove: bool) -> "list[FoundPod]":
    from ettametta_pipelines.synthesis.pod import core_api, namespace_of
    from ettametta_pipelines.synthesis.pod_janitor import find_pods, remove_leaked
    from ettametta_pipelines.synthesis.pod_watch import Deadlines, KubernetesApi

    now = utc_now()
    api = KubernetesApi(core_api(), namespace_of(settings), Deadlines(api_s=20))
    found = find_pods(api, finished_runs(instance, now), now)
    if remove:
        remove_leaked(api, found)
    return found
