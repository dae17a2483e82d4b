"""Collects a niche's YouTube candidates for one day: searches, watched channels, statistics, channel baselines.

Which searches is the desk's decision (`search_desk.py`), paying for each request `metered_youtube.py`'s. Every id is
asked for once, fifty a call, and calls that do not need each other go side by side. What a channel usually reaches is
shared with other niches and days through the state database. When a bucket is spent the collector keeps what it has
and names what it left out. Nothing is ranked here. Called by `assets.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.discovery.counting import counting_version
from ettametta_pipelines.discovery.metered_youtube import MeteredYouTube
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.quota_plan import Choice
from ettametta_pipelines.discovery.search_desk import SearchDesk, SearchOutcome, SearchPlan, refused
from ettametta_pipelines.discovery.trends import OUTLIER_RATIO, rank_trends
from ettametta_pipelines.discovery.virality import Upload, age_hours, channel_baseline, view_velocity
from ettametta_pipelines.discovery.window import Window
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.state import channels
from ettametta_pipelines.untrusted import plain_text
from ettametta_pipelines.vendors.youtube import MAX_IDS_PER_CALL

if TYPE_CHECKING:
    from ettametta_pipelines.vendors.youtube import PlaylistVideo, SearchPage, VideoStats

Row = dict[str, Any]

# A channel that was closed between the search and the look at its uploads, or that has never uploaded.
CHANNEL_GONE = "youtube_not_found"
TITLE_CHARS = 300
NAME_CHARS = 100


@dataclass(frozen=True)
class CollectionLimits:
    """What one niche may cost on one day, searches aside.

    `baseline_channels` are the fastest candidates' channels whose usual views are not known yet; each costs a unit
    for its playlist and `baseline_uploads` / 50 calls for statistics. What is known serves for `baseline_days`.
    """

    baseline_channels: int = 50
    baseline_uploads: int = 15
    baseline_days: int = 3


@dataclass
class YouTubeCollection:
    """Rows of `youtube_candidates`, and what the collecting did and left undone."""

    plan: SearchPlan
    rows: list[Row] = field(default_factory=list)
    searches_made: int = 0
    vanished: int = 0
    baselines_reused: int = 0
    left_out: list[str] = field(default_factory=list)
    quota_used: Counter[str] = field(default_factory=Counter)

    @property
    def searches_planned(self) -> int:
        return self.searches_made + len(self.plan.parked)


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
    """One collection: a niche, a window, a budget. Make a new one for each run of the partition.

    `desk` knows the niches that share the searches; without one this niche has them to itself.
    """

    def __init__(
        self,
        youtube: MeteredYouTube,
        niche: Niche,
        window: Window,
        *,
        clock: Clock,
        limits: CollectionLimits = CollectionLimits(),
        desk: SearchDesk | None = None,
    ) -> None:
        self._youtube = youtube
        self._desk = desk or SearchDesk(youtube.db, {niche.slug: niche}, clock=clock)
        self._niche = niche
        self._window = window
        self._clock = clock
        self._limits = limits
        self._found: dict[str, _Found] = {}
        self._asked: set[str] = set()
        self._observed: dict[str, _Observed] = {}
        self._playlists: dict[str, list[PlaylistVideo]] = {}
        self._usual: dict[str, list[Upload]] = {}
        # Row id of a search made -> the videos that only it brought.
        self._brought: dict[int, list[str]] = {}

    def collect(self, day: date) -> YouTubeCollection:
        """Candidates published in the window, with statistics as of now and their channels' baselines.

        A spent bucket ends its step and is named in `left_out`; QuotaExhausted is raised only when there is nothing
        to show at all, for a backfilled day without its searches, or where less would replace more. Every other
        refusal of the vendor is raised.
        """
        plan = self._desk.book(self._niche, day)
        self._outcome = YouTubeCollection(plan, quota_used=self._youtube.used)
        if plan.lease is not None:
            self._youtube.adopt(plan.lease)
        elif plan.is_backfill or plan.would_lose:
            raise refused(plan, self._clock)
        self._look_around(plan)
        if not (self._found or self._outcome.searches_made or self._playlists):
            raise self._youtube.refusals.get("search") or refused(plan, self._clock)
        self._recall_usual()
        self._read_statistics()
        self._outcome.left_out += [
            f"everything else of the {bucket} quota: YouTube says that it is spent today, though our book had some "
            "left. Something else uses the same Google project"
            for bucket in sorted(self._youtube.refusals)
        ]
        seen = [
            v for v in self._found.values() if v.video_id in self._observed or v.video_id not in self._asked
        ]
        self._outcome.vanished = len(self._found) - len(seen)
        self._outcome.rows = [self._row(day, video) for video in seen]
        self._remember()
        return self._outcome

    def _look_around(self, plan: SearchPlan) -> None:
        """The watched channels' uploads and the booked searches, all side by side."""
        watched = self._niche.watch_channels
        calls: list[tuple[str, Callable[[], Any]]] = [
            ("uploads", partial(self._uploads_of, channel, MAX_IDS_PER_CALL)) for channel in watched
        ]
        calls += [("search", partial(self._search, choice, plan.day)) for choice in plan.chosen]
        answers = self._youtube.all_of(calls)
        for channel, videos in zip(watched, answers, strict=False):
            if videos is not None:
                self._playlists[channel] = videos
                self._note_watched(channel, videos)
        if missing := len(watched) - len(self._playlists):
            self._outcome.left_out.append(f"uploads of {missing} watched channels (quota spent)")
        self._note_hits(plan, answers[len(watched) :])

    def _search(self, choice: Choice, day: date) -> "SearchPage":
        return self._youtube.search(choice.search, self._desk.window_of(choice, day, self._window))

    def _note_watched(self, channel: str, videos: "list[PlaylistVideo]") -> None:
        for video in videos:
            published = video.published_at
            if published is not None and self._window.start <= published < self._window.end:
                self._note(
                    _Found(
                        video.video_id, video.title, channel, video.channel_title, published,
                        video.thumbnail_url, False, (f"channel: {channel}",),
                    )
                )  # fmt: skip

    def _note_hits(self, plan: SearchPlan, pages: "Sequence[SearchPage | None]") -> None:
        outcomes: list[SearchOutcome] = []
        brought: list[list[str]] = []
        for choice, page in zip(plan.chosen, pages, strict=True):
            if page is None:
                continue
            new = [hit.video_id for hit in page.videos if hit.video_id not in self._found]
            for hit in page.videos:
                self._note(
                    _Found(
                        hit.video_id, hit.title, hit.channel_id, hit.channel_title, hit.published_at,
                        hit.thumbnail_url, hit.live, (str(choice.search),),
                    )
                )  # fmt: skip
            outcomes.append(SearchOutcome(choice.search, len(page.videos), len(new)))
            brought.append(new)
        self._outcome.searches_made = len(outcomes)
        self._brought = dict(zip(self._desk.record(plan, outcomes), brought, strict=True))
        if plan.parked:
            named = "; ".join(str(choice.search) for choice in plan.parked)
            self._outcome.left_out.append(
                f"{len(plan.parked)} of {self._outcome.searches_planned} searches: {named} "
                "(quota spent; parked for tomorrow)"
            )

    def _note(self, video: _Found) -> None:
        known = self._found.get(video.video_id)
        ways = (*known.found_by, *video.found_by) if known else video.found_by
        self._found[video.video_id] = replace(video, found_by=tuple(dict.fromkeys(ways)))

    def _recall_usual(self) -> None:
        """Baselines other niches or days have read lately."""
        since = self._clock() - timedelta(days=self._limits.baseline_days)
        ids = {video.channel_id for video in self._found.values()}
        with self._youtube.db.session(write=False) as session:
            known = channels.uploads_since(session, ids, since)
        for channel, (at, uploads) in known.items():
            self._usual[channel] = [
                _upload(video_id, views, datetime.fromisoformat(published), at, None)
                for video_id, views, published in uploads
            ]
        self._outcome.baselines_reused = len(known)

    def _read_statistics(self) -> None:
        """Statistics of candidates and of earlier uploads, in as few calls as there are fifties of ids.

        Only where channels must be chosen by their candidates' speed do the candidates go first.
        """
        unknown = list(dict.fromkeys(v.channel_id for v in self._found.values()))
        unknown = [channel for channel in unknown if channel not in self._usual]
        have = [channel for channel in unknown if channel in self._playlists]
        earlier = self._earlier_ids(have)
        if len(unknown) - len(have) > self._limits.baseline_channels:
            # The last call has room: earlier uploads that are known already ride along.
            room = -len(self._found) % MAX_IDS_PER_CALL
            self._observe([*self._found, *earlier[:room]])
            unknown = [*have, *self._fastest([c for c in unknown if c not in self._playlists])]
        self._fetch_uploads([channel for channel in unknown if channel not in self._playlists])
        self._observe([*self._found, *self._earlier_ids(unknown)])
        for channel in unknown:
            if (usual := self._observed_uploads(channel)) is not None:
                self._usual[channel] = usual

    def _earlier_ids(self, channel_ids: Sequence[str]) -> list[str]:
        count = self._limits.baseline_uploads
        return [v.video_id for channel in channel_ids for v in self._playlists.get(channel, [])[:count]]

    def _observe(self, ids: Sequence[str]) -> None:
        """Read statistics of the ids not read yet. Ids that are gone or private are missing from the answer."""
        wanted = [i for i in dict.fromkeys(ids) if i not in self._asked]
        batches = list(_chunks(wanted))
        answers = self._youtube.all_of(
            [("batch_get_stats", partial(self._youtube.batch_get_stats, batch)) for batch in batches]
        )
        now = self._clock()
        missed: list[str] = []
        for batch, answer in zip(batches, answers, strict=True):
            if answer is None:
                missed += batch
                continue
            self._asked.update(batch)
            self._observed |= {stats.video_id: _Observed(stats, now) for stats in answer}
        if missed:
            candidates = sum(i in self._found for i in missed)
            self._outcome.left_out.append(
                f"statistics of {candidates} candidates and {len(missed) - candidates} earlier uploads (quota spent)"
            )

    def _fastest(self, channel_ids: Sequence[str]) -> list[str]:
        """Those whose candidates gather views fastest, as many as the budget allows."""
        speed = dict.fromkeys(channel_ids, 0.0)
        for video in self._found.values():
            seen = self._observed.get(video.video_id)
            if video.channel_id in speed and seen is not None and seen.stats.views is not None:
                velocity = view_velocity(seen.stats.views, age_hours(video.published_at, seen.at))
                speed[video.channel_id] = max(velocity, speed[video.channel_id])
        ordered = sorted(speed, key=lambda channel: (-speed[channel], channel))
        if rest := ordered[self._limits.baseline_channels :]:
            self._outcome.left_out.append(f"baselines of the {len(rest)} slowest channels (over the limit)")
        return ordered[: self._limits.baseline_channels]

    def _fetch_uploads(self, channel_ids: Sequence[str]) -> None:
        answers = self._youtube.all_of(
            [("uploads", partial(self._uploads_of, c, self._limits.baseline_uploads)) for c in channel_ids]
        )
        self._playlists |= {
            c: videos for c, videos in zip(channel_ids, answers, strict=True) if videos is not None
        }
        if missing := sum(videos is None for videos in answers):
            self._outcome.left_out.append(f"baselines of {missing} channels (quota spent)")

    def _uploads_of(self, channel_id: str, count: int) -> "list[PlaylistVideo]":
        try:
            # A channel's uploads playlist has the channel's id with UU for UC: asking for it would cost a unit more.
            return self._youtube.uploads("UU" + channel_id[2:], count)
        except PermanentError as error:
            if error.code != CHANNEL_GONE:
                raise
            return []

    def _observed_uploads(self, channel_id: str) -> list[Upload] | None:
        """A channel's recent uploads with statistics; None while some could not be asked for."""
        if channel_id not in self._playlists or not self._asked.issuperset(self._earlier_ids([channel_id])):
            return None
        return [upload for upload, _ in self._with_dates(channel_id)]

    def _with_dates(self, channel_id: str) -> Iterator[tuple[Upload, datetime]]:
        for video in self._playlists.get(channel_id, [])[: self._limits.baseline_uploads]:
            seen = self._observed.get(video.video_id)
            if seen is not None and seen.stats.views is not None and video.published_at is not None:
                published, length = video.published_at, seen.stats.duration_s
                yield _upload(video.video_id, seen.stats.views, published, seen.at, length), published

    def _remember(self) -> None:
        """Keep what channels usually reach for other niches and days, and what each search turned out to bring."""
        fresh = {
            channel: [
                [u.video_id, u.views, published.isoformat()] for u, published in self._with_dates(channel)
            ]
            for channel in self._usual
            if channel in self._playlists
        }
        with self._youtube.db.session() as session:
            channels.remember_uploads(session, fresh, self._clock())
        # The ratio that ranks: a plain one would reward searches that find little-known channels.
        ranked = rank_trends(self._outcome.rows).rows
        outliers = {row["video_id"] for row in ranked if (row["outlier_ratio"] or 0) >= OUTLIER_RATIO}
        self._desk.record_outliers(
            {row_id: len(outliers.intersection(ids)) for row_id, ids in self._brought.items()}
        )

    def _row(self, day: date, video: _Found) -> Row:
        seen = self._observed.get(video.video_id)
        stats = seen.stats if seen else None
        version = counting_version(
            "youtube",
            video.published_at,
            seen.at if seen else self._clock(),
            stats.duration_s if stats else None,
        )
        baseline = channel_baseline(
            self._usual.get(video.channel_id, []), leave_out=video.video_id, version=version
        )
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


def _upload(
    video_id: str, views: int, published_at: datetime, at: datetime, duration_s: float | None
) -> Upload:
    version = counting_version("youtube", published_at, at, duration_s)
    return Upload(video_id, views, age_hours(published_at, at), version)


def _chunks(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), MAX_IDS_PER_CALL):
        yield ids[start : start + MAX_IDS_PER_CALL]
