"""Opening the relational state: one URL, SQLite or Postgres, the same transactions on both.

Here are connections, transactions, database time and the move to the newest schema. What is read and written in a
transaction is said by the callers. On SQLite every writing transaction starts with BEGIN IMMEDIATE: a transaction
that read first and then wants to write would otherwise fail when another wrote in between, whatever the timeout.
"""

import select
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any
from zlib import crc32

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import InternalError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import Session, sessionmaker

from ettametta_pipelines.failures import NeedsPersonError, PipelineError, TransientError
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state import migrations
from ettametta_pipelines.state.models import Base, DatabaseNow

# A refresh of a token holds SQLite's single write lock over its call; others wait, and then say `state_locked`.
LOCK_WAIT_S = 60
# Arbitrary, but the same in every process that migrates.
MIGRATION_LOCK = 7_238_115_402
BEGIN_OPTION = "ettametta_begin"
# On Postgres: every statement is a transaction of its own, sent whole.
APART = "ettametta_apart"
# Milliseconds on Postgres, in every transaction but a migration's: how long a run waits for what a stuck peer holds,
# how long a statement may take, and after how long the server ends a peer that holds locks and says nothing. A refresh
# of a token is silent over its call, which takes less. Said in the transaction, since a pooler passes on no options.
POSTGRES_PATIENCE = {
    "lock_timeout": LOCK_WAIT_S * 1000,
    "statement_timeout": 2 * LOCK_WAIT_S * 1000,
    "idle_in_transaction_session_timeout": 5 * LOCK_WAIT_S * 1000,
}
# A host that is gone without a word is noticed within a minute: after half a minute of silence the line is tried three
# times, and what was sent is given up unless its arrival is confirmed. The kernel's own patience is two hours.
LINE_PATIENCE = {
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
# For a connection of the pool, before whoever waits is told to come back.
POOL_WAIT_S = 10
WITHOUT_HASTE = "ettametta_without_haste"
WAL_RETRY_S = 0.02
# A connection that rested longer is asked whether it still stands, as PgBouncer does (server_check_delay).
RESTED_S = 30
_SQLITE_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


class StateDatabase:
    """The relational state behind one SQLAlchemy URL. Safe to share between threads, not across a fork."""

    def __init__(self, url: str, *, pool: int = 5, overflow: int = 10) -> None:
        """On Postgres `pool` connections at most stay open, and so many more are opened under load."""
        is_file = url.startswith("sqlite")
        self._engine = _sqlite_engine(url) if is_file else _postgres_engine(url, pool, overflow)
        reading = {BEGIN_OPTION: "BEGIN"} if is_file else {BEGIN_OPTION: "BEGIN READ ONLY", APART: True}
        self._writers = sessionmaker(self._engine, expire_on_commit=False)
        self._readers = sessionmaker(self._engine.execution_options(**reading), expire_on_commit=False)

    @property
    def dialect(self) -> str:
        """`sqlite` or `postgresql`."""
        return self._engine.dialect.name

    @property
    def connections_used(self) -> int:
        """Connections in a transaction right now."""
        pool = self._engine.pool
        return pool.checkedout() if isinstance(pool, sa.QueuePool) else 0

    @contextmanager
    def session(self, *, write: bool = True) -> Iterator[Session]:
        """One transaction: committed when the block ends, rolled back when it raises.

        Rows stay readable after the block. With `write=False` the transaction only reads, and on SQLite neither
        waits for writers nor holds them up; on Postgres each statement of it then is a transaction, which sees what
        READ COMMITTED would show it anyway. A database that is away, locked or full raises a PipelineError.
        """
        maker = self._writers if write else self._readers
        try:
            with maker() as session, session.begin():
                yield session
        except PoolTimeout as error:
            raise TransientError(
                f"All connections of this process to the state database are in use ({POOL_WAIT_S} s).",
                code="state_busy",
                remedy="Try again; if it stays, see ETTAMETTA_DATABASE_POOL in docs/production.md.",
                retry_after_s=5,
            ) from error
        except (InternalError, OperationalError) as error:
            if (explained := _explained(error)) is None:
                raise
            raise explained from error

    @contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """One process at a time is inside for a name. SQLite has one lock for all writers: be quick inside."""
        with self.session() as session:
            # Begins the transaction, which on SQLite is the lock.
            session.connection()
            if self.dialect == "postgresql":
                session.execute(sa.select(sa.func.pg_advisory_xact_lock(crc32(name.encode()))))
            yield

    def now(self, session: Session) -> datetime:
        """The database's clock, aware UTC; the only time that leases and expiries are compared with."""
        return session.scalars(sa.select(DatabaseNow())).one()

    def migrate(self) -> None:
        """Bring the schema to the newest revision. Cheap when it is there; safe in many processes at once."""
        if self.revision() == migrations.HEAD:
            return
        if self.dialect == "sqlite":
            self._turn_on_wal()
        try:
            with self._engine.execution_options(**{WITHOUT_HASTE: True}).begin() as connection:
                # On SQLite the transaction itself is the lock: it began immediate.
                if self.dialect == "postgresql":
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
                migrations.upgrade(connection)
        except (InternalError, OperationalError) as error:
            if (explained := _explained(error)) is None:
                raise
            raise explained from error

    def revision(self) -> str | None:
        """Schema revision the database is at; None for an empty database."""
        with self.session(write=False) as session:
            if not sa.inspect(session.connection()).has_table(migrations.VERSION_TABLE):
                return None
            versions = sa.table(migrations.VERSION_TABLE, sa.column("version_num", sa.String))
            return session.scalar(sa.select(versions.c.version_num))

    def close(self) -> None:
        """Close pooled connections. The object may be used again and then opens new ones."""
        self._engine.dispose()

    def __enter__(self) -> "StateDatabase":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _turn_on_wal(self) -> None:
        # Written into the file once; outside a transaction, since the mode cannot change within one. The change needs
        # the file alone and does not wait for it, so of several processes at once all but one are told it is locked.
        deadline = time.monotonic() + LOCK_WAIT_S
        connection = self._engine.raw_connection()
        try:
            while True:
                try:
                    connection.cursor().execute("PRAGMA journal_mode=WAL")
                    return
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode & 0xFF not in _SQLITE_LOCKED or time.monotonic() > deadline:
                        raise
                    time.sleep(WAL_RETRY_S)
        finally:
            connection.close()


def open_state(settings: Settings) -> StateDatabase:
    """The state database of these settings, at the newest schema. Makes the directory of a SQLite file.

    One per URL and process, so that connections are shared and the schema is looked at once.
    """
    return _shared_state(settings.database_url, settings.database_pool, settings.database_overflow)


@lru_cache(maxsize=8)
def _shared_state(url: str, pool: int, overflow: int) -> StateDatabase:
    if url.startswith("sqlite"):
        file = sa.make_url(url).database
        if file:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
    database = StateDatabase(url, pool=pool, overflow=overflow)
    database.migrate()
    return database


def insert_if_absent(session: Session, model: type[Base], row: Mapping[str, object]) -> bool:
    """Insert unless a unique key is taken; waits for a racing transaction to decide. True when it was inserted."""
    insert = INSERTS[session.get_bind().dialect.name]
    statement = insert(model).values(row).on_conflict_do_nothing().returning(sa.literal_column("1"))
    return session.execute(statement).first() is not None


INSERTS: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def _sqlite_engine(url: str) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": LOCK_WAIT_S}, hide_parameters=True)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        # sqlite3 would begin deferred, and only before the first write; SQLAlchemy's `begin` event does it instead.
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA foreign_keys=ON")
        # FULL: a claim that is committed must survive a power cut, or the act it covers happens twice.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(BEGIN_OPTION, "BEGIN IMMEDIATE"))

    return engine


def _postgres_engine(url: str, pool: int, overflow: int) -> sa.Engine:
    """An engine that waits for its database as seldom as can be: it may be 20 ms away.

    A transaction and its limits begin in one trip, one that only reads is one trip as a whole, and whether a connection
    still stands is mostly seen without asking. A test counts the trips of every route.
    """
    # A transaction pooler in between (PgBouncer) hands every transaction another server connection, where statements
    # prepared on the last one do not exist.
    engine = sa.create_engine(
        url,
        connect_args={
            "prepare_threshold": None,
            "connect_timeout": 10,
            "application_name": "ettametta",
            # Or psycopg would send BEGIN alone, and wait for it. It is ours to send: see `_begin_with`.
            "autocommit": True,
            **LINE_PATIENCE,
        },
        use_native_hstore=False,
        pool_size=pool,
        max_overflow=overflow,
        pool_timeout=POOL_WAIT_S,
        hide_parameters=True,
    )

    event.listen(engine, "do_execute", _begin_with)
    event.listen(
        engine, "do_executemany", lambda cursor, _, __, context: _begin_with(cursor, None, None, context)
    )
    event.listen(
        engine, "do_execute_no_params", lambda cursor, text, context: _begin_with(cursor, text, None, context)
    )
    event.listen(engine, "checkin", _note_rest)
    event.listen(engine, "checkout", _look_at_line)
    return engine


def _begin_with(cursor: Any, statement: str | None, parameters: Any, context: Any) -> bool:
    """Begin the transaction of a first statement; one that reads is sent with all of its own and waited for once.

    True where the statement was executed. Every way SQLAlchemy has to a cursor leads here, so that none is outside of
    a transaction.
    """
    import psycopg

    connection = cursor.connection
    if connection.pgconn.transaction_status != psycopg.pq.TransactionStatus.IDLE:
        return False
    options = context.execution_options
    begin = [options.get(BEGIN_OPTION, "BEGIN")]
    if not options.get(WITHOUT_HASTE):
        limits = (f"set_config('{name}', '{ms}', true)" for name, ms in POSTGRES_PATIENCE.items())
        begin.append(f"SELECT {', '.join(limits)}")
    if not options.get(APART) or statement is None:
        # Not pipelined: psycopg ends a pipeline with a Flush, after which the server no longer counts how long a
        # transaction is idle, and one that holds locks and says nothing would never be ended.
        connection.execute("; ".join(begin))
        return False
    with connection.pipeline():
        for sent in begin:
            connection.execute(sent)
        cursor.execute(statement, parameters)
        connection.execute("COMMIT")
    return True


def _note_rest(_: Any, record: Any) -> None:
    record.info["rests_since"] = time.monotonic()


def _look_at_line(connection: Any, record: Any, _: Any) -> None:
    """Replace a connection that has ended meanwhile. The end of one lies in its socket, unread, and costs no trip.

    Only a host that went without a word is not seen so: whatever rested for long is asked.
    """
    import psycopg

    rested = time.monotonic() - record.info.get("rests_since", time.monotonic())
    line = select.poll()
    try:
        line.register(connection.fileno(), select.POLLIN)
        stands = not line.poll(0)
        if stands and rested > RESTED_S:
            connection.execute("")
    except psycopg.OperationalError:
        stands = False
    if not stands:
        raise sa.exc.InvalidatePoolError("The connection has ended.")


# Waited too long for a lock, or for a statement.
_POSTGRES_LOCKED = frozenset({"55P03", "57014"})
ENDED_WHILE_SILENT = "25P03"
# SQLite's primary result codes that are about the machine, not about the statement.
_SQLITE_TROUBLE: dict[int, tuple[type[PipelineError], str, str, str]] = {
    5: (TransientError, "state_locked", "is locked by another process", "Try again; find the process if it stays."),
    6: (TransientError, "state_locked", "is locked by another process", "Try again; find the process if it stays."),
    8: (NeedsPersonError, "state_read_only", "cannot be written", "Check owner and permissions of its directory."),
    10: (NeedsPersonError, "state_io_error", "cannot be read or written", "Check the disk under ETTAMETTA_HOME."),
    13: (NeedsPersonError, "state_disk_full", "has no space left", "Free space under ETTAMETTA_HOME, then run again."),
    14: (NeedsPersonError, "state_cannot_open", "cannot be opened", "Check DATABASE_URL and ETTAMETTA_HOME."),
}  # fmt: skip


def _explained(error: InternalError | OperationalError) -> PipelineError | None:
    """The taxonomy's view of a database that did not do its work; None for a faulty statement."""
    if isinstance(error.orig, sqlite3.Error):
        trouble = _SQLITE_TROUBLE.get(error.orig.sqlite_errorcode & 0xFF)
        if trouble is None:
            return None
        kind, code, what, remedy = trouble
        return kind(f"The state database {what}.", code=code, remedy=remedy)
    sqlstate = getattr(error.orig, "sqlstate", None)
    if sqlstate in _POSTGRES_LOCKED:
        return TransientError(
            f"Another process holds what is needed of the state database ({type(error.orig).__name__}).",
            code="state_locked",
            remedy="Try again; if it stays, `select * from pg_stat_activity where state <> 'idle'` shows who holds it.",
            retry_after_s=5,
        )
    if isinstance(error, InternalError) and sqlstate != ENDED_WHILE_SILENT:
        return None
    return TransientError(
        f"The state database did not answer ({type(error.orig).__name__}).",
        code="state_unavailable",
        remedy="Check that the database of DATABASE_URL is up and lets this user in.",
        retry_after_s=5,
    )
