"""What every sandboxed vendor shares: the store on disk, fault rules, seeded randomness and the control API.

A vendor module offers `router(store, *, public_url, clock, seed) -> APIRouter`, with paths relative to its mount
point `/{vendor}`; `public_url` is the root of the server, so its own links start with `{public_url}/{vendor}/`.
Its handlers are `async` and may call the store directly: each operation takes well under a millisecond, and
since nothing else runs between two awaits, a read followed by a write is one step. Answers are the vendor's own,
errors included; randomness comes from `seeded_rng` alone and the time from `clock` alone, so the same day gives the
same data. Called by `app.py` and the vendor modules.
"""

import asyncio
import hashlib
import json
import random
import re
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ettametta_pipelines.clock import Clock, rfc3339

MAX_LOGGED_REQUESTS = 20_000
CONTROL_PREFIX = "/_control"

_TABLES = """
CREATE TABLE IF NOT EXISTS objects (kind TEXT, key TEXT, value TEXT NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS requests (
    id INTEGER PRIMARY KEY AUTOINCREMENT, at TEXT, vendor TEXT, method TEXT, path TEXT, status INTEGER, fault TEXT
);
"""


def seeded_rng(*parts: object) -> random.Random:
    """Random source that depends on `parts` alone: the same parts give the same numbers in every process."""
    digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).digest()
    return random.Random(int.from_bytes(digest[:8]))


class SandboxStore:
    """Everything the sandbox remembers: JSON objects by (kind, key), counters, uploaded bytes, the request log.

    One SQLite file plus a `blobs` directory under `path`; every call commits on its own. Safe to call from several
    threads of one process.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._blobs = path / "blobs"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path / "sandbox.db", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(_TABLES)

    @contextmanager
    def _cursor(self) -> Iterator[sqlite3.Cursor]:
        with self._lock:
            cursor = self._db.cursor()
            try:
                yield cursor
            finally:
                cursor.close()

    def get(self, kind: str, key: str) -> dict[str, Any] | None:
        with self._cursor() as cursor:
            row = cursor.execute(
                "SELECT value FROM objects WHERE kind = ? AND key = ?", (kind, key)
            ).fetchone()
        return json.loads(row[0]) if row else None

    def put(self, kind: str, key: str, value: dict[str, Any]) -> None:
        with self._cursor() as cursor:
            cursor.execute(
                "INSERT INTO objects VALUES (?, ?, ?) ON CONFLICT (kind, key) DO UPDATE SET value = excluded.value",
                (kind, key, json.dumps(value)),
            )

    def insert(self, kind: str, key: str, value: dict[str, Any]) -> bool:
        """Create; False, and nothing changed, when the key is there already."""
        with self._cursor() as cursor:
            cursor.execute("INSERT OR IGNORE INTO objects VALUES (?, ?, ?)", (kind, key, json.dumps(value)))
            return cursor.rowcount == 1

    def items(self, kind: str, prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
        """(key, value) pairs of a kind whose key starts with `prefix`, in key order."""
        with self._cursor() as cursor:
            rows = cursor.execute(
                "SELECT key, value FROM objects WHERE kind = ? AND substr(key, 1, ?) = ? ORDER BY key",
                (kind, len(prefix), prefix),
            ).fetchall()
        return [(key, json.loads(value)) for key, value in rows]

    def delete(self, kind: str, key: str) -> None:
        with self._cursor() as cursor:
            cursor.execute("DELETE FROM objects WHERE kind = ? AND key = ?", (kind, key))

    def counter(self, name: str, step: int = 1) -> int:
        """Add `step` and return the new value; the first call of a name returns `step`. `step=0` only reads."""
        with self._cursor() as cursor:
            row = cursor.execute(
                "INSERT INTO counters VALUES (?, ?) "
                "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value RETURNING value",
                (name, step),
            ).fetchone()
        return int(row[0])

    def blob_path(self, name: str) -> Path:
        """Where a vendor keeps uploaded bytes. `name` is made safe, so vendor ids can be passed as they are."""
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")
        if not safe:
            raise ValueError(f"blob name {name!r} has no usable character")
        return self._blobs / safe

    def log(self, vendor: str, method: str, path: str, status: int, *, fault: str = "", at: str = "") -> None:
        """Note one request. `path` carries no query: keys and upload tokens travel there."""
        with self._cursor() as cursor:
            cursor.execute(
                "INSERT INTO requests (at, vendor, method, path, status, fault) VALUES (?, ?, ?, ?, ?, ?)",
                (at, vendor, method, path, status, fault),
            )
            last = cursor.lastrowid or 0
            if last % 500 == 0:
                cursor.execute("DELETE FROM requests WHERE id <= ?", (last - MAX_LOGGED_REQUESTS,))

    def requests(self, vendor: str | None = None) -> list[dict[str, Any]]:
        """Requests in order of arrival: id, at, vendor, method, path, status (0 = dropped unread), fault."""
        names = ("id", "at", "vendor", "method", "path", "status", "fault")
        with self._cursor() as cursor:
            rows = cursor.execute(
                f"SELECT {', '.join(names)} FROM requests WHERE ? IS NULL OR vendor = ? ORDER BY id",  # noqa: S608
                (vendor, vendor),
            ).fetchall()
        return [dict(zip(names, row, strict=True)) for row in rows]

    def reset(self) -> None:
        """Forget everything, uploaded bytes included."""
        with self._cursor() as cursor:
            for table in ("objects", "counters", "requests"):
                cursor.execute(f"DELETE FROM {table}")  # noqa: S608
        shutil.rmtree(self._blobs)
        self._blobs.mkdir()

    def close(self) -> None:
        with self._lock:
            self._db.close()


FaultAction = Literal["status", "status_after", "delay", "delay_after", "drop_before", "drop_after", "late"]
# Of a request hit by one of these nothing is answered: its connection is closed.
_DROPS = frozenset({"drop_before", "drop_after", "late"})


class FaultRule(BaseModel):
    """One thing that goes wrong. Counted over the requests it matches: `after` pass, then `times` are hit.

    `status` answers with `status`, `body` and `headers` without running the request, `status_after` after running it;
    `delay` waits `delay_s` and then runs it, `delay_after` runs it and keeps its answer back that long; `drop_before`
    closes the connection unread; `drop_after` runs it and closes without an answer; `late` reads it, closes, and runs
    it `delay_s` later. `path_regex` is searched in the path with the vendor's prefix, without the query, `range_regex`
    in the Content-Range header. With `armed_by` a rule sleeps until that is found in the Content-Range of a request.
    """

    model_config = ConfigDict(extra="forbid")

    vendor: str
    method: str | None = None
    path_regex: str = ""
    range_regex: str = ""
    armed_by: str = ""
    after: int = Field(default=0, ge=0)
    times: int | None = Field(default=1, ge=1)
    action: FaultAction = "status"
    status: int = Field(default=503, ge=200, le=599)
    body: Any = None
    headers: dict[str, str] = Field(default_factory=dict)
    delay_s: float = Field(default=0.0, ge=0)
    seen: int = 0
    armed: bool = False

    @field_validator("path_regex", "range_regex", "armed_by")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value

    def matches(self, vendor: str, method: str, path: str, content_range: str = "") -> bool:
        return (
            self.vendor == vendor
            and self.method in (None, method)
            and re.search(self.path_regex, path) is not None
            and re.search(self.range_regex, content_range) is not None
        )

    @property
    def is_due(self) -> bool:
        """Whether the request counted last is one to hit."""
        return self.seen > self.after and (self.times is None or self.seen <= self.after + self.times)


class Faults:
    """The rules in force. The first due rule wins; every matching rule counts the request."""

    def __init__(self) -> None:
        self.rules: list[FaultRule] = []

    def add(self, rule: FaultRule) -> None:
        self.rules.append(rule)

    def clear(self) -> None:
        self.rules.clear()

    def next_for(self, vendor: str, method: str, path: str, content_range: str = "") -> FaultRule | None:
        hit = None
        for rule in self.rules:
            if rule.matches(vendor, method, path, content_range) and (rule.armed or not rule.armed_by):
                rule.seen += 1
                if hit is None and rule.is_due:
                    hit = rule
            if rule.armed_by and rule.vendor == vendor and re.search(rule.armed_by, content_range):
                rule.armed = True
        return hit


DropConnection = Callable[[tuple[str, int]], None]


class FaultMiddleware:
    """Outermost layer: applies the fault rules and logs every vendor request with the status it got.

    `latency_s` passes before each of them, as on the way to a real vendor.
    """

    def __init__(
        self, app: ASGIApp, *, store: SandboxStore, faults: Faults, clock: Clock, latency_s: float = 0.0
    ) -> None:
        self.app = app
        self.latency_s = latency_s
        self.store = store
        self.faults = faults
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        vendor = scope["path"].split("/")[1] if scope["type"] == "http" else ""
        if vendor in ("", "healthz", "_control"):
            await self.app(scope, receive, send)
            return
        if self.latency_s:
            await asyncio.sleep(self.latency_s)
        content_range = dict(scope["headers"]).get(b"content-range", b"").decode("latin-1")
        rule = self.faults.next_for(vendor, scope["method"], scope["path"], content_range)
        action = rule.action if rule else ""
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            if action not in _DROPS:
                await send(message)

        try:
            await self._run(rule, scope, receive, answer)
        finally:
            self.store.log(
                vendor, scope["method"], scope["path"], status, fault=action, at=rfc3339(self.clock())
            )
        if action in ("drop_before", "drop_after"):
            await _drop(scope)

    async def _run(self, rule: FaultRule | None, scope: Scope, receive: Receive, send: Send) -> None:
        if rule is None:
            await self.app(scope, receive, send)
            return
        match rule.action:
            case "status":
                await _drain(receive)
                await _send_canned(rule, send)
            case "status_after":
                await self.app(scope, receive, _ignore)
                await _send_canned(rule, send)
            case "delay":
                await asyncio.sleep(rule.delay_s)
                await self.app(scope, receive, send)
            case "delay_after":
                await self.app(scope, receive, _held_back(send, rule.delay_s))
            case "drop_after":
                await self.app(scope, receive, send)
            case "late":
                request = await _whole(receive)
                await _drop(scope)
                await asyncio.sleep(rule.delay_s)
                await self.app(scope, request, send)
            case "drop_before":
                pass


async def _drain(receive: Receive) -> None:
    """Read the request to its end, so that a client still sending its body gets to see the answer."""
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass


async def _ignore(message: Message) -> None:
    """An answer nobody is to see."""


def _held_back(send: Send, delay_s: float) -> Send:
    """`send` that waits before the first message of an answer."""
    waited = False

    async def answer(message: Message) -> None:
        nonlocal waited
        if not waited:
            waited = True
            await asyncio.sleep(delay_s)
        await send(message)

    return answer


async def _whole(receive: Receive) -> Receive:
    """The request read to its end, to be given to an application after its sender has gone."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body"):
            break

    async def again() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return again


async def _send_canned(rule: FaultRule, send: Send) -> None:
    text = isinstance(rule.body, str)
    body = b"" if rule.body is None else (rule.body if text else json.dumps(rule.body)).encode()
    headers = {"content-type": "text/plain" if text else "application/json", **rule.headers}
    headers["content-length"] = str(len(body))
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": rule.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


async def _drop(scope: Scope) -> None:
    drop: DropConnection | None = getattr(scope["app"].state, "drop_connection", None)
    if drop is None:
        raise ConnectionAbortedError("this server cannot close a connection; use SandboxServer")
    drop(tuple(scope["client"]))
    # The server learns of the closed transport on its next turns; returning earlier would make it answer 500.
    for _ in range(3):
        await asyncio.sleep(0)


def control_router(store: SandboxStore, faults: Faults, *, home: Path) -> APIRouter:
    """`/healthz` and `/_control`: faults in, requests out, reset."""
    router = APIRouter()

    @router.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"service": "ettametta-sandbox", "home": str(home)}

    @router.post(f"{CONTROL_PREFIX}/faults")
    async def add_fault(rule: FaultRule) -> dict[str, int]:
        faults.add(rule)
        return {"rules": len(faults.rules)}

    @router.get(f"{CONTROL_PREFIX}/faults")
    async def list_faults() -> list[FaultRule]:
        return faults.rules

    @router.delete(f"{CONTROL_PREFIX}/faults")
    async def clear_faults() -> dict[str, int]:
        faults.clear()
        return {"rules": 0}

    @router.get(f"{CONTROL_PREFIX}/requests")
    async def list_requests(vendor: str | None = None) -> list[dict[str, Any]]:
        return store.requests(vendor)

    @router.post(f"{CONTROL_PREFIX}/reset")
    async def reset() -> dict[str, bool]:
        faults.clear()
        store.reset()
        return {"reset": True}

    return router


async def read_form(request: Request) -> dict[str, str]:
    """Fields of an `application/x-www-form-urlencoded` body; the last of a repeated name wins."""
    return dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
