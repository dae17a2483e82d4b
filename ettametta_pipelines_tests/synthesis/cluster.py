"""A Kubernetes API over HTTP that runs a pod's command as a process of this machine, and has every accident on demand.

Only what the pod client asks for: pods by create, get, list, patch and delete, and their log, followed and cut.
Details that matter are those of a real server: no container status while a pod waits, NotFound bodies, nanosecond
stamps.
"""

import itertools
import json
import os
import re
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

POD = re.compile(r"/api/v1/namespaces/[^/]+/pods(?:/([^/?]+)(/log)?)?$")


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class RunningPod:
    """One pod: its document, its log, its process."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.log: list[tuple[str, str]] = []
        self.process: subprocess.Popen[bytes] | None = None
        self.is_over = threading.Event()
        self.has_sidecar = False

    def status(self, phase: str, *, state: dict[str, Any] | None = None, **fields: Any) -> None:
        status = {"phase": phase, "conditions": self.document["status"].get("conditions", []), **fields}
        if state is not None:
            status["containerStatuses"] = [_container("worker", state)]
            if self.has_sidecar:
                running = {"running": {"startedAt": now()}}
                status["containerStatuses"].insert(0, _container("mesh", running))
                status["phase"] = "Pending" if phase == "Pending" else "Running"
        self.document["status"] = status

    def condition(self, kind: str, status: str, reason: str, message: str) -> None:
        others = [c for c in self.document["status"].get("conditions", []) if c["type"] != kind]
        said = {"type": kind, "status": status, "reason": reason, "message": message}
        self.document["status"]["conditions"] = [*others, said]


def _container(name: str, state: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}


class Cluster:
    """The stand-in. Set the accidents before a pod is created; `requests` holds what was asked."""

    def __init__(self, program: list[str]) -> None:
        self.program = program
        self.pods: dict[str, RunningPod] = {}
        self.requests: list[str] = []
        self.created: list[dict[str, Any]] = []
        self.faults: list[tuple[str, int, str]] = []
        self.unschedulable = self.image_missing = self.injects_sidecar = self.node_is_lost = False
        self.cut_log_after: int | None = None
        self.forget_answer_of_create = False
        self.on_running: Callable[[RunningPod], None] = lambda pod: None
        self._uids = itertools.count(1)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"cluster": self}))
        self._server.daemon_threads = True
        # Who asked may be killed before it has its answer.
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    @property
    def api(self) -> client.CoreV1Api:
        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{self._server.server_port}"
        configuration.retries = False
        return client.CoreV1Api(client.ApiClient(configuration))

    def fail(self, method: str, *statuses: int, message: str = "etcdserver: request timed out") -> None:
        """The next requests of this kind (`POST`, `GET`, `DELETE`, `LOG`) are answered with these statuses."""
        self.faults += [(method, status, message) for status in statuses]

    def count(self, method: str) -> int:
        return sum(request.startswith(method + " ") for request in self.requests)

    @property
    def only(self) -> RunningPod:
        (pod,) = self.pods.values()
        return pod

    def vanish(self, pod: RunningPod) -> None:
        """As when a node is reclaimed: the process dies and the pod is no more."""
        self.pods.pop(pod.document["metadata"]["name"], None)
        self._kill(pod)

    def create(self, document: dict[str, Any]) -> RunningPod:
        document["metadata"] |= {
            "uid": f"uid-{next(self._uids)}",
            "creationTimestamp": now(),
            "resourceVersion": "1",
        }
        document["status"] = {"phase": "Pending"}
        pod = self.pods[document["metadata"]["name"]] = RunningPod(document)
        pod.has_sidecar = self.injects_sidecar
        self.created.append(document)
        threading.Thread(target=self._live, args=(pod,), daemon=True).start()
        return pod

    def _live(self, pod: RunningPod) -> None:
        time.sleep(0.05)
        if self.unschedulable:
            words = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
            pod.condition("PodScheduled", "False", "Unschedulable", words)
            return
        pod.condition("PodScheduled", "True", "", "")
        pod.document["spec"]["nodeName"] = "gpu-node-1"
        if self.image_missing:
            waiting = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "nowhere/worker:1"'}
            pod.status("Pending", state={"waiting": waiting})
            return
        self._run(pod)

    def _run(self, pod: RunningPod) -> None:
        container = pod.document["spec"]["containers"][0]
        env = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
        pod.process = subprocess.Popen(
            [*self.program, *container["args"]],
            env={**os.environ, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        pod.status("Running", state={"running": {"startedAt": now()}})
        readers = [
            threading.Thread(target=self._read, args=(pod, stream), daemon=True)
            for stream in (pod.process.stdout, pod.process.stderr)
        ]
        for reader in readers:
            reader.start()
        self.on_running(pod)
        code = pod.process.wait()
        for reader in readers:
            reader.join()
        code = 128 - code if code < 0 else code
        ended = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
        if "ended" in pod.document:
            ended |= pod.document["ended"]
        pod.status("Succeeded" if code == 0 else "Failed", state={"terminated": ended})
        pod.is_over.set()

    def _read(self, pod: RunningPod, stream: Any) -> None:
        for line in stream:
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + f"{len(pod.log) % 1000:03}Z"
            pod.log.append((stamp, line.decode().rstrip("\n")))

    def _kill(self, pod: RunningPod) -> None:
        if pod.process is not None and pod.process.poll() is None:
            pod.process.kill()
            pod.process.wait()
        pod.is_over.set()

    def delete(self, name: str) -> bool:
        if self.node_is_lost and name in self.pods:
            # No kubelet confirms that it is gone, so it stays on its way out.
            self.pods[name].document["metadata"]["deletionTimestamp"] = now()
            return True
        pod = self.pods.pop(name, None)
        if pod is not None:
            self._kill(pod)
        return pod is not None

    def close(self) -> None:
        for pod in list(self.pods.values()):
            self._kill(pod)
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _no(self, status: int, message: str) -> None:
        self._answer(status, {"kind": "Status", "status": "Failure", "message": message, "code": status})

    def _faulty(self, method: str) -> bool:
        self.cluster.requests.append(f"{method} {self.path}")
        for fault in self.cluster.faults:
            if fault[0] == method:
                self.cluster.faults.remove(fault)
                self._no(fault[1], fault[2])
                return True
        return False

    def _body(self) -> dict[str, Any]:
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length) or b"{}")

    def _name(self) -> tuple[str | None, bool]:
        match = POD.search(urlsplit(self.path).path)
        assert match is not None
        return match[1], bool(match[2])

    def do_POST(self) -> None:
        document = self._body()
        if self._faulty("POST"):
            return None
        if document["metadata"]["name"] in self.cluster.pods:
            return self._no(409, "pods already exists")
        pod = self.cluster.create(document)
        if self.cluster.forget_answer_of_create:
            self.cluster.forget_answer_of_create = False
            return self._no(500, "the answer was lost")
        return self._answer(201, pod.document)

    def do_GET(self) -> None:
        name, is_log = self._name()
        if self._faulty("LOG" if is_log else "GET"):
            return None
        if name is None:
            pods = [pod.document for pod in self.cluster.pods.values()]
            return self._answer(200, {"kind": "PodList", "items": pods})
        pod = self.cluster.pods.get(name)
        if pod is None:
            return self._no(404, f'pods "{name}" not found')
        return self._log(pod) if is_log else self._answer(200, pod.document)

    def do_PATCH(self) -> None:
        changes = self._body()
        if self._faulty("PATCH"):
            return
        pod = self.cluster.pods[self._name()[0] or ""]
        meta = pod.document["metadata"]
        meta["labels"] = {**meta.get("labels", {}), **changes["metadata"].get("labels", {})}
        meta["resourceVersion"] = str(int(meta["resourceVersion"]) + 1)
        meta["ownerReferences"] = changes["metadata"].get("ownerReferences", [])
        self._answer(200, pod.document)

    def do_DELETE(self) -> None:
        wanted = self._body().get("preconditions") or {}
        if self._faulty("DELETE"):
            return
        name, _ = self._name()
        pod = self.cluster.pods.get(name or "")
        if pod is not None and any(pod.document["metadata"][key] != value for key, value in wanted.items()):
            self._no(409, "the precondition does not hold")
        elif self.cluster.delete(name or ""):
            self._answer(200, {"kind": "Status", "status": "Success"})
        else:
            self._no(404, f'pods "{name}" not found')

    def _log(self, pod: RunningPod) -> None:
        query = parse_qs(urlsplit(self.path).query)
        assert query.get("timestamps") == ["True"]
        if pod.has_sidecar and query.get("container") != ["worker"]:
            self._no(400, "a container name must be specified, choose one of: [mesh worker]")
            return
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        sent = 0
        while True:
            while sent < len(pod.log):
                data = " ".join(pod.log[sent]).encode() + b"\n"
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
                sent += 1
                if self.cluster.cut_log_after is not None and sent >= self.cluster.cut_log_after:
                    self.cluster.cut_log_after = None
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
            if pod.is_over.is_set() and sent >= len(pod.log):
                break
            time.sleep(0.02)
        self.wfile.write(b"0\r\n\r\n")
