"""How objects are addressed: the rules of keys, what a store tells of an object, and how S3 is reached.

Plain values without a backend. Called by `objects.py`, `directory.py` and `bucket.py`; everyone else imports these
names from `objects.py`.
"""

import hashlib
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ettametta_pipelines.failures import PermanentError

if TYPE_CHECKING:
    from ettametta_pipelines.settings import Settings

MAX_KEY_BYTES = 1024

# obstore reserves names that end like this for local writes in progress; ours end so too, and no key may.
UNFINISHED = re.compile(r"#\d+\Z")


def file_sha256(path: Path) -> str:
    """SHA-256 of a local file as lower-case hex: what content-addressed keys are made of."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class ObjectInfo:
    """What a store knows of an object. `etag` changes whenever the object is replaced; it is no checksum."""

    key: str
    size: int
    etag: str
    modified_at: datetime


@dataclass(frozen=True)
class AwsOptions:
    """How to reach S3. Without keys the usual chain applies (environment, web identity, instance role).

    An `endpoint_url` means an S3-compatible server: the bucket goes into the path, and plain http is allowed
    when the URL says http.
    """

    access_key_id: str | None = field(default=None, repr=False)
    secret_access_key: str | None = field(default=None, repr=False)
    session_token: str | None = field(default=None, repr=False)
    endpoint_url: str = ""
    region: str = "us-east-1"

    @classmethod
    def of(cls, settings: "Settings") -> "AwsOptions":
        """How these settings say to reach S3, and SQS."""
        plain = {
            name: None if secret is None else secret.get_secret_value()
            for name, secret in (
                ("access_key_id", settings.aws_access_key_id),
                ("secret_access_key", settings.aws_secret_access_key),
                ("session_token", settings.aws_session_token),
            )
        }
        return cls(**plain, endpoint_url=settings.aws_endpoint_url, region=settings.aws_region)


def check_key(key: str) -> str:
    """The key itself, or PermanentError `bad_object_key`: the same rules on both backends.

    Segments joined by "/", none of them empty, "." or ".."; no control characters; at most 1024 bytes of UTF-8;
    and no name that ends like "#12", which marks writes in progress in a directory.
    """
    problem = key_problem(key)
    if problem:
        raise PermanentError(
            f"{key[:200]!r} cannot be an object key: {problem}.",
            code="bad_object_key",
            remedy="Use segments joined by single slashes, for example uploads/agency/cats/clip.mp4.",
        )
    return key


def is_key(key: str) -> bool:
    return key_problem(key) is None


def key_problem(key: str) -> str | None:
    """What keeps a text from being a key, as the end of a sentence; None for a key."""
    segments = key.split("/")
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if "" in segments:
        return "it has an empty segment"
    if "." in segments or ".." in segments:
        return "it has a segment . or .."
    if not key.isprintable() and any(unicodedata.category(character) == "Cc" for character in key):
        return "it has control characters"
    if size > MAX_KEY_BYTES:
        return f"it has {size} bytes, more than {MAX_KEY_BYTES}"
    if UNFINISHED.search(key):
        return "it ends with # and digits"
    return None
