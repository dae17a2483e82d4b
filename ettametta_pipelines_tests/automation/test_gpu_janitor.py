"""Which runs are over for the janitor of GPU pods, and what it says where there are none."""

from datetime import timedelta
from pathlib import Path

import dagster as dg

from ettametta_pipelines.automation.gpu_janitor import GRACE_S, finished_runs, sweep
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.settings import Settings


@dg.asset
def clip() -> None:
    pass


def test_a_runs_pod_is_left_for_its_retry_and_a_run_nobody_knows_may_be_anothers(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        done = dg.materialize([clip], instance=instance).run_id
        waiting = instance.create_run_for_job(defs_job(), status=dg.DagsterRunStatus.STARTED).run_id
        soon, later = utc_now() + timedelta(seconds=GRACE_S - 30), utc_now() + timedelta(seconds=GRACE_S + 30)
        assert not finished_runs(instance, soon)(done)
        assert finished_runs(instance, later)(done)
        assert not finished_runs(instance, later)(waiting)
        assert not finished_runs(instance, later)("0" * 32)


def defs_job() -> dg.JobDefinition:
    return dg.Definitions([clip], jobs=[dg.define_asset_job("one", [clip])]).resolve_job_def("one")


def test_where_no_pods_are_used_nothing_is_looked_at(settings_env: Settings) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        assert sweep(settings_env, instance) == "No GPU pods are used here (ETTAMETTA_GPU_IMAGE is not set)."
