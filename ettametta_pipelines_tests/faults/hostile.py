"""`python -m ettametta_pipelines_tests.faults.hostile`: every hostile input through the real upload path, as a table.

Each input lies in the inbox of an account of its own. The sensor's tick finds it, its run of the ingest job judges it
and renders it to one format where it is good, all in this process on a real Dagster instance, so that every confined
child is seen. Exit code 1 when a row does not hold. The inputs are `hostile_corpus.py`'s.
"""

import argparse
import logging
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ettametta_pipelines.automation.jobs import INGEST_JOB
from ettametta_pipelines.automation.sensors import tick_upload_sensor
from ettametta_pipelines.commands.demo import Demo
from ettametta_pipelines.commands.devserver import prepare_home
from ettametta_pipelines.confinement import running as confinement
from ettametta_pipelines.confinement.running import Ended
from ettametta_pipelines.confinement.walls import walls
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.models import VideoSlot
from ettametta_pipelines_tests.faults.hostile_bucket import (
    BUCKET_UPLOADS,
    MOST_FLOODED,
    BucketUpload,
    hostile_bucket,
)
from ettametta_pipelines_tests.faults.hostile_corpus import (
    NOT_TAKEN,
    TAKEN,
    HostileUpload,
    corpus,
    good_clip,
)
from ettametta_pipelines_tests.media.hostile_files import CANARY, Ground, ground

ASSETS = ("source_media", "media_analysis", "rendition_1x1")
NICHE = "home-cooking"
MOST_MEMORY = 600 << 20
# Of a busy machine, with the waits between tries of a store that floods.
MOST_SECONDS = 180.0
GOOD_EVERY = 25
# "{what is wrong}. {what to do}."
READABLE = re.compile(r"[^\r\n\x1b]{15,}[.!] [A-Z][^\r\n\x1b]{10,}\.\Z")


class Listener:
    """A port of this machine that the files name; `hits` counts who came."""

    def __init__(self) -> None:
        self.hits = 0
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.1)
        self.port = self._server.getsockname()[1]
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._server.close()

    def _listen(self) -> None:
        while not self._ended.is_set():
            with suppress(TimeoutError):
                self._server.accept()[0].close()
                self.hits += 1


@dataclass
class Row:
    """What became of one input; `broken` names every bar it missed.

    `memory` is the most a child held, in bytes; 0 where each ended before it could be looked at.
    """

    upload: "HostileUpload | BucketUpload"
    verdict: str = NOT_TAKEN
    reason: str = ""
    seconds: float = 0.0
    memory: int = 0
    hits: int = 0
    leaks: int = 0
    slots: int = 0
    broken: list[str] = field(default_factory=list)


@contextmanager
def watched_children() -> Iterator[list[Ended]]:
    """How every confined child ended, whoever started it."""
    ended: list[Ended] = []
    original = confinement.run_confined

    def run(*arguments: object, **options: object) -> Ended:
        ended.append(original(*arguments, **options))  # type: ignore[arg-type]
        return ended[-1]

    homes = ("media.probe", "renders.ffmpeg", "renders.encoders")
    patches = [patch(f"ettametta_pipelines.{home}.run_confined", run) for home in homes]
    for each in patches:
        each.start()
    try:
        yield ended
    finally:
        for each in patches:
            each.stop()


class Gauntlet:
    """A home with an inbox, and the bars every input is held against."""

    def __init__(
        self, settings: Settings, instance: dg.DagsterInstance, aims: Ground, listener: Listener
    ) -> None:
        self.settings = settings
        self.instance = instance
        self.aims = aims
        self.listener = listener
        self.demo = Demo(settings, instance, Console(file=open(os.devnull, "w")))  # noqa: SIM115
        self.requests: dict[str, list[dg.RunRequest]] = {}

    def place(self, upload: HostileUpload, account: str) -> Path:
        """Put an input where its account's uploads belong, as a copy into the directory does."""
        folder = self._folder(account)
        folder.mkdir(parents=True)
        path = folder / upload.file
        upload.place(path, self.aims)
        long_ago = time.time() - 600
        for each in folder.iterdir():
            os.utime(each, (long_ago, long_ago), follow_symlinks=False)
        return path

    def _folder(self, account: str) -> Path:
        root = self.demo.store.local_path("uploads/x")
        assert root is not None
        return root.parent / account / NICHE / f"{datetime.now(UTC):%Y/%m/%d}"

    def tick(self) -> None:
        """Let the sensor look until it finds nothing more."""
        while True:
            found, _ = tick_upload_sensor(self.instance, self.demo.definitions)
            known = {request.run_key for each in self.requests.values() for request in each}
            new = [request for request in found if request.run_key not in known]
            for request in new:
                self.requests.setdefault(str(request.partition_key).split("--")[0], []).append(request)
            if not new:
                return

    def run(self, upload: HostileUpload, account: str, path: Path) -> Row:
        """Run what the sensor asked for of this input, and hold what happened against the bars."""
        row = Row(upload)
        requests = self.requests.get(account, [])
        if "beside.mp4" in {each.name for each in path.parent.iterdir()}:
            requests = self._without_beside(requests)
        if len(requests) > 1:
            row.broken.append(f"{len(requests)} runs")
        if upload.after_tick is not None:
            upload.after_tick(path)
        return self.play(row, requests, account)

    def play(self, row: Row, requests: Sequence[dg.RunRequest], account: str) -> Row:
        heard, began = self.listener.hits, time.monotonic()
        with watched_children() as children:
            for request in requests[:1]:
                self._run_one(row, request)
        row.seconds = time.monotonic() - began
        row.hits = self.listener.hits - heard
        row.memory = max((ended.peak_memory_bytes for ended in children), default=0)
        row.leaks += sum((CANARY in ended.stderr) + (CANARY.encode() in ended.stdout) for ended in children)
        self._judge(row, account)
        return row

    def _without_beside(self, requests: Sequence[dg.RunRequest]) -> list[dg.RunRequest]:
        from ettametta_pipelines.storage.addressing import file_sha256

        beside = file_sha256(self.aims.neighbour)[:16]
        return [request for request in requests if beside not in str(request.partition_key)]

    def _run_one(self, row: Row, request: dg.RunRequest) -> None:
        source_id = str(request.partition_key)
        outcome = self.demo.run(INGEST_JOB, source_id, tags=request.tags, assets=ASSETS)
        told = outcome.metadata.get("source_media", {})
        run = self.instance.get_runs(limit=1)[0]
        logged = "\n".join(str(entry) for entry in self.instance.all_logs(run.run_id))
        row.leaks += logged.count(CANARY)
        codes = re.findall(r"\[([a-z_]+)\]", " ".join(outcome.problems))
        row.verdict = TAKEN if not outcome.problems else (codes[-1] if codes else "without a code")
        row.reason = (
            str(told.get("reason", "")) if told.get("verdict") == "rejected" else " ".join(outcome.problems)
        )
        if row.verdict == TAKEN:
            row.leaks += self._rendition_leaks(source_id)

    def _rendition_leaks(self, source_id: str) -> int:
        made = self.demo.rows(
            "select object_key from rendition_1x1 where source_id = $source", {"source": source_id}
        )
        words = (CANARY.encode(), b"SUBTITLE OF THE SOURCE", b"evil.ttf", b"</script>")
        data = [self.demo.store.get(each["object_key"]) for each in made]
        return sum(word in content for content in data for word in words) + (not made)

    def _judge(self, row: Row, account: str) -> None:
        with self.demo.state.session(write=False) as session:
            rows = session.query(VideoSlot).where(VideoSlot.source_id.like(f"{account}--%")).all()
            row.slots = sum(slot.state != "released" for slot in rows)
        taken = row.verdict == TAKEN
        scratch = Path(self.settings.home_dir) / "scratch"
        bars = {
            f"expected {' or '.join(row.upload.allowed)}": row.verdict in row.upload.allowed,
            "connections": row.hits == 0,
            "leaks": row.leaks == 0,
            "processes left": not children_of_ours(),
            "files left in scratch": not scratch.exists() or not any(scratch.iterdir()),
            "seconds": row.seconds < MOST_SECONDS,
            "memory": row.memory < MOST_MEMORY,
            f"{row.slots} slots of the quota": row.slots == int(taken),
            f"reason not readable: {row.reason!r}": row.verdict in (TAKEN, NOT_TAKEN)
            or bool(READABLE.search(row.reason)) or "remedy" in row.reason.lower(),
        }  # fmt: skip
        row.broken += [name for name, held in bars.items() if not held]


def children_of_ours() -> list[str]:
    """Processes this one started that still run, by command line, ffmpeg and inspectors only."""
    found = []
    for entry in Path("/proc/self/task").glob("*/children"):
        for pid in entry.read_text().split():
            with suppress(OSError):
                found.append(Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if "ffmpeg" in line or "inspection.py" in line]


def leftovers(home: Path) -> list[str]:
    """Files of the home that hold a neighbour's words, but for what was uploaded itself."""
    inputs = tuple(home / "store" / name for name in ("uploads", "media/sources"))
    return [
        str(path.relative_to(home))
        for path in home.rglob("*")
        if path.is_file() and not any(path.is_relative_to(each) for each in inputs)
        and CANARY.encode() in path.read_bytes()
    ]  # fmt: skip


def play(
    home: Path, uploads: Iterable[HostileUpload], tell: Callable[[Row], None]
) -> tuple[list[Row], list[str]]:
    """Send the inputs through a fresh home, a good video after every 25th and at the end; rows and global leaks."""
    settings = get_settings()
    prepare_home(settings)
    with (
        Listener() as listener,
        tempfile.TemporaryDirectory() as aside,
        dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance,
    ):
        gauntlet = Gauntlet(settings, instance, ground(Path(aside) / "ground", listener.port), listener)
        gauntlet.demo.state.migrate()
        chosen = with_good_ones(list(uploads))
        placed = [
            (upload, f"h{number:03d}", gauntlet.place(upload, f"h{number:03d}"))
            for number, upload in enumerate(chosen)
        ]
        gauntlet.tick()
        rows = []
        for upload, account, path in placed:
            rows.append(gauntlet.run(upload, account, path))
            tell(rows[-1])
    return rows, leftovers(home)


def play_in_bucket(home: Path, tell: Callable[[Row], None]) -> tuple[list[Row], list[str]]:
    """Send what only a bucket can hold through a fresh home; rows and global leaks."""
    with (
        hostile_bucket() as strangers,
        Listener() as listener,
        tempfile.TemporaryDirectory() as aside,
    ):
        settings = get_settings()
        prepare_home(settings)
        with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
            aims = ground(Path(aside) / "ground", listener.port)
            gauntlet = Gauntlet(settings, instance, aims, listener)
            gauntlet.demo.state.migrate()
            numbered = {f"b{number:03d}": upload for number, upload in enumerate(BUCKET_UPLOADS)}
            for account, upload in numbered.items():
                strangers.put(upload, account, NICHE, aims)
            strangers.flood({account: upload.in_tick for account, upload in numbered.items()})
            gauntlet.tick()
            in_tick = strangers.proxy.flooded
            rows = []
            for account, upload in numbered.items():
                strangers.change(upload, account, NICHE, aims)
                strangers.flood({account: upload.in_run})
                strangers.proxy.flooded = 0
                rows.append(gauntlet.play(Row(upload), gauntlet.requests.get(account, []), account))
                if strangers.proxy.flooded > MOST_FLOODED:
                    rows[-1].broken.append(f"{strangers.proxy.flooded >> 20} MB were taken in")
                tell(rows[-1])
            if in_tick > 3 * MOST_FLOODED:
                rows[-1].broken.append(f"{in_tick >> 20} MB were taken in by the sensor")
    return rows, leftovers(home)


def with_good_ones(uploads: list[HostileUpload]) -> list[HostileUpload]:
    mixed = []
    for number, upload in enumerate(uploads, start=1):
        mixed.append(upload)
        if number % GOOD_EVERY == 0 or number == len(uploads):
            mark = f"good after {number}"
            mixed.append(
                HostileUpload("-", f"a good video after {number} bad ones", "clip.mp4",
                              lambda path, aims, mark=mark: good_clip(path, aims, mark), (TAKEN,))  # type: ignore[misc]
            )  # fmt: skip
    return mixed


def table(rows: Sequence[Row]) -> Table:
    shown = Table("no.", "input", "verdict", "s", "MB", "hits", "leaks", "slots", "held")
    for row in rows:
        shown.add_row(
            row.upload.number, escape(row.upload.what), row.verdict, f"{row.seconds:.1f}",
            f"{row.memory / 1e6:.0f}", str(row.hits), str(row.leaks), str(row.slots),
            escape("; ".join(row.broken)) or "yes",
        )  # fmt: skip
    return shown


def main() -> int:
    parser = argparse.ArgumentParser(prog="hostile", description=__doc__)
    parser.add_argument("--only", default="", help="inputs with these words in their name")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hostile-") as folder:
        home = Path(folder) / "home"
        os.environ |= {"ETTAMETTA_HOME": str(home), "DAGSTER_DISABLE_TELEMETRY": "yes"}
        os.chdir(folder)
        # The runs keep their own logs; on this console they would bury the table.
        logging.disable(logging.WARNING)
        get_settings.cache_clear()
        began = time.monotonic()
        chosen = [upload for upload in corpus() if asked.only in upload.what]
        rows, leaked = play(home, chosen, _say)
        if not asked.only:
            # A store of its own, and a home with it.
            os.environ["ETTAMETTA_HOME"] = str(home.with_name("bucket"))
            in_bucket, leaked_there = play_in_bucket(home.with_name("bucket"), _say)
            rows, leaked = rows + in_bucket, leaked + leaked_there
    console = Console(width=170)
    console.print(table(rows))
    for place in leaked:
        console.print(f"LEAKED into {place}", highlight=False)
    held = not leaked and all(not row.broken for row in rows)
    counts = Counter("taken" if row.verdict == TAKEN else "refused" for row in rows)
    console.print(
        f"{len(rows)} inputs in {time.monotonic() - began:.0f} s: {counts['refused']} refused, {counts['taken']} "
        f"rendered, {sum(row.hits for row in rows)} connections, {len(leaked)} files with a neighbour's words, most "
        f"memory {max((row.memory for row in rows), default=0) / 1e6:.0f} MB; {walls().in_words}: "
        f"{'all held' if held else 'NOT HELD'}",
        highlight=False,
        soft_wrap=True,
    )
    return 0 if held else 1


def _say(row: Row) -> None:
    if row.broken:
        sys.stderr.write(f"{row.upload.what!r}: {row.verdict}: {'; '.join(row.broken)}\n")


if __name__ == "__main__":
    sys.exit(main())
