"""A render node that answers oddly: what is no answer is asked again, what cannot be is said."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ettametta_pipelines.failures import PermanentError, PipelineError, TransientError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.synthesis.node_client import NodeDeadlines, NodeRunner
from ettametta_pipelines.synthesis.requests import ClipRequest

IMPATIENT = NodeDeadlines(queue_s=60, run_s=60, api_s=0.5, poll_s=0.05)
PAGE = b"<html>Just a moment ...</html>"
DONE = {"id": "j", "state": "done", "attempt": 1, "progress": None, "error": None, "outcomes": []}
CLIP = {
    "engine": "ltx", "model": "m", "request_key": "a" * 32, "object_key": "k", "sha256": "0" * 64, "seed": 1,
    "width": 64, "height": 64, "fps": 24.0, "frames": 9, "has_audio": False, "cost_microusd": 0,
}  # fmt: skip


class OddNode:
    """Answers every order with the same bytes; `first` once before."""

    def __init__(self) -> None:
        self.answer, self.first = b"", b""
        odd = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                return

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                body, odd.first = odd.first or odd.answer, b""
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def odd() -> Iterator[OddNode]:
    made = OddNode()
    yield made
    made.close()


def order(odd: OddNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PipelineError:
    monkeypatch.setenv("RENDER_NODE_URL", odd.url)
    monkeypatch.setenv("RENDER_NODE_SECRET", "secret")
    store = ObjectStore.from_url((tmp_path / "store").as_uri())
    runner = NodeRunner(Settings(_env_file=None), store, deadlines=IMPATIENT)
    with pytest.raises(PipelineError) as failed:
        runner.run("j", "ltx", "m", [ClipRequest("a kite", 0.4, 64, 64, 24, 1)])
    return failed.value


@pytest.mark.parametrize("answer", [PAGE, b"", b"[]", b'{"state": "done"}'])
def test_what_is_no_answer_of_a_node_is_asked_for_again_and_then_the_node_is_away(
    odd: OddNode, answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd.answer = answer
    failed = order(odd, tmp_path, monkeypatch)
    assert isinstance(failed, TransientError)
    assert failed.code == "render_node_unreachable"


@pytest.mark.parametrize(
    "outcome",
    [
        {"neither": {}},
        {"result": CLIP | {"from_a_later_version": 1}},
        {"failure": {"request_key": "a", "kind": "sad", "code": "", "message": "", "remedy": ""}},
        {"result": CLIP | {"request_key": "../../escape"}},
        {"result": CLIP | {"engine": "../../escape"}},
    ],
)
def test_outcomes_that_cannot_be_are_said_and_nothing_is_written(
    odd: OddNode, outcome: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The page comes first, as while the node behind its proxy is being started.
    odd.first, odd.answer = PAGE, json.dumps(DONE | {"outcomes": [outcome]}).encode()
    failed = order(odd, tmp_path, monkeypatch)
    assert isinstance(failed, PermanentError)
    assert failed.code == "render_node_nonsense"
    assert not (tmp_path / "store/media").exists()
