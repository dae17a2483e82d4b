"""A bucket's notifications through SQS: which objects came, and taking each message off the queue when that is safe.

Messages come straight from S3, through an SNS topic, or through EventBridge. Nothing is believed of them but the key:
what the object is now is asked of the store, so that old, doubled and disordered messages do no harm. Called by the
inbox (`media/inbox.py`) and by `ettametta doctor`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus, urlsplit

from ettametta_pipelines.failures import NeedsPersonError, PermanentError, PipelineError, TransientError
from ettametta_pipelines.storage.addressing import AwsOptions

if TYPE_CHECKING:
    from ettametta_pipelines.settings import Settings

BATCH = 10  # SQS' most in one request
PARALLEL = 4
# Bounded: a sensor's tick has a minute in all.
LONG_POLL_S = 1
# What is not taken off by then comes again; longer than any tick.
HIDDEN_S = 180
# A message that cannot be read was delivered so often; the sweep finds what it spoke of.
GIVE_UP_AFTER = 5

_AWS_HOST = re.compile(r"(?:sqs\.)?(?P<region>[a-z]{2}-[a-z-]+-\d)\.(?:queue\.)?amazonaws\.com(?:\.cn)?\Z")
_PERMISSIONS = (
    "Grant this user or role sqs:ReceiveMessage, sqs:DeleteMessage and sqs:GetQueueAttributes on the queue, and "
    "kms:Decrypt on its key if it is encrypted with one of yours; docs/uploads.md has the policy."
)


class _Unreadable(ValueError):
    """A message that is no notification of S3's; the text says why, after "it"."""


@dataclass(frozen=True)
class Notice:
    """One message: the keys of the objects it says were created here, and how it is taken off the queue."""

    message_id: str
    receipt: str
    keys: tuple[str, ...] = ()
    problem: str = ""
    received: int = 1

    @property
    def is_poison(self) -> bool:
        return bool(self.problem)

    @property
    def given_up(self) -> bool:
        """Whether an unreadable message has come often enough to be taken off."""
        return self.is_poison and self.received >= GIVE_UP_AFTER


@dataclass(frozen=True)
class QueueStanding:
    """How many messages wait, and how many are being worked on; approximate, as SQS says."""

    waiting: int
    in_flight: int
    has_dead_letters: bool


@dataclass
class NotificationQueue:
    """The queue at `url` for the objects of `bucket` below `prefix` ("" or ending with "/")."""

    url: str
    bucket: str
    prefix: str
    aws: AwsOptions
    _made: list[Any] = field(default_factory=list, repr=False)

    def receive(self, most: int) -> list[Notice]:
        """At least one message where there is any, about `most` at most; waits a second for the first.

        Raises NeedsPersonError with code `queue_missing` or `queue_access_denied`, TransientError `queue_unavailable`.
        """
        notices = self._receive(LONG_POLL_S)
        with ThreadPoolExecutor(PARALLEL) as pool:
            while notices and len(notices) < most:
                rounds = min(PARALLEL, -(-(most - len(notices)) // BATCH))
                more = [one for some in pool.map(self._receive, [0] * rounds) for one in some]
                notices += more
                if len(more) < rounds * BATCH:
                    break
        return notices

    def take_off(self, notices: Sequence[Notice]) -> None:
        """Delete messages, whose effect must be committed. One whose deletion fails comes again, which is harmless."""
        batches = [notices[start : start + BATCH] for start in range(0, len(notices), BATCH)]
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(self._delete, batches))

    def standing(self) -> QueueStanding:
        """What waits; raises as `receive`."""
        with self._errors("ask"):
            said = self._client().get_queue_attributes(QueueUrl=self.url, AttributeNames=["All"])[
                "Attributes"
            ]
        return QueueStanding(
            int(said.get("ApproximateNumberOfMessages", 0)),
            int(said.get("ApproximateNumberOfMessagesNotVisible", 0)),
            "RedrivePolicy" in said,
        )

    def _receive(self, wait_s: int) -> list[Notice]:
        with self._errors("read"):
            answer = self._client().receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=BATCH, WaitTimeSeconds=wait_s,
                VisibilityTimeout=HIDDEN_S, AttributeNames=["ApproximateReceiveCount"],
            )  # fmt: skip
        return [self._notice(message) for message in answer.get("Messages", ())]

    def _delete(self, notices: Sequence[Notice]) -> None:
        entries = [{"Id": str(n), "ReceiptHandle": notice.receipt} for n, notice in enumerate(notices)]
        with self._errors("delete messages from"):
            self._client().delete_message_batch(QueueUrl=self.url, Entries=entries)

    def _notice(self, message: dict[str, Any]) -> Notice:
        received = int(message.get("Attributes", {}).get("ApproximateReceiveCount", 1))
        name, receipt = str(message["MessageId"]), str(message["ReceiptHandle"])
        try:
            keys = tuple(created_keys(str(message["Body"]), self.bucket, self.prefix))
        except _Unreadable as odd:
            return Notice(name, receipt, problem=str(odd), received=received)
        return Notice(name, receipt, tuple(dict.fromkeys(keys)), received=received)

    def _client(self) -> Any:
        if not self._made:
            self._made.append(_sqs_client(self.url, self.aws))
        return self._made[0]

    @contextmanager
    def _errors(self, doing: str) -> Iterator[None]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            yield
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            raise self._failure(
                doing, code, error.response["ResponseMetadata"].get("HTTPStatusCode")
            ) from None
        except BotoCoreError as error:
            raise self._failure(doing, type(error).__name__, None) from None

    def _failure(self, doing: str, code: str, status: int | None) -> PipelineError:
        said = f"Could not {doing} the upload queue {self.url}: {code}."
        if "NonExistentQueue" in code or "QueueDoesNotExist" in code or code in ("InvalidAddress", "404"):
            return NeedsPersonError(
                said, code="queue_missing", remedy="Create the queue, or correct ETTAMETTA_UPLOAD_QUEUE."
            )
        if "AccessDenied" in code or "NoCredentials" in code or "Token" in code or status in (401, 403):
            return NeedsPersonError(said, code="queue_access_denied", remedy=_PERMISSIONS)
        return TransientError(
            said,
            code="queue_unavailable",
            remedy="Check the network and the queue's region; it is tried again.",
        )


def created_keys(body: str, bucket: str, prefix: str) -> Iterator[str]:
    """Keys, below `prefix` and without it, of the objects that a message says were created in `bucket`.

    Removals, restorations, other buckets and S3's test message yield nothing. Raises ValueError for anything else.
    """
    document = _json(body)
    if document.get("Type") == "Notification" and isinstance(document.get("Message"), str):
        document = _json(document["Message"])
    if document.get("Event") == "s3:TestEvent":
        return
    for where, key in _created(document):
        if where == bucket and key.startswith(prefix):
            yield key.removeprefix(prefix)


def _created(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    try:
        if "detail-type" in document:
            detail = document["detail"]
            if document["detail-type"] == "Object Created":
                # Unlike in S3's own messages, keys are written plainly here.
                yield str(detail["bucket"]["name"]), str(detail["object"]["key"])
            return
        for record in document["Records"]:
            if str(record["eventName"]).removeprefix("s3:").startswith("ObjectCreated:"):
                s3 = record["s3"]
                yield str(s3["bucket"]["name"]), unquote_plus(str(s3["object"]["key"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise _Unreadable(f"has the shape of no S3 notification ({error!r:.60})") from None


def _json(text: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        raise _Unreadable("is not JSON") from None
    if not isinstance(document, dict):
        raise _Unreadable("is not a JSON object")
    return document


def open_queue(settings: "Settings") -> NotificationQueue | None:
    """The queue that `ETTAMETTA_UPLOAD_QUEUE` names, or None without one.

    Raises PermanentError `queue_without_bucket` where the store is a directory, which sends no notifications.
    """
    if not settings.upload_queue:
        return None
    store = urlsplit(settings.object_store_url)
    if store.scheme != "s3":
        raise PermanentError(
            "ETTAMETTA_UPLOAD_QUEUE is set, but the store is a directory, which tells no queue of new files.",
            code="queue_without_bucket",
            remedy="Unset ETTAMETTA_UPLOAD_QUEUE, or set ETTAMETTA_STORE to the bucket.",
        )
    prefix = unquote_plus(store.path).strip("/")
    return _shared_queue(
        settings.upload_queue, store.netloc, f"{prefix}/" if prefix else "", AwsOptions.of(settings)
    )


@lru_cache(maxsize=8)
def _shared_queue(url: str, bucket: str, prefix: str, aws: AwsOptions) -> NotificationQueue:
    return NotificationQueue(url, bucket, prefix, aws)


def _sqs_client(url: str, aws: AwsOptions) -> Any:
    import boto3
    from botocore.config import Config

    where = urlsplit(url)
    amazon = _AWS_HOST.match(where.hostname or "")
    session: Any = boto3.session.Session()
    return session.client(
        "sqs",
        region_name=amazon["region"] if amazon else aws.region,
        endpoint_url=None if amazon else f"{where.scheme}://{where.netloc}",
        aws_access_key_id=aws.access_key_id,
        aws_secret_access_key=aws.secret_access_key,
        aws_session_token=aws.session_token,
        config=Config(connect_timeout=5, read_timeout=10, retries={"mode": "standard", "max_attempts": 2}),
    )
