"""Dagster's code server, daemon and UI, started side by side by `ettametta dev`; each waits for what it needs.

    python -m ettametta_pipelines.automation.served {code,daemon,ui} FOLDER ARGUMENTS...

Most of a start is importing Dagster, which all three do at once. The daemon makes the instance's databases and sets the
limits of the pools; the others wait for that, since two processes that make one database stumble over each other. The
UI and the daemon then wait for the code server's socket in FOLDER.

The code server keeps the definitions in a process of its own and does not notice when that is gone: then there is not
one job in the UI, and no sensor ticks, the one of the alerts included. It is looked after here.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import dagster as dg

from ettametta_pipelines.commands.devserver import SOCKET

log = logging.getLogger(__name__)

STORAGE = "storage-is-there"
# Then they start all the same, and show what is wrong.
WAIT_S = 120.0
# Dagster looks at backfills every 30 seconds and has no setting for it: half a minute before the first run, and as long
# again before its end is seen. A look takes milliseconds.
BACKFILLS_EVERY_S = 5
LOOK_EVERY_S = 5.0
# A busy machine answers late; only what was not there so many times in a row is started anew.
GONE_AFTER_LOOKS = 2
# Two renders at once: while one judges what it made, the other keeps the processors busy. Pictures are not in their
# pool: a step that finds its pool full asks again after up to 15 seconds.
POOL_LIMITS = {
    "renders": 2, "publish_youtube": 1, "publish_tiktok": 1, "gpu": 1, "cinematic": 1, "veo": 2,
    "siliconflow": 2,
}  # fmt: skip


def look_at_backfills_often() -> None:
    """In this process, before the daemon starts. Its loop reads the constant when it begins."""
    from dagster._daemon import controller

    controller.DEFAULT_DAEMON_INTERVAL_SECONDS = BACKFILLS_EVERY_S


def set_pool_limits(instance: dg.DagsterInstance) -> None:
    """Named pool limits live in the instance database, not in dagster.yaml; setting them again is harmless."""
    for pool, limit in POOL_LIMITS.items():
        instance.event_log_storage.set_concurrency_slots(pool, limit)


def code(folder: Path) -> Callable[[], object]:
    from dagster._cli import main as run_dagster

    wait_for(folder / STORAGE)
    threading.Thread(target=look_after, args=(folder / SOCKET,), daemon=True).start()
    return run_dagster


def look_after(socket: Path) -> None:
    """Have the definitions loaded again when the process that held them is gone, such as killed for its memory.

    Code that does not load is left alone: that is an answer, and the UI shows it.
    """
    from dagster._core.errors import DagsterUserCodeUnreachableError
    from dagster._grpc.client import DagsterGrpcClient

    wait_for(socket)
    client, missed = DagsterGrpcClient(socket=str(socket)), 0
    while True:
        time.sleep(LOOK_EVERY_S)
        try:
            client.list_repositories()
            missed = 0
        except DagsterUserCodeUnreachableError:
            missed += 1
        if missed >= GONE_AFTER_LOOKS:
            log.warning("The process with the definitions is gone; it is started again.")
            missed = 0
            with suppress(DagsterUserCodeUnreachableError):
                client.reload_code(timeout=int(WAIT_S))


def daemon(folder: Path) -> Callable[[], object]:
    from dagster._daemon.cli import main as run_daemon

    with dg.DagsterInstance.get() as instance:
        set_pool_limits(instance)
    (folder / STORAGE).touch()
    look_at_backfills_often()
    wait_for(folder / SOCKET)
    return run_daemon


def ui(folder: Path) -> Callable[[], object]:
    from dagster_webserver.cli import main as run_webserver

    wait_for(folder / STORAGE)
    wait_for(folder / SOCKET)
    return run_webserver


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + WAIT_S
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.05)


def main() -> None:
    which, folder = sys.argv[1:3]
    run = {"code": code, "daemon": daemon, "ui": ui}[which](Path(folder))
    sys.argv[1:3] = []
    run()


if __name__ == "__main__":
    main()
