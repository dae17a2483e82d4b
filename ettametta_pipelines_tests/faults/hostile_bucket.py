"""Hostile uploads that only a bucket can hold: bodies that never end, parts that nobody completes, odd keys.

What is put there goes by a plain S3 client, as strangers' programs would; the line reads through a proxy that floods.
`hostile.py` holds the bars and sends all of it through sensor, intake and render.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

from ettametta_pipelines.settings import get_settings
from ettametta_pipelines_tests.faults.hostile_corpus import NOT_TAKEN, TAKEN
from ettametta_pipelines_tests.faults.rows_wire import s3_behind_a_proxy
from ettametta_pipelines_tests.media.hostile_files import Ground, box
from ettametta_pipelines_tests.storage.conftest import (
    ACCESS_KEY,
    REGION,
    SECRET_KEY,
    BucketUnderTest,
    FaultyProxy,
)

# What lies in the buffers of sockets, on both sides of the proxy, when a reader of a few kilobytes goes.
MOST_FLOODED = 64 << 20
PART = 5 << 20


@dataclass(frozen=True)
class BucketUpload:
    """One row of the table: an object under `file`, or what `put` leaves instead, and what has to become of it.

    `in_tick` and `in_run` are what the proxy does to readings of it then; `after_tick` changes it in between.
    """

    number: str
    what: str
    allowed: tuple[str, ...]
    file: str = "clip.mp4"
    put: "Callable[[BucketUnderTest, str, bytes], object]" = lambda bucket, key, data: (
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=data)
    )
    in_tick: str = ""
    in_run: str = ""
    after_tick: "Callable[[BucketUnderTest, str, bytes], object] | None" = None


def _in_parts(bucket: BucketUnderTest, key: str, data: bytes) -> None:
    """A client that dies: two whole parts of a good video are there, and nobody completes them."""
    where = {"Bucket": bucket.name, "Key": key}
    begun = bucket.client.create_multipart_upload(**where)["UploadId"]
    padded = data + box(b"free", bytes(2 * PART - len(data) - 8))
    for number in (1, 2):
        part = padded[(number - 1) * PART : number * PART]
        bucket.client.upload_part(**where, UploadId=begun, PartNumber=number, Body=part)


def _with_sidecar(bucket: BucketUnderTest, key: str, data: bytes) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key=f"{key}.json", Body=b'{"rights": "owned"}')
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=data)


def _replaced(bucket: BucketUnderTest, key: str, data: bytes) -> None:
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=data + box(b"free", b"another"))


# A folder lies before each: `uploads/{account}/{niche}/{day}/`.
ODD_KEYS = (
    "../../x.mp4", "/etc/passwd", "a/../../b.mp4", "./clip.mp4", "sub/clip.mp4", "\x1b[31mred.mp4",
    "clip.mp4/", ".", "clip#12",
)  # fmt: skip
GOOD_KEYS = ("%2e%2e%2f.mp4", "\U0001f600.mp4", "concat:a|b.mp4", "-y.mp4", "img%03d.mp4", "'\"`;$(id).mp4")

BUCKET_UPLOADS: tuple[BucketUpload, ...] = (
    BucketUpload("38", "a body that never ends", (NOT_TAKEN,), in_tick="endless"),
    BucketUpload("38", "a body of an exabyte", (NOT_TAKEN,), in_tick="boundless"),
    BucketUpload(
        "38", "a body that never ends once it was judged", ("store_endless_body",), in_run="endless"
    ),
    BucketUpload("38", "a body of an exabyte once it was judged", ("object_replaced",), in_run="boundless"),
    BucketUpload(
        "38", "a sidecar that never ends", (NOT_TAKEN,), put=_with_sidecar, in_tick="endless sidecar"
    ),
    BucketUpload("49", "an object replaced between tick and run", ("upload_changed",), after_tick=_replaced),
    BucketUpload("50", "an upload in parts that is never completed", (NOT_TAKEN,), put=_in_parts),
    *(BucketUpload("39", f"a good video under the key {key!r}", (NOT_TAKEN,), file=key) for key in ODD_KEYS),
    *(BucketUpload("39", f"a good video under the key {key!r}", (TAKEN,), file=key) for key in GOOD_KEYS),
    BucketUpload("39", "a good video under a key of 1024 bytes", (TAKEN,), file="fill"),
    BucketUpload("-", "a good video after all of these", (TAKEN,)),
)


class HostileBucket:
    """The bucket as strangers and as the line see it; `flood` decides what the proxy does to whose objects."""

    def __init__(self, bucket: BucketUnderTest, proxy: FaultyProxy) -> None:
        self.bucket = bucket
        self.proxy = proxy
        self._floods: dict[str, str] = {}
        proxy.fault = self._fault

    def put(self, upload: BucketUpload, account: str, niche: str, aims: Ground) -> None:
        upload.put(self.bucket, self._key(upload, account, niche), self._content(account, aims))

    def change(self, upload: BucketUpload, account: str, niche: str, aims: Ground) -> None:
        if upload.after_tick is not None:
            upload.after_tick(self.bucket, self._key(upload, account, niche), self._content(account, aims))

    def flood(self, how: dict[str, str]) -> None:
        """From now on objects of these accounts are read like that, others as they are."""
        self._floods = {account: fault for account, fault in how.items() if fault}

    def _fault(self, request: Any) -> str | None:
        fault = next((how for account, how in self._floods.items() if f"/{account}/" in request.path), "")
        kind, _, only = fault.partition(" ")
        is_sidecar = request.path.partition("?")[0].endswith(".json")
        return (
            kind if kind and is_sidecar == (only == "sidecar") and "list-type" not in request.path else None
        )

    @staticmethod
    def _content(account: str, aims: Ground) -> bytes:
        return aims.good.read_bytes() + box(b"free", account.encode())

    @staticmethod
    def _key(upload: BucketUpload, account: str, niche: str) -> str:
        folder = f"uploads/{account}/{niche}/{datetime.now(UTC):%Y/%m/%d}/"
        file = "x" * (1024 - len(folder) - 4) + ".mp4" if upload.file == "fill" else upload.file
        return folder + file


@contextmanager
def hostile_bucket() -> Iterator[HostileBucket]:
    """A bucket of moto's server behind a proxy; settings of this process name it as the store meanwhile."""
    with s3_behind_a_proxy() as (bucket, proxy):
        named = {
            "ETTAMETTA_STORE": f"s3://{bucket.name}", "AWS_ENDPOINT_URL": proxy.url, "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        }  # fmt: skip
        with patch.dict(os.environ, named):
            get_settings.cache_clear()
            try:
                yield HostileBucket(bucket, proxy)
            finally:
                get_settings.cache_clear()
