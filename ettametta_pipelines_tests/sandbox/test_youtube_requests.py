"""What the sandboxed YouTube refuses and how it words that: the discovery document decides, over plain HTTP."""

from typing import Any

import httpx
import pytest

from ettametta_pipelines.sandbox.google_requests import GoogleRefusal, load_api
from ettametta_pipelines_tests.conftest import SandboxUnderTest

KEY = "sandbox-key"
Query = list[tuple[str, str]]


def get(sandbox: SandboxUnderTest, path: str, query: Query, **headers: str) -> httpx.Response:
    return sandbox.http.get(f"/youtube/youtube/v3/{path}", params=[("key", KEY), *query], headers=headers)


def reason(answer: httpx.Response) -> str:
    return str(answer.json()["error"]["errors"][0]["reason"])


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        ("search", [], "missingRequiredParameter"),
        ("search", [("part", "")], "missingRequiredParameter"),
        ("search", [("part", "snippet"), ("colour", "red")], "unexpectedParameter"),
        ("search", [("part", "statistics")], "unknownPart"),
        ("search", [("part", "snippet"), ("order", "newest")], "invalidParameter"),
        ("search", [("part", "snippet"), ("maxResults", "51")], "invalidParameter"),
        ("search", [("part", "snippet"), ("maxResults", "-1")], "invalidParameter"),
        ("search", [("part", "snippet"), ("maxResults", "ten")], "invalidParameter"),
        ("search", [("part", "snippet"), ("publishedAfter", "yesterday")], "invalidParameter"),
        ("search", [("part", "snippet"), ("publishedAfter", "2026-11-22T00:00:00")], "invalidParameter"),
        ("search", [("part", "snippet"), ("forMine", "yes")], "invalidParameter"),
        ("search", [("part", "snippet"), ("q", "a"), ("q", "b")], "invalidParameter"),
        ("search", [("part", "snippet"), ("type", "film")], "invalidParameter"),
        ("search", [("part", "snippet"), ("pageToken", "zzz")], "invalidPageToken"),
        ("videos", [("part", "snippet")], "missingRequiredParameter"),
        ("videos", [("part", "snippet"), ("id", "a"), ("chart", "mostPopular")], "incompatibleParameters"),
        ("videos", [("part", "snippets"), ("id", "a")], "unknownPart"),
        (
            "videos",
            [("part", "snippet"), ("id", ",".join(f"v{n}" for n in range(51)))],
            "invalidParameter",
        ),
        ("videos:batchGetStats", [("part", "statistics")], "missingRequiredParameter"),
        ("videos:batchGetStats", [("part", "status"), ("id", "a")], "unknownPart"),
        ("channels", [("part", "snippet")], "missingRequiredParameter"),
    ],
)
def test_a_bad_request_is_refused_with_googles_reason(
    sandbox: SandboxUnderTest, path: str, query: Query, expected: str
) -> None:
    answer = get(sandbox, path, query)
    assert answer.status_code == 400
    assert reason(answer) == expected
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"


@pytest.mark.parametrize(
    ("path", "query", "status", "expected"),
    [
        (
            "videos",
            [("part", "snippet"), ("chart", "mostPopular"), ("videoCategoryId", "27")],
            404,
            "videoChartNotFound",
        ),
        ("playlistItems", [("part", "snippet"), ("playlistId", "UUnone")], 404, "playlistNotFound"),
        ("channels", [("part", "snippet"), ("mine", "true")], 401, "required"),
        ("nothing", [], 404, "notFound"),
        ("comments", [("part", "snippet"), ("id", "a")], 501, "notImplemented"),
    ],
)  # fmt: skip
def test_other_refusals_have_their_own_status(
    sandbox: SandboxUnderTest, path: str, query: Query, status: int, expected: str
) -> None:
    answer = get(sandbox, path, query)
    assert (answer.status_code, reason(answer)) == (status, expected)


def test_a_request_without_a_key_is_forbidden(sandbox: SandboxUnderTest) -> None:
    answer = sandbox.http.get("/youtube/youtube/v3/search", params={"part": "snippet"})
    assert (answer.status_code, reason(answer)) == (403, "forbidden")


def test_a_malformed_key_is_named_as_invalid(sandbox: SandboxUnderTest) -> None:
    answer = sandbox.http.get("/youtube/youtube/v3/search", params={"part": "snippet", "key": "?"})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["reason"] == "API_KEY_INVALID"


def test_an_unknown_token_is_unauthenticated(sandbox: SandboxUnderTest) -> None:
    query = [("part", "snippet"), ("mine", "true")]
    answer = get(sandbox, "channels", query, authorization="Bearer ya29.nobody")
    assert (answer.status_code, reason(answer)) == (401, "authError")


def test_lists_may_be_repeated_or_joined_by_commas(sandbox: SandboxUnderTest) -> None:
    hits = get(sandbox, "search", [("part", "snippet"), ("q", "tea"), ("maxResults", "3")]).json()["items"]
    ids = [hit["id"]["videoId"] for hit in hits]
    joined = get(sandbox, "videos", [("part", "snippet,statistics"), ("id", ",".join(ids))]).json()
    repeated = get(
        sandbox, "videos", [("part", "snippet"), ("part", "statistics"), *[("id", i) for i in ids]]
    ).json()
    assert [v["id"] for v in joined["items"]] == [v["id"] for v in repeated["items"]] == ids


def test_a_get_sent_as_a_form_is_answered_like_a_get(sandbox: SandboxUnderTest) -> None:
    answer = sandbox.http.post(
        "/youtube/youtube/v3/search",
        data={"part": "snippet", "q": "tea", "maxResults": "2", "key": KEY},
        headers={"x-http-method-override": "GET", "x-goog-api-key": KEY},
    )
    assert len(answer.json()["items"]) == 2


def test_a_hundred_searches_use_up_the_day(sandbox: SandboxUnderTest) -> None:
    with httpx.Client(base_url=f"{sandbox.url}/youtube/youtube/v3/", verify=False) as client:
        query = {"part": "snippet", "maxResults": "0", "eventType": "live", "key": KEY}
        answers = [client.get("search", params=query) for _ in range(101)]
        assert {a.status_code for a in answers[:100]} == {200}
        assert (answers[100].status_code, reason(answers[100])) == (403, "quotaExceeded")
        assert client.get("videos", params={"part": "id", "id": "a", "key": KEY}).status_code == 200
        sandbox.advance(hours=25)
        assert client.get("search", params=query).status_code == 200


def test_an_invalid_request_costs_quota_too(sandbox: SandboxUnderTest) -> None:
    with httpx.Client(base_url=f"{sandbox.url}/youtube/youtube/v3/", verify=False) as client:
        for _ in range(100):
            client.get("search", params={"part": "snippet", "maxResults": "99", "key": KEY})
        answer = client.get("search", params={"part": "snippet", "maxResults": "1", "key": KEY})
    assert reason(answer) == "quotaExceeded"


BODIES: list[tuple[dict[str, Any], str]] = [
    ({"snippet": {"tittle": "x"}}, "tittle"),
    ({"snipet": {}}, "snipet"),
    ({"snippet": {"title": 7}}, "resource.snippet.title"),
    ({"snippet": {"title": "x", "tags": "a,b"}}, "resource.snippet.tags"),
    ({"snippet": {"title": "x", "tags": [1]}}, "resource.snippet.tags[0]"),
    ({"status": {"privacyStatus": "secret"}}, "resource.status.privacyStatus"),
    ({"status": {"embeddable": "true"}}, "resource.status.embeddable"),
    ({"status": {"publishAt": "tomorrow"}}, "resource.status.publishAt"),
    ({"localizations": {"de": {"titel": "x"}}}, "titel"),
    ({"localizations": []}, "resource.localizations"),
]


@pytest.mark.parametrize(("body", "named"), BODIES)
def test_a_body_is_held_to_the_schema(body: dict[str, Any], named: str) -> None:
    api = load_api("youtube.v3")
    with pytest.raises(GoogleRefusal) as caught:
        api.check_body(api.method("POST", "youtube/v3/videos"), body)
    assert caught.value.status == 400
    assert named in str(caught.value)


def test_fields_the_schema_marks_read_only_are_dropped_from_a_body() -> None:
    api = load_api("youtube.v3")
    method = api.method("POST", "youtube/v3/comments")
    body = {"snippet": {"textOriginal": "hello", "imageUrl": "https://example.com/a.jpg"}}
    assert api.check_body(method, body) == {"snippet": {"textOriginal": "hello"}}
