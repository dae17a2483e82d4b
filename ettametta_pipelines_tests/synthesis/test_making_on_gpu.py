"""Clips of a runner: one job for all, counted only when they pass the cage that uploads pass."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import FailureKind, PermanentError, TransientError
from ettametta_pipelines.state.budget import Budget
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.addressing import file_sha256
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.engines import cinematic
from ettametta_pipelines.synthesis.job import write_note
from ettametta_pipelines.synthesis.making import Ask, Unmade, Workshop, make_on_gpu
from ettametta_pipelines.synthesis.requests import ClipFailure, ClipRequest, ClipResult, request_key
from ettametta_pipelines.synthesis.waiting import clear, mark, waiting
from ettametta_pipelines_tests.synthesis.motion import drawn_still


class Runner:
    """Makes a clip of each request but those whose prompt says otherwise; remembers its jobs."""

    def __init__(self, store: ObjectStore, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.jobs: list[str] = []

    def run(
        self, job_id: str, engine: str, model: str, requests: Sequence[ClipRequest]
    ) -> Sequence[ClipResult | ClipFailure]:
        self.jobs.append(job_id)
        if requests[0].prompt == "node is down":
            raise TransientError("The node does not answer.", code="node_down")
        made = []
        for request in requests:
            if request.prompt == "the worker breaks off":
                raise PermanentError("It broke off.", code="gpu_worker_failed")
            made.append(self._one(engine, model, request))
        return made

    def _one(self, engine: str, model: str, request: ClipRequest) -> ClipResult | ClipFailure:
        key = request_key(engine, model, request)
        if request.prompt == "too large":
            return ClipFailure(
                key, FailureKind.PERMANENT, "out_of_memory", "It does not fit.", "Ask for less."
            )
        path = self.folder / f"{key}.mp4"
        if request.prompt == "broken":
            path.write_bytes(b"no video")
        else:
            cinematic.make_clip(request, drawn_still(400, 700), path)
        self.store.put_file(f"media/clips/{engine}/{key}.mp4", path)
        sha256 = file_sha256(path)
        result = ClipResult(
            engine, model, key, f"media/clips/{engine}/{key}.mp4", sha256, request.seed, 360, 640, 24.0, 24, False, 0
        )  # fmt: skip
        if request.prompt != "broken":
            write_note(self.store, f"media/clips/{engine}", result)
        return result


@pytest.fixture
def workshop(tmp_path: Path, database: StateDatabase) -> Workshop:
    (tmp_path / "store").mkdir()
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    budget = Budget("local", "acme", 0, 0, ZoneInfo("UTC"))
    return Workshop(database, store, tmp_path / "scratch", lambda *_: budget, utc_now)


def ask(plan_id: str, prompt: str) -> Ask:
    return Ask(
        plan_id, "ltx", "ltx-2-distilled", "local", ClipRequest(prompt, 1.0, 360, 640, 24, 1), 0, "acme", "p"
    )


def test_all_clips_of_a_model_are_one_job_and_each_has_an_outcome_of_its_own(
    workshop: Workshop, tmp_path: Path
) -> None:
    runner = Runner(workshop.store, tmp_path)
    asks = [ask("a", "a wave"), ask("b", "too large"), ask("c", "broken")]
    found = make_on_gpu(workshop, runner, asks)
    again = make_on_gpu(workshop, runner, asks)
    assert isinstance(found["a"], ClipResult)
    assert [(found[name].state, found[name].code) for name in "bc" if isinstance(found[name], Unmade)] == [
        ("failed", "out_of_memory"), ("failed", "not_a_video"),
    ]  # fmt: skip
    assert again.keys() == found.keys()
    # The same clips are the same job, which its runner takes up again.
    assert len(set(runner.jobs)) == 1


def test_a_runner_that_cannot_work_now_leaves_every_clip_pending(workshop: Workshop, tmp_path: Path) -> None:
    found = make_on_gpu(workshop, Runner(workshop.store, tmp_path), [ask("a", "node is down")])
    assert isinstance(found["a"], Unmade)
    assert (found["a"].state, found["a"].code) == ("pending", "node_down")


def test_what_a_worker_made_before_it_broke_off_is_kept(workshop: Workshop, tmp_path: Path) -> None:
    asks = [ask(name, prompt) for name, prompt in (("a", "a wave"), ("b", "the worker breaks off"))]
    asks.sort(key=lambda one: one.key)
    runner = Runner(workshop.store, tmp_path)
    # The jobs' order is that of the clips' names; the wave has to come first to be made at all.
    seeds = iter(range(100))
    while asks[0].plan_id != "a":
        asks[0] = replace(asks[0], request=replace(asks[0].request, seed=next(seeds)))
        asks.sort(key=lambda one: one.key)
    found = make_on_gpu(workshop, runner, asks)
    assert isinstance(found["a"], ClipResult)
    assert isinstance(found["b"], Unmade)
    assert (found["b"].state, found["b"].code) == ("failed", "gpu_worker_failed")


def test_a_job_of_which_a_part_is_made_is_the_same_job_still(workshop: Workshop, tmp_path: Path) -> None:
    runner = Runner(workshop.store, tmp_path)
    asks = [ask("a", "a wave"), ask("b", "too large")]
    make_on_gpu(workshop, runner, asks)
    found = make_on_gpu(workshop, runner, list(reversed(asks)))
    assert isinstance(found["a"], ClipResult)
    assert len(runner.jobs) == 2
    assert len(set(runner.jobs)) == 1


def test_the_mark_of_one_model_outlasts_the_clips_of_another(workshop: Workshop) -> None:
    mark(workshop.store, "ltx-2-distilled", "acme", "2026-11-20|cooking")
    mark(workshop.store, "ltx-2.3-distilled", "acme", "2026-11-20|cooking")
    clear(workshop.store, "ltx-2.3-distilled", "acme", "2026-11-20|cooking")
    assert waiting(workshop.store, utc_now()) == [("2026-11-20|cooking", "acme")]
