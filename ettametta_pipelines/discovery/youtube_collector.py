"""Collects a niche's YouTube candidates for one day: searches, watched channels, statistics, channel baselines.

Quota is reserved in the state database before every request (`MeteredYouTube`), shared by all runs and never
oversold. When a bucket is spent the collector keeps what it has and names what it left out. Nothing is ranked
here: what the numbers mean is `virality.py`'s and `trends.py`'s business. Called by `assets.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.virality import Upload, age_hours, channel_baseline, view_velocity
from ettametta_pipelines.discovery.window import Window
from ettametta_pipelines.failures import PermanentError, TransientError
from ettametta_pipelines.state.quota import Reservation, commit, release, reserve
from ettametta_pipelines.untrusted import plain_text
from ettametta_pipelines.vendors.http import NeverSentError, call_with_retries
from ettametta_pipelines.vendors.youtube import MAX_IDS_PER_CALL, METHOD_BUCKETS

if TYPE_CHECKING:
    from ettametta_pipelines.state.session import StateDatabase
    from ettametta_pipelines.vendors.youtube import (
        Channel,
        PlaylistVideo,
        SearchPage,
        VideoStats,
        YouTubeData,
    )

T = TypeVar("T")
Row = dict[str, Any]

QUOTA_EXHAUSTED = "quota_exhausted"
# A channel that was closed between the search and the look at its uploads.
CHANNEL_GONE = "youtube_not_found"

TITLE_CHARS = 300
NAME_CHARS = 100


@dataclass(frozen=True)
class CollectionLimits:
    """What one niche may cost on one day.

    `searches` is for a niche of weight 1. `baseline_channels` are the fastest candidates' channels; each costs a
    unit for its playlist and `baseline_uploads` / 50 calls for statistics.
    """

    searches: int = 6
    baseline_channels: int = 50
    baseline_uploads: int = 15


@dataclass(frozen=True)
class PlannedSearch:
    query: str
    region: str | None
    language: str | None

    def __str__(self) -> str:
        market = " ".join(part for part in (self.region, self.language) if part)
        return f"query: {self.query}" + (f" ({market})" if market else "")


@dataclass
class YouTubeCollection:
    """Rows of `youtube_candidates`, and what the collecting did and left undone."""

    rows: list[Row] = field(default_factory=list)
    searches_made: int = 0
    searches_planned: int = 0
    vanished: int = 0
    left_out: list[str] = field(default_factory=list)
    quota_used: Counter[str] = field(default_factory=Counter)


def plan_searches(niche: Niche, limit: int) -> list[PlannedSearch]:
    """Every query in the first region and language, then in the next, at most `limit` times the niche's weight."""
    regions: Sequence[str | None] = niche.regions or (None,)
    languages: Sequence[str | None] = niche.languages or (None,)
    plan = [PlannedSearch(q, r, lang) for r in regions for lang in languages for q in niche.queries]
    return plan[: max(1, round(limit * niche.weight))]


class MeteredYouTube:
    """`YouTubeData` whose every request is paid from the shared quota first. Not thread-safe, as the client is not.

    Requests are repeated here as often as the client's endpoint allows and not in the client, since YouTube charges
    for each one it gets. `used` counts what was booked, by bucket.
    """

    def __init__(self, client: "YouTubeData", db: "StateDatabase", clock: Clock) -> None:
        self._client = client.without_retries()
        self._retries = client.endpoint.max_retries
        self._db = db
        self._clock = clock
        self.used: Counter[str] = Counter()

    def watch_url(self, video_id: str) -> str:
        return self._client.watch_url(video_id)

    def search(self, planned: PlannedSearch, window: Window) -> "SearchPage":
        return self._paid(
            "search",
            lambda: self._client.search(
                planned.query,
                published_after=window.start,
                published_before=window.end,
                region=planned.region,
                language=planned.language,
            ),
        )

    def batch_get_stats(self, ids: Sequence[str]) -> "list[VideoStats]":
        return self._paid("batch_get_stats", lambda: self._client.batch_get_stats(ids))

    def channels(self, ids: Sequence[str]) -> "list[Channel]":
        return self._paid("channels", lambda: self._client.channels(ids))

    def uploads(self, playlist_id: str, max_results: int) -> "list[PlaylistVideo]":
        return self._paid("uploads", lambda: self._client.uploads(playlist_id, max_results))

    def _paid(self, method: str, call: Callable[[], T]) -> T:
        return call_with_retries(lambda: self._paid_once(method, call), retries=self._retries, seed=method)

    def _paid_once(self, method: str, call: Callable[[], T]) -> T:
        bucket, units = METHOD_BUCKETS[method]
        reservation = reserve(self._db, "youtube", bucket, units, self._clock)
        try:
            answer = call()
        except NeverSentError:
            release(self._db, reservation)
            raise
        except BaseException:
            # YouTube charges for refusals too, and a run cancelled in the middle cannot tell what arrived.
            self._book(reservation)
            raise
        self._book(reservation)
        return answer

    def _book(self, reservation: Reservation) -> None:
        commit(self._db, reservation)
        self.used[reservation.bucket] += reservation.amount


@dataclass(frozen=True)
class _Found:
    """A video as it was come upon, before its statistics are known."""

    video_id: str
    title: str
    channel_id: str
    channel_title: str
    published_at: datetime
    thumbnail_url: str | None
    live: bool
    found_by: tuple[str, ...]


@dataclass(frozen=True)
class _Observed:
    stats: "VideoStats"
    at: datetime


class YouTubeCollector:
    """One collection: a niche, a window, a budget. Make a new one for each run of the partition."""

    def __init__(
        self,
        youtube: MeteredYouTube,
        niche: Niche,
        window: Window,
        *,
        clock: Clock,
        limits: CollectionLimits = CollectionLimits(),
    ) -> None:
        self._youtube = youtube
        self._niche = niche
        self._window = window
        self._clock = clock
        self._limits = limits
        self._found: dict[str, _Found] = {}
        self._asked: set[str] = set()
        self._observed: dict[str, _Observed] = {}
        self._uploads: dict[str, list[PlaylistVideo]] = {}
        self._outcome = YouTubeCollection(quota_used=youtube.used)

    def collect(self, day: date) -> YouTubeCollection:
        """Candidates published in the window, with statistics as of now and their channels' baselines.

        A spent bucket ends its step and is named in `left_out`; QuotaExhausted is raised only when there is nothing
        to show at all. Every other refusal of the vendor is raised.
        """
        self._look_at_watched_channels()
        self._search()
        self._observe(list(self._found), "candidates")
        self._fetch_uploads(self._fastest_channels())
        earlier = (
            v.video_id for videos in self._uploads.values() for v in videos[: self._limits.baseline_uploads]
        )
        self._observe(list(dict.fromkeys(earlier)), "earlier uploads")
        seen = [
            v for v in self._found.values() if v.video_id in self._observed or v.video_id not in self._asked
        ]
        self._outcome.vanished = len(self._found) - len(seen)
        self._outcome.rows = [self._row(day, video) for video in seen]
        return self._outcome

    def _look_at_watched_channels(self) -> None:
        with self._until_spent(lambda: "uploads of some watched channels"):
            for ids in _chunks(self._niche.watch_channels):
                for channel in self._youtube.channels(ids):
                    videos = self._uploads_of(channel, MAX_IDS_PER_CALL)
                    for video in videos:
                        published = video.published_at
                        if published is not None and self._window.start <= published < self._window.end:
                            self._note(_watched(video, channel, published))

    def _search(self) -> None:
        plan = plan_searches(self._niche, self._limits.searches)
        self._outcome.searches_planned = len(plan)
        try:
            for planned in plan:
                page = self._youtube.search(planned, self._window)
                self._outcome.searches_made += 1
                for hit in page.videos:
                    self._note(
                        _Found(
                            hit.video_id, hit.title, hit.channel_id, hit.channel_title, hit.published_at,
                            hit.thumbnail_url, hit.live, (str(planned),),
                        )
                    )  # fmt: skip
        except TransientError as error:
            if error.code != QUOTA_EXHAUSTED or not (self._outcome.searches_made or self._found):
                raise
            missed = plan[self._outcome.searches_made :]
            self._outcome.left_out.append(
                f"{len(missed)} of {len(plan)} searches: {'; '.join(map(str, missed))} (quota spent)"
            )

    def _note(self, video: _Found) -> None:
        known = self._found.get(video.video_id)
        ways = (*known.found_by, *video.found_by) if known else video.found_by
        self._found[video.video_id] = replace(video, found_by=tuple(dict.fromkeys(ways)))

    def _observe(self, ids: Sequence[str], what: str) -> None:
        """Read statistics of the ids not read yet. Ids that are gone or private are missing from the answer."""
        wanted = [i for i in ids if i not in self._asked]
        with self._until_spent(lambda: f"statistics of {sum(i not in self._asked for i in wanted)} {what}"):
            for batch in _chunks(wanted):
                answers = self._youtube.batch_get_stats(batch)
                now = self._clock()
                self._asked.update(batch)
                self._observed |= {stats.video_id: _Observed(stats, now) for stats in answers}

    def _fastest_channels(self) -> list[str]:
        """Channels of the candidates that gather views fastest, within the budget and not known already."""
        speed: dict[str, float] = {}
        for video in self._found.values():
            seen = self._observed.get(video.video_id)
            if seen is not None and seen.stats.views is not None:
                velocity = view_velocity(seen.stats.views, age_hours(video.published_at, seen.at))
                speed[video.channel_id] = max(velocity, speed.get(video.channel_id, 0.0))
        unknown = [channel for channel in speed if channel not in self._uploads]
        unknown.sort(key=lambda channel: (-speed[channel], channel))
        if len(unknown) > self._limits.baseline_channels:
            rest = len(unknown) - self._limits.baseline_channels
            self._outcome.left_out.append(f"baselines of the {rest} slowest channels (over the limit)")
        return unknown[: self._limits.baseline_channels]

    def _fetch_uploads(self, channel_ids: Sequence[str]) -> None:
        with self._until_spent(
            lambda: f"baselines of {sum(c not in self._uploads for c in channel_ids)} channels"
        ):
            for ids in _chunks(channel_ids):
                for channel in self._youtube.channels(ids):
                    self._uploads_of(channel, self._limits.baseline_uploads)

    def _uploads_of(self, channel: "Channel", count: int) -> "list[PlaylistVideo]":
        videos: list[PlaylistVideo] = []
        if channel.uploads_playlist is not None:
            try:
                videos = self._youtube.uploads(channel.uploads_playlist, count)
            except PermanentError as error:
                if error.code != CHANNEL_GONE:
                    raise
        self._uploads[channel.channel_id] = videos
        return videos

    def _row(self, day: date, video: _Found) -> Row:
        seen = self._observed.get(video.video_id)
        stats = seen.stats if seen else None
        baseline = channel_baseline(list(self._earlier(video.channel_id)), leave_out=video.video_id)
        return {
            "day": day,
            "niche": self._niche.slug,
            "platform": "youtube",
            "video_id": video.video_id,
            "url": self._youtube.watch_url(video.video_id),
            "title": plain_text(video.title, TITLE_CHARS),
            "channel_id": video.channel_id,
            "channel_title": plain_text(video.channel_title, NAME_CHARS),
            "published_at": video.published_at,
            "observed_at": seen.at if seen else self._clock(),
            # A live stream's length is zero until it is over.
            "duration_s": float(stats.duration_s) if stats and stats.duration_s else None,
            "views": stats.views if stats else None,
            "likes": stats.likes if stats else None,
            "comments": stats.comments if stats else None,
            "live": video.live,
            "baseline_views": baseline.views,
            "baseline_uploads": baseline.uploads,
            "found_by": list(video.found_by),
            "thumbnail_url": video.thumbnail_url,
        }

    def _earlier(self, channel_id: str) -> Iterator[Upload]:
        for video in self._uploads.get(channel_id, [])[: self._limits.baseline_uploads]:
            seen = self._observed.get(video.video_id)
            if seen is not None and seen.stats.views is not None and video.published_at is not None:
                yield Upload(video.video_id, seen.stats.views, age_hours(video.published_at, seen.at))

    @contextmanager
    def _until_spent(self, left_out: Callable[[], str]) -> Iterator[None]:
        try:
            yield
        except TransientError as error:
            if error.code != QUOTA_EXHAUSTED:
                raise
            self._outcome.left_out.append(f"{left_out()} (quota spent)")


def _watched(video: "PlaylistVideo", channel: "Channel", published_at: datetime) -> _Found:
    return _Found(
        video_id=video.video_id,
        title=video.title,
        channel_id=channel.channel_id,
        channel_title=channel.title,
        published_at=published_at,
        thumbnail_url=video.thumbnail_url,
        live=False,
        found_by=(f"channel: {channel.channel_id}",),
    )


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), MAX_IDS_PER_CALL):
        yield ids[start : start + MAX_IDS_PER_CALL]
