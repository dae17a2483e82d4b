"""The sandbox's resumable protocol, token endpoint and pages, byte for byte over plain HTTP."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest

from ettametta_pipelines.sandbox.server import SandboxServer
from ettametta_pipelines_tests.conftest import SandboxUnderTest

CHUNK = 256 * 1024
SIZE = CHUNK + 1000
DATA = bytes(range(256)) * (SIZE // 256 + 1)
CLIENT = {"client_id": "id", "client_secret": "secret"}
METADATA: dict[str, Any] = {"snippet": {"title": "A title"}, "status": {"privacyStatus": "private"}}


class Owner:
    """A connected account that speaks plain HTTP."""

    def __init__(self, url: str, account: str = "acme") -> None:
        self.url = f"{url}/youtube"
        form = {"grant_type": "authorization_code", "code": f"sandbox-{account}", **CLIENT}
        self.http = httpx.Client(verify=False)
        self.tokens = self.http.post(f"{self.url}/token", data=form).json()
        self.http.headers["authorization"] = f"Bearer {self.tokens['access_token']}"

    def open(
        self, body: dict[str, Any] | None = None, size: int = SIZE, mime: str = "video/mp4"
    ) -> httpx.Response:
        return self.http.post(
            f"{self.url}/upload/youtube/v3/videos",
            params={
                "uploadType": "resumable",
                "part": "snippet,status,localizations,paidProductPlacementDetails",
            },
            json=METADATA if body is None else body,
            headers={"x-upload-content-length": str(size), "x-upload-content-type": mime},
        )

    def put(self, location: str, data: bytes, content_range: str) -> httpx.Response:
        return self.http.put(location, content=data, headers={"content-range": content_range})

    def upload(self, data: bytes = DATA[:SIZE], body: dict[str, Any] | None = None) -> dict[str, Any]:
        location = self.open(body, len(data)).headers["location"]
        answer = self.put(location, data, f"bytes 0-{len(data) - 1}/{len(data)}")
        assert answer.status_code == 200
        return dict(answer.json())

    def api(self, method: str, path: str, **options: Any) -> httpx.Response:
        return self.http.request(method, f"{self.url}/youtube/v3/{path}", **options)

    def videos(self) -> list[str]:
        channel = self.api("GET", "channels", params={"part": "contentDetails", "mine": "true"}).json()
        playlist = channel["items"][0]["contentDetails"]["relatedPlaylists"]["uploads"]
        listed = self.api(
            "GET", "playlistItems", params={"part": "contentDetails", "playlistId": playlist}
        ).json()
        return [item["contentDetails"]["videoId"] for item in listed["items"]]


@pytest.fixture
def owner(sandbox: SandboxUnderTest) -> Owner:
    return Owner(sandbox.url)


def reason(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["errors"][0]["reason"])


def test_ranges_are_answered_with_what_is_held_until_the_video_exists(owner: Owner) -> None:
    location = owner.open().headers["location"]
    nothing = owner.put(location, b"", f"bytes */{SIZE}")
    assert (nothing.status_code, "range" in nothing.headers) == (308, False)
    first = owner.put(location, DATA[:CHUNK], f"bytes 0-{CHUNK - 1}/{SIZE}")
    assert (first.status_code, first.headers["range"]) == (308, f"bytes=0-{CHUNK - 1}")
    assert owner.videos() == []
    last = owner.put(location, DATA[CHUNK:SIZE], f"bytes {CHUNK}-{SIZE - 1}/{SIZE}")
    assert last.status_code == 200
    assert last.json()["snippet"]["title"] == "A title"
    asked = owner.put(location, b"", f"bytes */{SIZE}")
    assert (asked.status_code, asked.json()["id"]) == (200, last.json()["id"])
    assert owner.videos() == [last.json()["id"]]


def test_bytes_sent_twice_are_kept_once(owner: Owner, sandbox: SandboxUnderTest) -> None:
    location = owner.open().headers["location"]
    owner.put(location, DATA[:CHUNK], f"bytes 0-{CHUNK - 1}/{SIZE}")
    video = owner.put(location, DATA[:SIZE], f"bytes 0-{SIZE - 1}/{SIZE}").json()
    assert sandbox.http.get(f"/youtube/media/{video['id']}").content == DATA[:SIZE]


@pytest.mark.parametrize(
    ("data", "content_range"),
    [
        (DATA[:1000], f"bytes 0-999/{SIZE}"),
        (DATA[:CHUNK], f"bytes 0-{CHUNK - 1}/{SIZE + 1}"),
        (DATA[:CHUNK], f"bytes {CHUNK}-{2 * CHUNK - 1}/{SIZE}"),
        (DATA[:1000], f"bytes {CHUNK}-{SIZE - 1}/{SIZE}"),
        (DATA[:CHUNK], f"bytes 0-{CHUNK}/{SIZE}"),
        (DATA[:CHUNK], "bytes zero-all"),
        (DATA[:CHUNK], f"bytes 9-3/{SIZE}"),
    ],
)
def test_ranges_that_do_not_fit_are_refused(owner: Owner, data: bytes, content_range: str) -> None:
    location = owner.open().headers["location"]
    assert owner.put(location, data, content_range).status_code == 400
    assert owner.put(location, b"", f"bytes */{SIZE}").status_code == 308


def test_one_session_makes_one_video_even_when_its_end_arrives_twice(owner: Owner) -> None:
    location = owner.open().headers["location"]
    with ThreadPoolExecutor(4) as pool:
        answers = list(
            pool.map(
                lambda _: owner.put(location, DATA[:SIZE], f"bytes 0-{SIZE - 1}/{SIZE}").json()["id"],
                range(4),
            )
        )
    assert len(set(answers)) == 1
    assert owner.videos() == answers[:1]


def test_an_unknown_or_expired_session_is_gone(owner: Owner, sandbox: SandboxUnderTest) -> None:
    unknown = f"{sandbox.url}/youtube/upload/youtube/v3/videos?upload_id=none"
    assert owner.put(unknown, b"", f"bytes */{SIZE}").status_code == 404
    location = owner.open().headers["location"]
    sandbox.advance(days=8)
    assert owner.put(location, b"", f"bytes */{SIZE}").status_code == 404


def test_a_session_and_its_bytes_outlive_a_restart_of_the_sandbox(
    owner: Owner, sandbox: SandboxUnderTest
) -> None:
    location = owner.open().headers["location"]
    owner.put(location, DATA[:CHUNK], f"bytes 0-{CHUNK - 1}/{SIZE}")
    sandbox.server.stop()
    with SandboxServer(sandbox.home, sandbox.port):
        asked = owner.put(location, b"", f"bytes */{SIZE}")
        assert asked.headers["range"] == f"bytes=0-{CHUNK - 1}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"snippet": {"title": ""}}, "invalidTitle"),
        ({"status": {"privacyStatus": "private"}}, "invalidTitle"),
        ({"snippet": {"title": "x" * 101}}, "invalidTitle"),
        ({"snippet": {"title": "a > b"}}, "invalidTitle"),
        ({"snippet": {"title": "x", "description": "é" * 2501}}, "invalidDescription"),
        ({"snippet": {"title": "x", "tags": ["t" * 100] * 5}}, "invalidTags"),
        ({"snippet": {"title": "x", "categoryId": "99"}}, "invalidCategoryId"),
        ({"snippet": {"title": "x"}, "status": {"publishAt": "2099-01-01T00:00:00Z"}}, "invalidPublishAt"),
        (
            {"snippet": {"title": "x"}, "status": {"privacyStatus": "private", "publishAt": "2020-01-01T00:00:00Z"}},
            "invalidPublishAt",
        ),
        ({"snippet": {"title": "x", "colour": "red"}}, "badRequest"),
    ],
)  # fmt: skip
def test_metadata_youtube_would_refuse_is_refused(owner: Owner, body: dict[str, Any], expected: str) -> None:
    answer = owner.open(body)
    assert (answer.status_code, reason(answer)) == (400, expected)


def test_files_youtube_would_refuse_are_refused(owner: Owner) -> None:
    assert reason(owner.open(mime="image/png")) == "badContent"
    assert reason(owner.open(size=0)) == "mediaBodyRequired"
    assert owner.open(size=274_877_906_945).status_code == 413


def test_metadata_sent_to_the_address_without_media_opens_nothing(owner: Owner) -> None:
    answer = owner.api("POST", "videos", params={"part": "snippet"}, json=METADATA)
    assert (answer.status_code, reason(answer)) == (400, "mediaBodyRequired")


def test_an_upload_is_public_unless_it_says_otherwise_and_read_only_fields_are_ignored(owner: Owner) -> None:
    body = {"snippet": {"title": "x", "channelId": "UCsomebody"}, "status": {"uploadStatus": "processed"}}
    video = owner.upload(body=body)
    assert video["status"]["privacyStatus"] == "public"
    assert video["status"]["uploadStatus"] == "uploaded"
    assert video["snippet"]["channelId"] != "UCsomebody"


def test_parts_that_were_not_named_are_not_written(owner: Owner) -> None:
    location = owner.http.post(
        f"{owner.url}/upload/youtube/v3/videos",
        params={"uploadType": "resumable", "part": "snippet"},
        json=METADATA,
        headers={"x-upload-content-length": "1000", "x-upload-content-type": "video/mp4"},
    ).headers["location"]
    video_id = owner.put(location, DATA[:1000], "bytes 0-999/1000").json()["id"]
    status = owner.api("GET", "videos", params={"part": "status", "id": video_id}).json()["items"][0]
    assert status["status"]["privacyStatus"] == "public"


def test_bytes_that_are_no_video_fail_in_processing(owner: Owner) -> None:
    video_id = owner.upload()["id"]
    states = [
        owner.api("GET", "videos", params={"part": "status,processingDetails", "id": video_id}).json()[
            "items"
        ][0]
        for _ in range(3)
    ]
    assert [s["status"]["uploadStatus"] for s in states] == ["uploaded", "failed", "failed"]
    assert states[1]["status"]["failureReason"] == "invalidFile"
    assert states[1]["processingDetails"]["processingStatus"] == "failed"


def test_a_private_video_is_seen_by_its_owner_alone(owner: Owner, sandbox: SandboxUnderTest) -> None:
    video_id = owner.upload()["id"]
    other = Owner(sandbox.url, "other")
    query = {"part": "snippet", "id": video_id}
    assert len(owner.api("GET", "videos", params=query).json()["items"]) == 1
    assert other.api("GET", "videos", params=query).json()["items"] == []
    update = {"id": video_id, "snippet": {"title": "mine now", "categoryId": "22"}}
    stolen = other.api("PUT", "videos", params={"part": "snippet"}, json=update)
    assert (stolen.status_code, reason(stolen)) == (403, "forbidden")


def test_a_scheduled_video_becomes_public_when_its_time_comes(
    owner: Owner, sandbox: SandboxUnderTest
) -> None:
    at = (sandbox.clock() + timedelta(hours=2)).isoformat()
    body = {"snippet": {"title": "x"}, "status": {"privacyStatus": "private", "publishAt": at}}
    video_id = owner.upload(body=body)["id"]
    other = Owner(sandbox.url, "other")
    query = {"part": "status,statistics", "id": video_id}
    assert other.api("GET", "videos", params=query).json()["items"] == []
    sandbox.advance(hours=3)
    other = Owner(sandbox.url, "other")
    seen = other.api("GET", "videos", params=query).json()["items"][0]
    assert seen["status"]["privacyStatus"] == "public"
    assert int(seen["statistics"]["viewCount"]) > 0


def test_views_of_a_public_upload_grow_with_its_age_and_a_private_one_has_none(
    owner: Owner, sandbox: SandboxUnderTest
) -> None:
    public = owner.upload(body={"snippet": {"title": "x"}, "status": {"privacyStatus": "public"}})["id"]
    private = owner.upload()["id"]

    def views() -> list[int]:
        stats = owner.api("GET", "videos", params={"part": "statistics", "id": f"{public},{private}"}).json()
        return [int(item["statistics"]["viewCount"]) for item in stats["items"]]

    first = views()
    sandbox.advance(minutes=50)
    second = views()
    assert 0 < first[0] < second[0]
    assert first[1] == second[1] == 0


def test_an_update_replaces_whole_parts(owner: Owner) -> None:
    body = {"snippet": {"title": "x", "tags": ["a"]}, "status": {"privacyStatus": "private"}}
    video_id = owner.upload(body=body)["id"]
    sent = {"id": video_id, "snippet": {"title": "y", "categoryId": "27"}}
    changed = owner.api("PUT", "videos", params={"part": "snippet"}, json=sent).json()
    assert changed["snippet"]["title"] == "y"
    assert "tags" not in changed["snippet"]
    no_category = {"id": video_id, "snippet": {"title": "z"}}
    refused = owner.api("PUT", "videos", params={"part": "snippet"}, json=no_category)
    assert reason(refused) == "invalidCategoryId"


def test_a_deleted_video_is_gone_from_every_list(owner: Owner) -> None:
    video_id = owner.upload()["id"]
    assert owner.api("DELETE", "videos", params={"id": video_id}).status_code == 204
    assert owner.videos() == []
    assert (
        owner.api("GET", "videos", params={"part": "id", "id": video_id}).json()["pageInfo"]["totalResults"]
        == 0
    )


def test_reading_with_a_key_does_not_let_anyone_upload(sandbox: SandboxUnderTest) -> None:
    answer = sandbox.http.post(
        "/youtube/upload/youtube/v3/videos",
        params={"uploadType": "resumable", "part": "snippet", "key": "sandbox-key"},
        json=METADATA,
    )
    assert (answer.status_code, reason(answer)) == (401, "required")


def test_an_access_token_ends_after_an_hour_and_a_refresh_gives_another(
    owner: Owner, sandbox: SandboxUnderTest
) -> None:
    query = {"part": "id", "mine": "true"}
    assert owner.api("GET", "channels", params=query).status_code == 200
    sandbox.advance(hours=1)
    assert owner.api("GET", "channels", params=query).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": owner.tokens["refresh_token"], **CLIENT}
    fresh = owner.http.post(f"{owner.url}/token", data=form).json()
    assert "refresh_token" not in fresh
    owner.http.headers["authorization"] = f"Bearer {fresh['access_token']}"
    assert owner.api("GET", "channels", params=query).status_code == 200


@pytest.mark.parametrize(
    ("form", "status", "error"),
    [
        ({"grant_type": "authorization_code", "code": "hello", **CLIENT}, 400, "invalid_grant"),
        ({"grant_type": "authorization_code", "code": "sandbox-Not_A_Slug", **CLIENT}, 400, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "1//none", **CLIENT}, 400, "invalid_grant"),
        ({"grant_type": "password", **CLIENT}, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "sandbox-acme"}, 401, "invalid_client"),
    ],
)
def test_the_token_endpoint_refuses_as_google_does(
    sandbox: SandboxUnderTest, form: dict[str, str], status: int, error: str
) -> None:
    answer = sandbox.http.post("/youtube/token", data=form)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_a_revoked_grant_ends_both_tokens(owner: Owner) -> None:
    owner.http.post(f"{owner.url}/revoke", data={"token": owner.tokens["access_token"]}).raise_for_status()
    assert owner.api("GET", "channels", params={"part": "id", "mine": "true"}).status_code == 401
    form = {"grant_type": "refresh_token", "refresh_token": owner.tokens["refresh_token"], **CLIENT}
    assert owner.http.post(f"{owner.url}/token", data=form).json()["error"] == "invalid_grant"


def test_the_same_account_keeps_its_channel_and_another_has_its_own(sandbox: SandboxUnderTest) -> None:
    def channel(account: str) -> str:
        found = Owner(sandbox.url, account).api("GET", "channels", params={"part": "id", "mine": "true"})
        return str(found.json()["items"][0]["id"])

    assert channel("acme") == channel("acme") != channel("other")


def test_the_watch_page_escapes_what_uploaders_wrote_and_plays_in_ranges(
    owner: Owner, sandbox: SandboxUnderTest
) -> None:
    body = {
        "snippet": {"title": "Tom & \"Jerry\" 'x'", "description": "a & b"},
        "status": {"privacyStatus": "private"},
    }
    video_id = owner.upload(body=body)["id"]
    page = sandbox.http.get("/youtube/watch", params={"v": video_id})
    assert "<h1>Tom &amp; &quot;Jerry&quot; &#x27;x&#x27;</h1>" in page.text
    assert "private" in page.text
    assert "<video" in page.text
    part = sandbox.http.get(f"/youtube/media/{video_id}", headers={"range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, DATA[10:20])
    unknown = sandbox.http.get("/youtube/watch", params={"v": "<script>alert(1)</script>"})
    assert unknown.status_code == 404
    assert "<script>" not in unknown.text
