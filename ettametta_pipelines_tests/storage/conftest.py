"""Stores under test: a directory, and a bucket of moto's S3 server; between client and server, faults on demand."""

import http.client
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from ettametta_pipelines.storage.objects import AwsOptions, ObjectStore
from ettametta_pipelines_tests.servers import s3_in_thread

ACCESS_KEY = "AKIATESTTESTTESTTEST"
SECRET_KEY = "notarealsecret/notarealsecret/notarealse"
REGION = "us-east-1"
# Where an endless body ends after all, so that a reader that does not cut it fails instead of filling the machine.
FLOOD_BYTES = 2 << 30
BUCKET_NUMBERS = itertools.count(1)


@dataclass
class BucketUnderTest:
    """A fresh bucket: where it is, and a plain S3 client that sees and writes what other programs would."""

    name: str
    endpoint: str
    client: Any

    def aws(self, endpoint: str | None = None) -> AwsOptions:
        return AwsOptions(ACCESS_KEY, SECRET_KEY, endpoint_url=endpoint or self.endpoint, region=REGION)

    def store(self, prefix: str = "", endpoint: str | None = None) -> ObjectStore:
        return ObjectStore.from_url(f"s3://{self.name}/{prefix}", aws=self.aws(endpoint))

    def unfinished_uploads(self) -> list[str]:
        return [u["Key"] for u in self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", [])]

    def all_keys(self) -> list[str]:
        return [o["Key"] for o in self.client.list_objects_v2(Bucket=self.name).get("Contents", [])]


@dataclass
class Request:
    method: str
    path: str
    size: int


@dataclass
class FaultyProxy:
    """Passes requests on to an S3 server; `fault(request)` may answer instead, or drop the answer.

    It returns None (pass on), an (HTTP status, body) to answer with, "drop" (executed, but never answered), "cut" (the
    answer breaks off half-way), "endless" (its body goes on for ever behind the length it states) or "boundless" (it
    states a length nobody has room for). `flooded` counts the bytes of those two.
    Conditional writes pass one at a time: S3 decides them atomically, moto looks first and writes later.
    """

    upstream: str
    url: str = ""
    requests: list[Request] = field(default_factory=list)
    most_at_once: int = 0
    flooded: int = 0
    fault: Callable[[Request], tuple[int, bytes] | str | None] = lambda request: None


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_in_thread() as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> Any:
    import boto3

    return boto3.client(
        "s3",
        endpoint_url=s3_endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        region_name=REGION,
    )


@pytest.fixture
def bucket(s3_endpoint: str, s3_client: Any) -> BucketUnderTest:
    name = f"storage-test-{next(BUCKET_NUMBERS)}"
    s3_client.create_bucket(Bucket=name)
    return BucketUnderTest(name, s3_endpoint, s3_client)


@pytest.fixture
def directory_store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "the store").as_uri())


@pytest.fixture(params=["directory", "s3"])
def store(request: pytest.FixtureRequest) -> ObjectStore:
    """The same tests on both backends; the bucket's store lives below a prefix, as shared buckets have them."""
    if request.param == "directory":
        return request.getfixturevalue("directory_store")
    bucket: BucketUnderTest = request.getfixturevalue("bucket")
    return bucket.store("agency/store")


@pytest.fixture
def racing_store(store: ObjectStore, request: pytest.FixtureRequest) -> ObjectStore:
    """`store`, on S3 through the proxy, which makes moto's conditional writes atomic."""
    if store.local_path("k") is not None:
        return store
    bucket: BucketUnderTest = request.getfixturevalue("bucket")
    proxy: FaultyProxy = request.getfixturevalue("proxy")
    return bucket.store("agency/store", proxy.url)


@pytest.fixture
def proxy(s3_endpoint: str) -> Iterator[FaultyProxy]:
    with faulty_proxy(s3_endpoint) as state:
        yield state


@contextmanager
def faulty_proxy(upstream: str) -> Iterator[FaultyProxy]:
    """A proxy before this server, listening on a free port until the block ends."""
    state = FaultyProxy(upstream)
    lock = threading.Lock()
    conditional = threading.Lock()
    running = 0

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            nonlocal running
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            asked = Request(self.command, self.path, len(body))
            with lock:
                running += 1
                state.requests.append(asked)
                state.most_at_once = max(state.most_at_once, running)
            try:
                self.respond(asked, body)
            finally:
                with lock:
                    running -= 1

        def respond(self, asked: Request, body: bytes) -> None:
            fault = state.fault(asked)
            if isinstance(fault, tuple):
                self.send(fault[0], {}, fault[1])
                return
            with conditional if "If-None-Match" in self.headers else nullcontext():
                status, headers, content = self.pass_on(body)
            if fault == "drop":
                self.close_connection = True
                return
            if fault in ("endless", "boundless") and self.command == "GET" and status < 300:
                self.flood(status, headers, is_chunked=fault == "endless")
                return
            self.send(status, headers, content[: len(content) // 2] if fault == "cut" else content)
            self.close_connection = self.close_connection or fault == "cut"

        def pass_on(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
            upstream = urlsplit(state.upstream)
            connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port)
            connection.request(self.command, self.path, body, dict(self.headers))
            got = connection.getresponse()
            answer = got.status, dict(got.getheaders()), got.read()
            connection.close()
            return answer

        def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response_only(status)
            length = headers.pop("Content-Length", None) or str(len(content))
            for name, value in headers.items():
                if name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def flood(self, status: int, headers: dict[str, str], *, is_chunked: bool) -> None:
            self.close_connection = True
            extra = {"Transfer-Encoding": "chunked"} if is_chunked else {"Content-Length": str(1 << 60)}
            self.send_response_only(status)
            for name, value in (headers | extra).items():
                self.send_header(name, value)
            self.end_headers()
            piece = bytes(1 << 16)
            framed = b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece
            with suppress(OSError):
                while state.flooded < FLOOD_BYTES:
                    self.wfile.write(framed)
                    state.flooded += len(piece)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer

        def log_message(self, *args: object) -> None:
            """Silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    yield state
    server.shutdown()
    server.server_close()
    thread.join()
