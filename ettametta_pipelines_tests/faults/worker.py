"""The worker process of a scenario: the real upload code, and a saboteur that strikes it at one point.

The product knows nothing of this. In a forked process the saboteur wraps the transactions of the state database, the
calls of the platforms' clients and the sockets below them, counts what passes, and at the point it was given kills
the process, stops it, copies the database away, fills the disk or cuts the database off.
"""

import json
import os
import re
import resource
import select
import signal
import socket
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import PipelineError, TransientError
from ettametta_pipelines.publishing import tiktok_upload, youtube_upload
from ettametta_pipelines.publishing.connections import connect, require
from ettametta_pipelines.publishing.delivery import Order, Patience, Workshop
from ettametta_pipelines.publishing.ledger import Intent, Ledger, State
from ettametta_pipelines.publishing.thumbnail import Picture, show_by
from ettametta_pipelines.publishing.tokens import Envelope, access_token
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.state import quota
from ettametta_pipelines.state import session as state_session
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.vendors import tiktok as tiktok_client
from ettametta_pipelines.vendors import youtube as youtube_client

# Bodies of uploads are larger than this, everything else that is sent is smaller.
BODY_BYTES = 8192
# A quarter of what YouTube and TikTok ask for at least, so that a scenario moves kilobytes.
TIKTOK_CHUNK = 65_536
YOUTUBE_CHUNK = youtube_client.CHUNK_MULTIPLE
TIMEOUT_S = 0.5
LOCK_WAIT_S = 0.2
# How long a worker that is to be struck before it reads an answer waits for that answer.
ANSWER_S = 3.0
REACHED = b"!"

PATIENCE = Patience(
    polls=4, poll_wait_s=0, stalls=3, stall_wait_s=0, looks=3, look_for=timedelta(0), look_again_in=timedelta(0)
)  # fmt: skip

LEDGER_STEPS = (
    "plan", "claim", "renew", "let_go", "advance", "spend_upload_slot", "note_trouble", "count_check",
)  # fmt: skip
YOUTUBE_CALLS = {
    "open_upload_session": "open", "query_session": "query", "video_status": "status", "recent_uploads": "listing",
    "set_thumbnail": "thumbnail",
}  # fmt: skip
TIKTOK_CALLS = {"creator_info": "creator", "init_upload": "open", "status": "status"}


@dataclass(frozen=True)
class Point:
    """Where the worker is struck: the `nth` time that `when` is reached with a label that `what` matches whole.

    `when`: `begin`, `before_commit` or `after_commit` of a write whose label is the ledger's method or, for a step of
    the state machine, `FROM>TO`; `before_call`, `mid_body` (half of it is sent), `answered` (the answer is there and
    unread) or `after_call` of a client's call; `done`, when the upload code has returned.
    `act`: `kill`, `stop`, `copy` (the database), `full` (the disk), `lock`, `cut` (the database's connection).
    """

    when: str
    what: str
    nth: int = 1
    act: str = "kill"


@dataclass(frozen=True)
class Job:
    """What one worker process works with and is asked to do."""

    platform: str
    database_url: str
    store_url: str
    key: str
    sandbox_url: str
    order: Order
    picture: Picture | None = None
    copy_to: Path | None = None
    lease_s: float = 60.0

    @property
    def envelope(self) -> Envelope:
        return Envelope([self.key])

    def app(self) -> Any:
        name = {"youtube": "google", "tiktok": "tiktok"}[self.platform]
        endpoint = VendorEndpoint(
            name,
            "sandbox",
            f"{self.sandbox_url}/{self.platform}/",
            "test",
            timeout_s=TIMEOUT_S,
            max_retries=0,
        )
        if self.platform == "youtube":
            return youtube_client.YouTubeApp(endpoint, endpoint.base_url + "token")
        return tiktok_client.TikTokApp(endpoint, sleep=lambda _: None)


def be_quick() -> None:
    """The vendor's smallest chunk on our side, the sandbox's lowered where it starts; no wait for locks."""
    tiktok_client.MIN_CHUNK = TIKTOK_CHUNK
    state_session.LOCK_WAIT_S = LOCK_WAIT_S


@lru_cache(maxsize=1)
def keep_certificates() -> None:
    """Read them once for all workers: nothing here is encrypted, and reading them takes longer than an upload."""
    from httpx._transports import default

    default.create_ssl_context = lru_cache(maxsize=2)(default.create_ssl_context)  # type: ignore[attr-defined]
    httpx.Client().close()


# Engines made before the fork, by URL: without a connection, but with the statements compiled.
REHEARSED: dict[str, StateDatabase] = {}


def rehearse(job: Job) -> None:
    """The ledger's steps once, so that workers forked from here find their statements compiled."""
    db = REHEARSED.setdefault(job.database_url, StateDatabase(job.database_url))
    order = job.order
    made = order.rendition
    ledger = Ledger(db, job.envelope, clock=utc_now)
    intent = Intent(
        job.platform, order.account, "channel", made.source_id, made.object_key, made.sha256, made.size_bytes,
        order.post.title, order.post.privacy,
    )  # fmt: skip
    row = ledger.plan(intent)
    require(db, order.account, job.platform)
    access_token(db, job.app(), order.account, job.platform, envelope=job.envelope)
    with ledger.claimed(row.id) as claim:
        ledger.renew(claim, received_bytes=0)
        ledger.spend_upload_slot(claim)
        ledger.advance(claim, State.SESSION_OPEN, reason="", handle={}, received_bytes=0, url="")
        ledger.advance(claim, State.FINALIZING, reason="", received_bytes=0)
        ledger.advance(claim, State.RECONCILING, reason="")
        ledger.count_check(claim, next_in=timedelta(0))
        ledger.look_is_due(claim)
        ledger.age_of_doubt(claim)
        ledger.age_of_session(claim)
        ledger.advance(claim, State.PROCESSING, reason="", remote_id="1", url="")
        ledger.advance(claim, State.PUBLISHED, reason="", privacy="private")
    quota.commit(db, quota.reserve(db, "youtube", "units", 1, utc_now))
    db.close()


def reconnect(job: Job) -> None:
    """What a person does when the alert asks for it."""
    with StateDatabase(job.database_url) as db:
        connect(
            db,
            job.app(),
            job.order.account,
            job.platform,
            f"sandbox-{job.order.account}",
            envelope=job.envelope,
        )


def work(job: Job, point: Point | None, report: int) -> None:
    """Post once. `report`, a file descriptor, gets REACHED when the point is reached, then the outcome as JSON."""
    saboteur = Saboteur(job, point, report)
    saboteur.install()
    with REHEARSED.get(job.database_url) or StateDatabase(job.database_url) as db:
        workshop = Workshop(
            db,
            ObjectStore.from_url(job.store_url),
            job.envelope,
            PATIENCE,
            sleep=lambda _: None,
            lease_s=job.lease_s,
        )
        try:
            if job.platform == "youtube":
                outcome = youtube_upload.publish(workshop, job.app(), job.order, chunk_size=YOUTUBE_CHUNK)
                show_by(workshop, job.app(), outcome.publication.id, job.picture)
            else:
                outcome = tiktok_upload.publish(workshop, job.app(), job.order, chunk_size=TIKTOK_CHUNK)
        except PipelineError as error:
            told = {"error": error.code, "message": error.message}
        else:
            saboteur.reach("done", "done")
            told = {"state": outcome.publication.state, "posted": outcome.posted}
    os.write(report, json.dumps(told | {"trace": saboteur.trace}).encode())


class Saboteur:
    """Counts what passes and strikes once."""

    def __init__(self, job: Job, point: Point | None, report: int) -> None:
        self._job = job
        self._point = point
        self._report = report
        self._count = 0
        self._label = "other"
        self._call = ""
        self._blocker: sqlite3.Connection | None = None
        self.trace: list[str] = []

    def reach(self, when: str, what: str, session: Any = None) -> None:
        self.trace.append(f"{when} {what}")
        if self._is_due(when, what) and self._point is not None:
            os.write(self._report, REACHED)
            getattr(self, f"_{self._point.act}")(session)

    def _is_due(self, when: str, what: str) -> bool:
        point = self._point
        if point is None or point.when != when or not re.fullmatch(point.what, what):
            return False
        self._count += 1
        return self._count == point.nth

    def _kill(self, _: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _stop(self, _: Any) -> None:
        os.kill(os.getpid(), signal.SIGSTOP)

    def _copy(self, _: Any) -> None:
        source = sqlite3.connect(self._sqlite_file)
        with sqlite3.connect(str(self._job.copy_to)) as target:
            source.backup(target)
        target.close()
        source.close()

    def _full(self, _: Any) -> None:
        """No file may grow beyond the log of the database, as on a disk without a free block."""
        log = Path(f"{self._sqlite_file}-wal")
        size = log.stat().st_size if log.exists() else 0
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

    def _lock(self, _: Any) -> None:
        self._blocker = sqlite3.connect(self._sqlite_file, isolation_level=None)
        self._blocker.execute("BEGIN IMMEDIATE")

    def _cut(self, session: Any) -> None:
        """Before the commit the server ends the connection; after it, its answer is what is lost."""
        import psycopg

        if session is None:
            lost = psycopg.OperationalError("server closed the connection unexpectedly")
            explained = state_session._explained(sa.exc.OperationalError("COMMIT", {}, lost))
            raise explained or TransientError("The connection was cut.", code="state_unavailable")
        pid = session.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        url = sa.make_url(self._job.database_url)
        with psycopg.connect(
            host=url.host, port=url.port, user=url.username, dbname="postgres", autocommit=True
        ) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))

    @property
    def _sqlite_file(self) -> str:
        return str(sa.make_url(self._job.database_url).database)

    def install(self) -> None:
        self._wrap_database()
        self._wrap_ledger()
        if self._job.platform == "youtube":
            self._wrap_calls(youtube_client.YouTubeChannel, YOUTUBE_CALLS, "put_range", total_at=3)
            self._wrap_calls(youtube_client.YouTubeApp, {"refresh": "refresh"})
        else:
            self._wrap_calls(tiktok_client.TikTokCreator, TIKTOK_CALLS, "put_chunk", total_at=3)
            self._wrap_calls(tiktok_client.TikTokApp, {"refresh": "refresh"})
        self._wrap_sockets()

    def _wrap_database(self) -> None:
        saboteur, original = self, StateDatabase.session

        @contextmanager
        def session(db: StateDatabase, *, write: bool = True) -> Iterator[Any]:
            if not write:
                with original(db, write=False) as opened:
                    yield opened
                return
            saboteur.reach("begin", saboteur._label)
            with original(db) as opened:
                yield opened
                opened.flush()
                saboteur.reach("before_commit", saboteur._label, opened)
            saboteur.reach("after_commit", saboteur._label)

        StateDatabase.session = session  # type: ignore[method-assign, assignment]

    def _wrap_ledger(self) -> None:
        for name in LEDGER_STEPS:
            setattr(Ledger, name, self._labelled(name, getattr(Ledger, name)))
        original = Ledger._note
        saboteur = self

        def note(ledger: Ledger, session: Any, publication_id: str, before: Any, to: Any, *rest: Any) -> None:
            saboteur._label = f"{before or ''}>{to}"
            original(ledger, session, publication_id, before, to, *rest)

        Ledger._note = note  # type: ignore[method-assign, assignment]

    def _labelled(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def labelled(*args: Any, **kwargs: Any) -> Any:
            self._label = name
            try:
                return method(*args, **kwargs)
            finally:
                self._label = "other"

        return labelled

    def _wrap_calls(
        self, client: type, names: dict[str, str], put: str | None = None, total_at: int = 0
    ) -> None:
        for name, label in names.items():
            setattr(client, name, self._called(getattr(client, name), lambda *_, label=label: label))
        if put is not None:

            def which(_: Any, _uri: str, data: bytes, start: int, total: int) -> str:
                return "last" if start + len(data) == total else "chunk"

            setattr(client, put, self._called(getattr(client, put), which))

    def _called(self, method: Callable[..., Any], label_of: Callable[..., str]) -> Callable[..., Any]:
        def called(*args: Any, **kwargs: Any) -> Any:
            label = label_of(*args)
            self.reach("before_call", label)
            self._call = label
            try:
                answer = method(*args, **kwargs)
            finally:
                self._call = ""
            self.reach("after_call", label)
            return answer

        return called

    def _wrap_sockets(self) -> None:
        saboteur = self

        def sending(original: Callable[..., Any]) -> Callable[..., Any]:
            def send(sock: socket.socket, data: Any, *rest: Any) -> Any:
                if saboteur._call and len(data) > BODY_BYTES:
                    if saboteur._point is not None and saboteur._point.when == "mid_body":
                        half = memoryview(data)[: len(data) // 2]
                        sent = original(sock, half, *rest)
                        saboteur.reach("mid_body", saboteur._call)
                        return (
                            sent
                            if original.__name__ == "send"
                            else original(sock, memoryview(data)[len(half) :])
                        )
                    saboteur.reach("mid_body", saboteur._call)
                return original(sock, data, *rest)

            return send

        def receiving(original: Callable[..., Any]) -> Callable[..., Any]:
            def receive(sock: socket.socket, *args: Any) -> Any:
                if saboteur._call:
                    if saboteur._point is not None and saboteur._point.when == "answered":
                        select.select([sock], [], [], ANSWER_S)
                    saboteur.reach("answered", saboteur._call)
                return original(sock, *args)

            return receive

        for name in ("send", "sendall"):
            setattr(socket.socket, name, sending(getattr(socket.socket, name)))
        for name in ("recv", "recv_into"):
            setattr(socket.socket, name, receiving(getattr(socket.socket, name)))


def fork_worker(job: Job, point: Point | None) -> tuple[int, int]:
    """Start a worker; (process id, file descriptor its report comes from)."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(reading)
            work(job, point, writing)
            status = 0
        except BaseException:  # noqa: BLE001 (nothing may leave the forked process but by its report)
            import traceback

            with suppress(OSError):
                os.write(writing, json.dumps({"bug": traceback.format_exc()}).encode())
        finally:
            os._exit(status)
    os.close(writing)
    return pid, reading


@dataclass(frozen=True)
class Ended:
    """How a worker process ended: by its own report, or killed (`told` empty)."""

    reached: bool
    told: dict[str, Any]
    status: int


def await_worker(pid: int, reading: int) -> Ended:
    """Wait for the end of a worker and read its report."""
    said = b""
    while piece := os.read(reading, 65_536):
        said += piece
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    text = said.replace(REACHED, b"", 1) if said.startswith(REACHED) else said
    told = json.loads(text) if text else {}
    if "bug" in told:
        raise AssertionError(told["bug"])
    return Ended(said.startswith(REACHED), told, os.waitstatus_to_exitcode(status))
