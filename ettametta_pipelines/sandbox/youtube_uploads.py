"""Uploads to the sandboxed YouTube: resumable sessions, the videos they become, thumbnails, updates.

The protocol is Google's: a POST opens a session, PUTs bring ranges (308 until the last, then the video), a PUT of
`bytes */size` asks, 404 means the session is gone. A video exists from its last byte on; the first look at its
processing state finds it still processing, the next one finds it done, or failed if it cannot be decoded.
"""

import asyncio
import re
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from ettametta_pipelines.clock import Clock, rfc3339
from ettametta_pipelines.sandbox.core import SandboxStore, seeded_rng
from ettametta_pipelines.sandbox.google_requests import GoogleRefusal, parse_instant
from ettametta_pipelines.sandbox.youtube_accounts import OwnChannel

CHUNK_MULTIPLE = 256 * 1024
SESSION_LIFETIME = timedelta(days=7)
MAX_VIDEO_BYTES = 274_877_906_944
MAX_THUMBNAIL_BYTES = 52_428_800
MAX_TITLE_CHARS = 100
MAX_DESCRIPTION_BYTES = 5000
MAX_TAGS_CHARS = 500

CATEGORIES = {
    "1": "Film & Animation", "2": "Autos & Vehicles", "10": "Music", "15": "Pets & Animals", "17": "Sports",
    "19": "Travel & Events", "20": "Gaming", "22": "People & Blogs", "23": "Comedy", "24": "Entertainment",
    "25": "News & Politics", "26": "Howto & Style", "27": "Education", "28": "Science & Technology",
    "29": "Nonprofits & Activism",
}  # fmt: skip

# What an uploader may set, part by part. Everything else sent along is read-only and ignored, as Google does.
_MUTABLE: dict[str, frozenset[str] | None] = {
    "snippet": frozenset({"title", "description", "tags", "categoryId", "defaultLanguage", "defaultAudioLanguage"}),
    "status": frozenset(
        {
            "privacyStatus", "publishAt", "license", "embeddable", "publicStatsViewable", "selfDeclaredMadeForKids",
            "containsSyntheticMedia",
        }
    ),
    "paidProductPlacementDetails": frozenset({"hasPaidProductPlacement"}),
    "recordingDetails": frozenset({"recordingDate"}),
    "brandPartner": None,
    "localizations": None,
}  # fmt: skip

_CONTENT_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")
_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@dataclass(frozen=True)
class MediaFacts:
    """What a decoder found in an uploaded file."""

    duration_s: float
    width: int
    height: int


class Uploads:
    """Sessions and uploaded videos in the sandbox's store."""

    def __init__(self, store: SandboxStore, clock: Clock, seed: int, *, upload_url: str) -> None:
        self._store = store
        self._clock = clock
        self._seed = seed
        self._upload_url = upload_url
        # A client that gave up waiting may send again while its first request still runs; one session must make at
        # most one video, so requests to a session take turns.
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    def open_session(
        self, channel: OwnChannel, parts: list[str], body: dict[str, Any], *, size: str | None, mime: str
    ) -> Response:
        """Check the metadata and hand out a session URI in `Location`. `size` None when it was not announced."""
        if not (mime.startswith("video/") or mime == "application/octet-stream"):
            raise GoogleRefusal(
                400,
                "badContent",
                f"Media type '{mime}' is not supported. Valid media types: [video/*, application/octet-stream]",
            )
        if size is not None and (not size.isdigit() or int(size) == 0):
            raise GoogleRefusal(400, "mediaBodyRequired", "The request does not include the video content.")
        if size is not None and int(size) > MAX_VIDEO_BYTES:
            raise GoogleRefusal(413, "uploadTooLarge", "The media exceeds the largest size accepted.")
        metadata = _mutable(body, parts)
        self._check_metadata(metadata)
        upload_id = self._identifier("session", 72)
        self._store.put(
            "youtube_session",
            upload_id,
            {
                "account": channel.account,
                "metadata": metadata,
                "parts": parts,
                "size": int(size) if size else None,
                "mime": mime,
                "received": 0,
                "opened_at": self._clock().isoformat(),
                "video_id": None,
            },
        )
        location = f"{self._upload_url}?uploadType=resumable&upload_id={upload_id}"
        return Response(status_code=200, headers={"location": location, "x-guploader-uploadid": upload_id})

    async def put(self, request: Request, upload_id: str) -> "dict[str, Any] | Response":
        """One PUT of a session: the stored video once complete, else the 308 that says how far it is."""
        async with self._turns[upload_id]:
            return await self._put(request, upload_id)

    async def _put(self, request: Request, upload_id: str) -> "dict[str, Any] | Response":
        session = self._session(upload_id)
        if session["video_id"]:
            video = self.video(session["video_id"])
            if video is None:
                raise GoogleRefusal(404, "notFound", "The uploaded video was deleted.")
            return video
        start, end, total = self._range(request, session)
        if end is not None:
            await self._receive(request, upload_id, session, start, end, total)
        if total is not None and session["received"] == total:
            return self._complete(upload_id, session)
        headers = {"range": f"bytes=0-{session['received'] - 1}"} if session["received"] else {}
        return Response(status_code=308, headers=headers)

    def _session(self, upload_id: str) -> dict[str, Any]:
        session = self._store.get("youtube_session", upload_id)
        if session is not None:
            opened_at = datetime.fromisoformat(session["opened_at"])
            if self._clock() < opened_at + SESSION_LIFETIME:
                return session
        raise GoogleRefusal(404, "notFound", "The upload session was not found; it may have expired.")

    def _range(self, request: Request, session: dict[str, Any]) -> tuple[int, int | None, int | None]:
        """(start, end, total) of the request; end None when it only asks. Refusal 400 for what does not fit."""
        length = request.headers.get("content-length")
        header = request.headers.get("content-range")
        if header is None:
            if length is None:
                raise _bad_range("Content-Length is required.")
            return 0, int(length) - 1, int(length)
        match = _CONTENT_RANGE.fullmatch(header)
        if match is None:
            raise _bad_range(f"Failed to parse Content-Range header '{header}'.")
        total = int(match[3]) if match[3] != "*" else session["size"]
        if session["size"] is not None and total != session["size"]:
            raise _bad_range(f"The total of '{header}' is not the announced size {session['size']}.")
        if match[1] is None:
            return 0, None, total
        start, end = int(match[1]), int(match[2])
        if end < start or (total is not None and end >= total):
            raise _bad_range(f"Content-Range '{header}' lies outside the file.")
        if length is None or int(length) != end - start + 1:
            raise _bad_range(f"Content-Length {length} does not fit Content-Range '{header}'.")
        if start > session["received"]:
            raise _bad_range(f"Content-Range '{header}' leaves a gap: {session['received']} bytes are held.")
        is_last = total is not None and end == total - 1
        if not is_last and (end - start + 1) % CHUNK_MULTIPLE:
            raise _bad_range(f"Chunks other than the last must be multiples of {CHUNK_MULTIPLE} bytes.")
        return start, end, total

    async def _receive(
        self,
        request: Request,
        upload_id: str,
        session: dict[str, Any],
        start: int,
        end: int,
        total: int | None,
    ) -> None:
        """Append the body, skipping bytes already held. Of a body cut short, whole multiples are kept."""
        path = self._store.blob_path(f"youtube-{upload_id}")
        held = session["received"]
        position = start
        try:
            async for data in _stream(request):
                fresh = data[max(0, held - position) :]
                position += len(data)
                if fresh:
                    _write_at(path, held, fresh)
                    held += len(fresh)
        except ClientDisconnect:
            held -= held % CHUNK_MULTIPLE
        # Another request may have brought more meanwhile: what is held is never forgotten.
        stored = self._store.get("youtube_session", upload_id) or session
        session["received"] = max(min(max(held, session["received"]), end + 1), stored["received"])
        if total is not None:
            session["size"] = total
        self._store.put("youtube_session", upload_id, session)

    def _complete(self, upload_id: str, session: dict[str, Any]) -> dict[str, Any]:
        video_id = self._identifier("video", 11)
        status: dict[str, Any] = {"privacyStatus": "public", "license": "youtube", "embeddable": True}
        status |= {"publicStatsViewable": True} | session["metadata"].get("status", {})
        video = {
            **session["metadata"],
            "id": video_id,
            "account": session["account"],
            "status": status,
            "published_at": rfc3339(self._clock()),
            "blob": f"youtube-{upload_id}",
            "mime": session["mime"],
            "size": session["size"],
            "looks": 0,
            "processing": "processing",
        }
        self._store.put("youtube_video", video_id, video)
        session["video_id"] = video_id
        self._store.put("youtube_session", upload_id, session)
        return video

    def video(self, video_id: str) -> dict[str, Any] | None:
        return self._store.get("youtube_video", video_id)

    def videos_of(self, account: str) -> list[dict[str, Any]]:
        """Uploads of an account, newest first."""
        mine = [video for _, video in self._store.items("youtube_video") if video["account"] == account]
        return sorted(mine, key=lambda video: (video["published_at"], video["id"]), reverse=True)

    async def look_at_processing(self, video: dict[str, Any]) -> dict[str, Any]:
        """The video as a status poll sees it; the poll after the first finds processing finished."""
        if video["processing"] != "processing":
            return video
        if video["looks"] == 0:
            self._store.put("youtube_video", video["id"], video | {"looks": 1})
            return video
        facts = await run_in_threadpool(_decode, self._store.blob_path(video["blob"]))
        if facts is None:
            video = video | {"processing": "failed"}
        else:
            video = video | {"processing": "succeeded", "facts": vars(facts)}
        self._store.put("youtube_video", video["id"], video)
        return video

    def update(self, video: dict[str, Any], parts: list[str], body: dict[str, Any]) -> dict[str, Any]:
        """Replace whole parts: what a sent part leaves out is cleared, as Google does."""
        changed = _mutable(body, parts)
        if "snippet" in changed and not changed["snippet"].get("categoryId"):
            raise GoogleRefusal(400, "invalidCategoryId", "The snippet.categoryId property is missing.")
        self._check_metadata(changed, partial=True)
        if "status" in changed:
            changed["status"] = {"privacyStatus": "public"} | changed["status"]
        video = video | changed
        self._store.put("youtube_video", video["id"], video)
        return video

    def delete(self, video: dict[str, Any]) -> None:
        self._store.delete("youtube_video", video["id"])
        self._store.blob_path(video["blob"]).unlink(missing_ok=True)

    async def set_thumbnail(self, request: Request, video: dict[str, Any]) -> None:
        """Keep a custom thumbnail; refusals 400/413 for what is not a picture or is too big."""
        body = await request.body()
        if not body:
            raise GoogleRefusal(400, "mediaBodyRequired", "The request does not include the image content.")
        if len(body) > MAX_THUMBNAIL_BYTES:
            raise GoogleRefusal(413, "uploadTooLarge", "The media exceeds the largest size accepted.")
        if not await run_in_threadpool(_is_picture, body):
            raise GoogleRefusal(400, "invalidImage", "The provided image content is invalid.")
        self._store.blob_path(f"youtube-thumbnail-{video['id']}").write_bytes(body)
        self._store.put("youtube_video", video["id"], video | {"has_custom_thumbnail": True})

    def _identifier(self, kind: str, length: int) -> str:
        rng = seeded_rng(self._seed, kind, self._store.counter(f"youtube_{kind}_ids"))
        return "".join(rng.choices(_ID_ALPHABET, k=length))

    def _check_metadata(self, metadata: dict[str, Any], *, partial: bool = False) -> None:
        snippet = metadata.get("snippet", {"title": "unchanged"} if partial else {})
        title = snippet.get("title", "")
        if not title.strip() or len(title) > MAX_TITLE_CHARS or set("<>") & set(title):
            raise _bad_metadata("invalidTitle", "an invalid or empty video title")
        description = snippet.get("description", "")
        if len(description.encode()) > MAX_DESCRIPTION_BYTES or set("<>") & set(description):
            raise _bad_metadata("invalidDescription", "an invalid video description")
        if _tags_length(snippet.get("tags", [])) > MAX_TAGS_CHARS:
            raise _bad_metadata("invalidTags", "invalid video keywords")
        if snippet.get("categoryId", "22") not in CATEGORIES:
            raise _bad_metadata("invalidCategoryId", "an invalid category ID")
        self._check_publish_at(metadata.get("status", {}))

    def _check_publish_at(self, status: dict[str, Any]) -> None:
        publish_at = status.get("publishAt")
        if publish_at is None:
            return
        in_future = parse_instant(publish_at) > self._clock()
        if status.get("privacyStatus") != "private" or not in_future:
            raise _bad_metadata("invalidPublishAt", "an invalid scheduled publishing time")


def is_public(video: dict[str, Any], now: datetime) -> bool:
    """Whether anybody may see it: public, or scheduled and due."""
    status = video["status"]
    if "publishAt" in status:
        return parse_instant(status["publishAt"]) <= now
    return bool(status["privacyStatus"] == "public")


def view_statistics(
    video: dict[str, Any], now: datetime, seed: int, appeal: float = 1.0
) -> tuple[int, int, int]:
    """(views, likes, comments) of an uploaded video: they grow with its age; a private video has none.

    `appeal` is a factor on its views (`audience.py`); its own luck, another, varies about as much.
    """
    status = video["status"]
    if status["privacyStatus"] == "private" and not is_public(video, now):
        return 0, 0, 0
    rng = seeded_rng(seed, "own statistics", video["id"])
    hours = max(0.0, (now - parse_instant(video["published_at"])).total_seconds() / 3600)
    pace = rng.uniform(80, 1800) * (0.05 if status["privacyStatus"] == "unlisted" else 1.0)
    views = int(pace * appeal * (hours + 0.1) ** 0.8)
    return views, int(views * rng.uniform(0.02, 0.09)), int(views * rng.uniform(0.001, 0.008))


async def _stream(request: Request) -> AsyncIterator[bytes]:
    async for data in request.stream():
        if data:
            yield data


def _write_at(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b" if path.exists() else "wb") as blob:
        blob.seek(offset)
        blob.write(data)


def _mutable(body: dict[str, Any], parts: list[str]) -> dict[str, Any]:
    """The parts named in `part`, reduced to what may be set."""
    kept: dict[str, Any] = {}
    for part, names in _MUTABLE.items():
        if part in parts and part in body:
            kept[part] = body[part] if names is None else {k: v for k, v in body[part].items() if k in names}
    return kept


def _tags_length(tags: list[str]) -> int:
    """Characters as YouTube counts them: commas between tags, and two quotes around a tag with a space."""
    return sum(len(tag) + (2 if " " in tag else 0) for tag in tags) + max(0, len(tags) - 1)


def _bad_range(message: str) -> GoogleRefusal:
    return GoogleRefusal(400, "badRequest", message)


def _bad_metadata(reason: str, what: str) -> GoogleRefusal:
    return GoogleRefusal(
        400, reason, f"The request metadata specifies {what}.", domain="youtube.video", location="body"
    )


def _is_picture(data: bytes) -> bool:
    from io import BytesIO

    from PIL import Image

    try:
        with Image.open(BytesIO(data)) as picture:
            picture.verify()
    except (OSError, SyntaxError, ValueError):
        return False
    return True


def _decode(path: Path) -> MediaFacts | None:
    """Facts of a file whose first picture can be decoded; None when it cannot."""
    import av

    try:
        # The sandbox sees what this machine's own runs posted; even so no other file, and nothing but a movie.
        with av.open(f"file:{path}", format="mp4", options={"protocol_whitelist": "file"}) as container:
            stream = container.streams.video[0]
            picture = next(container.decode(stream))
            duration = container.duration / av.time_base if container.duration else 0.0
            return MediaFacts(duration_s=duration, width=picture.width, height=picture.height)
    except (av.FFmpegError, IndexError, StopIteration):
        return None
