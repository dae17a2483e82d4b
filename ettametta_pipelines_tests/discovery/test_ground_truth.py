"""A sandboxed night and the three days after it: what the signals recover of what the catalogue knows.

The truth is the catalogue's own: how far an upload ends above its channel's baseline, and how many views it gains in
the next 24 hours. Times, seeds and so the figures are fixed; floors stand a little below what was measured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from ettametta_pipelines.discovery.metered_youtube import MeteredYouTube
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.snapshots import due_snapshots, take_snapshots, watched_candidates
from ettametta_pipelines.discovery.trends import Surroundings, rank_trends
from ettametta_pipelines.discovery.window import publication_window
from ettametta_pipelines.discovery.youtube_collector import YouTubeCollector
from ettametta_pipelines.ranking import percentiles
from ettametta_pipelines.sandbox.app import DEFAULT_SEED
from ettametta_pipelines.sandbox.youtube_catalog import Catalog, CatalogVideo, subject_of
from ettametta_pipelines.settings import Settings, VendorEndpoint
from ettametta_pipelines.state.session import open_state
from ettametta_pipelines.vendors.youtube import YouTubeData
from ettametta_pipelines_tests.frozen import SetClock, frozen_sandbox, utc

Row = dict[str, Any]
NICHE = Niche(
    slug="travel", title="Travel", queries=("hidden travel spots", "packing hacks", "street food tour")
)
NIGHT = utc("2026-11-09T09:10:00")
AFTER = timedelta(hours=72)


@dataclass(frozen=True)
class Truth:
    """The catalogue itself, asked about videos it was not asked about over HTTP."""

    catalog: Catalog

    def videos(self, rows: Sequence[Row], now: datetime) -> list[CatalogVideo]:
        found = [self.catalog.video(row["video_id"], now) for row in rows]
        assert None not in found
        return [video for video in found if video is not None]

    def pulls(self, rows: Sequence[Row], now: datetime) -> list[float]:
        """Where each ends up against what its channel's usual upload ends at."""
        return [
            v.statistics(v.published_at + timedelta(days=60)).views / v.channel.baseline_views
            for v in self.videos(rows, now)
        ]

    def gains(self, rows: Sequence[Row], now: datetime) -> list[float]:
        """Views of the next 24 hours."""
        later = now + timedelta(hours=24)
        return [float(v.statistics(later).views - v.statistics(now).views) for v in self.videos(rows, now)]


@dataclass(frozen=True)
class Night:
    raw: list[Row]
    snapshots: list[Row]
    truth: Truth


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Night:
    home: Path = tmp_path_factory.mktemp("night")
    clock = SetClock(NIGHT)
    settings = Settings(_env_file=None, ETTAMETTA_HOME=str(home), DATABASE_URL="")  # type: ignore[call-arg]
    with frozen_sandbox(home, clock) as sandbox, open_state(settings) as db:
        client = YouTubeData(
            VendorEndpoint("youtube", "sandbox", f"{sandbox.url}/youtube/", "test"), clock=clock
        )
        metered = MeteredYouTube(client, db, clock)
        day = NIGHT.date() - timedelta(days=1)
        window = publication_window(day, ZoneInfo("UTC"), clock())
        raw = YouTubeCollector(metered, NICHE, window, clock=clock).collect(day).rows
        taken: list[Row] = []
        while clock() < NIGHT + AFTER:
            clock.sleep(3 * 3600)
            due = due_snapshots(watched_candidates([raw], clock(), 200), taken, clock())
            taken += take_snapshots(metered, due, clock().date(), clock).rows
    memory: dict[str, str] = {}
    catalog = Catalog(DEFAULT_SEED, remember=memory.__setitem__, recall=memory.get)
    for query in NICHE.queries:
        catalog.channels(subject_of(query))
    return Night(raw, taken, Truth(catalog))


def spearman(one: Sequence[float | None], other: Sequence[float]) -> float:
    from scipy.stats import spearmanr

    known = [(a, b) for a, b in zip(one, other, strict=True) if a is not None]
    return float(spearmanr(*zip(*known, strict=True)).statistic)


def column(rows: Sequence[Row], name: str) -> list[float | None]:
    return [row[name] for row in rows]


def ranked(night: Night, *, at: datetime | None = None) -> list[Row]:
    """The night's ranking; with `at`, using the snapshots until then."""
    seen = [row for row in night.snapshots if at is not None and row["observed_at"] <= at]
    return rank_trends(night.raw, Surroundings(snapshots=seen)).rows


def strength_truth(night: Night, rows: Sequence[Row], now: datetime) -> list[float]:
    pulls, gains = (percentiles(f(rows, now)) for f in (night.truth.pulls, night.truth.gains))
    return [(a or 0) + (b or 0) for a, b in zip(pulls, gains, strict=True)]


def test_the_nights_ranking_recovers_the_catalogues(night: Night) -> None:
    rows = ranked(night)
    assert len(rows) > 30
    assert spearman(column(rows, "trend_strength"), strength_truth(night, rows, NIGHT)) > 0.88  # 0.93
    assert spearman(column(rows, "outlier_ratio"), night.truth.pulls(rows, NIGHT)) > 0.82  # 0.88
    assert spearman(column(rows, "speed_now_per_hour"), night.truth.gains(rows, NIGHT)) > 0.95  # 0.99


def test_snapshots_tell_what_rises_next_better_than_lifetime_averages(night: Night) -> None:
    now = NIGHT + AFTER
    before, after = ranked(night), ranked(night, at=now)
    assert {row["velocity_basis"] for row in after} == {"last_interval"}
    lifetime = spearman(column(before, "view_velocity_per_hour"), night.truth.gains(before, now))
    current = spearman(column(after, "view_velocity_per_hour"), night.truth.gains(after, now))
    assert lifetime < 0.96  # 0.94
    assert current > 0.97  # 0.99
    stale = spearman(column(before, "trend_strength"), strength_truth(night, before, now))
    fresh = spearman(column(after, "trend_strength"), strength_truth(night, after, now))
    assert fresh > stale + 0.03  # 0.96 after 0.89


def test_shrinkage_recovers_more_where_some_channels_are_little_known(night: Night) -> None:
    """Every other channel's baseline is cut to a single upload, an upload of its own luck."""
    little_known = sorted({row["channel_id"] for row in night.raw})[::2]
    luck = [4.0, 0.3, 1.0, 0.25, 2.5, 0.8, 6.0, 1.2]
    rows = [
        row | {"baseline_uploads": 1, "baseline_views": row["baseline_views"] * luck[n % len(luck)]}
        if row["channel_id"] in little_known and row["baseline_views"]
        else row
        for n, row in enumerate(night.raw)
    ]
    found = rank_trends(rows).rows
    pulls = night.truth.pulls(found, NIGHT)
    plain = spearman(column(found, "unshrunk_outlier_ratio"), pulls)
    shrunk = spearman(column(found, "outlier_ratio"), pulls)
    assert shrunk > plain + 0.02
