"""Which finished videos the queue reads: those with a post to be made, and the queue is the same as if it read all."""

import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.media.contracts import SOURCE_MEDIA
from ettametta_pipelines.publishing.backlog import gather, known_platforms, upcoming
from ettametta_pipelines.publishing.finished import UPRIGHT, rendered, waiting_rows
from ettametta_pipelines.publishing.ledger import State
from ettametta_pipelines.publishing.policy import Channels
from ettametta_pipelines.publishing.queue import plan
from ettametta_pipelines.state.models import (
    OAuthConnection,
    Publication,
    PublicationDecision,
    PublicationSlot,
)
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.contracts import plain_rows
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import read_table, write_table
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (both kinds of database)
from ettametta_pipelines_tests.rows import a_row

NOW = utc_now().replace(microsecond=0)
VIDEOS = 24


def source_id(number: int) -> str:
    return f"acme--{number:016x}"


def finish(store: ObjectStore, number: int, verdict: str = "accepted") -> None:
    name = source_id(number)
    source = a_row(
        SOURCE_MEDIA, source_id=name, account="acme", verdict=verdict, title=f"Video {number}", rights="owned",
        upload_key="uploads/acme/x/a.mp4", accepted_at=NOW - timedelta(days=number),
    )  # fmt: skip
    rendition = a_row(
        UPRIGHT, source_id=name, object_key=f"media/{name}.mp4", sha256="a" * 64, size_bytes=9, duration_s=20.0,
        fps=30.0, format="9x16", recipe_json="{}",
    )  # fmt: skip
    write_table(store, SOURCE_MEDIA, SOURCE_MEDIA.frame([source]), name)
    write_table(store, UPRIGHT, UPRIGHT.frame([rendition]), name)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> ObjectStore:
    made = ObjectStore.from_url(Path(tmp_path_factory.mktemp("store")).as_uri())
    for number in range(VIDEOS):
        finish(made, number, "rejected" if number == 0 else "accepted")
    return made


@pytest.fixture
def db(database: StateDatabase) -> StateDatabase:
    with database.session() as session:
        for platform in ("tiktok", "youtube"):
            session.add(
                OAuthConnection(
                    account_id="acme", platform=platform, channel_id=f"c-{platform}", channel_title="Acme",
                    scopes="", access_token="", expires_at=NOW, generation=0, status="active", connected_at=NOW,
                    updated_at=NOW,
                )
            )  # fmt: skip
    return database


def named(number: int, platform: str, intent_no: int) -> dict[str, Any]:
    return {
        "platform": platform, "account_id": "acme", "content_id": source_id(number), "intent_no": intent_no
    }  # fmt: skip


def post(number: int, platform: str, state: str, intent_no: int = 1, days: float = 1) -> Publication:
    at = NOW - timedelta(days=days)
    return Publication(
        **named(number, platform, intent_no), id=f"{platform}{number}.{intent_no}", channel_id=f"c-{platform}",
        state=state, fence=1, object_key="k", sha256="a" * 64, size_bytes=9, received_bytes=9, marker="m",
        title="t", privacy="private", attempts=1, check_count=0, created_at=at, updated_at=at,
        session_opened_at=at,
    )  # fmt: skip


def decision(number: int, platform: str, said: str, intent_no: int = 1) -> PublicationDecision:
    return PublicationDecision(
        **named(number, platform, intent_no), decision=said, sha256="a" * 64, content_hash="b" * 64,
        post={"title": "t"}, wishes={"title": "t", "tags": []}, arms=[], comment="", decided_by="anna", decided_at=NOW,
    )  # fmt: skip


def fill(db: StateDatabase, seed: int) -> None:
    """A past that has about everything: posts in every state, repeated, decided on in every order."""
    rng = random.Random(seed)
    with db.session() as session:
        for number in range(VIDEOS):
            for platform in ("tiktok", "youtube"):
                for intent_no in range(1, rng.choice([0, 1, 1, 2, 3]) + 1):
                    state = str(rng.choice(list(State)))
                    session.add(post(number, platform, state, intent_no, days=rng.uniform(0, 9)))
                for _ in range(rng.choice([0, 0, 1, 2])):
                    said = rng.choice(["approve", "reject", "hold"])
                    session.add(decision(number, platform, said, rng.choice([1, 1, 2, 3])))
                    session.flush()
                if rng.random() < 0.5:
                    at = NOW - timedelta(days=rng.uniform(0, 9))
                    session.add(
                        PublicationSlot(
                            **named(number, platform, 1), attempt=1, slot_at=at, run_key=f"{platform}{number}",
                            taken_at=at,
                        )
                    )  # fmt: skip


@pytest.mark.parametrize("seed", range(6))
def test_the_queue_is_the_one_that_reading_everything_gives(
    store: ObjectStore, db: StateDatabase, seed: int
) -> None:
    fill(db, seed)
    everything = [
        [row for name in rendered(store) for row in plain_rows(read_table(store, contract, name))]
        for contract in (SOURCE_MEDIA, UPRIGHT)
    ]
    accepted = [row for row in everything[0] if row["verdict"] == "accepted"]
    backlog = gather(db, accepted, everything[1], Channels(), NOW)
    whole = plan(backlog.entries, backlog.taken, Channels(), NOW, backlog.quota_left)
    assert upcoming(store, db, Channels(), NOW) == whole
    assert 0 < len(whole) < 2 * VIDEOS


def test_only_what_waits_is_read(
    store: ObjectStore, db: StateDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    with db.session() as session:
        for number in range(2, VIDEOS):
            session.add_all([post(number, platform, "PUBLISHED") for platform in ("tiktok", "youtube")])
    read: list[str] = []
    get = ObjectStore.get
    monkeypatch.setattr(ObjectStore, "get", lambda self, key: read.append(key) or get(self, key))
    sources, renditions = waiting_rows(store, db, known_platforms(db, Channels()))
    assert [row["source_id"] for row in sources] == [source_id(1)]
    assert len(renditions) == 2
    assert len(read) == 4


def test_accounts_without_any_channel_wait_for_nothing(store: ObjectStore, database: StateDatabase) -> None:
    assert waiting_rows(store, database, known_platforms(database, Channels())) == ([], [])
