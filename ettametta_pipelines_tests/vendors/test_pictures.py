"""Fetching thumbnails within limits."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest

from ettametta_pipelines.failures import FailureKind, PipelineError
from ettametta_pipelines.vendors.pictures import Picture, fetch_picture, fetch_pictures, picture_type

JPEG = b"\xff\xd8\xff\xe0" + b"\x00" * 500
ANSWERS: dict[str, tuple[int, bytes]] = {
    "/ok.jpg": (200, JPEG),
    "/big.jpg": (200, JPEG * 40),
    "/page.jpg": (200, b"<html>log in</html>"),
    "/moved.jpg": (302, b""),
    "/busy.jpg": (503, b""),
    "/packed.jpg": (200, b"no gzip at all"),
}


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = ANSWERS.get(self.path, (404, b""))
        self.send_response(status)
        self.send_header("content-type", "image/jpeg")
        if self.path == "/packed.jpg":
            self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(body)))
        self.send_header("location", "http://169.254.169.254/")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def host() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def why_not(url: str | None, *, trusted: str = "", max_bytes: int = 10_000) -> PipelineError:
    (result,) = fetch_pictures([url], http_hosts={trusted}, max_bytes=max_bytes)
    assert isinstance(result, PipelineError)
    return result


def test_pictures_come_back_in_order_and_a_missing_one_does_not_lose_the_others(host: str) -> None:
    urls = [f"http://{host}/ok.jpg", f"http://{host}/none.jpg", f"http://{host}/ok.jpg"]
    first, second, third = fetch_pictures(urls, http_hosts={host})
    assert first == third == Picture("image/jpeg", JPEG)
    assert isinstance(second, PipelineError)
    assert second.code == "picture_unavailable"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/big.jpg", "picture_too_big"),
        ("/page.jpg", "picture_unreadable"),
        ("/moved.jpg", "picture_unavailable"),
    ],
)
def test_what_is_too_big_no_picture_or_elsewhere_is_refused(host: str, path: str, code: str) -> None:
    assert why_not(f"http://{host}{path}", trusted=host).code == code


def test_a_busy_host_is_worth_another_try(host: str) -> None:
    assert why_not(f"http://{host}/busy.jpg", trusted=host).kind is FailureKind.TRANSIENT


def test_a_host_that_does_not_answer_is_worth_another_try() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as closed:
        port = closed.server_port
    assert (
        why_not(f"http://127.0.0.1:{port}/ok.jpg", trusted=f"127.0.0.1:{port}").kind is FailureKind.TRANSIENT
    )


@pytest.mark.parametrize(
    "url", ["http://{host}/ok.jpg", "file:///etc/passwd", "ftp://a.example/x", "//a/b", "x"]
)
def test_only_https_or_a_configured_host_is_asked(host: str, url: str) -> None:
    assert why_not(url.format(host=host)).code == "picture_refused"


@pytest.mark.parametrize(
    "url",
    ["https://[half", "https://a:99999999/x.jpg", "https://\x00/x.jpg", f"https://{'a' * 300}.example/x.jpg"],
)
def test_an_address_that_is_none_concerns_its_own_video_only(url: str) -> None:
    assert why_not(url).code == "picture_refused"


def test_a_picture_that_cannot_be_unpacked_concerns_its_own_video_only(host: str) -> None:
    assert why_not(f"http://{host}/packed.jpg", trusted=host).code == "picture_unreadable"


def test_a_video_without_a_picture_says_so() -> None:
    assert why_not(None).code == "picture_missing"


def test_a_server_that_trickles_is_given_up_on(host: str) -> None:
    with httpx.Client(trust_env=False) as client, pytest.raises(PipelineError) as slow:
        fetch_picture(client, f"http://{host}/ok.jpg", http_hosts={host}, max_seconds=-1)
    assert slow.value.code == "picture_too_slow"


def test_the_first_bytes_decide_what_a_picture_is() -> None:
    assert picture_type(b"\x89PNG\r\n\x1a\n....") == "image/png"
    assert picture_type(b"RIFF\x00\x00\x00\x00WEBPVP8 ") == "image/webp"
    assert picture_type(b"GIF89a") is None
