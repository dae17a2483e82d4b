"""The real worker serving job after job: when its model is loaded, kept, and let go."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import Exit, JobReport, collect, make_job
from ettametta_pipelines.synthesis.requests import ClipFailure, ClipRequest, ClipResult
from ettametta_pipelines.synthesis.serving import Order
from ettametta_pipelines.synthesis.worker_process import ServingWorker
from ettametta_pipelines_tests.synthesis.node import is_gone, wait_for

ACCIDENTS = Path(__file__).with_name("worker_with_accidents.py")
LTX, WAN = "ltx-2-distilled", "wan2.2-ti2v-5b-distilled"


def shots(*prompts: str) -> list[ClipRequest]:
    return [ClipRequest(prompt, 0.4, 64, 64, 24, seed) for seed, prompt in enumerate(prompts)]


class Server:
    """A serving worker and what its jobs came to."""

    def __init__(self, python: Path, folder: Path, accident: str = "count") -> None:
        self._folder = folder
        self.store = ObjectStore.from_url((folder / "store").as_uri())
        program = folder / "python"
        program.write_text(f'#!/bin/sh\nexec "{python}" "{ACCIDENTS}" {accident} "$@"\n')
        program.chmod(0o755)
        self.worker = ServingWorker(program, {"ETTAMETTA_STORE": self.store.url})

    def make(self, name: str, model: str, *prompts: str, on_tick: Callable[[], None] = lambda: None) -> int:
        self.job = make_job(name, "gpu", model, shots(*prompts))
        self.store.put(self.job.key, self.job.as_json())
        order = Order(f"store:{self.job.key}", str(self.log(name)), str(self._folder / f"{name}.progress"))
        return self.worker.run(order, 300, on_tick, 0.05)

    def log(self, name: str) -> Path:
        return self._folder / f"{name}.log"

    def figures(self, name: str) -> Any:
        return JobReport.read(self.store, name).figures

    @property
    def pid(self) -> int:
        assert self.worker._process is not None
        return self.worker._process.pid


@pytest.fixture
def serve(
    gpu_python: Path, tiny_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Server]]:
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ETTAMETTA_GPU_MODELS_DIR", str(tiny_models))
    made: list[Server] = []

    def server(accident: str = "count", **env: str) -> Server:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        made.append(Server(gpu_python, tmp_path, accident))
        return made[-1]

    yield server
    for each in made:
        each.worker.stop()


def test_jobs_of_one_model_load_it_once_and_another_model_takes_its_place(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    for name, model, prompts, loads, forwards in (
        ("first", LTX, ["a kite"], 1, 8),
        ("second", LTX, ["a boat", "a tree"], 0, 16),
        ("other", WAN, ["a boat"], 1, 4),
        ("back", LTX, ["a hill"], 1, 8),
    ):
        assert server.make(name, model, *prompts) == Exit.DONE, server.log(name).read_text()
        assert (server.figures(name)["loads"], server.figures(name)["forwards"]) == (loads, forwards)
        assert all(isinstance(outcome, ClipResult) for outcome in collect(server.store, server.job))
        assert "Shot 1 of" in server.log(name).read_text()
        assert (tmp_path / f"{name}.progress").exists()
    # A model that was kept, and whose encoder came back, makes what a fresh one makes.
    (kept, _) = collect(server.store, make_job("second", "gpu", LTX, shots("a boat", "a tree")))
    server.store.delete(f"{kept.object_key}")  # type: ignore[union-attr]
    server.worker.stop()
    assert server.make("fresh", LTX, "a boat") == Exit.DONE
    (fresh,) = collect(server.store, server.job)
    assert fresh.sha256 == kept.sha256  # type: ignore[union-attr]


def test_a_model_that_nobody_asks_for_is_let_go(serve: Callable[..., Server], capfd: Any) -> None:
    server = serve(ETTAMETTA_GPU_IDLE_S="0")
    server.make("first", LTX, "a kite")
    pid = server.pid
    wait_for(
        lambda: "Nothing was ordered for a while" in "".join(said.append(capfd.readouterr().out) or said)
    )
    server.make("second", LTX, "a boat")
    assert (server.figures("second")["loads"], server.pid) == (1, pid)


said: list[str] = []


@pytest.mark.parametrize(
    ("accident", "prompts", "loads"), [("host", ["a kite"], 1), ("memory", ["a kite", "a cat"], 1)]
)
def test_a_model_is_let_go_when_memory_is_tight(
    serve: Callable[..., Server], accident: str, prompts: list[str], loads: int
) -> None:
    server = serve(accident)
    assert server.make("first", LTX, *prompts) == Exit.DONE
    assert isinstance(collect(server.store, server.job)[-1], ClipFailure if len(prompts) > 1 else ClipResult)
    assert "Memory is tight" in server.log("first").read_text()
    server.make("second", LTX, "a boat")
    assert server.figures("second")["loads"] == loads


def test_an_encoder_without_room_beside_the_model_has_it_leave_and_come_back(
    serve: Callable[..., Server],
) -> None:
    server = serve("encoder")
    server.make("first", LTX, "a kite")
    assert server.make("second", LTX, "a boat") == Exit.DONE, server.log("second").read_text()
    assert server.figures("second")["loads"] == 1
    assert isinstance(collect(server.store, server.job)[0], ClipResult)


def test_a_job_that_cannot_be_done_leaves_the_model_where_it_is(serve: Callable[..., Server]) -> None:
    server = serve()
    server.make("first", LTX, "a kite")
    assert server.make("unknown", "no-such-model", "a boat") == Exit.BAD_JOB
    assert server.make("third", LTX, "a boat") == Exit.DONE
    assert server.figures("third")["loads"] == 1


def test_a_worker_killed_between_jobs_is_started_again_and_one_killed_at_work_says_so(
    serve: Callable[..., Server],
) -> None:
    server = serve("slow")
    server.make("first", LTX, "a kite")
    between = server.pid
    os.kill(between, signal.SIGKILL)
    killed: list[int] = []

    def kill() -> None:
        log = server.log("second")
        if not killed and log.exists() and "step 2" in log.read_text():
            killed.append(server.pid)
            os.kill(server.pid, signal.SIGKILL)

    assert server.make("second", LTX, "a boat", on_tick=kill) == -signal.SIGKILL
    assert server.make("second", LTX, "a boat") == Exit.DONE
    assert isinstance(collect(server.store, server.job)[0], ClipResult)
    assert is_gone(between)
    assert is_gone(killed[0])


def test_told_to_stop_it_finishes_its_shot_and_at_once_when_it_has_none(
    serve: Callable[..., Server],
) -> None:
    server = serve("slow")

    def stop() -> None:
        log = server.log("first")
        if log.exists() and "Shot 1 of 2: step 2" in log.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.make("first", LTX, "a kite", "a boat", on_tick=stop)
    made, left = collect(server.store, server.job)
    assert isinstance(made, ClipResult)
    assert left is None
    server.make("second", WAN, "a boat")
    assert server.worker.stop() == Exit.STOPPED


def test_it_ends_when_whoever_ordered_is_gone(serve: Callable[..., Server]) -> None:
    server = serve()
    server.make("first", LTX, "a kite")
    process = server.worker._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == Exit.STOPPED
