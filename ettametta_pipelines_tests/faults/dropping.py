"""One post over a line that keeps breaking: how many posts it makes, and how many bytes it takes."""

import hashlib
import tempfile
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from cryptography.fernet import Fernet

from ettametta_pipelines.failures import PipelineError, TransientError
from ettametta_pipelines.publishing import tiktok_upload, youtube_upload
from ettametta_pipelines.publishing.connections import connect
from ettametta_pipelines.publishing.delivery import Order, Patience, Rendition, Workshop
from ettametta_pipelines.publishing.disclosure import Disclosure
from ettametta_pipelines.publishing.posts import compose_post
from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.sandbox.server import SandboxServer
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.vendors.tiktok import MIN_CHUNK, TikTokApp
from ettametta_pipelines.vendors.youtube import YouTubeApp
from ettametta_pipelines_tests.line import Line
from ettametta_pipelines_tests.publishing.conftest import padded, tiny_video

SOURCE = "acme--0123456789abcdef"
# On YouTube an upload goes on at the byte that arrived. TikTok takes a chunk whole or not at all: each break costs
# what had arrived of one chunk, of which it takes none smaller than 5 MiB.
YOUTUBE_BYTES = 1.05
MOST_RUNS = 20


@dataclass(frozen=True)
class Crossing:
    """What came of it; `ratio` is bytes on the line per byte of the file, `allowed` what it may be."""

    platform: str
    state: str
    posts: int
    whole: bool
    drops: int
    runs: int
    ratio: float
    allowed: float

    @property
    def is_good(self) -> bool:
        return (self.state, self.posts, self.whole) == ("PUBLISHED", 1, True) and self.ratio <= self.allowed

    def __str__(self) -> str:
        return (
            f"{self.platform}: {self.state}, {self.posts} post(s) in {self.runs} run(s) over {self.drops} breaks, "
            f"{self.ratio:.3f}x the bytes (at most {self.allowed:.3f}x)"
        )


def cross(platform: str, size: int, every: int) -> Crossing:
    """Post `size` bytes over a line that breaks every `every` bytes."""
    with tempfile.TemporaryDirectory() as directory, Line(breaks_every=every) as line:
        home, url = Path(directory), f"http://127.0.0.1:{line.port}"
        with SandboxServer(home, public_url=url) as sandbox:
            line.to_port = sandbox.port
            app = _app(platform, url)
            with StateDatabase(f"sqlite:///{home / 'state.db'}") as db:
                db.migrate()
                envelope = Envelope([Fernet.generate_key().decode()])
                connect(db, app, "acme", platform, "sandbox-acme", envelope=envelope)
                store = ObjectStore.from_url((home / "store").as_uri())
                patience = Patience(poll_wait_s=0, stall_wait_s=0, look_for=timedelta(0))
                workshop = Workshop(db, store, envelope, patience, sleep=lambda _: None)
                order = _order(platform, store, size)
                line.sent = line.breaks = 0
                state, runs = _publish(workshop, app, platform, order)
            kind = {"youtube": "youtube_video", "tiktok": "tiktok_post"}[platform]
            seen = sandbox._app.state.store
            posts = [post for _, post in seen.items(kind)]
            whole = all(_sha256(seen.blob_path(post["blob"])) == order.rendition.sha256 for post in posts)
    allowed = YOUTUBE_BYTES if platform == "youtube" else 1.02 + MIN_CHUNK / (every - MIN_CHUNK)
    return Crossing(platform, state, len(posts), whole, line.breaks, runs, line.sent / size, allowed)


def _publish(workshop: Workshop, app: YouTubeApp | TikTokApp, platform: str, order: Order) -> tuple[str, int]:
    """Run after run, as the follow-up would, until the publication rests."""
    failure: PipelineError | None = None
    for run in range(1, MOST_RUNS + 1):
        try:
            if isinstance(app, YouTubeApp):
                outcome = youtube_upload.publish(workshop, app, order)
            else:
                outcome = tiktok_upload.publish(workshop, app, order)
        except TransientError as error:
            failure = error
            continue
        if outcome.publication.state != "PROCESSING":
            return outcome.publication.state, run
    raise AssertionError(f"{platform} does not come to rest: {failure}")


def _app(platform: str, url: str) -> YouTubeApp | TikTokApp:
    name = {"youtube": "google", "tiktok": "tiktok"}[platform]
    endpoint = VendorEndpoint(name, "sandbox", f"{url}/{platform}/", "test", timeout_s=10)
    if platform == "youtube":
        return YouTubeApp(endpoint, endpoint.base_url + "token")
    return TikTokApp(replace(endpoint, max_retries=0), sleep=lambda _: None)


def _order(platform: str, store: ObjectStore, size: int) -> Order:
    data = padded(tiny_video(), size)
    sha256 = hashlib.sha256(data).hexdigest()
    key = f"media/renditions/{SOURCE}/9x16/{sha256[:16]}.mp4"
    store.put(key, data)
    post = compose_post(platform, Disclosure(synthetic=False), title="Knife skills")
    return Order("acme", post, Rendition(SOURCE, key, sha256, size, duration_s=0.25))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
