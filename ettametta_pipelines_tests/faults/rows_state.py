"""Rows of the table about the state database and the disk: Postgres dies, SQLite is locked, the disk is full.

Writers do what the product does: they take in messages, two in a transaction, and plan publications with their slot of
the quota. What a writer was told is written must be there afterwards, and nothing by half.
"""

import json
import random
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from ettametta_pipelines_tests.databases import PostgresServer, find_postgres_binaries
from ettametta_pipelines_tests.faults.outcome import Outcome

WRITERS = 4
PLANS = 60
CRASHES, TERMINATIONS = 3, 6
# What docs/faults.md promises: work goes on within a minute after the server is back.
RECOVERY_S = 60.0
LOCKED_S = 10.0


@dataclass
class Writers:
    """Threads that write pairs of messages until told to stop, and note what they were told."""

    url: str
    acknowledged: set[str] = field(default_factory=set)
    refusals: Counter[str] = field(default_factory=Counter)
    surprises: list[str] = field(default_factory=list)
    last_success: list[float] = field(default_factory=lambda: [0.0] * WRITERS)
    stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]
        threads.append(threading.Thread(target=self._plan))
        for thread in threads:
            thread.start()
        return threads

    def _write(self, number: int) -> None:
        from ettametta_pipelines.state import inbox
        from ettametta_pipelines.state.session import StateDatabase

        wait = random.Random(number)
        with StateDatabase(self.url) as db:
            count = 0
            while not self.stop.is_set():
                name = f"{number}-{count}"
                pair = [inbox.Message("stripe", f"{name}-{half}", "invoice.paid", "{}") for half in "ab"]
                if self._tried(lambda pair=pair: inbox.store(db, pair)):
                    self.acknowledged.add(name)
                    self.last_success[number] = time.monotonic()
                    count += 1
                    time.sleep(0.002)
                else:
                    time.sleep(0.05 * (0.5 + wait.random()))

    def _plan(self) -> None:
        from cryptography.fernet import Fernet

        from ettametta_pipelines.clock import utc_now
        from ettametta_pipelines.publishing.ledger import Intent, Ledger
        from ettametta_pipelines.publishing.tokens import Envelope
        from ettametta_pipelines.state.session import StateDatabase

        with StateDatabase(self.url) as db:
            ledger = Ledger(db, Envelope([Fernet.generate_key().decode()]), clock=utc_now)
            done = 0
            while done < PLANS and not self.stop.is_set():
                intent = Intent("youtube", "acme", "UC1", f"acme--{done}", "k", "ab", 10, "A", "private")
                done += self._tried(lambda intent=intent: ledger.plan(intent))
                time.sleep(0.05)

    def _tried(self, act: object) -> bool:
        from ettametta_pipelines.failures import TransientError

        try:
            act()  # type: ignore[operator]
        except TransientError as error:
            self.refusals[error.code] += 1
            return False
        except Exception as error:  # noqa: BLE001 (whatever a writer meets that is not in the taxonomy is the finding)
            self.surprises.append(f"{type(error).__name__}: {error}"[:200])
            return False
        return True


def postgres_dies(home: Path) -> Outcome:
    """The server is stopped at once and started again, and its connections are ended, under writers."""
    from ettametta_pipelines.state.session import StateDatabase

    outcome = Outcome()
    binaries = find_postgres_binaries()
    assert binaries is not None, "no postgres here; scripts/install_test_servers.sh installs it"
    server = PostgresServer(binaries, durable=True)
    try:
        server.start()
        server.execute("CREATE DATABASE state")
        with StateDatabase(server.url("state")) as db:
            db.migrate()
            writers = Writers(server.url("state"))
            threads = writers.start()
            recoveries = [_recovery(writers, server, number) for number in range(CRASHES + TERMINATIONS)]
            writers.stop.set()
            for thread in threads:
                thread.join()
            _judge_state(outcome, db, writers)
        outcome.must(max(recoveries) < RECOVERY_S, f"a writer came back only after {max(recoveries):.0f} s")
        outcome.measured(
            f"{CRASHES} crashes and {TERMINATIONS} cuts under {WRITERS + 1} writers, back after "
            f"{max(recoveries):.1f} s at most"
        )
    finally:
        server.stop()
    return outcome


def _recovery(writers: Writers, server: PostgresServer, number: int) -> float:
    """Strike once; seconds from the server's return until each writer has written again."""
    time.sleep(0.4)
    if number < CRASHES:
        server.crash()
        time.sleep(0.3)
        server.restart()
    else:
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'state'")
    back = time.monotonic()
    while min(writers.last_success) < back:
        if time.monotonic() > back + RECOVERY_S:
            return RECOVERY_S
        time.sleep(0.01)
    return min(writers.last_success) - back


def _judge_state(outcome: Outcome, db: object, writers: Writers) -> None:
    import sqlalchemy as sa

    from ettametta_pipelines.state.models import Publication, PublicationEvent, WebhookEvent
    from ettametta_pipelines.state.session import StateDatabase

    assert isinstance(db, StateDatabase)
    with db.session(write=False) as session:
        ids = set(session.scalars(sa.select(WebhookEvent.event_id)))
        planned = session.scalar(sa.select(sa.func.count()).select_from(Publication)) or 0
        noted = session.scalar(sa.select(sa.func.count()).select_from(PublicationEvent)) or 0
    halves = Counter(each.rpartition("-")[0] for each in ids)
    lost = [name for name in writers.acknowledged if halves[name] != 2]
    torn = [name for name, count in halves.items() if count != 2]
    reserved = _reserved_slots(db)
    outcome.must(not lost, f"{len(lost)} acknowledged pairs are not there")
    outcome.must(not torn, f"{len(torn)} pairs are there by half")
    outcome.must(planned == reserved == noted, f"{planned} plans, {reserved} slots, {noted} notes")
    outcome.must(not writers.surprises, f"outside the taxonomy: {writers.surprises[:2]}")
    outcome.must(sum(writers.refusals.values()) > 0, "no writer met the fault")
    outcome.measured(
        f"{len(writers.acknowledged)} pairs acknowledged, {len(lost)} lost, {len(torn)} torn; {planned} plans = "
        f"{reserved} slots; {sum(writers.refusals.values())} refusals, all transient"
    )


def _reserved_slots(db: object) -> int:
    from ettametta_pipelines.clock import pacific_quota_day, utc_now
    from ettametta_pipelines.state import quota
    from ettametta_pipelines.state.session import StateDatabase

    assert isinstance(db, StateDatabase)
    usage = quota.usage(db, pacific_quota_day(utc_now()))
    return sum(each.reserved for each in usage if each.bucket == "videos_insert")


HOLDS = """
import sqlite3, sys, time
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN IMMEDIATE")
print("held", flush=True)
time.sleep(float(sys.argv[2]))
db.execute("COMMIT")
"""


def sqlite_locked(home: Path) -> Outcome:
    """Another process holds the write lock; writers wait for it, readers do not."""
    import sqlalchemy as sa

    from ettametta_pipelines.state import inbox
    from ettametta_pipelines.state.models import WebhookEvent
    from ettametta_pipelines.state.session import StateDatabase

    outcome, file = Outcome(), home / "state.db"
    waited: list[float] = []
    failures: list[str] = []
    with StateDatabase(f"sqlite:///{file}") as db:
        db.migrate()

        def write(number: int) -> None:
            began = time.monotonic()
            try:
                with StateDatabase(f"sqlite:///{file}") as own:
                    inbox.store(own, [inbox.Message("stripe", str(number), "invoice.paid", "{}")])
            except Exception as error:  # noqa: BLE001 (any refusal is the finding)
                failures.append(f"{type(error).__name__}: {error}")
            waited.append(time.monotonic() - began)

        holder = subprocess.Popen(
            [sys.executable, "-c", HOLDS, str(file), str(LOCKED_S)], stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout is not None
        holder.stdout.readline()
        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        reads = [_timed_read(db) for _ in range(50)]
        for thread in threads:
            thread.join()
        holder.communicate()
        with db.session(write=False) as session:
            there = session.scalar(sa.select(sa.func.count()).select_from(WebhookEvent))
    outcome.must(not failures, f"a write was refused: {failures[:2]}")
    outcome.must(there == 8, f"{there} of 8 writes are there")
    outcome.must(max(reads) < LOCKED_S / 2, f"a reader waited {max(reads):.1f} s")
    outcome.measured(
        f"locked {LOCKED_S:.0f} s: 8 of 8 writes there, the longest waited {max(waited):.1f} s; 50 reads "
        f"meanwhile, the slowest {max(reads) * 1000:.0f} ms"
    )
    return outcome


def _timed_read(db: object) -> float:
    from ettametta_pipelines.state import inbox
    from ettametta_pipelines.state.session import StateDatabase

    assert isinstance(db, StateDatabase)
    began = time.monotonic()
    inbox.newest_arrival(db, "stripe")
    return time.monotonic() - began


def disk_full(home: Path) -> Outcome:
    """In a mount namespace of its own, on a disk of 12 MB that fills up under tables and the ledger."""
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-m",
         "ettametta_pipelines_tests.faults.rows_state", str(home)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return Outcome(
            broken=[f"the process on the full disk ended with {done.returncode}: {done.stderr[-400:]}"]
        )
    told = json.loads(done.stdout.splitlines()[-1])
    return Outcome(told["figures"], told["broken"])


def on_a_small_disk(mount: Path) -> Outcome:
    """Fill the disk under `mount` with tables, then with messages; then make room and go on in the same process."""
    import pandas as pd

    from ettametta_pipelines.failures import PipelineError
    from ettametta_pipelines.state import inbox
    from ettametta_pipelines.state.session import StateDatabase
    from ettametta_pipelines.storage.contracts import Column, TableContract
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.storage.parquet import read_table, write_table

    outcome, noise = Outcome(), random.Random(7)
    contract = TableContract(
        "measured", "", (Column("id", "int64", ""), Column("text", "string", "")), key=("id",)
    )
    store = ObjectStore.from_url((mount / "store").as_uri())
    ballast = mount / "ballast"
    ballast.write_bytes(bytes(3_000_000))

    def write(day: int, salt: str) -> None:
        rows = [{"id": number, "text": salt + noise.randbytes(8000).hex()} for number in range(60)]
        write_table(store, contract, contract.frame(rows), f"2026-01-{day:02}")

    def stored(number: int) -> None:
        body = noise.randbytes(10_000).hex()
        inbox.store(db, [inbox.Message("stripe", f"{number}-{half}", "invoice.paid", body) for half in "ab"])

    with StateDatabase(f"sqlite:///{mount / 'state.db'}") as db:
        db.migrate()
        written, table_error = _until_refused(lambda n: write(n + 1, "first"), 28)
        again = error_of(lambda: write(1, "second"))
        taken, state_error = _until_refused(stored, 2000)
        whole = [read_table(store, contract, f"2026-01-{day + 1:02}") for day in range(written)]
        listed = {info.key for info in store.list("tables")}
        files = {str(f.relative_to(mount / "store")) for f in (mount / "store").rglob("*") if f.is_file()}
        outcome.must(getattr(table_error, "code", "") == "disk_full", f"a table said {table_error!r}")
        outcome.must(getattr(again, "code", "") == "disk_full", f"a second writing said {again!r}")
        outcome.must(
            getattr(state_error, "code", "") == "state_disk_full", f"the ledger said {state_error!r}"
        )
        outcome.must(
            all(isinstance(e, PipelineError) and e.remedy for e in (table_error, state_error)), "no remedy"
        )
        outcome.must(len(listed) == written and files == listed, f"left over: {sorted(files ^ listed)[:3]}")
        first = isinstance(whole[0], pd.DataFrame) and str(whole[0]["text"].iloc[0]).startswith("first")
        outcome.must(all(len(frame) == 60 for frame in whole) and first, "a table is not as it was written")
        _judge_ledger(outcome, mount / "state.db", taken)
        ballast.unlink()
        resumed = [error_of(lambda: write(28, "later")), error_of(lambda: stored(5000))]
        outcome.must(resumed == [None, None], f"with room again: {resumed}")
    outcome.measured(
        f"{written} tables written, then `disk_full`, all {len(whole)} read back whole, 0 leftovers; {taken} "
        "transactions of the ledger, then `state_disk_full`, 0 lost, integrity ok; with room again both go on at once"
    )
    return outcome


def _judge_ledger(outcome: Outcome, file: Path, taken: int) -> None:
    with sqlite3.connect(file) as plain:
        (sound,) = plain.execute("PRAGMA quick_check").fetchone()
        (rows,) = plain.execute("SELECT count(*) FROM webhook_events").fetchone()
    outcome.must(sound == "ok", f"the ledger is corrupt: {sound}")
    outcome.must(rows == 2 * taken, f"{rows} messages of {2 * taken} acknowledged are there")


def _until_refused(act: object, most: int) -> tuple[int, Exception | None]:
    for number in range(most):
        if (error := error_of(lambda number=number: act(number))) is not None:  # type: ignore[operator,misc]
            return number, error
    return most, None


def error_of(act: object) -> Exception | None:
    try:
        act()  # type: ignore[operator]
    except Exception as error:  # noqa: BLE001 (what it is, is judged by the caller)
        return error
    return None


if __name__ == "__main__":
    place = Path(sys.argv[1]) / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(place)], check=True)
    seen = on_a_small_disk(place)
    sys.stdout.write(json.dumps({"figures": seen.figures, "broken": seen.broken}) + "\n")
