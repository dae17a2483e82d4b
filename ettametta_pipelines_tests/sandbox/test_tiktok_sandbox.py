"""The TikTok sandbox refuses what TikTok refuses, and shows what was posted."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import httpx
import pytest

from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc

MP4_HEAD = b"\x00\x00\x00\x18ftypmp42"
_numbers = count()
POST_INFO = {"title": "A <b>bold</b> title", "privacy_level": "PUBLIC_TO_EVERYONE"}


def consent(sandbox: SandboxUnderTest, account: str) -> dict[str, Any]:
    form = {
        "client_key": "k",
        "client_secret": "s",
        "grant_type": "authorization_code",
        "code": f"sandbox-{account}",
    }
    return httpx.post(f"{sandbox.url}/tiktok/v2/oauth/token/", data=form).json()


@pytest.fixture
def api(sandbox: SandboxUnderTest) -> Iterator[httpx.Client]:
    token = consent(sandbox, "alice")["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    with httpx.Client(base_url=f"{sandbox.url}/tiktok/v2/", headers=headers) as client:
        yield client


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxUnderTest]:
    """One server for tests that need nothing but a creator of their own; rates are counted per creator."""
    with frozen_sandbox(tmp_path_factory.mktemp("tiktok"), SetClock(utc("2026-11-20T12:00:00"))) as running:
        yield running


@pytest.fixture
def stranger(shared: SandboxUnderTest) -> Iterator[httpx.Client]:
    token = consent(shared, f"creator-{next(_numbers)}")["access_token"]
    with httpx.Client(
        base_url=f"{shared.url}/tiktok/v2/", headers={"Authorization": f"Bearer {token}"}
    ) as client:
        yield client


def code_of(answer: httpx.Response) -> str:
    return answer.json()["error"]["code"]


def source(size: int, chunk: int, count: int) -> dict[str, Any]:
    return {"source": "FILE_UPLOAD", "video_size": size, "chunk_size": chunk, "total_chunk_count": count}


def init(api: httpx.Client, source_info: dict[str, Any], **post_info: Any) -> httpx.Response:
    body = {"post_info": POST_INFO | post_info, "source_info": source_info}
    return api.post("post/publish/video/init/", json=body)


def put(url: str, data: bytes, start: int, total: int, **headers: str) -> httpx.Response:
    span = f"bytes {start}-{start + len(data) - 1}/{total}"
    return httpx.put(
        url, content=data, headers={"content-type": "video/mp4", "content-range": span} | headers
    )


# Access


def test_a_missing_or_unknown_token_is_refused_in_the_envelope(sandbox: SandboxUnderTest) -> None:
    for headers in ({}, {"Authorization": "Bearer act.nothing"}):
        answer = httpx.post(f"{sandbox.url}/tiktok/v2/video/list/?fields=id", json={}, headers=headers)
        assert answer.status_code == 401
        assert code_of(answer) == "access_token_invalid"


def test_the_old_refresh_token_dies_with_the_new_one(sandbox: SandboxUnderTest) -> None:
    grant = consent(sandbox, "alice")
    form = {
        "client_key": "k",
        "client_secret": "s",
        "grant_type": "refresh_token",
        "refresh_token": grant["refresh_token"],
    }
    url = f"{sandbox.url}/tiktok/v2/oauth/token/"
    renewed = httpx.post(url, data=form).json()
    assert renewed["open_id"] == grant["open_id"]
    assert renewed["refresh_token"] != grant["refresh_token"]
    spent = httpx.post(url, data=form)
    assert (spent.status_code, spent.json()["error"]) == (200, "invalid_grant")


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"client_key": "", "client_secret": "s", "grant_type": "refresh_token"}, "invalid_client"),
        ({"client_key": "k", "client_secret": "s", "grant_type": "password"}, "invalid_request"),
        (
            {"client_key": "k", "client_secret": "s", "grant_type": "authorization_code", "code": "x"},
            "invalid_grant",
        ),
    ],
)
def test_the_token_endpoint_answers_flat_errors(
    sandbox: SandboxUnderTest, form: dict[str, str], error: str
) -> None:
    answer = httpx.post(f"{sandbox.url}/tiktok/v2/oauth/token/", data=form).json()
    assert answer["error"] == error
    assert set(answer) == {"error", "error_description", "log_id"}


def test_six_posts_may_be_opened_in_a_sliding_minute(api: httpx.Client, sandbox: SandboxUnderTest) -> None:
    for _ in range(6):
        assert code_of(init(api, source(100, 100, 1))) == "ok"
    refused = init(api, source(100, 100, 1))
    assert (refused.status_code, code_of(refused)) == (429, "rate_limit_exceeded")
    sandbox.advance(seconds=61)
    assert code_of(init(api, source(100, 100, 1))) == "ok"


def test_fifteen_posts_a_day_are_the_cap_and_creator_info_says_so_with_status_200(
    api: httpx.Client, sandbox: SandboxUnderTest
) -> None:
    for _ in range(15):
        sandbox.advance(seconds=15)
        put(init(api, source(12, 12, 1)).json()["data"]["upload_url"], MP4_HEAD, 0, 12)
    asked = api.post("post/publish/creator_info/query/", json={})
    assert (asked.status_code, code_of(asked)) == (200, "spam_risk_too_many_posts")
    assert init(api, source(100, 100, 1)).status_code == 403


# Opening a post


@pytest.mark.parametrize(
    ("post_info", "code"),
    [
        ({"privacy_level": "FOLLOWER_OF_CREATOR"}, "privacy_level_option_mismatch"),
        ({"privacy_level": None}, "invalid_param"),
        ({"title": "x" * 2201}, "invalid_param"),
        ({"disabel_duet": True}, "invalid_param"),
        ({"brand_content_toggle": True, "privacy_level": "SELF_ONLY"}, "invalid_param"),
    ],
)
def test_a_wrong_post_is_refused(stranger: httpx.Client, post_info: dict[str, Any], code: str) -> None:
    assert code_of(init(stranger, source(100, 100, 1), **post_info)) == code


@pytest.mark.parametrize(
    ("size", "chunk", "count", "code"),
    [
        (50_000_123, 10_000_000, 5, "ok"),
        (50_000_123, 10_000_000, 6, "invalid_param"),
        (4_000_000, 4_000_000, 1, "ok"),
        (4_000_000, 2_000_000, 2, "invalid_param"),
        (4_000_000, 5_000_000, 1, "invalid_param"),
        (20_000_000, 20_000_000, 1, "ok"),
        (20_000_000, 4_000_000, 5, "invalid_param"),
        (100_000_000, 100_000_000, 1, "invalid_param"),
        (300_000_000, 100_000_000, 3, "invalid_param"),
        (0, 0, 0, "invalid_param"),
        (5 * 2**30, 64_000_000, 83, "invalid_param"),
    ],
)
def test_chunk_arithmetic_is_checked(
    stranger: httpx.Client, size: int, chunk: int, count: int, code: str
) -> None:
    assert code_of(init(stranger, source(size, chunk, count))) == code


def test_pulling_from_an_unverified_address_is_refused(stranger: httpx.Client) -> None:
    pull = {"source": "PULL_FROM_URL", "video_url": "https://example.com/v.mp4"}
    assert code_of(init(stranger, pull)) == "url_ownership_unverified"


# Sending the bytes


def test_chunks_must_start_where_the_last_one_ended(stranger: httpx.Client) -> None:
    size = 12_000_000
    url = init(stranger, source(size, 6_000_000, 2)).json()["data"]["upload_url"]
    video = MP4_HEAD + bytes(size - len(MP4_HEAD))
    assert put(url, video[6_000_000:], 6_000_000, size).status_code == 416
    first = put(url, video[:6_000_000], 0, size)
    assert (first.status_code, first.headers["content-range"]) == (206, f"bytes 0-5999999/{size}")
    assert put(url, video[:6_000_000], 0, size).status_code == 416
    assert put(url, video[6_000_000:7_000_000], 6_000_000, size).status_code == 400
    assert put(url, video[6_000_000:], 6_000_000, size).status_code == 201


def test_a_chunk_that_breaks_off_counts_for_nothing(stranger: httpx.Client) -> None:
    answer = init(stranger, source(3000, 3000, 1)).json()["data"]
    broken = put(answer["upload_url"], MP4_HEAD, 0, 3000, **{"content-range": "bytes 0-2999/3000"})
    assert broken.status_code == 400
    status = stranger.post("post/publish/status/fetch/", json={"publish_id": answer["publish_id"]}).json()[
        "data"
    ]
    assert status == {"status": "PROCESSING_UPLOAD", "uploaded_bytes": 0}


@pytest.mark.parametrize(
    "headers",
    [{"content-type": "text/plain"}, {"content-range": "0-11/12"}, {"content-range": "bytes 0-11/99"}],
)
def test_malformed_chunks_are_refused(stranger: httpx.Client, headers: dict[str, str]) -> None:
    url = init(stranger, source(12, 12, 1)).json()["data"]["upload_url"]
    assert put(url, MP4_HEAD, 0, 12, **headers).status_code == 400


# Looking


def test_a_post_goes_through_processing_to_published(api: httpx.Client, sandbox: SandboxUnderTest) -> None:
    answer = init(api, source(12, 12, 1)).json()["data"]
    put(answer["upload_url"], MP4_HEAD, 0, 12)
    ask = {"publish_id": answer["publish_id"]}
    first = api.post("post/publish/status/fetch/", json=ask).json()["data"]
    second = api.post("post/publish/status/fetch/", json=ask).json()["data"]
    assert (first["status"], second["status"]) == ("PROCESSING_UPLOAD", "PUBLISH_COMPLETE")
    (post_id,) = second["publicaly_available_post_id"]
    page = httpx.get(f"{sandbox.url}/tiktok/@alice/video/{post_id}")
    assert "A &lt;b&gt;bold&lt;/b&gt; title" in page.text
    media = httpx.get(f"{sandbox.url}/tiktok/media/alice/{post_id}", headers={"range": "bytes=4-7"})
    assert (media.status_code, media.content, media.headers["content-type"]) == (206, b"ftyp", "video/mp4")
    assert str(post_id) in httpx.get(f"{sandbox.url}/tiktok/@alice").text


def test_a_post_of_another_creator_is_not_shown_to_this_one(
    api: httpx.Client, sandbox: SandboxUnderTest
) -> None:
    publish_id = init(api, source(12, 12, 1)).json()["data"]["publish_id"]
    token = consent(sandbox, "bob")["access_token"]
    answer = httpx.post(
        f"{sandbox.url}/tiktok/v2/post/publish/status/fetch/",
        json={"publish_id": publish_id},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert code_of(answer) == "token_not_authorized_for_specified_publish_id"
    assert (
        code_of(api.post("post/publish/status/fetch/", json={"publish_id": "v_pub~x"}))
        == "invalid_publish_id"
    )


def test_only_the_fields_asked_for_are_given_and_unknown_ones_refused(stranger: httpx.Client) -> None:
    listing = stranger.post("video/list/?fields=id,view_count", json={"max_count": 3}).json()["data"]
    assert {frozenset(video) for video in listing["videos"]} == {frozenset({"id", "view_count"})}
    assert code_of(stranger.post("video/list/?fields=id,colour", json={})) == "invalid_param"
    assert code_of(stranger.post("video/list/", json={})) == "invalid_param"
    assert code_of(stranger.post("video/list/?fields=id", json={"max_count": 21})) == "invalid_param"


def test_a_creator_has_the_same_earlier_posts_in_every_sandbox(
    api: httpx.Client, sandbox: SandboxUnderTest
) -> None:
    ids = [
        v["id"] for v in api.post("video/list/?fields=id", json={"max_count": 20}).json()["data"]["videos"]
    ]
    assert len(ids) >= 18
    httpx.post(f"{sandbox.url}/_control/reset")
    api.headers["Authorization"] = f"Bearer {consent(sandbox, 'alice')['access_token']}"
    again = api.post("video/list/?fields=id", json={"max_count": 20}).json()["data"]["videos"]
    assert [video["id"] for video in again] == ids


def test_private_posts_are_not_in_the_display_api(stranger: httpx.Client) -> None:
    url = init(stranger, source(12, 12, 1), privacy_level="SELF_ONLY").json()["data"]["upload_url"]
    assert put(url, MP4_HEAD, 0, 12).status_code == 201
    listed = stranger.post("video/list/?fields=id,title", json={"max_count": 1}).json()["data"]["videos"]
    assert listed[0]["title"] != POST_INFO["title"]


def test_covers_and_avatars_are_pictures(stranger: httpx.Client) -> None:
    asked = {"max_count": 1}
    (video,) = stranger.post("video/list/?fields=cover_image_url", json=asked).json()["data"]["videos"]
    user = stranger.get("user/info/?fields=avatar_url").json()["data"]["user"]
    for address in (video["cover_image_url"], user["avatar_url"]):
        picture = httpx.get(address)
        assert (picture.status_code, picture.headers["content-type"]) == (200, "image/jpeg")
        assert picture.content.startswith(b"\xff\xd8")


def test_a_chunk_that_arrives_twice_at_the_same_time_makes_one_post(
    api: httpx.Client, sandbox: SandboxUnderTest
) -> None:
    video = MP4_HEAD + bytes(100_000)
    url = init(api, source(len(video), len(video), 1)).json()["data"]["upload_url"]
    started, finish = threading.Event(), threading.Event()

    def in_two_parts() -> Iterator[bytes]:
        yield video[:50_000]
        started.set()
        finish.wait(30)
        yield video[50_000:]

    headers = {"content-type": "video/mp4", "content-range": f"bytes 0-{len(video) - 1}/{len(video)}"}
    headers["content-length"] = str(len(video))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(httpx.put, url, content=in_two_parts(), headers=headers, timeout=60)
        assert started.wait(30)
        assert put(url, video, 0, len(video)).status_code == 201
        finish.set()
        assert slow.result().status_code == 416
    assert len(sandbox.server._server.config.app.state.store.items("tiktok_post")) == 1
