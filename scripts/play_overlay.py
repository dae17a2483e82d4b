"""Runs the dev overlay on this machine with `podman kube play`, and has a run do its work in a pod of its own.

The images are those of `build_images.sh`. Every Deployment of the overlay but the sign-in is played as a pod, with the
user, the read-only root, the capabilities, the limits and the settings of the manifests, in a network that nobody else
is in. Probes are asked as the manifests have them. Dagster's launcher makes its Jobs at `podman_cluster.py`. For root.
What was found is printed as it goes; exit 0 only if all of it held.

    python scripts/play_overlay.py [--keep]
"""

import argparse
import base64
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc
from podman_cluster import Document, Podman, pod_of

ROOT = Path(__file__).resolve().parents[1]
NAMESPACE, API_PORT = "ettametta", 6443
INSTANCE = "/srv/ettametta/dagster"
# In the order of who needs whom; Jobs are waited for.
SERVERS = ("postgres", "store", "redis", "pgbouncer")
SERVICES = ("code", "webserver", "webserver-readonly", "daemon", "gateway", "metrics")
# Other projects' images, which no registry brings here: Debian's programs under the same settings.
STAND_INS = {
    "postgres": """
export PGPASSWORD=$POSTGRES_PASSWORD PGUSER=$POSTGRES_USER PGHOST=/tmp
if [ ! -e $PGDATA/PG_VERSION ]; then
  echo $POSTGRES_PASSWORD >/tmp/password
  initdb --encoding=UTF8 --auth=scram-sha-256 --username=$PGUSER --pwfile=/tmp/password
  pg_ctl -w -o '-c listen_addresses= -k /tmp' start
  createdb $POSTGRES_DB
  psql -d $POSTGRES_DB -f /docker-entrypoint-initdb.d/databases.sql
  pg_ctl -w stop
fi
exec postgres -c 'listen_addresses=*' -c unix_socket_directories=/tmp
""",
    "store": "exec moto_server --host 0.0.0.0 --port 9000",
    # 1.18 does not know the setting; what it is for is not needed, see docs/production.md.
    "pgbouncer": """
grep -v max_prepared_statements /etc/pgbouncer/pgbouncer.ini >/tmp/pgbouncer.ini
exec pgbouncer /tmp/pgbouncer.ini
""",
    "redis": None,
}  # fmt: skip
# Who is asked what, within the pods' network, and what has to be in the answer.
PAGES = (
    ("http://127.0.0.1:3000/server_info", "dagster_webserver_version"),
    ("http://127.0.0.1:3000/", "<title"),
    ("http://127.0.0.1:8000/livez", ""),
    ("http://127.0.0.1:8000/readyz", '"ready":true'),
    ("http://127.0.0.1:8000/metrics", "ettametta_http_requests_total"),
    ("http://127.0.0.1:9464/metrics", 'ettametta_exporter_up{part="dagster"} 1.0'),
    ("http://127.0.0.1:9464/metrics", 'ettametta_exporter_up{part="state"} 1.0'),
)
# One network has each port once: the read-only UI listens elsewhere.
MOVED = {"webserver-readonly": 3001}
LAUNCH = """mutation ($of: ExecutionParams!) { launchRun(executionParams: $of) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status tags { key value } } } }"
RELOAD = "{ repositoriesOrError { ... on RepositoryConnection { nodes { name jobs { name } } } } }"


def tell(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


class Play:
    """One playing of the overlay: its documents, its network, its pods."""

    def __init__(self, images: Path, directory: Path) -> None:
        self.network = f"ettametta-{os.getpid()}"
        self.directory = directory
        self.podman = Podman(str(images / "podman"), directory, self.network)
        rendered = subprocess.run(
            ["kubectl", "kustomize", str(ROOT / "k8s/overlays/dev")],
            capture_output=True,
            text=True,
            check=True,
        )
        self.documents: list[Document] = list(yaml.safe_load_all(rendered.stdout))
        self.config_maps = [one for one in self.documents if one["kind"] == "ConfigMap"]
        # podman mounts no secret that it was not told of by its own means; files of one go the way of settings.
        self.config_maps += [_as_files(self.named("Secret", "ettametta-pgbouncer"))]
        # Services: every pod is on one network, where a service's name is the machine itself.
        services = [one["metadata"]["name"] for one in self.documents if one["kind"] == "Service"]
        (images / "hosts").write_text(f"127.0.0.1 localhost {' '.join(services)}\n")
        self.pods: list[str] = []
        self.failed = 0

    def named(self, kind: str, name: str) -> Document:
        (found,) = [one for one in self.documents if one["kind"] == kind and one["metadata"]["name"] == name]
        return found

    def say(self, what: str, held: bool, words: str = "") -> None:
        self.failed += not held
        tell(f"{'ok ' if held else 'NOT'}  {what}{': ' + words if words else ''}")

    def prepare(self) -> None:
        """Secrets, and the one change to the settings: where the cluster's API is."""
        for secret in (one for one in self.documents if one["kind"] == "Secret"):
            path = self.directory / "secret.json"
            path.write_text(json.dumps(secret["data"]))
            path.chmod(0o600)
            self.podman("secret", "rm", secret["metadata"]["name"], check=False)
            self.podman("secret", "create", secret["metadata"]["name"], str(path))
            path.unlink()
        # What talks to the cluster finds it by this, in place of a token and the address that a cluster gives its pods.
        self.named("ConfigMap", "ettametta-settings")["data"]["KUBECONFIG"] = f"{INSTANCE}/kubeconfig"
        data = self.named("ConfigMap", "ettametta-dagster")["data"]
        settings = yaml.safe_load(data["dagster.yaml"])
        settings["run_launcher"]["config"] |= {
            "load_incluster_config": False, "kubeconfig_file": f"{INSTANCE}/kubeconfig",
        }  # fmt: skip
        data["dagster.yaml"] = yaml.safe_dump(settings, sort_keys=False)
        here = {"name": "here", "cluster": {"server": f"http://127.0.0.1:{API_PORT}"}}
        data["kubeconfig"] = yaml.safe_dump({
            "apiVersion": "v1", "kind": "Config", "clusters": [here], "users": [{"name": "here", "user": {}}],
            "contexts": [{"name": "here", "context": {"cluster": "here", "user": "here"}}], "current-context": "here",
        })  # fmt: skip

    def play(self, name: str, template: Document, *, forever: bool) -> None:
        pod = pod_of(name, template, namespace=NAMESPACE, forever=forever)
        short = name.removeprefix("ettametta-")
        if short in STAND_INS:
            container = pod["spec"]["containers"][0]
            container["image"] = "localhost/ettametta-servers:dev"
            if script := STAND_INS[short]:
                container |= {"command": ["sh", "-c", script.strip()]}
        if short in MOVED:
            container = pod["spec"]["containers"][0]
            container["args"] = [
                f"--port={MOVED[short]}" if "--port" in word else word for word in container["args"]
            ]
        self.pods.append(name)
        self.podman.play(pod, self.config_maps)

    def deployment(self, short: str) -> None:
        """Play a Deployment and wait until its own probe says that it is there."""
        template = self.named("Deployment", f"ettametta-{short}")["spec"]["template"]
        begun = time.monotonic()
        self.play(f"ettametta-{short}", template, forever=True)
        container = template["spec"]["containers"][0]
        probe = container.get("readinessProbe") or container["livenessProbe"]
        ports = {port["name"]: port["containerPort"] for port in container.get("ports", [])}
        ready = self.until(lambda: self.answers(short, probe, ports), 240)
        kind = next(kind for kind in probe if kind in ("httpGet", "tcpSocket", "grpc", "exec"))
        self.say(f"{short} is ready", ready, f"{kind}, {time.monotonic() - begun:.0f} s")
        if not ready:
            tell(self.podman.log(f"ettametta-{short}"))

    def job(self, name: str, template: Document) -> None:
        self.play(name, template, forever=False)
        state: Document = {}

        def ended() -> bool:
            nonlocal state
            state = (self.podman.container(name) or {}).get("State", {})
            return state.get("Status") == "exited"

        self.until(ended, 300)
        words = self.podman.log(name).splitlines()
        self.say(f"the job {name} ended well", state.get("ExitCode") == 0, " / ".join(words[-3:])[-200:])

    def answers(self, short: str, probe: Document, ports: dict[str, int]) -> bool:
        kind = next(key for key in probe if key in ("httpGet", "tcpSocket", "grpc", "exec"))
        if kind == "exec":
            container = self.podman.container(f"ettametta-{short}")
            try:
                # In the pods' network, as everything of podman's: what is executed in a pod keeps that of its caller.
                self.podman("exec", container["Name"] if container else "none", *probe["exec"]["command"])
            except RuntimeError:
                return False
            return True
        port = ports.get(probe[kind]["port"], probe[kind]["port"])
        return self.inside({"ask": kind, **probe[kind], "port": MOVED.get(short, port)}) is not None

    def inside(self, question: Document) -> str | None:
        """Ask from within the pods' network. None where the answer is no."""
        done = subprocess.run(
            ["nsenter", f"--net=/run/netns/{self.network}", sys.executable, __file__, "--ask", json.dumps(question)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.stdout if done.returncode == 0 else None

    def graphql(self, query: str, port: int = 3000, **variables: object) -> Document:
        body = json.dumps({"query": query, "variables": variables})
        text = self.inside({"ask": "post", "url": f"http://127.0.0.1:{port}/graphql", "body": body})
        return dict(json.loads(text or "{}"))

    def until(self, holds: Callable[[], bool], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if holds():
                return True
            time.sleep(1)
        return False

    def is_caged(self, short: str) -> None:
        """What the kernel says of a running container: user, capabilities, privileges, filter, root, memory."""
        container = self.podman.container(f"ettametta-{short}") or {}
        script = "id -u; touch /x 2>&1; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/1/status"
        said = self.podman("exec", container["Name"], "sh", "-c", script, check=False)
        lines = said.split()
        held = (
            lines[:1] == ["10001"] and "Read-only" in said and "CapEff: 0000000000000000" in " ".join(lines)
            and "NoNewPrivs: 1" in " ".join(lines) and "Seccomp: 2" in " ".join(lines)
        )  # fmt: skip
        limit = container["HostConfig"]["Memory"] // 2**20
        self.say(
            f"{short} runs as 10001 on a read-only root, without capabilities",
            held and limit > 0,
            f"{limit} MiB",
        )
        if not held:
            tell(said)

    def run(self, job: str) -> None:
        """Launch a job through the UI's API; daemon, launcher and pod do the rest."""
        answer = self.graphql(LAUNCH, of=execution(job))
        launched = answer.get("data", {}).get("launchRun", {})
        if launched.get("__typename") != "LaunchRunSuccess":
            self.say(f"{job} is launched", False, json.dumps(answer)[:400])
            return
        run, found = launched["run"]["runId"], {}

        def ended() -> bool:
            nonlocal found
            found = self.graphql(STATUS, id=run).get("data", {}).get("runOrError", {})
            return found.get("status") in ("SUCCESS", "FAILURE", "CANCELED")

        self.until(ended, 300)
        size = {tag["key"]: tag["value"] for tag in found.get("tags", [])}.get("ettametta/size")
        pod = f"dagster-run-{run}"
        self.pods.append(pod)
        container = self.podman.container(pod) or {"State": {}, "Config": {}, "HostConfig": {"Memory": 0}}
        held = found.get("status") == "SUCCESS" and container["State"].get("ExitCode") == 0
        self.say(
            f"the run of {job} ended well in a pod of its own", held,
            f"size {size}, user {container['Config'].get('User')}, {container['HostConfig']['Memory'] // 2**20} MiB",
        )  # fmt: skip
        if not held:
            tell(f"{json.dumps(found)[:500]}\n{self.podman.log(pod)}")

    @contextmanager
    def around(self, *, keep: bool) -> Iterator[None]:
        """The network, and the API that Jobs are made at; both and every pod are gone afterwards."""
        subprocess.run(["ip", "netns", "add", self.network], check=True)
        subprocess.run(["ip", "-n", self.network, "link", "set", "lo", "up"], check=True)
        self.prepare()
        api = subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{self.network}", sys.executable, str(ROOT / "scripts/podman_cluster.py"),
             str(API_PORT), str(self.directory), self.podman.program, self.network],
            stdin=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert api.stdin is not None
        json.dump(self.config_maps, api.stdin)
        api.stdin.close()
        try:
            yield
        finally:
            if keep:
                tell(
                    f"Kept: network {self.network}, pods of {self.podman.program}, the API is process {api.pid}."
                )
            else:
                api.terminate()
                api.wait()
                # Schedules and sensors may have had runs of their own.
                runs = self.podman("pod", "ps", "--filter=name=dagster-run", "--format={{.Name}}").split()
                for pod in {*self.pods, *runs}:
                    self.podman.remove(pod)
                subprocess.run(["ip", "netns", "delete", self.network], check=True)


def _as_files(secret: Document) -> Document:
    data = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    name = f"{secret['metadata']['name']}-secret"
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def execution(job: str) -> Document:
    """What the UI sends to launch a job."""
    location = {"repositoryLocationName": "ettametta_pipelines", "repositoryName": "__repository__"}
    return {"selector": {**location, "jobName": job}, "mode": "default"}


def ask(question: Document) -> str:
    """One question of a probe or a page, as the kubelet or a browser asks it; anything but yes raises."""
    kind, port = question["ask"], question.get("port")
    if kind == "tcpSocket":
        socket.create_connection(("127.0.0.1", int(port or 0)), timeout=5).close()
        return ""
    if kind == "grpc":
        stub = health_pb2_grpc.HealthStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
        answer = stub.Check(health_pb2.HealthCheckRequest(service=question.get("service", "")), timeout=5)
        if answer.status != health_pb2.HealthCheckResponse.SERVING:
            raise OSError("not serving")
        return ""
    url = question.get("url") or f"http://127.0.0.1:{port}{question['path']}"
    data = question["body"].encode() if "body" in question else None
    asked = urllib.request.Request(
        url, data=data, headers={"Content-Type": "application/json"} if data else {}
    )
    try:
        return str(urllib.request.urlopen(asked, timeout=30).read().decode())
    except urllib.error.HTTPError as error:
        return f"HTTP {error.code} {error.read().decode()}" if data else _refuse(error)


def _refuse(error: urllib.error.HTTPError) -> str:
    raise OSError(f"HTTP {error.code}")


def perform(play: Play) -> None:
    for short in SERVERS:
        play.deployment(short)
    store = play.podman.container("ettametta-store") or {}
    who = "aws_access_key_id='dev', aws_secret_access_key='dev', region_name='us-east-1'"
    client = f"boto3.client('s3', endpoint_url='http://127.0.0.1:9000', {who})"
    make = f"import boto3; {client}.create_bucket(Bucket='ettametta')"
    play.podman("exec", store["Name"], "/opt/moto/bin/python", "-c", make)
    play.job("ettametta-migrate", play.named("Job", "ettametta-migrate")["spec"]["template"])
    for short in SERVICES:
        play.deployment(short)
    for short in (*SERVERS, *SERVICES):
        play.is_caged(short)
    for url, wanted in PAGES:
        answer = play.inside({"ask": "page", "url": url})
        play.say(f"{url} answers", answer is not None and wanted in answer, wanted)
    nodes = play.graphql(RELOAD).get("data", {}).get("repositoriesOrError", {}).get("nodes", [])
    play.say(
        "the UI has the definitions of the code location",
        bool(nodes),
        f"{len(nodes[0]['jobs']) if nodes else 0} jobs",
    )
    refused = json.dumps(play.graphql(LAUNCH, MOVED["webserver-readonly"], of=execution("morning_page")))
    play.say("the read-only UI launches nothing", "UnauthorizedError" in refused, refused[:120])
    play.run("morning_page")
    sweep = play.named("CronJob", "ettametta-janitor")["spec"]["jobTemplate"]["spec"]["template"]
    play.job("ettametta-janitor", sweep)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--keep", action="store_true", help="leave the pods running")
    parser.add_argument("--ask", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.ask:
        try:
            sys.stdout.write(ask(json.loads(asked.ask)))
        except (OSError, grpc.RpcError) as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return 0
    images = Path(os.environ.get("IMAGES_DIR", ROOT / ".ettametta/images")).resolve()
    directory = Path(tempfile.mkdtemp(prefix="ettametta-play-"))
    play = Play(images, directory)
    with play.around(keep=asked.keep):
        perform(play)
    if not asked.keep:
        shutil.rmtree(directory)
    tell(f"{play.failed} did not hold." if play.failed else "All of it held.")
    return int(play.failed > 0)


if __name__ == "__main__":
    sys.exit(main())
