"""What leaves the store and what does not, in a directory and in a bucket; what lies there; archived videos."""

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from ettametta_pipelines.automation.restoring import restore_videos
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.definitions import build_definitions
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.operations.archiving import find_finished
from ettametta_pipelines.operations.inventory import take_inventory
from ettametta_pipelines.operations.lifecycle import References, plan_removals
from ettametta_pipelines.publishing.ledger import Intent, Ledger, State
from ettametta_pipelines.publishing.tokens import open_envelope
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.session import StateDatabase, open_state
from ettametta_pipelines.storage import lifecycle
from ettametta_pipelines.storage.objects import ObjectInfo, ObjectStore, open_store
from ettametta_pipelines_tests.storage.conftest import BucketUnderTest
from ettametta_pipelines_tests.storage.conftest import bucket as bucket  # a fixture, as those below
from ettametta_pipelines_tests.storage.conftest import directory_store as directory_store
from ettametta_pipelines_tests.storage.conftest import s3_client as s3_client
from ettametta_pipelines_tests.storage.conftest import s3_endpoint as s3_endpoint
from ettametta_pipelines_tests.storage.conftest import store as store

NOW = datetime(2027, 6, 1, tzinfo=UTC)
FOREIGN: dict[str, Any] = {
    "ID": "logs", "Status": "Enabled", "Filter": {"Prefix": "logs/"}, "Expiration": {"Days": 3},
}  # fmt: skip
WANTED = lifecycle.Wanted(7, 60, "STANDARD_IA", ("media/analysis", "uploads"))


def rules_of(bucket: BucketUnderTest) -> dict[str, dict[str, Any]]:
    found = bucket.client.get_bucket_lifecycle_configuration(Bucket=bucket.name)["Rules"]
    return {rule["ID"]: rule for rule in found}


def test_our_rules_stand_beside_those_of_others_and_are_set_once(bucket: BucketUnderTest) -> None:
    bucket.client.put_bucket_lifecycle_configuration(
        Bucket=bucket.name, LifecycleConfiguration={"Rules": [FOREIGN]}
    )
    store, other = bucket.store("agency"), bucket.store("other")
    assert lifecycle.apply_rules(store, WANTED).changed
    again = lifecycle.apply_rules(store, WANTED)
    assert (again.changed, again.foreign, len(again.own)) == (False, 1, 4)
    assert lifecycle.apply_rules(other, lifecycle.Wanted(3, 0, "STANDARD_IA", ())).foreign == 5
    rules = rules_of(bucket)
    assert rules["logs"] == FOREIGN
    assert rules["ettametta-abort-uploads:agency/"]["AbortIncompleteMultipartUpload"] == {
        "DaysAfterInitiation": 7
    }
    assert rules["ettametta-cold-sources:agency/"]["Filter"] == {"Prefix": "agency/media/sources/"}
    assert lifecycle.apply_rules(store, lifecycle.Wanted(0, 0, "STANDARD_IA", ())).own == ()
    assert set(rules_of(bucket)) == {"logs", "ettametta-abort-uploads:other/"}


def test_writes_that_were_broken_off_leave_a_directory_and_nothing_else_does(
    directory_store: ObjectStore,
) -> None:
    directory_store.put("media/a.mp4", b"whole")
    path = directory_store.local_path("media/a.mp4")
    assert path is not None
    left, strange = path.parent / ".0123456789abcdef#0", path.parent / "take #2"
    for one in (left, strange, path):
        one.write_bytes(b"half")
        os.utime(one, (0, 0))
    assert lifecycle.remove_left_overs(directory_store, 7, NOW, count_only=True) == (1, 4)
    assert left.exists()
    assert lifecycle.remove_left_overs(directory_store, 7, NOW) == (1, 4)
    assert (left.exists(), strange.exists(), path.exists()) == (False, True, True)


def know(
    db: StateDatabase, store: ObjectStore, key: str, source_id: str | None, *, settled: bool = True
) -> None:
    info = store.head(key)
    with db.session() as session:
        row = uploads.record_arrival(
            session, object_key=key, etag=info.etag, size=info.size, account_id="acme", niche="travel",
            sha256="ab" * 32, source_id=str(source_id), sidecar_etag=None, sidecar_sha256=None, seen_at=utc_now(),
        )  # fmt: skip
        if settled:
            uploads.settle(session, [row], utc_now())


def test_only_what_nothing_alive_refers_to_is_due(store: ObjectStore, database: StateDatabase) -> None:
    folder = "uploads/acme/travel/2026/01/01"
    for name in ("done.mp4", "done.mp4.json", "done.srt", "open.mp4", "open.mp4.json", "unseen.mp4"):
        store.put(f"{folder}/{name}", name.encode())
    know(database, store, f"{folder}/done.mp4", "acme--1")
    know(database, store, f"{folder}/open.mp4", "acme--2", settled=False)
    for source in ("live", "gone"):
        store.put(f"media/analysis/acme--{source}/subject.json", b"{}")
        for beside in (".mp4", ".checks.json", ".preview.webp"):
            store.put(f"media/renditions/acme--{source}/9x16/{source}{beside}", b"v")
    store.put("media/trials/acme--live/9x16/tried.mp4", b"v")
    alive = References({"acme--live"}, {"media/renditions/acme--live/9x16/live.mp4"})

    def due(prefix: str, days: int = 90) -> list[str]:
        return plan_removals(store, database, prefix, days, alive, NOW).keys

    assert due("uploads") == [f"{folder}/done.mp4", f"{folder}/done.mp4.json"]
    assert due("media/analysis") == ["media/analysis/acme--gone/subject.json"]
    assert due("media/renditions") == [
        f"media/renditions/acme--gone/9x16/gone{beside}"
        for beside in (".checks.json", ".mp4", ".preview.webp")
    ]
    assert due("media/trials") == ["media/trials/acme--live/9x16/tried.mp4"]
    assert due("uploads", 3_000) == []
    lifecycle.remove(store, due("uploads"))
    assert not store.exists(f"{folder}/done.mp4")
    assert store.exists(f"{folder}/done.srt")


def test_the_inventory_counts_by_prefix_and_account_and_says_what_grew() -> None:
    def at(key: str, size: int = 10) -> ObjectInfo:
        return ObjectInfo(key, size, "e", NOW)

    first = [
        at("uploads/acme/travel/2026/01/01/a.mp4"),
        at("media/sources/aa.mp4", 5),
        at("sidecars/x.json", 1),
    ]
    day = date(2026, 1, 1)
    earlier = take_inventory(first, day, {"aa": "acme"}, [])
    assert [(r["prefix"], r["account"], r["bytes"], r["bytes_grown"]) for r in earlier] == [
        ("media/sources", "acme", 5, None), ("sidecars", "", 1, None), ("uploads", "acme", 10, None),
    ]  # fmt: skip
    second = [
        *first[:2],
        at("media/renditions/beta--1/9x16/k.mp4", 7),
        at("uploads/acme/travel/2026/01/02/b.mp4"),
    ]
    later = take_inventory(second, day + timedelta(days=1), {"aa": "acme"}, earlier)
    assert [(r["prefix"], r["account"], r["objects_grown"], r["bytes_grown"]) for r in later] == [
        ("media/renditions", "beta", 1, 7), ("media/sources", "acme", 0, 0), ("sidecars", "", -1, -1),
        ("uploads", "acme", 1, 10),
    ]  # fmt: skip


class Home:
    """Assets of the room materialized as jobs do, on an instance and a store of their own."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self.settings = settings
        self.instance = instance
        self.store = open_store(settings)
        self.db = open_state(settings)

    def make(
        self, job: str, config: dict[str, Any] | None = None, partition: str | None = None
    ) -> dict[str, Any]:
        """Metadata of the one asset of a job."""
        definitions = build_definitions(get_settings())
        asset = next(
            iter(definitions.resolve_job_def(job).asset_layer.executable_asset_keys)
        ).to_user_string()
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=self.instance, partition_key=partition,
            run_config={"ops": {asset: {"config": config}}} if config else {},
        )  # fmt: skip
        (event,) = result.get_asset_materialization_events()
        return {name: value.value for name, value in event.materialization.metadata.items()}

    def live(self) -> set[str]:
        return set(self.instance.get_dynamic_partitions("source_video"))

    def take_in(self, source_id: str, days_ago: int) -> None:
        self.instance.add_dynamic_partitions("source_video", [source_id])
        with self.db.session() as session:
            row = uploads.record_arrival(
                session, object_key=f"uploads/{source_id}.mp4", etag="e", size=1, account_id="acme", niche="travel",
                sha256="ab" * 32, source_id=source_id, sidecar_etag=None, sidecar_sha256=None,
                seen_at=utc_now() - timedelta(days=days_ago),
            )  # fmt: skip
            uploads.settle(session, [row], utc_now())


@pytest.fixture
def home(settings_env: Settings, tmp_path: Path) -> Iterator[Home]:
    (tmp_path / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as instance:
        yield Home(settings_env, instance)


def test_a_new_rule_is_counted_by_the_first_run_and_applied_by_the_next(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.store.put("media/analysis/acme--gone/subject.json", b"{}")
    path = home.store.local_path("media/analysis/acme--gone/subject.json")
    assert path is not None
    os.utime(path, (0, 0))
    tried = home.make("apply_storage_lifecycle", {"dry_run": True, "try_days": 90})
    assert "| expire media/analysis | not configured | 1 |" in tried["due"]
    monkeypatch.setenv("ETTAMETTA_EXPIRE_DAYS", "media/analysis=90")
    get_settings.cache_clear()
    first = home.make("apply_storage_lifecycle")
    assert (first["removed"], path.exists()) == (0, True)
    assert "counted only" in first["due"]
    second = home.make("apply_storage_lifecycle")
    assert (second["removed"], path.exists()) == (1, False)


def test_the_inventory_of_a_day_is_a_table_an_operator_reads(home: Home) -> None:
    home.store.put("uploads/acme/travel/2026/01/01/a.mp4", b"x" * 2_000_000)
    said = home.make("count_storage", partition=f"{utc_now():%Y-%m-%d}")
    assert "| uploads | acme | 1 | 2.0 | – |" in said["largest"]
    assert said["compared_with"] == "no day before"


def test_finished_old_videos_leave_the_partitions_and_come_back_when_called(home: Home) -> None:
    for name, days in (("old", 200), ("posted", 200), ("on-its-way", 200), ("new", 3), ("called", 200)):
        home.take_in(f"acme--{name}", days)
    home.instance.add_dynamic_partitions("source_video", ["acme--strange"])
    ledger = Ledger(home.db, open_envelope(home.settings), clock=utc_now)
    intent = Intent(
        "youtube", "acme", "channel", "acme--on-its-way", "key", "sha", 3, "title", "private", 1, wishes={}
    )
    with ledger.claimed(ledger.plan(intent).id) as claim:
        ledger.advance(claim, State.PROCESSING, reason="test", remote_id="y1")
    restore_videos(home.instance, home.db, ["acme--called"])
    dry = home.make("archive_videos", {"dry_run": True})
    assert (dry["archived_now"], dry["finished_and_left"], len(home.live())) == (0, 2, 6)
    said = home.make("archive_videos")
    assert said["archived_now"] == 2
    assert home.live() == {"acme--on-its-way", "acme--new", "acme--called", "acme--strange"}
    assert "a post is on its way or waits for a person | 1" in said["kept"]
    back = home.make("archive_videos", {"restore": ["acme--old"]})
    assert (back["called_back"], back["archived"], back["archived_now"]) == ("acme--old", 1, 0)
    assert "acme--old" in home.live()


def test_a_video_with_a_run_under_way_stays(home: Home) -> None:
    home.take_in("acme--old", 200)
    home.instance.create_run_for_job(
        build_definitions(home.settings).resolve_job_def("return_video_slots"),
        status=dg.DagsterRunStatus.STARTED, tags={"dagster/partition": "acme--old"},
    )  # fmt: skip
    said = home.make("archive_videos")
    assert (said["archived_now"], "a run is under way | 1" in said["kept"]) == (0, True)


def test_what_was_never_taken_in_cannot_be_called_back(home: Home) -> None:
    with pytest.raises(PermanentError) as caught:
        restore_videos(home.instance, home.db, ["acme--nonsense"])
    assert caught.value.code == "unknown_source"
    assert home.live() == set()


def test_fifty_thousand_videos_are_judged_in_a_few_statements(home: Home) -> None:
    live = {f"acme--{number}" for number in range(50_000)}
    finished = find_finished(home.db, live, [], utc_now(), timedelta(days=90))
    assert finished.kept == {"no upload is known of it": 50_000}
