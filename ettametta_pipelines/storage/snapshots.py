"""One state of a stored object, read in ranges: what large Parquet files are read through.

A file in a directory is held open, so that a replacement does not reach its readers; on S3 every range names the
ETag it wants, and a replaced object is an error instead of a mixture. Made by `ObjectStore.snapshot`.
"""

import io
import os
from collections.abc import Callable
from types import TracebackType
from typing import Any


class Snapshot:
    """`size` bytes that do not change. Ranges may be read by many threads; close it when they have ended."""

    def __init__(
        self, size: int, read_at: Callable[[int, int], bytes], close: Callable[[], None] = lambda: None
    ) -> None:
        self.size = size
        self.read_at = read_at
        self._close = close

    @classmethod
    def of_descriptor(cls, descriptor: int) -> "Snapshot":
        """Takes over an open file descriptor."""
        return cls(
            os.fstat(descriptor).st_size,
            lambda start, length: os.pread(descriptor, length, start),
            lambda: os.close(descriptor),
        )

    def file(self) -> "io.RawIOBase":
        """A new file object over the snapshot, for one thread."""
        return _RangeFile(self)

    def close(self) -> None:
        self._close()

    def __enter__(self) -> "Snapshot":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _RangeFile(io.RawIOBase):
    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._snapshot.size}[whence]
        self._place = start + offset
        return self._place

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._snapshot.size - self._place)
        wanted = left if size < 0 else min(size, left)
        data = self._snapshot.read_at(self._place, wanted) if wanted else b""
        self._place += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)
