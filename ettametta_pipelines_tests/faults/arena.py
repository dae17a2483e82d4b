"""Where scenarios happen: a sandbox in a process of its own, a database a scenario, and the truth about the posts.

One arena serves many scenarios one after another. What is slow is done once: imports, the sandbox's start, the
migration of a template database, the consent of the account. Time does not pass by waiting: leases and dates of the
next look are set back in the database.
"""

import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

import httpx
import sqlalchemy as sa
from cryptography.fernet import Fernet

from ettametta_pipelines.publishing.delivery import Order, Rendition
from ettametta_pipelines.publishing.disclosure import Disclosure
from ettametta_pipelines.publishing.posts import compose_post
from ettametta_pipelines.publishing.thumbnail import Picture
from ettametta_pipelines.sandbox.core import SandboxStore
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines_tests.faults import worker
from ettametta_pipelines_tests.faults.worker import (
    TIKTOK_CHUNK,
    YOUTUBE_CHUNK,
    Ended,
    Job,
    Point,
    await_worker,
    fork_worker,
    reconnect,
)
from ettametta_pipelines_tests.publishing.conftest import padded, tiny_video

ACCOUNT = "acme"
SOURCE = "acme--0123456789abcdef"
# Three chunks each, the last one short on YouTube and long on TikTok, as their rules cut them.
SIZES = {"youtube": 2 * YOUTUBE_CHUNK + 100_000, "tiktok": 3 * TIKTOK_CHUNK + 10_000}
# What a scenario leaves behind at the vendors; accounts and tokens are put back as they were.
LEFT_BEHIND = ("youtube_session", "youtube_video", "tiktok_upload", "tiktok_post", "tiktok_rate")


class Databases(Protocol):
    """Where the state of a scenario lies: `fresh` gives the URL of a new copy of the template."""

    def template(self) -> str: ...
    def fresh(self) -> str: ...


class SqliteFiles:
    """Copies of one migrated file."""

    def __init__(self, directory: Path) -> None:
        self._template = directory / "template.db"
        self._file = directory / "state.db"

    def template(self) -> str:
        return f"sqlite:///{self._template}"

    def fresh(self) -> str:
        self.put(self._template)
        return f"sqlite:///{self._file}"

    def put(self, copy: Path) -> None:
        """Make this copy the scenario's database, as restoring a backup does."""
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._file}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(copy, self._file)


class PostgresDatabases:
    """Databases of one server, each made from the migrated one."""

    def __init__(self, server: Any, name: str) -> None:
        self._server, self._name = server, name
        self._server.execute(f"CREATE DATABASE {name}_template")

    def template(self) -> str:
        return str(self._server.url(f"{self._name}_template"))

    def fresh(self) -> str:
        self._server.execute(f"DROP DATABASE IF EXISTS {self._name} WITH (FORCE)")
        self._server.execute(f"CREATE DATABASE {self._name} TEMPLATE {self._name}_template")
        return str(self._server.url(self._name))


@dataclass(frozen=True)
class Truth:
    """What is really on the platform: how many posts, whether each has the file's bytes, and our picture if any."""

    posts: tuple[str, ...]
    whole: bool
    shown: bool = True


class Arena:
    """Runs workers of one platform against one sandbox."""

    def __init__(self, databases: Callable[[Path], Databases] = SqliteFiles) -> None:
        shm = Path("/dev/shm")
        self._directory = Path(
            tempfile.mkdtemp(prefix="ettametta-faults-", dir=shm if shm.is_dir() else None)
        )
        self._sandbox = _SandboxProcess(self._directory)
        # What the workers wait for is the scenarios' matter; a busy machine may answer this client when it can.
        # None of its connections is kept: on one that the sandbox is just closing a request would be lost.
        self._http = httpx.Client(
            base_url=self._sandbox.url, trust_env=False, verify=False, timeout=180,
            limits=httpx.Limits(max_keepalive_connections=0),
        )  # fmt: skip
        self._seen = SandboxStore(self._directory / "sandbox")
        self._databases = databases(self._directory)
        # Only files here: obstore's threads, once started, would not follow into a forked worker.
        self._store = self._directory / "store"
        self._key = Fernet.generate_key().decode()
        self._video = tiny_video()
        worker.be_quick()
        worker.keep_certificates()
        self._orders = {platform: self._order(platform, size) for platform, size in SIZES.items()}
        self._picture = self._paint()
        self._connect()
        self._warm_up()

    def __enter__(self) -> "Arena":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()
        self._seen.close()
        self._sandbox.stop()
        shutil.rmtree(self._directory)

    def start(self, platform: str, rules: Iterable[dict[str, Any]] = ()) -> Job:
        """A clean place for a scenario on this platform, with these fault rules."""
        self._forget()
        self.faults(platform, rules)
        return self.job(platform, self._databases.fresh())

    def job(self, platform: str, database_url: str) -> Job:
        return Job(
            platform, database_url, self._store.as_uri(), self._key, self._sandbox.url, self._orders[platform],
            self._picture if platform == "youtube" else None, copy_to=self._directory / "copy.db",
        )  # fmt: skip

    def faults(self, platform: str, rules: Iterable[dict[str, Any]]) -> None:
        """These rules and no others."""
        self._http.delete("/_control/faults").raise_for_status()
        for rule in rules:
            self._http.post("/_control/faults", json={"vendor": platform, **rule}).raise_for_status()

    def run(self, job: Job, point: Point | None = None) -> Ended:
        return await_worker(*fork_worker(job, point))

    def restore(self) -> None:
        """The database as the saboteur copied it, in the place of the one that went on."""
        assert isinstance(self._databases, SqliteFiles)
        self._databases.put(self._directory / "copy.db")

    def lose_rows(self) -> None:
        """The database as it was before the publication was planned."""
        self._databases.fresh()

    def forget(self, kind: str) -> None:
        """The vendor deletes what it holds of this kind."""
        for key, _ in self._seen.items(kind):
            self._seen.delete(kind, key)

    def pass_time(self, job: Job) -> None:
        """Whatever was waited for has come: leases have ended and looks are due."""
        long_ago = "2020-01-01 00:00:00.000000"
        with _connection(job) as connection:
            connection.execute(
                sa.text("UPDATE publications SET lease_until = :t WHERE lease_until IS NOT NULL"),
                {"t": long_ago},
            )
            connection.execute(
                sa.text("UPDATE publications SET next_check_at = :t WHERE next_check_at IS NOT NULL"),
                {"t": long_ago},
            )

    def expire_token(self, job: Job) -> None:
        with _connection(job) as connection:
            connection.execute(
                sa.text("UPDATE oauth_connections SET expires_at = '2020-01-01 00:00:00.000000'")
            )

    def age_session(self, job: Job) -> None:
        """The upload was opened long ago."""
        with _connection(job) as connection:
            connection.execute(
                sa.text("UPDATE publications SET session_opened_at = '2020-01-01 00:00:00.000000'")
            )

    def row(self, job: Job) -> dict[str, Any] | None:
        """The one publication, as the ledger has it."""
        with _connection(job) as connection:
            found = connection.execute(
                sa.text("SELECT state, remote_id, error_code, attempts FROM publications")
            ).mappings()
            return next((dict(row) for row in found), None)

    def reconnect(self, job: Job) -> None:
        reconnect(job)

    def truth(self, job: Job) -> Truth:
        kind = {"youtube": "youtube_video", "tiktok": "tiktok_post"}[job.platform]
        posts = [post for _, post in self._seen.items(kind)]
        expected = job.order.rendition.sha256
        whole = all(_sha256(self._seen.blob_path(post["blob"])) == expected for post in posts)
        shown = job.picture is None or all(post.get("has_custom_thumbnail") for post in posts)
        return Truth(tuple(post["id"] for post in posts), whole, shown)

    def _order(self, platform: str, size: int) -> Order:
        data = padded(self._video, size)
        sha256 = hashlib.sha256(data).hexdigest()
        key = f"media/renditions/{SOURCE}/9x16/{sha256[:16]}.mp4"
        file = self._store / key
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
        post = compose_post(
            platform, Disclosure(synthetic=False), title="Knife skills", description="In ten seconds"
        )
        return Order(ACCOUNT, post, Rendition(SOURCE, key, sha256, size, duration_s=0.25))

    def _paint(self) -> Picture:
        from PIL import Image

        key = f"media/thumbnails/{SOURCE}/plain.jpg"
        file = self._store / key
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (9, 16)).save(file)
        return Picture(key, _sha256(file))

    def _connect(self) -> None:
        with StateDatabase(self._databases.template()) as db:
            db.migrate()
        for platform in SIZES:
            reconnect(self.job(platform, self._databases.template()))
        if isinstance(self._databases, SqliteFiles):
            with _connection(self.job("youtube", self._databases.template())) as connection:
                connection.execute(sa.text("PRAGMA wal_checkpoint(TRUNCATE)"))
        with self._seen._cursor() as cursor:
            cursor.execute("CREATE TABLE kept AS SELECT * FROM objects")

    def _warm_up(self) -> None:
        """Imports and compiled statements that every worker would make anew; what is opened here is closed again."""
        import obstore.store  # noqa: F401 (imported only: its threads start with its first use)

        if isinstance(self._databases, SqliteFiles):
            for platform in SIZES:
                worker.rehearse(self.job(platform, self._databases.fresh()))

    def _forget(self) -> None:
        """Everything the last scenario left at the vendors and in the object store."""
        with self._seen._cursor() as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute("DELETE FROM objects")
            cursor.execute("INSERT INTO objects SELECT * FROM kept")
            cursor.execute("DELETE FROM counters WHERE name LIKE 'youtube_quota%'")
            cursor.execute("DELETE FROM requests")
            cursor.execute("COMMIT")
        for blob in (self._directory / "sandbox" / "blobs").iterdir():
            blob.unlink()
        shutil.rmtree(self._store / "publishing", ignore_errors=True)


class _SandboxProcess:
    """The sandbox in a forked process, which ends when this end of its pipe does."""

    def __init__(self, home: Path) -> None:
        told, tell = os.pipe()
        wait, self._hold = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(told)
            os.close(self._hold)
            _serve(home, tell, wait)
        os.close(tell)
        os.close(wait)
        self.url = os.read(told, 200).decode()
        os.close(told)

    def stop(self) -> None:
        os.close(self._hold)
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)


def _serve(home: Path, tell: int, wait: int) -> None:
    from ettametta_pipelines.sandbox import tiktok
    from ettametta_pipelines.sandbox.server import SandboxServer

    tiktok.MIN_CHUNK = TIKTOK_CHUNK
    # A scenario of many looks asks more often in a minute than a creator may.
    tiktok.RATE_LIMITS = dict.fromkeys(tiktok.RATE_LIMITS, 10_000)
    with SandboxServer(home) as server:
        os.write(tell, server.url.encode())
        os.read(wait, 1)
    os._exit(0)


class _connection:
    """One transaction in a job's database, with nothing kept open that a fork could inherit."""

    def __init__(self, job: Job) -> None:
        self._engine = sa.create_engine(job.database_url, poolclass=sa.NullPool)
        self._begun = self._engine.begin()

    def __enter__(self) -> sa.Connection:
        return self._begun.__enter__()

    def __exit__(self, *failure: Any) -> None:
        self._begun.__exit__(*failure)
        self._engine.dispose()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def with_lease(job: Job, lease_s: float) -> Job:
    return replace(job, lease_s=lease_s)
