"""Uploading through our client: in ranges, over lost answers and dead processes, into exactly one video."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import (
    NeedsPersonError,
    OutcomeUnknownError,
    PermanentError,
    TransientError,
)
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.vendors.youtube import (
    CHUNK_MULTIPLE,
    UploadProgress,
    VideoMetadata,
    YouTubeApp,
    YouTubeChannel,
)
from ettametta_pipelines_tests.conftest import SandboxUnderTest

SIZE = 2 * CHUNK_MULTIPLE + 77
DATA = os.urandom(SIZE)
NOW_AGAIN = {"Retry-After": "0"}


@pytest.fixture
def app(sandbox: SandboxUnderTest, settings_env: Settings) -> YouTubeApp:
    return YouTubeApp(settings_env.endpoint("google"), token_url=f"{sandbox.url}/youtube/token")


@pytest.fixture
def token(app: YouTubeApp) -> str:
    return app.exchange_code("sandbox-acme").access_token


@pytest.fixture
def channel(app: YouTubeApp, token: str) -> YouTubeChannel:
    return app.channel(token)


def open_session(channel: YouTubeChannel, size: int = SIZE, **metadata: object) -> str:
    return channel.open_upload_session(
        VideoMetadata(**{"title": "A title", **metadata}),  # type: ignore[arg-type]
        size,
        "video/mp4",
    )


def send_rest(channel: YouTubeChannel, session: str, received: int = 0) -> UploadProgress:
    progress = UploadProgress(received)
    while progress.video_id is None:
        chunk = DATA[progress.received : progress.received + CHUNK_MULTIPLE]
        progress = channel.put_range(session, chunk, progress.received, SIZE)
    return progress


def own_videos(channel: YouTubeChannel) -> list[str]:
    return [video.video_id for video in channel.recent_uploads(channel.identity()[2], 100)]


def test_a_video_arrives_in_ranges_and_byte_for_byte(
    sandbox: SandboxUnderTest, channel: YouTubeChannel
) -> None:
    session = open_session(channel)
    assert channel.query_session(session, SIZE) == UploadProgress(0)
    first = channel.put_range(session, DATA[:CHUNK_MULTIPLE], 0, SIZE)
    assert first == UploadProgress(CHUNK_MULTIPLE)
    done = send_rest(channel, session, first.received)
    assert done.received == SIZE
    assert channel.query_session(session, SIZE) == done
    assert sandbox.http.get(f"/youtube/media/{done.video_id}").content == DATA


def test_the_whole_file_may_be_one_range(channel: YouTubeChannel) -> None:
    assert channel.put_range(open_session(channel), DATA, 0, SIZE).video_id


def test_a_lost_last_answer_is_found_out_by_asking_and_nothing_is_sent_twice(
    sandbox: SandboxUnderTest, channel: YouTubeChannel
) -> None:
    session = open_session(channel)
    sandbox.fault("youtube", method="PUT", action="drop_after")
    with pytest.raises(OutcomeUnknownError) as caught:
        channel.put_range(session, DATA, 0, SIZE)
    assert caught.value.code == "answer_lost"
    assert sandbox.count("youtube", "PUT", "/upload/") == 1
    progress = channel.query_session(session, SIZE)
    assert own_videos(channel) == [progress.video_id]


def test_a_range_lost_before_it_arrived_is_sent_again_from_what_is_held(
    sandbox: SandboxUnderTest, channel: YouTubeChannel
) -> None:
    session = open_session(channel)
    channel.put_range(session, DATA[:CHUNK_MULTIPLE], 0, SIZE)
    sandbox.fault("youtube", method="PUT", action="drop_before")
    with pytest.raises(OutcomeUnknownError):
        channel.put_range(session, DATA[CHUNK_MULTIPLE:], CHUNK_MULTIPLE, SIZE)
    held = channel.query_session(session, SIZE)
    assert held == UploadProgress(CHUNK_MULTIPLE)
    assert own_videos(channel) == []
    assert [send_rest(channel, session, held.received).video_id] == own_videos(channel)


def test_a_timeout_on_the_last_range_does_not_make_a_second_video(
    sandbox: SandboxUnderTest, settings_env: Settings, token: str
) -> None:
    patient = YouTubeChannel(settings_env.endpoint("google"), token)
    hasty = YouTubeChannel(replace(settings_env.endpoint("google"), timeout_s=0.2), token)
    session = open_session(patient)
    sandbox.fault("youtube", method="PUT", action="delay", delay_s=0.5)
    with pytest.raises(OutcomeUnknownError):
        hasty.put_range(session, DATA, 0, SIZE)
    sent = patient.put_range(session, DATA, 0, SIZE)
    assert patient.query_session(session, SIZE).video_id == sent.video_id
    assert own_videos(patient) == [sent.video_id]


def test_a_server_error_during_a_range_is_transient(
    sandbox: SandboxUnderTest, channel: YouTubeChannel
) -> None:
    session = open_session(channel)
    sandbox.fault("youtube", method="PUT", status=503)
    with pytest.raises(TransientError) as caught:
        channel.put_range(session, DATA, 0, SIZE)
    assert not isinstance(caught.value, OutcomeUnknownError)
    assert channel.put_range(session, DATA, 0, SIZE).video_id


def test_a_session_that_is_gone_says_so(sandbox: SandboxUnderTest, channel: YouTubeChannel) -> None:
    session = open_session(channel)
    sandbox.advance(days=8)
    assert channel.query_session(session, SIZE) == UploadProgress(0, gone=True)
    assert channel.put_range(session, DATA, 0, SIZE).gone


def test_another_process_finishes_an_upload_from_the_session_alone(
    channel: YouTubeChannel, token: str, settings_env: Settings, tmp_path: Path
) -> None:
    session = open_session(channel)
    channel.put_range(session, DATA[:CHUNK_MULTIPLE], 0, SIZE)
    (tmp_path / "video.mp4").write_bytes(DATA)
    program = """
import sys
from pathlib import Path
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.youtube import YouTubeChannel

base_url, token, session, path = sys.argv[1:]
data = Path(path).read_bytes()
channel = YouTubeChannel(VendorEndpoint("google", "sandbox", base_url, "test"), token)
held = channel.query_session(session, len(data)).received
print(held, channel.put_range(session, data[held:], held, len(data)).video_id)
"""
    base_url = settings_env.endpoint("google").base_url
    arguments = [base_url, token, session, str(tmp_path / "video.mp4")]
    repository = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    held, video_id = done.stdout.split()
    assert int(held) == CHUNK_MULTIPLE
    assert own_videos(channel) == [video_id]


@pytest.mark.parametrize(
    ("data", "start", "total"),
    [(b"", 0, SIZE), (b"x" * 1000, 0, SIZE), (b"x" * 1000, SIZE - 10, SIZE)],
)
def test_ranges_google_would_refuse_are_not_sent(
    sandbox: SandboxUnderTest, channel: YouTubeChannel, data: bytes, start: int, total: int
) -> None:
    session = open_session(channel)
    with pytest.raises(PermanentError) as caught:
        channel.put_range(session, data, start, total)
    assert caught.value.code == "bad_upload_range"
    assert sandbox.count("youtube", "PUT", "/upload/") == 0


def test_everything_said_about_a_video_reaches_youtube(
    channel: YouTubeChannel, sandbox: SandboxUnderTest, token: str
) -> None:
    metadata = VideoMetadata(
        title="Tom & Jerry",
        description="Zeile 1\nZeile 2 – ü",
        tags=("street food", "tea"),
        category_id="26",
        privacy="private",
        publish_at=utc_now() + timedelta(days=1),
        made_for_kids=False,
        synthetic_media=True,
        paid_promotion=True,
        license="creativeCommon",
        language="de",
        notify_subscribers=False,
    )
    session = channel.open_upload_session(metadata, SIZE, "video/mp4")
    video_id = channel.put_range(session, DATA, 0, SIZE).video_id
    stored = sandbox.http.get(
        "/youtube/youtube/v3/videos",
        params={"part": "snippet,status,paidProductPlacementDetails", "id": video_id},
        headers={"authorization": f"Bearer {token}"},
    ).json()["items"][0]
    assert stored["snippet"]["title"] == "Tom & Jerry"
    assert stored["snippet"]["description"] == "Zeile 1\nZeile 2 – ü"
    assert stored["snippet"]["tags"] == ["street food", "tea"]
    assert stored["snippet"]["defaultLanguage"] == "de"
    assert stored["status"]["privacyStatus"] == "private"
    assert stored["status"]["containsSyntheticMedia"] is True
    assert stored["status"]["license"] == "creativeCommon"
    assert stored["paidProductPlacementDetails"] == {"hasPaidProductPlacement": True}
    assert channel.video_status(str(video_id)).publish_at is not None  # type: ignore[union-attr]


def test_a_title_youtube_refuses_is_permanent_and_opens_nothing(channel: YouTubeChannel) -> None:
    with pytest.raises(PermanentError) as caught:
        open_session(channel, title="a > b")
    assert caught.value.code == "invalid_title"


def test_a_file_that_is_no_video_is_refused(channel: YouTubeChannel) -> None:
    with pytest.raises(PermanentError) as caught:
        channel.open_upload_session(VideoMetadata(title="x"), SIZE, "image/png")
    assert caught.value.code == "bad_content"


def test_a_file_beyond_youtubes_limit_is_refused_before_it_is_announced(
    sandbox: SandboxUnderTest, channel: YouTubeChannel
) -> None:
    with pytest.raises(PermanentError) as caught:
        open_session(channel, size=274_877_906_945)
    assert caught.value.code == "upload_too_large"
    assert sandbox.count("youtube", "POST", "/upload/") == 0


def test_a_refused_token_opens_nothing_and_needs_a_person(app: YouTubeApp) -> None:
    with pytest.raises(NeedsPersonError) as caught:
        open_session(app.channel("ya29.old"))
    assert caught.value.code == "access_token_rejected"


def test_processing_ends_after_a_look_and_names_the_failure(channel: YouTubeChannel) -> None:
    video_id = str(channel.put_range(open_session(channel), DATA, 0, SIZE).video_id)
    first, second = channel.video_status(video_id), channel.video_status(video_id)
    assert first is not None
    assert second is not None
    assert (first.upload_status, first.is_final) == ("uploaded", False)
    assert (second.upload_status, second.failure_reason, second.is_final) == ("failed", "invalidFile", True)
    assert channel.video_status("AAAAAAAAAAA") is None


def test_changing_who_sees_a_video_keeps_the_rest_of_its_status(channel: YouTubeChannel) -> None:
    session = open_session(channel, synthetic_media=True, license="creativeCommon")
    video_id = str(channel.put_range(session, DATA, 0, SIZE).video_id)
    channel.set_privacy(video_id, "unlisted")
    status = channel.video_status(video_id)
    assert status is not None
    assert status.privacy == "unlisted"
    raw = channel._google.resource("videos").list(part="status", id=video_id).execute()["items"][0]["status"]
    assert raw["containsSyntheticMedia"] is True
    assert raw["license"] == "creativeCommon"
    with pytest.raises(PermanentError):
        channel.set_privacy("AAAAAAAAAAA", "public")


def test_a_thumbnail_is_set_and_shown(channel: YouTubeChannel, sandbox: SandboxUnderTest) -> None:
    video_id = str(channel.put_range(open_session(channel), DATA, 0, SIZE).video_id)
    buffer = BytesIO()
    Image.new("RGB", (1280, 720), (250, 10, 10)).save(buffer, "JPEG")
    channel.set_thumbnail(video_id, buffer.getvalue(), "image/jpeg")
    shown = sandbox.http.get(f"/youtube/vi/{video_id}/default.jpg").content
    with Image.open(BytesIO(shown)) as picture:
        assert picture.size == (120, 90)
        assert picture.convert("RGB").getpixel((60, 45))[0] > 230  # type: ignore[index]
    with pytest.raises(PermanentError) as caught:
        channel.set_thumbnail(video_id, b"no picture", "image/jpeg")
    assert caught.value.code == "invalid_image"


def test_own_uploads_are_listed_over_pages_newest_first(
    channel: YouTubeChannel, sandbox: SandboxUnderTest
) -> None:
    made = []
    for _ in range(3):
        made.append(channel.put_range(open_session(channel, size=7), b"x" * 7, 0, 7).video_id)
        sandbox.advance(minutes=1)
    playlist = channel.identity()[2]
    assert [v.video_id for v in channel.recent_uploads(playlist, 2)] == made[:0:-1]
    assert {v.privacy for v in channel.recent_uploads(playlist, 10)} == {"private"}
