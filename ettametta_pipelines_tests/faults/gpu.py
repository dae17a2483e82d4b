"""GPU work killed by signal 9 at every step, wherever it is done: `python -m ettametta_pipelines_tests.faults.gpu`.

Two clips are ordered through the real run, pod client, render node and worker (whose pictures are plain colour). One
process is killed before or after one step; then what is there in life repeats it: the next run, the node's restart, the
pod janitor. Judged at the end: both clips are whole in the store, no process and no pod is left, nothing was made
thrice. Needs redis-server for the node. Exit code 1 when a scenario ends otherwise.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import collect, job_slug
from ettametta_pipelines.synthesis.node_client import NodeDeadlines, NodeRunner
from ettametta_pipelines.synthesis.pod_janitor import find_pods, remove_leaked
from ettametta_pipelines.synthesis.pod_watch import KubernetesApi
from ettametta_pipelines.synthesis.requests import ClipResult
from ettametta_pipelines_tests.faults.gpu_run import ENGINE, MODEL, QUICK, the_job
from ettametta_pipelines_tests.synthesis.cluster import Cluster
from ettametta_pipelines_tests.synthesis.node import FAKE_WORKER, SECRET, Node, Receiver, Redis, is_gone

KILLING = Path(__file__).with_name("killing")
SYNTHESIS = "ettametta_pipelines.synthesis"
MOST_RUNS = 4
ROOT = Path(__file__).parents[2]

# Steps of the worker's process, the same in a pod, a subprocess and the node.
WORKER = (
    f"{SYNTHESIS}.worker:main before",
    f"{SYNTHESIS}.clip_file:encode_clip before",
    f"{SYNTHESIS}.clip_file:encode_clip after",
    f"{SYNTHESIS}.job:write_note before",
    f"{SYNTHESIS}.job:write_note after",
    f"{SYNTHESIS}.job:JobReport.as_json before",
)
# Steps of the run that ordered a pod.
POD_RUN = (
    f"{SYNTHESIS}.pod_watch:GpuPod._create_or_adopt before",
    f"{SYNTHESIS}.pod_watch:GpuPod._create_or_adopt after",
    f"{SYNTHESIS}.pod_log:LogFollower.start after",
    f"{SYNTHESIS}.pod_watch:GpuPod._wait after",
    f"{SYNTHESIS}.pod_watch:GpuPod._remove before",
    f"{SYNTHESIS}.pod_watch:GpuPod._remove after",
    f"{SYNTHESIS}.job:JobReport.read before",
)
LOCAL_RUN = (
    f"{SYNTHESIS}.worker_process:WorkerProcess.__init__ before",
    f"{SYNTHESIS}.worker_process:WorkerProcess.__init__ after",
    f"{SYNTHESIS}.worker_process:WorkerProcess.wait after",
    f"{SYNTHESIS}.worker_process:WorkerProcess.stop after",
    f"{SYNTHESIS}.job:JobReport.read before",
)
NODE = (
    f"{SYNTHESIS}.render_node.jobs:accept before",
    f"{SYNTHESIS}.render_node.jobs:accept after",
    f"{SYNTHESIS}.render_node.jobs:mark_sent before",
    f"{SYNTHESIS}.render_node.jobs:mark_sent after",
    f"{SYNTHESIS}.render_node.jobs:find before",
    f"{SYNTHESIS}.render_node.jobs:find after",
    f"{SYNTHESIS}.render_node.jobs:note_notice before",
    f"{SYNTHESIS}.render_node.jobs:note_notice after",
    f"{SYNTHESIS}.render_node.jobs:claim before",
    f"{SYNTHESIS}.render_node.jobs:claim after",
    f"{SYNTHESIS}.worker_process:ServingWorker._start after",
    f"{SYNTHESIS}.worker_process:ServingWorker.run after",
    f"{SYNTHESIS}.render_node.jobs:finish before",
    f"{SYNTHESIS}.render_node.jobs:finish after",
)


@dataclass(frozen=True)
class Scenario:
    """`where` is pod, local or node; `whose` the process that is struck: its worker, or the one that had it started."""

    where: str
    whose: str
    point: str

    @property
    def name(self) -> str:
        step, when = self.point.split(" ")
        return f"{self.where}: {self.whose} killed {when} {step.rpartition(':')[2]}"


def scenarios() -> list[Scenario]:
    places = {"pod": POD_RUN, "local": LOCAL_RUN, "node": NODE}
    return [
        Scenario(where, whose, point)
        for where, points in places.items()
        for whose, struck in (("worker", WORKER), (where if where == "node" else "run", points))
        for point in struck
    ]


class Place:
    """A home of its own: the store, the worker's interpreter, and the environment of every process."""

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self.home, self.flag = folder / "home", folder / "struck"
        self.home.mkdir()
        self.python = folder / "gpu-python"
        self.python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{FAKE_WORKER}" "$@"\n')
        self.python.chmod(0o755)
        self.armed = {
            "ETTAMETTA_TEST_KILL": f"{scenario.point} {self.flag}",
            "PYTHONPATH": os.pathsep.join([str(KILLING), str(ROOT)]),
        }
        self.env = {
            **os.environ,
            "ETTAMETTA_HOME": str(self.home),
            "ETTAMETTA_GPU_PYTHON": str(self.python),
            "ETTAMETTA_GPU_IMAGE": "registry.example/gpu-worker@sha256:00",
            "PYTHONPATH": str(ROOT),
        }
        self.store = ObjectStore.from_url((self.home / "store").as_uri())

    def run(self, *arguments: str, armed: bool) -> int:
        """One Dagster run to its end; its exit code."""
        command = [sys.executable, "-m", "ettametta_pipelines_tests.faults.gpu_run", *arguments]
        env = self.env | (self.armed if armed else {})
        with (self.home / "run.log").open("ab") as log:
            return subprocess.run(command, env=env, stdout=log, stderr=log, cwd=ROOT, check=False).returncode

    def said(self) -> str:
        return (self.home / "run.log").read_text(errors="replace")[-1500:]

    def processes(self) -> list[int]:
        """Those of this machine whose environment names this home."""
        marks = f"ETTAMETTA_HOME={self.home}".encode()
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(each.startswith(marks) for each in environment) and not is_gone(int(entry.name)):
                found.append(int(entry.name))
        return [pid for pid in found if pid != os.getpid()]

    def verdict(self, told: str) -> str:
        """Empty when all is as it should be."""
        deadline = time.monotonic() + 20
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.1)
        if left:
            return f"processes left: {left}; {told}"
        outcomes = collect(self.store, the_job())
        if not all(isinstance(outcome, ClipResult) for outcome in outcomes):
            return f"clips lost: {outcomes}; {told}"
        return "" if self.flag.exists() else f"point not reached; {told}"


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def play_pod(place: Place, scenario: Scenario) -> str:
    """A pod's worker gets the environment of the stand-in cluster, which is ours."""
    is_worker = scenario.whose == "worker"
    cluster = Cluster([sys.executable, str(FAKE_WORKER)])
    try:
        with _environment({"ETTAMETTA_HOME": str(place.home)} | (place.armed if is_worker else {})):
            host = cluster.api.api_client.configuration.host
            codes = [place.run("pod", host, armed=not is_worker)]
            while codes[-1] != 0 and len(codes) < MOST_RUNS:
                codes.append(place.run("pod", host, armed=False))
            api = KubernetesApi(cluster.api, "default", QUICK)
            remove_leaked(api, find_pods(api, lambda run_id: True, utc_now()))
        told = f"runs ended with {codes}, {len(cluster.created)} pods; {place.said()}"
        if cluster.pods or len(cluster.created) > 2:
            return f"pods left or too many: {list(cluster.pods)}; {told}"
        return place.verdict(told)
    finally:
        cluster.close()


def play_local(place: Place, scenario: Scenario) -> str:
    if scenario.whose == "worker":
        keep = "".join(f'export {name}="{value}"\n' for name, value in place.armed.items())
        place.python.write_text(place.python.read_text().replace("exec ", keep + "exec "))
    codes = [place.run("local", armed=scenario.whose == "run")]
    while codes[-1] != 0 and len(codes) < MOST_RUNS:
        codes.append(place.run("local", armed=False))
    return place.verdict(f"runs ended with {codes}; {place.said()}")


def play_node(place: Place, scenario: Scenario) -> str:
    redis, receiver = Redis(place.home), Receiver()
    redis.start()
    node = Node(place.home / "node", redis, receiver)
    try:
        node.env |= place.armed
        node.start()
        told: list[str] = []
        order = threading.Thread(target=_order, args=(place, node, told))
        order.start()
        # Whatever ends a process of the node, its supervisor starts it again.
        while order.is_alive() or not receiver.about(job_slug("order")):
            if node.process is not None and node.process.poll() is not None:
                node.start()
            order.join(0.1)
            if told and told[0] != "done":
                return told[0]
        standing = _standing(node)
        node.stop()
        if (standing["state"], standing["attempt"] <= 2) != ("done", True):
            return f"the node says {standing}"
        return place.verdict(f"attempt {standing['attempt']}, {len(receiver.taken)} notices")
    finally:
        node.stop()
        receiver.close()
        redis.kill()


def _standing(node: Node) -> dict[str, Any]:
    """How the job stands, of a node that may have been struck after it told of it."""
    while True:
        try:
            return node.state(job_slug("order"))
        except httpx.TransportError:
            if node.process is not None:
                node.process.wait(60)
            node.start()


def _order(place: Place, node: Node, told: list[str]) -> None:
    settings = Settings(
        _env_file=None, ETTAMETTA_HOME=place.home, RENDER_NODE_URL=node.url, RENDER_NODE_SECRET=SECRET
    )
    runner = NodeRunner(settings, place.store, deadlines=NodeDeadlines(90, 90, 90, 0.1))
    job = the_job()
    try:
        runner.run(job.job_id, ENGINE, MODEL, job.requests)
        told.append("done")
    except PipelineError as error:
        told.append(f"ended as {error.code}: {error.message}")


PLAY = {"pod": play_pod, "local": play_local, "node": play_node}


def main() -> int:
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__)
    parser.add_argument("--only", default="", help="play the scenarios whose name holds these words")
    parser.add_argument("--every", type=int, default=1, help="play every so manieth scenario")
    asked = parser.parse_args()
    chosen = [each for each in scenarios() if asked.only in each.name][:: asked.every]
    began, bad = time.monotonic(), 0
    for scenario in chosen:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            why = PLAY[scenario.where](Place(Path(folder), scenario), scenario)
        if why:
            bad += 1
            sys.stdout.write(f"{scenario.name}\n  {why}\n")
            sys.stdout.flush()
    sys.stdout.write(
        f"GPU work: {len(chosen)} kills in {time.monotonic() - began:.0f} s, {bad} left an orphan or lost a job: "
        f"the bar is {'MISSED' if bad else 'met'}\n"
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
