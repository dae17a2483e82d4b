"""The upload sensor: each new content gets one partition and one run, and a tick says what it left alone."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy as sa

from ettametta_pipelines.automation.sensors import tick_upload_sensor
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.failures import NeedsPersonError, PermanentError
from ettametta_pipelines.media.inbox import drop_upload, scan_inbox, source_id_of
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import Upload
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.storage.objects import ObjectStore, open_store

NICHE = "home-cooking"
DAY = "2026/11/22"


@pytest.fixture
def store(settings_env: Settings) -> ObjectStore:
    return open_store(settings_env)


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


class Ticker:
    """Evaluates the sensor as the daemon does, applying its partition requests and recording its runs."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.definitions = build_definitions(settings)
        self.instance = instance

    def tick(self, *, launch: bool = True) -> tuple[list[dg.RunRequest], str]:
        requests, skipped = tick_upload_sensor(self.instance, self.definitions)
        for request in requests if launch else []:
            self.instance.create_run_for_job(
                self.definitions.resolve_job_def("ingest_upload"),
                tags={**request.tags, "dagster/run_key": str(request.run_key)},
            )
        return requests, skipped


@pytest.fixture
def ticker(settings_env: Settings, instance: dg.DagsterInstance) -> Ticker:
    return Ticker(settings_env, instance)


def place(store: ObjectStore, name: str, data: bytes, account: str = "studio", niche: str = NICHE) -> str:
    """An upload that was finished a while ago."""
    key = f"uploads/{account}/{niche}/{DAY}/{name}"
    store.put(key, data)
    path = store.local_path(key)
    assert path is not None
    past = time.time() - 60
    os.utime(path, (past, past))
    return key


def test_an_upload_becomes_one_partition_and_one_run_and_never_again(
    store: ObjectStore, ticker: Ticker, instance: dg.DagsterInstance
) -> None:
    place(store, "clip.mp4", b"a video")
    (request,), _ = ticker.tick()
    assert request.partition_key in instance.get_dynamic_partitions("source_video")
    assert request.partition_key.startswith("studio--")
    assert request.tags["ettametta/niche"] == NICHE
    assert (request.tags["ettametta/tier"], request.tags["dagster/priority"]) == ("empire", "15")
    assert ticker.tick()[0] == []


def test_a_run_is_named_by_the_title_of_the_sidecar_else_by_the_words_of_the_files_name(
    store: ObjectStore, ticker: Ticker
) -> None:
    place(store, "IMG_0042.mp4", b"a video")
    sidecar(store, "IMG_0042.mp4", title="Knife skills")
    place(store, "two_onions.mp4", b"another")
    requests, _ = ticker.tick()
    assert {request.tags["ettametta/title"] for request in requests} == {"Knife skills", "two onions"}


def test_the_same_bytes_under_two_names_are_one_source_video(store: ObjectStore, ticker: Ticker) -> None:
    place(store, "clip.mp4", b"same bytes")
    place(store, "copy.mp4", b"same bytes")
    requests, _ = ticker.tick(launch=False)
    assert len(requests) == 1


def test_the_same_bytes_of_two_accounts_are_two_source_videos(store: ObjectStore, ticker: Ticker) -> None:
    place(store, "clip.mp4", b"same bytes", account="one")
    place(store, "clip.mp4", b"same bytes", account="two")
    requests, _ = ticker.tick()
    assert len({request.partition_key for request in requests}) == 2


def test_captions_and_sidecars_beside_a_video_are_no_uploads(store: ObjectStore, ticker: Ticker) -> None:
    for name in ("clip.mp4", "clip.mp4.json", "clip.srt", "clip.mp4.VTT"):
        place(store, name, name.encode())
    requests, _ = ticker.tick()
    assert len(requests) == 1


def test_an_unknown_niche_is_named_with_the_known_ones_and_the_others_go_on(
    store: ObjectStore, ticker: Ticker, capsys: pytest.CaptureFixture[str]
) -> None:
    place(store, "lost.mp4", b"lost", niche="underwater-chess")
    place(store, "clip.mp4", b"fine")
    requests, _ = ticker.tick()
    assert len(requests) == 1
    logged = capsys.readouterr().err
    assert "underwater-chess" in logged
    assert NICHE in logged
    assert store.exists(f"uploads/studio/underwater-chess/{DAY}/lost.mp4"), (
        "a refused upload stays where it is"
    )


def test_keys_outside_the_layout_do_not_stop_the_tick(store: ObjectStore, ticker: Ticker) -> None:
    store.put("uploads/readme.txt", b"hello")
    store.put("uploads/Studio!/x.mp4", b"hello")
    for key in ("uploads/readme.txt", "uploads/Studio!/x.mp4"):
        path = store.local_path(key)
        assert path is not None
        os.utime(path, (time.time() - 60, time.time() - 60))
    requests, message = ticker.tick()
    assert requests == []
    assert "2 refused" in message


def test_a_file_still_being_written_waits(store: ObjectStore, ticker: Ticker) -> None:
    key = place(store, "clip.mp4", b"half")
    path = store.local_path(key)
    assert path is not None
    os.utime(path)
    requests, message = ticker.tick()
    assert requests == []
    assert "1 still being written" in message


def test_an_accepted_upload_whose_run_was_never_created_is_asked_for_again(
    store: ObjectStore, ticker: Ticker
) -> None:
    place(store, "clip.mp4", b"a video")
    first, _ = ticker.tick(launch=False)
    second, _ = ticker.tick(launch=False)
    assert [r.run_key for r in first] == [r.run_key for r in second] != []


def test_the_same_bytes_with_a_corrected_sidecar_run_again(store: ObjectStore, ticker: Ticker) -> None:
    place(store, "clip.mp4", b"a video")
    (first,), _ = ticker.tick()
    store.put(f"uploads/studio/{NICHE}/{DAY}/again.mp4.json", json.dumps({"rights": "owned"}).encode())
    place(store, "again.mp4", b"a video")
    (second,), _ = ticker.tick()
    assert first.partition_key == second.partition_key == source_id_of("studio", _sha256(b"a video"))
    assert first.run_key != second.run_key


def test_a_crowded_inbox_is_worked_off_over_several_ticks(store: ObjectStore, ticker: Ticker) -> None:
    for number in range(105):
        place(store, f"clip{number:03}.mp4", str(number).encode())
    first, _ = ticker.tick(launch=False)
    second, _ = ticker.tick(launch=False)
    # Runs that were not made are asked for again beside the new ones.
    assert (len(first), len(second)) == (100, 105)


def sidecar(store: ObjectStore, name: str, **stated: str) -> None:
    store.put(f"uploads/studio/{NICHE}/{DAY}/{name}.json", json.dumps(stated).encode())


def test_a_sidecar_that_comes_after_its_video_runs_it_again(store: ObjectStore, ticker: Ticker) -> None:
    place(store, "clip.mp4", b"a video")
    (first,), _ = ticker.tick()
    sidecar(store, "clip.mp4", rights="owned")
    (second,), _ = ticker.tick()
    assert (first.partition_key, first.run_key != second.run_key) == (second.partition_key, True)
    assert ticker.tick()[0] == []


def test_tidying_up_an_ingested_upload_holds_up_nobody(store: ObjectStore, ticker: Ticker) -> None:
    sidecar(store, "clip.mp4", rights="owned")
    key = place(store, "clip.mp4", b"a video")
    assert len(ticker.tick()[0]) == 1
    store.delete(key)
    store.delete(f"{key}.json")
    place(store, "next.mp4", b"another")
    assert len(ticker.tick()[0]) == 1


def test_an_arrival_without_a_run_is_found_after_a_long_weekend(
    store: ObjectStore, settings_env: Settings, ticker: Ticker
) -> None:
    place(store, "clip.mp4", b"a video")
    with open_state(settings_env) as state:
        scan_inbox(store, state, [NICHE])
        with state.session() as session:
            session.execute(sa.update(Upload).values(seen_at=utc_now() - timedelta(days=3)))
    assert len(ticker.tick()[0]) == 1


def test_an_object_that_cannot_be_read_is_named_and_holds_up_nobody(
    store: ObjectStore, ticker: Ticker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    read = ObjectStore.iter_chunks

    def denied(self: ObjectStore, key: str, **more: int) -> Iterator[bytes]:
        if key.endswith("locked.mp4"):
            raise NeedsPersonError(f"{key} may not be read.", code="store_access_denied")
        return read(self, key, **more)

    monkeypatch.setattr(ObjectStore, "iter_chunks", denied)
    place(store, "locked.mp4", b"locked")
    place(store, "open.mp4", b"open")
    assert len(ticker.tick()[0]) == 1
    assert "locked.mp4" in capsys.readouterr().err


def test_a_huge_sidecar_is_not_read_whole(
    store: ObjectStore, ticker: Ticker, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put(f"uploads/studio/{NICHE}/{DAY}/clip.mp4.json", b" " * (8 << 20))
    place(store, "clip.mp4", b"a video")
    monkeypatch.delattr(ObjectStore, "get")
    assert len(ticker.tick()[0]) == 1


def test_a_sidecar_without_its_video_is_named_once_it_stays_alone(store: ObjectStore, ticker: Ticker) -> None:
    key = place(store, "clip.json", b"{}")
    assert "refused" not in ticker.tick()[1]
    path = store.local_path(key)
    assert path is not None
    os.utime(path, (time.time() - 3600, time.time() - 3600))
    assert "1 refused" in ticker.tick()[1]


def test_content_that_came_before_is_said_to_have_come_before(store: ObjectStore, ticker: Ticker) -> None:
    place(store, "empty.mp4", b"")
    ticker.tick()
    place(store, "empty-too.mp4", b"")
    requests, message = ticker.tick()
    assert requests == []
    assert "1 with content that came before" in message


def test_looking_at_known_uploads_takes_no_write_lock(store: ObjectStore, ticker: Ticker) -> None:
    place(store, "clip.mp4", b"a video")
    ticker.tick()
    ticker.tick()
    url = get_settings().database_url.removeprefix("sqlite:///")
    with sqlite3.connect(url, isolation_level=None) as other:
        other.execute("BEGIN IMMEDIATE")
        assert ticker.tick() == ([], "Looked at 1 uploads, 0 new.")
        other.execute("ROLLBACK")


def test_a_dropped_file_does_not_inherit_the_rights_of_an_earlier_one(
    store: ObjectStore, tmp_path: Path
) -> None:
    file = tmp_path / "clip.mp4"
    where: dict[str, Any] = {
        "account": "studio",
        "niche": NICHE,
        "niches": [NICHE],
        "day": date(2026, 11, 22),
    }
    file.write_bytes(b"mine")
    drop_upload(store, file, stated={"rights": "owned"}, **where)
    file.write_bytes(b"somebody else's")
    key = drop_upload(store, file, stated={}, **where)
    assert not store.exists(f"{key}.json")


def test_rights_that_do_not_exist_are_refused_before_anything_is_uploaded(
    store: ObjectStore, tmp_path: Path
) -> None:
    file = tmp_path / "clip.mp4"
    file.write_bytes(b"mine")
    with pytest.raises(PermanentError, match="rights") as caught:
        drop_upload(
            store, file, account="studio", niche=NICHE, niches=[NICHE], day=date(2026, 11, 22),
            stated={"rights": "ownd"},
        )  # fmt: skip
    assert caught.value.code == "bad_sidecar"
    assert list(store.list("uploads/")) == []


def test_an_empty_inbox_says_so(ticker: Ticker) -> None:
    assert ticker.tick() == ([], "Looked at 0 uploads, 0 new.")


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()
