"""Keeps secrets out of what this process writes: error messages, log records, and what an unexpected exception says.

Dagster keeps log messages and exceptions in its event database, readable by whoever opens the UI, and compute logs hold
whatever was printed. `get_settings` guards every process that loads the settings; vendors' words pass `redact` when an
error is made of them. Addresses of resumable uploads and presigned links are secrets too: whoever has one may use it.
"""

import logging
import re
import traceback
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, SecretStr

REDACTED = "[redacted]"
# Shorter values would be found in ordinary words.
SHORTEST_SECRET = 6

_SECRET_FIELDS = (
    "access_token|refresh_token|id_token|client_secret|client_key|api_key|upload_id|upload_url|upload_token"
    "|X-Amz-Signature|X-Amz-Credential|X-Amz-Security-Token|x-goog-api-key|X-Shopify-Access-Token|xi-api-key"
)

# What is redacted already stays as it is.
_NEW = r"(?!\[redacted\])"
# Order matters: named values first, so that the whole value goes even where it also matches a known prefix.
_SECRETS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (
            rf"(?i)\b(authorization[\"']?\s*[:=]\s*[\"']?)(?:(bearer|basic)\s+)?{_NEW}[^\s\"',;]+",
            rf"\1{REDACTED}",
        ),
        (r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{8,}", rf"\1{REDACTED}"),
        (
            rf"(?i)([\"']?\b(?:{_SECRET_FIELDS})[\"']?\s*[:=]\s*[\"']?){_NEW}[^\s\"'&,;)}}\]]+",
            rf"\1{REDACTED}",
        ),
        (rf"(?i)([?&](?:key|code|token|sig|signature|session_crd)=){_NEW}[^\s\"'&)]+", rf"\1{REDACTED}"),
        (rf"(?<![\w&?-])(key=){_NEW}[^\s\"'&,)]+", rf"\1{REDACTED}"),
        (rf"(://[^/\s:@]+:){_NEW}[^/\s@]+(@)", rf"\1{REDACTED}\2"),
        (
            r"\b(?:(?:sk|rk)_(?:live|test)_|whsec_|ya29\.|act\.|rft\.|clt\.|shp(?:at|ca|pa|ss|rt)_|AIza|GOCSPX-)"
            r"[A-Za-z0-9._~!*+/=-]+",
            REDACTED,
        ),
        (r"(?<![\w/:.])1//[A-Za-z0-9._-]{6,}", REDACTED),
    )
)

_known: tuple[str, ...] = ()


class UnexpectedError(Exception):
    """Stands for an exception whose own words held a secret; says the same without it."""


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """`text` without tokens, keys, signatures and upload addresses: the values given and those this process knows, then
    by name of the value and by known prefixes."""
    for secret in (*secrets, *_known):
        text = text.replace(secret, REDACTED)
    for pattern, replacement in _SECRETS:
        text = pattern.sub(replacement, text)
    return text


def secrets_of(settings: BaseModel) -> tuple[str, ...]:
    """Values of every secret setting, and the parts of those that list several, longest first."""
    found: set[str] = set()
    for value in settings.__dict__.values():
        if isinstance(value, SecretStr):
            text = value.get_secret_value()
            parts = [part.strip() for part in text.split(",")]
            # `name=token` as well as plain ones; a key in base64 may end in the sign itself.
            found |= {text, *parts, *(part.partition("=")[2] for part in parts)}
            found.add(unquote(urlsplit(text).password or "") if "://" in text else "")
    return tuple(sorted((text for text in found if len(text) >= SHORTEST_SECRET), key=len, reverse=True))


def guard_process(secrets: tuple[str, ...]) -> None:
    """From now on no log record of this process, whichever library makes it, holds one of these or looks like one."""
    global _known
    _known = secrets
    logging.setLogRecordFactory(_guarded_record)


def without_secrets(error: BaseException) -> UnexpectedError | None:
    """What to raise in place of `error` when it, or what led to it, says a secret; None when all may be seen."""
    if all(redact(said) == said for said in map(str, _chain(error))):
        return None
    return UnexpectedError(redact("".join(traceback.format_exception(error))))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            led = one.__cause__ if one.__suppress_context__ else one.__context__
            waiting += [led] if led is not None else []


def _guarded_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    try:
        said = record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit their message: logging would print both
        said = str(record.msg)
        record.msg, record.args = redact(said), ()
    if (shown := redact(said)) != said:
        record.msg, record.args = shown, ()
    if record.exc_info and record.exc_info[1] is not None and (safe := without_secrets(record.exc_info[1])):
        # Formatters take the text that is there.
        record.exc_text = str(safe)
    return record
