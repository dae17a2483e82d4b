"""What keeps a render node going: nothing ends its housekeeping, nothing makes it wait for long."""

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.synthesis.job import make_job
from ettametta_pipelines.synthesis.render_node import jobs, queue, server
from ettametta_pipelines.synthesis.render_node.work import is_alive, this_holder
from ettametta_pipelines.synthesis.requests import ClipRequest
from ettametta_pipelines_tests.synthesis.node import PATIENCE_S, Redis

needs_redis = pytest.mark.skipif(
    not (shutil.which("redis-server") or Path("/usr/bin/redis-server").exists()), reason="needs redis-server"
)


def keeping(redis: Redis, home: Path, monkeypatch: pytest.MonkeyPatch) -> server.Housekeeping:
    monkeypatch.setenv("ETTAMETTA_HOME", str(home))
    monkeypatch.setenv("ETTAMETTA_RENDER_NODE_REDIS", redis.url)
    monkeypatch.setenv("ETTAMETTA_RENDER_NODE_GPUS", "0")
    return server.Housekeeping(Settings(_env_file=None))


@needs_redis
@pytest.mark.parametrize("accident", [signal.SIGSTOP, signal.SIGKILL])
def test_a_queue_that_freezes_or_dies_between_two_words_is_away_and_no_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accident: signal.Signals
) -> None:
    monkeypatch.setattr(queue, "SILENCE_S", 0.5)
    redis = Redis(tmp_path)
    redis.start()
    try:
        house = keeping(redis, tmp_path / "home", monkeypatch)
        house.tick()
        assert house.health()["redis"] is True
        _struck_after_connecting(house, lambda: redis.signal(accident))
        ticking = threading.Thread(target=house.tick, daemon=True)
        ticking.start()
        ticking.join(PATIENCE_S)
        assert not ticking.is_alive()
        assert house.health()["redis"] is False
    finally:
        redis.kill()


def _struck_after_connecting(house: server.Housekeeping, strike: Callable[[], None]) -> None:
    """Have it happen where the connection is made and the question not asked yet."""
    plain = house._celery.connection_for_write

    def connection() -> object:
        made = plain()
        ensure = made.ensure_connection

        def ensured(**options: object) -> object:
            connected = ensure(**options)
            strike()
            return connected

        made.ensure_connection = ensured
        return made

    house._celery.connection_for_write = connection


def test_a_mistake_in_one_round_does_not_end_the_rounds() -> None:
    stopped = threading.Event()

    class House:
        rounds = 0

        def tick(self) -> None:
            self.rounds += 1
            if self.rounds == 3:
                stopped.set()
            raise ZeroDivisionError

    house = House()
    server._keep_house(house, stopped, 0)  # type: ignore[arg-type]
    assert house.rounds == 3


def test_a_worker_of_this_machine_that_is_gone_is_known_before_its_lease_runs_out(
    database: StateDatabase,
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    holders = {"gone": f"{socket.gethostname()}:{gone.pid}", "here": this_holder(), "elsewhere": "moon:1"}
    for name, holder in holders.items():
        job = make_job(name, "ltx", "ltx-2-distilled", [ClipRequest("a kite", 0.4, 32, 32, 24, 1)])
        assert jobs.claim(database, jobs.accept(database, name, job).id, holder, 3600) is not None
    assert is_alive(f"{socket.gethostname()}:{os.getpid()}")
    lost = [holder for holder in jobs.holders(database) if not is_alive(holder)]
    assert lost == [holders["gone"]]
    assert jobs.take_back_lost(database, gone=lost) == 1
    assert len(jobs.waiting(database)) == 1


def test_a_job_whose_worker_was_lost_twice_waits_for_somebody_to_ask_again(database: StateDatabase) -> None:
    job = make_job("unlucky", "ltx", "ltx-2-distilled", [ClipRequest("a kite", 0.4, 32, 32, 24, 1)])
    ordered = jobs.accept(database, "unlucky", job)
    for _ in range(2):
        assert jobs.claim(database, ordered.id, "moon:1", -1) is not None
        assert jobs.take_back_lost(database) == 1
    parked = jobs.find(database, ordered.id)
    assert parked is not None
    assert (parked.state, (parked.error or {})["code"]) == ("parked", "render_worker_lost")
    # Who comes back after that has nothing to say any more.
    assert not jobs.beat(database, parked, 60, None)
    again = jobs.ask_again(database, ordered.id)
    assert again is not None
    assert (again.state, again.losses) == ("queued", 0)
