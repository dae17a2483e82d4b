"""Uploads told of by a queue: moto's S3 tells moto's SQS, and events are lost, doubled, disordered and nonsense."""

import json
import random
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote_plus

import boto3
import pytest

from ettametta_pipelines.commands.doctor import examine
from ettametta_pipelines.failures import NeedsPersonError, PipelineError, TransientError
from ettametta_pipelines.media.inbox import Position, scan_inbox
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.notifications import (
    GIVE_UP_AFTER,
    NotificationQueue,
    created_keys,
    open_queue,
)
from ettametta_pipelines_tests.media.test_inbox import NICHES, NOW, SWEPT, TODAY
from ettametta_pipelines_tests.media.test_inbox import database as database
from ettametta_pipelines_tests.storage.conftest import ACCESS_KEY, REGION, SECRET_KEY, BucketUnderTest
from ettametta_pipelines_tests.storage.conftest import bucket as bucket  # a fixture, as those below
from ettametta_pipelines_tests.storage.conftest import s3_client as s3_client
from ettametta_pipelines_tests.storage.conftest import s3_endpoint as s3_endpoint


class Told:
    """A bucket whose notifications go to a queue, and ticks that read it."""

    def __init__(self, bucket: BucketUnderTest, database: StateDatabase) -> None:
        self.bucket = bucket
        self.database = database
        self.store = bucket.store("agency/store")
        session: Any = boto3.session.Session()
        self.sqs = session.client(
            "sqs", endpoint_url=bucket.endpoint, region_name=REGION, aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )  # fmt: skip
        self.url = self.sqs.create_queue(QueueName=bucket.name)["QueueUrl"]
        self.queue = NotificationQueue(self.url, bucket.name, "agency/store/", bucket.aws())
        self.cursor = SWEPT
        self.now = NOW
        self.lists = 0
        assert self.store.bucket is not None
        self.store.bucket.client.meta.events.register("before-call.s3.ListObjectsV2", self._count)

    def _count(self, **_: Any) -> None:
        self.lists += 1

    def connect(self) -> None:
        arn = f"arn:aws:sqs:{REGION}:123456789012:{self.bucket.name}"
        wanted = {"QueueArn": arn, "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"]}
        self.bucket.client.put_bucket_notification_configuration(
            Bucket=self.bucket.name, NotificationConfiguration={"QueueConfigurations": [wanted]}
        )

    def place(self, name: str, data: bytes = b"") -> str:
        key = f"uploads/acme/travel/{TODAY}/{name}"
        self.store.put(key, data or name.encode())
        return key

    def tell(self, key: str, event: str = "ObjectCreated:Put", bucket: str | None = None) -> None:
        s3 = {
            "bucket": {"name": bucket or self.bucket.name},
            "object": {"key": quote_plus(f"agency/store/{key}")},
        }
        self.send(json.dumps({"Records": [{"eventName": event, "s3": s3}]}))

    def send(self, body: str) -> None:
        self.sqs.send_message(QueueUrl=self.url, MessageBody=body)

    def look(self, **options: Any) -> Any:
        position = Position.load(self.cursor)
        scan = scan_inbox(
            self.store,
            self.database,
            NICHES,
            position=position,
            queue=self.queue,
            clock=lambda: self.now,
            **options,
        )
        self.cursor = position.dump()
        return scan

    def taken(self) -> list[str]:
        return sorted(arrival.object_key for arrival in self.look().arrivals)

    def left(self) -> int:
        standing = self.queue.standing()
        return standing.waiting + standing.in_flight


@pytest.fixture
def told(bucket: BucketUnderTest, database: StateDatabase) -> Told:
    return Told(bucket, database)


def test_what_the_bucket_tells_is_taken_without_any_listing(told: Told) -> None:
    told.connect()
    keys = sorted(told.place(name) for name in ("clip one.mp4", "größe+1.mp4", "100%.mp4"))
    assert told.taken() == keys
    assert (told.lists, told.left()) == (0, 0)


def test_doubled_disordered_and_late_messages_take_each_upload_once(told: Told) -> None:
    rng = random.Random(1)
    keys = [told.place(f"{number}.mp4") for number in range(25)]
    messages = [*keys, *rng.sample(keys, 10)]
    rng.shuffle(messages)
    found: list[str] = []
    for start in range(0, len(messages), 12):
        for key in messages[start : start + 12]:
            told.tell(key)
        found += told.taken()
    assert sorted(found) == sorted(keys)
    assert told.left() == 0


def test_a_lost_message_is_made_up_for_by_the_sweep(told: Told) -> None:
    key = told.place("lost.mp4")
    assert told.taken() == []
    told.now += timedelta(days=1)
    assert told.taken() == [key]


def test_removals_tests_and_other_buckets_are_taken_off_and_do_nothing(told: Told) -> None:
    key = told.place("clip.mp4")
    told.tell(key, "ObjectRemoved:Delete")
    told.tell(key, bucket="another")
    told.tell("media/sources/x.mp4")
    told.tell("uploads/acme/travel/2026/11/20/gone.mp4")
    told.send(json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": told.bucket.name}))
    scan = told.look()
    assert (scan.arrivals, scan.failures, told.left()) == ([], [], 0)


def test_words_told_of_before_or_after_their_video_count_once_each(told: Told) -> None:
    told.connect()
    told.place("clip.mp4.json", b'{"rights": "owned"}')
    assert told.taken() == []
    key = told.place("clip.mp4")
    assert told.taken() == [key]
    told.place("clip.srt", b"1")
    assert told.taken() == [key]
    told.place("clip.mp4.json", b'{"rights": "owned", "title": "T"}')
    assert told.taken() == [key]
    assert told.taken() == []


def test_a_poison_message_is_named_left_to_the_dead_letters_and_at_last_taken_off(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ettametta_pipelines.storage.notifications.HIDDEN_S", 0)
    key = told.place("clip.mp4")
    told.send("not json")
    told.tell(key)
    first = told.look()
    assert [a.object_key for a in first.arrivals] == [key]
    assert {t.code for t in first.failures} == {"poison_message"}
    for _ in range(GIVE_UP_AFTER):
        told.look()
    assert told.left() == 0


def test_what_a_tick_may_not_read_yet_is_told_again(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ettametta_pipelines.storage.notifications.HIDDEN_S", 0)
    keys = [told.place(f"{number}.mp4") for number in range(5)]
    for key in keys:
        told.tell(key)
    found: list[str] = []
    for _ in range(5):
        found += [a.object_key for a in told.look(max_arrivals=2).arrivals]
    assert sorted(found) == keys
    assert told.left() == 0


def test_a_message_is_taken_off_only_after_its_upload_is_recorded(
    told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    told.tell(told.place("clip.mp4"))

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ettametta_pipelines.media.arrivals.TakeIn._record", killed)
    with pytest.raises(KeyboardInterrupt):
        told.look()
    assert told.left() == 1


@pytest.mark.parametrize("shape", ["sns", "eventbridge"])
def test_messages_through_sns_and_eventbridge_are_read_too(shape: str) -> None:
    where = {"bucket": {"name": "b"}, "object": {"key": "s/uploads/a+b.mp4"}}
    if shape == "sns":
        record = {"Records": [{"eventName": "ObjectCreated:Copy", "s3": where}]}
        body, key = {"Type": "Notification", "Message": json.dumps(record)}, "uploads/a b.mp4"
    else:
        body, key = {"detail-type": "Object Created", "detail": where}, "uploads/a+b.mp4"
    assert list(created_keys(json.dumps(body), "b", "s/")) == [key]


def test_a_queue_that_does_not_exist_is_named_and_the_folders_are_listed_instead(told: Told) -> None:
    key = told.place("clip.mp4")
    told.sqs.delete_queue(QueueUrl=told.url)
    with pytest.raises(NeedsPersonError) as caught:
        told.queue.receive(10)
    assert caught.value.code == "queue_missing"
    scan = told.look()
    assert [a.object_key for a in scan.arrivals] == [key]
    assert "were listed instead" in scan.in_words()


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [("AccessDenied", 403, NeedsPersonError), ("KMS.AccessDeniedException", 400, NeedsPersonError),
     ("ServiceUnavailable", 503, TransientError)],
)  # fmt: skip
def test_what_sqs_refuses_says_what_to_grant(
    told: Told, code: str, status: int, kind: type[PipelineError]
) -> None:
    from botocore.exceptions import ClientError

    def refuse(**_: Any) -> None:
        raise ClientError(
            {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "ReceiveMessage"
        )  # type: ignore[arg-type]

    told.queue._client().meta.events.register("before-call.sqs", refuse)
    with pytest.raises(kind) as caught:
        told.queue.receive(10)
    assert ("sqs:ReceiveMessage" in caught.value.remedy) == (kind is NeedsPersonError)


@pytest.fixture
def queue_settings(settings_env: Settings, told: Told, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    for name, value in {
        "ETTAMETTA_STORE": told.store.url, "AWS_ENDPOINT_URL": told.bucket.endpoint, "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "ETTAMETTA_UPLOAD_QUEUE": told.url,
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    get_settings.cache_clear()
    yield get_settings()
    get_settings.cache_clear()


def test_doctor_shows_the_queue_and_what_waits_in_it(queue_settings: Settings, told: Told) -> None:
    told.send("one")
    parts = {part.part: part for part in examine(queue_settings)[1]}
    assert parts["upload queue"].ok
    assert "1 messages wait" in parts["upload queue"].detail
    told.sqs.delete_queue(QueueUrl=told.url)
    parts = {part.part: part for part in examine(queue_settings)[1]}
    assert "queue_missing" in parts["upload queue"].detail


def test_a_queue_beside_a_directory_is_a_mistake_that_is_named(
    settings_env: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETTAMETTA_UPLOAD_QUEUE", "https://sqs.eu-west-1.amazonaws.com/1/q")
    get_settings.cache_clear()
    with pytest.raises(PipelineError) as caught:
        open_queue(get_settings())
    assert caught.value.code == "queue_without_bucket"
