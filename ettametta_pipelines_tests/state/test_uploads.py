"""The seen-table of uploads."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import event, text

from ettametta_pipelines.state import uploads
from ettametta_pipelines.state.session import StateDatabase

T0 = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


def arrival(database: StateDatabase, **changes: Any) -> None:
    columns: dict[str, Any] = {
        "object_key": "uploads/acme/cooking/2026/11/22/a.mp4", "etag": "e1", "size": 10, "account_id": "acme",
        "niche": "cooking", "sha256": "ab" * 32, "source_id": "acme--abababababababab",
        "sidecar_etag": None, "sidecar_sha256": None,
        "seen_at": T0,
    }  # fmt: skip
    with database.session() as session:
        uploads.record_arrival(session, **columns | changes)


def test_many_arrivals_are_recorded_together_and_again_when_their_words_change(
    database: StateDatabase,
) -> None:
    same: dict[str, Any] = {
        "etag": "e1", "size": 10, "account_id": "acme", "niche": "cooking", "sha256": "ab" * 32, "seen_at": T0,
        "sidecar_etag": None, "sidecar_sha256": None,
    }  # fmt: skip
    rows = [same | {"object_key": f"uploads/{n}.mp4", "source_id": f"acme--{n}"} for n in range(3)]
    with database.session() as session:
        assert uploads.known_sources(session, [row["source_id"] for row in rows]) == set()
        uploads.record_arrivals(session, rows)
        uploads.settle(session, uploads.open_arrivals(session), T0)
    with database.session() as session:
        assert uploads.open_arrivals(session) == []
        uploads.record_arrivals(session, [rows[1] | {"sidecar_etag": "e2", "sidecar_sha256": "cd" * 32}])
    with database.session(write=False) as session:
        (changed,) = uploads.open_arrivals(session)
        assert (changed.source_id, changed.sidecar_etag) == ("acme--1", "e2")
        assert len(uploads.find_all(session, [row["object_key"] for row in rows])) == 3
        assert uploads.known_sources(session, ["acme--0", "acme--9"]) == {"acme--0"}


def test_an_object_is_found_again_by_key_and_version_only(database: StateDatabase) -> None:
    arrival(database)
    with database.session(write=False) as session:
        found = uploads.find(session, "uploads/acme/cooking/2026/11/22/a.mp4", "e1")
        assert uploads.find(session, "uploads/acme/cooking/2026/11/22/a.mp4", "e2") is None
    assert found is not None
    assert (found.status, found.source_id, found.seen_at) == ("accepted", "acme--abababababababab", T0)


def test_the_newest_accepted_upload_of_a_content_is_the_one_that_counts(database: StateDatabase) -> None:
    arrival(database, object_key="uploads/first.mp4", seen_at=T0)
    arrival(
        database,
        object_key="uploads/second.mp4",
        seen_at=T0 + timedelta(hours=1),
        sidecar_etag="e2",
        sidecar_sha256="cd" * 32,
    )
    with database.session(write=False) as session:
        found = uploads.for_source(session, "acme--abababababababab")
        assert uploads.for_source(session, "acme--unknown") is None
    assert found is not None
    assert (found.sidecar_etag, found.sidecar_sha256) == ("e2", "cd" * 32)


def test_a_refused_object_can_be_accepted_later_in_the_same_row(database: StateDatabase) -> None:
    with database.session() as session:
        refused = uploads.record_refusal(
            session, object_key="uploads/acme/nope/2026/11/22/a.mp4", etag="e1", size=10, account_id="acme",
            niche="nope", reason_code="unknown_niche", reason="There is no niche nope.", seen_at=T0,
        )  # fmt: skip
    assert refused.source_id is None
    with database.session(write=False) as session:
        assert uploads.open_arrivals(session) == []
    arrival(database, object_key="uploads/acme/nope/2026/11/22/a.mp4", niche="nope")
    with database.session(write=False) as session:
        found = uploads.find(session, "uploads/acme/nope/2026/11/22/a.mp4", "e1")
    assert found is not None
    assert (found.id, found.status, found.reason_code) == (refused.id, "accepted", None)


def test_an_arrival_is_open_until_it_is_settled_and_again_when_its_words_change(
    database: StateDatabase,
) -> None:
    arrival(database)
    arrival(database, object_key="uploads/copy.mp4", seen_at=T0 + timedelta(hours=1))
    with database.session() as session:
        (newest,) = uploads.open_arrivals(session)
        assert newest.object_key == "uploads/copy.mp4"
        uploads.settle(session, [newest], T0)
        assert uploads.open_arrivals(session) == []
    arrival(database, sidecar_etag="later", seen_at=T0 + timedelta(hours=2))
    with database.session(write=False) as session:
        assert [upload.sidecar_etag for upload in uploads.open_arrivals(session)] == ["later"]


def test_an_arrival_newer_than_the_one_whose_run_exists_stays_open(database: StateDatabase) -> None:
    arrival(database)
    with database.session(write=False) as session:
        older = uploads.open_arrivals(session)
    arrival(database, object_key="uploads/copy.mp4", seen_at=T0 + timedelta(hours=1))
    with database.session() as session:
        uploads.settle(session, older, T0)
        assert [upload.object_key for upload in uploads.open_arrivals(session)] == ["uploads/copy.mp4"]


def test_words_are_laid_to_the_upload_they_speak_of(database: StateDatabase) -> None:
    arrival(database, captions_key="uploads/acme/cooking/2026/11/22/english.vtt")
    folder = "uploads/acme/cooking/2026/11/22"
    names = ["a.mp4.json", "a.mp4.srt", "a.vtt", "english.vtt", "a.json", "b.srt"]
    with database.session(write=False) as session:
        found = uploads.newest_beside(session, [f"{folder}/{name}" for name in names])
    assert {key.rpartition("/")[2] for key in found} == {"a.mp4.json", "a.mp4.srt", "a.vtt", "english.vtt"}


def test_what_every_tick_asks_is_answered_from_an_index_of_the_few(tmp_path: Path) -> None:
    with StateDatabase(f"sqlite:///{tmp_path / 'state.db'}") as database:
        database.migrate()
        with database.session(write=False) as session:
            asked: list[str] = []
            event.listen(session.get_bind(), "before_cursor_execute", lambda *a: asked.append(a[2]))
            uploads.open_arrivals(session)
            uploads.active_folders(session, T0, limit=5)
            selects = [one.replace("?", "1") for one in asked if one.startswith("SELECT")]
            plans = [str(session.execute(text(f"EXPLAIN QUERY PLAN {one}")).all()) for one in selects]
    assert "USING INDEX ix_uploads_open" in plans[0]
    assert "USING INDEX ix_uploads_seen_at (seen_at>?)" in plans[-1]
