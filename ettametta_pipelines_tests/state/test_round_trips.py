"""Sessions on Postgres: how often they wait for the server, and that what is sent together is still one transaction."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import sqlalchemy as sa

from ettametta_pipelines.failures import TransientError
from ettametta_pipelines.state import session as session_module
from ettametta_pipelines.state.models import Upload
from ettametta_pipelines.state.session import POSTGRES_PATIENCE, StateDatabase
from ettametta_pipelines_tests.databases import TEMPLATE, PostgresServer
from ettametta_pipelines_tests.trips import Trips, counted

pytestmark = pytest.mark.postgres


def upload(etag: str) -> dict[str, object]:
    return {
        "object_key": "uploads/a", "etag": etag, "size": 3, "status": "accepted", "seen_at": datetime.now(UTC)
    }  # fmt: skip


@pytest.fixture
def name(postgres: PostgresServer) -> Iterator[str]:
    made = f"test_{uuid4().hex}"
    postgres.execute(f"CREATE DATABASE {made} TEMPLATE {TEMPLATE}")
    yield made
    postgres.execute(f"DROP DATABASE {made} WITH (FORCE)")


@pytest.fixture
def counting(postgres: PostgresServer, name: str) -> Iterator[tuple[StateDatabase, Trips]]:
    with counted(postgres, name) as (url, trips), StateDatabase(url) as database:
        with database.session(write=False) as session:
            session.execute(sa.text("SELECT 1"))
        yield database, trips


def _first_one(session: sa.orm.Session) -> None:
    session.execute(sa.insert(Upload).values(upload("1")))


def _first_many(session: sa.orm.Session) -> None:
    # Without RETURNING, so that it goes the driver's way for many.
    session.connection().execute(sa.insert(Upload.__table__), [upload("1"), upload("2")])  # type: ignore[arg-type]


def _first_bare(session: sa.orm.Session) -> None:
    connection = session.connection().execution_options(no_parameters=True)
    connection.exec_driver_sql("INSERT INTO uploads (object_key, etag, size, status, seen_at) SELECT 'a%', '1', 3, 'accepted', now()")  # noqa: E501  # fmt: skip


FIRST = [_first_one, _first_many, _first_bare]


def test_a_statement_that_reads_is_one_trip_and_one_that_writes_adds_its_begin_and_commit(
    counting: tuple[StateDatabase, Trips],
) -> None:
    database, trips = counting
    took = []
    for write in (False, True):
        for statements in (0, 1, 3):
            before = trips.count
            with database.session(write=write) as session:
                for _ in range(statements):
                    session.execute(sa.select(sa.func.count()).select_from(Upload))
            took.append(trips.count - before)
    assert took == [0, 1, 3, 0, 3, 5]


@pytest.mark.parametrize("first", FIRST)
def test_whatever_comes_first_begins_the_transaction_of_the_whole_block(
    counting: tuple[StateDatabase, Trips], first: Callable[[sa.orm.Session], None]
) -> None:
    database, _ = counting
    with database.session() as session:
        first(session)
        limits = sa.text("SELECT name, setting::int FROM pg_settings WHERE name = ANY(:names)")
        found = session.execute(limits, {"names": list(POSTGRES_PATIENCE)}).tuples()
        assert dict(found.all()) == POSTGRES_PATIENCE
        session.execute(sa.insert(Upload).values(upload("3")))
    with database.session(write=False) as session:
        assert session.scalar(sa.text("SELECT count(DISTINCT xmin::text) FROM uploads")) == 1


@pytest.mark.parametrize("first", FIRST)
def test_a_block_that_fails_takes_back_its_first_statement_too(
    counting: tuple[StateDatabase, Trips], first: Callable[[sa.orm.Session], None]
) -> None:
    database, _ = counting

    def fail() -> None:
        with database.session() as session:
            first(session)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    with database.session(write=False) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Upload)) == 0


def test_a_first_statement_that_is_refused_leaves_a_connection_that_works(
    counting: tuple[StateDatabase, Trips],
) -> None:
    database, _ = counting
    for write in (False, True):
        with (
            pytest.raises(sa.exc.ProgrammingError, match="no_such_table"),
            database.session(write=write) as session,
        ):
            session.execute(sa.text("SELECT * FROM no_such_table"))
        with database.session(write=write) as session:
            assert session.scalar(sa.text("SELECT 1")) == 1


def test_connections_that_the_server_ended_are_replaced_before_anybody_notices(
    counting: tuple[StateDatabase, Trips], postgres: PostgresServer, name: str
) -> None:
    database, _ = counting
    with database.session() as one, database.session() as other:
        for session in (one, other):
            session.execute(sa.text("SELECT 1"))
    postgres.execute(
        f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '{name}'"
    )
    for _ in range(3):
        with database.session() as session:
            assert session.scalar(sa.text("SELECT 1")) == 1


def test_a_connection_that_is_ended_within_a_transaction_loses_it_and_says_so(
    counting: tuple[StateDatabase, Trips], postgres: PostgresServer, name: str
) -> None:
    database, _ = counting

    def write_on() -> None:
        with database.session() as session:
            session.execute(sa.insert(Upload).values(upload("1")))
            postgres.execute(
                f"SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = '{name}'"
            )
            session.execute(sa.insert(Upload).values(upload("2")))

    with pytest.raises(TransientError, match="did not answer"):
        write_on()
    with database.session(write=False) as session:
        assert session.scalar(sa.select(sa.func.count()).select_from(Upload)) == 0


def test_a_connection_that_rested_for_long_is_asked_first(
    counting: tuple[StateDatabase, Trips], monkeypatch: pytest.MonkeyPatch
) -> None:
    database, trips = counting
    monkeypatch.setattr(session_module, "RESTED_S", -1)
    before = trips.count
    with database.session(write=False) as session:
        session.execute(sa.text("SELECT 1"))
    assert trips.count - before == 2
