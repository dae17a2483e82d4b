"""A backfill over publications posts nothing again, whatever was rendered meanwhile."""

import pytest

from ettametta_pipelines_tests.conftest import SandboxUnderTest
from ettametta_pipelines_tests.publishing.conftest import Publisher, YouTubeSeen, padded
from ettametta_pipelines_tests.publishing.test_assets import Run, facts
from ettametta_pipelines_tests.publishing.test_assets import (
    connected as connected,  # a fixture, as those below
)
from ettametta_pipelines_tests.publishing.test_assets import instance as instance
from ettametta_pipelines_tests.publishing.test_assets import run as run


@pytest.mark.usefixtures("connected")
def test_every_asset_run_after_the_first_tells_of_the_same_post(run: Run, sandbox: SandboxUnderTest) -> None:
    posts = [facts(run("youtube_publications", approve=True), "youtube_publications") for _ in range(3)]
    assert len({post["remote_id"] for post in posts}) == 1
    assert sandbox.count("youtube", "POST", "/upload/") == 1


def test_a_video_rendered_with_a_new_recipe_is_not_posted_beside_the_old_one(
    publisher: Publisher, youtube_seen: YouTubeSeen, video: bytes
) -> None:
    assert publisher.to_youtube(publisher.order("youtube", video)).posted
    again = publisher.to_youtube(publisher.order("youtube", padded(video, len(video) + 1000)))
    assert not again.posted
    assert len(youtube_seen.videos) == 1
