"""Fetches small public pictures (thumbnails) within limits of size and time.

The addresses come from platforms' answers, so they are held to https, or to the host of a vendor endpoint the
operator configured (the sandbox). Called by discovery for previews and by scoring for judgement.
"""

import time
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ettametta_pipelines.failures import ERROR_BY_KIND, PermanentError, PipelineError, kind_of_status
from ettametta_pipelines.vendors.http import USER_AGENT, host_of, network_error

if TYPE_CHECKING:
    import httpx

    from ettametta_pipelines.settings import VendorEndpoint

MAX_BYTES = 2 * 1024 * 1024
MAX_SECONDS = 10.0
PARALLEL = 8

# (offset, bytes there, type). The first bytes decide: what a server declares is not evidence.
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (8, b"WEBP", "image/webp"),
)


@dataclass(frozen=True)
class Picture:
    """One picture as fetched; `mime` is what the bytes are."""

    mime: str
    data: bytes


def picture_type(data: bytes) -> str | None:
    """Media type by the first bytes: JPEG, PNG or WebP; None for anything else."""
    return next((mime for at, magic, mime in _SIGNATURES if data[at : at + len(magic)] == magic), None)


def trusted_hosts(endpoints: Iterable["VendorEndpoint"]) -> frozenset[str]:
    """Hosts that may serve pictures over plain http: those of endpoints configured so, which means the sandbox."""
    return frozenset(host_of(e.base_url) for e in endpoints if e.base_url.startswith("http://"))


def fetch_pictures(
    urls: Sequence[str | None], *, http_hosts: Collection[str] = (), max_bytes: int = MAX_BYTES
) -> list[Picture | PipelineError]:
    """Fetch side by side, one result per address in the same order: the picture, or why there is none.

    `http_hosts` (see `trusted_hosts`) may be asked over plain http. Nothing is raised: a missing thumbnail concerns
    one candidate, and the caller says what that means.
    """
    import httpx

    with (
        httpx.Client(
            timeout=httpx.Timeout(MAX_SECONDS / 2),
            follow_redirects=False,
            headers={"user-agent": USER_AGENT},
            # Proxies of the environment cannot reach this machine's own sandbox.
            mounts={"all://127.0.0.1": None, "all://localhost": None},
        ) as client,
        ThreadPoolExecutor(max_workers=PARALLEL) as pool,
    ):
        return list(pool.map(lambda url: _fetched(client, url, http_hosts, max_bytes), urls))


def _fetched(
    client: "httpx.Client", url: str | None, http_hosts: Collection[str], max_bytes: int
) -> Picture | PipelineError:
    try:
        return fetch_picture(client, url, http_hosts=http_hosts, max_bytes=max_bytes)
    except PipelineError as error:
        return error


def fetch_picture(
    client: "httpx.Client",
    url: str | None,
    *,
    http_hosts: Collection[str] = (),
    max_bytes: int = MAX_BYTES,
    max_seconds: float = MAX_SECONDS,
) -> Picture:
    """Fetch one picture. Raises a PipelineError `picture_...` naming the host, never the whole address."""
    import httpx

    if not url:
        raise _no_picture("The video has no preview picture", "picture_missing")
    try:
        parts, host = urlsplit(url), host_of(url)
    except ValueError:
        raise _no_picture("The address of the preview picture is none", "picture_refused") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and host in http_hosts):
        raise _no_picture(
            f"The preview picture at {host or 'no host'} is not served by https", "picture_refused"
        )
    give_up_at = time.monotonic() + max_seconds
    data = bytearray()
    try:
        with client.stream("GET", url) as response:
            if response.status_code != 200:
                raise ERROR_BY_KIND[kind_of_status(response.status_code)](
                    f"{host} answered HTTP {response.status_code} for a preview picture.",
                    code="picture_unavailable",
                )
            for chunk in response.iter_bytes(64 * 1024):
                data += chunk
                if len(data) > max_bytes:
                    raise _no_picture(
                        f"A preview picture at {host} exceeds {max_bytes} bytes", "picture_too_big"
                    )
                if time.monotonic() > give_up_at:
                    raise _no_picture(
                        f"{host} took over {max_seconds:.0f} s for a picture", "picture_too_slow"
                    )
    # Hosts that cannot be written in DNS fail as a UnicodeError, which is a ValueError.
    except (httpx.InvalidURL, ValueError):
        raise _no_picture("The address of the preview picture is none", "picture_refused") from None
    except httpx.DecodingError:
        raise _no_picture(
            f"What {host} sent as a preview picture cannot be unpacked", "picture_unreadable"
        ) from None
    except httpx.TransportError as error:
        timed_out = isinstance(error, httpx.TimeoutException)
        raise network_error(
            error,
            host,
            "send a preview picture",
            base_url=url,
            was_sent=True,
            repeatable=True,
            timed_out=timed_out,
        ) from None
    mime = picture_type(bytes(data[:16]))
    if mime is None:
        raise _no_picture(
            f"What {host} sent as a preview picture is no JPEG, PNG or WebP", "picture_unreadable"
        )
    return Picture(mime, bytes(data))


def _no_picture(sentence: str, code: str) -> PermanentError:
    return PermanentError(f"{sentence}.", code=code, remedy="The other candidates are not affected.")
