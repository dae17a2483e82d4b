"""A real render node with a real Redis and a real Celery worker: orders, accidents, and who is told."""

import hashlib
import hmac
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ettametta_pipelines.failures import FailureKind, PermanentError, TransientError
from ettametta_pipelines.gateway.webhook_sources import SOURCES
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import job_slug, make_job
from ettametta_pipelines.synthesis.node_client import NodeDeadlines, NodeRunner, finish_from_webhook, gave_job
from ettametta_pipelines.synthesis.render_node.notices import signed_headers
from ettametta_pipelines.synthesis.requests import ClipFailure, ClipRequest, ClipResult
from ettametta_pipelines_tests.synthesis.node import (
    PATIENCE_S,
    SECRET,
    Node,
    Receiver,
    Redis,
    is_gone,
    wait_for,
)

pytestmark = [
    pytest.mark.skipif(
        not (shutil.which("redis-server") or Path("/usr/bin/redis-server").exists()),
        reason="needs redis-server",
    ),
]
# Nothing that is to succeed has to be quicker than a busy machine.
QUICK = NodeDeadlines(queue_s=PATIENCE_S, run_s=PATIENCE_S, api_s=60, poll_s=0.1)


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    server = Redis(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, redis: Redis, receiver: Receiver) -> Iterator[Node]:
    made = Node(tmp_path_factory.mktemp("node") / "home", redis, receiver)
    made.start()
    yield made
    made.stop()


@pytest.fixture
def settings(node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RENDER_NODE_URL", node.url)
    monkeypatch.setenv("RENDER_NODE_SECRET", SECRET)
    return Settings(_env_file=None)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


Run = Callable[..., Any]


@pytest.fixture
def run(settings: Settings, store: ObjectStore) -> Run:
    def order(job: str, *prompts: str, deadlines: NodeDeadlines = QUICK, **more: Any) -> Any:
        runner = NodeRunner(settings, store, deadlines=deadlines)
        return runner.run(job, "ltx", "ltx-2-distilled", shots(*prompts, **more))

    return order


def shots(*prompts: str, **more: Any) -> list[ClipRequest]:
    return [ClipRequest(prompt, 0.4, 32, 32, 24, seed, **more) for seed, prompt in enumerate(prompts)]


class InBackground(threading.Thread):
    """An order that is waited for elsewhere."""

    def __init__(self, run: Run, *arguments: str) -> None:
        super().__init__(target=self._order, args=(run, *arguments))
        self.outcomes: list[Any] = []
        self.error: Exception | None = None
        self.start()

    def _order(self, run: Run, *arguments: str) -> None:
        try:
            self.outcomes = run(*arguments)
        except (PermanentError, TransientError) as error:
            self.error = error

    def finished(self) -> list[Any]:
        self.join(2 * PATIENCE_S)
        assert not self.is_alive()
        assert self.error is None
        return list(self.outcomes)


def test_an_order_brings_its_clips_and_its_failures_into_the_orderers_store(
    run: Run, store: ObjectStore
) -> None:
    made, failed = run("both", "a kite", "fail")
    assert isinstance(made, ClipResult)
    assert hashlib.sha256(store.get(made.object_key)).hexdigest() == made.sha256
    assert isinstance(failed, ClipFailure)
    assert failed.code == "gpu_out_of_memory"


def test_an_order_that_is_repeated_is_the_same_order(
    run: Run, node: Node, tmp_path: Path, settings: Settings
) -> None:
    (first,) = run("repeated", "a boat")
    elsewhere = ObjectStore.from_url((tmp_path / "elsewhere").as_uri())
    (second,) = NodeRunner(settings, elsewhere, deadlines=QUICK).run(
        "repeated", "ltx", "ltx-2-distilled", shots("a boat")
    )
    assert first.provenance["pid"] == second.provenance["pid"]
    assert node.state(job_slug("repeated"))["attempt"] == 1


def test_a_key_that_belongs_to_another_job_is_refused(run: Run) -> None:
    run("taken", "a boat")
    with pytest.raises(PermanentError, match="belongs to another job"):
        run("taken", "a ship")


def test_strangers_get_nothing_but_numbers(node: Node) -> None:
    for method, path in (
        ("POST", "/jobs"),
        ("GET", "/jobs/x"),
        ("GET", "/jobs/x/clips/y"),
        ("PUT", "/stills/z"),
    ):
        assert node.http.request(method, path, headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert node.http.get("/health", headers={"Authorization": ""}).json()["redis"] is True
    assert 'ettametta_render_jobs{state="queued"}' in node.http.get("/metrics").text


def test_a_node_without_a_secret_does_not_start(tmp_path: Path) -> None:
    env = {**os.environ, "ETTAMETTA_HOME": str(tmp_path), "RENDER_NODE_SECRET": ""}
    command = [sys.executable, "-m", "ettametta_pipelines.cli", "render-node", "--port", "0"]
    ended = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 1
    assert "Set RENDER_NODE_SECRET" in ended.stderr


def test_a_clip_is_handed_out_in_ranges(run: Run, node: Node, store: ObjectStore) -> None:
    (made,) = run("ranges", "a tree")
    address = f"/jobs/{job_slug('ranges')}/clips/{made.request_key}"
    part = node.http.get(address, headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == store.get(made.object_key)[10:20]


def test_the_picture_a_clip_starts_from_goes_along(run: Run, node: Node, store: ObjectStore) -> None:
    picture = b"not looked at here"
    store.put("uploads/still.png", picture)
    sha256 = hashlib.sha256(picture).hexdigest()
    (made,) = run("still", "a face", image_key="uploads/still.png", image_sha256=sha256)
    assert isinstance(made, ClipResult)
    assert node.home.joinpath("render-node/store/stills", sha256).read_bytes() == picture


def test_the_webhook_is_signed_and_repeated_until_it_is_taken(
    run: Run, receiver: Receiver, settings: Settings, store: ObjectStore, tmp_path: Path
) -> None:
    job = job_slug("told")
    receiver.refused.add(job)
    run("told", "a lamp")
    first, second = wait_for(lambda: len(told := receiver.about(job)) == 2 and told)
    for headers, body in (first, second):
        stated = dict(part.split("=") for part in headers["x-ettametta-signature"].split(","))
        signed = f"{stated['t']}.{stated['n']}.".encode() + body
        assert stated["v1"] == hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert first[0]["x-ettametta-nonce"] == second[0]["x-ettametta-nonce"]
    message = json.loads(second[1])
    assert gave_job(store, job)
    assert finish_from_webhook(settings, store, message) == "0 clips fetched"
    assert finish_from_webhook(settings, ObjectStore.from_url(tmp_path.as_uri()), message) == "no job of ours"


def test_the_gateway_takes_the_nodes_signature_and_no_other() -> None:
    body, source = b'{"event": "render_job_ended"}', SOURCES["render-node"]
    headers = {name.lower(): value for name, value in signed_headers(SECRET, "n" * 32, body).items()}
    assert source.is_signed(headers, body, SECRET, time.time())
    assert not source.is_signed(headers, body + b" ", SECRET, time.time())
    assert not source.is_signed(headers, body, "another", time.time())
    assert not source.is_signed(headers, body, SECRET, time.time() + 600)


def test_the_webhook_alone_brings_the_clips_of_an_order_nobody_waits_for(
    run: Run, node: Node, receiver: Receiver, settings: Settings, store: ObjectStore
) -> None:
    with pytest.raises(TransientError, match=r"render node was at it|did not begin"):
        run("left", "hold left", deadlines=NodeDeadlines(0.2, 0.2, 60, 0.1))
    node.release("left")
    told = wait_for(lambda: receiver.about(job_slug("left")))
    assert finish_from_webhook(settings, store, json.loads(told[0][1])) == "1 clips fetched"
    (made,) = run("left", "hold left")
    assert isinstance(made, ClipResult)


def test_a_worker_killed_twice_parks_the_job_until_somebody_asks_again(run: Run, node: Node) -> None:
    with pytest.raises(TransientError) as failed:
        run("crashing", "crash")
    assert failed.value.code == "gpu_worker_killed"
    assert node.state(job_slug("crashing"))["attempt"] == 2
    with pytest.raises(TransientError):
        run("crashing", "crash")
    assert node.state(job_slug("crashing"))["attempt"] == 4


def test_the_inputs_fault_is_parked_at_once(run: Run, node: Node) -> None:
    with pytest.raises(PermanentError) as failed:
        run("unusable", "exit 2")
    assert (failed.value.code, failed.value.kind) == ("bad_gpu_job", FailureKind.PERMANENT)
    assert node.state(job_slug("unusable"))["attempt"] == 1


def test_a_killed_worker_leaves_no_process_and_its_job_is_made_by_the_next(run: Run, node: Node) -> None:
    order = InBackground(run, "worker killed", "a cat", "hold cat")
    wait_for(lambda: "holding cat" in node.said(job_slug("worker killed")))
    worker, gpu_process = node.worker(), node.gpu_process()
    os.kill(worker, signal.SIGKILL)
    assert wait_for(lambda: is_gone(gpu_process))
    node.release("cat")
    assert [type(outcome) for outcome in order.finished()] == [ClipResult, ClipResult]
    assert node.state(job_slug("worker killed"))["attempt"] == 2


def test_jobs_share_one_gpu_process_and_one_killed_between_them_costs_nothing(run: Run, node: Node) -> None:
    (first,) = run("first of two", "a fox")
    (second,) = run("second of two", "an owl")
    assert first.provenance["pid"] == second.provenance["pid"] == str(node.gpu_process())
    os.kill(node.gpu_process(), signal.SIGKILL)
    (third,) = run("after the kill", "a hare")
    assert third.provenance["pid"] != first.provenance["pid"]
    assert node.state(job_slug("after the kill"))["attempt"] == 1
    assert is_gone(int(first.provenance["pid"]))


def test_a_gpu_process_killed_at_work_leaves_none_and_its_job_is_made_by_the_next(
    run: Run, node: Node
) -> None:
    order = InBackground(run, "gpu killed", "a newt", "hold newt")
    wait_for(lambda: "holding newt" in node.said(job_slug("gpu killed")))
    killed = node.gpu_process()
    os.kill(killed, signal.SIGKILL)
    node.release("newt")
    assert [type(outcome) for outcome in order.finished()] == [ClipResult, ClipResult]
    assert node.state(job_slug("gpu killed"))["attempt"] == 2
    assert is_gone(killed)
    assert len(node.children(node.worker())) == 1


def test_an_order_whose_clips_were_removed_is_made_again(
    run: Run, node: Node, tmp_path: Path, settings: Settings
) -> None:
    (first,) = run("removed", "a mole")
    for clip in (node.home / "render-node/store/media/clips/ltx").glob(f"{first.request_key}.*"):
        clip.unlink()
    address = f"/jobs/{job_slug('removed')}/clips/{first.request_key}"
    assert node.http.get(address).status_code == 410
    elsewhere = ObjectStore.from_url((tmp_path / "elsewhere").as_uri())
    (again,) = NodeRunner(settings, elsewhere, deadlines=QUICK).run(
        "removed", "ltx", "ltx-2-distilled", shots("a mole")
    )
    assert again.sha256 == first.sha256
    assert node.state(job_slug("removed"))["attempt"] == 2
    assert node.http.get(address).status_code == 200


def test_a_killed_node_leaves_no_process_and_makes_the_job_once_it_is_back(run: Run, node: Node) -> None:
    order = InBackground(run, "node killed", "a cow", "hold cow")
    wait_for(lambda: "holding cow" in node.said(job_slug("node killed")))
    left = [node.worker(), node.gpu_process()]
    node.signal(signal.SIGKILL)
    assert wait_for(lambda: all(is_gone(pid) for pid in left))
    node.release("cow")
    node.start()
    assert [type(outcome) for outcome in order.finished()] == [ClipResult, ClipResult]


def test_a_stopped_node_finishes_its_shot_and_that_is_no_loss(run: Run, node: Node) -> None:
    order = InBackground(run, "node stopped", "hold dog", "a dog")
    wait_for(lambda: "holding dog" in node.said(job_slug("node stopped")))
    gpu_process, process = node.gpu_process(), node.process
    stopping = threading.Thread(target=node.signal, args=(signal.SIGTERM,))
    stopping.start()
    # Its HTTP side is closed before its workers are told.
    wait_for(lambda: not node.healthy())
    node.release("dog")
    stopping.join()
    assert process is not None
    assert process.returncode == 0
    assert is_gone(gpu_process)
    made = node.home / "render-node/store/media/clips/ltx"
    key, _ = make_job("node stopped", "ltx", "ltx-2-distilled", shots("hold dog", "a dog")).keyed()[0]
    assert (made / f"{key}.mp4").exists()
    node.start()
    assert len(order.finished()) == 2


def test_a_redis_that_lost_everything_loses_no_job(run: Run, node: Node, redis: Redis) -> None:
    first = InBackground(run, "redis killed", "hold hen")
    wait_for(lambda: "holding hen" in node.said(job_slug("redis killed")))
    second = InBackground(run, "in the queue", "a hen")
    wait_for(lambda: node.http.get(f"/jobs/{job_slug('in the queue')}").status_code == 200)
    redis.kill()
    third = InBackground(run, "while it was away", "a pig")
    wait_for(lambda: node.http.get(f"/jobs/{job_slug('while it was away')}").status_code == 200)
    redis.start()
    node.release("hen")
    for order in (first, second, third):
        assert isinstance(order.finished()[0], ClipResult)


def test_a_shot_that_failed_is_made_when_its_job_is_ordered_again(run: Run, node: Node) -> None:
    failed, made = run("failed before", "fail", "a goat")
    assert isinstance(failed, ClipFailure)
    node.release("fail")
    again = run("failed before", "fail", "a goat")
    assert [type(outcome) for outcome in again] == [ClipResult, ClipResult]
    assert again[1] == made
