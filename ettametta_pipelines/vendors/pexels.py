"""Pexels' API: search for stock footage and photos, and download of one file, within limits of size, time and host.

Answers become plain dataclasses; who is to be credited travels with each video. The key goes to the API alone, never
to the host that serves the files. Which footage suits a video is `renders/broll_clips.py`'s business, which photo is
moved `synthesis/stills.py`'s.
"""

import hashlib
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ettametta_pipelines.failures import FailureKind, PermanentError, PipelineError, TransientError
from ettametta_pipelines.vendors.http import (
    ErrorRule,
    call_with_retries,
    host_of,
    http_client,
    network_error,
    raise_for_vendor,
    send,
    unreadable_answer,
    vendor_error,
)

if TYPE_CHECKING:
    import httpx

    from ettametta_pipelines.settings import VendorEndpoint

VENDOR = "Pexels"
LICENCE = "Pexels License"
MAX_PER_PAGE = 80
FILE_HOSTS = frozenset({"videos.pexels.com"})
MAX_BYTES = 96 << 20
MAX_SECONDS = 120.0

_KEY_REMEDY = "Set PEXELS_API_KEY to a key of https://www.pexels.com/api/, or unset it to use the sandbox."
# Pexels names no reasons, and says at a 429 neither which limit was reached nor when it ends: 200 an hour, 20,000 a
# month.
_REASON_BY_STATUS = {401: "unauthorized", 403: "forbidden", 429: "rate_limited"}
ERRORS = {
    "unauthorized": ErrorRule(FailureKind.NEEDS_PERSON, "pexels_unauthorized", _KEY_REMEDY),
    "forbidden": ErrorRule(FailureKind.NEEDS_PERSON, "pexels_forbidden", _KEY_REMEDY),
    "rate_limited": ErrorRule(
        FailureKind.TRANSIENT,
        "pexels_rate_limited",
        "Wait for the next hour, or ask Pexels for a higher limit.",
        wait_s=900.0,
    ),
}


PHOTO_HOSTS = frozenset({"images.pexels.com"})
MAX_PHOTO_BYTES = 24 << 20


@dataclass(frozen=True)
class PexelsPhoto:
    """A photo: its page, who made it, and the address of a copy about 1880 pixels wide."""

    id: int
    width: int
    height: int
    url: str
    photographer: str
    link: str


@dataclass(frozen=True)
class RateLimit:
    """Requests allowed and left until `reset_at` (seconds since 1970), by the headers of the last good answer."""

    limit: int
    remaining: int
    reset_at: int


@dataclass(frozen=True)
class PexelsFile:
    """One file of a video; sizes in pixels."""

    id: int
    width: int
    height: int
    link: str


@dataclass(frozen=True)
class PexelsVideo:
    """A video with its files (MP4 of known size only), its page, and who made it."""

    id: int
    width: int
    height: int
    duration_s: float
    url: str
    photographer: str
    photographer_url: str
    files: tuple[PexelsFile, ...]


@dataclass(frozen=True)
class VideoPage:
    videos: tuple[PexelsVideo, ...]
    total: int
    has_more: bool


@dataclass(frozen=True)
class Downloaded:
    sha256: str
    size_bytes: int


def smallest_covering(files: tuple[PexelsFile, ...], width: int, height: int) -> PexelsFile | None:
    """The smallest file at least this wide and high, else the largest there is; None without any file."""

    def pixels(file: PexelsFile) -> tuple[int, int]:
        return file.width * file.height, file.id

    covering = [file for file in files if file.width >= width and file.height >= height]
    return min(covering, key=pixels) if covering else max(files, key=pixels, default=None)


class PexelsClient:
    """Reader of Pexels' library. Raises PipelineError subclasses only; `rate_limit` is what the last answer said."""

    def __init__(self, endpoint: "VendorEndpoint", *, sleep: Callable[[float], None] = time.sleep) -> None:
        self.mode = endpoint.mode
        self.rate_limit: RateLimit | None = None
        self._endpoint = endpoint
        self._sleep = sleep
        self._http = http_client(endpoint, headers={"Authorization": endpoint.secret("pexels_api_key")})

    def search_videos(
        self,
        query: str,
        *,
        orientation: str | None = None,
        size: str | None = None,
        per_page: int = 15,
        page: int = 1,
        locale: str | None = None,
    ) -> VideoPage:
        """One page of videos, Pexels' best first.

        `orientation` is landscape, portrait or square; `size` the least: large (4K), medium (Full HD), small (HD);
        `per_page` at most 80. Videos without a file of known size are left out.
        """
        wanted = {
            "query": query, "orientation": orientation, "size": size, "per_page": min(per_page, MAX_PER_PAGE),
            "page": page, "locale": locale,
        }  # fmt: skip
        parameters = {name: value for name, value in wanted.items() if value is not None}
        body = self._get("search for videos", "v1/videos/search", parameters)
        try:
            videos = tuple(video for raw in body["videos"] if (video := _video(raw)).files)
            return VideoPage(videos, int(body["total_results"]), bool(body.get("next_page")))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise unreadable_answer(VENDOR, "search for videos") from None

    def search_photos(
        self, query: str, *, orientation: str | None = None, per_page: int = 15
    ) -> tuple[PexelsPhoto, ...]:
        """Photos, Pexels' best first; arguments as of `search_videos`."""
        wanted = {"query": query, "per_page": min(per_page, MAX_PER_PAGE)}
        wanted |= {"orientation": orientation} if orientation else {}
        body = self._get("search for photos", "v1/search", wanted)
        try:
            return tuple(
                PexelsPhoto(
                    int(raw["id"]), int(raw["width"]), int(raw["height"]), str(raw["url"]),
                    str(raw["photographer"]), str(raw["src"]["large2x"]),
                )
                for raw in body["photos"]
            )  # fmt: skip
        except (KeyError, TypeError, ValueError, AttributeError):
            raise unreadable_answer(VENDOR, "search for photos") from None

    def download_photo(self, photo: PexelsPhoto) -> bytes:
        """The photo's bytes. Raises PermanentError `pexels_file_refused` for another host, or as `fetch_picture`."""
        from ettametta_pipelines.vendors.pictures import fetch_picture

        self._check_host(photo.link, PHOTO_HOSTS)
        with http_client(self._endpoint) as client:
            http_hosts = {host_of(self._endpoint.base_url)}
            return fetch_picture(client, photo.link, http_hosts=http_hosts, max_bytes=MAX_PHOTO_BYTES).data

    def download(self, file: PexelsFile, path: Path, *, max_bytes: int = MAX_BYTES) -> Downloaded:
        """Fetch a file to `path`, which is written anew. Nothing is left there when it fails.

        Raises PermanentError `pexels_file_refused` for another host or something that is no MP4, `pexels_file_too_big`
        beyond `max_bytes`; TransientError `pexels_file_cut_short` or what the network raises, after the retries.
        """
        self._check_host(file.link)
        try:
            return call_with_retries(
                lambda: self._download_once(file, path, max_bytes),
                retries=self._endpoint.max_retries,
                sleep=self._sleep,
                seed=str(file.id),
            )
        except PipelineError:
            path.unlink(missing_ok=True)
            raise

    def _check_host(self, link: str, hosts: Collection[str] = FILE_HOSTS) -> None:
        ours = urlsplit(self._endpoint.base_url)
        parts, host = urlsplit(link), host_of(link)
        # Plain http only to the very server that was configured so, which means the sandbox.
        trusted = (parts.scheme == "https" and host in hosts) or (
            parts.scheme == ours.scheme and host == host_of(self._endpoint.base_url)
        )
        if not trusted:
            raise _refused(f"Pexels names a file at {host or 'no host'}, which is none of its own hosts")

    def _download_once(self, file: PexelsFile, path: Path, max_bytes: int) -> Downloaded:
        import httpx

        doing, started = "send a video file", time.monotonic()
        digest, received = hashlib.sha256(), 0
        try:
            with (
                http_client(self._endpoint) as client,
                client.stream("GET", file.link) as response,
                path.open("wb") as out,
            ):
                self._raise_for(response, doing)
                declared = response.headers.get("content-type", "").split(";")[0].strip()
                if response.status_code != 200 or not declared.startswith("video/"):
                    raise _refused(f"Pexels sent {declared or 'something unnamed'} instead of a video file")
                for chunk in response.iter_raw(256 * 1024):
                    received += len(chunk)
                    if received > max_bytes:
                        raise PermanentError(
                            f"A video file at Pexels exceeds {max_bytes >> 20} MiB.",
                            code="pexels_file_too_big",
                            remedy="Another clip is taken instead.",
                        )
                    if time.monotonic() - started > MAX_SECONDS:
                        raise TransientError(
                            f"Pexels took over {MAX_SECONDS:.0f} s to send a video file.",
                            code="pexels_file_too_slow",
                        )
                    digest.update(chunk)
                    out.write(chunk)
        except httpx.TransportError as error:
            if received:
                raise TransientError(
                    f"Pexels ended a video file after {received} bytes.",
                    code="pexels_file_cut_short",
                    remedy="It is tried again by itself.",
                ) from None
            raise network_error(
                error, VENDOR, doing, base_url=file.link, was_sent=True, repeatable=True,
                timed_out=isinstance(error, httpx.TimeoutException),
            ) from None  # fmt: skip
        with path.open("rb") as written:
            if written.read(12)[4:8] != b"ftyp":
                raise _refused("What Pexels sent as a video file is no MP4")
        return Downloaded(digest.hexdigest(), received)

    def _get(self, doing: str, url: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
        def ask() -> dict[str, Any]:
            response = send(self._http, "GET", url, vendor=VENDOR, doing=doing, params=dict(parameters))
            self._raise_for(response, doing)
            self.rate_limit = _rate_limit(response.headers) or self.rate_limit
            try:
                body = response.json()
            except ValueError:
                body = None
            if not isinstance(body, dict):
                raise unreadable_answer(VENDOR, doing)
            return body

        return call_with_retries(
            ask, retries=self._endpoint.max_retries, sleep=self._sleep, seed=str(sorted(parameters.items()))
        )

    def _raise_for(self, response: "httpx.Response", doing: str) -> None:
        if 300 <= response.status_code < 400:
            raise vendor_error(VENDOR, doing, status=response.status_code, detail="it points somewhere else")
        raise_for_vendor(
            response,
            vendor=VENDOR,
            doing=doing,
            reason=_REASON_BY_STATUS.get(response.status_code, ""),
            rules=ERRORS,
        )


def _refused(sentence: str) -> PermanentError:
    return PermanentError(f"{sentence}.", code="pexels_file_refused", remedy="Another clip is taken instead.")


def _rate_limit(headers: Mapping[str, str]) -> RateLimit | None:
    values = [headers.get(f"x-ratelimit-{name}", "") for name in ("limit", "remaining", "reset")]
    return RateLimit(*map(int, values)) if all(value.isdecimal() for value in values) else None


def _video(raw: Mapping[str, Any]) -> PexelsVideo:
    user = raw["user"]
    files = tuple(
        PexelsFile(int(file["id"]), int(file["width"]), int(file["height"]), str(file["link"]))
        for file in raw["video_files"]
        # Sizes may be null, and HLS playlists are listed among the files.
        if file.get("file_type") == "video/mp4" and file.get("width") and file.get("height")
    )
    return PexelsVideo(
        id=int(raw["id"]),
        width=int(raw["width"] or 0),
        height=int(raw["height"] or 0),
        duration_s=float(raw["duration"]),
        url=str(raw["url"]),
        photographer=str(user["name"]),
        photographer_url=str(user["url"]),
        files=files,
    )
