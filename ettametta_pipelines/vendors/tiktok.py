"""TikTok over httpx: connecting a creator, direct post in chunks, the creator's own videos and figures.

There is no official SDK. Every answer is an envelope whose `error.code` decides, also on HTTP 200; the
token endpoint answers flat errors. No call here takes a decision to send something again that TikTok
might have acted on: posting is driven by `publishing/`, which owns the ledger. An upload URL lets anyone
post as the creator: it is a secret, and appears in no message and no `repr`.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from ettametta_pipelines.failures import (
    ERROR_BY_KIND,
    FailureKind,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    call_with_retries,
    http_client,
    raise_for_vendor,
    send,
    vendor_error,
)
from ettametta_pipelines.vendors.oauth import TokenSet

if TYPE_CHECKING:
    import httpx

    from ettametta_pipelines.settings import VendorEndpoint

VENDOR = "TikTok"
DAY_S = 86_400.0

MIN_CHUNK = 5 * 1024 * 1024
MAX_CHUNK = 64 * 1_000_000
MAX_TITLE_UNITS = 2200
MAX_IDS_PER_QUERY = 20

_RECONNECT = "Connect the account again: `ettametta connect --account A --platform tiktok`."
_WAIT = "Nothing to do; it is tried again after the wait."
_FIX = "Correct the post; the same request fails the same way again."
_AUDIT = "Post with SELF_ONLY from a private account, or have the app audited by TikTok."


def _rules(kind: FailureKind, remedy: str, codes: str, wait_s: float | None = None) -> dict[str, ErrorRule]:
    return {code: ErrorRule(kind, f"tiktok_{code}", remedy, wait_s) for code in codes.split()}


# `error.code` of the API and `error` of the token endpoint, with what each means for us.
ERRORS: dict[str, ErrorRule] = {
    **_rules(
        FailureKind.PERMANENT,
        _FIX,
        "invalid_param invalid_params invalid_publish_id token_not_authorized_for_specified_publish_id "
        "publish_not_cancellable app_version_check_failed privacy_level_option_mismatch invalid_request",
    ),
    **_rules(FailureKind.PERMANENT, _AUDIT, "unaudited_client_can_only_post_to_private_accounts"),
    **_rules(
        FailureKind.PERMANENT, "Verify the domain in TikTok's developer portal.", "url_ownership_unverified"
    ),
    **_rules(
        FailureKind.NEEDS_PERSON,
        _RECONNECT,
        "access_token_invalid access_token_expired scope_not_authorized invalid_grant access_denied",
    ),
    **_rules(
        FailureKind.NEEDS_PERSON,
        "Check TIKTOK_CLIENT_KEY and TIKTOK_CLIENT_SECRET in TikTok's developer portal.",
        "invalid_client unauthorized_client",
    ),
    **_rules(
        FailureKind.NEEDS_PERSON,
        "The creator has to finish or discard drafts in the TikTok app.",
        "spam_risk_too_many_pending_share",
    ),
    **_rules(
        FailureKind.NEEDS_PERSON,
        "The creator has to settle the ban in the TikTok app.",
        "spam_risk_user_banned_from_posting",
    ),
    **_rules(FailureKind.TRANSIENT, _WAIT, "spam_risk_too_many_posts reached_active_user_cap", DAY_S),
    **_rules(FailureKind.TRANSIENT, _WAIT, "rate_limit_exceeded", 60.0),
    **_rules(FailureKind.TRANSIENT, _WAIT, "internal_error internal server_error temporarily_unavailable"),
}

# `fail_reason` of a post that ended in FAILED.
FAIL_REASONS: dict[str, ErrorRule] = {
    **_rules(FailureKind.TRANSIENT, "A new post of the same file may succeed.", "internal video_pull_failed"),
    **_rules(FailureKind.TRANSIENT, _WAIT, "spam_risk_too_many_posts", DAY_S),
    **_rules(
        FailureKind.PERMANENT,
        "Render the file again in a format TikTok takes: MP4 or WebM, 23-60 fps, 360-4096 px, at most 10 minutes.",
        "file_format_check_failed duration_check_failed frame_rate_check_failed picture_size_check_failed",
    ),
    **_rules(
        FailureKind.PERMANENT,
        "Change the title or the video; TikTok took it for spam.",
        "spam_risk spam_risk_text",
    ),
    **_rules(FailureKind.PERMANENT, "Post it again if that was not meant.", "publish_cancelled"),
    **_rules(FailureKind.NEEDS_PERSON, _RECONNECT, "auth_removed"),
    **_rules(
        FailureKind.NEEDS_PERSON,
        "The creator has to settle the ban in the TikTok app.",
        "spam_risk_user_banned_from_posting",
    ),
}

VIDEO_FIELDS = (
    "id,create_time,cover_image_url,share_url,video_description,duration,height,width,title,"
    "like_count,comment_count,share_count,view_count"
)
RESEARCH_FIELDS = "id,video_description,create_time,username,view_count,like_count,comment_count"
USER_FIELDS = (
    "open_id,avatar_url,display_name,username,follower_count,following_count,likes_count,video_count"
)


class UploadUrlGone(PermanentError):
    """The upload URL has expired (one hour) or is not known: nothing was posted, and a new init is needed."""


class ChunkOutOfOrder(TransientError):
    """The chunk does not start where TikTok's record ends; `status` says how many bytes it has."""


@dataclass(frozen=True)
class CreatorInfo:
    """What this creator may choose right now; to be asked right before each post."""

    username: str
    nickname: str
    avatar_url: str
    privacy_options: tuple[str, ...]
    comment_disabled: bool
    duet_disabled: bool
    stitch_disabled: bool
    max_duration_s: int


@dataclass(frozen=True)
class TikTokPost:
    """A direct post. `title` is the caption, hashtags included, at most 2200 UTF-16 units."""

    title: str
    privacy_level: str
    disable_comment: bool = False
    disable_duet: bool = False
    disable_stitch: bool = False
    cover_timestamp_ms: int = 0
    brand_content: bool = False
    brand_organic: bool = False
    is_ai_generated: bool = False

    def as_post_info(self) -> dict[str, Any]:
        units = len(self.title.encode("utf-16-le")) // 2
        if units > MAX_TITLE_UNITS:
            raise PermanentError(
                f"The title has {units} UTF-16 units; TikTok takes {MAX_TITLE_UNITS}.",
                code="tiktok_title_too_long",
                remedy="Shorten the title.",
            )
        return {
            "title": self.title,
            "privacy_level": self.privacy_level,
            "disable_comment": self.disable_comment,
            "disable_duet": self.disable_duet,
            "disable_stitch": self.disable_stitch,
            "video_cover_timestamp_ms": self.cover_timestamp_ms,
            "brand_content_toggle": self.brand_content,
            "brand_organic_toggle": self.brand_organic,
            "is_aigc": self.is_ai_generated,
        }


class UploadTarget(NamedTuple):
    """Where to send the bytes of one post; the URL is valid for an hour."""

    publish_id: str
    upload_url: str

    def __repr__(self) -> str:
        return f"UploadTarget(publish_id={self.publish_id!r}, upload_url='[redacted]')"


@dataclass(frozen=True)
class ChunkPlan:
    """How a file is cut: `count` chunks of `chunk_size` bytes, the last one taking the remainder as well."""

    size: int
    chunk_size: int
    count: int

    def range_of(self, index: int) -> tuple[int, int]:
        """Bytes [start, end) of chunk `index`."""
        start = index * self.chunk_size
        return start, self.size if index == self.count - 1 else start + self.chunk_size


def plan_chunks(size: int, *, chunk_size: int = 10_000_000) -> ChunkPlan:
    """Chunks for a file of `size` bytes: floor(size / chunk), as TikTok's media transfer guide counts them.

    Whether its "MB" is 10^6 or 2^20 is not said, so the limits used are inside both: chunks of 5 MiB to
    64 MB, and a file below twice the chunk size goes as one piece.
    """
    if size < 1:
        raise PermanentError("An empty file cannot be posted.", code="empty_file", remedy="Render it again.")
    if not MIN_CHUNK <= chunk_size <= MAX_CHUNK:
        raise ValueError(f"chunk_size must be between {MIN_CHUNK} and {MAX_CHUNK}")
    count = size // chunk_size
    return (
        ChunkPlan(size, size, 1) if count <= 1 and size <= MAX_CHUNK else ChunkPlan(size, chunk_size, count)
    )


@dataclass(frozen=True)
class ChunkProgress:
    """Bytes TikTok has of the file so far, and whether that is all of it."""

    received: int
    complete: bool


@dataclass(frozen=True)
class PublishStatus:
    """State of one post. `post_ids` stays empty until the post is public, minutes to hours after PUBLISH_COMPLETE."""

    status: str
    fail_reason: str | None
    post_ids: tuple[str, ...]
    uploaded_bytes: int

    @property
    def is_published(self) -> bool:
        return self.status == "PUBLISH_COMPLETE"

    def failure(self) -> PipelineError | None:
        """What a FAILED post means for us; None for any other status."""
        if self.status != "FAILED":
            return None
        reason = self.fail_reason or "unknown"
        rule = FAIL_REASONS.get(reason, ErrorRule(FailureKind.PERMANENT, "tiktok_post_failed", _FIX))
        return ERROR_BY_KIND[rule.kind](
            f"TikTok did not publish the post: {reason}.",
            code=rule.code,
            remedy=rule.remedy,
            retry_after_s=rule.wait_s,
        )


@dataclass(frozen=True)
class TikTokVideo:
    """A public video of the creator with its counters at the time of asking."""

    id: str
    title: str
    description: str
    created_at: datetime
    duration_s: int
    width: int
    height: int
    share_url: str
    cover_url: str
    views: int
    likes: int
    comments: int
    shares: int


@dataclass(frozen=True)
class VideoPage:
    """Videos, newest first. `cursor` is TikTok's, in UTC milliseconds, for the next page when `has_more`."""

    videos: tuple[TikTokVideo, ...]
    cursor: int
    has_more: bool


@dataclass(frozen=True)
class TikTokUser:
    open_id: str
    username: str
    display_name: str
    avatar_url: str
    follower_count: int
    following_count: int
    likes_count: int
    video_count: int


@dataclass(frozen=True)
class ResearchVideo:
    """A public video of anybody's as the Research API tells it; None where it tells no count."""

    id: str
    description: str
    created_at: datetime
    username: str
    views: int | None
    likes: int | None
    comments: int | None


class TikTokApp:
    """Our app at TikTok: turns consent into tokens, and tokens into a `TikTokCreator`."""

    def __init__(self, endpoint: "VendorEndpoint", *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._endpoint = endpoint
        self._sleep = sleep
        self._http = http_client(endpoint)

    def exchange_code(self, code: str, *, redirect_uri: str = "", code_verifier: str = "") -> TokenSet:
        """Tokens for a consent code (already URL-decoded). A code works once, so a lost answer is not repeated."""
        form = {"grant_type": "authorization_code", "code": code}
        optional = {"redirect_uri": redirect_uri, "code_verifier": code_verifier}
        return self._token("exchange a consent code", form | {k: v for k, v in optional.items() if v})

    def refresh(self, refresh_token: str) -> TokenSet:
        """New tokens; the refresh token given dies with the answer, so the new one must be stored at once.

        Raises NeedsPersonError `tiktok_invalid_grant` when the token is spent, OutcomeUnknownError when
        the answer was lost (the old token may be dead).
        """
        return self._token("refresh a token", {"grant_type": "refresh_token", "refresh_token": refresh_token})

    def creator(self, access_token: str) -> "TikTokCreator":
        return TikTokCreator(self._http, access_token, retries=self._endpoint.max_retries, sleep=self._sleep)

    def research_videos(self, keyword: str, first: date, last: date) -> list[ResearchVideo]:
        """Public videos on a keyword of these UTC days (at most 30), one page of 100, by the app's own token.

        TikTok grants this to non-commercial research alone: raises NeedsPersonError `tiktok_scope_not_authorized`
        for any other app. Nobody calls it unless ETTAMETTA_TIKTOK_RESEARCH_API is set.
        """
        doing = "search for videos (Research API)"
        token = self._grant("open the Research API", {"grant_type": "client_credentials"})["access_token"]
        condition = {"operation": "IN", "field_name": "keyword", "field_values": [keyword]}
        body = {
            "query": {"and": [condition]},
            "start_date": f"{first:%Y%m%d}",
            "end_date": f"{last:%Y%m%d}",
            "max_count": 100,
        }
        data = self.creator(token)._read(doing, "v2/research/video/query/", body, {"fields": RESEARCH_FIELDS})
        return [_research_video(video) for video in data.get("videos") or ()]

    def profile_url(self, username: str) -> str:
        """Page of a creator, below which `/video/{id}` are the posts: tiktok.com, or the sandbox's own pages."""
        live = self._endpoint.mode == "live"
        base = "https://www.tiktok.com" if live else self._endpoint.base_url.rstrip("/")
        return f"{base}/@{username}"

    def _token(self, doing: str, form: dict[str, str]) -> TokenSet:
        answer = self._grant(doing, form)
        return TokenSet(
            access_token=answer["access_token"],
            refresh_token=answer["refresh_token"],
            expires_in_s=int(answer["expires_in"]),
            refresh_expires_in_s=int(answer["refresh_expires_in"]),
            scopes=tuple(answer["scope"].split(",")),
            subject=answer["open_id"],
        )

    def _grant(self, doing: str, form: dict[str, str]) -> dict[str, Any]:
        secrets = {
            "client_key": self._endpoint.secret("tiktok_client_key"),
            "client_secret": self._endpoint.secret("tiktok_client_secret"),
        }
        response = send(
            self._http,
            "POST",
            "v2/oauth/token/",
            vendor=VENDOR,
            doing=doing,
            repeatable=False,
            data=secrets | form,
        )
        answer = _json(response, doing)
        # Flat errors, sometimes with HTTP 200: the body decides.
        if "error" in answer or "access_token" not in answer:
            raise vendor_error(
                VENDOR,
                doing,
                status=response.status_code,
                reason=str(answer.get("error", "")),
                detail=str(answer.get("error_description", "")),
                rules=ERRORS,
            )
        return answer


class TikTokCreator:
    """One connected creator. Reads are repeated after transient failures; what posts is sent once."""

    def __init__(
        self, http: "httpx.Client", access_token: str, *, retries: int, sleep: Callable[[float], None]
    ) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {access_token}"}
        self._retries = retries
        self._sleep = sleep

    def identity(self) -> tuple[str, str]:
        """(open id, display name) of whoever gave consent; needs no more than `user.info.basic`."""
        doing = "name the connected account"
        data = self._read(doing, "v2/user/info/", None, {"fields": "open_id,display_name"}, method="GET")
        return str(data["user"]["open_id"]), str(data["user"]["display_name"])

    def creator_info(self) -> CreatorInfo:
        data = self._read("ask what the creator may post", "v2/post/publish/creator_info/query/", {})
        return CreatorInfo(
            username=data["creator_username"],
            nickname=data["creator_nickname"],
            avatar_url=data["creator_avatar_url"],
            privacy_options=tuple(data["privacy_level_options"]),
            comment_disabled=data["comment_disabled"],
            duet_disabled=data["duet_disabled"],
            stitch_disabled=data["stitch_disabled"],
            max_duration_s=data["max_video_post_duration_sec"],
        )

    def init_upload(self, post: TikTokPost, size: int, chunk_size: int, chunk_count: int) -> UploadTarget:
        """Open a post and get its upload URL. Not repeated here: TikTok counts six of these a minute.

        Nothing is posted until the bytes are there, so after a lost answer (TransientError) it may be
        asked again.
        """
        body = {
            "post_info": post.as_post_info(),
            "source_info": {
                "source": "FILE_UPLOAD",
                "video_size": size,
                "chunk_size": chunk_size,
                "total_chunk_count": chunk_count,
            },
        }
        data = self._call("open a post", "v2/post/publish/video/init/", body)
        return UploadTarget(data["publish_id"], data["upload_url"])

    def put_chunk(
        self, upload_url: str, data: bytes, start: int, total: int, mime: str = "video/mp4"
    ) -> ChunkProgress:
        """Send bytes [start, start + len(data)) of a file of `total` bytes; chunks go in order.

        Raises UploadUrlGone (403, 404), ChunkOutOfOrder (416), TransientError (5xx: send this chunk again),
        OutcomeUnknownError when the answer was lost: ask `status` for `uploaded_bytes` first.
        """
        doing = f"take bytes {start} to {start + len(data)} of {total}"
        headers = {"Content-Type": mime, "Content-Range": f"bytes {start}-{start + len(data) - 1}/{total}"}
        response = send(
            self._http,
            "PUT",
            upload_url,
            vendor=VENDOR,
            doing=doing,
            repeatable=False,
            content=data,
            headers=headers,
        )
        status = response.status_code
        if status in (201, 206):
            return ChunkProgress(start + len(data), complete=status == 201)
        if status in (403, 404):
            raise UploadUrlGone(
                f"TikTok refused to {doing}: the upload URL has {'expired' if status == 403 else 'no task'}.",
                code="tiktok_upload_url_gone",
                remedy="Open the post again and send the file from its start.",
            )
        if status == 416:
            raise ChunkOutOfOrder(
                f"TikTok refused to {doing}: that is not where its record ends.",
                code="tiktok_chunk_out_of_order",
                remedy="The upload goes on from the byte TikTok has.",
            )
        # The vendor's body is left out: it may echo the URL.
        raise_for_vendor(response, vendor=VENDOR, doing=doing)
        raise vendor_error(VENDOR, doing, status=status)

    def status(self, publish_id: str) -> PublishStatus:
        data = self._read(
            "ask how a post is doing", "v2/post/publish/status/fetch/", {"publish_id": publish_id}
        )
        # TikTok's own spelling.
        ids = data.get("publicaly_available_post_id") or ()
        return PublishStatus(
            status=data["status"],
            fail_reason=data.get("fail_reason") or None,
            post_ids=tuple(str(number) for number in ids),
            uploaded_bytes=int(data.get("uploaded_bytes") or 0),
        )

    def list_videos(self, cursor: int | None = None, *, max_count: int = MAX_IDS_PER_QUERY) -> VideoPage:
        """The creator's public videos, newest first, up to 20 a page; those older than `cursor` when given."""
        body: dict[str, Any] = {"max_count": max_count} | ({} if cursor is None else {"cursor": cursor})
        data = self._read("list videos", "v2/video/list/", body, {"fields": VIDEO_FIELDS})
        return VideoPage(tuple(_video(v) for v in data["videos"]), int(data["cursor"]), data["has_more"])

    def query_videos(self, ids: Sequence[str]) -> list[TikTokVideo]:
        """Figures of up to 20 of the creator's videos; unknown and private ones are left out."""
        if len(ids) > MAX_IDS_PER_QUERY:
            raise ValueError(f"at most {MAX_IDS_PER_QUERY} ids, not {len(ids)}")
        body = {"filters": {"video_ids": list(ids)}}
        data = self._read("read video figures", "v2/video/query/", body, {"fields": VIDEO_FIELDS})
        return [_video(video) for video in data["videos"]]

    def user_info(self) -> TikTokUser:
        data = self._read("read the creator", "v2/user/info/", None, {"fields": USER_FIELDS}, method="GET")[
            "user"
        ]
        return TikTokUser(**{name: data[name] for name in TikTokUser.__dataclass_fields__})

    def _read(
        self, doing: str, path: str, body: Any, query: Mapping[str, str] | None = None, method: str = "POST"
    ) -> Any:
        return call_with_retries(
            lambda: self._call(doing, path, body, query, method),
            retries=self._retries,
            sleep=self._sleep,
            seed=doing,
        )

    def _call(
        self, doing: str, path: str, body: Any, query: Mapping[str, str] | None = None, method: str = "POST"
    ) -> Any:
        options: dict[str, Any] = {} if body is None else {"json": body}
        response = send(
            self._http,
            method,
            path,
            vendor=VENDOR,
            doing=doing,
            headers=self._headers,
            params=query,
            **options,
        )
        answer = _json(response, doing)
        error = answer.get("error") or {}
        code = str(error.get("code", ""))
        if code != "ok":
            raise vendor_error(
                VENDOR,
                doing,
                status=response.status_code,
                reason=code,
                detail=str(error.get("message", "")),
                rules=ERRORS,
            )
        return answer["data"]


def _json(response: "httpx.Response", doing: str) -> dict[str, Any]:
    """Body of an answer; what is not a JSON object (a proxy's page, a cut answer) fails by its status."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if isinstance(answer, dict):
        return answer
    raise_for_vendor(response, vendor=VENDOR, doing=doing)
    raise TransientError(
        f"TikTok answered something that is not JSON when asked to {doing}.",
        code="tiktok_unreadable_answer",
        remedy=_WAIT,
    )


def _video(data: dict[str, Any]) -> TikTokVideo:
    return TikTokVideo(
        id=str(data["id"]),
        title=data["title"],
        description=data["video_description"],
        created_at=datetime.fromtimestamp(data["create_time"], UTC),
        duration_s=data["duration"],
        width=data["width"],
        height=data["height"],
        share_url=data["share_url"],
        cover_url=data["cover_image_url"],
        views=data["view_count"],
        likes=data["like_count"],
        comments=data["comment_count"],
        shares=data["share_count"],
    )


def _research_video(data: dict[str, Any]) -> ResearchVideo:
    return ResearchVideo(
        id=str(data["id"]),
        description=str(data.get("video_description") or ""),
        created_at=datetime.fromtimestamp(data["create_time"], UTC),
        username=str(data["username"]),
        views=data.get("view_count"),
        likes=data.get("like_count"),
        comments=data.get("comment_count"),
    )
