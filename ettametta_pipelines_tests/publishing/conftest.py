"""A place to publish from: the state on both databases, a directory store with a real video, the sandbox over HTTP."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from cryptography.fernet import Fernet

from ettametta_pipelines.publishing import tiktok_upload, youtube_upload
from ettametta_pipelines.publishing.connections import connect
from ettametta_pipelines.publishing.delivery import Order, Outcome, Patience, Rendition, Workshop
from ettametta_pipelines.publishing.disclosure import Disclosure
from ettametta_pipelines.publishing.posts import compose_post
from ettametta_pipelines.publishing.tokens import Envelope
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.state.models import PublicationEvent
from ettametta_pipelines.state.session import StateDatabase
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.vendors.tiktok import TikTokApp
from ettametta_pipelines.vendors.youtube import CHUNK_MULTIPLE, UploadProgress, YouTubeApp, YouTubeChannel
from ettametta_pipelines_tests.conftest import SandboxUnderTest

ACCOUNT = "acme"
SOURCE = "acme--0123456789abcdef"
# Three chunks of the smallest size on YouTube, the last one short.
YOUTUBE_SIZE = 2 * CHUNK_MULTIPLE + 100_000
EACH_CHUNK_ONCE = [
    (0, CHUNK_MULTIPLE),
    (CHUNK_MULTIPLE, 2 * CHUNK_MULTIPLE),
    (2 * CHUNK_MULTIPLE, YOUTUBE_SIZE),
]
TIKTOK_CHUNK = 5 * 1024 * 1024


def tiny_video() -> bytes:
    """A quarter of a second of moving colour, as MP4."""
    from io import BytesIO

    import av
    import numpy as np

    buffer = BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt = 180, 320, "yuv420p"  # type: ignore[attr-defined]
        for number in range(6):
            picture = np.full((320, 180, 3), number * 40, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))  # type: ignore[attr-defined]
        container.mux(stream.encode(None))  # type: ignore[attr-defined]
    return buffer.getvalue()


def padded(video: bytes, size: int) -> bytes:
    """The same video with a `free` box behind it, which players skip."""
    rest = size - len(video)
    return video + rest.to_bytes(4, "big") + b"free" + bytes(rest - 8)


@pytest.fixture
def database_url(tmp_path: Path) -> str:
    """SQLite at the newest schema. Modules whose subject is the database import the fixture of both kinds instead."""
    url = f"sqlite:///{tmp_path / 'state.db'}"
    StateDatabase(url).migrate()
    return url


@pytest.fixture(scope="session")
def video() -> bytes:
    return tiny_video()


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore.from_url((tmp_path / "store").as_uri())


@pytest.fixture(scope="session")
def envelope() -> Envelope:
    return Envelope([Fernet.generate_key().decode()])


class NotingApp(YouTubeApp):
    """The real client, which notes the byte ranges it sends: the sandbox's log does not tell data from questions."""

    def __init__(self, endpoint: VendorEndpoint, token_url: str) -> None:
        super().__init__(endpoint, token_url)
        self.sent: list[tuple[int, int]] = []

    def channel(self, access_token: str) -> YouTubeChannel:
        sent = self.sent

        class NotingChannel(YouTubeChannel):
            def put_range(self, session_uri: str, data: bytes, start: int, total: int) -> UploadProgress:
                sent.append((start, start + len(data)))
                return super().put_range(session_uri, data, start, total)

        return NotingChannel(self.endpoint, access_token)


@dataclass
class Publisher:
    """One worker: what it works with and how it is asked to post."""

    workshop: Workshop
    youtube_app: NotingApp
    tiktok_app: TikTokApp

    def with_(self, **changes: Any) -> "Publisher":
        return replace(self, workshop=replace(self.workshop, **changes))

    def order(self, platform: str, data: bytes, **changes: Any) -> Order:
        """An order for `data`, put into the store under a key of its own."""
        import hashlib

        words = {"title": "Knife skills", "description": "In ten seconds", "tags": ("cooking",)}
        about = {
            k: changes.pop(k) for k in list(changes) if k in {*words, "privacy", "paid", "made_for_kids"}
        }
        synthetic = changes.pop("synthetic", False)
        sha256 = hashlib.sha256(data).hexdigest()
        key = f"media/renditions/{SOURCE}/9x16/{sha256[:16]}.mp4"
        self.workshop.store.put(key, data)
        return Order(
            account=ACCOUNT,
            post=compose_post(platform, Disclosure(synthetic=synthetic), **{**words, **about}),
            rendition=Rendition(SOURCE, key, sha256, len(data), duration_s=0.25),
            **changes,
        )

    def to_youtube(self, order: Order) -> Outcome:
        return youtube_upload.publish(self.workshop, self.youtube_app, order, chunk_size=CHUNK_MULTIPLE)

    def to_tiktok(self, order: Order) -> Outcome:
        return tiktok_upload.publish(self.workshop, self.tiktok_app, order, chunk_size=TIKTOK_CHUNK)


@pytest.fixture
def youtube_app(settings_env: Settings) -> NotingApp:
    endpoint = settings_env.endpoint("google")
    return NotingApp(endpoint, token_url=endpoint.base_url + "token")


@pytest.fixture
def tiktok_app(settings_env: Settings) -> TikTokApp:
    return TikTokApp(settings_env.endpoint("tiktok"), sleep=lambda _: None)


@pytest.fixture
def new_publisher(
    open_database: Callable[[], StateDatabase],
    store: ObjectStore,
    envelope: Envelope,
    youtube_app: NotingApp,
    tiktok_app: TikTokApp,
) -> Callable[[], Publisher]:
    """Makes workers that share nothing but the database, the store and the key, as separate processes would."""

    def make() -> Publisher:
        workshop = Workshop(
            db=open_database(),
            store=store,
            envelope=envelope,
            patience=Patience(polls=4, stalls=3, looks=1, look_for=timedelta(0), look_again_in=timedelta(0)),
            sleep=lambda _: None,
        )
        return Publisher(workshop, youtube_app, tiktok_app)

    return make


@pytest.fixture
def publisher(new_publisher: Callable[[], Publisher]) -> Publisher:
    """A worker whose account is connected on both platforms."""
    made = new_publisher()
    for platform, app in (("youtube", made.youtube_app), ("tiktok", made.tiktok_app)):
        connect(
            made.workshop.db, app, ACCOUNT, platform, f"sandbox-{ACCOUNT}", envelope=made.workshop.envelope
        )
    return made


@dataclass
class YouTubeSeen:
    """What the sandbox's YouTube has seen of uploads."""

    sandbox: SandboxUnderTest

    @property
    def sessions(self) -> int:
        return self.sandbox.count("youtube", "POST", "/upload/")

    @property
    def puts(self) -> int:
        """Data and questions together."""
        return self.sandbox.count("youtube", "PUT", "/upload/")

    @property
    def videos(self) -> list[dict[str, Any]]:
        store = self.sandbox.server._server.config.app.state.store
        return [value for _, value in store.items("youtube_video")]


@dataclass
class TikTokSeen:
    """What the sandbox's TikTok has seen of uploads."""

    sandbox: SandboxUnderTest

    @property
    def inits(self) -> int:
        return self.sandbox.count("tiktok", "POST", "/video/init/")

    @property
    def puts(self) -> int:
        return self.sandbox.count("tiktok", "PUT", "/upload/")

    @property
    def posts(self) -> list[dict[str, Any]]:
        store = self.sandbox.server._server.config.app.state.store
        return [value for _, value in store.items("tiktok_post")]


@pytest.fixture
def tiktok_seen(sandbox: SandboxUnderTest) -> TikTokSeen:
    return TikTokSeen(sandbox)


@pytest.fixture
def youtube_seen(sandbox: SandboxUnderTest) -> YouTubeSeen:
    return YouTubeSeen(sandbox)


class Killed(BaseException):
    """Stands for the end of the process: no handler of ours catches it."""


class DyingStore(ObjectStore):
    """A store whose reader dies before it has read chunk number `at`, counted from zero."""

    def __init__(self, store: ObjectStore, at: int) -> None:
        self.__dict__ |= store.__dict__
        self.reads_left = at

    def read_range(self, key: str, start: int, length: int) -> bytes:
        if self.reads_left == 0:
            raise Killed
        self.reads_left -= 1
        return super().read_range(key, start, length)


def with_a_new_key(publisher: Publisher, *, connected_again: bool) -> Publisher:
    """The same worker after its encryption key was lost, its channels consented to again or not yet."""
    renewed = publisher.with_(envelope=Envelope([Fernet.generate_key().decode()]))
    if connected_again:
        for platform, app in (("youtube", renewed.youtube_app), ("tiktok", renewed.tiktok_app)):
            connect(
                renewed.workshop.db,
                app,
                ACCOUNT,
                platform,
                f"sandbox-{ACCOUNT}",
                envelope=renewed.workshop.envelope,
            )
    return renewed


def reasons(publisher: Publisher) -> list[str]:
    """Reasons of every transition in the audit trail, in order."""
    with publisher.workshop.db.session(write=False) as session:
        return list(session.scalars(sa.select(PublicationEvent.reason).order_by(PublicationEvent.id)))
