"""The object store: one class over obstore, on a directory or on S3, chosen by a URL.

Uploads, media and tables go through it; relational state does not. Everything it raises is a PipelineError that
names the key and the store, never a credential. Called by every room's domain code, the Parquet IO manager and
the lake.
"""

import logging
import mimetypes
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from ettametta_pipelines.failures import OutcomeUnknownError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.storage.addressing import AwsOptions, ObjectInfo, check_key, is_key, key_problem
from ettametta_pipelines.storage.bucket import PART_SIZE, Bucket
from ettametta_pipelines.storage.directory import (
    SourceFile,
    list_folders,
    stat_info,
    walk_keys,
    write_atomically,
)
from ettametta_pipelines.storage.object_errors import (
    ObjectExists,
    ObjectMissing,
    RangeBeyondEnd,
    missing,
    obstore_errors,
    os_errors,
)
from ettametta_pipelines.storage.snapshots import Snapshot

if TYPE_CHECKING:
    from obstore import GetResult, ObjectMeta
    from obstore.store import ObjectStore as AnyStore
    from obstore.store import RetryConfig, S3Config

    from ettametta_pipelines.settings import Settings

__all__ = [
    "AwsOptions",
    "ObjectExists",
    "ObjectInfo",
    "ObjectMissing",
    "ObjectStore",
    "check_key",
    "open_store",
]

log = logging.getLogger(__name__)

_RETRIES: "RetryConfig" = {
    "max_retries": 4,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(milliseconds=100),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}


class ObjectStore:
    """Objects by key, in a directory or in a bucket. Safe to share between threads.

    Readers see an object whole or not at all, whoever writes it and however the writer ends. Content types are
    kept on S3 only; by default they follow from the key's extension.
    """

    def __init__(self, url: str, store: "AnyStore", place: Path | Bucket) -> None:
        """Callers use `from_url` or `open_store`. `place` is what `store` writes to; the URL holds no secret."""
        self.url = url
        self._store = store
        self._place = place

    @classmethod
    def from_url(cls, url: str, *, aws: AwsOptions | None = None) -> "ObjectStore":
        """`file:///absolute/path` (made if it is not there) or `s3://bucket/prefix`.

        Raises PermanentError with code `bad_store_url` for anything else, such as credentials in the URL.
        """
        try:
            scheme = urlsplit(url).scheme
        except ValueError:
            raise _bad_url("it is no URL") from None
        if scheme == "file":
            return cls._over_directory(url)
        if scheme == "s3":
            return cls._over_bucket(url, aws or AwsOptions())
        raise _bad_url("it must start with file:// or s3://")

    @classmethod
    def _over_directory(cls, url: str) -> "ObjectStore":
        from obstore.store import LocalStore

        parts = urlsplit(url)
        path = Path(unquote(parts.path))
        if parts.netloc not in ("", "localhost") or not path.is_absolute() or parts.query or parts.fragment:
            raise _bad_url("a directory is written file:///absolute/path, with ? and # as %3F and %23")
        if "\0" in str(path) or (path.exists() and not path.is_dir()):
            raise _bad_url(f"{str(path)!r} is not a directory")
        with os_errors("open", str(path), "this machine"):
            path.mkdir(parents=True, exist_ok=True)
        root = path.resolve()
        return cls(root.as_uri(), LocalStore(root), root)

    @classmethod
    def _over_bucket(cls, url: str, aws: AwsOptions) -> "ObjectStore":
        from obstore.store import S3Store

        parts = urlsplit(url)
        prefix = unquote(parts.path).strip("/")
        if "@" in parts.netloc or ":" in parts.netloc or parts.query or parts.fragment:
            raise _bad_url(
                "a bucket is written s3://bucket/prefix; keys and endpoint have their own variables"
            )
        if not parts.netloc:
            raise _bad_url("it names no bucket")
        if prefix and not is_key(prefix):
            raise _bad_url("its prefix could not begin an object key")
        clean = f"s3://{parts.netloc}/{prefix}".rstrip("/")
        store = S3Store(
            parts.netloc,
            prefix=prefix or None,
            config=_s3_config(aws),
            # The first timeout bounds a whole download, however large; a stalled one is noticed by the second.
            client_options={
                "allow_http": aws.endpoint_url.startswith("http://"),
                "connect_timeout": "5s",
                "timeout": "1h",
                "read_timeout": "60s",
            },
            retry_config=_RETRIES,
        )
        return cls(clean, store, Bucket(parts.netloc, f"{prefix}/" if prefix else "", aws, where=clean))

    def __repr__(self) -> str:
        return f"ObjectStore({self.url!r})"

    def check_reachable(self) -> None:
        """Raise the PipelineError that any use of the store would meet: no bucket, no access, no network.

        `exists` is no such probe: S3's answer to it does not tell a missing bucket from a missing object.
        """
        next(self._found("", None), None)

    def put(self, key: str, data: bytes, *, content_type: str | None = None) -> ObjectInfo:
        """Write an object in one step, replacing what was there."""
        return self._write(key, data, mode="overwrite", content_type=content_type)

    def create(self, key: str, data: bytes, *, content_type: str | None = None) -> ObjectInfo:
        """Write an object only if the key is free; raises ObjectExists otherwise, for equal bytes too.

        Of many callers at once exactly one succeeds. After a lost answer the retry finds its own object and
        raises ObjectExists as well: a caller that may be repeated compares size and content with what is there
        and decides. OutcomeUnknownError means that nobody knows yet; look before trying again.
        """
        return self._write(key, data, mode="create", content_type=content_type)

    def put_file(
        self, key: str, path: Path, *, create: bool = False, content_type: str | None = None
    ) -> ObjectInfo:
        """Stream a file into the store in one step, on S3 in parts; `create` as in the method of that name.

        Raises TransientError with code `file_changed` if the file changes meanwhile; nothing is stored then.
        """
        check_key(key)
        source = SourceFile.of(path)
        if isinstance(self._place, Path):
            write_atomically(self._place / key, source.chunks(), key=key, where=self.url, create=create)
            return self.head(key)
        if source.size <= PART_SIZE:
            data = b"".join(source.chunks())
            return self._write(key, data, mode="create" if create else "overwrite", content_type=content_type)
        etag = self._place.upload(key, source, create=create, content_type=content_type or _content_type(key))
        return self._written(key, source.size, etag)

    def get(self, key: str) -> bytes:
        """The whole object in memory. Raises ObjectMissing."""
        if isinstance(self._place, Path):
            # Several times faster than obstore, which counts where a query reads thousands of small files.
            check_key(key)
            with os_errors("read", key, self.url):
                try:
                    return (self._place / key).read_bytes()
                except (FileNotFoundError, NotADirectoryError):
                    raise missing(key, self.url) from None
        return b"".join(self._chunks(key, self._open(key), 8 << 20))

    def head(self, key: str) -> ObjectInfo:
        """Size, ETag and time of an object. Raises ObjectMissing."""
        import obstore

        check_key(key)
        with obstore_errors("read", key, self.url):
            return _info(key, obstore.head(self._store, key))

    def exists(self, key: str) -> bool:
        try:
            self.head(key)
        except ObjectMissing:
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove an object; one that is not there is fine."""
        import obstore

        check_key(key)
        try:
            with obstore_errors("delete", key, self.url):
                obstore.delete(self._store, key)
        except ObjectMissing:
            return

    def iter_chunks(self, key: str, chunk_size: int = 1 << 20, *, size: int | None = None) -> Iterator[bytes]:
        """The object's bytes in chunks of `chunk_size`, the last one shorter. Raises ObjectMissing at the call.

        With `size`, an object that has another one by now raises TransientError `object_replaced` instead. A body that
        does not end where it said it would is cut there, as `store_endless_body`.
        """
        return self._chunks(key, self._open(key, size), chunk_size)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """At most `length` bytes from offset `start`; fewer, or none, where the object ends before that."""
        import obstore

        check_key(key)
        if start < 0 or length < 0:
            raise PermanentError(
                f"There is no range of {length} bytes from {start} in {key!r}.",
                code="bad_range",
                remedy="Ask for a range with start and length of at least 0.",
            )
        if length == 0:
            self.head(key)
            return b""
        try:
            with obstore_errors("read", key, self.url):
                found = obstore.get(self._store, key, options={"range": (start, start + length)})
                return b"".join(self._pieces(key, found, length))
        except RangeBeyondEnd:
            return b""

    def snapshot(self, key: str) -> "Snapshot":
        """The object as it is now, to be read in ranges and closed. Raises ObjectMissing.

        A range of an S3 object that has been replaced meanwhile raises TransientError `object_replaced`.
        """
        check_key(key)
        if isinstance(self._place, Path):
            with os_errors("read", key, self.url):
                try:
                    return Snapshot.of_descriptor(os.open(self._place / key, os.O_RDONLY))
                except (FileNotFoundError, NotADirectoryError):
                    raise missing(key, self.url) from None
        info = self.head(key)
        return Snapshot(info.size, lambda start, length: self._range_of(info, start, length))

    def _range_of(self, info: ObjectInfo, start: int, length: int) -> bytes:
        import obstore
        from obstore.exceptions import PreconditionError

        try:
            with obstore_errors("read", info.key, self.url):
                found = obstore.get(
                    self._store, info.key, options={"range": (start, start + length), "if_match": info.etag}
                )
                return b"".join(self._pieces(info.key, found, length))
        except PipelineError as error:
            if isinstance(error.__context__, PreconditionError):
                raise self._replaced(info.key) from error
            raise

    def _replaced(self, key: str) -> TransientError:
        return TransientError(
            f"{key!r} in {self.url} was replaced while it was being read.",
            code="object_replaced",
            remedy="Try again.",
        )

    def download(self, key: str, path: Path, *, size: int | None = None) -> ObjectInfo:
        """Copy an object to a file, which appears whole or not at all; its folder is made if need be.

        `size` as in `iter_chunks`.
        """
        response = self._open(key, size)
        write_atomically(path, self._chunks(key, response, 1 << 20), key=str(path), where="this machine")
        return _info(key, response.meta)

    def list(
        self, prefix: str, *, after: str | None = None, odd: Callable[[str, str], None] | None = None
    ) -> Iterator[ObjectInfo]:
        """Objects below the folder `prefix` ("" for all) in key order, those after the key `after` only.

        The order is that of the keys' code points on both backends. Names that are no valid keys, which others
        may have written, are skipped and logged. Writes in progress and interrupted ones are not listed.
        With `odd` nothing is logged: it is called with each such name and what is wrong with it, in a directory also
        with links, which are not followed then, and with what is neither file nor folder.
        """
        return self._listed(_folder(prefix), after, odd)

    def folders(self, prefix: str, *, limit: int = 10_000) -> tuple[Sequence[str], Sequence[ObjectInfo]]:
        """(Folders, objects) directly below the folder `prefix`, the first `limit` of both; folders end with "/".

        Costs no more for what lies deeper: one request for each thousand.
        """
        folder = _folder(prefix)
        if isinstance(self._place, Path):
            with os_errors("list", folder, self.url):
                names, files = list_folders(self._place, folder)
            infos = (stat_info(f"{self._place}/{key}", key) for key in files[:limit] if is_key(key))
            return names[:limit], [info for info in infos if info is not None]
        names, found = self._place.folders(folder, limit)
        return names, [info for info in found if is_key(info.key)]

    @property
    def is_local(self) -> bool:
        """Whether reading is a matter of this machine's disk and not of a network."""
        return isinstance(self._place, Path)

    @property
    def bucket(self) -> Bucket | None:
        """The bucket, for what only buckets have; None for a directory."""
        return self._place if isinstance(self._place, Bucket) else None

    def local_path(self, key: str) -> Path | None:
        """Where the object lies, for programs that want a file; None on S3. Read-only for callers."""
        check_key(key)
        return self._place / key if isinstance(self._place, Path) else None

    def _write(
        self, key: str, data: bytes, *, mode: Literal["create", "overwrite"], content_type: str | None
    ) -> ObjectInfo:
        import obstore

        check_key(key)
        if isinstance(self._place, Path):
            write_atomically(self._place / key, (data,), key=key, where=self.url, create=mode == "create")
            return self.head(key)
        try:
            with obstore_errors("create" if mode == "create" else "write", key, self.url):
                result = obstore.put(
                    self._store,
                    key,
                    data,
                    mode=mode,
                    attributes={"Content-Type": content_type or _content_type(key)},
                    chunk_size=PART_SIZE,
                )
        except ObjectExists:
            if self.exists(key):
                raise
            # S3 refuses both of two writers at once with a conflict, or the object has just been deleted.
            raise TransientError(
                f"{key!r} was being written or deleted by another in {self.url}.",
                code="store_write_conflict",
                remedy="Try again.",
            ) from None
        return self._written(key, len(data), result["e_tag"] or "")

    def _written(self, key: str, size: int, etag: str) -> ObjectInfo:
        """Info of an object just written to S3, whose answer to a write holds no time."""
        try:
            return ObjectInfo(key, size, etag, self.head(key).modified_at)
        except PipelineError as error:
            raise OutcomeUnknownError(
                f"{key!r} was written to {self.url}, but could not be read back: {error.message}",
                code="store_outcome_unknown",
                remedy="Look at what the key holds now before writing it again.",
            ) from error

    def _open(self, key: str, size: int | None = None) -> "GetResult":
        import obstore

        check_key(key)
        with obstore_errors("read", key, self.url):
            response = obstore.get(self._store, key)
        if size is not None and response.meta["size"] != size:
            raise self._replaced(key)
        return response

    def _chunks(self, key: str, response: "GetResult", chunk_size: int) -> Iterator[bytes]:
        expected, received, waiting = response.meta["size"], 0, bytearray()
        with obstore_errors("read", key, self.url):
            for piece in self._pieces(key, response, expected, chunk_size):
                received += len(piece)
                waiting += piece
                while len(waiting) >= chunk_size:
                    yield bytes(waiting[:chunk_size])
                    del waiting[:chunk_size]
        if waiting:
            yield bytes(waiting)
        if received != expected:
            raise TransientError(
                f"{key!r} in {self.url} ended after {received} of {expected} bytes.",
                code="store_short_read",
                remedy="Try again.",
            )

    def _pieces(self, key: str, response: "GetResult", most: int, size: int = 1 << 20) -> Iterator[bytes]:
        """A body as it comes; obstore itself would take one that never ends into memory until there is none left."""
        received = 0
        for piece in response.stream(min_chunk_size=size):
            received += len(piece)
            if received > most:
                raise TransientError(
                    f"{key!r} in {self.url} did not end after the {most} bytes that were due.",
                    code="store_endless_body",
                    remedy="Try again; if it stays, look at the server behind AWS_ENDPOINT_URL.",
                )
            yield piece

    def _listed(
        self, folder: str, after: str | None, odd: Callable[[str, str], None] | None = None
    ) -> Iterator[ObjectInfo]:
        skipped, example = 0, ""
        for key, info in self._found(folder, after, odd):
            if is_key(key):
                try:
                    yield info or self.head(key)
                except ObjectMissing:
                    continue
            elif not key.endswith("/"):
                # A single name that ends with a slash is how S3's console draws an empty folder.
                if odd is not None:
                    odd(key, key_problem(key) or "")
                else:
                    skipped, example = skipped + 1, example or key
        if skipped:
            log.warning(
                "%d names under %s/%s are no valid keys and were left out, for example %r. Rename them to have "
                "them seen.",
                skipped,
                self.url,
                folder,
                example,
            )

    def _found(
        self, folder: str, after: str | None, odd: Callable[[str, str], None] | None = None
    ) -> Iterator[tuple[str, ObjectInfo | None]]:
        """Names below a folder in order, with what is known of each; None for a file that has just gone."""
        if isinstance(self._place, Path):
            root = str(self._place)
            with os_errors("list", folder, self.url):
                for key in walk_keys(self._place, folder, after, odd):
                    # Joined as text: of ten thousand files, pathlib would take half the time.
                    yield key, stat_info(f"{root}/{key}", key)
        else:
            yield from ((info.key, info) for info in self._place.walk(folder, after))


def open_store(settings: "Settings") -> ObjectStore:
    """The store that `ETTAMETTA_STORE` names; one per URL and process, so that connections are shared."""
    return _shared_store(settings.object_store_url, AwsOptions.of(settings))


@lru_cache(maxsize=8)
def _shared_store(url: str, aws: AwsOptions) -> ObjectStore:
    return ObjectStore.from_url(url, aws=aws)


def _folder(prefix: str) -> str:
    folder = prefix.rstrip("/")
    return check_key(folder) + "/" if folder else ""


def _s3_config(aws: AwsOptions) -> "S3Config":
    if aws.endpoint_url and not aws.endpoint_url.startswith(("http://", "https://")):
        raise PermanentError(
            f"AWS_ENDPOINT_URL is {aws.endpoint_url!r}, which is no web address.",
            code="bad_setting",
            remedy="Write it with http:// or https://, or unset it for Amazon S3.",
        )
    if bool(aws.access_key_id) != bool(aws.secret_access_key):
        raise PermanentError(
            "Only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set.",
            code="bad_setting",
            remedy="Set both, or neither to use the machine's role.",
        )
    config: S3Config = {
        "region": aws.region,
        "virtual_hosted_style_request": not aws.endpoint_url,
        "disable_bulk_delete": True,
    }
    if aws.endpoint_url:
        config["endpoint"] = aws.endpoint_url
    if aws.access_key_id and aws.secret_access_key:
        config["access_key_id"] = aws.access_key_id
        config["secret_access_key"] = aws.secret_access_key
        if aws.session_token:
            config["session_token"] = aws.session_token
    return config


def _info(key: str, meta: "ObjectMeta") -> ObjectInfo:
    return ObjectInfo(key, meta["size"], meta["e_tag"] or "", meta["last_modified"])


def _content_type(key: str) -> str:
    return mimetypes.guess_type(key)[0] or "application/octet-stream"


def _bad_url(problem: str) -> PermanentError:
    return PermanentError(
        f"ETTAMETTA_STORE cannot be used: {problem}.",
        code="bad_store_url",
        remedy="Set it to file:///absolute/path or s3://bucket/prefix, or unset it for a directory under "
        "ETTAMETTA_HOME.",
    )
