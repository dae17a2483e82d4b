"""Trend candidates found at the sandbox, ready to be judged."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.vendors.gemini import GeminiClient
from ettametta_pipelines.vendors.youtube import YouTubeData

Row = dict[str, Any]


@pytest.fixture
def gemini(settings_env: Settings) -> GeminiClient:
    return GeminiClient(settings_env.endpoint("gemini"), settings_env.gemini_model)


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
