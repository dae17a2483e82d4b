"""One Dagster run that orders two clips, by a pod or by a subprocess: `python -m … gpu_run pod HOST` or `local`.

The process that the sweep of `gpu.py` starts and kills. Ends with 0 when both clips were made.
"""

import sys
from typing import Any

import dagster as dg
from kubernetes import client

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import open_store
from ettametta_pipelines.synthesis.job import ClipJob, make_job
from ettametta_pipelines.synthesis.local import LocalSubprocessRunner
from ettametta_pipelines.synthesis.pod import PodRunner
from ettametta_pipelines.synthesis.pod_watch import Deadlines
from ettametta_pipelines.synthesis.requests import ClipRequest

QUICK = Deadlines(schedule_s=20, pull_s=20, run_s=60, api_s=20, gone_s=20, drain_s=10, poll_s=0.05)
ENGINE, MODEL = "ltx", "ltx-2-distilled"


def the_job() -> ClipJob:
    shots = [ClipRequest(prompt, 0.4, 32, 32, 24, seed) for seed, prompt in enumerate(("a kite", "a boat"))]
    return make_job("order", ENGINE, MODEL, shots)


def main(way: str, host: str = "") -> int:
    settings = Settings(_env_file=None)
    store, job = open_store(settings), the_job()

    @dg.asset
    def clips(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
        runner: Any
        if way == "pod":
            configuration = client.Configuration()
            configuration.host, configuration.retries = host, False
            api = client.CoreV1Api(client.ApiClient(configuration))
            runner = PodRunner(context, settings, store, api=api, deadlines=QUICK)
        else:
            assert settings.gpu_python is not None
            runner = LocalSubprocessRunner(settings, store, settings.gpu_python, context)
        runner.run(job.job_id, ENGINE, MODEL, job.requests)
        return dg.MaterializeResult()

    with dg.DagsterInstance.ephemeral() as instance:
        try:
            return 0 if dg.materialize([clips], instance=instance).success else 1
        except PipelineError:
            return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
