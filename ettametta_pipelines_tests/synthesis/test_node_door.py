"""What a render node takes, refuses and hands out, asked over its HTTP door without any worker behind it."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from fastapi.testclient import TestClient

from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.job import make_job
from ettametta_pipelines.synthesis.render_node import app as door
from ettametta_pipelines.synthesis.render_node.app import create_node, still_key
from ettametta_pipelines.synthesis.requests import ClipRequest

SECRET = "s" * 40
PICTURE = b"a picture"
NAME = hashlib.sha256(PICTURE).hexdigest()
REQUEST = ClipRequest("a kite", 0.4, 32, 32, 24, 0)


class Asked:
    """A node's client, and which jobs the queue was told of."""

    def __init__(self, client: TestClient, announced: list[str]) -> None:
        self.http, self.announced = client, announced

    def order(self, key: str, request: ClipRequest = REQUEST) -> Any:
        job = make_job(key, "ltx", "ltx-2-distilled", [request]).as_json()
        return self.http.post("/jobs", content=job, headers={"Idempotency-Key": key})


@pytest.fixture
def node(database: StateDatabase, tmp_path: Any) -> Iterator[Asked]:
    announced: list[str] = []

    def announce(job_id: str) -> bool:
        announced.append(job_id)
        return True

    store = ObjectStore.from_url((tmp_path / "node").as_uri())
    made = create_node(database, store, SECRET, announce, lambda: {"redis": True, "workers": 0})
    with TestClient(made, headers={"Authorization": f"Bearer {SECRET}"}) as client:
        yield Asked(client, announced)


def test_a_job_is_taken_once_and_told_to_the_queue(node: Asked) -> None:
    first, again = node.order("j1"), node.order("j1")
    assert (first.status_code, first.json()["state"]) == (202, "queued")
    assert again.json()["id"] == first.json()["id"]
    assert set(node.announced) == {first.json()["id"]}
    assert node.http.get(f"/jobs/{first.json()['id']}").json() == first.json()
    retried = node.http.post(f"/jobs/{first.json()['id']}/retry")
    assert (retried.status_code, retried.json()["state"]) == (202, "queued")


@pytest.mark.parametrize("path", ["/jobs/none", "/jobs/none/clips/" + "0" * 32])
def test_what_nobody_ordered_is_not_there(node: Asked, path: str) -> None:
    answer = node.http.get(path)
    assert (answer.status_code, answer.json()) == (404, {"detail": "no_such_job"})


@pytest.mark.parametrize("key", ["0" * 32, "0" * 31, "..%2f..%2fsecret"])
def test_a_clip_that_is_not_the_jobs_is_not_handed_out(node: Asked, key: str) -> None:
    job = node.order("j1").json()["id"]
    assert node.http.get(f"/jobs/{job}/clips/{key}").status_code == 404


def test_a_picture_is_kept_under_its_content_and_a_clip_begins_with_one_that_is_there(node: Asked) -> None:
    begins = replace(REQUEST, image_key=still_key(NAME), image_sha256=NAME)
    missing = node.order("j1", begins)
    assert (missing.status_code, missing.json()["error"]) == (422, "bad_gpu_job")
    put = node.http.put(f"/stills/{NAME}", content=PICTURE)
    assert put.json() == {"image_key": still_key(NAME)}
    assert node.order("j1", begins).status_code == 202
    elsewhere = replace(begins, image_key="stills/../secret")
    assert node.order("j2", elsewhere).status_code == 422


@pytest.mark.parametrize("name", ["0" * 64, NAME.upper(), "x"])
def test_a_picture_under_another_name_than_its_contents_is_refused(node: Asked, name: str) -> None:
    answer = node.http.put(f"/stills/{name}", content=PICTURE)
    assert (answer.status_code, answer.json()) == (422, {"detail": "not_that_content"})


def test_what_is_too_large_is_not_taken(node: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_STILL_BYTES", 4)
    monkeypatch.setattr(door, "MAX_JOB_BYTES", 4)
    assert node.http.put(f"/stills/{NAME}", content=PICTURE).status_code == 413
    assert node.order("j1").status_code == 413
    assert node.announced == []


def test_without_the_secret_nothing_but_numbers_is_told(node: Asked) -> None:
    stranger = {"Authorization": "Bearer no"}
    assert node.http.get("/jobs/j", headers=stranger).status_code == 401
    assert node.http.put(f"/stills/{NAME}", content=PICTURE, headers=stranger).status_code == 401
    health = node.http.get("/health", headers=stranger)
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert 'ettametta_render_jobs{state="queued"} 0.0' in node.http.get("/metrics", headers=stranger).text


@pytest.mark.parametrize("body", [b"", b"[]", b"{", json.dumps({"job_id": "x"}).encode()])
def test_what_is_no_job_is_refused(node: Asked, body: bytes) -> None:
    answer = node.http.post("/jobs", content=body, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["error"]) == (422, "bad_gpu_job")
