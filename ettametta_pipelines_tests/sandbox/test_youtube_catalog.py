"""The sandbox's catalogue: the same seed and day give the same videos, and all ways to them agree."""

from datetime import UTC, datetime, timedelta
from statistics import median

import pytest

from ettametta_pipelines.sandbox.youtube_catalog import Catalog, CatalogVideo, subject_of
from ettametta_pipelines.sandbox.youtube_resources import iso_duration
from ettametta_pipelines.vendors.youtube import parse_duration

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
WEEK = timedelta(days=7)


def catalog(seed: int = 1) -> Catalog:
    known: dict[str, str] = {}
    return Catalog(seed, remember=known.__setitem__, recall=known.get)


def week_of(seed: int = 1, subject: str = "street food") -> list[CatalogVideo]:
    return catalog(seed).search(subject, NOW - WEEK, None, NOW)


def test_the_same_seed_and_time_give_the_same_videos() -> None:
    first, second = week_of(), week_of()
    assert [(v.id, v.title, v.statistics(NOW)) for v in first] == [
        (v.id, v.title, v.statistics(NOW)) for v in second
    ]
    assert len(first) > 40
    assert {v.id for v in first}.isdisjoint(v.id for v in week_of(seed=2))
    assert {v.id for v in first}.isdisjoint(v.id for v in week_of(subject="chess"))


def test_a_video_is_found_again_by_its_id_and_its_channel_by_its_id() -> None:
    shelf = catalog()
    found = shelf.search("street food", NOW - WEEK, None, NOW)
    assert found
    for video in found:
        assert shelf.video(video.id, NOW) == video
        assert shelf.channel(video.channel.id) == video.channel
        assert video in shelf.uploads(video.channel, NOW, 50)


@pytest.mark.parametrize("video_id", ["", "short", "AAAAAAAAAAA", "!!!!!!!!!!!", "x" * 200])
def test_an_invented_id_is_nothing(video_id: str) -> None:
    shelf = catalog()
    shelf.channels("street food")
    assert shelf.video(video_id, NOW) is None
    assert shelf.channel("UC" + video_id * 2) is None


def test_ids_look_like_youtubes_and_are_unique() -> None:
    videos = catalog().search("street food", NOW - timedelta(days=60), None, NOW)
    assert {len(v.id) for v in videos} == {11}
    assert {len(v.channel.id) for v in videos} == {24}
    assert len({v.id for v in videos}) == len(videos)


def test_nothing_from_the_future_and_nothing_outside_the_window() -> None:
    later = NOW + timedelta(days=1)
    videos = catalog().search("street food", NOW - WEEK, later, NOW)
    assert all(NOW - WEEK <= v.published_at <= NOW for v in videos)
    video = videos[0]
    shelf = catalog()
    shelf.channels("street food")
    assert shelf.video(video.id, video.published_at - timedelta(seconds=1)) is None


def test_counters_never_fall_and_start_at_nothing() -> None:
    videos = week_of()[:30]
    assert len(videos) == 30
    for video in videos:
        hours = [0, 1, 6, 24, 72, 24 * 30, 24 * 365]
        views = [video.statistics(video.published_at + timedelta(hours=h)).views for h in hours]
        assert views == sorted(views)
        assert views[0] == 0
        assert views[-1] > 0


def test_some_videos_stand_far_above_their_channels_usual_and_most_do_not() -> None:
    shelf = catalog()
    ratios = []
    for video in shelf.search("street food", NOW - timedelta(days=20), NOW - timedelta(days=5), NOW):
        usual = median(v.statistics(NOW).views for v in shelf.uploads(video.channel, NOW, 50))
        ratios.append(video.statistics(NOW).views / max(1.0, usual))
    assert max(ratios) > 5
    assert 0.5 < median(ratios) < 1.5


def test_titles_are_about_the_subject_and_durations_vary() -> None:
    videos = week_of()
    assert all("street food" in v.title.lower() for v in videos)
    assert len({v.title for v in videos}) > len(videos) / 3
    assert min(v.duration_s for v in videos) < 60 < max(v.duration_s for v in videos)


@pytest.mark.parametrize(
    ("query", "subject"),
    [
        ("Street  Food", "street food"),
        ('"street food"|ramen -mukbang', "street food ramen"),
        ("", "popular"),
        ("-only -exclusions", "popular"),
    ],
)
def test_a_query_is_reduced_to_its_subject(query: str, subject: str) -> None:
    assert subject_of(query) == subject


@pytest.mark.parametrize("seconds", [0, 1, 59, 60, 61, 3599, 3600, 3661, 86_400, 90_061])
def test_durations_written_are_read_back(seconds: int) -> None:
    assert parse_duration(iso_duration(seconds)) == seconds
