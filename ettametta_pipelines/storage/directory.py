"""A directory as an object store: durable atomic writes, a walk in key order, and files on their way in.

obstore's own local writer neither syncs to disk before it renames nor lists in order, and its listing fails as a
whole on one file name that is no valid key; those two things are done here. Called by `objects.py` and `bucket.py`.
"""

import errno
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.storage.addressing import UNFINISHED, ObjectInfo
from ettametta_pipelines.storage.object_errors import exists, link_failure, os_errors, os_failure

# `create` holds a new file by two names until its folder is synced.
CREATING_S = 60.0
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class SourceFile:
    """A regular file to be stored, and how it looked when that began."""

    path: Path
    size: int
    modified_ns: int

    @classmethod
    def of(cls, path: Path) -> "SourceFile":
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise PermanentError(
                f"There is no file {path}.", code="file_missing", remedy="Check the path."
            ) from None
        if not stat.S_ISREG(found.st_mode):
            raise PermanentError(
                f"{path} is not a regular file.",
                code="not_a_file",
                remedy="Name a file, not a folder or device.",
            )
        return cls(path, found.st_size, found.st_mtime_ns)

    def chunks(self, size: int = 1 << 20) -> Iterator[bytes]:
        """The file's bytes; raises instead of ending when the file is not what it was at the start."""
        with open(self.path, "rb") as file:
            while chunk := file.read(size):
                yield chunk
        self.require_unchanged()

    def require_unchanged(self) -> None:
        if SourceFile.of(self.path) != self:
            raise TransientError(
                f"{self.path} changed while it was being stored.",
                code="file_changed",
                remedy="Wait until whatever writes the file has finished, then store it again.",
            )


def write_atomically(
    target: Path, chunks: Iterable[bytes], *, key: str, where: str, create: bool = False
) -> int:
    """Write `target` so that a crash leaves the old file or the new one, never a part; returns its size.

    The bytes go to a temporary name in the same directory, are synced, and take the final name in one step: by
    rename, or with `create` by link(2), which fails with ObjectExists when the name is taken.
    """
    unfinished = target.parent / f".{secrets.token_hex(8)}#0"
    size = 0
    try:
        with os_errors("write", key, where):
            _make_directory(target.parent)
            with open(unfinished, "xb") as file:
                for chunk in chunks:
                    size += file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
        if create:
            _link(unfinished, target, key=key, where=where)
        else:
            with os_errors("write", key, where):
                os.replace(unfinished, target)
        with os_errors("write", key, where):
            _sync_directory(target.parent)
    finally:
        with os_errors("write", key, where):
            _discard(unfinished)
    return size


def walk_keys(
    root: Path, prefix: str, after: str | None, odd: Callable[[str, str], None] | None = None
) -> Iterator[str]:
    """Keys of the files below `prefix` in the order S3 lists them, holding one directory per level in memory.

    `prefix` is "" or ends with "/". Names that cannot be keys are yielded as they are: the caller judges them.
    Links are followed as the file system does; a link to a directory above itself is not. With `odd` no link is
    followed, and it is told of links and of what is neither file nor folder.
    """
    yield from _walk(root / prefix, prefix, after, (os.path.realpath(root / prefix),), odd)


def list_folders(root: Path, prefix: str) -> tuple[list[str], list[str]]:
    """Keys of the (folders, files) directly below `prefix` in order, links left out; folders end with "/"."""
    try:
        with os.scandir(root / prefix) as entries:
            found = [(prefix + e.name, e.is_dir()) for e in entries if _is_plain(e, None)]
    except (FileNotFoundError, NotADirectoryError):
        return [], []
    return (
        sorted(f"{key}/" for key, is_folder in found if is_folder),
        sorted(key for key, is_folder in found if not is_folder),
    )


def stat_info(path: str | Path, key: str) -> ObjectInfo | None:
    """What obstore's `head` would say of a file, at a tenth of its price; None when there is no such file."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    microseconds = found.st_mtime_ns // 1000
    return ObjectInfo(
        key,
        found.st_size,
        f'"{found.st_ino:x}-{microseconds:x}-{found.st_size:x}"',
        _EPOCH + timedelta(microseconds=microseconds),
    )


def _walk(
    directory: Path,
    base: str,
    after: str | None,
    above: tuple[str, ...],
    odd: Callable[[str, str], None] | None = None,
) -> Iterator[str]:
    def wanted(entry: "os.DirEntry[str]") -> bool:
        if odd is not None:
            return _is_plain(entry, lambda problem: odd(base + entry.name, problem))
        return entry.is_dir() or (entry.is_file() and not UNFINISHED.search(entry.name))

    try:
        with os.scandir(directory) as entries:
            # "/" sorts after ".", so that a folder's place among its siblings is that of its name with the slash.
            names = sorted(entry.name + ("/" if entry.is_dir() else "") for entry in entries if wanted(entry))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        key = base + name
        if not name.endswith("/"):
            if after is None or key > after:
                yield key
        elif after is None or key > after or after.startswith(key):
            real = os.path.realpath(directory / name)
            if real not in above:
                yield from _walk(directory / name, key, after, (*above, real), odd)


def _is_plain(entry: "os.DirEntry[str]", odd: Callable[[str], None] | None) -> bool:
    """A folder or a finished file, reached by no link; of anything else but writes in progress, `odd` is told.

    A file with a second name (a hard link) may be somebody else's as well; one that got it just now is being created.
    """
    if entry.is_symlink():
        problem = "it is a link"
    elif entry.is_dir():
        return True
    elif entry.is_file() and UNFINISHED.search(entry.name):
        return False
    elif entry.is_file():
        names, changed_at = _names_of(entry)
        if names < 2:
            return True
        if time.time() - changed_at < CREATING_S:
            return False
        problem = "it is a link: the file has another name as well"
    else:
        problem = "it is neither a file nor a folder"
    if odd is not None:
        odd(problem)
    return False


def _names_of(entry: "os.DirEntry[str]") -> tuple[int, float]:
    """How many names a file has, and when that or anything of it last changed; (0, 0) for one that has just gone."""
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return 0, 0.0
    return found.st_nlink, found.st_ctime


def _link(source: Path, target: Path, *, key: str, where: str) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        if target.is_dir():
            raise os_failure("create", key, where, errno.EISDIR) from None
        raise exists(key, where) from None
    except OSError as error:
        raise link_failure(key, where, error) from None


def _discard(unfinished: Path) -> None:
    try:
        unfinished.unlink(missing_ok=True)
    except NotADirectoryError:
        # The parent turned out to be an object; the write has already failed for that reason.
        return


def _make_directory(directory: Path) -> None:
    """mkdir -p whose new entries survive a power cut."""
    if directory.is_dir():
        return
    _make_directory(directory.parent)
    directory.mkdir(exist_ok=True)
    _sync_directory(directory.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
