"""Media links play in a browser: whole files, byte ranges, and nothing outside `media/`."""

from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from ettametta_pipelines.gateway import app as gateway_app
from ettametta_pipelines.gateway.app import _resolve_range, create_gateway
from ettametta_pipelines.settings import Settings, load_settings
from ettametta_pipelines.storage.objects import ObjectInfo, open_store
from ettametta_pipelines_tests.storage.conftest import ACCESS_KEY, SECRET_KEY, BucketUnderTest
from ettametta_pipelines_tests.storage.conftest import bucket as bucket  # a fixture, as those below
from ettametta_pipelines_tests.storage.conftest import s3_client as s3_client
from ettametta_pipelines_tests.storage.conftest import s3_endpoint as s3_endpoint

KEY = "media/renditions/demo--0123456789abcdef/9x16/abc.mp4"
CONTENT = bytes(range(256)) * 8


@pytest.fixture(params=["directory", "s3"])
def client(
    request: pytest.FixtureRequest, settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    """A gateway that reads a small piece at a time, on both kinds of store."""
    if request.param == "s3":
        bucket: BucketUnderTest = request.getfixturevalue("bucket")
        monkeypatch.setenv("ETTAMETTA_STORE", f"s3://{bucket.name}/studio")
        monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setattr(gateway_app, "CHUNK_BYTES", 700)
    settings = load_settings()
    store = open_store(settings)
    store.put(KEY, CONTENT)
    store.put("uploads/demo/cooking/2026/11/22/raw.mp4", b"untrusted")
    with TestClient(create_gateway(settings), client=("127.0.0.1", 4000)) as client:
        yield client


def test_a_rendition_is_served_whole_and_marked_immutable(client: TestClient) -> None:
    answer = client.get(f"/{KEY}")
    assert answer.status_code == 200
    assert answer.content == CONTENT
    assert (answer.headers["content-type"], answer.headers["content-length"]) == ("video/mp4", "2048")
    assert "immutable" in answer.headers["cache-control"]


def test_a_player_can_seek_by_byte_range(client: TestClient) -> None:
    answer = client.get(f"/{KEY}", headers={"Range": "bytes=100-199"})
    assert answer.status_code == 206
    assert answer.content == CONTENT[100:200]
    assert answer.headers["content-range"] == f"bytes 100-199/{len(CONTENT)}"
    assert answer.headers["content-length"] == "100"


@pytest.mark.parametrize(
    "path",
    [
        "/media/nothing/here.mp4",
        "/media/../uploads/demo/cooking/2026/11/22/raw.mp4",
        "/media/%2e%2e/uploads/demo/cooking/2026/11/22/raw.mp4",
        "/uploads/demo/cooking/2026/11/22/raw.mp4",
        "/media//etc/passwd",
    ],
)
def test_nothing_outside_the_media_tree_is_served(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert b"untrusted" not in answer.content


def test_health_tells_alive_from_ready(client: TestClient) -> None:
    assert client.get("/livez").json()["service"] == "ettametta-gateway"
    ready = client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "problems": []})


@pytest.mark.parametrize(
    ("header", "span"),
    [(None, (0, 1000)), ("bytes=0-", (0, 1000)), ("bytes=10-19", (10, 20)), ("bytes=-100", (900, 1000)),
     ("bytes=990-5000", (990, 1000))],
)  # fmt: skip
def test_ranges_resolve_to_half_open_spans(header: str | None, span: tuple[int, int]) -> None:
    from datetime import UTC, datetime

    info = ObjectInfo(key="k", size=1000, etag="e", modified_at=datetime(2026, 1, 1, tzinfo=UTC))
    assert _resolve_range(header, info) == span


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=20-10", "items=0-1", "bytes=-"])
def test_ranges_that_cannot_be_satisfied_answer_416(header: str) -> None:
    from datetime import UTC, datetime

    from fastapi import HTTPException

    info = ObjectInfo(key="k", size=1000, etag="e", modified_at=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(HTTPException) as caught:
        _resolve_range(header, info)
    assert caught.value.status_code == 416
