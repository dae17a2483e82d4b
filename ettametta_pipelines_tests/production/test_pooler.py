"""The state works through a pooler that hands every transaction another connection of the server."""

import os
import threading
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import TransientError
from ettametta_pipelines.state import inbox
from ettametta_pipelines.state.session import POSTGRES_PATIENCE, StateDatabase
from ettametta_pipelines_tests.databases import TEMPLATE, PostgresServer
from ettametta_pipelines_tests.production.servers import PgBouncer, find_pgbouncer

pytestmark = pytest.mark.postgres
NAME = "pooled"


@pytest.fixture(scope="module")
def pooler(postgres: PostgresServer) -> Iterator[PgBouncer]:
    if find_pgbouncer() is None:
        reason = "no pgbouncer here; scripts/install_test_servers.sh installs it"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    postgres.execute(f"CREATE DATABASE {NAME} TEMPLATE {TEMPLATE}")
    with PgBouncer(postgres.port) as server:
        yield server
    postgres.execute(f"DROP DATABASE {NAME} WITH (FORCE)")


@pytest.fixture
def pooled(pooler: PgBouncer) -> Iterator[StateDatabase]:
    with StateDatabase(pooler.url(NAME)) as database:
        yield database


def test_many_more_transactions_at_once_than_there_are_connections_all_commit(pooled: StateDatabase) -> None:
    def store(worker: int) -> None:
        for number in range(10):
            inbox.store(pooled, [inbox.Message("stripe", f"evt_{worker}_{number}", "test", "{}")])

    threads = [threading.Thread(target=store, args=(worker,)) for worker in range(15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with pooled.session(write=False) as session:
        stored = sa.text("select count(*) from webhook_events where event_id like 'evt\\_%'")
        assert session.scalar(stored) == 150


def test_limits_hold_in_every_transaction_and_stay_in_none(pooled: StateDatabase, pooler: PgBouncer) -> None:
    for write in (True, False):
        with pooled.session(write=write) as session:
            for name, milliseconds in POSTGRES_PATIENCE.items():
                shown = session.scalar(
                    sa.text("select setting::int from pg_settings where name = :name"), {"name": name}
                )
                assert shown == milliseconds
    bare = sa.create_engine(pooler.url(NAME), connect_args={"prepare_threshold": None})
    with bare.connect() as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "0"
    bare.dispose()


def test_a_name_is_held_by_one_and_given_back_with_its_transaction(pooled: StateDatabase) -> None:
    inside: list[int] = []
    most: list[int] = []

    def enter(number: int) -> None:
        with pooled.alone("one-at-a-time"):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    threads = [threading.Thread(target=enter, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 12
    with pooled.session(write=False) as session:
        assert session.scalar(sa.text("select count(*) from pg_locks where locktype = 'advisory'")) == 0


def test_the_schema_is_made_through_the_pooler_too(postgres: PostgresServer, pooler: PgBouncer) -> None:
    postgres.execute("CREATE DATABASE pooled_empty")
    with StateDatabase(pooler.url("pooled_empty")) as database:
        database.migrate()
        assert database.revision()
    postgres.execute("DROP DATABASE pooled_empty WITH (FORCE)")


def test_whoever_finds_no_connection_left_is_told_to_come_back(
    pooler: PgBouncer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ettametta_pipelines.state.session.POOL_WAIT_S", 0.2)
    with (
        StateDatabase(pooler.url(NAME), pool=1, overflow=0) as database,
        database.session(write=False) as taken,
    ):
        taken.connection()
        with pytest.raises(TransientError) as caught, database.session(write=False) as session:
            session.connection()
    assert caught.value.code == "state_busy"
