"""Rows of the table about what lies between: S3 that refuses and stalls, lines that break, names and certificates.

Figures are times and counts of tries. A row about S3 uses moto's server behind the proxy of the storage tests.
"""

import hashlib
import os
import random
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from ettametta_pipelines_tests.databases import PostgresServer, find_postgres_binaries
from ettametta_pipelines_tests.faults.outcome import Outcome
from ettametta_pipelines_tests.line import Line, Mood
from ettametta_pipelines_tests.servers import s3_in_thread

SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
INTERNAL = b"<Error><Code>InternalError</Code></Error>"
# Clients trust no certificates of the environment where the address is this machine's.
NO_LOOPBACK = "vendor.example"
# Each fault strikes twice.
ANSWERS_LOST = 2
# What is tried again is given up within this time.
BUDGET_S = 75.0


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and the answer or the exception."""
    began = time.monotonic()
    try:
        answer = act()
    except Exception as error:  # noqa: BLE001 (the caller judges it)
        answer = error
    return time.monotonic() - began, answer


@contextmanager
def s3_behind_a_proxy() -> Iterator[tuple[Any, Any]]:
    """A bucket of moto's server, and the proxy before it."""
    import boto3

    from ettametta_pipelines_tests.storage.conftest import (
        ACCESS_KEY,
        REGION,
        SECRET_KEY,
        BucketUnderTest,
        faulty_proxy,
    )

    with s3_in_thread() as endpoint, faulty_proxy(endpoint) as proxy:
        client = boto3.client(
            "s3", endpoint_url=endpoint, aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
            region_name=REGION,
        )  # fmt: skip
        client.create_bucket(Bucket="faults")
        yield BucketUnderTest("faults", endpoint, client), proxy


def _slow(_: Any) -> None:
    time.sleep(1.5)


S3_FAULTS: dict[str, Any] = {
    "503 SlowDown": (503, SLOW_DOWN),
    "500": (500, INTERNAL),
    "reset": "drop",
    "slow": _slow,
}


def s3_in_trouble(home: Path) -> Outcome:
    """Each operation meets each fault twice, then works; then the store refuses for ever."""
    from ettametta_pipelines.failures import TransientError

    outcome = Outcome()
    data = random.Random(7).randbytes(200_000)
    big = home / "big"
    big.write_bytes(random.Random(8).randbytes(17_000_000))
    with s3_behind_a_proxy() as (bucket, proxy):
        store = bucket.store(endpoint=proxy.url)
        kept = store.put("there", data)
        operations: dict[str, Callable[[], Any]] = {
            "put": lambda: store.put("media/a", data),
            "get": lambda: store.get("there"),
            "head": lambda: store.head("there").size,
            "list": lambda: [info.key for info in store.list("media")],
            "multipart": lambda: store.put_file("media/b", big),
        }
        slowest, done = 0.0, 0
        for name, fault in S3_FAULTS.items():
            for operation, act in operations.items():
                proxy.fault = _twice(fault)
                took, answer = timed(act)
                slowest, done = max(slowest, took), done + (not isinstance(answer, Exception))
                outcome.must(not isinstance(answer, Exception), f"{operation} under {name}: {answer!r}")
                if operation == "get":
                    outcome.must(answer == data, f"get under {name} gave other bytes")
        proxy.fault = lambda _: None
        outcome.must(
            hashlib.sha256(store.get("media/b")).digest() == hashlib.sha256(big.read_bytes()).digest(), "big"
        )
        outcome.must(bucket.all_keys() == ["media/a", "media/b", "there"], f"objects: {bucket.all_keys()}")
        # Who opened an upload in parts and never heard its number cannot end it; the bucket's own rule does.
        left = len(bucket.unfinished_uploads())
        outcome.must(left <= ANSWERS_LOST, f"{left} uploads in parts were left open")
        proxy.fault = lambda r: "cut" if r.method == "GET" and "there" in r.path else None
        _, cut = timed(lambda: store.get("there"))
        outcome.must(isinstance(cut, TransientError), f"a cut answer gave {cut!r}")
        proxy.fault = lambda _: (503, SLOW_DOWN)
        proxy.requests.clear()
        gave_up, refused = timed(lambda: store.get("there"))
        outcome.must(isinstance(refused, TransientError), f"refused for ever: {refused!r}")
        outcome.must(gave_up < BUDGET_S, f"gave up only after {gave_up:.0f} s")
        outcome.measured(
            f"{done} of {len(S3_FAULTS) * len(operations)} operations done under 4 faults, the slowest in "
            f"{slowest:.1f} s; a truncated GET: {getattr(cut, 'code', cut)}; refused for ever: "
            f"{getattr(refused, 'code', refused)} after {len(proxy.requests)} tries and {gave_up:.1f} s; "
            f"{left} uploads in parts left "
            f"to the bucket's rule, whose opening was never confirmed; {kept.size} bytes intact"
        )
    return outcome


def _twice(fault: Any) -> Callable[[Any], Any]:
    left = [ANSWERS_LOST]
    lock = threading.Lock()

    def strike(request: Any) -> Any:
        with lock:
            if left[0] == 0:
                return None
            left[0] -= 1
        return fault(request) if callable(fault) else fault

    return strike


def s3_silent(home: Path) -> Outcome:
    """A store that takes the request and never answers is given up."""
    from urllib.parse import urlsplit

    from ettametta_pipelines.failures import TransientError

    outcome = Outcome()
    with s3_behind_a_proxy() as (bucket, _), Line(urlsplit(bucket.endpoint).port or 0) as line:
        store = bucket.store(endpoint=f"http://127.0.0.1:{line.port}")
        store.put("there", b"x" * 1000)
        line.mood = Mood.SILENT
        took, error = timed(lambda: store.get("there"))
        outcome.must(isinstance(error, TransientError), f"it came to {error!r}")
        outcome.must(took < 2 * BUDGET_S, f"given up only after {took:.0f} s")
        outcome.measured(f"given up after {took:.0f} s as {getattr(error, 'code', error)}")
    return outcome


def lines_break(home: Path) -> Outcome:
    """Vendor and Postgres over a line that is late, cut, and silent."""
    import httpx

    from ettametta_pipelines.failures import PipelineError, TransientError
    from ettametta_pipelines.sandbox.server import SandboxServer
    from ettametta_pipelines.settings import VendorEndpoint
    from ettametta_pipelines.vendors.http import http_client, send

    outcome = Outcome()
    with SandboxServer(home) as sandbox, Line(sandbox.port) as line:
        url = f"http://127.0.0.1:{line.port}"
        endpoint = VendorEndpoint("stripe", "sandbox", url, "test", timeout_s=5.0, max_retries=0)
        said: dict[str, str] = {}
        for mood in (Mood.GOOD, Mood.LATE, Mood.CUT, Mood.SILENT):
            line.mood = mood
            with http_client(endpoint) as client:
                took, answer = timed(
                    lambda client=client: send(
                        client, "GET", "/_control/requests", vendor="Stripe", doing="say"
                    )
                )
            is_right = isinstance(answer, httpx.Response) or (
                mood in (Mood.CUT, Mood.SILENT) and isinstance(answer, TransientError)
            )
            outcome.must(is_right, f"a vendor over a line that is {mood}: {answer!r}")
            outcome.must(took < 30, f"{mood}: {took:.1f} s")
            name = answer.code if isinstance(answer, PipelineError) else "answered"
            said[mood] = f"{mood} {name} in {took:.1f} s"
        outcome.measured("vendor: " + ", ".join(said.values()))
    return outcome


def postgres_line(home: Path) -> Outcome:
    """Postgres over a line that is late and cut; one that falls silent is `host_vanishes`."""
    from ettametta_pipelines.failures import TransientError
    from ettametta_pipelines.state import inbox
    from ettametta_pipelines.state.session import StateDatabase

    outcome = Outcome()
    binaries = find_postgres_binaries()
    assert binaries is not None, "no postgres here; scripts/install_test_servers.sh installs it"
    server = PostgresServer(binaries)
    try:
        server.start()
        server.execute("CREATE DATABASE state")
        with (
            Line(server.port, late_s=0.05) as line,
            StateDatabase(server.url("state").replace(f":{server.port}/", f":{line.port}/")) as db,
        ):
            db.migrate()
            line.mood = Mood.LATE
            late, stored = timed(lambda: inbox.store(db, [inbox.Message("s", "late", "k", "{}")]))
            outcome.must(len(stored) == 1, f"late: {stored!r}")
            line.mood = Mood.CUT
            _, cut = timed(lambda: inbox.store(db, [inbox.Message("s", "cut", "k", "{}")]))
            outcome.must(isinstance(cut, TransientError), f"cut: {cut!r}")
            line.mood = Mood.GOOD
            again, stored = timed(lambda: inbox.store(db, [inbox.Message("s", "cut", "k", "{}")]))
            outcome.must(not isinstance(stored, Exception), f"after the cut: {stored!r}")
            outcome.measured(
                f"Postgres: 50 ms late each way done in {late:.1f} s, cut {getattr(cut, 'code', cut)}, "
                f"again in {again:.2f} s"
            )
    finally:
        server.stop()
    return outcome


SILENT_ON_POSTGRES = """
import subprocess, sys, threading, time
from pathlib import Path
from ettametta_pipelines.state import inbox
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.databases import PostgresServer, find_postgres_binaries
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = PostgresServer(find_postgres_binaries()).start()
try:
    server.execute("CREATE DATABASE state")
    db = StateDatabase(server.url("state"))
    db.migrate()
    began = []
    def vanish():
        time.sleep(1)
        subprocess.run(["ip", "link", "set", "lo", "down"], check=True)
        began.append(time.monotonic())
    threading.Thread(target=vanish).start()
    try:
        import sqlalchemy as sa
        with db.session() as session:
            session.execute(sa.text("SELECT pg_sleep(600)"))
    except Exception as error:
        print(getattr(error, "code", repr(error)), time.monotonic() - began[0])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    db.close()
finally:
    server.stop()
"""
# Three keepalives at ten seconds after half a minute of silence, and some.
VANISHED_S = 90.0


def host_vanishes(home: Path) -> Outcome:
    """The host of Postgres is gone without a word while a run waits for an answer: no packet comes or goes."""
    outcome = Outcome()
    # Postgres refuses root, so that the user of the namespace is another; its loopback interface is the line.
    program = ["unshare", "--user", "--map-user=65534", "--map-group=65534", "--keep-caps", "--net"]
    began = time.monotonic()
    with subprocess.Popen(
        [*program, sys.executable, "-c", SILENT_ON_POSTGRES], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"TMPDIR": str(home)}, start_new_session=True,
    ) as process:  # fmt: skip
        try:
            said, wrong = process.communicate(timeout=VANISHED_S + 60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            outcome.must(False, f"still waiting {time.monotonic() - began:.0f} s after the host was gone")
            return outcome
    if not said.strip():
        return Outcome(broken=[f"it said nothing: {wrong[-400:]}"])
    code, after = said.split()
    outcome.must(code == "state_unavailable", f"it said {code}")
    outcome.must(float(after) < VANISHED_S, f"given up only after {float(after):.0f} s")
    outcome.measured(f"Postgres's host gone without a word: {code} after {float(after):.0f} s")
    return outcome


@contextmanager
def _expired_server(home: Path) -> Iterator[int]:
    """A TLS server on a free port whose certificate ended yesterday."""
    import socket

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    from ettametta_pipelines.clock import utc_now

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NO_LOOPBACK)])
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(utc_now() - timedelta(days=30)).not_valid_after(utc_now() - timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NO_LOOPBACK)]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    file = home / "expired.pem"
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    os.environ["SSL_CERT_FILE"] = str(file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                context.wrap_socket(client, server_side=True).close()
            except OSError:
                client.close()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@contextmanager
def _leads_here(name: str) -> Iterator[None]:
    """In this process the name is this machine, and no proxy of the environment is used."""
    import socket

    looked_up = socket.getaddrinfo
    socket.getaddrinfo = lambda host, *rest, **named: looked_up(  # type: ignore[assignment]
        "127.0.0.1" if host in (name, name.encode()) else host, *rest, **named
    )
    proxies = {key: os.environ.pop(key) for key in list(os.environ) if key.lower().endswith("_proxy")}
    try:
        yield
    finally:
        socket.getaddrinfo = looked_up
        os.environ.update(proxies)


def names_and_certificates(home: Path) -> Outcome:
    """A name that resolves to nothing, and a certificate that has ended: told fast, by name, and nothing is sent."""
    from ettametta_pipelines.settings import VendorEndpoint
    from ettametta_pipelines.state.session import StateDatabase
    from ettametta_pipelines.vendors.http import NeverSentError, http_client, send

    outcome = Outcome()

    def ask(url: str) -> Any:
        endpoint = VendorEndpoint("stripe", "live", url, "test", timeout_s=5.0, max_retries=0)
        with http_client(endpoint) as client:
            return send(client, "POST", "/v1/charges", vendor="Stripe", doing="charge", repeatable=False)

    took, unknown = timed(lambda: ask("https://nowhere.invalid"))
    outcome.must(isinstance(unknown, NeverSentError), f"no such name: {unknown!r}")
    outcome.must("nowhere.invalid" in str(unknown), f"the name is not said: {unknown}")
    outcome.must(took < 30, f"no such name: {took:.0f} s")
    with StateDatabase("postgresql+psycopg://a@nowhere.invalid/state") as db:
        waited, away = timed(db.revision)
    outcome.must(getattr(away, "code", "") == "state_unavailable", f"no such database: {away!r}")
    with _expired_server(home) as port, _leads_here(NO_LOOPBACK):
        slow, expired = timed(lambda: ask(f"https://{NO_LOOPBACK}:{port}"))
    outcome.must(isinstance(expired, NeverSentError), f"expired: {expired!r}")
    outcome.must("expired" in str(expired), f"that the certificate has ended is not said: {expired}")
    outcome.measured(
        f"no such name: vendor {getattr(unknown, 'code', unknown)} in {took:.1f} s, database "
        f"{getattr(away, 'code', away)} in {waited:.1f} s; certificate ended: {getattr(expired, 'code', expired)} in "
        f"{slow:.1f} s; nothing sent"
    )
    return outcome
