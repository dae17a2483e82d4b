"""PgBouncer, Redis and an S3 server on 127.0.0.1, each a process of ours on a free port, stopped by its process id.

Postgres is in `databases.py`. What they store is gone with them.
"""

import os
import shutil
import sys
from pathlib import Path

from ettametta_pipelines_tests.servers import Server, first_user

# As the cluster's pooler; few enough that a test sees connections handed on from one transaction to the next.
POOL_SIZE = 10


class PgBouncer(Server):
    """Transaction pooling in front of a Postgres server that trusts its user.

    Before 1.21 it knows no prepared statements, from then on it is told to know none: what works here works on both.
    """

    def __init__(self, postgres_port: int, *, user: str = "tests") -> None:
        super().__init__()
        self._postgres_port, self._database_user = postgres_port, user

    def command(self) -> list[str]:
        users = self.directory / "users.txt"
        users.write_text(f'"{self._database_user}" ""\n')
        settings = self.directory / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n* = host=127.0.0.1 port={self._postgres_port}\n\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            f"auth_type = trust\nauth_file = {users}\nadmin_users = {self._database_user}\n"
            f"pool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\nmax_client_conn = 200\n"
            "ignore_startup_parameters = extra_float_digits\n"
        )
        if self.user():
            for path in (self.directory, users, settings):
                shutil.chown(path, self.user())
        return [str(find_pgbouncer()), str(settings)]

    def user(self) -> str | None:
        # It refuses root, as Postgres does.
        return None if os.geteuid() else first_user("postgres", "pgbouncer", "nobody")

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://{self._database_user}@127.0.0.1:{self.port}/{database}"

    def transactions(self) -> int:
        """How many it has passed on since it started."""
        import psycopg

        address = f"host=127.0.0.1 port={self.port} user={self._database_user} dbname=pgbouncer"
        with psycopg.connect(address, autocommit=True, prepare_threshold=None) as console:
            found = psycopg.ClientCursor(console).execute("SHOW STATS")
            place = [column.name for column in found.description or ()].index("total_xact_count")
            return sum(int(row[place]) for row in found)


class Redis(Server):
    """Redis that keeps nothing: a cache."""

    def command(self) -> list[str]:
        return [
            shutil.which("redis-server") or "redis-server", "--port", str(self.port), "--bind", "127.0.0.1",
            "--save", "", "--appendonly", "no", "--maxmemory", "64mb", "--maxmemory-policy", "allkeys-lru",
        ]  # fmt: skip

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class S3(Server):
    """moto's S3 server; it forgets everything when it is stopped."""

    def command(self) -> list[str]:
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def find_pgbouncer() -> Path | None:
    """The program, where packages put it for root; None where there is none."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    return Path(found) if found else None
