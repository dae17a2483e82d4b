"""Addresses of media at the gateway or a CDN in front of it, and whether such an address is one of ours.

Links stand in metadata and tables for years, so they are signed for good: with the first of MEDIA_SIGNING_KEYS, while
the gateway takes those of any of them. A key that is taken out of the list ends every link it signed. Media are named
by their content and never change, so a link shows one object for ever and nothing else. A link for somebody outside may
end: `expires` is part of what is signed. Who writes links is any room; who checks them is the gateway.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import quote, urlencode

from ettametta_pipelines.settings import Settings

SIGNATURE, EXPIRES = "sig", "expires"


def media_url(settings: Settings, key: str, *, until: datetime | None = None) -> str:
    """Where an object below `media/` is watched; signed where keys are set, and valid for good or `until` then."""
    base = settings.media_cdn_url.rstrip("/") or settings.gateway_url
    address = f"{base}/{quote(key)}"
    keys = settings.media_keys
    if not keys:
        return address
    expires = "" if until is None else str(int(until.timestamp()))
    query = {SIGNATURE: _signature(keys[0], key, expires)} | ({EXPIRES: expires} if expires else {})
    return f"{address}?{urlencode(query)}"


def is_signed(settings: Settings, key: str, query: Mapping[str, str], now: datetime) -> bool:
    """Whether a request for a key bears a signature of ours that has not ended."""
    expires, given = query.get(EXPIRES, ""), query.get(SIGNATURE, "").encode()
    if expires and not (expires.isascii() and expires.isdigit() and int(expires[:12]) > now.timestamp()):
        return False
    # Every key is compared, so that the time taken does not say which one it was.
    fits = [
        hmac.compare_digest(_signature(known, key, expires).encode(), given) for known in settings.media_keys
    ]
    return any(fits)


def _signature(signing_key: str, key: str, expires: str) -> str:
    message = f"media\0{key}\0{expires}".encode()
    digest = hmac.digest(signing_key.encode(), message, hashlib.sha256)
    return base64.urlsafe_b64encode(digest[:24]).decode()
