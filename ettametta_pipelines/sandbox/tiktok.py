"""Sandbox of TikTok's Open API: consent, direct post in chunks, the display API, and pages that play the posts.

Codes come from the consent page (`consent_pages.py`); the code `sandbox-{account}` connects a creator of that name
without it. Rules on privacy, chunks, rates and token
rotation are TikTok's; a post goes through PROCESSING_UPLOAD on the first look after its last chunk and is
PUBLISH_COMPLETE on the next. Earlier posts and figures are in `tiktok_posts.py`.
"""

import hashlib
import html
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from starlette.requests import ClientDisconnect

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.sandbox.consent_pages import ConsentPage, hex_sha256
from ettametta_pipelines.sandbox.core import SandboxStore, read_form, seeded_rng
from ettametta_pipelines.sandbox.pictures import thumbnail_jpeg
from ettametta_pipelines.sandbox.tiktok_posts import find_post, posts_of, video_body

Json = dict[str, Any]

ACCESS_LIFE_S = 2 * 3600
REFRESH_LIFE_S = 180 * 86_400
UPLOAD_URL_LIFE_S = 3600
POSTS_PER_DAY = 15
SCOPE_WORDS = {
    "user.info.basic": "Access your profile info (avatar, display name)",
    "user.info.profile": "Read your additional profile information",
    "user.info.stats": "Read your statistical data, such as likes count and follower count",
    "video.list": "Read your public videos on TikTok",
    "video.publish": "Post content to TikTok",
    "video.upload": "Upload draft content to TikTok",
}
# The scope a call needs, by the start of its path; of `user/info`, each field has its own.
SCOPE_OF_CALL = {
    "/v2/post/publish/": "video.publish", "/v2/video/": "video.list", "/v2/user/info/": "user.info.basic",
}  # fmt: skip
SCOPE_OF_FIELD = {
    **dict.fromkeys(("username", "bio_description", "is_verified"), "user.info.profile"),
    **dict.fromkeys(("follower_count", "following_count", "likes_count", "video_count"), "user.info.stats"),
}
CONSENT_CODE = re.compile(r"sandbox-([a-z0-9-]{1,40})")
PRIVACY_OPTIONS = ("PUBLIC_TO_EVERYONE", "MUTUAL_FOLLOW_FRIENDS", "SELF_ONLY")
MIME_TYPES = ("video/mp4", "video/quicktime", "video/webm")

COVER_SIZE = (270, 480)
AVATAR_SIZE = (168, 168)

# Chunk limits, generous by the two meanings of "MB" (10^6 and 2^20), which TikTok does not tell apart.
MIN_CHUNK = 5_000_000
MAX_CHUNK = 64 * 2**20
MAX_LAST_CHUNK = 128 * 2**20
MAX_SIZE = 4 * 2**30
MAX_CHUNKS = 1000

# Calls per user token in a sliding minute.
RATE_LIMITS = {
    "/v2/post/publish/video/init/": 6,
    "/v2/post/publish/creator_info/query/": 20,
    "/v2/post/publish/status/fetch/": 30,
    "/v2/user/info/": 600,
    "/v2/video/list/": 600,
    "/v2/video/query/": 600,
}
STATUS_OF = {
    "invalid_param": 400, "invalid_publish_id": 400, "token_not_authorized_for_specified_publish_id": 400,
    "access_token_invalid": 401, "scope_not_authorized": 401, "privacy_level_option_mismatch": 403,
    "url_ownership_unverified": 403,
    "spam_risk_too_many_posts": 403, "rate_limit_exceeded": 429,
}  # fmt: skip

POST_INFO = {
    "title", "privacy_level", "disable_duet", "disable_stitch", "disable_comment", "video_cover_timestamp_ms",
    "brand_content_toggle", "brand_organic_toggle", "is_aigc",
}  # fmt: skip
SOURCE_INFO = {"source", "video_size", "chunk_size", "total_chunk_count", "video_url"}
VIDEO_FIELDS = {
    "id", "create_time", "cover_image_url", "share_url", "video_description", "duration", "height", "width", "title",
    "embed_html", "embed_link", "like_count", "comment_count", "share_count", "view_count",
}  # fmt: skip
USER_FIELDS = {
    "open_id", "union_id", "avatar_url", "display_name", "username", "bio_description", "is_verified",
    "follower_count", "following_count", "likes_count", "video_count",
}  # fmt: skip


class Refusal(Exception):
    """An error answer: an envelope whose code says what is wrong."""

    def __init__(self, code: str, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.status = STATUS_OF[code] if status is None else status


@dataclass(frozen=True)
class Call:
    """One authorised request: whose it is, its body and query, the second it happened in."""

    account: str
    body: Json
    query: dict[str, str]
    now: float


Handler = Callable[[Call], Json]


def router(store: SandboxStore, *, public_url: str, clock: Clock, seed: int) -> APIRouter:
    """Routes under `/tiktok`: the API, the upload host and the public pages."""
    api = APIRouter()
    tiktok = TikTok(store, public_url, seed)
    uploads = Uploads(store, clock)
    for method, path, handler in tiktok.methods():
        api.add_api_route(path, _endpoint(handler, path, store, clock), methods=[method], name=path)
    api.add_api_route("/v2/research/video/query/", _research_endpoint(store), methods=["POST"])
    consent = ConsentPage("TikTok", store, clock, seed, "client_key", ",", SCOPE_WORDS, hex_sha256, "tt.")
    api.add_api_route("/v2/auth/authorize/", consent.show, methods=["GET"])
    api.add_api_route("/v2/auth/authorize/", consent.answer, methods=["POST"])
    api.add_api_route("/v2/oauth/token/", _token_endpoint(store, clock, consent), methods=["POST"])
    api.add_api_route("/v2/oauth/revoke/", _revoke_endpoint(store), methods=["POST"])
    api.add_api_route("/upload/{publish_id}", uploads.put, methods=["PUT"])
    _add_pages(api, store, clock, seed, public_url)
    return api


def _endpoint(
    handler: Handler, path: str, store: SandboxStore, clock: Clock
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        log_id = f"{store.counter('tiktok_requests'):020d}"
        now = clock().timestamp()
        try:
            account = _account_of(request, store, now, path)
            _count_call(store, account, path, now)
            call = Call(account, await _json_body(request), dict(request.query_params), now)
            data, code, message, status = handler(call), "ok", "", 200
        except Refusal as refusal:
            data, code, message, status = {}, refusal.code, str(refusal), refusal.status
        return JSONResponse(
            {"data": data, "error": {"code": code, "message": message, "log_id": log_id}}, status
        )

    return endpoint


def _account_of(request: Request, store: SandboxStore, now: float, path: str) -> str:
    token = request.headers.get("authorization", "").removeprefix("Bearer ")
    grant = store.get("tiktok_access", token)
    if grant is None or grant["expires_at"] <= now:
        raise Refusal("access_token_invalid", "The access token is invalid or not found in the request.")
    fields = request.query_params.get("fields", "").split(",") if path == "/v2/user/info/" else []
    needed = {scope for start, scope in SCOPE_OF_CALL.items() if path.startswith(start)}
    needed |= {SCOPE_OF_FIELD[name] for name in fields if name in SCOPE_OF_FIELD}
    if not needed <= set(grant.get("scopes") or SCOPE_WORDS):
        raise Refusal(
            "scope_not_authorized",
            "The user did not authorize the scope required for completing this request.",
        )
    return str(grant["account"])


def _count_call(store: SandboxStore, account: str, path: str, now: float) -> None:
    key = f"{account}{path}"
    recent = [at for at in (store.get("tiktok_rate", key) or {"at": []})["at"] if at > now - 60]
    if len(recent) >= RATE_LIMITS[path]:
        raise Refusal("rate_limit_exceeded", "The API rate limit was exceeded. Please try again later.")
    store.put("tiktok_rate", key, {"at": [*recent, now]})


async def _json_body(request: Request) -> Json:
    if request.method != "POST":
        return {}
    raw = await request.body()
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refusal("invalid_param", "Only accept Content-Type: application/json")
    try:
        body = json.loads(raw or b"{}")
    except ValueError:
        body = None
    if not isinstance(body, dict):
        raise Refusal("invalid_param", "The request body is not a JSON object.")
    return body


def _token_endpoint(
    store: SandboxStore, clock: Clock, consent: ConsentPage
) -> Callable[[Request], Awaitable[Response]]:
    """Consent code or refresh token to a new pair. Errors are flat; a spent refresh token is refused with HTTP 200."""

    async def endpoint(request: Request) -> Response:
        form = await read_form(request)
        now = clock().timestamp()
        if not form.get("client_key") or not form.get("client_secret"):
            return _flat("invalid_client", "Client key or secret is incorrect.", 400)
        if form.get("grant_type") == "authorization_code":
            match = CONSENT_CODE.fullmatch(form.get("code", ""))
            granted = {"account": match[1]} if match else consent.redeem(form)
            if isinstance(granted, str):
                return _flat("invalid_grant", granted, 400)
            return JSONResponse(_issue_tokens(store, granted, now))
        if form.get("grant_type") == "client_credentials":
            return JSONResponse(
                {"access_token": "clt.sandbox", "expires_in": ACCESS_LIFE_S, "token_type": "Bearer"}
            )
        if form.get("grant_type") == "refresh_token":
            grant = store.get("tiktok_refresh", form.get("refresh_token", ""))
            if grant is None or grant["expires_at"] <= now:
                return _flat("invalid_grant", "Refresh token is invalid or expired.", 200)
            store.delete("tiktok_refresh", form["refresh_token"])
            return JSONResponse(_issue_tokens(store, grant, now))
        return _flat("invalid_request", "The grant type is not supported.", 400)

    def _flat(error: str, description: str, status: int) -> Response:
        log_id = f"{store.counter('tiktok_requests'):020d}"
        return JSONResponse({"error": error, "error_description": description, "log_id": log_id}, status)

    return endpoint


def _research_endpoint(store: SandboxStore) -> Callable[[], Awaitable[Response]]:
    """The Research API as an app without a research grant meets it: a client token has not its scope."""

    async def endpoint() -> Response:
        error = {
            "code": "scope_not_authorized",
            "message": "The client did not authorize the scope required for completing this request.",
            "log_id": f"{store.counter('tiktok_requests'):020d}",
        }
        return JSONResponse({"data": {}, "error": error}, 401)

    return endpoint


def _revoke_endpoint(store: SandboxStore) -> Callable[[Request], Awaitable[Response]]:
    """Ends the whole consent an access token belongs to."""

    async def endpoint(request: Request) -> Response:
        form = await read_form(request)
        grant = store.get("tiktok_access", form.get("token", ""))
        if grant is None or not form.get("client_key") or not form.get("client_secret"):
            problem = {"error": "access_token_invalid", "error_description": "The access token is invalid."}
            return JSONResponse(problem, 400)
        for kind in ("tiktok_access", "tiktok_refresh"):
            for key, value in store.items(kind):
                if value["account"] == grant["account"]:
                    store.delete(kind, key)
        return JSONResponse({})

    return endpoint


def _issue_tokens(store: SandboxStore, grant: Json, now: float) -> Json:
    account, scopes = grant["account"], grant.get("scopes") or list(SCOPE_WORDS)
    serial = store.counter("tiktok_tokens")
    secret = hashlib.sha256(f"{account}/{serial}".encode()).hexdigest()[:40]
    access, refresh = f"act.sandbox{secret}", f"rft.sandbox{secret}"
    granted = {"account": account, "scopes": scopes}
    store.put("tiktok_access", access, granted | {"expires_at": now + ACCESS_LIFE_S})
    store.put("tiktok_refresh", refresh, granted | {"expires_at": now + REFRESH_LIFE_S})
    return {
        "access_token": access,
        "expires_in": ACCESS_LIFE_S,
        "open_id": open_id_of(account),
        "refresh_expires_in": REFRESH_LIFE_S,
        "refresh_token": refresh,
        "scope": ",".join(scopes),
        "token_type": "Bearer",
    }


def open_id_of(account: str) -> str:
    return "-000" + hashlib.sha256(f"tiktok/{account}".encode()).hexdigest()[:32]


class TikTok:
    """The methods of the API over the store."""

    def __init__(self, store: SandboxStore, public_url: str, seed: int) -> None:
        self.store = store
        self.public_url = public_url
        self.seed = seed

    def methods(self) -> list[tuple[str, str, Handler]]:
        return [
            ("POST", "/v2/post/publish/creator_info/query/", self.creator_info),
            ("POST", "/v2/post/publish/video/init/", self.init),
            ("POST", "/v2/post/publish/status/fetch/", self.status),
            ("POST", "/v2/video/list/", self.list_videos),
            ("POST", "/v2/video/query/", self.query_videos),
            ("GET", "/v2/user/info/", self.user_info),
        ]

    def creator_info(self, call: Call) -> Json:
        self._refuse_too_many_posts(call, status=200)
        return {
            "creator_avatar_url": f"{self.public_url}/tiktok/avatar/{call.account}.jpg",
            "creator_username": call.account,
            "creator_nickname": nickname(call.account),
            "privacy_level_options": list(PRIVACY_OPTIONS),
            "comment_disabled": False,
            "duet_disabled": False,
            "stitch_disabled": False,
            "max_video_post_duration_sec": 600,
        }

    def _refuse_too_many_posts(self, call: Call, *, status: int) -> None:
        posts = [post for _, post in self.store.items("tiktok_post", f"{call.account}/")]
        if sum(post["create_time"] > call.now - 86_400 for post in posts) >= POSTS_PER_DAY:
            raise Refusal(
                "spam_risk_too_many_posts", "The daily post cap is reached for this creator.", status=status
            )

    def init(self, call: Call) -> Json:
        self._refuse_too_many_posts(call, status=403)
        post, source = (
            section(call.body, "post_info", POST_INFO),
            section(call.body, "source_info", SOURCE_INFO),
        )
        check_post(post)
        check_source(source)
        serial = self.store.counter("tiktok_uploads")
        publish_id = f"v_pub_file~v2-1.{7_500_000_000_000_000_000 + serial}"
        token = hashlib.sha256(f"{self.seed}/{publish_id}".encode()).hexdigest()
        upload = {
            "account": call.account, "token": token, "opened_at": call.now, "post": post, "source": source,
            "received": 0, "looks": 0, "mime": None, "fail_reason": None, "post_id": None,
        }  # fmt: skip
        self.store.put("tiktok_upload", publish_id, upload)
        url = f"{self.public_url}/tiktok/upload/{publish_id}?upload_id={serial}&upload_token={token}"
        return {"publish_id": publish_id, "upload_url": url}

    def status(self, call: Call) -> Json:
        publish_id = str(call.body.get("publish_id", ""))
        upload = self.store.get("tiktok_upload", publish_id)
        if upload is None:
            raise Refusal("invalid_publish_id", "The publish_id does not exist.")
        if upload["account"] != call.account:
            raise Refusal(
                "token_not_authorized_for_specified_publish_id", "The publish_id belongs to another user."
            )
        answer: Json = {"uploaded_bytes": upload["received"], "status": "PROCESSING_UPLOAD"}
        if upload["received"] < upload["source"]["video_size"]:
            return answer
        upload["looks"] += 1
        self.store.put("tiktok_upload", publish_id, upload)
        if upload["looks"] == 1:
            return answer
        if upload["fail_reason"]:
            return answer | {"status": "FAILED", "fail_reason": upload["fail_reason"]}
        public = upload["post"]["privacy_level"] == "PUBLIC_TO_EVERYONE"
        ids = [int(upload["post_id"])] if public else []
        return answer | {"status": "PUBLISH_COMPLETE", "publicaly_available_post_id": ids}

    def list_videos(self, call: Call) -> Json:
        fields = wanted_fields(call, VIDEO_FIELDS)
        size = call.body.get("max_count", 10)
        cursor = call.body.get("cursor", int(call.now * 1000) + 1)
        if not isinstance(size, int) or not 1 <= size <= 20:
            raise Refusal("invalid_param", "max_count must be between 1 and 20")
        if not isinstance(cursor, int):
            raise Refusal("invalid_param", "cursor must be an integer")
        posts = [
            post for post in posts_of(self.store, self.seed, call.account, call.now)
            if post["privacy"] == "PUBLIC_TO_EVERYONE" and post["create_time"] * 1000 < cursor
        ]  # fmt: skip
        chosen = posts[:size]
        return {
            "videos": [self._video(post, fields, call.now) for post in chosen],
            "cursor": chosen[-1]["create_time"] * 1000 if chosen else cursor,
            "has_more": len(posts) > size,
        }

    def query_videos(self, call: Call) -> Json:
        fields = wanted_fields(call, VIDEO_FIELDS)
        ids = (call.body.get("filters") or {}).get("video_ids")
        if not isinstance(ids, list) or not 1 <= len(ids) <= 20:
            raise Refusal("invalid_param", "video_ids must hold 1 to 20 ids")
        found = (find_post(self.store, self.seed, call.account, str(i), call.now) for i in ids)
        videos = [post for post in found if post is not None and post["privacy"] == "PUBLIC_TO_EVERYONE"]
        return {"videos": [self._video(post, fields, call.now) for post in videos]}

    def _video(self, post: Json, fields: set[str], now: float) -> Json:
        body = video_body(post, self.seed, now, self.public_url)
        return {name: value for name, value in body.items() if name in fields}

    def user_info(self, call: Call) -> Json:
        fields = wanted_fields(call, USER_FIELDS)
        rng = seeded_rng(self.seed, "tiktok-user", call.account)
        posts = posts_of(self.store, self.seed, call.account, call.now)
        user = {
            "open_id": open_id_of(call.account), "union_id": open_id_of(f"union/{call.account}"),
            "avatar_url": f"{self.public_url}/tiktok/avatar/{call.account}.jpg",
            "display_name": nickname(call.account), "username": call.account, "bio_description": "",
            "is_verified": False, "follower_count": rng.randrange(800, 90_000),
            "following_count": rng.randrange(20, 900), "likes_count": rng.randrange(5_000, 900_000),
            "video_count": len(posts),
        }  # fmt: skip
        return {"user": {name: value for name, value in user.items() if name in fields}}


def nickname(account: str) -> str:
    return account.replace("-", " ").title()


def section(body: Json, name: str, known: set[str]) -> Json:
    part = body.get(name)
    if not isinstance(part, dict):
        raise Refusal("invalid_param", f"{name} is required")
    unknown = sorted(set(part) - known)
    if unknown:
        raise Refusal("invalid_param", f"unknown field {name}.{unknown[0]}")
    return part


def check_post(post: Json) -> None:
    title = post.get("title", "")
    if not isinstance(title, str) or len(title.encode("utf-16-le")) // 2 > 2200:
        raise Refusal("invalid_param", "post_info.title is too long")
    privacy = post.get("privacy_level")
    if privacy is None:
        raise Refusal("invalid_param", "post_info.privacy_level is required")
    if privacy not in PRIVACY_OPTIONS:
        raise Refusal("privacy_level_option_mismatch", "privacy_level is not one of the creator's options")
    if post.get("brand_content_toggle") and privacy == "SELF_ONLY":
        raise Refusal("invalid_param", "branded content cannot be SELF_ONLY")


def check_source(source: Json) -> None:
    """TikTok's media transfer guide: floor(size / chunk) chunks of 5-64 MB, the last one up to 128 MB."""
    if source.get("source") == "PULL_FROM_URL":
        raise Refusal("url_ownership_unverified", "The domain of video_url is not verified for this app.")
    if source.get("source") != "FILE_UPLOAD":
        raise Refusal("invalid_param", "source_info.source is invalid")
    numbers = [source.get(name) for name in ("video_size", "chunk_size", "total_chunk_count")]
    if not all(type(number) is int and number > 0 for number in numbers):
        raise Refusal(
            "invalid_param", "video_size, chunk_size and total_chunk_count must be positive integers"
        )
    size, chunk, count = (int(number or 0) for number in numbers)
    if size > MAX_SIZE:
        raise Refusal("invalid_param", "The video is larger than 4 GB")
    whole = size < MIN_CHUNK or count == 1
    if whole and (count != 1 or size > MAX_CHUNK or (size < MIN_CHUNK and chunk != size)):
        raise Refusal("invalid_param", "A small video goes as one chunk of its own size")
    if not whole and not MIN_CHUNK <= chunk <= MAX_CHUNK:
        raise Refusal("invalid_param", "The chunk size is invalid")
    if count != max(1, size // chunk) or count > MAX_CHUNKS:
        raise Refusal("invalid_param", "The total chunk count is invalid")
    if size - chunk * (count - 1) > MAX_LAST_CHUNK:
        raise Refusal("invalid_param", "The last chunk is too large")


def wanted_fields(call: Call, known: set[str]) -> set[str]:
    fields = set(call.query.get("fields", "").split(",")) - {""}
    if not fields or fields - known:
        raise Refusal("invalid_param", f"fields is required and takes {', '.join(sorted(known))}")
    return fields


class Uploads:
    """The upload host: takes chunks in order, and publishes the post with the last one."""

    def __init__(self, store: SandboxStore, clock: Clock) -> None:
        self.store = store
        self.clock = clock

    async def put(self, publish_id: str, request: Request) -> Response:
        upload = self.store.get("tiktok_upload", publish_id)
        if upload is None or request.query_params.get("upload_token") != upload["token"]:
            return Response(status_code=404)
        if upload["opened_at"] + UPLOAD_URL_LIFE_S <= self.clock().timestamp():
            return Response(status_code=403)
        span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", request.headers.get("content-range", ""))
        mime = request.headers.get("content-type", "")
        size = upload["source"]["video_size"]
        if span is None or mime not in MIME_TYPES or int(span[3]) != size:
            return Response(status_code=400)
        start, end = int(span[1]), int(span[2]) + 1
        if start != upload["received"]:
            return Response(status_code=416, headers=_range_header(upload))
        if end != chunk_end(upload):
            return Response(status_code=400)
        path = self.store.blob_path(f"tiktok-{publish_id}")
        if not await _write_chunk(request, path, start, end - start):
            return Response(status_code=400)
        upload = self.store.get("tiktok_upload", publish_id) or upload
        if start != upload["received"]:
            # The same chunk arrived on another connection meanwhile; one upload makes one post.
            return Response(status_code=416, headers=_range_header(upload))
        upload |= {"received": end, "mime": mime}
        if end == size:
            self._publish(publish_id, upload, path)
        self.store.put("tiktok_upload", publish_id, upload)
        return Response(status_code=201 if end == size else 206, headers=_range_header(upload))

    def _publish(self, publish_id: str, upload: Json, path: Path) -> None:
        if not looks_like_video(path):
            upload["fail_reason"] = "file_format_check_failed"
            return
        post_id = str(7_600_000_000_000_000_000 + self.store.counter("tiktok_posts"))
        upload["post_id"] = post_id
        post = {
            "id": post_id,
            "account": upload["account"],
            "title": upload["post"].get("title", ""),
            "create_time": int(self.clock().timestamp()),
            "duration": 0,
            "privacy": upload["post"]["privacy_level"],
            "is_aigc": bool(upload["post"].get("is_aigc")),
            "blob": path.name,
            "mime": upload["mime"],
        }
        self.store.put("tiktok_post", f"{upload['account']}/{post_id}", post)


def chunk_end(upload: Json) -> int:
    """Where the chunk that starts at `received` must end: one chunk on, or the file's end for the last."""
    source, received = upload["source"], upload["received"]
    index = received // source["chunk_size"]
    last = index >= source["total_chunk_count"] - 1
    return int(source["video_size"] if last else received + source["chunk_size"])


async def _write_chunk(request: Request, path: Path, start: int, length: int) -> bool:
    """Write the body at `start`; False when it is not `length` bytes long or breaks off."""
    path.touch()
    written = 0
    with path.open("r+b") as file:
        file.truncate(start)
        file.seek(start)
        try:
            async for piece in request.stream():
                written += len(piece)
                if written > length:
                    return False
                file.write(piece)
        except ClientDisconnect:
            return False
    return written == length


def looks_like_video(path: Path) -> bool:
    """Whether the file starts as MP4, MOV or WebM do."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free") or head[:4] == b"\x1a\x45\xdf\xa3"


def _range_header(upload: Json) -> dict[str, str]:
    if upload["received"] == 0:
        return {}
    return {"content-range": f"bytes 0-{upload['received'] - 1}/{upload['source']['video_size']}"}


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width"><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 2rem auto; padding: 0 1rem; }}
video {{ max-width: 100%; max-height: 70vh; background: #000; }} .quiet {{ color: #666; }}
</style></head><body><p class="quiet">TikTok sandbox</p>{body}</body></html>"""


def _page(title: str, body: str, status: int = 200) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(title=html.escape(title), body=body), status)


def _add_pages(api: APIRouter, store: SandboxStore, clock: Clock, seed: int, public_url: str) -> None:
    """A creator's page and a post's page, so that the links of the API open; private posts are shown as such."""

    @api.get("/@{account}")
    async def creator_page(account: str) -> Response:
        link = '<li><a href="/tiktok/@{}/video/{}">{}</a> <span class="quiet">{}</span></li>'
        rows = [
            link.format(
                html.escape(account), post["id"], html.escape(post["title"] or post["id"]), post["privacy"]
            )
            for post in posts_of(store, seed, account, clock().timestamp())
        ]
        return _page(f"@{account}", f"<h1>@{html.escape(account)}</h1><ul>{''.join(rows)}</ul>")

    @api.get("/@{account}/video/{post_id}")
    async def post_page(account: str, post_id: str) -> Response:
        now = clock().timestamp()
        post = find_post(store, seed, account, post_id, now)
        if post is None:
            return _page("Not found", "<h1>Couldn't find this video</h1>", 404)
        figures = video_body(post, seed, now, public_url)
        source = f'<video controls playsinline src="/tiktok/media/{html.escape(account)}/{post_id}"></video>'
        if post["blob"] is None:
            source = '<p class="quiet">An earlier post; the sandbox keeps its figures only.</p>'
        label = "<p>Creator labeled as AI-generated</p>" if post.get("is_aigc") else ""
        body = (
            f"{source}<h1>{html.escape(post['title'])}</h1>{label}"
            f'<p><a href="/tiktok/@{html.escape(account)}">@{html.escape(account)}</a> · {post["privacy"]}</p>'
            f"<p>{figures['view_count']:,} views · {figures['like_count']:,} likes</p>"
        )
        return _page(post["title"], body)

    @api.get("/cover/{account}/{post_id}.jpg")
    async def cover(account: str, post_id: str) -> Response:
        post = find_post(store, seed, account, post_id, clock().timestamp())
        if post is None:
            return Response(status_code=404)
        return Response(thumbnail_jpeg(post_id, post["title"], COVER_SIZE), media_type="image/jpeg")

    @api.get("/avatar/{account}.jpg")
    async def avatar(account: str) -> Response:
        return Response(thumbnail_jpeg(account, nickname(account), AVATAR_SIZE), media_type="image/jpeg")

    @api.get("/media/{account}/{post_id}")
    async def media(account: str, post_id: str) -> Response:
        post = store.get("tiktok_post", f"{account}/{post_id}")
        if post is None:
            return Response(status_code=404)
        return FileResponse(store.blob_path(post["blob"]), media_type=post["mime"])
