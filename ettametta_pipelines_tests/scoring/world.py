"""A simulated agency on the sandbox's ground truth: candidates, scores, posts and their views, in the real tables.

Candidates are the sandboxed YouTube's own videos, judged as its Gemini judges titles; views of the posts made after
them follow `sandbox/audience.py`. Nothing is asked over HTTP, so that months pass in seconds.
"""

import math
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ettametta_pipelines.sandbox import audience
from ettametta_pipelines.sandbox.core import seeded_rng
from ettametta_pipelines.sandbox.gemini_judge import hook_of_title
from ettametta_pipelines.sandbox.youtube_catalog import Catalog, CatalogVideo
from ettametta_pipelines.sandbox.youtube_uploads import view_statistics
from ettametta_pipelines.scoring.blend import score_candidates
from ettametta_pipelines.scoring.briefs import brief_id
from ettametta_pipelines.scoring.champions import read_contest
from ettametta_pipelines.scoring.contracts import CREATIVE_BRIEFS, SCORED_CANDIDATES
from ettametta_pipelines.scoring.outcomes import outcomes_of
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.parquet import write_table

Row = dict[str, Any]

FIRST_DAY = date(2026, 3, 1)
CANDIDATES, JUDGED = 30, 12


def end_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


class World:
    """One agency: `accounts` channels that post after `picks` candidates a night in each of `niches`."""

    def __init__(
        self, store: ObjectStore, *, seed: int, niches: Sequence[str], accounts: int = 3, picks: int = 3
    ) -> None:
        self.store, self.seed, self.niches, self.accounts, self.picks = store, seed, niches, accounts, picks
        subjects: dict[str, str] = {}
        self.catalog = Catalog(seed, remember=subjects.__setitem__, recall=subjects.get)
        self.posts: list[Row] = []
        self.readings: list[Row] = []
        self._videos: dict[str, Row] = {}

    def live_through(self, day: date) -> None:
        """One night of discovery, the posts made after its picks, and the day's readings of all posts."""
        for niche in self.niches:
            for place, pick in enumerate(self._score(day, niche)[: self.picks]):
                self._post(day, niche, pick, place)
        self._read(end_of(day) - timedelta(minutes=45))

    def outcomes(self, day: date) -> list[Row]:
        known = end_of(day)
        return outcomes_of(
            [post for post in self.posts if post["published_at"] <= known],
            [row for row in self.readings if row["observed_at"] <= known],
            known,
        )

    def write_posts(self) -> None:
        """What publishing keeps of all this: sources, posts and a partition of figures per day."""
        from ettametta_pipelines.media.contracts import SOURCE_MEDIA
        from ettametta_pipelines.publishing.contracts import PUBLICATION_METRICS, YOUTUBE_PUBLICATIONS

        for post in self.posts:
            source = {
                "source_id": post["source_id"], "account": post["account"], "niche": post["niche"],
                "upload_key": "uploads/x", "sha256": "0" * 64, "size_bytes": 1, "verdict": "accepted",
                "title": "A post", "rights": "owned", "brief_id": post["brief_id"],
            }  # fmt: skip
            write_table(self.store, SOURCE_MEDIA, SOURCE_MEDIA.frame([source]), post["source_id"])
            told = {
                name: post[name]
                for name in ("source_id", "platform", "account", "channel_id", "publication_id", "privacy",
                             "published_at")
            }  # fmt: skip
            rest = {
                "state": "PUBLISHED",
                "posted": True,
                "intent_no": 1,
                "title": "A post",
                "object_key": "x",
                "sha256": "0",
            }
            write_table(
                self.store, YOUTUBE_PUBLICATIONS, YOUTUBE_PUBLICATIONS.frame([told | rest]), post["source_id"]
            )
        by_day: dict[date, list[Row]] = {}
        sources = {post["publication_id"]: post["source_id"] for post in self.posts}
        for row in self.readings:
            day = row["observed_at"].date()
            about = {"day": day, "platform": "youtube", "source_id": sources[row["publication_id"]]}
            by_day.setdefault(day, []).append(row | about)
        for day, rows in by_day.items():
            write_table(self.store, PUBLICATION_METRICS, PUBLICATION_METRICS.frame(rows), day.isoformat())

    def _score(self, day: date, niche: str) -> list[Row]:
        now = end_of(day)
        videos = self.catalog.search(niche, now - timedelta(days=3), now, now)[:CANDIDATES]
        candidates = [self._candidate(day, niche, video, now) for video in videos]
        candidates.sort(key=lambda row: -row["view_velocity_per_hour"])
        for rank, row in enumerate(candidates, start=1):
            row["rank"] = rank
        judged = [_judgement(row) for row in sorted(candidates, key=lambda row: row["video_id"])[:JUDGED]]
        contest = read_contest(self.store)
        rows = score_candidates(candidates, judged, weights=contest.champion, challenger=contest.challenger)
        partition = f"{day}|{niche}"
        write_table(self.store, SCORED_CANDIDATES, SCORED_CANDIDATES.frame(rows), partition)
        picks = [row for row in rows if row["score"] is not None][: self.picks]
        briefs = [_brief(row, now) for row in picks]
        write_table(self.store, CREATIVE_BRIEFS, CREATIVE_BRIEFS.frame(briefs), partition)
        return picks

    def _candidate(self, day: date, niche: str, video: CatalogVideo, now: datetime) -> Row:
        counted = video.statistics(now)
        hours = max(1.0, (now - video.published_at).total_seconds() / 3600)
        self._videos[video.id] = {"title": video.title, "pull": video.pull}
        # Discovery sees a channel's usual through a few uploads of other ages.
        seen = video.channel.baseline_views * math.exp(seeded_rng("usual", video.id).gauss(0, 0.3))
        return {
            "day": day, "niche": niche, "platform": "youtube", "video_id": video.id, "url": f"https://y.test/{video.id}",
            "title": video.title, "views": counted.views, "view_velocity_per_hour": counted.views / hours,
            "outlier_ratio": counted.views / (seen * min(1.0, hours / 60) ** 0.8), "thumbnail_url": None,
            "engagement_rate": None if counted.likes is None else counted.likes / (counted.views + 1),
            "observed_at": now,
        }  # fmt: skip

    def _post(self, day: date, niche: str, pick: Row, place: int) -> None:
        rng = seeded_rng(self.seed, "post", day, niche, place)
        number = rng.randrange(self.accounts)
        example = self._videos[pick["video_id"]]
        identity = f"p{day:%m%d}-{niche.replace(' ', '-')}-{place}"
        self.posts.append(
            {
                "publication_id": identity, "source_id": f"studio-{number}--{identity}", "platform": "youtube",
                "account": f"studio-{number}", "channel_id": f"UC{number}", "privacy": "public",
                "published_at": end_of(day) + timedelta(hours=rng.uniform(6, 20)),
                "brief_id": brief_id(day, niche, "youtube", pick["video_id"]), "candidate_day": day, "niche": niche,
                "candidate_platform": "youtube", "candidate_video_id": pick["video_id"],
                "appeal": audience.appeal(example["title"], example["pull"]) * 4.0**number,
            }
            | {
                name: pick[name]
                for name in (
                    "score", "weights_version", "challenger_score", "challenger_version", "observed_at",
                    "velocity_part", "outlier_part", "engagement_part", "hook_part", "aesthetics_part",
                )
            }
        )  # fmt: skip

    def _read(self, now: datetime) -> None:
        """Readings of posts up to ten days old: later ones decide nothing."""
        for post in self.posts:
            if timedelta() < now - post["published_at"] < timedelta(days=10):
                video = {
                    "id": post["publication_id"], "status": {"privacyStatus": "public"},
                    "published_at": post["published_at"].isoformat(),
                }  # fmt: skip
                views, likes, comments = view_statistics(video, now, self.seed, post["appeal"])
                told = {"views": views, "likes": likes, "comments": comments}
                self.readings.append({"publication_id": post["publication_id"], "observed_at": now} | told)


def _judgement(candidate: Row) -> Row:
    """As the sandboxed Gemini judges: by the title's wording, a little off, and looks that say nothing of the title."""
    rng = seeded_rng("judge", candidate["video_id"])
    return {
        "platform": "youtube", "video_id": candidate["video_id"], "status": "assessed", "reason": None,
        "hook_strength": 0.32 + hook_of_title(candidate["title"]) + rng.uniform(-0.08, 0.08), "hook_reason": "clear",
        "subjects": ["hands"], "mood": "calm", "aesthetics": rng.uniform(0.3, 0.8), "safety": "safe",
        "safety_reason": None,
    }  # fmt: skip


def _brief(pick: Row, now: datetime) -> Row:
    return {
        "day": pick["day"], "niche": pick["niche"], "platform": "youtube", "video_id": pick["video_id"],
        "brief_id": brief_id(pick["day"], pick["niche"], "youtube", pick["video_id"]), "score": pick["score"],
        "prompt": "hands at work", "hook_text": "look", "broll_keywords": ["hands"], "hashtags": ["#hands"],
        "recipe": "clean", "provider": "gemini", "model": "m", "requested_model": "m", "prompt_version": "1",
        "cost_microusd": 0, "written_at": now,
    }  # fmt: skip
