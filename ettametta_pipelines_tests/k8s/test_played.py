"""What `make images` plays: pods that Kubernetes would take too, and the stand-in for its API, whose Jobs podman runs.

podman itself is not asked here: that is the command's own work, for a machine where it can run.
"""

import importlib.util
import json
import stat
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import pytest
from kubernetes import client

from ettametta_pipelines_tests.k8s.rendered import ROOT, of_kind, render, run_job

# Knows one container and keeps what it was told to play.
PODMAN = """#!/bin/sh
case $1 in
  kube) for file in "$@"; do :; done; cp "$file" "$0.played" ;;
  ps) echo '[{"Names": ["one"], "PodName": "'$(cat "$0.name")'", "IsInfra": false}]' ;;
  inspect) cat "$0.state" ;;
esac
"""


@pytest.fixture(scope="module")
def played() -> ModuleType:
    spec = importlib.util.spec_from_file_location("podman_cluster", ROOT / "scripts/podman_cluster.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def podman(tmp_path: Path) -> Path:
    program = tmp_path / "podman"
    program.write_text(PODMAN)
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.fixture
def jobs(played: ModuleType, podman: Path) -> Iterator[client.BatchV1Api]:
    class Handler(played.Handler):  # type: ignore[name-defined, misc]
        cluster = played.Cluster(played.Podman(str(podman), podman.parent), [])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    configuration = client.Configuration(host=f"http://127.0.0.1:{server.server_port}")
    yield client.BatchV1Api(client.ApiClient(configuration))
    server.shutdown()
    server.server_close()


def test_a_played_pod_keeps_what_the_kernel_enforces(played: ModuleType) -> None:
    import kubernetes_validate

    for deployment in of_kind(render("dev"), "Deployment"):
        template = deployment["spec"]["template"]
        pod = played.pod_of(deployment["metadata"]["name"], template, namespace="ettametta", forever=True)
        kubernetes_validate.validate(pod, "1.37", strict=True)
        assert pod["spec"]["securityContext"] == template["spec"]["securityContext"]
        for made, wanted in zip(pod["spec"]["containers"], template["spec"]["containers"], strict=True):
            for name in ("securityContext", "resources", "image"):
                assert made.get(name) == wanted.get(name)
            paths = [mount["mountPath"] for mount in made["volumeMounts"]]
            assert paths == [mount["mountPath"] for mount in wanted["volumeMounts"]]
            assert not any("fieldRef" in row.get("valueFrom", {}) for row in made.get("env", []))


def test_scratch_is_a_pods_own(played: ModuleType) -> None:
    # podman made one volume `scratch` of all of them once: Postgres' password lay in every pod's /tmp.
    names = [
        volume["name"]
        for deployment in of_kind(render("dev"), "Deployment")
        for volume in played.pod_of(
            deployment["metadata"]["name"], deployment["spec"]["template"], namespace="x", forever=True
        )["spec"]["volumes"]
        if "emptyDir" in volume
    ]
    assert len(names) == len(set(names)) > 10


def test_the_launchers_job_becomes_a_pod_and_its_end_the_jobs(jobs: client.BatchV1Api, podman: Path) -> None:
    job = run_job("dev", "renditions")
    name = job["metadata"]["name"]
    Path(f"{podman}.name").write_text(name)
    Path(f"{podman}.state").write_text('[{"State": {"Status": "running", "ExitCode": 0}}]')
    jobs.create_namespaced_job("ettametta", job)
    pod = json.loads(Path(f"{podman}.played").read_text())
    assert pod["metadata"]["name"] == name
    assert pod["spec"]["restartPolicy"] == "Never"
    assert not any("subPath" in mount for mount in pod["spec"]["containers"][0]["volumeMounts"])
    assert jobs.read_namespaced_job_status(name, "ettametta").status.active == 1
    Path(f"{podman}.state").write_text('[{"State": {"Status": "exited", "ExitCode": 1}}]')
    assert jobs.read_namespaced_job_status(name, "ettametta").status.failed == 1
    jobs.delete_namespaced_job(name, "ettametta")
    with pytest.raises(client.ApiException, match="404"):
        jobs.read_namespaced_job_status(name, "ettametta")
