"""Transactions and time of the state database, the same on SQLite and Postgres."""

import os
import socket
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from time import sleep

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import TransientError
from ettametta_pipelines.settings import load_settings
from ettametta_pipelines.state import session as session_module
from ettametta_pipelines.state.models import ApiQuota, DatabaseNow, PublicationEvent, Upload
from ettametta_pipelines.state.session import StateDatabase, insert_if_absent, open_state
from ettametta_pipelines_tests.databases import TEMPLATE, PostgresServer


def upload(etag: str, seen_at: datetime) -> Upload:
    return Upload(object_key="uploads/a", etag=etag, size=3_000_000_000, status="accepted", seen_at=seen_at)


def test_what_a_block_wrote_is_there_afterwards(database: StateDatabase) -> None:
    seen_at = datetime(2026, 11, 22, 3, 4, 5, 678901, tzinfo=UTC)
    with database.session() as session:
        session.add(upload("1", seen_at))
    with database.session(write=False) as session:
        found = session.scalars(sa.select(Upload)).one()
    assert (found.size, found.seen_at) == (3_000_000_000, seen_at)


def test_nothing_a_failing_block_wrote_is_there_afterwards(database: StateDatabase) -> None:
    def fail_half_way() -> None:
        with database.session() as session:
            session.add(upload("1", datetime.now(UTC)))
            session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with database.session(write=False) as session:
        assert session.scalars(sa.select(Upload)).all() == []


def test_instants_of_other_time_zones_come_back_as_the_same_instant_in_utc(database: StateDatabase) -> None:
    there = datetime(2026, 3, 8, 1, 30, tzinfo=timezone(timedelta(hours=-8)))
    with database.session() as session:
        session.add(upload("1", there))
    with database.session(write=False) as session:
        back = session.scalars(sa.select(Upload.seen_at)).one()
    assert back == there
    assert back.tzinfo is UTC


def test_a_naive_instant_is_refused(database: StateDatabase) -> None:
    with pytest.raises(sa.exc.StatementError, match="aware"), database.session() as session:
        session.add(upload("1", datetime(2026, 1, 1)))  # noqa: DTZ001


def test_database_time_is_aware_and_moves_within_a_transaction(database: StateDatabase) -> None:
    with database.session() as session:
        first = database.now(session)
        while database.now(session) == first:
            pass
        later = session.scalars(sa.select(DatabaseNow(90.5))).one()
        assert later - database.now(session) > timedelta(seconds=85)
    assert first.tzinfo is UTC


def test_database_time_compares_with_stored_instants(database: StateDatabase) -> None:
    with database.session() as session:
        now = database.now(session)
        session.add_all(
            [upload("past", now - timedelta(seconds=1)), upload("future", now + timedelta(hours=1))]
        )
    with database.session(write=False) as session:
        assert session.scalars(sa.select(Upload.etag).where(Upload.seen_at < DatabaseNow())).all() == ["past"]


def test_an_insert_on_a_taken_key_changes_nothing_and_says_so(database: StateDatabase) -> None:
    row = {"vendor": "v", "bucket": "b", "quota_day": datetime(2026, 1, 1, tzinfo=UTC).date(), "limit": 5}
    with database.session() as session:
        assert insert_if_absent(session, ApiQuota, row | {"used": 1, "reserved": 0})
        assert not insert_if_absent(session, ApiQuota, row | {"used": 2, "reserved": 0})
        assert session.scalars(sa.select(ApiQuota.used)).all() == [1]


def test_foreign_keys_are_enforced(database: StateDatabase) -> None:
    with pytest.raises(sa.exc.IntegrityError), database.session() as session:
        session.add(
            PublicationEvent(
                publication_id="nowhere", at=datetime.now(UTC), to_state="PLANNED", fence=0, actor="a",
                reason="r", detail={},
            )
        )  # fmt: skip


def test_two_transactions_that_read_before_they_write_lose_nothing(
    open_database: Callable[[], StateDatabase],
) -> None:
    """On SQLite the second waits at BEGIN; deferred, it would fail with a stale snapshot."""
    from threading import Barrier, Thread

    with open_database().session() as session:
        session.add(ApiQuota(vendor="v", bucket="b", quota_day=datetime(2026, 1, 1, tzinfo=UTC).date(),
                             limit=1000, used=0, reserved=0))  # fmt: skip
    barrier = Barrier(8)

    def add_ten() -> None:
        database = open_database()
        barrier.wait()
        for _ in range(10):
            with database.session() as session:
                row = session.scalars(sa.select(ApiQuota).with_for_update()).one()
                row.used += 1

    threads = [Thread(target=add_ten) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with open_database().session(write=False) as session:
        assert session.scalars(sa.select(ApiQuota.used)).one() == 80


def test_a_reader_does_not_wait_for_a_writer(database: StateDatabase) -> None:
    with database.session() as writing:
        writing.add(upload("1", datetime.now(UTC)))
        writing.flush()
        with database.session(write=False) as reading:
            assert reading.scalars(sa.select(Upload)).all() == []


def test_a_reading_session_of_postgres_refuses_to_write(database: StateDatabase) -> None:
    if database.dialect == "sqlite":
        pytest.skip("SQLite has no read-only transactions")
    with pytest.raises(sa.exc.InternalError, match="read-only"), database.session(write=False) as session:
        session.add(upload("1", datetime.now(UTC)))


def test_sqlite_runs_in_wal_mode_with_full_durability(tmp_path: Path) -> None:
    database = StateDatabase(f"sqlite:///{tmp_path / 'state.db'}")
    database.migrate()
    with database.session(write=False) as session:
        pragmas = [session.scalar(sa.text(f"PRAGMA {name}")) for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]


def test_a_database_another_process_holds_is_a_transient_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "LOCK_WAIT_S", 0.05)
    file = tmp_path / "state.db"
    database = StateDatabase(f"sqlite:///{file}")
    database.migrate()
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(TransientError) as failure, database.session() as session:
        session.add(upload("1", datetime.now(UTC)))
    assert failure.value.code == "state_locked"
    holder.close()


def test_a_database_that_is_away_is_a_transient_failure_without_its_password() -> None:
    database = StateDatabase("postgresql+psycopg://me:hush@127.0.0.1:1/state")
    with pytest.raises(TransientError) as failure, database.session() as session:
        session.execute(sa.text("SELECT 1"))
    assert failure.value.code == "state_unavailable"
    assert "hush" not in str(failure.value) + str(failure.value.__cause__)


def test_a_faulty_statement_is_not_dressed_up_as_trouble_of_the_database(database: StateDatabase) -> None:
    with (
        pytest.raises(sa.exc.DBAPIError, match="no_such_table"),
        database.session() as session,
    ):
        session.execute(sa.text("SELECT * FROM no_such_table"))


def test_opening_makes_the_directory_and_the_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("ETTAMETTA_HOME", str(tmp_path / "new" / "home"))
    settings = load_settings()
    with open_state(settings) as database, database.session() as session:
        session.add(upload("1", datetime.now(UTC)))
    assert (tmp_path / "new" / "home" / "state" / "state.db").is_file()


def test_only_one_process_at_a_time_is_alone_with_a_name(open_database: Callable[[], StateDatabase]) -> None:
    inside: list[int] = []

    def enter(n: int) -> bool:
        with open_database().alone("a day"):
            inside.append(n)
            sleep(0.02)
            return inside.pop() == n and not inside

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(enter, range(8)))


@pytest.mark.postgres
def test_a_peer_that_holds_a_row_for_ever_makes_others_say_so_instead_of_hanging(
    open_database: Callable[[], StateDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, waiting = open_database(), open_database()
    if stuck.dialect != "postgresql":
        pytest.skip("on SQLite the busy timeout says it")
    with stuck.session() as session:
        session.add(upload("1", datetime.now(UTC)))
    monkeypatch.setitem(session_module.POSTGRES_PATIENCE, "lock_timeout", 100)
    with stuck.session() as holding:
        holding.execute(sa.update(Upload).values(reason="held"))
        with pytest.raises(TransientError) as failure, waiting.session() as session:
            session.execute(sa.update(Upload).values(reason="wanted"))
    assert failure.value.code == "state_locked"
    with waiting.session() as session:
        session.execute(sa.update(Upload).values(reason="wanted"))


@pytest.mark.postgres
def test_a_peer_that_falls_silent_with_a_lock_is_ended_by_the_server(
    open_database: Callable[[], StateDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, waiting = open_database(), open_database()
    if silent.dialect != "postgresql":
        pytest.skip("on SQLite the lock ends with the process")
    with silent.session() as session:
        session.add(upload("1", datetime.now(UTC)))
    monkeypatch.setitem(session_module.POSTGRES_PATIENCE, "idle_in_transaction_session_timeout", 100)

    def hold_for_long() -> None:
        with silent.session() as holding:
            holding.execute(sa.update(Upload).values(reason="held"))
            with waiting.session() as session:
                session.execute(sa.update(Upload).values(reason="wanted"))
            holding.execute(sa.update(Upload).values(reason="too late"))

    with pytest.raises(TransientError) as failure:
        hold_for_long()
    assert failure.value.code == "state_unavailable"
    with waiting.session(write=False) as session:
        assert session.scalars(sa.select(Upload.reason)).all() == ["wanted"]


@pytest.mark.postgres
def test_a_statement_that_takes_too_long_is_given_up(
    database: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    if database.dialect != "postgresql":
        pytest.skip("SQLite has no such limit")
    monkeypatch.setitem(session_module.POSTGRES_PATIENCE, "statement_timeout", 50)
    for write in (True, False):
        with pytest.raises(TransientError), database.session(write=write) as session:
            session.execute(sa.text("SELECT pg_sleep(5)"))


@pytest.mark.postgres
def test_a_connection_to_postgres_notices_a_host_that_is_gone_without_a_word(
    postgres: PostgresServer,
) -> None:
    with StateDatabase(postgres.url(TEMPLATE)) as database, database.session(write=False) as session:
        line = socket.socket(fileno=os.dup(session.connection().connection.driver_connection.fileno()))  # type: ignore[union-attr]
        with line:
            assert line.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            waits = [
                line.getsockopt(socket.IPPROTO_TCP, option)
                for option in (
                    socket.TCP_KEEPIDLE,
                    socket.TCP_KEEPINTVL,
                    socket.TCP_KEEPCNT,
                    socket.TCP_USER_TIMEOUT,
                )
            ]
    assert waits == [30, 10, 3, 60_000]
