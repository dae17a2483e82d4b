"""Canaries in place of every secret, through a line with a refusal, a repetition and a crash: none is left behind.

Then Dagster's own processes go on over the same home: ticks that fail and a backfill whose runs fail. All of it once on
files and once on Postgres, whose whole dump is searched.
"""

import base64
import io
import json
import logging
import os
import re
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import dagster as dg
import httpx
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from fastapi.testclient import TestClient
from rich.console import Console

from ettametta_pipelines.automation.jobs import DISCOVERY_JOB
from ettametta_pipelines.clock import business_day_of, utc_now
from ettametta_pipelines.commands.demo import run_demo
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.discovery import youtube_collector
from ettametta_pipelines.gateway.app import create_gateway
from ettametta_pipelines.partitions import day_niche_key
from ettametta_pipelines.settings import VENDORS, Settings, get_settings
from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.databases import PostgresServer, find_postgres_binaries

MakeClip = Callable[..., Path]
MARK = "c4n4ry"
# Values with a form of their own; every other secret may be any text.
FORMS = {
    "stripe_secret_key": f"sk_test_{MARK}StripeKey0123456789",
    "stripe_webhook_secret": f"whsec_{MARK}Webhook0123456789",
    "postback_tokens": f"awin={MARK}-postback-0123456789",
    "encryption_keys": base64.urlsafe_b64encode(
        f"{MARK}-key-of-32-bytes-0123456789"[:32].encode().ljust(32)
    ).decode(),
    "shopify_access_token": f"shpat_{MARK}0123456789abcdef",
}
# Consent is asked at the vendors' fixed addresses, so channels are the sandbox's, with its stand-ins for secrets.
CHANNELS = ("google", "tiktok")
STAND_INS = ("sandbox-google-client-secret", "sandbox-tiktok-client-secret")
# Everything a viewer of the UI is answered: events and errors of runs, their configuration, what resources are
# configured with, ticks and their errors, backfills, descriptions of assets.
VIEWS = {
    "runs": """{ runsOrError { __typename ... on Runs { results { runId status runConfigYaml tags { key value }
        eventConnection(limit: 1000) { events { __typename ... on MessageEvent { message }
          ... on ErrorEvent { error { message stack errorChain { error { message stack } } } }
          ... on EngineEvent { metadataEntries { label description } }
          ... on ObservationEvent { metadataEntries { label description ... on TextMetadataEntry { text } } }
          ... on MaterializationEvent { metadataEntries { label description
            ... on TextMetadataEntry { text } ... on MarkdownMetadataEntry { mdStr } ... on UrlMetadataEntry { url }
            ... on JsonMetadataEntry { jsonString } ... on PathMetadataEntry { path } } } } } } } } }""",
    "repository": """{ repositoriesOrError { __typename ... on RepositoryConnection { nodes { name
        allTopLevelResourceDetails { name description configuredValues { key value type } }
        sensors { name description sensorState { ticks(limit: 50) { status skipReason
          error { message stack errorChain { error { message stack } } } } } }
        schedules { name scheduleState { ticks(limit: 50) { status
          error { message stack errorChain { error { message stack } } } } } }
        assetNodes { description metadataEntries { label description } } } } } }""",
    "backfills": """{ partitionBackfillsOrError { __typename ... on PartitionBackfills { results { id status
        tags { key value } error { message stack } } } } }""",
    "instance": """{ instance { info runLauncher { name }
        daemonHealth { allDaemonStatuses { lastHeartbeatErrors { message stack } } } } }""",
}
PAGES = ("/accounts", "/publications", "/links", "/billing", "/livez", "/readyz", "/metrics")
# Names of places rather than secrets, or none of this line's.
LEFT_OUT = {"database_url_raw", "smtp_url", "alert_webhooks", "shopify_shop_url", "vertex_project"}


# The code location as Dagster's processes load it here: of the ticks only two run, and those fail with all they know.
LOCATION = """
import os

import dagster as dg
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.settings import get_settings

defs = build_definitions(get_settings())

def fails(*_):
    try:
        raise KeyError("https://store/object?X-Amz-Signature=" + os.environ["AWS_SECRET_ACCESS_KEY"])
    except KeyError as error:
        raise RuntimeError("no answer with " + os.environ["YOUTUBE_API_KEY"]) from error

for sensor in defs.sensors:
    sensor._default_status = dg.DefaultSensorStatus.STOPPED
    if sensor.name == "upload_sensor":
        sensor._evaluation_fn, sensor._default_status = fails, dg.DefaultSensorStatus.RUNNING
for schedule in defs.schedules:
    schedule._default_status = dg.DefaultScheduleStatus.STOPPED
    if schedule.name == "FAILING":
        schedule._execution_fn, schedule._default_status = fails, dg.DefaultScheduleStatus.RUNNING
        schedule._cron_schedule = "* * * * *"
"""
FAILING_SCHEDULE = "nightly_webhooks"
TICK_SAID = b"RuntimeError: no answer with"
LAUNCH = """mutation Launch($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
BACKFILL = """query Status($id: String!) {
    partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } }
    runsOrError(filter: {tags: [{key: "dagster/backfill", value: $id}]}) { ... on Runs { results { status } } } }"""
ENDED = {"COMPLETED", "COMPLETED_SUCCESS", "COMPLETED_FAILED", "FAILED", "CANCELED"}
PATIENCE_S = 600.0
# Who may hold secrets in its environment: this process (a child is called like it until it becomes another), and
# Dagster's, which need them. What opens media, speaks or asks the kernel must not.
HOLDERS = (b"dagster", b"multiprocessing", b"ettametta_pipelines.cli", b"postgres")


@pytest.fixture(params=["files", pytest.param("postgres", marks=pytest.mark.postgres)])
def storage(
    request: pytest.FixtureRequest, settings_env: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Callable[[], Iterator[tuple[str, bytes]]]]:
    """Where state and Dagster's instance are; what the databases hold, beside the files of the home."""
    if request.param == "files":
        yield lambda: iter(())
        return
    server: PostgresServer = request.getfixturevalue("postgres")
    names = {"state": f"canaries_state_{uuid4().hex}", "instance": f"canaries_instance_{uuid4().hex}"}
    for name in names.values():
        server.execute(f"CREATE DATABASE {name}")
    # The server trusts whoever comes from this machine; the password is a canary.
    urls = {
        part: server.url(name).replace("tests@", f"tests:{MARK}-password-of-{part}@")
        for part, name in names.items()
    }
    file = yaml.safe_load((Path(__file__).parents[2] / "dagster.yaml").read_text())
    file["storage"] = {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}
    (tmp_path / "instance.yaml").write_text(yaml.safe_dump(file))
    monkeypatch.setenv("ETTAMETTA_INSTANCE_FILE", str(tmp_path / "instance.yaml"))
    monkeypatch.setenv("DATABASE_URL", urls["state"])
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", urls["instance"].replace("+psycopg:", "+psycopg2:"))
    yield lambda: (text for name in names.values() for text in dumped(server.url(name)))
    for name in names.values():
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def dumped(url: str) -> Iterator[tuple[str, bytes]]:
    """A whole dump of a database, and its binary columns as they are and unpacked."""
    binaries = find_postgres_binaries()
    assert binaries is not None
    done = subprocess.run(
        [binaries / "pg_dump", "--dbname", url.replace("+psycopg", "")], capture_output=True, check=True
    )
    yield f"dump of {url}", done.stdout
    for number, found in enumerate(re.findall(rb"\\x((?:[0-9a-f]{2}){8,})", done.stdout)):
        body = bytes.fromhex(found.decode())
        yield f"dump of {url}, binary {number}", body
        with suppress(zlib.error):
            yield f"dump of {url}, binary {number} unpacked", zlib.decompress(body)


@pytest.fixture
def canaries(storage: object, settings_env: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    """Every secret is set, and every vendor is asked as if it were live, at the sandbox's address."""
    addresses = {
        spec.base_url_field: settings_env.endpoint(name).base_url
        for name, spec in VENDORS.items()
        if name not in CHANNELS
    }
    for setting, address in addresses.items():
        monkeypatch.setenv(setting.upper(), address)
    monkeypatch.setenv("SHOPIFY_SHOP_URL", "a-shop.myshopify.com")
    for name, field in Settings.model_fields.items():
        if "SecretStr" in str(field.annotation) and name not in LEFT_OUT and not name.startswith(CHANNELS):
            value = FORMS.get(name, f"{MARK}-{name.replace('_', '-')}-0123456789")
            monkeypatch.setenv(str(field.alias or name).upper(), value)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


class Children:
    """Watches what the processes this one starts are called with, and what those that need no secret find in theirs."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.environments = 0
        self._own = Path("/proc/self/cmdline").read_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Children":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.05):
            for pid in descendants(os.getpid()):
                with suppress(OSError):
                    called = Path(f"/proc/{pid}/cmdline").read_bytes()
                    may_hold = called == self._own or any(word in called for word in HOLDERS)
                    held = b"" if may_hold else Path(f"/proc/{pid}/environ").read_bytes()
                    self.environments += not may_hold
                    self.seen.add(called + b"\0" + held)


def descendants(ancestor: int) -> set[int]:
    """Processes started by one, and by those."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # The name of the program, in brackets, may hold anything.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found = {ancestor}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {ancestor}


def texts_of(home: Path) -> Iterator[tuple[str, bytes]]:
    """Everything under the home but the sandbox's own, which stands for the vendors, with compressed parts opened."""
    for file in sorted(home.rglob("*")):
        if not file.is_file() or file.is_relative_to(home / "sandbox"):
            continue
        yield str(file), file.read_bytes()
        if file.suffix == ".parquet":
            yield f"{file} (rows)", str(pq.read_table(file).to_pylist()).encode()
        elif file.suffix == ".db":
            yield from ((f"{file} (snapshots)", body) for body in snapshots_in(file))


def snapshots_in(database: Path) -> Iterator[bytes]:
    """Dagster's compressed snapshots of jobs and their configuration."""
    with closing(sqlite3.connect(database)) as connection:
        tables = {name for (name,) in connection.execute("select name from sqlite_master")}
        if "snapshots" in tables:
            for (body,) in connection.execute("select snapshot_body from snapshots"):
                yield zlib.decompress(body)


def leaks(texts: Iterable[tuple[str, bytes]], issued: set[str]) -> dict[str, list[str]]:
    """Place -> what stands there that must not. Base64 and URL encoding do not hide it."""
    secrets = {MARK, *STAND_INS, *issued}
    forms = {secret: {secret, quote(secret, safe="")} for secret in secrets}
    found: dict[str, list[str]] = {}
    for place, text in texts:
        if said := [s for s, written in forms.items() if any(form.encode() in text for form in written)]:
            found[place] = said
    return found


def issued_by(home: Path) -> set[str]:
    """Tokens and addresses of uploads that the sandbox gave out, from its own books."""
    with closing(sqlite3.connect(home / "sandbox" / "sandbox.db")) as connection:
        dumped = "\n".join(connection.iterdump())
    return set(re.findall(r"ya29\.[\w-]{12,}|act\.[\w!-]{12,}|rft\.[\w!-]{12,}|1//[\w-]{12,}", dumped))


def refusal_with_the_key() -> dict[str, Any]:
    key = f"{MARK}-youtube-api-key-0123456789"
    return {
        "error": {"message": f"API key {key} refused, Bearer {key}", "errors": [{"reason": "keyInvalid"}]}
    }


def go_wrong(settings: Settings, sandbox: SandboxUnderTest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A vendor that repeats our key in its refusals, one that is busy once, and a defect of ours that logs and raises
    everything it knows; the runs' states."""
    key = f"{MARK}-youtube-api-key-0123456789"
    day = business_day_of(utc_now(), settings.timezone).isoformat()
    states = []

    def run(niche: str) -> None:
        with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
            job = build_definitions(settings).resolve_job_def(DISCOVERY_JOB)
            partition = day_niche_key(day, niche)
            done = job.execute_in_process(
                instance=instance,
                partition_key=partition,
                raise_on_error=False,
                tags={"dagster/backfill": "a-backfill"},
            )
            states.append(instance.get_run_by_id(done.run_id).status.value)  # type: ignore[union-attr]

    sandbox.fault("youtube", status=400, body=json.dumps(refusal_with_the_key()), times=100)
    run("travel")
    sandbox.clear_faults()
    sandbox.fault("youtube", status=503, body=f"busy: {key}", times=1)
    run("travel")
    sandbox.clear_faults()

    def crash(self: object, *_: object) -> None:
        logging.getLogger("ettametta_pipelines.crash").error("asked with %s", {"key": key})
        try:
            raise KeyError(f"https://store/object?X-Amz-Signature={MARK}signature")
        except KeyError as error:
            raise RuntimeError(f"no answer with {key}") from error

    monkeypatch.setattr(youtube_collector.YouTubeCollector, "collect", crash)
    run("fitness")
    return states


@contextmanager
def dagster_over(settings: Settings, folder: Path) -> Iterator[httpx.Client]:
    """Webserver and daemon of Dagster over this home, their output in `folder`; a client of the one that answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "location.py").write_text(LOCATION.replace("FAILING", FAILING_SCHEDULE))
    programs = [("dagster_webserver", "-p", str(port)), ("dagster._daemon", "run")]
    with ExitStack() as stack:
        running = []
        for module, *options in programs:
            log = stack.enter_context((folder / f"{module}.log").open("wb"))
            command = [sys.executable, "-m", module, *options, "-f", str(folder / "location.py")]
            environment = os.environ | {"DAGSTER_HOME": str(settings.dagster_home)}
            running.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            stack.callback(_stopped, running[-1])
        client = stack.enter_context(
            httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=120)
        )

        def answers() -> bool:
            assert all(process.poll() is None for process in running), "a process of Dagster's ended"
            with suppress(httpx.TransportError):
                return client.get("/server_info").is_success
            return False

        eventually(answers, "the webserver's answer")
        yield client


def _stopped(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def eventually(look: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not look():
        assert time.monotonic() < until, f"{what} did not come"
        time.sleep(0.3)


def backfill_that_fails(client: httpx.Client, settings: Settings, sandbox: SandboxUnderTest) -> None:
    """A backfill as an operator launches it, while a vendor repeats our key in its refusals; returns at its end."""
    sandbox.fault("youtube", status=400, body=json.dumps(refusal_with_the_key()), times=100)
    day = business_day_of(utc_now(), settings.timezone).isoformat()
    params = {
        "assetSelection": [{"path": ["youtube_candidates"]}], "partitionNames": [day_niche_key(day, "home-cooking")],
    }  # fmt: skip

    def ask(query: str, **variables: object) -> Any:
        answer = client.post("/graphql", json={"query": query, "variables": variables}).json()
        assert "errors" not in answer, answer
        return answer["data"]

    launched = ask(LAUNCH, params=params)["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched
    told: dict[str, Any] = {}

    def is_over() -> bool:
        told.update(ask(BACKFILL, id=launched["backfillId"]))
        return told["partitionBackfillOrError"]["status"] in ENDED

    eventually(is_over, "the backfill's end")
    assert [run["status"] for run in told["runsOrError"]["results"]] == ["FAILURE"]
    sandbox.clear_faults()


def failed_ticks(settings: Settings) -> set[str]:
    """Names of sensors and schedules that have a failed tick."""
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        return {
            state.instigator_name
            for state in instance.all_instigator_state()
            for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id, limit=5)
            if tick.is_failure
        }


# A whole line, four runs and two processes of Dagster: on a busy machine that takes more than the usual limit.
@pytest.mark.slow
@pytest.mark.timeout(2700)
def test_no_secret_is_left_in_stores_logs_pages_or_process_listings(
    canaries: Settings,
    storage: Callable[[], Iterator[tuple[str, bytes]]],
    sandbox: SandboxUnderTest,
    make_clip: MakeClip,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    printed, clip, outside = io.StringIO(), make_clip("one.mp4", seed=1), tmp_path / "outside"
    outside.mkdir()
    with Children() as children:
        assert run_demo(canaries, [clip], Console(file=printed, width=200)) == 0
        assert go_wrong(canaries, sandbox, monkeypatch) == ["FAILURE", "SUCCESS", "FAILURE"]
        with dagster_over(canaries, outside) as client:
            backfill_that_fails(client, canaries, sandbox)
            eventually(lambda: failed_ticks(canaries) >= {"upload_sensor", FAILING_SCHEDULE}, "failed ticks")
            views = {
                name: client.post("/graphql", json={"query": query}).content for name, query in VIEWS.items()
            }
    gateway = TestClient(
        create_gateway(canaries), base_url="http://127.0.0.1:8000", client=("127.0.0.1", 50000)
    )
    pages = [(path, gateway.get(path)) for path in PAGES]
    assert {page.status_code for _, page in pages} == {200}
    assert {name: said for name, said in views.items() if json.loads(said).get("errors")} == {}
    assert not any(b'"__typename":"PythonError"' in said.replace(b" ", b"") for said in views.values())
    assert b"RunFailureEvent" in views["runs"]
    assert b"upload_sensor" in views["repository"]
    assert TICK_SAID in views["repository"]
    assert b"COMPLETED_FAILED" in views["backfills"]
    issued = issued_by(canaries.home_dir)
    assert len(issued) >= 4, "tokens of two channels are looked for"
    for program in (b"ffmpeg", b"inspection.py", b"dagster._daemon", b"dagster_webserver", b"dagster\0api"):
        assert any(program in seen for seen in children.seen), program
    assert children.environments > 0
    stored = [*texts_of(canaries.home_dir), *storage()]
    assert any(TICK_SAID in text for _, text in stored)
    everything = [
        *stored,
        *((str(file), file.read_bytes()) for file in outside.glob("*.log")),
        *((path, page.content) for path, page in pages),
        *((f"view {name}", said) for name, said in views.items()),
        ("printed", printed.getvalue().encode()),
        *((f"process {seen[:80]!r}", seen) for seen in children.seen),
    ]
    assert leaks(everything, issued) == {}


def test_the_search_for_secrets_finds_one_wherever_it_is_put(tmp_path: Path) -> None:
    (tmp_path / "run.log").write_text(f"key={MARK}-x")
    pq.write_table(pa.table({"said": [f"see {MARK}"]}), tmp_path / "rows.parquet", compression="zstd")
    with closing(sqlite3.connect(tmp_path / "runs.db")) as connection, connection:
        connection.execute("create table snapshots (snapshot_body blob)")
        connection.execute("insert into snapshots values (?)", (zlib.compress(b"token ya29.abc/def"),))
    found = leaks(texts_of(tmp_path), {"ya29.abc/def"})
    assert {Path(place.partition(" ")[0]).name for place in found} == {"run.log", "rows.parquet", "runs.db"}


@pytest.mark.postgres
def test_the_search_for_secrets_looks_into_a_dump_and_what_is_packed_in_it(postgres: PostgresServer) -> None:
    name = f"canaries_{uuid4().hex}"
    postgres.execute(f"CREATE DATABASE {name}")
    try:
        with psycopg.connect(postgres.url(name).replace("+psycopg", "")) as connection:
            connection.execute("CREATE TABLE snapshots (snapshot_body bytea)")
            connection.execute("INSERT INTO snapshots VALUES (%s)", (zlib.compress(b"a token ya29.abc/def"),))
            connection.execute("CREATE TABLE ticks (said text)")
            connection.execute("INSERT INTO ticks VALUES (%s)", (f"no answer with {MARK}",))
        found = leaks(dumped(postgres.url(name)), {"ya29.abc/def"})
    finally:
        postgres.execute(f"DROP DATABASE {name} WITH (FORCE)")
    assert sorted(said for each in found.values() for said in each) == [MARK, "ya29.abc/def"]
