"""Which clips of a render node may be removed, and what is answered afterwards."""

import hashlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import ClipJob, JobReport, clip_key, make_job, report_key, write_note
from ettametta_pipelines.synthesis.render_node import jobs
from ettametta_pipelines.synthesis.render_node.app import create_node
from ettametta_pipelines.synthesis.render_node.retention import Limits, remove_old
from ettametta_pipelines.synthesis.requests import ClipRequest, ClipResult
from ettametta_pipelines_tests.servers import in_thread
from ettametta_pipelines_tests.synthesis.node import wait_for

SECRET = "a secret of the tests"
SIZE = 200_000
NOTHING_KEPT = Limits(0, 0, 3600)


class Bench:
    """A node without a queue: jobs are made by hand."""

    def __init__(self, db: StateDatabase, folder: Path) -> None:
        self.size = SIZE
        self.db, self.store = db, ObjectStore.from_url(folder.as_uri())
        node = create_node(db, self.store, SECRET, lambda job: True, lambda: {"redis": True, "workers": 1})
        self.http = TestClient(node, headers={"Authorization": f"Bearer {SECRET}"})

    def order(self, name: str, *prompts: str) -> Any:
        requests = [ClipRequest(prompt, 0.4, 32, 32, 24, 1) for prompt in prompts]
        self.job = make_job(name, "ltx", "ltx-2-distilled", requests)
        answer = self.http.post("/jobs", content=self.job.as_json(), headers={"Idempotency-Key": name})
        return answer.raise_for_status().json()

    def made(self, name: str, *prompts: str) -> ClipJob:
        """A job that is done, with its clips."""
        claimed = jobs.claim(self.db, self.order(name, *prompts)["id"], "tests", 60)
        assert claimed is not None
        for key, request in self.job.keyed():
            place = clip_key(self.job.prefix, key)
            data = bytes(self.size)
            self.store.put(place, data)
            sha = hashlib.sha256(data).hexdigest()
            result = ClipResult("ltx", "m", key, place, sha, request.seed, 32, 32, 24, 9, False, 0, {})
            write_note(self.store, self.job.prefix, result)
        self.store.put(report_key(name), JobReport().as_json())
        jobs.finish(self.db, claimed)
        return self.job

    def fetch(self, job: ClipJob, number: int = 0, **headers: str) -> Any:
        key, _ = job.keyed()[number]
        return self.http.get(f"/jobs/{job.key.split('/')[-1][:-5]}/clips/{key}", headers=headers)

    def tell(self, job: ClipJob) -> None:
        row = jobs.find(self.db, job.key.split("/")[-1][:-5])
        assert row is not None
        jobs.note_notice(self.db, row, delivered=True)

    def sweep(self, limits: Limits = NOTHING_KEPT) -> int:
        return remove_old(self.db, self.store, limits)


@pytest.fixture
def bench(database: StateDatabase, tmp_path: Path) -> Bench:
    return Bench(database, tmp_path / "store")


def _fetched(bench: Bench, job: ClipJob) -> None:
    assert bench.fetch(job).status_code == 200


def _fetched_after_a_cut(bench: Bench, job: ClipJob) -> None:
    for part in ("bytes=0-99999", "bytes=100000-"):
        assert bench.fetch(job, Range=part).status_code == 206


def _looked_at(bench: Bench, job: ClipJob) -> None:
    for part in ("bytes=100-", "bytes=-10", "bytes=0-5", "bytes=0-1,199990-199999"):
        assert bench.fetch(job, Range=part).status_code == 206


@pytest.mark.parametrize(
    ("done", "limits", "gone"),
    [
        (_fetched, NOTHING_KEPT, 1),
        (_fetched_after_a_cut, NOTHING_KEPT, 1),
        (_looked_at, NOTHING_KEPT, 0),
        (lambda bench, job: None, NOTHING_KEPT, 0),
        (Bench.tell, NOTHING_KEPT, 0),
        (Bench.tell, Limits(0, 0, 0), 1),
        (_fetched, Limits(3600, SIZE, 0), 0),
        (_fetched, Limits(3600, SIZE - 1, 0), 1),
        (_fetched, Limits(0, SIZE, 0), 1),
    ],
)
def test_a_clip_goes_when_it_is_beyond_a_limit_and_its_orderer_has_it(
    bench: Bench, done: Callable[[Bench, ClipJob], None], limits: Limits, gone: int
) -> None:
    job = bench.made("order", "a kite")
    done(bench, job)
    assert bench.sweep(limits) == gone
    assert bench.store.exists(clip_key(job.prefix, job.keyed()[0][0])) is not bool(gone)
    assert bench.sweep(limits) == 0


def test_the_longest_ended_go_first_and_no_more_than_the_size_asks_for(bench: Bench) -> None:
    made = [bench.made(name, name) for name in ("first", "second", "third")]
    for job in made:
        _fetched(bench, job)
    assert bench.sweep(Limits(3600, 2 * SIZE, 0)) == 1
    assert [bench.fetch(job).status_code for job in made] == [410, 200, 200]


def test_a_clip_that_another_job_still_needs_stays(bench: Bench) -> None:
    first = bench.made("first", "a kite")
    _fetched(bench, first)
    waiting = bench.order("second", "a kite")
    assert bench.sweep() == 0
    claimed = jobs.claim(bench.db, waiting["id"], "tests", 60)
    assert claimed is not None
    assert bench.sweep() == 0
    jobs.finish(bench.db, claimed)
    assert bench.sweep() == 0
    _fetched(bench, bench.job)
    assert bench.sweep() == 1


def test_a_parked_jobs_finished_clips_stay(bench: Bench) -> None:
    job = bench.made("order", "a kite")
    _fetched(bench, job)
    with bench.db.session() as session:
        session.execute(sa.text("UPDATE render_jobs SET state = 'parked'"))
    assert bench.sweep() == 0


def test_a_taker_that_goes_away_in_the_middle_has_not_fetched_it(bench: Bench) -> None:
    bench.size = 32 << 20
    job = bench.made("order", "a kite")
    with in_thread(lambda _: bench.http.app, log_level="critical", lifespan="off") as server:
        with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0)) as taker:
            taker.sendall(
                f"GET /jobs/{job.key.split('/')[-1][:-5]}/clips/{job.keyed()[0][0]} HTTP/1.1\r\nHost: node\r\n"
                f"Authorization: Bearer {SECRET}\r\n\r\n".encode()
            )
            assert taker.recv(1000).startswith(b"HTTP/1.1 200")
            assert server.server_state.tasks
        wait_for(lambda: not server.server_state.tasks)
    assert bench.sweep() == 0


def test_a_removed_clip_says_so_and_is_made_again_when_it_is_ordered_again(bench: Bench) -> None:
    job = bench.made("order", "a kite", "a boat")
    assert bench.fetch(job, 0).status_code == bench.fetch(job, 1).status_code == 200
    assert bench.sweep() == 2
    answer = bench.fetch(job)
    assert answer.status_code == 410
    assert "made again" in answer.json()["detail"]
    assert bench.http.get(f"/jobs/{job.key.split('/')[-1][:-5]}").json()["state"] == "done"
    assert bench.order("order", "a kite", "a boat")["state"] == "queued"
    assert bench.made("order", "a kite", "a boat") == job
    # What was handed out of the clips before does not count for these.
    assert bench.sweep() == 0
    assert len(bench.order("order", "a kite", "a boat")["outcomes"]) == 2
