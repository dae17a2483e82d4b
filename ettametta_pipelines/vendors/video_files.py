"""Fetches one finished video from where a vendor's answer says it lies, within limits of host, size and time.

Called by the clients of vendors that make videos. What the file holds is judged by the probe, not here.
"""

import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.vendors.http import http_client, network_error, raise_for_vendor

if TYPE_CHECKING:
    from ettametta_pipelines.settings import VendorEndpoint

MAX_BYTES = 256 << 20
MAX_SECONDS = 300.0
# What an address answers whose time is over, or whose file is gone; asked with a key, the first two mean the key.
GONE = frozenset({401, 403, 404, 410})
REFUSED = frozenset({401, 403})
MAX_HOPS = 5


class FileGone(PermanentError):
    """The address does not serve the file any more; the vendor may name a fresh one."""


def fetch_video(
    endpoint: "VendorEndpoint",
    url: str,
    path: Path,
    *,
    vendor: str,
    hosts: Collection[str] = (),
    headers: Mapping[str, str] | None = None,
) -> None:
    """Write the file at `url` to `path`, anew. `hosts` are DNS suffixes it may lie under, any public one without them.

    Redirects are followed to such hosts (Google's files are behind one). `headers` (a key) go to the configured server
    alone. Raises PermanentError `clip_file_refused`, FileGone `clip_link_expired`, NeedsPersonError where the key is
    refused, or TransientError; nothing is left at `path` then.
    """
    try:
        for _ in range(MAX_HOPS):
            onward = _received(endpoint, url, path, vendor, hosts, headers)
            if onward is None:
                break
            url = urljoin(url, onward)
        else:
            raise _refused(f"{vendor} points on and on instead of sending a clip")
    except PipelineError:
        path.unlink(missing_ok=True)
        raise
    with path.open("rb") as written:
        if written.read(12)[4:8] != b"ftyp":
            path.unlink()
            raise _refused(f"What {vendor} sent as a clip is no MP4")


def _received(
    endpoint: "VendorEndpoint",
    url: str,
    path: Path,
    vendor: str,
    hosts: Collection[str],
    headers: Mapping[str, str] | None,
) -> str | None:
    """Write what lies at `url`, and nowhere else, to `path`; where it points on, the address."""
    import httpx

    doing, began, received = "send a finished clip", time.monotonic(), 0
    ours, parts = urlsplit(endpoint.base_url), urlsplit(url)
    at_home = (parts.scheme, parts.netloc) == (ours.scheme, ours.netloc)
    if not at_home and not _is_public(url, hosts):
        raise _refused(
            f"{vendor} names a clip at {parts.hostname or 'no host'}, which is none of its own hosts"
        )
    key = dict(headers or {}) if at_home else {}
    try:
        with (
            http_client(endpoint) as client,
            client.stream("GET", url, headers=key) as response,
            path.open("wb") as out,
        ):
            if key and response.status_code in REFUSED:
                raise NeedsPersonError(
                    f"{vendor} refused our key when asked to {doing} (HTTP {response.status_code}).",
                    code="api_key_rejected",
                    remedy="Check the key and what it may do; the clip waits and is fetched then.",
                )
            if response.status_code in GONE:
                raise FileGone(
                    f"{vendor} does not serve the finished clip any more (HTTP {response.status_code}).",
                    code="clip_link_expired",
                    remedy="A fresh address is asked for by itself.",
                )
            if response.is_redirect and response.headers.get("location"):
                return str(response.headers["location"])
            raise_for_vendor(response, vendor=vendor, doing=doing)
            if response.status_code != 200:
                raise _refused(f"{vendor} answers HTTP {response.status_code} instead of sending a clip")
            for chunk in response.iter_raw(256 * 1024):
                received += len(chunk)
                if received > MAX_BYTES:
                    raise _refused(f"A clip at {vendor} exceeds {MAX_BYTES >> 20} MiB")
                if time.monotonic() - began > MAX_SECONDS:
                    raise TransientError(
                        f"{vendor} took over {MAX_SECONDS:.0f} s to send a clip.", code="clip_file_too_slow"
                    )
                out.write(chunk)
    except httpx.TransportError as error:
        raise network_error(
            error, vendor, doing, base_url=url, was_sent=True, repeatable=True,
            timed_out=isinstance(error, httpx.TimeoutException),
        ) from None  # fmt: skip
    return None


def _is_public(url: str, hosts: Collection[str]) -> bool:
    """Whether it is https at a name of the DNS, below one of `hosts` where such are given; never a bare address."""
    from ipaddress import ip_address

    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        return False
    named = "." in host and not host.endswith((".local", ".internal", ".localhost"))
    fitting = not hosts or any(host == suffix or host.endswith(f".{suffix}") for suffix in hosts)
    return parts.scheme == "https" and named and fitting


def _refused(sentence: str) -> PermanentError:
    return PermanentError(
        f"{sentence}.", code="clip_file_refused", remedy="Look at the clip in the vendor's console."
    )
