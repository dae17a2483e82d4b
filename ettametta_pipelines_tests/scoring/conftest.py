"""Trend candidates found at the sandbox, ready to be judged, and the chain of models that judges them."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.scoring.chain import Chain, open_chain
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.vendors.youtube import YouTubeData

# Which weights rank is kept in objects of their own, on a directory and on S3.
from ettametta_pipelines_tests.storage.conftest import (  # noqa: F401
    bucket,
    directory_store,
    s3_client,
    s3_endpoint,
    store,
)

Row = dict[str, Any]


OpenChain = Callable[..., Chain]


@pytest.fixture
def open_models(settings_env: Settings) -> OpenChain:
    """`open_models("gemini", "groq")`: their chain on the test's own state, paid by account acme."""

    def open_them(*names: str) -> Chain:
        state = open_state(get_settings())
        return open_chain(get_settings(), names, state, account="acme", clock=utc_now)

    return open_them


@pytest.fixture
def gemini(open_models: OpenChain) -> Chain:
    return open_models("gemini")


@pytest.fixture
def candidates(settings_env: Settings) -> Callable[[int], list[Row]]:
    """`candidates(3)`: the columns of `trend_candidates` that judging and blending read, of real sandbox videos."""

    def find(count: int) -> list[Row]:
        youtube = YouTubeData(settings_env.endpoint("youtube"))
        now = utc_now()
        page = youtube.search(
            "home workout", published_after=now - timedelta(days=3), published_before=now, max_results=count
        )
        return [
            {
                "day": now.date(), "niche": "fitness", "platform": "youtube", "video_id": hit.video_id,
                "url": youtube.watch_url(hit.video_id), "title": hit.title, "channel_title": hit.channel_title,
                "duration_s": 40.0, "rank": rank, "views": 1000 * rank, "view_velocity_per_hour": 100.0 / rank,
                "outlier_ratio": None, "engagement_rate": 0.04, "thumbnail_url": hit.thumbnail_url,
            }
            for rank, hit in enumerate(page.videos, start=1)
        ]  # fmt: skip

    return find
