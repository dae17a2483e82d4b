"""Runs a render node in the foreground: the HTTP side, a worker process per GPU, and the housekeeping between them.

Used by `ettametta render-node`. Whatever of it is killed comes back by itself or is taken back by its lease; nothing
is held in memory that a restart would miss.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from typing import Any

import httpx
from kombu.exceptions import OperationalError

from ettametta_pipelines.failures import NeedsPersonError, PipelineError
from ettametta_pipelines.ports import listen_on
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.synthesis.render_node import jobs, notices
from ettametta_pipelines.synthesis.render_node.app import create_node
from ettametta_pipelines.synthesis.render_node.queue import celery_app, queue_length, send_job
from ettametta_pipelines.synthesis.render_node.retention import Limits, remove_old
from ettametta_pipelines.synthesis.render_node.work import is_alive, node_store
from ettametta_pipelines.tracing import start_tracing
from ettametta_pipelines.vendors.http import is_loopback

log = logging.getLogger(__name__)

WORKER_MODULE = "ettametta_pipelines.synthesis.render_node.queue"
STOP_S = 100.0
# Between two looks for clips that may be removed.
SWEEP_S = 60.0


class Housekeeping:
    """Everything that has to be done again and again. `tick` may be called at any time, by one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._db = open_state(settings)
        self._celery = celery_app(settings.render_node_redis)
        self._workers: list[subprocess.Popen[bytes] | None] = [None] * settings.render_node_gpus
        self._redis_up = False
        self._store, self._limits, self._swept = node_store(settings), Limits.of(settings), 0.0
        url = settings.render_node_webhook_url
        self._client = httpx.Client(timeout=10, trust_env=not is_loopback(url)) if url else None

    def announce(self, job_id: str) -> bool:
        """Tell the queue of a job; False when Redis is away, and the job is told of later."""
        try:
            send_job(self._celery, job_id)
        except (OperationalError, OSError) as error:
            self._redis_up = False
            log.warning("the queue does not answer (%s); job %s waits", type(error).__name__, job_id)
            return False
        self._redis_up = True
        jobs.mark_sent(self._db, job_id)
        return True

    def health(self) -> dict[str, Any]:
        alive = sum(worker is not None and worker.poll() is None for worker in self._workers)
        return {"redis": self._redis_up, "workers": alive}

    def tick(self) -> None:
        self._keep_workers()
        jobs.take_back_lost(self._db, gone=[one for one in jobs.holders(self._db) if not is_alive(one)])
        self._feed_queue()
        if self._client is not None and self._settings.render_node_secret is not None:
            secret = self._settings.render_node_secret.get_secret_value()
            notices.send_due(self._db, self._client, self._settings.render_node_webhook_url, secret)
        if time.monotonic() - self._swept > SWEEP_S:
            self._swept = time.monotonic()
            if gone := remove_old(self._db, self._store, self._limits):
                log.warning("%s clips that were handed out were removed", gone)

    def _feed_queue(self) -> None:
        try:
            length = queue_length(self._celery)
            self._redis_up = True
        except (OperationalError, OSError):
            self._redis_up = False
            return
        waiting = jobs.waiting(self._db)
        # Fewer messages than waiting jobs: some were lost with Redis. Those that come twice find their job taken.
        for job_id in waiting if length < len(waiting) else jobs.not_sent(self._db):
            if not self.announce(job_id):
                return

    def _keep_workers(self) -> None:
        for number, worker in enumerate(self._workers):
            if worker is None or worker.poll() is not None:
                if worker is not None:
                    log.warning("worker %s ended with %s and is started again", number, worker.returncode)
                command = [sys.executable, "-m", WORKER_MODULE]
                env = {
                    **os.environ,
                    "CUDA_VISIBLE_DEVICES": str(number),
                    "ETTAMETTA_HOME": str(self._settings.home_dir),
                }
                self._workers[number] = subprocess.Popen(command, stdin=subprocess.PIPE, env=env)

    def stop(self) -> None:
        """Let every worker finish its shot; their jobs wait for the next start."""
        alive = [worker for worker in self._workers if worker is not None and worker.poll() is None]
        for worker in alive:
            worker.terminate()
        for worker in alive:
            try:
                worker.wait(STOP_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def serve_render_node(settings: Settings, host: str, port: int) -> None:
    """Serve until interrupted. Raises NeedsPersonError `render_node_secret_missing`, `port_in_use`."""
    import uvicorn

    if settings.render_node_secret is None:
        raise NeedsPersonError(
            "A render node takes orders only from those who know its secret, and none is set.",
            code="render_node_secret_missing",
            remedy="Set RENDER_NODE_SECRET to the same long random text on the node and on those who order from it.",
        )
    start_tracing("ettametta-render-node")
    with closing(
        listen_on(host, port, service="render node", variable="ETTAMETTA_RENDER_NODE_PORT")
    ) as listener:
        keeping = Housekeeping(settings)
        stopped = threading.Event()
        thread = threading.Thread(
            target=_keep_house, args=(keeping, stopped, settings.render_node_lease_s / 6)
        )
        thread.start()
        node = create_node(
            open_state(settings),
            node_store(settings),
            settings.render_node_secret.get_secret_value(),
            keeping.announce,
            keeping.health,
        )
        config = uvicorn.Config(node, log_level="warning", access_log=False, proxy_headers=False)
        # Uvicorn raises the signal again once it has shut down, which would end us before our workers.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[listener])
        finally:
            stopped.set()
            thread.join()
            keeping.stop()


def _keep_house(keeping: Housekeeping, stopped: threading.Event, every_s: float) -> None:
    while not stopped.is_set():
        try:
            keeping.tick()
        except PipelineError as error:
            log.warning("%s", error)
        except Exception:
            # Without it no job is fed, taken back or told of any more, and nobody would notice.
            log.exception("the housekeeping failed and is tried again")
        stopped.wait(every_s)
