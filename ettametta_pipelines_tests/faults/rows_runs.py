"""Rows of the table about workers, daemons and clocks: frozen, doubled, restored, at the wrong time.

The scenarios are those of the matrix; here a family or a fault of it is played whole and counted. In a process without
threads, since workers are forked.
"""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ettametta_pipelines_tests.faults.outcome import Outcome, Play
from ettametta_pipelines_tests.faults.scenarios import Scenario

# Where Debian's package libfaketime puts it.
FAKETIME = next(map(str, Path("/usr/lib").glob("*/faketime/libfaketime.so.1")), "")


def of_the_matrix(wanted: Callable[[Scenario], bool], every: int = 1) -> Play:
    """Plays the scenarios that are wanted, every so manieth of them."""

    def play(home: Path) -> Outcome:
        from ettametta_pipelines_tests.faults.arena import Arena
        from ettametta_pipelines_tests.faults.matrix import GOOD, Verdict, play_all
        from ettametta_pipelines_tests.faults.scenarios import scenarios

        chosen = [each for each in scenarios() if wanted(each)][::every]
        with Arena() as arena:
            played = play_all(arena, chosen)
        counts = Counter(each.verdict for each in played)
        outcome = Outcome(
            broken=[f"{p.verdict}: {p.scenario.name}" for p in played if p.verdict not in GOOD][:3]
        )
        reached = len(played) - counts[Verdict.NOT_REACHED]
        outcome.must(reached > 0, "no scenario reached its point")
        outcome.measured(
            f"{reached} scenarios: {counts[Verdict.EXACTLY_ONCE]} posted exactly once, {counts[Verdict.PARKED]} parked "
            f"where nobody can know, {counts[Verdict.DUPLICATE]} twice, {counts[Verdict.LOST]} lost"
        )
        return outcome

    return play


UPLOADS = 12
COMPLAINT = "You likely have multiple daemon processes running at once"


def two_daemons(home: Path) -> Outcome:
    """Two daemons with the upload sensor on one instance, killed and restarted in turn while uploads come."""
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines_tests.automation.test_daemon_recovery import Daemon, drop

    outcome = Outcome()
    url = (home / "store").as_uri()
    place = home / "daemon"
    first = Daemon(place, {"ETTAMETTA_STORE": url, "ETTAMETTA_HOME": str(place), "HOME": str(place)})
    second = Daemon.__new__(Daemon)
    second.__dict__ = dict(first.__dict__)
    objects = ObjectStore.from_url(url)
    daemons = (first, second)
    try:
        for daemon in daemons:
            daemon.start()
        for number in range(UPLOADS):
            drop(objects, [f"clip-{number}"])
            time.sleep(1)
            if number == UPLOADS // 2:
                first.kill()
                first.start()
        first.wait_for(lambda: len(first.runs()) == UPLOADS)
        # Dagster compares heartbeats twice a minute.
        first.wait_for(lambda: COMPLAINT in first.log.read_text())
        runs = first.runs()
    finally:
        for daemon in daemons:
            if daemon.process is not None and daemon.process.poll() is None:
                daemon.kill()
        first.instance.dispose()
    outcome.must(len(runs) == UPLOADS, f"{len(runs)} of {UPLOADS} uploads have a run")
    twice = sum(count > 1 for count in runs.values())
    outcome.measured(
        f"{UPLOADS} uploads under two daemons, one killed and restarted: {len(runs)} have a run, {twice} were asked "
        f"for twice, which the ledger makes one post; the daemon's log names the other"
    )
    return outcome


CLAIMS = """
import sys
from cryptography.fernet import Fernet
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.publishing.ledger import Intent, Ledger
from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.state.session import StateDatabase
db, envelope = StateDatabase(sys.argv[1]), Envelope([Fernet.generate_key().decode()])
ledger = Ledger(db, envelope, clock=utc_now, owner=sys.argv[2])
row = ledger.plan(Intent("youtube", "acme", "UC1", "acme--1", "k", "ab", 10, "A", "private"))
try:
    claim = ledger.claim(row.id)
    print("claimed", claim.fence, utc_now().isoformat())
except PipelineError as error:
    print(error.code, 0, utc_now().isoformat())
"""


def clocks_differ(home: Path) -> Outcome:
    """Workers whose clock is ten minutes off, by libfaketime, at a lease of Postgres that another holds."""
    from ettametta_pipelines_tests.databases import PostgresServer, find_postgres_binaries

    outcome = Outcome()
    binaries = find_postgres_binaries()
    if binaries is None or not FAKETIME:
        outcome.measured("libfaketime is not here: clocks are injected only")
        return outcome
    server = PostgresServer(binaries)
    try:
        server.start()
        server.execute("CREATE DATABASE state")
        from ettametta_pipelines.state.session import StateDatabase

        with StateDatabase(server.url("state")) as db:
            db.migrate()
        told = []
        for owner, offset in (("right", "+0"), ("ahead", "+600"), ("behind", "-600")):
            done = subprocess.run(
                [sys.executable, "-c", CLAIMS, server.url("state"), owner], capture_output=True, text=True, check=False,
                env=os.environ | {"LD_PRELOAD": FAKETIME, "FAKETIME": offset, "DONT_FAKE_MONOTONIC": "1"},
            )  # fmt: skip
            outcome.must(done.returncode == 0, f"{owner}: {done.stderr[-300:]}")
            told.append((done.stdout.split() or ["nothing"])[0])
    finally:
        server.stop()
    outcome.must(told == ["claimed", "publication_busy", "publication_busy"], f"claims: {told}")
    outcome.measured(f"a lease of Postgres, workers right, 10 min ahead, 10 min behind: {', '.join(told)}")
    return outcome
