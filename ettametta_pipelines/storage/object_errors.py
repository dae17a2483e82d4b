"""How the object store's failures enter the taxonomy: S3 codes, HTTP statuses and OS errors as tables.

What obstore and botocore say is never repeated verbatim: their texts carry upload ids, access key ids and, for a
bad signature, the string that was signed. Only the key, the store's URL and the vendor's error code are named.
Called by `objects.py`, `directory.py` and `bucket.py`.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from ettametta_pipelines.failures import (
    FailureKind,
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
    kind_of_status,
)


class ObjectMissing(PermanentError):
    """No object has this key."""


class ObjectExists(PermanentError):
    """A conditional create found an object under this key; the one that was there is untouched."""


class RangeBeyondEnd(PermanentError):
    """The object ends before the range begins. Stays inside the store: readers get no bytes."""


@dataclass(frozen=True)
class _Meaning:
    error: type[PipelineError]
    code: str
    remedy: str


_BUCKET_MISSING = _Meaning(
    NeedsPersonError, "store_bucket_missing", "Create the bucket, or correct ETTAMETTA_STORE."
)
_DENIED = _Meaning(
    NeedsPersonError,
    "store_access_denied",
    "Check the AWS keys and grant s3:ListBucket on the bucket and s3:GetObject, s3:PutObject, s3:DeleteObject "
    "and s3:AbortMultipartUpload on its objects.",
)
_CREDENTIALS = _Meaning(
    NeedsPersonError,
    "store_credentials_invalid",
    "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN for temporary keys) to valid ones.",
)
_REGION = _Meaning(
    NeedsPersonError,
    "store_wrong_region",
    "Set AWS_REGION to the bucket's region, or correct AWS_ENDPOINT_URL.",
)
_CLOCK = _Meaning(NeedsPersonError, "clock_skewed", "Set this machine's clock; S3 allows 15 minutes.")
_UNAVAILABLE = _Meaning(
    TransientError, "store_unavailable", "Try again; the store answers with server errors."
)
_UNREACHABLE = _Meaning(
    TransientError, "store_unreachable", "Check the network and AWS_ENDPOINT_URL, then try again."
)
_CONFLICT = _Meaning(
    TransientError,
    "store_write_conflict",
    "Try again; another writer touched the same key at the same moment.",
)
_FULL = _Meaning(TransientError, "disk_full", "Free space where the store is, then try again.")
_TOO_LARGE = _Meaning(
    PermanentError, "object_too_large", "Store a smaller file; S3 limits the size of an object."
)
_UNKNOWN = _Meaning(
    OutcomeUnknownError,
    "store_outcome_unknown",
    "Look at what the key holds now: the write may have happened although no answer came.",
)
_BAD_KEY = _Meaning(
    PermanentError, "bad_object_key", "Use a shorter key; names in a directory have 255 bytes."
)
_OBSTRUCTED = _Meaning(
    PermanentError,
    "object_key_obstructed",
    "In a directory store a key cannot lie below another object, or be a folder of others. Choose another key.",
)
_READ_ONLY = _Meaning(
    NeedsPersonError, "store_access_denied", "Give this user read and write access to the store's directory."
)
_NO_LINKS = _Meaning(
    NeedsPersonError,
    "store_without_links",
    "Put the store's directory on a file system with hard links; a conditional create needs them.",
)
_IO = _Meaning(TransientError, "store_io_error", "Check the disk, then try again.")
_REFUSED = _Meaning(PermanentError, "store_refused", "See the store's own log for the refused request.")

_BY_S3_CODE: dict[str, _Meaning] = {
    "NoSuchBucket": _BUCKET_MISSING,
    "AccessDenied": _DENIED,
    "AllAccessDisabled": _DENIED,
    "InvalidAccessKeyId": _CREDENTIALS,
    "SignatureDoesNotMatch": _CREDENTIALS,
    "InvalidToken": _CREDENTIALS,
    "ExpiredToken": _CREDENTIALS,
    "PermanentRedirect": _REGION,
    "TemporaryRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "RequestTimeTooSkewed": _CLOCK,
    "ConditionalRequestConflict": _CONFLICT,
    "OperationAborted": _CONFLICT,
    "NoSuchUpload": _UNKNOWN,
    "SlowDown": _UNAVAILABLE,
    "InternalError": _UNAVAILABLE,
    "ServiceUnavailable": _UNAVAILABLE,
    "RequestTimeout": _UNAVAILABLE,
    "EntityTooLarge": _TOO_LARGE,
    "KeyTooLongError": _BAD_KEY,
    "XMinioStorageFull": _FULL,
    "QuotaExceeded": _FULL,
}
_BY_STATUS: dict[int, _Meaning] = {301: _REGION, 307: _REGION, 401: _CREDENTIALS, 403: _DENIED, 507: _FULL}
_BY_ERRNO: dict[int, _Meaning] = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EACCES: _READ_ONLY,
    errno.EPERM: _READ_ONLY,
    errno.EROFS: _READ_ONLY,
    errno.ENOTDIR: _OBSTRUCTED,
    errno.EISDIR: _OBSTRUCTED,
    errno.EEXIST: _OBSTRUCTED,
    errno.ENAMETOOLONG: _BAD_KEY,
}
_NO_LINK_ERRNOS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


def missing(key: str, where: str) -> ObjectMissing:
    return ObjectMissing(
        f"No object {key!r} in {where}.",
        code="object_missing",
        remedy="Materialise or upload what should have written it, or correct the key.",
    )


def exists(key: str, where: str) -> ObjectExists:
    return ObjectExists(
        f"{key!r} already exists in {where}.",
        code="object_exists",
        remedy="Read what is there: compare its size and content before treating this as a conflict.",
    )


def s3_failure(
    doing: str, key: str, where: str, *, s3_code: str = "", status: int | None = None
) -> PipelineError:
    """The error for an S3 answer; `status` None means that no answer came.

    A create that got no answer, or a server error, may have happened all the same: OutcomeUnknownError.
    """
    if s3_code in ("NoSuchKey", "404") or (status == 404 and not s3_code):
        return missing(key, where)
    meaning = _BY_S3_CODE.get(s3_code) or _BY_STATUS.get(status or 0)
    if meaning is None and status is None:
        meaning = _UNREACHABLE
    if meaning is None:
        meaning = _UNAVAILABLE if kind_of_status(status or 0) is FailureKind.TRANSIENT else _REFUSED
    if doing == "create" and meaning in (_UNREACHABLE, _UNAVAILABLE):
        meaning = _UNKNOWN
    said = "no answer" if status is None else f"HTTP {status} {s3_code}".rstrip()
    return _error(meaning, doing, key, where, said)


def os_failure(doing: str, key: str, where: str, number: int | None) -> PipelineError:
    """The error for an OS error number; a key that cannot exist is simply missing to readers."""
    if doing in ("read", "delete") and number in (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
    ):
        return missing(key, where)
    meaning = _BY_ERRNO.get(number or 0, _IO)
    return _error(meaning, doing, key, where, os.strerror(number) if number else "unknown error")


def link_failure(key: str, where: str, error: OSError) -> PipelineError:
    """The error for link(2): some file systems have none, which no retry will change."""
    if error.errno in _NO_LINK_ERRNOS:
        return _error(_NO_LINKS, "create", key, where, os.strerror(error.errno))
    return os_failure("create", key, where, error.errno)


@contextmanager
def os_errors(doing: str, key: str, where: str) -> Iterator[None]:
    """OSErrors raised inside leave as PipelineErrors."""
    try:
        yield
    except OSError as error:
        raise os_failure(doing, key, where, error.errno) from None


@contextmanager
def obstore_errors(doing: str, key: str, where: str) -> Iterator[None]:
    """obstore's exceptions raised inside leave as PipelineErrors."""
    from obstore.exceptions import AlreadyExistsError, BaseError

    try:
        yield
    except (BaseError, OSError) as error:
        text = str(error)
        number = re.search(r"\(os error (\d+)\)", text)
        status = re.search(r"status code: (\d{3})", text)
        s3_code = re.search(r"<Code>(\w+)</Code>", text)
        known = s3_code is not None and s3_code[1] in _BY_S3_CODE
        if isinstance(error, AlreadyExistsError) and not known:
            raise exists(key, where) from None
        if "Requested range was invalid" in text or (s3_code and s3_code[1] == "InvalidRange"):
            raise RangeBeyondEnd(f"{key!r} in {where} ends before the range.", code="bad_range") from None
        if number is not None:
            raise os_failure(doing, key, where, int(number[1])) from None
        if isinstance(error, FileNotFoundError) and not known:
            raise missing(key, where) from None
        if "169.254." in text:
            # No keys anywhere in the chain: the last resort is a cloud machine's metadata address.
            raise _error(_CREDENTIALS, doing, key, where, "no credentials found") from None
        if "redirect without LOCATION" in text:
            raise s3_failure(doing, key, where, status=301) from None
        raise s3_failure(
            doing,
            key,
            where,
            s3_code=s3_code[1] if s3_code else "",
            status=int(status[1]) if status else None,
        ) from None


@contextmanager
def botocore_errors(doing: str, key: str, where: str) -> Iterator[None]:
    """botocore's exceptions raised inside leave as PipelineErrors; 412 means the object exists."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, PartialCredentialsError

    try:
        yield
    except (NoCredentialsError, PartialCredentialsError):
        raise _error(_CREDENTIALS, doing, key, where, "no credentials found") from None
    except ClientError as error:
        s3_code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if status == 412 or s3_code == "PreconditionFailed":
            raise exists(key, where) from None
        raise s3_failure(doing, key, where, s3_code=s3_code, status=status) from None
    except BotoCoreError:
        raise s3_failure(doing, key, where) from None


def _error(meaning: _Meaning, doing: str, key: str, where: str, said: str) -> PipelineError:
    return meaning.error(
        f"Could not {doing} {key!r} in {where}: {said}.", code=meaning.code, remedy=meaning.remedy
    )
