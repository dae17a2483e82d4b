"""Looking for uploads: what is new is found once, wherever it lies and in whatever order it comes."""

import os
import random
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from moto.s3.models import s3_backends

from ettametta_pipelines.media import inbox
from ettametta_pipelines.media.inbox import InboxScan, Position, in_batches, scan_inbox
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectInfo, ObjectStore
from ettametta_pipelines_tests.storage.conftest import BucketUnderTest
from ettametta_pipelines_tests.storage.conftest import bucket as bucket  # a fixture, as those below
from ettametta_pipelines_tests.storage.conftest import directory_store as directory_store
from ettametta_pipelines_tests.storage.conftest import s3_client as s3_client
from ettametta_pipelines_tests.storage.conftest import s3_endpoint as s3_endpoint
from ettametta_pipelines_tests.storage.conftest import store as store

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
NICHES = ["travel", "fitness"]
TODAY, YEARS_AGO = "2026/11/20", "2021/03/04"
SWEPT = Position(ticked_at=NOW, sweep_began=NOW, sweep_ended=NOW, swept=inbox.SWEEP_KEYS + 1).dump()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[StateDatabase]:
    """One kind of database does for where to look; what is asked of it is tried on both beside the seen-table."""
    with StateDatabase(f"sqlite:///{tmp_path / 'state.db'}") as database:
        database.migrate()
        yield database


class Inbox:
    """A store's inbox and one sensor's position, looked at as ticks do."""

    def __init__(self, store: ObjectStore, database: StateDatabase) -> None:
        self.store = store
        self.database = database
        self.cursor: str | None = SWEPT
        self.now = NOW

    def place(self, name: str, data: bytes = b"", account: str = "acme", day: str = TODAY) -> str:
        key = name if name.startswith("uploads/") else f"uploads/{account}/travel/{day}/{name}"
        self.store.put(key, data or key.encode())
        self.age(key)
        return key

    def age(self, key: str, **by: float) -> None:
        path = self.store.local_path(key)
        if path is not None:
            when = (self.now - timedelta(**by or {"minutes": 30})).timestamp()
            os.utime(path, (when, when))

    def look(self, **options: Any) -> InboxScan:
        """One tick, with the position of the last."""
        position = Position.load(self.cursor)
        scan = scan_inbox(
            self.store, self.database, NICHES, position=position, clock=lambda: self.now, **options
        )
        self.cursor = position.dump()
        return scan

    def taken(self, **options: Any) -> list[str]:
        return sorted(arrival.object_key for arrival in self.look(**options).arrivals)


@pytest.fixture
def box(store: ObjectStore, database: StateDatabase) -> Inbox:
    return Inbox(store, database)


@pytest.fixture
def local(directory_store: ObjectStore, database: StateDatabase) -> Inbox:
    return Inbox(directory_store, database)


@pytest.fixture
def lists(bucket: BucketUnderTest, database: StateDatabase) -> tuple[Inbox, Callable[[], int]]:
    """An inbox in a bucket, and how many list requests were made since the last question."""
    box = Inbox(bucket.store("agency"), database)
    assert box.store.bucket is not None
    made: list[object] = []
    box.store.bucket.client.meta.events.register("before-call.s3.ListObjectsV2", lambda **_: made.append(1))

    def count() -> int:
        number = len(made)
        made.clear()
        return number

    return box, count


def test_todays_uploads_are_found_and_old_ones_are_not_looked_at(box: Inbox) -> None:
    box.place("old.mp4", day=YEARS_AGO)
    key = box.place("new.mp4")
    scan = box.look()
    assert ([a.object_key for a in scan.arrivals], scan.looked_at) == ([key], 1)


def test_the_sweep_finds_what_lies_under_an_old_day(box: Inbox) -> None:
    key = box.place("late.mp4", day=YEARS_AGO)
    assert box.taken() == []
    box.now += timedelta(days=1)
    assert box.taken() == [key]


def test_a_tick_asks_as_often_beside_a_thousand_old_objects_as_beside_none(
    lists: tuple[Inbox, Callable[[], int]],
) -> None:
    box, count = lists
    assert box.store.bucket is not None
    box.place("first.mp4")
    box.look()
    count()
    assert box.taken() == []
    empty = count()
    for number in range(1_100):
        # Into the server, which runs in this process: over HTTP it would take long.
        key = f"agency/uploads/acme/travel/{YEARS_AGO}/{number}.mp4"
        s3_backends["123456789012"]["aws"].put_object(box.store.bucket.name, key, b"old")
    names = sorted(box.place(f"{number}.mp4") for number in range(20))
    assert box.taken() == names
    assert count() <= empty + 1


def test_a_new_accounts_first_upload_is_found_in_the_next_tick(
    box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "LISTINGS", 24)
    for number in range(30):
        box.place("known.mp4", account=f"account-{number:02}", data=str(number).encode())
    for _ in range(6):
        box.look()
    key = box.place("first.mp4", account="zoe")
    assert box.taken() == [key]


def test_with_more_folders_than_requests_each_gets_its_turn(
    local: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        local.place("known.mp4", account=f"account-{number:02}", data=str(number).encode())
    local.look()
    local.now += timedelta(days=2)
    local.cursor = SWEPT.replace("2026-11-20", "2026-11-22")
    monkeypatch.setattr(inbox, "LISTINGS", 24)
    day = f"{local.now:%Y/%m/%d}"
    keys = [
        local.place("next.mp4", account=f"account-{number:02}", data=f"next {number}".encode(), day=day)
        for number in range(30)
    ]
    found = [key for _ in range(4) for key in local.taken()]
    assert sorted(found) == keys


def test_more_uploads_in_a_day_than_one_look_lists_are_found_over_several(
    box: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "KEYS_PER_FOLDER", 10)
    keys = [box.place(f"{number:02}.mp4") for number in range(35)]
    found = [key for _ in range(5) for key in box.taken()]
    assert found == keys


def test_a_sweep_goes_on_where_the_last_tick_left_it(box: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "SWEEP_KEYS", 10)
    monkeypatch.setattr(inbox, "SWEEP_BATCH", 5)
    keys = [box.place(f"{number:02}.mp4", day=YEARS_AGO) for number in range(25)]
    box.cursor = None
    found = [box.taken() for _ in range(3)]
    assert [key for some in found for key in some] == keys
    assert all(found)


def test_a_sweep_waits_for_uploads_it_may_not_read_yet(box: Inbox) -> None:
    keys = [box.place(f"{number:02}.mp4", day=YEARS_AGO) for number in range(7)]
    box.cursor = None
    found = [box.taken(max_arrivals=3) for _ in range(3)]
    assert [key for some in found for key in some] == keys


def test_a_reset_cursor_or_a_second_daemon_repeats_nothing(box: Inbox) -> None:
    box.place("new.mp4")
    assert len(box.taken()) == 1
    for cursor in (None, "not ours", '{"sweep_at": 3}', "[]"):
        box.cursor = cursor
        assert box.taken() == []


@pytest.mark.parametrize("seed", range(25))
def test_nothing_is_missed_or_repeated_in_any_order_of_arrival_with_equal_times(
    local: Inbox, seed: int
) -> None:
    """Twice 25 orders: half the names come before those that are there, by days of any time zone."""
    rng = random.Random(seed)
    names = [
        f"uploads/{account}/{niche}/{day}/{number}.mp4"
        for account in ("acme", "beta")
        for niche in NICHES
        for day in ("2026/11/19", "2026/11/20", "2026/11/21")
        for number in range(3)
    ]
    for _ in range(2):
        rng.shuffle(names)
        local.database.close()
        left, found = list(names), []
        while left:
            some = [left.pop() for _ in range(min(len(left), rng.randrange(1, 8)))]
            for name in some:
                local.place(name, data=f"{seed} {_} {name}".encode())
            found += local.taken(max_arrivals=rng.choice([3, 100]))
        while more := local.taken():
            found += more
        assert sorted(found) == sorted(names)


@pytest.mark.parametrize("name", ["clip.srt", "clip.mp4.vtt"])
def test_captions_that_come_or_change_later_run_the_video_again_and_only_then(box: Inbox, name: str) -> None:
    key = box.place("clip.mp4")
    assert box.taken() == [key]
    box.place(name, b"1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    assert box.taken() == [key]
    assert box.taken() == []
    box.place(name, b"1\n00:00:00,000 --> 00:00:01,000\nHello again\n")
    assert box.taken() == [key]
    with box.database.session(write=False) as session:
        (upload,) = uploads.open_arrivals(session)
    assert upload.captions_sha256 is not None


def test_captions_named_by_a_sidecar_are_followed_too(box: Inbox) -> None:
    box.place("english.srt", b"1")
    box.place("clip.mp4.json", b'{"captions": "english.srt"}')
    key = box.place("clip.mp4")
    assert box.taken() == [key]
    box.place("english.srt", b"2 and more")
    assert box.taken() == [key]


def test_captions_of_uploads_from_before_captions_were_recorded_run_nothing(box: Inbox) -> None:
    box.place("clip.srt", b"1")
    key = box.place("clip.mp4")
    info = box.store.head(key)
    later = info.modified_at + timedelta(minutes=1)
    with box.database.session() as session:
        uploads.record_arrival(
            session, object_key=key, etag=info.etag, size=info.size, account_id="acme", niche="travel",
            sha256="ab" * 32, source_id="acme--abababababababab", sidecar_etag=None, sidecar_sha256=None, seen_at=later,
        )  # fmt: skip
    assert box.taken() == []
    box.place("clip.srt", b"changed")
    assert box.taken() == [key]


def test_links_and_devices_are_named_and_never_followed(local: Inbox, tmp_path: Path) -> None:
    local.place("real.mp4")
    folder = local.store.local_path(f"uploads/acme/travel/{TODAY}/x")
    assert folder is not None
    secret = tmp_path / "secret.mp4"
    secret.write_bytes(b"somebody else's")
    (folder.parent / "linked.mp4").symlink_to(secret)
    (folder.parent / "dangling.mp4").symlink_to(tmp_path / "nothing")
    (folder.parent / "folder").symlink_to(tmp_path)
    os.mkfifo(folder.parent / "pipe.mp4")
    scan = local.look()
    assert [a.object_key.rpartition("/")[2] for a in scan.arrivals] == ["real.mp4"]
    named = {t.object_key.rpartition("/")[2]: t.code for t in scan.refusals}
    assert named == dict.fromkeys(["linked.mp4", "dangling.mp4", "folder", "pipe.mp4"], "not_a_regular_file")
    again = local.look()
    assert again.refusals == []
    assert any("linked.mp4" in said for said in again.standing)


def test_names_that_are_no_keys_are_named_once(local: Inbox) -> None:
    folder = local.store.local_path(f"uploads/acme/travel/{TODAY}/x")
    assert folder is not None
    folder.parent.mkdir(parents=True)
    (folder.parent / "bell\a.mp4").write_bytes(b"x")
    (refused,) = local.look().refusals
    assert refused.code == "odd_name"
    assert "control characters" in refused.message
    assert local.look().refusals == []


@pytest.mark.parametrize("folder", ["new\nline", "acme/new\nline", "\x1b[31m", "acme#12"])
def test_a_folder_whose_name_is_no_key_is_named_and_keeps_no_upload_waiting(
    local: Inbox, folder: str
) -> None:
    path = local.store.local_path("uploads/x")
    assert path is not None
    odd = path.parent / folder / "travel/2026/11/20"
    odd.mkdir(parents=True)
    (odd / "a.mp4").write_bytes(b"x")
    key = local.place("good.mp4")
    scan = local.look()
    assert [arrival.object_key for arrival in scan.arrivals] == [key]
    assert {trouble.code for trouble in scan.refusals} == {"odd_name"}
    assert "\n" not in scan.in_words()


def test_a_folder_of_a_bucket_whose_name_is_no_key_keeps_no_upload_waiting(
    bucket: BucketUnderTest, database: StateDatabase
) -> None:
    box = Inbox(bucket.store("agency"), database)
    assert box.store.bucket is not None
    for name in ("uploads/acme#12/x.mp4", "uploads/acme/travel#3/x.mp4"):
        box.store.bucket.client.put_object(Bucket=box.store.bucket.name, Key=f"agency/{name}", Body=b"x")
    key = box.place("good.mp4")
    assert box.taken() == [key]


def test_a_file_under_a_copying_programs_name_waits_and_is_named_after_a_day(local: Inbox) -> None:
    for name in (".clip.mp4.Xy12", "clip.mp4.part"):
        local.age(local.place(name), hours=1)
    scan = local.look()
    assert (len(scan.waiting), scan.arrivals) == (2, [])
    for name in (".clip.mp4.Xy12", "clip.mp4.part"):
        local.age(f"uploads/acme/travel/{TODAY}/{name}", hours=30)
    assert {refused.code for refused in local.look().refusals} == {"unfinished_upload"}


def test_a_file_that_grows_while_it_is_read_waits(local: Inbox, monkeypatch: pytest.MonkeyPatch) -> None:
    key = local.place("clip.mp4", b"half")
    read = ObjectStore.iter_chunks

    def growing(self: ObjectStore, name: str, **options: int) -> Iterator[bytes]:
        yield from read(self, name, **options)
        path = self.local_path(name)
        assert path is not None
        with path.open("ab") as file:
            file.write(b"more")

    monkeypatch.setattr(ObjectStore, "iter_chunks", growing)
    scan = local.look()
    assert (scan.arrivals, scan.waiting) == ([], [key])


def test_a_sidecar_is_never_parted_from_its_upload() -> None:
    keys = sorted(
        f"uploads/a/b/{n:03}{ending}" for n in range(50) for ending in (".mp4", ".mp4.json", ".srt")
    )
    infos = [ObjectInfo(key, 1, "e", NOW) for key in keys]
    batches = list(in_batches(infos, 10))
    assert [info for batch in batches for info in batch] == infos
    assert all(len({i.key[:15] for i in batch}) * 3 == len(batch) for batch in batches)


def test_a_daemon_that_was_away_sweeps_when_it_is_back() -> None:
    position = Position.load(SWEPT)
    assert not position.sweep_is_due(NOW + timedelta(hours=1), ZoneInfo("UTC"))
    assert position.sweep_is_due(NOW + timedelta(hours=11, minutes=59, seconds=61), ZoneInfo("UTC"))
