"""Enough of Kubernetes' API for Dagster's run launcher, over podman: a Job that is made is a pod that podman plays.

Started by `play_overlay.py` within the network of its pods. Jobs are made, asked for and deleted; lists of pods and
events are empty. Not a cluster: nothing is scheduled, limited by quota or admitted.

    python scripts/podman_cluster.py PORT DIRECTORY PODMAN NETWORK < config-maps.json
"""

import json
import re
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

JOB = re.compile(r"/apis/batch/v1/namespaces/(?P<namespace>[^/]+)/jobs(?:/(?P<name>[^/?]+))?")
Document = dict[str, Any]
# Between a pod's name and its volume's.
OWN = "-own-"


def pod_of(name: str, template: Document, *, namespace: str, forever: bool) -> Document:
    """A pod as podman takes it: what the kernel enforces is kept, what only a cluster knows is left out.

    Probes and hooks are asked by the kubelet, which there is none of; whoever plays the pod asks in its place.
    """
    spec = json.loads(json.dumps(template["spec"]))
    for unknown in ("topologySpreadConstraints", "serviceAccountName", "priorityClassName"):
        spec.pop(unknown, None)
    renamed: dict[str, str] = {}
    for volume in spec["volumes"]:
        if "emptyDir" in volume:
            # To podman it is a volume of that name, which every pod would share and the next one find again.
            renamed[volume["name"]] = volume["name"] = f"{name}{OWN}{volume['name']}"
        # podman mounts no secret as files: see play_overlay.py.
        if secret := volume.pop("secret", None):
            volume["configMap"] = {"name": f"{secret['secretName']}-secret"}
    for mount in (mount for container in spec["containers"] for mount in container.get("volumeMounts", [])):
        mount["name"] = renamed.get(mount["name"], mount["name"])
    spec["restartPolicy"] = "Always" if forever else "Never"
    known = {"metadata.namespace": namespace, "metadata.name": name, "metadata.uid": f"uid-of-{name}"}
    for container in spec["containers"]:
        container["imagePullPolicy"] = "Never"
        for field in ("startupProbe", "readinessProbe", "livenessProbe", "lifecycle", "ports"):
            container.pop(field, None)
        for row in container.get("env", []):
            if path := row.get("valueFrom", {}).get("fieldRef", {}).get("fieldPath"):
                del row["valueFrom"]
                row["value"] = known[path]
    labels = template["metadata"].get("labels", {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


class Podman:
    """podman as scripts/build_images.sh set it up, its pods in one network or in none."""

    def __init__(self, program: str, directory: Path, network: str | None = None) -> None:
        self.program, self.directory, self.network = program, directory, network

    def __call__(self, *words: str, check: bool = True) -> str:
        # Within the pods' network: podman takes none by name for a pod, only its host's, which is then theirs.
        inside = ["nsenter", f"--net=/run/netns/{self.network}"] if self.network else []
        done = subprocess.run([*inside, self.program, *words], capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise RuntimeError(f"podman {' '.join(words[:3])}: {done.stderr.strip()}")
        return done.stdout.strip()

    def play(self, pod: Document, config_maps: list[Document]) -> None:
        path = self.directory / f"{pod['metadata']['name']}.yaml"
        path.write_text("\n---\n".join(json.dumps(document) for document in (*config_maps, pod)))
        path.chmod(0o600)
        self("kube", "play", "--quiet", f"--network={'host' if self.network else 'none'}", str(path))

    def remove(self, pod: str, *, patience_s: int = 10) -> None:
        """The pod and what it kept for itself."""
        self("pod", "rm", "--force", f"--time={patience_s}", pod, check=False)
        for volume in self("volume", "ls", "--format={{.Name}}").splitlines():
            if volume.startswith(f"{pod}{OWN}"):
                self("volume", "rm", volume, check=False)

    def log(self, pod: str, lines: int = 40) -> str:
        """The last words of a pod's container, of both streams."""
        found = self.container(pod)
        if found is None:
            return ""
        done = subprocess.run(
            [self.program, "logs", f"--tail={lines}", found["Name"]],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        return done.stdout[-4000:]

    def container(self, pod: str) -> Document | None:
        """What podman knows of the pod's one container that is not the pause."""
        found = json.loads(self("ps", "--all", "--pod", "--format=json"))
        names = [row["Names"][0] for row in found if row["PodName"] == pod and not row["IsInfra"]]
        return json.loads(self("inspect", names[0]))[0] if names else None


class Cluster:
    """Jobs by name, their pods at podman."""

    def __init__(self, podman: Podman, config_maps: list[Document]) -> None:
        self.podman, self.config_maps = podman, config_maps
        self.jobs: dict[str, Document] = {}

    def create(self, namespace: str, job: Document) -> Document:
        name = job["metadata"]["name"]
        (self.podman.directory / f"job-{name}.json").write_text(json.dumps(job))
        pod = pod_of(name, job["spec"]["template"], namespace=namespace, forever=False)
        _without_sub_paths(pod)
        self.podman.play(pod, self.config_maps)
        job["metadata"] |= {"uid": f"uid-of-{name}", "namespace": namespace}
        self.jobs[name] = job
        return job

    def status(self, name: str) -> Document | None:
        if name not in self.jobs:
            return None
        state = (self.podman.container(name) or {}).get("State", {})
        if state.get("Status") == "exited":
            status = {"succeeded": 1} if state["ExitCode"] == 0 else {"failed": 1}
        else:
            status = {"active": 1}
        return self.jobs[name] | {"status": status}

    def delete(self, name: str) -> bool:
        if name in self.jobs:
            self.podman.remove(name, patience_s=60)
        return self.jobs.pop(name, None) is not None


def _without_sub_paths(pod: Document) -> None:
    """podman mounts whole ConfigMaps: dagster.yaml alone, in the launcher's Job, becomes its directory."""
    for container in pod["spec"]["containers"]:
        for mount in container["volumeMounts"]:
            if mount.pop("subPath", None):
                mount["mountPath"] = str(Path(mount["mountPath"]).parent)


class Handler(BaseHTTPRequestHandler):
    cluster: Cluster
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def _answer(self, document: Document | None, status: int = 200) -> None:
        if document is None:
            status, document = (
                404,
                {"kind": "Status", "status": "Failure", "code": 404, "message": "not found"},
            )
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _body(self) -> Document:
        return dict(json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}"))

    def do_GET(self) -> None:
        if found := JOB.match(self.path):
            self._answer(self.cluster.status(found["name"] or ""))
        else:
            self._answer({"kind": "List", "items": [], "metadata": {}})

    def do_POST(self) -> None:
        body, found = self._body(), JOB.match(self.path)
        try:
            self._answer(self.cluster.create(found["namespace"], body) if found else None, 201)
        except RuntimeError as error:
            self._answer({"kind": "Status", "status": "Failure", "code": 422, "message": str(error)}, 422)

    def do_DELETE(self) -> None:
        self._body()
        found = JOB.match(self.path)
        known = found is not None and self.cluster.delete(found["name"] or "")
        self._answer({"kind": "Status", "status": "Success"} if known else None)


def main() -> None:
    port, directory, program, network = sys.argv[1:]
    podman = Podman(program, Path(directory), network)
    Handler.cluster = Cluster(podman, json.load(sys.stdin))
    ThreadingHTTPServer(("127.0.0.1", int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
