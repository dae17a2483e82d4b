"""The Celery side: ids of jobs through Redis to one worker per GPU.

Late acknowledgement and one message at a time; a message that is lost is sent again from the ledger, one that comes
twice finds its job taken. Run as a module, this is the worker's process: `python -m
ettametta_pipelines.synthesis.render_node.queue`.
"""

import os
import threading
from typing import Any

from celery import Celery, signals
from kombu.exceptions import OperationalError
from redis import RedisError

from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.synthesis.render_node.work import Bench

QUEUE = "ettametta-clips"
TASK = "make_clips"
# Longer than any job: what a lost worker left is found by its lease, not by this.
VISIBILITY_S = 24 * 3600
# A Redis that takes connections and answers nothing counts as away after this.
SILENCE_S = 10


def celery_app(redis_url: str) -> Celery:
    """Celery on this Redis. No result backend: what became of a job is in the ledger."""
    app = Celery("ettametta-render-node", broker=redis_url, set_as_current=False)
    app.conf.update(
        task_default_queue=QUEUE,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        worker_concurrency=1,
        # The task is a process of its own already; a pool would only be one more that can be orphaned.
        worker_pool="solo",
        worker_hijack_root_logger=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=2,
        broker_transport_options={
            "visibility_timeout": VISIBILITY_S,
            "socket_connect_timeout": 2,
            "socket_timeout": SILENCE_S,
        },
    )
    return app


def send_job(app: Celery, job_id: str) -> None:
    """Hand an id to the queue. Raises kombu's OperationalError when Redis is away."""
    app.send_task(TASK, [job_id], queue=QUEUE, retry=False)


def queue_length(app: Celery) -> int:
    """Messages that no worker has. Raises kombu's OperationalError when Redis is away."""
    with app.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=2)
        try:
            return int(connection.default_channel.client.llen(QUEUE))
        except RedisError as error:
            # Gone since, or still loading: its own client's words, which kombu does not translate.
            raise OperationalError(str(error)) from error


def run_worker(settings: Settings) -> None:
    """Work jobs off until told to stop; ends with the process that started it, whose end of standard input closes."""
    app = celery_app(settings.render_node_redis)
    bench = Bench.open(settings)

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def make_clips(job_id: str) -> None:
        bench.work_off(job_id)

    def stopping(**_: Any) -> None:
        bench.stop()

    signals.worker_shutting_down.connect(stopping, weak=False)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        app.worker_main(["worker", "--loglevel", "WARNING", "--without-mingle", "--without-gossip"])
    finally:
        bench.close()


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    # Its GPU process ends in the same way; the job's lease runs out and somebody else makes what is missing.
    os._exit(1)


if __name__ == "__main__":
    run_worker(get_settings())
