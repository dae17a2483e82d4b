"""One contract for both backends, then what only a directory or only S3 can get wrong."""

import errno
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

import ettametta_pipelines
from ettametta_pipelines.failures import (
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    PipelineError,
    TransientError,
)
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.storage.bucket import PARALLEL_PARTS, PART_SIZE
from ettametta_pipelines.storage.object_errors import os_failure
from ettametta_pipelines.storage.objects import (
    AwsOptions,
    ObjectExists,
    ObjectMissing,
    ObjectStore,
    check_key,
    open_store,
)
from ettametta_pipelines_tests.storage.conftest import ACCESS_KEY, SECRET_KEY, BucketUnderTest, FaultyProxy


def keys(store: ObjectStore, prefix: str = "", after: str | None = None) -> list[str]:
    return [info.key for info in store.list(prefix, after=after)]


def big_file(path: Path, megabytes: int) -> Path:
    """Every megabyte differs from the next, so that parts in the wrong order are noticed."""
    with open(path, "wb") as file:
        for number in range(megabytes):
            file.write(number.to_bytes(4, "big") * (1 << 18))
    return path


# --- both backends ---------------------------------------------------------------------------------------------


def test_what_is_put_can_be_read_back_and_described(store: ObjectStore) -> None:
    written = store.put("a/b.txt", b"hello")
    assert store.get("a/b.txt") == b"hello"
    assert store.head("a/b.txt") == written
    assert (written.key, written.size, bool(written.etag)) == ("a/b.txt", 5, True)
    assert written.modified_at.utcoffset() is not None


def test_put_replaces_and_changes_the_etag(store: ObjectStore) -> None:
    first = store.put("k", b"one")
    second = store.put("k", b"two")
    assert store.get("k") == b"two"
    assert first.etag != second.etag


@pytest.mark.parametrize(
    "key",
    [
        "a b/ü é.mp4",
        "🎬/x",
        "q?z&u=1+2",
        "100%/x%20y",
        "#tag/x#1a",
        ".hidden",
        "a'\"\\`$(x)",
        "x#1/y",
        "deep/" * 30 + "x",
    ],
)
def test_odd_but_valid_keys_survive_a_round_trip(store: ObjectStore, key: str) -> None:
    store.put(key, b"x")
    assert store.get(key) == b"x"
    assert keys(store) == [key]
    store.delete(key)
    assert keys(store) == []


@pytest.mark.parametrize(
    "key",
    [
        "",
        "/a",
        "a/",
        "a//b",
        "a/../b",
        "..",
        ".",
        "a/./b",
        "a\nb",
        "a\x00b",
        "a\x7fb",
        "a\x85b",
        "x#12",
        "\ud800",
        "é" * 513,
    ],
)
def test_bad_keys_are_refused_before_anything_happens(store: ObjectStore, key: str, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        lambda: store.put(key, b"x"),
        lambda: store.create(key, b"x"),
        lambda: store.put_file(key, file),
        lambda: store.get(key),
        lambda: store.head(key),
        lambda: store.exists(key),
        lambda: store.delete(key),
        lambda: store.iter_chunks(key),
        lambda: store.read_range(key, 0, 1),
        lambda: store.download(key, tmp_path / "out"),
        lambda: store.local_path(key),
    ]
    for call in calls:
        with pytest.raises(PermanentError) as caught:
            call()
        assert caught.value.code == "bad_object_key"
    assert keys(store) == []


def test_reading_what_is_not_there_says_which_key_and_where(store: ObjectStore, tmp_path: Path) -> None:
    store.put("folder/file", b"x")
    calls: list[Callable[[str], object]] = [
        store.get,
        store.head,
        store.iter_chunks,
        lambda key: store.read_range(key, 0, 1),
        lambda key: store.read_range(key, 0, 0),
        lambda key: store.download(key, tmp_path / "out"),
    ]
    # A folder is no object, and neither is anything below an object.
    for key in ("nothing", "folder", "folder/file/below"):
        assert not store.exists(key)
        store.delete(key)
        for call in calls:
            with pytest.raises(ObjectMissing) as caught:
                call(key)
            assert repr(key) in caught.value.message
            assert store.url in caught.value.message
    assert not (tmp_path / "out").exists()
    assert store.get("folder/file") == b"x"


def test_delete_removes_and_may_be_repeated(store: ObjectStore) -> None:
    store.put("a", b"x")
    store.delete("a")
    store.delete("a")
    assert not store.exists("a")


def test_create_refuses_a_taken_key_even_for_equal_bytes_and_keeps_what_was_there(store: ObjectStore) -> None:
    first = store.create("k", b"same")
    for data in (b"same", b"other"):
        with pytest.raises(ObjectExists) as caught:
            store.create("k", data)
        assert caught.value.code == "object_exists"
    assert store.head("k") == first


def test_of_eight_concurrent_creates_one_wins_and_its_bytes_stay(racing_store: ObjectStore) -> None:
    barrier = threading.Barrier(8)

    def attempt(number: int) -> int | None:
        barrier.wait()
        try:
            racing_store.create("contested", str(number).encode())
        except ObjectExists:
            return None
        return number

    with ThreadPoolExecutor(8) as pool:
        winners = [n for n in pool.map(attempt, range(8)) if n is not None]
    assert len(winners) == 1
    assert racing_store.get("contested") == str(winners[0]).encode()
    assert keys(racing_store) == ["contested"]


@pytest.mark.parametrize("size", [0, 1, 3 << 20])
def test_put_file_stores_the_file_as_it_is(store: ObjectStore, tmp_path: Path, size: int) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"v" * size)
    assert store.put_file("media/clip.mp4", file).size == size
    assert store.get("media/clip.mp4") == b"v" * size


@pytest.mark.parametrize("create", [False, True])
def test_a_large_file_goes_in_and_comes_out_whole(store: ObjectStore, tmp_path: Path, create: bool) -> None:
    file = big_file(tmp_path / "large.mp4", 20)
    info = store.put_file("media/large.mp4", file, create=create)
    assert info == store.head("media/large.mp4")
    assert store.download("media/large.mp4", tmp_path / "new folder" / "back.mp4") == info
    assert (tmp_path / "new folder" / "back.mp4").read_bytes() == file.read_bytes()
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["back.mp4"]


@pytest.mark.parametrize("megabytes", [1, 9])
def test_put_file_with_create_never_overwrites(store: ObjectStore, tmp_path: Path, megabytes: int) -> None:
    store.put("k", b"first")
    with pytest.raises(ObjectExists):
        store.put_file("k", big_file(tmp_path / "f", megabytes), create=True)
    assert store.get("k") == b"first"


def test_of_four_concurrent_large_creates_one_wins(racing_store: ObjectStore, tmp_path: Path) -> None:
    barrier = threading.Barrier(4)
    files = []
    for number in range(4):
        files.append(tmp_path / str(number))
        files[-1].write_bytes(bytes([number]) * (PART_SIZE + 1))

    def attempt(file: Path) -> Path | None:
        barrier.wait()
        try:
            racing_store.put_file("contested", file, create=True)
        except ObjectExists:
            return None
        return file

    with ThreadPoolExecutor(4) as pool:
        winners = [f for f in pool.map(attempt, files) if f is not None]
    assert len(winners) == 1
    assert racing_store.get("contested") == winners[0].read_bytes()


@pytest.mark.parametrize(("name", "code"), [("absent", "file_missing"), (".", "not_a_file")])
def test_put_file_names_a_file_that_cannot_be_stored(
    store: ObjectStore, tmp_path: Path, name: str, code: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        store.put_file("k", tmp_path / name)
    assert caught.value.code == code
    assert str(tmp_path / name) in caught.value.message


@pytest.mark.parametrize("megabytes", [1, 9])
def test_a_file_that_grows_while_it_is_stored_is_not_stored(
    store: ObjectStore, tmp_path: Path, megabytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = big_file(tmp_path / "still being written.mp4", megabytes)
    from ettametta_pipelines.storage.directory import SourceFile

    look = SourceFile.of

    def look_then_grow(path: Path) -> SourceFile:
        found = look(path)
        with open(path, "ab") as handle:
            handle.write(b"more")
        return found

    monkeypatch.setattr(SourceFile, "of", look_then_grow)
    with pytest.raises(TransientError) as caught:
        store.put_file("k", file)
    assert caught.value.code == "file_changed"
    assert keys(store) == []


def test_chunks_have_the_asked_size_and_add_up(store: ObjectStore) -> None:
    data = bytes(range(256)) * 1000
    store.put("k", data)
    chunks = list(store.iter_chunks("k", 100_000))
    assert [len(c) for c in chunks] == [100_000, 100_000, 56_000]
    assert b"".join(chunks) == data
    store.put("empty", b"")
    assert list(store.iter_chunks("empty")) == []


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        (0, 3, b"012"),
        (2, 2, b"23"),
        (8, 100, b"89"),
        (10, 1, b""),
        (50, 1, b""),
        (3, 0, b""),
        (0, 10, b"0123456789"),
    ],
)
def test_a_range_is_cut_at_the_end_of_the_object(
    store: ObjectStore, start: int, length: int, expected: bytes
) -> None:
    store.put("k", b"0123456789")
    assert store.read_range("k", start, length) == expected


@pytest.mark.parametrize(("start", "length"), [(-1, 2), (0, -1)])
def test_a_negative_range_is_refused(store: ObjectStore, start: int, length: int) -> None:
    store.put("k", b"x")
    with pytest.raises(PermanentError, match="bad_range"):
        store.read_range("k", start, length)


LISTED = ["a", "a b", "a!/z", "a-1", "a.txt", "a/1", "a/b/c", "a/b0", "a0", "b/é", "b/ü", "b/🎬", "b/￿"]


def test_listing_is_in_key_order_on_both_backends(store: ObjectStore) -> None:
    wanted = [k for k in LISTED if k != "a"]
    for key in reversed(wanted):
        store.put(key, key.encode())
    assert keys(store) == sorted(wanted)
    assert list(store.list("a")) == [store.head(k) for k in ("a/1", "a/b/c", "a/b0")]


def test_listing_resumes_after_any_key(store: ObjectStore) -> None:
    wanted = [k for k in LISTED if k != "a"]
    for key in wanted:
        store.put(key, b"")
    for after in ("a", "a-1", "a/", "a/b", "a/b/", "a/b/c", "a/b/zz", "a0", "b", "b/ü", "zzz", "", "0"):
        assert keys(store, after=after) == sorted(k for k in wanted if k > after), after
        below = sorted(k for k in wanted if k.startswith("a/") and k > after)
        assert keys(store, "a", after=after) == below, after


def test_a_prefix_is_a_folder_not_the_start_of_a_name(store: ObjectStore) -> None:
    for key in ("uploads/a", "uploads2/b", "upload"):
        store.put(key, b"")
    assert keys(store, "uploads") == keys(store, "uploads/") == ["uploads/a"]
    assert keys(store, "upload") == []
    assert keys(store, "no/such/folder") == []
    with pytest.raises(PermanentError, match="bad_object_key"):
        store.list("../elsewhere")


def test_listing_goes_on_past_a_page(bucket: BucketUnderTest) -> None:
    names = [f"n/{number:04}" for number in range(1010)]
    backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
    for name in names:
        backend.put_object(bucket.name, name, b"")
    assert keys(bucket.store(), "n") == names


def test_an_empty_store_is_reachable(store: ObjectStore) -> None:
    store.check_reachable()


def test_the_url_opens_the_same_store_again(store: ObjectStore, bucket: BucketUnderTest) -> None:
    store.put("k", b"x")
    again = ObjectStore.from_url(store.url, aws=bucket.aws())
    assert again.url == store.url
    assert again.get("k") == b"x"


# --- URLs and settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "", "/tmp/x", "http://host/x", "file://relative/path", "file:relative", "file:///a?b", "file:///a#b", "s3://",
        "s3:///prefix", f"s3://{ACCESS_KEY}:{SECRET_KEY}@bucket/x", "s3://bucket:80/x", "s3://bucket/a/../b",
        "s3://bucket/x?versionId=1", "s3://[bucket", "file:///a%00b",
    ],
)  # fmt: skip
def test_a_bad_store_url_is_refused_without_repeating_secrets(url: str) -> None:
    with pytest.raises(PermanentError) as caught:
        ObjectStore.from_url(url)
    assert caught.value.code == "bad_store_url"
    assert SECRET_KEY not in str(caught.value)


@pytest.mark.parametrize(
    "aws",
    [
        AwsOptions(endpoint_url="localhost:9000"),
        AwsOptions(access_key_id="x"),
        AwsOptions(secret_access_key="x"),
    ],
)
def test_half_an_s3_configuration_is_refused(aws: AwsOptions) -> None:
    with pytest.raises(PermanentError, match="bad_setting"):
        ObjectStore.from_url("s3://bucket", aws=aws)


def test_secrets_show_in_no_representation() -> None:
    aws = AwsOptions(ACCESS_KEY, SECRET_KEY, "token-token")
    store = ObjectStore.from_url("s3://bucket/p", aws=aws)
    for text in (repr(aws), repr(store), store.url, str(vars(store))):
        assert not any(secret in text for secret in (ACCESS_KEY, SECRET_KEY, "token-token"))


def test_settings_choose_a_directory_under_the_home_by_default(tmp_path: Path) -> None:
    store = open_store(Settings(_env_file=None, ETTAMETTA_HOME=tmp_path, ETTAMETTA_STORE=""))
    store.put("a b/k", b"x")
    assert (tmp_path / "store" / "a b" / "k").read_bytes() == b"x"
    assert store.local_path("a b/k") == (tmp_path / "store" / "a b" / "k").resolve()


def test_settings_reach_a_bucket_by_endpoint_and_keys(bucket: BucketUnderTest, tmp_path: Path) -> None:
    store = open_store(
        Settings(
            _env_file=None,
            ETTAMETTA_HOME=tmp_path,
            ETTAMETTA_STORE=f"s3://{bucket.name}/x",
            aws_endpoint_url=bucket.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
    )
    store.put("k", b"x")
    assert bucket.all_keys() == ["x/k"]
    assert store.local_path("k") is None


def test_a_file_where_the_store_should_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(PermanentError, match="is not a directory"):
        ObjectStore.from_url((tmp_path / "store").as_uri())


# --- a directory -----------------------------------------------------------------------------------------------

KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from ettametta_pipelines.storage.objects import ObjectStore

store = ObjectStore.from_url(sys.argv[1])
os.fsync = lambda descriptor: os.kill(os.getpid(), signal.SIGKILL)
getattr(store, sys.argv[2])("folder/k", Path(sys.argv[3]) if sys.argv[2] == "put_file" else b"new" * 100000)
"""


@pytest.mark.parametrize("method", ["put", "put_file"])
def test_a_crash_while_writing_leaves_the_old_object_and_no_other(
    directory_store: ObjectStore, tmp_path: Path, method: str
) -> None:
    directory_store.put("folder/k", b"old")
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            KILLED_WHILE_WRITING,
            directory_store.url,
            method,
            str(big_file(tmp_path / "f", 2)),
        ],
        env={**os.environ, "PYTHONPATH": str(Path(ettametta_pipelines.__file__).parents[1])},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    folder = directory_store.local_path("folder")
    assert folder is not None
    assert len(list(folder.iterdir())) == 2, "the killed writer left its unfinished file"
    assert keys(directory_store) == ["folder/k"]
    assert directory_store.get("folder/k") == b"old"
    directory_store.put("folder/k", b"new")
    assert directory_store.get("folder/k") == b"new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_transient_and_leaves_no_trace(
    directory_store: ObjectStore, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory_store.put("k", b"old")

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    for write in (directory_store.put, directory_store.create):
        with pytest.raises(TransientError) as caught:
            write("k", b"new")
        assert caught.value.code == "disk_full"
    monkeypatch.undo()
    folder = directory_store.local_path("k")
    assert folder is not None
    assert [p.name for p in folder.parent.iterdir()] == ["k"]
    assert directory_store.get("k") == b"old"


def test_a_file_system_without_links_cannot_create_and_says_so(
    directory_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_links(source: str, target: str) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(NeedsPersonError, match="hard links"):
        directory_store.create("k", b"x")
    assert keys(directory_store) == []


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.EACCES, NeedsPersonError, "store_access_denied"),
        (errno.EROFS, NeedsPersonError, "store_access_denied"),
        (errno.EIO, TransientError, "store_io_error"),
        (errno.EMFILE, TransientError, "store_io_error"),
        (errno.ENAMETOOLONG, PermanentError, "bad_object_key"),
    ],
)
def test_operating_system_errors_have_their_kind(number: int, kind: type[PipelineError], code: str) -> None:
    error = os_failure("write", "k", "file:///store", number)
    assert isinstance(error, kind)
    assert error.code == code
    assert error.remedy


def test_a_name_too_long_for_the_file_system_is_a_bad_key(directory_store: ObjectStore) -> None:
    with pytest.raises(PermanentError, match="bad_object_key"):
        directory_store.put("x" * 300, b"")
    assert not directory_store.exists("x" * 300)


def test_a_key_below_an_object_or_in_place_of_a_folder_is_refused(directory_store: ObjectStore) -> None:
    directory_store.put("file", b"x")
    directory_store.put("folder/file", b"x")
    for write in (directory_store.put, directory_store.create):
        for key in ("file/below", "file/far/below", "folder"):
            with pytest.raises(PermanentError) as caught:
                write(key, b"y")
            assert caught.value.code == "object_key_obstructed"
    assert keys(directory_store) == ["file", "folder/file"]


def test_foreign_names_in_a_directory_do_not_stop_the_listing(
    directory_store: ObjectStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory_store.put("up/a", b"1")
    directory_store.put("up/z", b"2")
    folder = directory_store.local_path("up")
    assert folder is not None
    (folder / "two\nlines.mp4").write_bytes(b"")
    (folder / "x#7").write_bytes(b"")
    with open(os.fsencode(folder) + b"/latin-\xe9.mp4", "wb"):
        pass
    os.symlink("/nowhere", folder / "dangling")
    os.symlink(folder.parent, folder / "loop")
    os.mkfifo(folder / "pipe")
    (tmp_path / "other disk").mkdir()
    (tmp_path / "other disk" / "m").write_bytes(b"3")
    os.symlink(tmp_path / "other disk", folder / "linked")
    (folder / "empty folder").mkdir()
    assert keys(directory_store, "up") == ["up/a", "up/linked/m", "up/z"]
    assert "2 names" in caplog.text


def test_two_stores_on_one_directory_agree(directory_store: ObjectStore) -> None:
    other = ObjectStore.from_url(directory_store.url)
    info = directory_store.put("k", b"x")
    assert other.head("k") == info
    with pytest.raises(ObjectExists):
        other.create("k", b"y")


# --- S3 --------------------------------------------------------------------------------------------------------


def test_foreign_keys_in_a_bucket_do_not_stop_the_listing(
    bucket: BucketUnderTest, caplog: pytest.LogCaptureFixture
) -> None:
    store = bucket.store("p")
    store.put("up/a", b"1")
    store.put("up/z", b"2")
    for key in ("p/up//double", "p/up/x/../y", "p/up/folder/", "p/up/n#3"):
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"")
    assert keys(store, "up") == ["up/a", "up/z"]
    assert "3 names" in caplog.text
    assert "up//double" in caplog.text


def test_content_types_follow_the_extension_unless_given(bucket: BucketUnderTest, tmp_path: Path) -> None:
    store = bucket.store()
    big = big_file(tmp_path / "big", 9)
    store.put("a.mp4", b"x")
    store.put("b.bin", b"x", content_type="video/webm")
    store.put_file("c.mp4", big, create=True)
    store.put_file("d", big, content_type="video/quicktime")
    store.create("e", b"x")
    types = [bucket.client.head_object(Bucket=bucket.name, Key=k)["ContentType"] for k in bucket.all_keys()]
    assert types == ["video/mp4", "video/webm", "video/mp4", "video/quicktime", "application/octet-stream"]


@pytest.mark.parametrize("create", [False, True])
def test_a_large_file_is_sent_in_bounded_parts(
    bucket: BucketUnderTest, proxy: FaultyProxy, tmp_path: Path, create: bool
) -> None:
    size = big_file(tmp_path / "f", 45).stat().st_size
    assert bucket.store(endpoint=proxy.url).put_file("k", tmp_path / "f", create=create).size == size
    parts = [r for r in proxy.requests if "partNumber" in r.path]
    assert sum(r.size for r in parts) == size
    assert max(r.size for r in proxy.requests) <= PART_SIZE
    assert proxy.most_at_once <= PARALLEL_PARTS


def test_a_failing_multipart_upload_is_aborted_and_leaves_the_old_object(
    bucket: BucketUnderTest, proxy: FaultyProxy, tmp_path: Path
) -> None:
    store = bucket.store(endpoint=proxy.url)
    store.put("k", b"old")
    refusal = b"<Error><Code>AccessDenied</Code></Error>"
    proxy.fault = lambda r: (403, refusal) if "partNumber=2" in r.path else None
    with pytest.raises(NeedsPersonError, match="store_access_denied"):
        store.put_file("k", big_file(tmp_path / "f", 20))
    assert bucket.unfinished_uploads() == []
    assert store.get("k") == b"old"


def test_a_refused_conditional_upload_discards_its_parts(bucket: BucketUnderTest, tmp_path: Path) -> None:
    store = bucket.store()
    store.put("k", b"first")
    with pytest.raises(ObjectExists):
        store.put_file("k", big_file(tmp_path / "f", 20), create=True)
    assert bucket.unfinished_uploads() == []


def test_an_upload_that_cannot_even_be_aborted_reports_why_it_failed(
    bucket: BucketUnderTest, proxy: FaultyProxy, tmp_path: Path
) -> None:
    proxy.fault = lambda r: (
        (403, b"<Error><Code>AccessDenied</Code></Error>") if "uploadId" in r.path else None
    )
    with pytest.raises(NeedsPersonError, match="Could not write 'k'") as caught:
        bucket.store(endpoint=proxy.url).put_file("k", big_file(tmp_path / "f", 9))
    assert "could not be discarded" in caught.value.__notes__[0]


def test_a_create_whose_answer_was_lost_finds_its_own_object(
    bucket: BucketUnderTest, proxy: FaultyProxy
) -> None:
    """The client's retry meets what the first try wrote: still ObjectExists, and the caller compares."""
    first = iter([True])
    proxy.fault = lambda r: "drop" if r.method == "PUT" and next(first, False) else None
    store = bucket.store(endpoint=proxy.url)
    with pytest.raises(ObjectExists):
        store.create("k", b"mine")
    assert store.get("k") == b"mine"


def test_a_create_without_any_answer_has_an_unknown_outcome(
    bucket: BucketUnderTest, proxy: FaultyProxy
) -> None:
    proxy.fault = lambda r: (503, b"<Error><Code>SlowDown</Code></Error>")
    store = bucket.store(endpoint=proxy.url)
    with pytest.raises(OutcomeUnknownError):
        store.create("k", b"x")
    with pytest.raises(TransientError, match="store_unavailable") as caught:
        store.put("k", b"x")
    assert not isinstance(caught.value, OutcomeUnknownError)


def test_an_object_written_but_not_seen_again_has_an_unknown_outcome(
    bucket: BucketUnderTest, proxy: FaultyProxy
) -> None:
    proxy.fault = lambda r: (403, b"") if r.method == "HEAD" else None
    with pytest.raises(OutcomeUnknownError, match="was written"):
        bucket.store(endpoint=proxy.url).put("k", b"x")
    assert bucket.all_keys() == ["k"]


def test_two_writers_at_once_is_a_conflict_to_try_again(bucket: BucketUnderTest, proxy: FaultyProxy) -> None:
    conflict = b"<Error><Code>ConditionalRequestConflict</Code></Error>"
    proxy.fault = lambda r: (409, conflict) if r.method == "PUT" else None
    with pytest.raises(TransientError, match="store_write_conflict"):
        bucket.store(endpoint=proxy.url).create("k", b"x")
    proxy.fault = lambda r: (409, b"") if r.method == "PUT" else None
    with pytest.raises(TransientError, match="store_write_conflict"):
        bucket.store(endpoint=proxy.url).create("k", b"x")


def test_a_truncated_answer_is_never_taken_for_the_object(
    bucket: BucketUnderTest, proxy: FaultyProxy
) -> None:
    store = bucket.store(endpoint=proxy.url)
    store.put("k", b"0123456789")
    proxy.fault = lambda r: (403, b"<Error><Code>ExpiredToken</Code></Error>") if r.method == "GET" else None
    with pytest.raises(NeedsPersonError, match="store_credentials_invalid"):
        store.get("k")


def test_an_answer_that_breaks_off_is_never_taken_for_the_object(
    bucket: BucketUnderTest, proxy: FaultyProxy, tmp_path: Path
) -> None:
    store = bucket.store(endpoint=proxy.url)
    store.put("k", b"0123456789" * 1000)
    proxy.fault = lambda r: "cut" if r.method == "GET" else None
    for read in (lambda: store.get("k"), lambda: store.download("k", tmp_path / "copy")):
        with pytest.raises(TransientError):
            read()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fault", ["endless", "boundless"])
def test_a_body_that_does_not_end_is_cut_where_it_should_have(
    bucket: BucketUnderTest, proxy: FaultyProxy, tmp_path: Path, fault: str
) -> None:
    store, size = bucket.store(endpoint=proxy.url), 10_000
    store.put("k", bytes(size))
    proxy.fault = lambda r: fault if r.method == "GET" else None
    reads: list[Callable[[], Any]] = [
        lambda: list(store.iter_chunks("k", size=size)),
        lambda: store.download("k", tmp_path / "copy", size=size),
        lambda: store.read_range("k", 0, 5_000),
        lambda: store.snapshot("k").read_at(0, 5_000),
    ]
    # A length that is stated is believed where nobody knows better.
    reads += [lambda: store.get("k")] if fault == "endless" else []
    codes = {error_of(read).code for read in reads}
    assert codes <= {"store_endless_body", "object_replaced"}
    # What lies in the buffers of sockets when the reader goes.
    assert proxy.flooded < 200 << 20
    assert list(tmp_path.iterdir()) == []


def error_of(call: Callable[[], Any]) -> PipelineError:
    with pytest.raises(PipelineError) as caught:
        call()
    return caught.value


@pytest.mark.parametrize(
    ("status", "s3_code", "kind", "code"),
    [
        (403, "AccessDenied", NeedsPersonError, "store_access_denied"),
        (403, "InvalidAccessKeyId", NeedsPersonError, "store_credentials_invalid"),
        (403, "SignatureDoesNotMatch", NeedsPersonError, "store_credentials_invalid"),
        (400, "ExpiredToken", NeedsPersonError, "store_credentials_invalid"),
        (403, "RequestTimeTooSkewed", NeedsPersonError, "clock_skewed"),
        (301, "PermanentRedirect", NeedsPersonError, "store_wrong_region"),
        (400, "AuthorizationHeaderMalformed", NeedsPersonError, "store_wrong_region"),
        (404, "NoSuchBucket", NeedsPersonError, "store_bucket_missing"),
        (400, "InvalidRequest", PermanentError, "store_refused"),
        (507, "XMinioStorageFull", TransientError, "disk_full"),
    ],
)
def test_s3_refusals_have_their_kind_and_leak_nothing(
    bucket: BucketUnderTest,
    proxy: FaultyProxy,
    tmp_path: Path,
    status: int,
    s3_code: str,
    kind: type,
    code: str,
) -> None:
    body = (
        f"<Error><Code>{s3_code}</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId>"
        f"<StringToSign>AWS4-HMAC-SHA256 {SECRET_KEY}</StringToSign></Error>"
    ).encode()
    proxy.fault = lambda r: (status, body)
    store = bucket.store(endpoint=proxy.url)
    (tmp_path / "big").write_bytes(bytes(PART_SIZE + 1))
    calls: list[Callable[[], Any]] = [
        lambda: store.put("k", b"x"),
        lambda: store.get("k"),
    ]
    # Listings and large uploads go through boto3, which itself looks for a bucket in another region.
    if status != 301:
        calls.append(lambda: list(store.list("uploads")))
        calls.append(lambda: store.put_file("k", tmp_path / "big", create=True))
    for call in calls:
        error = error_of(call)
        assert isinstance(error, kind)
        assert error.code == code
        assert error.remedy
        shown = "".join(traceback.format_exception(error))
        assert ACCESS_KEY not in shown
        assert SECRET_KEY not in shown


def test_a_bucket_that_does_not_exist_is_named(bucket: BucketUnderTest) -> None:
    store = ObjectStore.from_url("s3://no-such-bucket-here", aws=bucket.aws())
    calls: list[Callable[[], Any]] = [
        lambda: store.put("k", b""),
        lambda: store.get("k"),
        lambda: list(store.list("")),
        store.check_reachable,
    ]
    for call in calls:
        error = error_of(call)
        assert error.code == "store_bucket_missing"
        assert "s3://no-such-bucket-here" in error.message


def test_an_unreachable_server_is_transient(bucket: BucketUnderTest) -> None:
    store = bucket.store(endpoint="http://127.0.0.1:1")
    assert isinstance(error_of(lambda: store.get("k")), TransientError)
    assert isinstance(error_of(lambda: list(store.list(""))), TransientError)
    assert isinstance(error_of(lambda: store.create("k", b"")), OutcomeUnknownError)


def test_a_checked_key_is_handed_back() -> None:
    assert check_key("a/b") == "a/b"


def test_an_upload_in_parts_that_was_never_finished_is_not_there(bucket: BucketUnderTest) -> None:
    begun = bucket.client.create_multipart_upload(Bucket=bucket.name, Key="uploads/a/clip.mp4")
    bucket.client.upload_part(
        Bucket=bucket.name,
        Key="uploads/a/clip.mp4",
        PartNumber=1,
        UploadId=begun["UploadId"],
        Body=bytes(5 << 20),
    )
    store = bucket.store()
    assert list(store.list("uploads/")) == []
    assert not store.exists("uploads/a/clip.mp4")
