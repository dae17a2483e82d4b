"""The two databases the state is tested on: SQLite in a directory, and a Postgres server of this test session.

The server's data lie in a temporary directory, it listens on 127.0.0.1 on a free port, runs as an unprivileged user
(Postgres refuses root) and is stopped by its process id. Every test gets a database of its own, copied from one
that is migrated once. Fixtures are exported by `conftest.py`.
"""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.servers import START_TIMEOUT_S, Server, first_user

TEMPLATE = "migrated"


def find_postgres_binaries() -> Path | None:
    """Directory of `postgres` and `initdb`: the ones on PATH, else the newest under /usr/lib/postgresql."""
    on_path = shutil.which("initdb")
    candidates = [Path(on_path).resolve().parent] if on_path else []
    candidates += sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: int(p.parent.name), reverse=True
    )
    return next((p for p in candidates if (p / "initdb").exists() and (p / "postgres").exists()), None)


class PostgresServer(Server):
    """One server over a temporary directory; `start` raises RuntimeError with the server's log.

    Only a `durable` one waits for its disk at a commit, as a real one does.
    """

    stop_signal = signal.SIGINT

    def __init__(self, binaries: Path, *, durable: bool = False) -> None:
        super().__init__()
        self._binaries = binaries
        self._durable = durable

    def start(self) -> "PostgresServer":
        if user := self.user():
            shutil.chown(self.directory, user)
        self._make()
        return super().start()

    def user(self) -> str | None:
        # It refuses root.
        return None if os.geteuid() else first_user("postgres", "nobody")

    def command(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "port": str(self.port),
            "fsync": "on" if self._durable else "off",
            "max_connections": "60",
            "shared_buffers": "16MB",
        }
        arguments = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._data), *arguments]

    def answers(self) -> bool:
        import psycopg

        try:
            psycopg.connect(self._maintenance).close()
        except psycopg.OperationalError:
            return False
        return True

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://tests@127.0.0.1:{self.port}/{database}"

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    def execute(self, statement: str) -> None:
        """One statement outside a transaction, in the maintenance database."""
        import psycopg

        with psycopg.connect(self._maintenance, autocommit=True) as connection:
            connection.execute(statement.encode())

    def crash(self) -> None:
        """As `pg_ctl stop -m immediate`: every connection is cut, nothing is written down; `restart` recovers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(timeout=START_TIMEOUT_S)

    def restart(self) -> None:
        """Start over the same data on the same port; returns when connections are taken again."""
        if not self.launch():
            raise RuntimeError(f"Postgres did not start again:\n{self.log.read_text()}")

    @property
    def _maintenance(self) -> str:
        return f"host=127.0.0.1 port={self.port} user=tests dbname=postgres connect_timeout={START_TIMEOUT_S}"

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    def _make(self) -> None:
        user = self.user()
        done = subprocess.run(
            [
                self._binaries / "initdb", "-D", self._data, "--no-sync", "--auth=trust", "--username=tests",
                "--encoding=UTF8", "--locale=C",
            ],
            user=user, group=pwd.getpwnam(user).pw_gid if user else None, extra_groups=[] if user else None,
            cwd=self.directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"initdb failed: {done.stderr}")


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's Postgres server. Missing binaries skip the test, but fail it in CI."""
    binaries = find_postgres_binaries()
    if binaries is None:
        reason = "no postgres and initdb here; scripts/install_test_servers.sh installs them"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    server = PostgresServer(binaries)
    try:
        server.start()
        server.execute(f"CREATE DATABASE {TEMPLATE}")
        template = StateDatabase(server.url(TEMPLATE))
        template.migrate()
        template.close()
        yield server
    finally:
        server.stop()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def empty_database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database without tables, once per kind of database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'state.db'}"
        return
    yield from _database_of(request, "template1")


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of a database at the newest schema, once per kind of database."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'state.db'}"
        StateDatabase(url).migrate()
        yield url
        return
    yield from _database_of(request, TEMPLATE)


def _database_of(request: pytest.FixtureRequest, template: str) -> Iterator[str]:
    server: PostgresServer = request.getfixturevalue("postgres")
    name = f"test_{uuid4().hex}"
    server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
    yield server.url(name)
    server.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def open_database(database_url: str) -> Iterator[Callable[[], StateDatabase]]:
    """Opens the test's database again and again, as separate processes would."""
    opened: list[StateDatabase] = []

    def open_it() -> StateDatabase:
        opened.append(StateDatabase(database_url))
        return opened[-1]

    yield open_it
    for database in opened:
        database.close()


@pytest.fixture
def database(open_database: Callable[[], StateDatabase]) -> StateDatabase:
    """The state database at the newest schema, on SQLite and on Postgres."""
    return open_database()
