"""Sandboxed YouTube Data API v3: discovery, channels, uploads, the token endpoint, thumbnails and watch pages.

Every API request is first checked against Google's discovery document (`google_requests.py`), then for who asks and
for quota (`youtube_accounts.py`), then answered by one handler per method, listed in `_METHODS`. Other people's
videos come from `youtube_catalog.py`, the accounts' own from `youtube_uploads.py`.
"""

import base64
import html
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.core import SandboxStore, read_form, seeded_rng
from ettametta_pipelines.sandbox.google_requests import ApiCall, GoogleRefusal, load_api
from ettametta_pipelines.sandbox.youtube_accounts import Accounts, Caller, OwnChannel, unauthorized
from ettametta_pipelines.sandbox.youtube_analytics import Analytics
from ettametta_pipelines.sandbox.youtube_catalog import (
    Catalog,
    CatalogChannel,
    CatalogVideo,
    Statistics,
    subject_of,
)
from ettametta_pipelines.sandbox.youtube_pages import Pages
from ettametta_pipelines.sandbox.youtube_resources import Resources, Video, etag, id_of
from ettametta_pipelines.sandbox.youtube_uploads import CATEGORIES, Uploads, is_public

MAX_IDS = 50
CHART_LOOKBACK = timedelta(days=10)
# Categories the mostPopular chart is made of since July 2025; "0" is all of them.
CHARTS = {"0": "music video", "10": "music video", "1": "movie trailer", "20": "gaming"}
DURATION_FILTERS = {"short": (0, 240), "medium": (240, 1200), "long": (1200, 10**9)}

T = TypeVar("T")
Answer = dict[str, Any] | Response


@dataclass(frozen=True)
class _Served:
    """How one method is served: its handler, what it costs, whether a key alone will do."""

    handler: "Callable[[YouTubeSandbox, ApiCall, Caller, Request], Awaitable[Answer]]"
    bucket: str
    cost: int
    needs_channel: bool = False


def router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """Routes below `/youtube`."""
    routes = APIRouter()
    youtube = YouTubeSandbox(store, f"{public_url}/youtube", clock, seed)

    @routes.api_route("/youtube/v3/{path:path}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    async def api(path: str, request: Request) -> Response:
        return await youtube.answer(request, f"youtube/v3/{path}")

    @routes.api_route("/upload/youtube/v3/{path:path}", methods=["POST", "PUT"])
    async def upload(path: str, request: Request) -> Response:
        return await youtube.answer_upload(request, f"youtube/v3/{path}")

    @routes.get("/v2/reports")
    def reports(request: Request) -> Response:
        return youtube.analytics.answer(request)

    @routes.post("/token")
    async def token(request: Request) -> Response:
        return youtube.accounts.token(await read_form(request))

    routes.add_api_route("/o/oauth2/v2/auth", youtube.accounts.consent_page.show, methods=["GET"])
    routes.add_api_route("/o/oauth2/v2/auth", youtube.accounts.consent_page.answer, methods=["POST"])

    @routes.post("/revoke")
    async def revoke(request: Request) -> Response:
        return youtube.accounts.revoke((await read_form(request)).get("token", ""))

    @routes.get("/vi/{video_id}/{name}.jpg")
    def thumbnail(video_id: str, name: str) -> Response:
        return youtube.pages.thumbnail(video_id, name)

    @routes.get("/watch")
    async def watch(v: str = "") -> Response:
        return youtube.pages.watch_page(v)

    @routes.get("/media/{video_id}")
    async def media(video_id: str) -> Response:
        return youtube.pages.media(video_id)

    return routes


class YouTubeSandbox:
    """The service itself; one instance per app."""

    def __init__(self, store: SandboxStore, url: str, clock: Clock, seed: int) -> None:
        self.store = store
        self.url = url
        self.clock = clock
        self.seed = seed
        self.api = load_api("youtube.v3")
        self.accounts = Accounts(store, clock, seed, url=url)
        self.uploads = Uploads(store, clock, seed, upload_url=f"{url}/upload/youtube/v3/videos")
        self.catalog = Catalog(seed, remember=self._remember_subject, recall=self._recall_subject)
        self.resources = Resources(self.accounts, self.uploads, self.catalog, url=url, clock=clock, seed=seed)
        self.analytics = Analytics(self.accounts, self.uploads, self.resources.own_statistics, clock, seed)
        self.pages = Pages(store, self.accounts, self.uploads, self.catalog, self.resources, clock)

    def _remember_subject(self, code: str, subject: str) -> None:
        self.store.insert("youtube_subject", code, {"subject": subject})

    def _recall_subject(self, code: str) -> str | None:
        stored = self.store.get("youtube_subject", code)
        return stored["subject"] if stored else None

    async def answer(self, request: Request, path: str) -> Response:
        """Answer an API request, a refusal in Google's shape included."""
        try:
            http_method, query = await _method_and_query(request)
            call, caller, served = await self._admit(request, http_method, path, query)
            if call.method.media is not None:
                raise GoogleRefusal(
                    400, "mediaBodyRequired", "The request does not include the media content."
                )
            return _as_response(await served.handler(self, call, caller, request))
        except GoogleRefusal as refusal:
            return refusal.response()

    async def answer_upload(self, request: Request, path: str) -> Response:
        """Answer the media side: a PUT of a session, or the POST that brings media or opens a session."""
        try:
            upload_id = request.query_params.get("upload_id")
            if upload_id is not None:
                stored = await self.uploads.put(request, upload_id)
                if isinstance(stored, Response):
                    return stored
                session = self.store.get("youtube_session", upload_id) or {}
                return _as_response(self.resources.video(stored, session.get("parts", ["id"]), owner=True))
            protocol = request.query_params.get("uploadType")
            query = [
                (k, v) for k, v in request.query_params.multi_items() if k not in ("uploadType", "upload_id")
            ]
            call, caller, served = await self._admit(request, request.method, path, query)
            wanted = {"youtube.videos.insert": "resumable", "youtube.thumbnails.set": "media"}
            if protocol != wanted.get(call.method.id):
                raise GoogleRefusal(
                    400,
                    "invalidParameter",
                    f"The sandbox takes {call.method.id} with uploadType={wanted.get(call.method.id)}, "
                    f"not {protocol}.",
                    location="uploadType",
                )
            return _as_response(await served.handler(self, call, caller, request))
        except GoogleRefusal as refusal:
            return refusal.response()

    async def _admit(
        self, request: Request, http_method: str, path: str, query: Sequence[tuple[str, str]]
    ) -> tuple[ApiCall, Caller, _Served]:
        """Who asks, quota, parameters, body, in that order: an invalid request costs quota too."""
        method = self.api.method(http_method, path)
        shared = dict(query)
        caller = self.accounts.caller(
            method,
            authorization=request.headers.get("authorization"),
            key=request.headers.get("x-goog-api-key") or shared.get("key"),
        )
        served = _METHODS.get(method.id)
        if served is None:
            raise GoogleRefusal(501, "notImplemented", f"{method.id} is not part of the sandbox.")
        if served.needs_channel and caller.channel is None:
            raise unauthorized(missing=True)
        self.accounts.spend_quota(served.bucket, served.cost)
        parameters = self.api.check_parameters(method, query)
        body = self.api.check_body(method, await _json_body(request)) if method.request_schema else {}
        return ApiCall(method, parameters, body), caller, served

    # Discovery

    async def search(self, call: ApiCall, caller: Caller, request: Request) -> Answer:
        if set(call.parts) - {"snippet", "id"}:
            raise GoogleRefusal(400, "unknownPart", "part must be snippet", domain="youtube.part")
        subject = subject_of(call.one("q") or "")
        kinds = call.values("type") or ["video"]
        unknown = set(kinds) - {"video", "channel", "playlist"}
        if unknown:
            raise GoogleRefusal(
                400, "invalidParameter", f"Invalid type: {', '.join(sorted(unknown))}", location="type"
            )
        found: list[CatalogVideo | CatalogChannel] = []
        if "video" in kinds:
            found += self._matching_videos(call, subject)
        if "channel" in kinds:
            found += self.catalog.channels(subject)
        page = self._page(found, call, self._search_result)
        region = {"regionCode": call.one("regionCode") or "US"}
        return {"kind": "youtube#searchListResponse", **page, **region}

    def _matching_videos(self, call: ApiCall, subject: str) -> list[CatalogVideo]:
        now = self.clock()
        after, before = call.instant("publishedAfter"), call.instant("publishedBefore")
        channel_id = call.one("channelId")
        if call.one("eventType") in ("live", "upcoming"):
            return []
        if channel_id is not None:
            channel = self.catalog.channel(channel_id)
            if channel is None:
                return []
            videos = list(self.catalog.published(channel, after or channel.started_at, before or now, now))
        else:
            videos = self.catalog.search(subject, after, before, now)
        low, high = DURATION_FILTERS.get(call.one("videoDuration") or "", (0, 10**9))
        videos = [v for v in videos if low <= v.duration_s < high]
        if call.one("videoLicense") == "creativeCommon":
            videos = [v for v in videos if v.is_creative_commons]
        category = call.one("videoCategoryId")
        if category:
            videos = [v for v in videos if v.channel.category_id == category]
        return self._sorted(videos, call, now)

    def _sorted(self, videos: list[CatalogVideo], call: ApiCall, now: datetime) -> list[CatalogVideo]:
        region = call.one("regionCode") or "US"

        def relevance(video: CatalogVideo) -> float:
            local = 1.5 if video.channel.country == region else 1.0
            chance = seeded_rng(self.seed, "relevance", region, video.id).uniform(0.5, 1.5)
            return chance * local * math.sqrt(math.sqrt(1 + video.statistics(now).views))

        orders: dict[str, Callable[[CatalogVideo], Any]] = {
            "date": lambda video: -video.published_at.timestamp(),
            "viewCount": lambda video: -video.statistics(now).views,
            "rating": lambda video: -_rating(video.statistics(now)),
            "title": lambda video: video.title.casefold(),
        }
        orders["relevance"] = lambda video: -relevance(video)
        order = orders.get(call.one("order") or "relevance", orders["relevance"])
        return sorted(videos, key=lambda video: (order(video), video.id))

    def _search_result(self, found: CatalogVideo | CatalogChannel) -> dict[str, Any]:
        return self._video_result(found) if isinstance(found, CatalogVideo) else self._channel_result(found)

    def _video_result(self, video: CatalogVideo) -> dict[str, Any]:
        snippet = self.resources.snippet(video)
        # As the real search does: its titles and descriptions come with HTML entities.
        for name in ("title", "description", "channelTitle"):
            snippet[name] = html.escape(snippet[name]).replace("&#x27;", "&#39;")
        kept = ("publishedAt", "channelId", "title", "description", "thumbnails", "channelTitle")
        return {
            "kind": "youtube#searchResult",
            "etag": etag(video.id, "search"),
            "id": {"kind": "youtube#video", "videoId": video.id},
            "snippet": {name: snippet[name] for name in kept}
            | {"liveBroadcastContent": "none", "publishTime": snippet["publishedAt"]},
        }

    def _channel_result(self, channel: CatalogChannel) -> dict[str, Any]:
        resource = self.resources.channel(channel, ["snippet"])
        return {
            "kind": "youtube#searchResult",
            "etag": etag(channel.id, "search"),
            "id": {"kind": "youtube#channel", "channelId": channel.id},
            "snippet": resource["snippet"] | {"channelId": channel.id, "channelTitle": channel.title},
        }

    async def list_videos(self, call: ApiCall, caller: Caller, request: Request) -> Answer:
        filters = _the_one_filter(call, ("id", "chart", "myRating"))
        if filters == "chart":
            return self._chart(call)
        if filters == "myRating":
            raise GoogleRefusal(501, "notImplemented", "myRating is not part of the sandbox.")
        ids = _ids(call)
        items = []
        for video_id in dict.fromkeys(ids):
            video = await self._find(video_id, caller, polls="status" in call.parts)
            if video is not None:
                items.append(self.resources.video(video, call.parts, owner=_owns(caller, video)))
        return {"kind": "youtube#videoListResponse", "etag": etag(*ids), "items": items, **_count(items)}

    def _chart(self, call: ApiCall) -> Answer:
        category = call.one("videoCategoryId") or "0"
        if call.one("chart") != "mostPopular" or category not in CHARTS:
            raise GoogleRefusal(
                404,
                "videoChartNotFound",
                "The requested video chart is not supported or is not available.",
                domain="youtube.video",
                location="chart",
            )
        now = self.clock()
        subject = f"{CHARTS[category]}@{call.one('regionCode') or 'US'}"
        videos = self.catalog.search(subject, now - CHART_LOOKBACK, None, now)
        videos.sort(key=lambda video: (-video.statistics(now).views, video.id))
        page = self._page(videos[:200], call, lambda video: self.resources.video(video, call.parts))
        return {"kind": "youtube#videoListResponse", **page}

    async def batch_get_stats(self, call: ApiCall, caller: Caller, request: Request) -> Answer:
        names = {"snippet", "contentDetails", "statistics", "id"}
        if set(call.parts) - names:
            raise GoogleRefusal(400, "unknownPart", "Unknown part.", domain="youtube.part", location="part")
        items = []
        for video_id in dict.fromkeys(_ids(call)):
            video = await self._find(video_id, caller, polls=False)
            if video is not None:
                whole = self.resources.video(video, ["contentDetails", "statistics"])
                item: dict[str, Any] = {"kind": "youtube#videoStats", "etag": whole["etag"], "id": video_id}
                shapes = {
                    "snippet": {"publishTime": self.resources.published_at(video)},
                    "contentDetails": {"duration": whole["contentDetails"]["duration"]},
                    "statistics": whole["statistics"],
                }
                items.append(item | {part: shape for part, shape in shapes.items() if part in call.parts})
        return {"kind": "youtube#batchGetStatsResponse", "etag": etag(*call.values("id")), "items": items}

    async def _find(self, video_id: str, caller: Caller, *, polls: bool) -> Video | None:
        """A video this caller may see. `polls`: its owner is looking at its processing state."""
        own = self.uploads.video(video_id)
        if own is None:
            return self.catalog.video(video_id, self.clock())
        if _owns(caller, own):
            return await self.uploads.look_at_processing(own) if polls else own
        return own if own["status"]["privacyStatus"] == "unlisted" or is_public(own, self.clock()) else None

    # Channels and playlists

    async def list_channels(self, call: ApiCall, caller: Caller, request: Request) -> Answer:
        chosen = _the_one_filter(call, ("id", "mine", "forHandle", "forUsername", "managedByMe"))
        found: list[CatalogChannel | OwnChannel | None] = []
        if chosen == "mine":
            if caller.channel is None:
                raise unauthorized(missing=True)
            found = [caller.channel] if call.flag("mine") else []
        elif chosen == "id":
            found = [
                self.accounts.channel_by_id(i) or self.catalog.channel(i) for i in dict.fromkeys(_ids(call))
            ]
        elif chosen == "forHandle":
            found = [self.accounts.channel_by_handle(call.one("forHandle") or "")]
        items = [self.resources.channel(channel, call.parts) for channel in found if channel is not None]
        # A list without results has no `items` at all here; clients must not count on the key.
        return {"kind": "youtube#channelListResponse", **_count(items), **({"items": items} if items else {})}

    async def list_playlist_items(self, call: ApiCall, caller: Caller, request: Request) -> Answer:
        if _the_one_filter(call, ("playlistId", "id")) == "id":
            raise GoogleRefusal(501, "notImplemented", "Playlist items by id are not part of the sandbox.")
        playlist = call.one("playlistId") or ""
        channel_id = "UC" + playlist[2:] if playlist.startswith("UU") else ""
        own = self.accounts.channel_by_id(channel_id)
        listed: Sequence[Video]
        if own is not None:
            is_owner = caller.channel is not None and caller.channel.id == own.id
            uploaded = self.uploads.videos_of(own.account)
            listed = [video for video in uploaded if is_owner or is_public(video, self.clock())]
        else:
            channel = self.catalog.channel(channel_id)
            if channel is None:
                raise GoogleRefusal(
                    404,
                    "playlistNotFound",
                    "The playlist identified with the request's <code>playlistId</code> parameter cannot be found.",
                    domain="youtube.playlistItem",
                    location="playlistId",
                )
            listed = self.catalog.uploads(channel, self.clock(), 200)
        wanted = call.one("videoId")
        positions: Sequence[int] = range(len(listed))
        if wanted is not None:
            positions = [position for position in positions if id_of(listed[position]) == wanted]
        page = self._page(
            positions,
            call,
            lambda position: self.resources.playlist_item(playlist, position, listed[position], call.parts),
        )
        return {"kind": "youtube#playlistItemListResponse", **page}

    async def list_categories(self, call: ApiCall, caller: Caller, request: Request) -> Answer:
        wanted = call.values("id") or list(CATEGORIES)
        items = [
            {
                "kind": "youtube#videoCategory",
                "etag": etag(number),
                "id": number,
                "snippet": {"title": CATEGORIES[number], "assignable": True, "channelId": "UC" + "A" * 22},
            }
            for number in wanted
            if number in CATEGORIES
        ]
        return {"kind": "youtube#videoCategoryListResponse", "items": items}

    # Uploads

    async def insert_video(self, call: ApiCall, caller: Caller, request: Request) -> Answer:
        assert caller.channel is not None
        return self.uploads.open_session(
            caller.channel,
            call.parts,
            call.body,
            size=request.headers.get("x-upload-content-length"),
            mime=request.headers.get("x-upload-content-type", "application/octet-stream"),
        )

    async def update_video(self, call: ApiCall, caller: Caller, request: Request) -> Answer:
        video = self._own_video(call.body.get("id", ""), caller)
        return self.resources.video(self.uploads.update(video, call.parts, call.body), call.parts, owner=True)

    async def delete_video(self, call: ApiCall, caller: Caller, request: Request) -> Answer:
        self.uploads.delete(self._own_video(call.one("id") or "", caller))
        return Response(status_code=204)

    async def set_thumbnail(self, call: ApiCall, caller: Caller, request: Request) -> Answer:
        video = self._own_video(call.one("videoId") or "", caller)
        await self.uploads.set_thumbnail(request, video)
        return {
            "kind": "youtube#thumbnailSetResponse",
            "etag": etag(video["id"], "thumbnail"),
            "items": [self.resources.thumbnails(video["id"])],
        }

    def _own_video(self, video_id: str, caller: Caller) -> dict[str, Any]:
        video = self.uploads.video(video_id)
        if video is None and self.catalog.video(video_id, self.clock()) is None:
            raise GoogleRefusal(
                404, "videoNotFound", "The video that you are trying to change cannot be found."
            )
        if video is None or not _owns(caller, video):
            raise GoogleRefusal(403, "forbidden", "The video may not be changed by this account.")
        return video

    def _page(
        self, items: Sequence[T], call: ApiCall, resource: Callable[[T], dict[str, Any]]
    ) -> dict[str, Any]:
        """One page of a list with its tokens, from `maxResults` and `pageToken`."""
        size = call.integer("maxResults")
        start = _offset_of(call.one("pageToken"))
        page: dict[str, Any] = {
            "etag": etag(start, size, *call.values("q")),
            "items": [resource(item) for item in items[start : start + size]],
            "pageInfo": {"totalResults": len(items), "resultsPerPage": size},
        }
        if size and start + size < len(items):
            page["nextPageToken"] = _page_token(start + size)
        if start > 0:
            page["prevPageToken"] = _page_token(max(0, start - size))
        return page


_METHODS: Mapping[str, _Served] = {
    "youtube.search.list": _Served(YouTubeSandbox.search, "search", 1),
    "youtube.videos.list": _Served(YouTubeSandbox.list_videos, "units", 1),
    "youtube.videos.batchGetStats": _Served(YouTubeSandbox.batch_get_stats, "batch_get_stats", 1),
    "youtube.videos.insert": _Served(YouTubeSandbox.insert_video, "videos_insert", 1, needs_channel=True),
    "youtube.videos.update": _Served(YouTubeSandbox.update_video, "units", 50, needs_channel=True),
    "youtube.videos.delete": _Served(YouTubeSandbox.delete_video, "units", 50, needs_channel=True),
    "youtube.thumbnails.set": _Served(YouTubeSandbox.set_thumbnail, "units", 50, needs_channel=True),
    "youtube.channels.list": _Served(YouTubeSandbox.list_channels, "units", 1),
    "youtube.playlistItems.list": _Served(YouTubeSandbox.list_playlist_items, "units", 1),
    "youtube.videoCategories.list": _Served(YouTubeSandbox.list_categories, "units", 1),
}


async def _method_and_query(request: Request) -> tuple[str, list[tuple[str, str]]]:
    """Google's clients send a GET whose URL grows too long as a POST form with an override header."""
    query = request.query_params.multi_items()
    if request.method == "POST" and request.headers.get("x-http-method-override") == "GET":
        form = parse_qsl((await request.body()).decode(), keep_blank_values=True)
        return "GET", [*query, *form]
    return request.method, query


async def _json_body(request: Request) -> object:
    raw = await request.body()
    try:
        return json.loads(raw or b"{}")
    except ValueError:
        raise GoogleRefusal(
            400, "parseError", "This API does not support parsing form-encoded input."
        ) from None


def _as_response(answer: Answer) -> Response:
    return answer if isinstance(answer, Response) else JSONResponse(answer)


def _the_one_filter(call: ApiCall, names: tuple[str, ...]) -> str:
    """The filter that was given; refusals for none and for several, as Google words them."""
    given = [name for name in names if call.values(name)]
    if not given:
        raise GoogleRefusal(
            400,
            "missingRequiredParameter",
            f"No filter selected. Expected one of: {', '.join(names)}",
            domain="youtube.parameter",
            location="parameters.",
        )
    if len(given) > 1:
        raise GoogleRefusal(
            400,
            "incompatibleParameters",
            f"Incompatible parameters specified in the request: {', '.join(given)}",
            domain="youtube.parameter",
            location="parameters.",
        )
    return given[0]


def _ids(call: ApiCall) -> list[str]:
    ids = call.values("id")
    if len(ids) > MAX_IDS:
        raise GoogleRefusal(
            400, "invalidParameter", f"At most {MAX_IDS} ids per call, not {len(ids)}.", location="id"
        )
    return ids


def _owns(caller: Caller, video: Video) -> bool:
    return (
        isinstance(video, dict) and caller.channel is not None and caller.channel.account == video["account"]
    )


def _rating(counted: Statistics) -> float:
    return (counted.likes or 0) / (counted.views + 1)


def _count(items: list[dict[str, Any]]) -> dict[str, Any]:
    return {"pageInfo": {"totalResults": len(items), "resultsPerPage": len(items)}}


def _page_token(offset: int) -> str:
    return "C" + base64.urlsafe_b64encode(f"page:{offset}".encode()).decode().rstrip("=")


def _offset_of(token: str | None) -> int:
    if not token:
        return 0
    try:
        text = base64.urlsafe_b64decode(token[1:] + "=" * (-len(token[1:]) % 4)).decode()
        return int(text.removeprefix("page:"))
    except ValueError:
        raise GoogleRefusal(
            400,
            "invalidPageToken",
            "The request specifies an invalid page token.",
            domain="youtube.parameter",
            location="pageToken",
        ) from None
