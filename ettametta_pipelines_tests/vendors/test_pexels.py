"""The Pexels client against the sandbox over HTTP: searching, choosing a file, fetching it, and what errors mean."""

import hashlib
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.media.probe import require_probe
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.pexels import PexelsClient, PexelsFile, smallest_covering
from ettametta_pipelines_tests.conftest import SandboxUnderTest

PLAYED = "/video-files/"


def endpoint(url: str, key: str | None = None) -> VendorEndpoint:
    secrets = {} if key is None else {"pexels_api_key": SecretStr(key)}
    return VendorEndpoint("pexels", "sandbox", f"{url}/pexels/", "test", secrets)


@pytest.fixture
def waits() -> list[float]:
    return []


@pytest.fixture
def pexels(sandbox: SandboxUnderTest, waits: list[float]) -> PexelsClient:
    return PexelsClient(endpoint(sandbox.url), sleep=waits.append)


def small(pexels: PexelsClient) -> PexelsFile:
    return pexels.search_videos("ocean waves").videos[0].files[0]


def test_a_search_finds_videos_with_files_pages_and_authors(pexels: PexelsClient) -> None:
    page = pexels.search_videos("Ocean  Waves", orientation="portrait", per_page=10)
    assert len(page.videos) == 10
    assert page.has_more
    assert page.total > 10
    video = page.videos[0]
    assert video.height > video.width
    assert video.photographer
    assert video.url.startswith("https://www.pexels.com/video/ocean-waves-")
    assert video.photographer_url.startswith("https://www.pexels.com/@")
    # The playlist without a size, which Pexels lists among the files, is none.
    assert [(file.width, file.height) for file in video.files] == [(360, 640), (720, 1280), (1080, 1920)]


def test_pages_hold_each_video_once_and_the_same_query_finds_the_same(pexels: PexelsClient) -> None:
    found, page = [], 1
    while True:
        answer = pexels.search_videos("ocean waves", per_page=7, page=page)
        found += [video.id for video in answer.videos]
        if not answer.has_more:
            break
        page += 1
    assert len(found) == len(set(found)) == answer.total
    assert [video.id for video in pexels.search_videos("ocean waves", per_page=80).videos] == found
    assert pexels.search_videos("kitchen").videos[0].id != found[0]


def test_nothing_found_is_an_empty_page(pexels: PexelsClient) -> None:
    page = pexels.search_videos("xkcd pqrst")
    assert (page.videos, page.total, page.has_more) == ((), 0, False)


def test_the_rate_limit_is_read_from_the_headers(pexels: PexelsClient) -> None:
    assert pexels.rate_limit is None
    pexels.search_videos("ocean")
    pexels.search_videos("ocean")
    assert pexels.rate_limit is not None
    assert (pexels.rate_limit.limit, pexels.rate_limit.remaining) == (20_000, 19_998)
    assert pexels.rate_limit.reset_at > 1_700_000_000


def test_the_smallest_file_that_covers_is_chosen_else_the_largest() -> None:
    files = tuple(
        PexelsFile(number, *size, "")
        for number, size in enumerate([(3840, 2160), (640, 360), (1920, 1080), (1080, 1920)])
    )
    assert smallest_covering(files, 1920, 1080) == files[2]
    assert smallest_covering(files, 1080, 1920) == files[3]
    assert smallest_covering(files[1:2], 1920, 1080) == files[1]
    assert smallest_covering((), 1920, 1080) is None


def test_a_file_is_a_video_of_the_size_promised_and_its_key_stays_with_the_api(
    pexels: PexelsClient, sandbox: SandboxUnderTest, tmp_path: Path
) -> None:
    file = small(pexels)
    got = pexels.download(file, tmp_path / "clip")
    data = (tmp_path / "clip").read_bytes()
    assert (got.sha256, got.size_bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    probe = require_probe(tmp_path / "clip")
    assert (probe.width, probe.height, probe.has_audio) == (file.width, file.height, False)
    assert probe.duration_s >= 5
    again = pexels.download(file, tmp_path / "again")
    assert again == got


REFUSALS: list[tuple[dict[str, Any], type[PipelineError], str]] = [
    ({"status": 401, "body": {"code": "Unauthorized"}}, NeedsPersonError, "pexels_unauthorized"),
    ({"status": 403}, NeedsPersonError, "pexels_forbidden"),
    ({"status": 429, "body": "Too many requests", "times": None}, TransientError, "pexels_rate_limited"),
    ({"status": 500, "times": None}, TransientError, "pexels_unavailable"),
    ({"status": 400}, PermanentError, "pexels_refused"),
    ({"status": 302, "headers": {"location": "http://169.254.169.254/"}}, PermanentError, "pexels_refused"),
    ({"status": 200, "body": "<html>wait</html>", "times": None}, TransientError, "pexels_answer_unreadable"),
    ({"status": 200, "body": {"videos": [{}]}}, TransientError, "pexels_answer_unreadable"),
    ({"action": "drop_before", "times": None}, TransientError, "vendor_unreachable"),
]


@pytest.mark.parametrize(("fault", "kind", "code"), REFUSALS, ids=lambda value: str(value)[:40])
def test_what_a_refusal_of_a_search_means(
    fault: dict[str, Any],
    kind: type[PipelineError],
    code: str,
    pexels: PexelsClient,
    sandbox: SandboxUnderTest,
) -> None:
    sandbox.fault("pexels", **fault)
    with pytest.raises(kind) as refusal:
        pexels.search_videos("ocean")
    assert refusal.value.code == code


def test_a_spent_limit_is_not_waited_for_here_and_a_short_outage_is(
    pexels: PexelsClient, sandbox: SandboxUnderTest, waits: list[float]
) -> None:
    sandbox.fault("pexels", status=429)
    with pytest.raises(TransientError) as refusal:
        pexels.search_videos("ocean")
    assert (waits, refusal.value.retry_after_s) == ([], 900.0)
    sandbox.fault("pexels", status=503, times=2)
    assert pexels.search_videos("ocean").videos
    assert len(waits) == 2


def test_a_key_of_another_shape_is_refused_and_not_shown(sandbox: SandboxUnderTest) -> None:
    with pytest.raises(NeedsPersonError) as refusal:
        PexelsClient(endpoint(sandbox.url, "canary key!")).search_videos("ocean")
    assert refusal.value.code == "pexels_unauthorized"
    assert "canary" not in str(refusal.value)


VIDEO = {"content-type": "video/mp4"}
BAD_FILES: list[tuple[dict[str, Any], str]] = [
    ({"status": 500, "times": None}, "pexels_unavailable"),
    ({"status": 429}, "pexels_rate_limited"),
    ({"status": 302, "headers": {"location": "http://169.254.169.254/"}}, "pexels_refused"),
    ({"status": 200, "body": "<html>log in</html>", "headers": {"content-type": "text/html"}}, "pexels_file_refused"),
    ({"status": 200, "body": "<html>log in</html>", "headers": VIDEO}, "pexels_file_refused"),
    ({"action": "drop_after", "times": None}, "vendor_unreachable"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "code"), BAD_FILES, ids=lambda value: str(value)[:50])
def test_a_file_that_cannot_be_had_leaves_nothing_behind(
    fault: dict[str, Any], code: str, pexels: PexelsClient, sandbox: SandboxUnderTest, tmp_path: Path
) -> None:
    file = small(pexels)
    sandbox.fault("pexels", path_regex=PLAYED, **fault)
    with pytest.raises(PipelineError) as failure:
        pexels.download(file, tmp_path / "clip")
    assert failure.value.code == code
    assert not (tmp_path / "clip").exists()


def test_a_file_cut_short_on_the_way_is_fetched_again(
    pexels: PexelsClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, waits: list[float]
) -> None:
    file, whole = small(pexels), httpx.Response.iter_raw

    def cut(self: httpx.Response, size: int | None = None) -> Any:
        monkeypatch.setattr(httpx.Response, "iter_raw", whole)
        yield next(iter(whole(self, 1000)))
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    monkeypatch.setattr(httpx.Response, "iter_raw", cut)
    assert pexels.download(file, tmp_path / "clip").size_bytes > 1000
    assert len(waits) == 1


def test_a_file_beyond_the_limit_is_not_fetched_to_its_end(pexels: PexelsClient, tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as failure:
        pexels.download(small(pexels), tmp_path / "clip", max_bytes=1000)
    assert failure.value.code == "pexels_file_too_big"
    assert not (tmp_path / "clip").exists()


@pytest.mark.parametrize(
    "link",
    [
        "https://evil.example/a.mp4", "http://videos.pexels.com/a.mp4", "file:///etc/passwd",
        "https://videos.pexels.com.evil.example/a.mp4", "http://127.0.0.1:1/a.mp4", "//a/b", "x",
    ],
)  # fmt: skip
def test_only_pexels_own_hosts_are_asked_for_files(link: str, pexels: PexelsClient, tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as failure:
        pexels.download(PexelsFile(1, 640, 360, link), tmp_path / "clip")
    assert failure.value.code == "pexels_file_refused"
