"""A worker process that is killed while it uploads, and the one that comes after it."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ettametta_pipelines
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.publishing.delivery import Outcome
from ettametta_pipelines.publishing.ledger import PublicationBusy
from ettametta_pipelines_tests.databases import database_url  # noqa: F401 (on both kinds)
from ettametta_pipelines_tests.publishing.conftest import YOUTUBE_SIZE, Publisher, YouTubeSeen, padded

ROOT = Path(ettametta_pipelines.__file__).parents[1]

# Publishes with a lease of half a second and kills itself before it reads chunk number `at`.
VICTIM = """
import os, signal, sys
from ettametta_pipelines.publishing import youtube_upload
from ettametta_pipelines.publishing.delivery import Order, Rendition, Workshop
from ettametta_pipelines.publishing.disclosure import Disclosure
from ettametta_pipelines.publishing.posts import compose_post
from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.vendors.youtube import CHUNK_MULTIPLE, YouTubeApp

database, store_url, key, vendor_url, account, source, object_key, sha256, size, at = sys.argv[1:]

class Dying(ObjectStore):
    reads = 0
    def read_range(self, key, start, length):
        if Dying.reads == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        Dying.reads += 1
        return super().read_range(key, start, length)

endpoint = VendorEndpoint("google", "sandbox", vendor_url, "test")
workshop = Workshop(StateDatabase(database), Dying.from_url(store_url), Envelope([key]), lease_s=0.5)
order = Order(
    account, compose_post("youtube", Disclosure(synthetic=False), title="Knife skills"),
    Rendition(source, object_key, sha256, int(size), 1.0),
)
youtube_upload.publish(workshop, YouTubeApp(endpoint, vendor_url + "token"), order, chunk_size=CHUNK_MULTIPLE)
"""


@pytest.mark.parametrize("chunk", [1, 2])
def test_a_killed_process_is_followed_by_one_that_resumes_its_session(
    publisher: Publisher,
    new_publisher: Callable[[], Publisher],
    youtube_seen: YouTubeSeen,
    database_url: str,  # noqa: F811
    video: bytes,
    chunk: int,
) -> None:
    from cryptography.fernet import Fernet

    from ettametta_pipelines.publishing.connections import connect
    from ettametta_pipelines.publishing.tokens import Envelope

    key = Fernet.generate_key().decode()
    keyed = publisher.with_(envelope=Envelope([key]))
    connect(keyed.workshop.db, keyed.youtube_app, "acme", "youtube", "sandbox-acme", envelope=Envelope([key]))
    order = keyed.order("youtube", padded(video, YOUTUBE_SIZE))
    made = order.rendition
    arguments = (
        database_url, keyed.workshop.store.url, key, keyed.youtube_app.endpoint.base_url, "acme", made.source_id,
        made.object_key, made.sha256, str(made.size_bytes), str(chunk),
    )  # fmt: skip
    victim = subprocess.run(
        [sys.executable, "-c", VICTIM, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert victim.returncode == -9, victim.stderr

    outcome = _publish_once_the_lease_has_run_out(new_publisher().with_(envelope=Envelope([key])), order)
    assert (outcome.publication.state, outcome.posted, outcome.publication.attempts) == ("PUBLISHED", True, 2)
    assert (youtube_seen.sessions, len(youtube_seen.videos)) == (1, 1)
    assert youtube_seen.videos[0]["size"] == YOUTUBE_SIZE


def _publish_once_the_lease_has_run_out(publisher: Publisher, order: object) -> Outcome:
    failure: PipelineError | None = None
    for _ in range(2000):
        try:
            return publisher.to_youtube(order)  # type: ignore[arg-type]
        except PublicationBusy as busy:
            failure = busy
    raise AssertionError(f"the lease of half a second did not end: {failure}")
