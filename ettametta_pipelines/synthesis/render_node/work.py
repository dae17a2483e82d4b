"""One worker of a render node: claims a job, has the GPU process make its clips, and says what became of it."""

import json
import os
import socket
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.models import RenderJob
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import ClipJob, Exit, all_outcomes
from ettametta_pipelines.synthesis.pod_watch import failure_of_exit
from ettametta_pipelines.synthesis.render_node import jobs
from ettametta_pipelines.synthesis.serving import Order
from ettametta_pipelines.synthesis.worker_process import ServingWorker

LEASE_S = 30.0
BEAT_S = 5.0
TAIL_CHARS = 500


def this_holder() -> str:
    """What this process is called in the ledger."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_alive(holder: str) -> bool:
    """Whether a holder may still be at work: one of another machine may, one of this machine if it runs."""
    host, _, pid = holder.rpartition(":")
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class _Stopped(Exception):
    """The worker was told to stop, or its job was taken away."""


def node_home(settings: Settings) -> Path:
    return settings.home_dir / "render-node"


def node_store(settings: Settings) -> ObjectStore:
    """The node's clips: a directory of its own, whatever store the orderers use."""
    return ObjectStore.from_url((node_home(settings) / "store").as_uri())


@dataclass
class Bench:
    """Where one worker works: its GPU process stays with it from job to job."""

    settings: Settings
    db: StateDatabase
    store: ObjectStore
    gpu: ServingWorker
    holder: str = field(default_factory=this_holder)
    lease_s: float = LEASE_S
    beat_s: float = BEAT_S
    _stop: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def open(cls, settings: Settings) -> "Bench":
        lease = settings.render_node_lease_s
        store = node_store(settings)
        gpu = ServingWorker(settings.gpu_python or Path(sys.executable), {"ETTAMETTA_STORE": store.url})
        return cls(settings, open_state(settings), store, gpu, lease_s=lease, beat_s=lease / 6)

    def stop(self) -> None:
        """Let the current shot finish; the rest of the job goes back to the queue."""
        self._stop.set()

    def close(self) -> None:
        """End the GPU process."""
        self.gpu.stop()

    def work_off(self, job_id: str) -> None:
        """Make the clips of a job, if it is to be had. What goes wrong ends in the ledger."""
        claimed = None if self._stop.is_set() else jobs.claim(self.db, job_id, self.holder, self.lease_s)
        if claimed is None:
            return
        try:
            self._make(claimed)
        except _Stopped:
            jobs.give_back(self.db, claimed)
        except PipelineError as error:
            jobs.fail(self.db, claimed, error)
        else:
            jobs.finish(self.db, claimed)

    def _make(self, claimed: RenderJob) -> None:
        job = ClipJob.from_json(json.dumps(claimed.document))
        self.store.put(job.key, job.as_json())
        folder = node_home(self.settings) / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        log, progress = folder / f"{claimed.id}.log", folder / f"{claimed.id}.progress"
        log.write_bytes(b"")
        order = Order(f"store:{job.key}", str(log), str(progress))
        code = self.gpu.run(
            order, self.settings.gpu_run_s, lambda: self._beat(claimed, progress), self.beat_s
        )
        if code == Exit.STOPPED and self._stop.is_set():
            raise _Stopped
        if code != 0:
            raise failure_of_exit(
                "The GPU worker", code, log.read_text(errors="replace")[-TAIL_CHARS:].strip()
            )
        all_outcomes(self.store, job)

    def _beat(self, claimed: RenderJob, progress: Path) -> None:
        if not jobs.beat(self.db, claimed, self.lease_s, _read(progress)) or self._stop.is_set():
            raise _Stopped


def _read(progress: Path) -> dict[str, Any] | None:
    try:
        said = json.loads(progress.read_bytes())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) else None
