"""The sandbox's own parts: what it remembers, how it starts and stops, what its control API offers."""

import socket
import threading
from pathlib import Path

import httpx
import pytest

from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.sandbox.core import SandboxStore, seeded_rng
from ettametta_pipelines.sandbox.server import SandboxServer
from ettametta_pipelines.settings import Settings
from ettametta_pipelines_tests.conftest import SandboxUnderTest


@pytest.fixture
def store(tmp_path: Path) -> SandboxStore:
    return SandboxStore(tmp_path / "sandbox")


def test_objects_are_kept_replaced_listed_and_deleted(store: SandboxStore) -> None:
    assert store.get("video", "a") is None
    store.put("video", "b%", {"n": 2})
    store.put("video", "a1", {"n": 1})
    store.put("video", "a1", {"n": 3})
    store.put("other", "a1", {"n": 9})
    assert store.items("video") == [("a1", {"n": 3}), ("b%", {"n": 2})]
    assert store.items("video", "a") == [("a1", {"n": 3})]
    store.delete("video", "a1")
    assert store.get("video", "a1") is None


def test_insert_changes_nothing_when_the_key_is_there(store: SandboxStore) -> None:
    assert store.insert("video", "a", {"n": 1})
    assert not store.insert("video", "a", {"n": 2})
    assert store.get("video", "a") == {"n": 1}


def test_counters_count_every_call_of_every_thread(store: SandboxStore) -> None:
    seen: list[int] = []

    def count() -> None:
        seen.extend(store.counter("x") for _ in range(50))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(seen) == list(range(1, 201))
    assert store.counter("x", 0) == 200


def test_blob_names_cannot_leave_their_folder(store: SandboxStore) -> None:
    path = store.blob_path("../../etc/passwd")
    assert path.parent == store.blob_path("x").parent
    with pytest.raises(ValueError, match="no usable character"):
        store.blob_path("...")


def test_what_was_stored_is_there_after_a_restart(tmp_path: Path) -> None:
    first = SandboxStore(tmp_path)
    first.put("video", "a", {"n": 1})
    first.close()
    assert SandboxStore(tmp_path).get("video", "a") == {"n": 1}


def test_seeded_numbers_depend_on_the_parts_alone() -> None:
    assert seeded_rng(1, "a", 2).random() == seeded_rng(1, "a", 2).random()
    assert seeded_rng("ab", "c").random() != seeded_rng("a", "bc").random()


def test_the_server_names_itself_and_its_home(sandbox: SandboxUnderTest) -> None:
    assert sandbox.http.get("/healthz").json() == {
        "service": "ettametta-sandbox",
        "home": str(sandbox.home),
    }


def test_a_taken_port_is_named_with_the_variable_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        with pytest.raises(NeedsPersonError) as caught:
            SandboxServer(tmp_path, port)
    assert caught.value.code == "port_in_use"
    assert str(port) in caught.value.message
    assert "ETTAMETTA_SANDBOX_PORT" in caught.value.remedy


def test_the_port_is_free_again_after_stop(tmp_path: Path) -> None:
    with SandboxServer(tmp_path) as first:
        httpx.get(f"{first.url}/healthz")
    with SandboxServer(tmp_path, first.port) as second:
        assert httpx.get(f"{second.url}/healthz").status_code == 200


def test_requests_are_logged_without_their_query(sandbox: SandboxUnderTest) -> None:
    sandbox.http.get("/youtube/youtube/v3/search", params={"key": "canary-of-a-key"})
    logged = sandbox.requests("youtube")
    assert [(r["method"], r["path"], r["status"]) for r in logged] == [
        ("GET", "/youtube/youtube/v3/search", 400)
    ]
    assert "canary" not in str(logged)
    assert sandbox.requests("stripe") == []


def test_reset_forgets_objects_requests_and_faults(sandbox: SandboxUnderTest) -> None:
    sandbox.fault("youtube", times=None)
    sandbox.http.get("/youtube/watch")
    sandbox.http.post("/_control/reset").raise_for_status()
    assert sandbox.requests() == []
    assert sandbox.http.get("/_control/faults").json() == []


def test_settings_of_a_test_point_at_its_sandbox(sandbox: SandboxUnderTest, settings_env: Settings) -> None:
    endpoint = settings_env.endpoint("youtube")
    assert endpoint.mode == "sandbox"
    assert endpoint.base_url == f"{sandbox.url}/youtube/"
    assert settings_env.home_dir == sandbox.home
