"""What the sandbox's audience likes: views of our own posts follow from the video they were made after."""

from datetime import timedelta
from statistics import fmean
from typing import Any

import pytest

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.sandbox import audience
from ettametta_pipelines.sandbox.youtube_catalog import Catalog
from ettametta_pipelines.sandbox.youtube_resources import Resources

Row = dict[str, Any]


@pytest.fixture
def catalog() -> Catalog:
    subjects: dict[str, str] = {}
    return Catalog(1, remember=subjects.__setitem__, recall=subjects.get)


def views_of(catalog: Catalog, description: str, title: str = "A post") -> float:
    """Mean views after a week over many posts that differ in their luck only."""
    now = utc_now()
    resources = Resources(None, None, catalog, url="http://sandbox", clock=lambda: now, seed=1)  # type: ignore[arg-type]
    return fmean(
        int(resources.statistics(post(str(number), title, description, now))["viewCount"])
        for number in range(200)
    )


def post(identity: str, title: str, description: str, now: Any) -> Row:
    return {
        "id": identity, "snippet": {"title": title, "description": description},
        "status": {"privacyStatus": "public"}, "published_at": (now - timedelta(days=7)).isoformat(),
    }  # fmt: skip


def test_posts_after_a_stronger_video_have_more_views(catalog: Catalog) -> None:
    now = utc_now()
    videos = catalog.search("pasta", now - timedelta(days=30), now, now)
    videos.sort(key=lambda video: audience.appeal(video.title, video.pull))
    weak, strong = (views_of(catalog, f"After https://y.test/watch?v={videos[at].id}") for at in (0, -1))
    expected = audience.appeal(videos[-1].title, videos[-1].pull) / audience.appeal(
        videos[0].title, videos[0].pull
    )
    assert strong / weak == pytest.approx(expected, rel=0.02)
    assert strong > 3 * weak


def test_without_a_link_the_posts_own_title_decides(catalog: Catalog) -> None:
    assert views_of(catalog, "", "Nobody tells you this: 5 mistakes") > 2 * views_of(catalog, "", "A walk")
    assert views_of(catalog, "watch?v=AAAAAAAAAAA", "A walk") == views_of(catalog, "", "A walk")


def test_the_pull_of_a_video_is_the_one_its_views_have(catalog: Catalog) -> None:
    now = utc_now()
    videos = catalog.search("pasta", now - timedelta(days=20), now - timedelta(days=10), now)
    shares = [video.statistics(now).views / (video.channel.baseline_views * video.pull) for video in videos]
    assert all(0.8 < share < 1.2 for share in shares)
