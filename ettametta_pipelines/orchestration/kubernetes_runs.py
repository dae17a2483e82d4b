"""Runs in a cluster: dagster-k8s' launcher, giving each run what its steps need, and the move to a new version.

Named by k8s/base/dagster.yaml and so imported by the daemon and the UI; the code location does without. The job of
k8s/base/migrate.yaml calls `migrate_everything` through `ettametta migrate`.
"""

import json
from collections.abc import Iterator

import dagster as dg
from dagster._core.launcher import LaunchRunContext
from dagster_k8s.job import USER_DEFINED_K8S_CONFIG_KEY
from dagster_k8s.launcher import K8sRunLauncher

from ettametta_pipelines.orchestration.run_sizes import SIZES, STEP_SIZES, size_of
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.tags import RUN_SIZE_TAG


class SizedRunLauncher(K8sRunLauncher):
    """K8sRunLauncher with resources by `orchestration/run_sizes.py`.

    dagster-k8s reads resources from tags of the run, which a job sets and a launch or backfill from the asset graph
    does not. Here they follow from the run's own plan, whoever launched it, and are written to its tags: seen in the
    UI, and the same when the run is tried again. A run that names its resources keeps them; the tag ettametta/size
    chooses a size by name.
    """

    def launch_run(self, context: LaunchRunContext) -> None:
        run = context.dagster_run
        if USER_DEFINED_K8S_CONFIG_KEY not in run.tags:
            tags = sizing_tags(run.tags.get(RUN_SIZE_TAG) or size_of(steps_of(self._instance, run)))
            self._instance.add_run_tags(run.run_id, tags)
            context = context._replace(dagster_run=run.with_tags({**run.tags, **tags}))
        super().launch_run(context)


def sizing_tags(size: str) -> dict[str, str]:
    """Tags that make dagster-k8s start a pod of this size; one that is not known is the largest."""
    size = size if size in SIZES else list(SIZES)[-1]
    config = {"container_config": {"resources": SIZES[size].resources()}}
    return {RUN_SIZE_TAG: size, USER_DEFINED_K8S_CONFIG_KEY: json.dumps(config, sort_keys=True)}


def steps_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """What the run executes, a graph's steps as the graph. A run without a stored plan may do anything."""
    if run.execution_plan_snapshot_id is None:
        return list(STEP_SIZES)
    plan = instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
    return [key.partition(".")[0] for key in plan.step_keys_to_execute]


def migrate_everything(settings: Settings) -> Iterator[str]:
    """Bring every schema to this version's, one after the other; says what was done. Safe to repeat."""
    from ettametta_pipelines.automation.served import POOL_LIMITS
    from ettametta_pipelines.state.session import open_state

    state = open_state(settings)
    yield f"The state is at revision {state.revision()}."
    with dg.DagsterInstance.get() as instance:
        instance.upgrade()
        instance.reindex()
        yield f"Dagster's storage is that of {dg.__version__}."
        widths = POOL_LIMITS | settings.pool_limits
        for pool, limit in widths.items():
            instance.event_log_storage.set_concurrency_slots(pool, limit)
        yield "Pools: " + ", ".join(f"{pool} {limit}" for pool, limit in widths.items()) + "."
