"""Runs GPU jobs as a subprocess of this machine, through Dagster Pipes where a run asks for them.

The same worker as in a pod, in the interpreter of ETTAMETTA_GPU_PYTHON: torch lives in an environment of its own.
Used by the assets through `runners.open_runner`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dagster import PipesTempFileContextInjector, PipesTempFileMessageReader

from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import Outcome, all_outcomes, finished_before, make_job
from ettametta_pipelines.synthesis.pipes import Context, open_session
from ettametta_pipelines.synthesis.pod_watch import failure_of_exit
from ettametta_pipelines.synthesis.requests import ClipRequest
from ettametta_pipelines.synthesis.worker_process import WorkerProcess

TICK_S = 1.0


class LocalSubprocessRunner:
    """`ClipRunner` on this machine's GPU, or slowly on its CPU. Without a `context` the worker only prints."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        python: Path,
        context: Context | None = None,
    ) -> None:
        self._settings, self._store, self._python, self._context = settings, store, python, context

    def run(self, job_id: str, engine: str, model: str, requests: Sequence[ClipRequest]) -> Sequence[Outcome]:
        """One outcome a request. Raises PipelineError by the worker's exit code, `gpu_worker_overran`."""
        job = make_job(job_id, engine, model, requests)
        if (before := finished_before(self._store, job)) is not None:
            return before
        self._store.put(job.key, job.as_json())
        with self._pipes() as pipes:
            env = {
                "ETTAMETTA_HOME": str(self._settings.home_dir),
                "ETTAMETTA_STORE": self._store.url,
                "ETTAMETTA_GPU_MEMORY": self._settings.gpu_memory,
                **pipes,
            }
            with WorkerProcess(self._python, f"store:{job.key}", env) as worker:
                code = worker.wait(self._settings.gpu_run_s, lambda: None, TICK_S)
        if code != 0:
            raise failure_of_exit("The GPU worker", code)
        return all_outcomes(self._store, job)

    @contextmanager
    def _pipes(self) -> Iterator[Mapping[str, str]]:
        if self._context is None:
            yield {}
            return
        injector, reader = PipesTempFileContextInjector(), PipesTempFileMessageReader()
        with open_session(self._context, injector, reader) as session:
            yield session.get_bootstrap_env_vars()
