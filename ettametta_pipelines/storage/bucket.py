"""An S3 bucket where obstore falls short: large conditional uploads, and listings that survive foreign keys.

obstore puts a condition only on single requests that hold the whole object in memory, and gives up a whole listing
at one key it cannot parse (`uploads//a.mp4`, which sloppy uploaders do write). Both are done here with boto3,
which is imported on first use. Called by `objects.py`.
"""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.storage.addressing import AwsOptions, ObjectInfo
from ettametta_pipelines.storage.directory import SourceFile
from ettametta_pipelines.storage.object_errors import botocore_errors, os_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef, ObjectTypeDef

PART_SIZE = 8 << 20
MAX_PARTS = 10_000
PARALLEL_PARTS = 4


class _Target(TypedDict):
    Bucket: str
    Key: str


class _Start(TypedDict, total=False):
    StartAfter: str


class _Condition(TypedDict, total=False):
    IfNoneMatch: str


class Bucket:
    """Multipart uploads and listings of one bucket, below `prefix` ("" or ending with "/")."""

    def __init__(self, name: str, prefix: str, aws: AwsOptions, *, where: str) -> None:
        self.name = name
        self.prefix = prefix
        self._aws = aws
        self._where = where

    @cached_property
    def client(self) -> "S3Client":
        """boto3's client, for what is done to a bucket and not to objects."""
        import boto3
        from botocore.config import Config

        aws = self._aws
        return boto3.session.Session().client(
            "s3",
            region_name=aws.region,
            endpoint_url=aws.endpoint_url or None,
            aws_access_key_id=aws.access_key_id,
            aws_secret_access_key=aws.secret_access_key,
            aws_session_token=aws.session_token,
            config=Config(
                connect_timeout=5,
                read_timeout=60,
                retries={"mode": "standard", "max_attempts": 4},
                signature_version="s3v4",
                s3={"addressing_style": "path" if aws.endpoint_url else "auto"},
                # Some S3-compatible servers refuse the checksums that AWS has come to expect.
                request_checksum_calculation="when_required" if aws.endpoint_url else "when_supported",
            ),
        )

    def walk(self, prefix: str, after: str | None) -> Iterator[ObjectInfo]:
        """Objects below `prefix` in key order, a page of 1000 at a time; keys may be none of ours."""
        start: _Start = {"StartAfter": self.prefix + after} if after else {}
        with botocore_errors("list", prefix, self._where):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=self.prefix + prefix, **start
            )
            for page in pages:
                for item in page.get("Contents", ()):
                    yield self._info(item)

    def folders(self, prefix: str, limit: int) -> tuple[list[str], list[ObjectInfo]]:
        """Common prefixes and objects directly below `prefix`, the first `limit` of both."""
        names: list[str] = []
        objects: list[ObjectInfo] = []
        with botocore_errors("list", prefix, self._where):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=self.prefix + prefix, Delimiter="/",
                PaginationConfig={"MaxItems": limit},
            )  # fmt: skip
            for page in pages:
                names += [one["Prefix"].removeprefix(self.prefix) for one in page.get("CommonPrefixes", ())]
                objects += [self._info(item) for item in page.get("Contents", ())]
        return names, objects

    def _info(self, item: "ObjectTypeDef") -> ObjectInfo:
        return ObjectInfo(
            item["Key"].removeprefix(self.prefix), item["Size"], item["ETag"], item["LastModified"]
        )

    def upload(self, key: str, source: SourceFile, *, create: bool, content_type: str) -> str:
        """Upload a file in parts and return the ETag; the object appears whole, at the end, or not at all.

        With `create` the completing request carries `If-None-Match: *` and ObjectExists is raised if the key is
        taken. On any failure the parts are discarded. Memory: four parts of 8 MiB, more above 80 GB.
        """
        condition: _Condition = {"IfNoneMatch": "*"} if create else {}
        target: _Target = {"Bucket": self.name, "Key": self.prefix + key}
        with botocore_errors("write", key, self._where):
            upload_id = self.client.create_multipart_upload(**target, ContentType=content_type)["UploadId"]
        try:
            with os_errors("write", key, self._where), botocore_errors("write", key, self._where):
                parts = self._send_parts(target, upload_id, source)
            source.require_unchanged()
            with botocore_errors("create" if create else "write", key, self._where):
                done = self.client.complete_multipart_upload(
                    **target, UploadId=upload_id, MultipartUpload={"Parts": parts}, **condition
                )
        except BaseException as error:
            self._abort(target, upload_id, key, error)
            raise
        return done["ETag"]

    def _send_parts(
        self, target: "_Target", upload_id: str, source: SourceFile
    ) -> "list[CompletedPartTypeDef]":
        part_size = max(PART_SIZE, -(-source.size // MAX_PARTS))
        count = -(-source.size // part_size)

        def send(number: int) -> "CompletedPartTypeDef":
            data = os.pread(file.fileno(), part_size, (number - 1) * part_size)
            sent = self.client.upload_part(**target, UploadId=upload_id, PartNumber=number, Body=data)
            return {"PartNumber": number, "ETag": sent["ETag"]}

        with open(source.path, "rb") as file, ThreadPoolExecutor(PARALLEL_PARTS) as pool:
            return list(pool.map(send, range(1, count + 1)))

    def _abort(self, target: "_Target", upload_id: str, key: str, cause: BaseException) -> None:
        try:
            with botocore_errors("abort the upload of", key, self._where):
                self.client.abort_multipart_upload(**target, UploadId=upload_id)
        except PipelineError as error:
            # The cause is what counts; the parts cost storage until the bucket's lifecycle rule removes them.
            cause.add_note(f"The unfinished upload could not be discarded: {error}")
