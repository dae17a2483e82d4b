"""YouTube Data API v3: public data by key (`YouTubeData`), the app channels consent to (`YouTubeApp`), one channel
(`YouTubeChannel`).

Answers come back as values with integers and instants already read. Quota is not touched here: a caller reserves
what `METHOD_BUCKETS` says before each request, for which `YouTubeData.without_retries` sends one a call. Uploads are
driven by hand, one request per call, so that whoever holds the session URI can go on with them in another process.
Each may be shared between threads.
"""

import html
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal, TypeVar

from ettametta_pipelines.clock import Clock, rfc3339, utc_now
from ettametta_pipelines.failures import FailureKind, OutcomeUnknownError, PermanentError, TransientError
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.google_api import GoogleService
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    call_with_retries,
    http_client,
    raise_for_vendor,
    send,
)
from ettametta_pipelines.vendors.oauth import TokenSet

VENDOR = "YouTube"
MAX_IDS_PER_CALL = 50
# Google takes chunks in multiples of this, the last one excepted.
CHUNK_MULTIPLE = 256 * 1024

# Method -> (quota bucket, units a request costs). `recent_uploads` costs that per page of 50.
METHOD_BUCKETS: Mapping[str, tuple[str, int]] = {
    "search": ("search", 1),
    "batch_get_stats": ("batch_get_stats", 1),
    "most_popular": ("units", 1),
    "channels": ("units", 1),
    "uploads": ("units", 1),
    "identity": ("units", 1),
    "open_upload_session": ("videos_insert", 1),
    "video_status": ("units", 1),
    "recent_uploads": ("units", 1),
    "set_privacy": ("units", 51),
    "set_thumbnail": ("units", 50),
}

log = logging.getLogger(__name__)

T = TypeVar("T")
Privacy = Literal["public", "unlisted", "private"]

_DURATION = re.compile(
    r"P(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)S)?)?"
)
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,18}")
_SECONDS = {"weeks": 604_800, "days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
# Best picture a viewer of a list would see; larger ones are missing for many videos.
_THUMBNAIL_ORDER = ("high", "medium", "default", "standard", "maxres")

_GRANT_RULES: Mapping[str, ErrorRule] = {
    "invalid_grant": ErrorRule(
        FailureKind.NEEDS_PERSON,
        "invalid_grant",
        "Connect the channel again: `ettametta connect --account A --platform youtube`.",
    ),
    **dict.fromkeys(
        ("invalid_client", "unauthorized_client", "redirect_uri_mismatch"),
        ErrorRule(
            FailureKind.NEEDS_PERSON,
            "google_client_rejected",
            "Check GOOGLE_CLIENT_ID, GOOGLE_CLIENT_SECRET and the redirect addresses in the Google Cloud console.",
        ),
    ),
}


@dataclass(frozen=True)
class FoundVideo:
    """One hit of a search; statistics come from `batch_get_stats`."""

    video_id: str
    title: str
    description: str
    channel_id: str
    channel_title: str
    published_at: datetime
    thumbnail_url: str | None
    live: bool


@dataclass(frozen=True)
class SearchPage:
    """One page of hits; `total` is YouTube's estimate."""

    videos: tuple[FoundVideo, ...]
    next_page_token: str | None
    total: int


@dataclass(frozen=True)
class VideoStats:
    """Counters of a video now; None where the uploader hides them or there are none yet."""

    video_id: str
    published_at: datetime | None
    duration_s: int | None
    views: int | None
    likes: int | None
    comments: int | None


@dataclass(frozen=True)
class ChartVideo:
    """One entry of the mostPopular chart, with its counters."""

    found: FoundVideo
    stats: VideoStats


@dataclass(frozen=True)
class Channel:
    """A public channel. `subscribers` is None when hidden, else rounded by YouTube to three digits."""

    channel_id: str
    title: str
    handle: str | None
    country: str | None
    uploads_playlist: str | None
    subscribers: int | None
    video_count: int | None
    views: int | None


@dataclass(frozen=True)
class PlaylistVideo:
    """One entry of an uploads playlist, newest first. `privacy` is told to the owner only."""

    video_id: str
    title: str
    description: str
    published_at: datetime | None
    privacy: str | None
    thumbnail_url: str | None = None
    channel_title: str = ""


@dataclass(frozen=True)
class VideoMetadata:
    """What a video is published with. `privacy` is always sent: YouTube's own default is public.

    `publish_at` needs `privacy="private"` and lies in the future. `synthetic_media` and `paid_promotion` are the
    disclosures for realistic generated content and for advertising.
    """

    title: str
    description: str = ""
    tags: tuple[str, ...] = ()
    category_id: str = "22"
    privacy: Privacy = "private"
    publish_at: datetime | None = None
    made_for_kids: bool = False
    synthetic_media: bool = False
    paid_promotion: bool = False
    license: Literal["youtube", "creativeCommon"] = "youtube"
    language: str | None = None
    notify_subscribers: bool = True


@dataclass(frozen=True)
class UploadProgress:
    """How far a session is: bytes YouTube holds, the video's id once it exists, or `gone` when it must start anew."""

    received: int
    video_id: str | None = None
    gone: bool = False


@dataclass(frozen=True)
class VideoStatus:
    """Processing and visibility of an own video, in YouTube's words (`uploaded`, `processed`, `failed` ...)."""

    video_id: str
    upload_status: str
    privacy: str
    publish_at: datetime | None
    failure_reason: str | None
    rejection_reason: str | None
    processing_status: str | None

    @property
    def is_final(self) -> bool:
        return self.upload_status != "uploaded"


def watch_url(endpoint: VendorEndpoint, video_id: str) -> str:
    """Page a person opens: youtube.com, or the sandbox's own page."""
    if endpoint.mode == "live":
        return f"https://www.youtube.com/watch?v={video_id}"
    return f"{endpoint.base_url.rstrip('/')}/watch?v={video_id}"


class YouTubeData:
    """Public data, with an API key."""

    def __init__(self, endpoint: VendorEndpoint, *, clock: Clock = utc_now) -> None:
        self.endpoint = endpoint
        self._clock = clock
        headers = {"x-goog-api-key": endpoint.secret("youtube_api_key")}
        self._google = GoogleService(
            endpoint, document="youtube.v3", vendor=VENDOR, headers=headers, clock=clock
        )

    def without_retries(self) -> "YouTubeData":
        """The same data with one request a call, for callers that pay for every request and repeat it themselves."""
        return YouTubeData(replace(self.endpoint, max_retries=0), clock=self._clock)

    def watch_url(self, video_id: str) -> str:
        return watch_url(self.endpoint, video_id)

    def search(
        self,
        query: str,
        *,
        published_after: datetime,
        published_before: datetime,
        region: str | None = None,
        language: str | None = None,
        order: Literal["date", "rating", "relevance", "title", "viewCount"] = "viewCount",
        duration: Literal["any", "short", "medium", "long"] = "any",
        max_results: int = 50,
        page_token: str | None = None,
    ) -> SearchPage:
        """Videos on `query` published in [after, before), at most 50 a page. `region`: ISO 3166, `language`: BCP 47."""
        optional = {"regionCode": region, "relevanceLanguage": language, "pageToken": page_token}
        request = self._google.resource("search").list(
            part="snippet",
            type="video",
            q=query,
            publishedAfter=rfc3339(published_after),
            publishedBefore=rfc3339(published_before),
            order=order,
            videoDuration=duration,
            maxResults=max_results,
            **{name: value for name, value in optional.items() if value},
        )
        answer = self._google.read(request, "search for videos")
        return SearchPage(
            videos=tuple(_readable_hits(_items(answer))),
            next_page_token=answer.get("nextPageToken"),
            total=int(answer.get("pageInfo", {}).get("totalResults", 0)),
        )

    def batch_get_stats(self, ids: Sequence[str]) -> list[VideoStats]:
        """Counters of at most 50 videos, in the order asked; videos that are gone or private are left out."""
        return _batch_get_stats(self._google, ids)

    def most_popular(
        self, *, region: str, category_id: str | None = None, max_results: int = 50
    ) -> list[ChartVideo]:
        """The mostPopular chart, which since July 2025 holds music, films and games only."""
        optional = {"videoCategoryId": category_id} if category_id else {}
        request = self._google.resource("videos").list(
            part="snippet,contentDetails,statistics",
            chart="mostPopular",
            regionCode=region,
            maxResults=max_results,
            **optional,
        )
        answer = self._google.read(request, "give the chart")
        return [ChartVideo(_found(item["id"], item["snippet"]), _stats(item)) for item in _items(answer)]

    def channels(self, ids: Sequence[str]) -> list[Channel]:
        """At most 50 channels by id, in the order asked; unknown ones are left out."""
        _check_ids(ids)
        request = self._google.resource("channels").list(
            part="snippet,contentDetails,statistics", id=",".join(ids), maxResults=MAX_IDS_PER_CALL
        )
        answer = self._google.read(request, "describe channels")
        return _in_order(ids, {item["id"]: _channel(item) for item in _items(answer)})

    def uploads(self, playlist_id: str, max_results: int = 50) -> list[PlaylistVideo]:
        """The newest uploads of a channel by its uploads playlist, at most 50."""
        return _playlist_page(self._google, playlist_id, max_results, None)[0]


class YouTubeApp:
    """The OAuth app that channel owners consent to. `token_url` is Google's token endpoint."""

    def __init__(self, endpoint: VendorEndpoint, token_url: str, *, clock: Clock = utc_now) -> None:
        self.endpoint = endpoint
        self._token_url = token_url
        self._clock = clock

    def exchange_code(self, code: str, *, redirect_uri: str = "", code_verifier: str = "") -> TokenSet:
        """Tokens for the code a consent ended with; a code works once. `redirect_uri` as in the consent address."""
        form = {"grant_type": "authorization_code", "code": code}
        optional = {"redirect_uri": redirect_uri, "code_verifier": code_verifier}
        form |= {name: value for name, value in optional.items() if value}
        return self._token(form, "exchange a consent code", repeatable=False)

    def refresh(self, refresh_token: str) -> TokenSet:
        """A new access token. Raises NeedsPersonError `invalid_grant` when the consent has ended."""
        form = {"grant_type": "refresh_token", "refresh_token": refresh_token}
        return call_with_retries(
            lambda: self._token(form, "refresh a channel's token", repeatable=True),
            retries=self.endpoint.max_retries,
            seed="refresh",
        )

    def channel(self, access_token: str) -> "YouTubeChannel":
        return YouTubeChannel(self.endpoint, access_token, clock=self._clock)

    def watch_url(self, video_id: str) -> str:
        return watch_url(self.endpoint, video_id)

    def _token(self, form: Mapping[str, str], doing: str, *, repeatable: bool) -> TokenSet:
        client = {
            "client_id": self.endpoint.secret("google_client_id"),
            "client_secret": self.endpoint.secret("google_client_secret"),
        }
        with http_client(self.endpoint) as http:
            response = send(
                http,
                "POST",
                self._token_url,
                vendor="Google",
                doing=doing,
                repeatable=repeatable,
                data={**form, **client},
            )
        try:
            answer = response.json()
        except ValueError:
            answer = {}
        if not isinstance(answer, dict):
            answer = {}
        raise_for_vendor(
            response,
            vendor="Google",
            doing=doing,
            reason=str(answer.get("error", "")),
            detail=str(answer.get("error_description", "")),
            rules=_GRANT_RULES,
        )
        if "access_token" not in answer:
            raise TransientError(
                f"Google did not send a token when asked to {doing}.",
                code="google_answer_unreadable",
                remedy="It is tried again by itself; if it lasts, check the token address.",
            )
        return TokenSet(
            access_token=str(answer["access_token"]),
            refresh_token=answer.get("refresh_token"),
            expires_in_s=int(answer.get("expires_in", 3600)),
            refresh_expires_in_s=_integer(answer, "refresh_token_expires_in"),
            scopes=tuple(str(answer.get("scope", "")).split()),
        )


class YouTubeChannel:
    """One connected channel, for the life of one access token.

    A token that has run out raises NeedsPersonError `access_token_rejected`: refresh it once and make a new object.
    """

    def __init__(self, endpoint: VendorEndpoint, access_token: str, *, clock: Clock = utc_now) -> None:
        self.endpoint = endpoint
        headers = {"authorization": f"Bearer {access_token}"}
        self._google = GoogleService(
            endpoint, document="youtube.v3", vendor=VENDOR, headers=headers, clock=clock
        )

    def watch_url(self, video_id: str) -> str:
        return watch_url(self.endpoint, video_id)

    def identity(self) -> tuple[str, str, str]:
        """(channel id, title, uploads playlist) of whoever gave consent."""
        request = self._google.resource("channels").list(part="snippet,contentDetails", mine=True)
        items = _items(self._google.read(request, "name the connected channel"))
        if not items:
            raise PermanentError(
                "The Google account that gave consent has no YouTube channel.",
                code="no_channel",
                remedy="Create a channel with that account on youtube.com, then connect again.",
            )
        channel = _channel(items[0])
        return channel.channel_id, channel.title, channel.uploads_playlist or "UU" + channel.channel_id[2:]

    def open_upload_session(self, metadata: VideoMetadata, size: int, mime: str) -> str:
        """Announce a video of `size` bytes; the session URI is a secret and valid for about a week.

        Nothing is on the channel until the last byte, so a lost answer may simply be asked for again.
        """
        from googleapiclient.errors import MediaUploadSizeError

        body = _video_body(metadata)
        try:
            request = self._google.resource("videos").insert(
                part=",".join(body),
                notifySubscribers=metadata.notify_subscribers,
                body=body,
                media_body=_announced(size, mime),
            )
        except MediaUploadSizeError as error:
            raise PermanentError(
                f"YouTube takes no file of {size} bytes.",
                code="upload_too_large",
                remedy="Upload a video of at most 256 GiB.",
            ) from error
        doing = "open an upload"
        status, headers, content = self._google.exchange(
            request.uri,
            "POST",
            doing=doing,
            body=request.body,
            headers={
                **request.headers,
                "x-upload-content-type": mime,
                "x-upload-content-length": str(size),
            },
            repeatable=True,
        )
        location = headers.get("location")
        if status >= 300:
            raise self._google.refusal(status, headers, content, doing)
        if not location:
            raise TransientError(
                "YouTube opened an upload without saying where it goes.",
                code="youtube_no_session",
                remedy="It is tried again by itself.",
            )
        return location

    def query_session(self, session_uri: str, size: int) -> UploadProgress:
        """How far an upload is; also the way to find out what happened to a PUT without an answer."""
        return self._progress(
            session_uri, b"", f"bytes */{size}", "say how far an upload is", repeatable=True
        )

    def put_range(self, session_uri: str, data: bytes, start: int, total: int) -> UploadProgress:
        """Send bytes [start, start + len(data)) of `total`. Chunks but the last are multiples of 256 KiB.

        A lost answer raises OutcomeUnknownError: `query_session` then tells.
        """
        end = start + len(data)
        if not data or end > total or (end < total and len(data) % CHUNK_MULTIPLE):
            raise PermanentError(
                f"A range of {len(data)} bytes at {start} of {total} cannot be sent to YouTube.",
                code="bad_upload_range",
                remedy=f"Send multiples of {CHUNK_MULTIPLE} bytes and the rest last.",
            )
        content_range = f"bytes {start}-{end - 1}/{total}"
        return self._progress(session_uri, data, content_range, "take a part of a video", repeatable=False)

    def _progress(
        self, session_uri: str, data: bytes, content_range: str, doing: str, *, repeatable: bool
    ) -> UploadProgress:
        status, headers, content = self._google.exchange(
            session_uri,
            "PUT",
            doing=doing,
            body=data,
            headers={"content-range": content_range, "content-length": str(len(data))},
            repeatable=repeatable,
        )
        if status in (200, 201):
            return UploadProgress(_total_of(content_range), video_id=_video_id(content))
        if status == 308:
            return UploadProgress(_held(headers.get("range"), _total_of(content_range)))
        if status in (404, 410):
            return UploadProgress(0, gone=True)
        raise self._google.refusal(status, headers, content, doing)

    def video_status(self, video_id: str) -> VideoStatus | None:
        """Processing and visibility; None when the channel has no such video (any more)."""
        request = self._google.resource("videos").list(part="status,processingDetails", id=video_id)
        items = _items(self._google.read(request, "say how a video is doing"))
        if not items:
            return None
        status = items[0]["status"]
        return VideoStatus(
            video_id=video_id,
            upload_status=str(status.get("uploadStatus", "uploaded")),
            privacy=str(status.get("privacyStatus", "")),
            publish_at=_instant(status.get("publishAt")),
            failure_reason=status.get("failureReason"),
            rejection_reason=status.get("rejectionReason"),
            processing_status=items[0].get("processingDetails", {}).get("processingStatus"),
        )

    def recent_uploads(self, playlist: str, limit: int) -> list[PlaylistVideo]:
        """The channel's own newest uploads, private ones included: where a lost upload is looked for."""
        found: list[PlaylistVideo] = []
        token: str | None = None
        while len(found) < limit:
            size = min(50, limit - len(found))
            page, token = _playlist_page(self._google, playlist, size, token)
            found += page
            if token is None:
                break
        return found[:limit]

    def batch_get_stats(self, ids: Sequence[str]) -> list[VideoStats]:
        """As `YouTubeData.batch_get_stats`, and the channel's own private videos too."""
        return _batch_get_stats(self._google, ids)

    def set_privacy(self, video_id: str, privacy: Privacy) -> None:
        """Change visibility alone: an update replaces the whole part, so the rest is read first and sent along."""
        request = self._google.resource("videos").list(part="status", id=video_id)
        items = _items(self._google.read(request, "say how a video is published"))
        if not items:
            raise PermanentError(
                f"YouTube has no video {video_id} on this channel.",
                code="video_not_found",
                remedy="It was removed on YouTube; publish it again if it should be there.",
            )
        kept = {
            name: value
            for name, value in items[0]["status"].items()
            if name in _SETTABLE_STATUS and (name != "publishAt" or privacy == "private")
        }
        body = {"id": video_id, "status": {**kept, "privacyStatus": privacy}}
        update = self._google.resource("videos").update(part="status", body=body)
        self._google.write(update, "change who may see a video", repeatable=True)

    def set_thumbnail(self, video_id: str, data: bytes, mime: Literal["image/jpeg", "image/png"]) -> None:
        """Set the custom thumbnail (at most 50 MB). 403 for channels that may not have one."""
        from googleapiclient.http import MediaInMemoryUpload

        media = MediaInMemoryUpload(data, mimetype=mime, resumable=False)
        request = self._google.resource("thumbnails").set(videoId=video_id, media_body=media)
        self._google.write(request, "set a thumbnail", repeatable=True)


_SETTABLE_STATUS = frozenset(
    {
        "privacyStatus", "publishAt", "license", "embeddable", "publicStatsViewable", "selfDeclaredMadeForKids",
        "containsSyntheticMedia",
    }
)  # fmt: skip


def parse_duration(text: str) -> int:
    """Seconds of an ISO 8601 duration as YouTube writes it (`PT1H2M3S`, `P1DT2S`, `P0D` for a live stream)."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no duration")
    return sum(int(value) * _SECONDS[unit] for unit, value in match.groupdict().items() if value)


def _video_body(metadata: VideoMetadata) -> dict[str, Any]:
    """Request body by part; the parts named in `part` are exactly those that are set."""
    snippet: dict[str, Any] = {
        "title": metadata.title,
        "description": metadata.description,
        "categoryId": metadata.category_id,
    }
    if metadata.tags:
        snippet["tags"] = list(metadata.tags)
    if metadata.language:
        snippet |= {"defaultLanguage": metadata.language, "defaultAudioLanguage": metadata.language}
    status: dict[str, Any] = {
        "privacyStatus": metadata.privacy,
        "license": metadata.license,
        "selfDeclaredMadeForKids": metadata.made_for_kids,
        "containsSyntheticMedia": metadata.synthetic_media,
    }
    if metadata.publish_at is not None:
        status["publishAt"] = rfc3339(metadata.publish_at)
    body: dict[str, Any] = {"snippet": snippet, "status": status}
    body["paidProductPlacementDetails"] = {"hasPaidProductPlacement": metadata.paid_promotion}
    return body


def _announced(size: int, mime: str) -> Any:
    """Stands for the file when a session is opened: the SDK wants its size and type, the bytes come later by range."""
    from googleapiclient.http import MediaUpload

    class Announced(MediaUpload):  # type: ignore[misc]
        def chunksize(self) -> int:
            return CHUNK_MULTIPLE

        def mimetype(self) -> str:
            return mime

        def size(self) -> int:
            return size

        def resumable(self) -> bool:
            return True

    return Announced()


def _held(header: str | None, total: int) -> int:
    """Bytes held according to a 308's `Range: bytes=0-N`, never more than there are; none without the header.

    Google's own SDK reads what stands behind the dash, however the rest is spelt.
    """
    match = re.fullmatch(r"(?:bytes[= ])?0-(\d+)(?:/.*)?", (header or "").strip())
    return min(int(match[1]) + 1, total) if match else 0


def _total_of(content_range: str) -> int:
    return int(content_range.rsplit("/", 1)[1])


def _video_id(content: bytes) -> str:
    import json

    try:
        return str(json.loads(content)["id"])
    except (ValueError, KeyError, TypeError):
        # The video exists; only its name was lost on the way.
        raise OutcomeUnknownError(
            "YouTube took the last part of a video but its answer cannot be read.",
            code="answer_lost",
            remedy="It is looked up among the channel's uploads before anything is sent again.",
        ) from None


def _batch_get_stats(google: GoogleService, ids: Sequence[str]) -> list[VideoStats]:
    _check_ids(ids)
    request = google.resource("videos").batchGetStats(
        part="snippet,contentDetails,statistics", id=",".join(ids)
    )
    answer = google.read(request, "give statistics of videos")
    return _in_order(ids, {item["id"]: _stats(item) for item in _items(answer) if "id" in item})


def _playlist_page(
    google: GoogleService, playlist: str, size: int, token: str | None
) -> tuple[list[PlaylistVideo], str | None]:
    request = google.resource("playlistItems").list(
        part="snippet,contentDetails,status",
        playlistId=playlist,
        maxResults=size,
        **({"pageToken": token} if token else {}),
    )
    answer = google.read(request, "list a channel's uploads")
    return list(_readable_uploads(_items(answer))), answer.get("nextPageToken")


def _readable_uploads(items: Iterable[Mapping[str, Any]]) -> Iterable[PlaylistVideo]:
    """Uploads that name a video; the others are logged and left out, as with `_readable_hits`."""
    for item in items:
        try:
            yield PlaylistVideo(
                video_id=str(item["contentDetails"]["videoId"]),
                title=str(item["snippet"].get("title", "")),
                description=str(item["snippet"].get("description", "")),
                published_at=_instant(item["contentDetails"].get("videoPublishedAt")),
                privacy=item.get("status", {}).get("privacyStatus"),
                thumbnail_url=_thumbnail(item["snippet"]),
                channel_title=str(item["snippet"].get("videoOwnerChannelTitle", "")),
            )
        except (KeyError, TypeError, AttributeError) as error:
            log.warning("An upload in a YouTube playlist cannot be read and is left out: %r.", error)


def _items(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lists without results may lack the key."""
    return list(answer.get("items", []))


def _in_order(ids: Iterable[str], found: Mapping[str, T]) -> list[T]:
    return [found[i] for i in dict.fromkeys(ids) if i in found]


def _check_ids(ids: Sequence[str]) -> None:
    if not 1 <= len(ids) <= MAX_IDS_PER_CALL:
        raise ValueError(f"between 1 and {MAX_IDS_PER_CALL} ids per call, not {len(ids)}")


def _readable_hits(items: Iterable[Mapping[str, Any]]) -> Iterable[FoundVideo]:
    """Hits that name a video, a channel and a date; the others are logged and left out, nothing can be made of them."""
    for item in items:
        try:
            yield _found(str(item["id"]["videoId"]), item["snippet"])
        except (KeyError, TypeError, ValueError) as error:
            log.warning("A hit of a YouTube search cannot be read and is left out: %r.", error)


def _found(video_id: str, snippet: Mapping[str, Any]) -> FoundVideo:
    published_at = _instant(snippet["publishedAt"])
    if published_at is None:
        raise ValueError(f"{video_id} has no date of publication")
    # Search results are the one place where YouTube sends text with HTML entities.
    return FoundVideo(
        video_id=video_id,
        title=html.unescape(str(snippet.get("title", ""))),
        description=html.unescape(str(snippet.get("description", ""))),
        channel_id=str(snippet["channelId"]),
        channel_title=html.unescape(str(snippet.get("channelTitle", ""))),
        published_at=published_at,
        thumbnail_url=_thumbnail(snippet),
        live=snippet.get("liveBroadcastContent", "none") != "none",
    )


def _thumbnail(snippet: Mapping[str, Any]) -> str | None:
    thumbnails = snippet.get("thumbnails", {})
    return next((str(thumbnails[n]["url"]) for n in _THUMBNAIL_ORDER if n in thumbnails), None)


def _stats(item: Mapping[str, Any]) -> VideoStats:
    counters = item.get("statistics") or {}
    duration = (item.get("contentDetails") or {}).get("duration")
    snippet = item.get("snippet") or {}
    return VideoStats(
        video_id=str(item["id"]),
        published_at=_instant(snippet.get("publishTime") or snippet.get("publishedAt")),
        duration_s=_duration(duration),
        views=_integer(counters, "viewCount"),
        likes=_integer(counters, "likeCount"),
        comments=_integer(counters, "commentCount"),
    )


def _duration(text: object) -> int | None:
    """Seconds, or None for what YouTube may one day write differently: a length is worth no failed night."""
    return parse_duration(text) if isinstance(text, str) and _DURATION.fullmatch(text) else None


def _channel(item: Mapping[str, Any]) -> Channel:
    snippet, counters = item.get("snippet", {}), item.get("statistics", {})
    hidden = bool(counters.get("hiddenSubscriberCount"))
    playlists = item.get("contentDetails", {}).get("relatedPlaylists", {})
    return Channel(
        channel_id=str(item["id"]),
        title=str(snippet.get("title", "")),
        handle=snippet.get("customUrl"),
        country=snippet.get("country"),
        uploads_playlist=playlists.get("uploads") or None,
        subscribers=None if hidden else _integer(counters, "subscriberCount"),
        video_count=_integer(counters, "videoCount"),
        views=_integer(counters, "viewCount"),
    )


def _integer(values: Mapping[str, Any], name: str) -> int | None:
    """Counters are strings on the wire; what is no whole number of 64 bits is as unknown as what is missing."""
    text = str(values.get(name, ""))
    return int(text) if _WHOLE_NUMBER.fullmatch(text) else None


def _instant(text: str | None) -> datetime | None:
    """An instant with its time zone; None for what is none, as for what is missing."""
    try:
        instant = datetime.fromisoformat(text) if text else None
    except (ValueError, TypeError):
        return None
    return instant if instant is not None and instant.tzinfo is not None else None
