"""Row of the table about a disk that is slow to sync: strace holds every fsync and fdatasync up, by a quarter second.

The row starts a gateway with senders, followers and a writer of tables as a process of its own, the least favoured of
the machine; it is killed in the middle. On SQLite that process does the syncing, on Postgres the server's do.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from ettametta_pipelines_tests.databases import PostgresServer, find_postgres_binaries
from ettametta_pipelines_tests.faults.outcome import Outcome

SYNC_S = 0.25
SENDERS, FOLLOWERS = 4, 2
# Killed once so many messages were answered with 200.
ENOUGH = 24
# Far more than it takes where the machine has nothing else to do; a writer that hangs takes longer.
PATIENCE_S = 180.0
STRACE = (
    "strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-e",
    f"inject=fsync,fdatasync:delay_enter={round(SYNC_S * 1e6)}", "-o",
)  # fmt: skip


def slow_disk(home: Path) -> Outcome:
    """Both databases in turn."""
    if shutil.which("strace") is None:
        return Outcome(broken=["no strace here; scripts/install_test_servers.sh installs it"])
    binaries = find_postgres_binaries()
    assert binaries is not None, "no postgres here; scripts/install_test_servers.sh installs it"
    outcome = Outcome()
    with_sqlite = home / "sqlite"
    with_sqlite.mkdir()
    _play(
        outcome,
        "SQLite",
        with_sqlite,
        f"sqlite:///{with_sqlite / 'state.db'}",
        [*STRACE, f"{home / 'sqlite.log'}"],
    )
    server = PostgresServer(binaries, durable=True)
    with_postgres = home / "postgres"
    with_postgres.mkdir()
    try:
        server.start()
        server.execute("CREATE DATABASE state")
        with _held_up(server, home / "postgres.log"):
            _play(outcome, "Postgres", with_postgres, server.url("state"), [])
    finally:
        server.stop()
    for name in ("sqlite", "postgres"):
        log = home / f"{name}.log"
        delayed = log.read_text().count("(DELAYED)") if log.exists() else 0
        outcome.must(delayed > 0, f"no sync was held up on {name}")
        outcome.measured(f"{name}: {delayed} syncs held up")
    return outcome


@contextmanager
def _held_up(server: PostgresServer, log: Path) -> Iterator[None]:
    """Every server process that starts from now on is slow to sync."""
    assert server.pid is not None
    with subprocess.Popen([*STRACE, str(log), "-p", str(server.pid)], stderr=subprocess.PIPE) as tracer:
        try:
            until = time.monotonic() + PATIENCE_S
            while f"TracerPid:\t{tracer.pid}\n" not in Path(f"/proc/{server.pid}/status").read_text():
                assert tracer.poll() is None, (
                    f"strace may not trace here: {tracer.stderr and tracer.stderr.read()!r}"
                )
                assert time.monotonic() < until, "strace did not attach"
                time.sleep(0.05)
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(60)


def _play(outcome: Outcome, name: str, home: Path, url: str, tracer: list[str]) -> None:
    """Let the process work until enough was answered, kill it, and compare what it was told with what is there."""
    from ettametta_pipelines.state.session import StateDatabase

    with StateDatabase(url) as db:
        db.migrate()
    environment = os.environ | {
        "ETTAMETTA_HOME": str(home), "DATABASE_URL": url, "ETTAMETTA_STORE": (home / "store").as_uri(),
    }  # fmt: skip
    told: list[dict[str, Any]] = []
    with subprocess.Popen(
        [*tracer, sys.executable, "-m", "ettametta_pipelines_tests.faults.rows_disk"], cwd=Path(__file__).parents[2],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        ending = threading.Timer(PATIENCE_S, lambda: os.killpg(process.pid, signal.SIGKILL))
        ending.start()
        try:
            told.extend(_until_enough(process.stdout))
        finally:
            ending.cancel()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        told.extend(json.loads(line) for line in process.stdout if line.endswith("\n"))
        wrong = process.stderr.read()
    counts = Counter((each["what"], each["said"]) for each in told)
    outcome.must(counts["message", 200] >= ENOUGH, f"{name}: {counts}: {wrong[-300:]}")
    _judge(outcome, name, home, url, told, counts)


def _until_enough(lines: IO[str]) -> Iterator[dict[str, Any]]:
    answered = 0
    for line in lines:
        each = json.loads(line)
        yield each
        answered += (each["what"], each["said"]) == ("message", 200)
        if answered >= ENOUGH:
            return


def _judge(
    outcome: Outcome,
    name: str,
    home: Path,
    url: str,
    told: list[dict[str, Any]],
    counts: "Counter[tuple[str, int]]",
) -> None:
    import sqlalchemy as sa

    from ettametta_pipelines.state.models import WebhookEvent
    from ettametta_pipelines.state.session import StateDatabase
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.storage.parquet import read_table

    with StateDatabase(url) as db, db.session(write=False) as session:
        there = set(session.scalars(sa.select(WebhookEvent.event_id)))
    acknowledged = {each["name"] for each in told if (each["what"], each["said"]) == ("message", 200)}
    lost = acknowledged - there
    outcome.must(not lost, f"{name}: {len(lost)} messages were answered with 200 and are not there")
    surprises = {
        key for key in counts if key[1] not in {"message": (200, 503), "table": (0,)}.get(key[0], (302, 503))
    }
    outcome.must(not surprises, f"{name}: {surprises}")
    store = ObjectStore.from_url((home / "store").as_uri())
    tables = {each["name"] for each in told if each["what"] == "table"}
    torn = [day for day in tables if len(read_table(store, _contract(), day)) != 60]
    outcome.must(not torn, f"{name}: tables by half: {torn}")
    slowest = {
        what: max((e["s"] for e in told if e["what"] == what), default=0.0)
        for what in ("message", "follower")
    }
    outcome.must(counts["follower", 302] > 0, f"{name}: no follower was sent on: {counts}")
    shed = sum(count for (_, said), count in counts.items() if said == 503)
    outcome.measured(
        f"{name}: {len(acknowledged)} messages answered, 0 lost, the slowest after {slowest['message']:.1f} s; "
        f"{counts['follower', 302]} followers sent on, the slowest after {slowest['follower']:.1f} s; {shed} told to "
        f"come again; {len(tables)} tables whole"
    )


def _contract() -> Any:
    from ettametta_pipelines.storage.contracts import Column, TableContract

    return TableContract(
        "measured", "", (Column("id", "int64", ""), Column("text", "string", "")), key=("id",)
    )


def work() -> None:
    """Senders of webhooks, followers of a link and a writer of tables, each line of output one answer; until killed."""
    from fastapi.testclient import TestClient

    from ettametta_pipelines.commerce import links
    from ettametta_pipelines.commerce.links import LinkFields
    from ettametta_pipelines.gateway.app import create_gateway
    from ettametta_pipelines.settings import get_settings
    from ettametta_pipelines.state.session import open_state
    from ettametta_pipelines.storage.objects import ObjectStore
    from ettametta_pipelines.storage.parquet import write_table
    from ettametta_pipelines_tests.gateway.signing import by_stripe, stripe_event

    os.nice(19)
    settings = get_settings()
    db = open_state(settings)
    link = links.create(db, "acme", LinkFields(label="Shoes", network="impact", target_url="https://shop.example.com/"),
                        by="ann")  # fmt: skip
    code = links.codes_of(db, [link.id])[link.id][0].code
    url = "http://127.0.0.1:8000"
    client = TestClient(
        create_gateway(settings, url=url), base_url=url, client=("127.0.0.1", 4000), follow_redirects=False
    )
    saying = threading.Lock()

    def say(what: str, name: str, said: int, began: float) -> None:
        line = json.dumps({"what": what, "name": name, "said": said, "s": time.monotonic() - began})
        with saying:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    def send(sender: int) -> None:
        for number in range(10_000):
            name, began = f"evt_{sender}_{number}", time.monotonic()
            body = stripe_event(name)
            say(
                "message",
                name,
                client.post("/webhooks/stripe", content=body, headers=by_stripe(body)).status_code,
                began,
            )

    def follow(_: int) -> None:
        while True:
            began = time.monotonic()
            answer = client.get(f"/go/{code}", headers={"user-agent": "Mozilla/5.0 Firefox/150.0"})
            say("follower", code, answer.status_code, began)
            time.sleep(0.2)

    def tabulate(_: int) -> None:
        store = ObjectStore.from_url(settings.object_store_url)
        for day in range(1, 29):
            began, name = time.monotonic(), f"2026-01-{day:02}"
            rows = [{"id": number, "text": "x" * 1000} for number in range(60)]
            write_table(store, _contract(), _contract().frame(rows), name)
            say("table", name, 0, began)

    work_of = [(send, number) for number in range(SENDERS)] + [
        (follow, number) for number in range(FOLLOWERS)
    ]
    with client:
        threads = [threading.Thread(target=act, args=(number,)) for act, number in [*work_of, (tabulate, 0)]]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    work()
