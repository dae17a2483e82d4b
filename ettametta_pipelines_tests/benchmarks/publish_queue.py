"""What one look at the publishing queue costs while the finished videos pile up behind ten that wait.

`make bench` runs it. Every finished video is posted on both platforms, with approvals and posting times; ten are not.

    python -m ettametta_pipelines_tests.benchmarks.publish_queue
"""

import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.media.contracts import SOURCE_MEDIA
from ettametta_pipelines.publishing.backlog import upcoming
from ettametta_pipelines.publishing.policy import Channels
from ettametta_pipelines.renders.contracts import RENDITIONS
from ettametta_pipelines.state.models import (
    OAuthConnection,
    Publication,
    PublicationDecision,
    PublicationSlot,
)
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import write_table
from ettametta_pipelines_tests.rows import a_row

FINISHED = (10, 1_000, 10_000)
WAITING = 10
ROUNDS = 5
NOW = utc_now().replace(microsecond=0)
UPRIGHT = next(contract for contract in RENDITIONS if contract.name == "rendition_9x16")


def source_id(number: int) -> str:
    return f"acme--{number:016x}"


def write_files(store: ObjectStore, numbers: range) -> None:
    """The two tables of each finished video."""
    for number in numbers:
        name, made = source_id(number), NOW - timedelta(hours=number)
        source = a_row(
            SOURCE_MEDIA, source_id=name, account="acme", verdict="accepted", title=f"Video {number}",
            rights="owned", accepted_at=made, upload_key=f"uploads/acme/x/{number}.mp4",
        )  # fmt: skip
        rendition = a_row(
            UPRIGHT, source_id=name, object_key=f"media/{name}.mp4", sha256="a" * 64, size_bytes=9_000_000,
            duration_s=20.0, fps=30.0, format="9x16", recipe_json="{}",
        )  # fmt: skip
        write_table(store, SOURCE_MEDIA, SOURCE_MEDIA.frame([source]), name)
        write_table(store, UPRIGHT, UPRIGHT.frame([rendition]), name)


def write_posts(db: StateDatabase, numbers: range) -> None:
    """What the state keeps of each posted video: post, approval and posting time, on both platforms."""
    posts: list[dict[str, Any]] = []
    decisions: list[dict[str, Any]] = []
    slots: list[dict[str, Any]] = []
    for number in numbers:
        at = NOW - timedelta(hours=72 + number)
        for platform in ("tiktok", "youtube"):
            name = {
                "platform": platform,
                "account_id": "acme",
                "content_id": source_id(number),
                "intent_no": 1,
            }
            posts.append(
                name | {
                    "id": f"{platform}{number}", "channel_id": f"UC-{platform}", "state": "PUBLISHED", "fence": 1,
                    "object_key": "k", "sha256": "a" * 64, "size_bytes": 9, "received_bytes": 9, "marker": "m",
                    "title": "t", "privacy": "public", "attempts": 1, "check_count": 0, "created_at": at,
                    "updated_at": at, "first_mutation_at": at, "session_opened_at": at, "settled_at": at,
                }
            )  # fmt: skip
            decisions.append(
                name | {
                    "decision": "approve", "sha256": "a" * 64, "content_hash": "b" * 64,
                    "post": {"title": "t", "description": "d" * 300}, "wishes": {"title": "t", "tags": []}, "arms": [],
                    "comment": "", "decided_by": "anna", "decided_at": at,
                }
            )  # fmt: skip
            slots.append(
                name | {"attempt": 1, "slot_at": at, "run_key": f"{platform}{number}", "taken_at": at}
            )
    with db.session() as session:
        for table, rows in ((Publication, posts), (PublicationDecision, decisions), (PublicationSlot, slots)):
            session.execute(sa.insert(table), rows)


def connect(db: StateDatabase) -> None:
    with db.session() as session:
        for platform in ("tiktok", "youtube"):
            session.add(
                OAuthConnection(
                    account_id="acme", platform=platform, channel_id=f"UC-{platform}", channel_title="Acme",
                    scopes="", access_token="", expires_at=NOW, generation=0, status="active", connected_at=NOW,
                    updated_at=NOW,
                )
            )  # fmt: skip


def main() -> None:
    table = Table(
        "finished videos", "waiting", "entries", "one look, ms (median of 5)", title="The publishing queue"
    )
    with tempfile.TemporaryDirectory() as directory:
        store = ObjectStore.from_url((Path(directory) / "store").as_uri())
        with StateDatabase(f"sqlite:///{directory}/state.db") as db:
            db.migrate()
            connect(db)
            write_files(store, range(WAITING))
            done = WAITING
            for finished in FINISHED:
                more = range(done, WAITING + finished)
                write_files(store, more)
                write_posts(db, more)
                done = WAITING + finished
                times, entries = [], 0
                for _ in range(ROUNDS):
                    began = time.perf_counter()
                    entries = len(upcoming(store, db, Channels(), NOW))
                    times.append((time.perf_counter() - began) * 1000)
                table.add_row(f"{finished:,}", str(WAITING), str(entries), f"{statistics.median(times):.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
