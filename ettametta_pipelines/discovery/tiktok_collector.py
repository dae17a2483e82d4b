"""Collects the posts of our own connected TikTok accounts for one niche and day, through the Display API.

Only own posts: TikTok's Research API, which could search, is closed to commercial use, and the platform's pages
are not scraped. Whoever holds a research grant sets ETTAMETTA_TIKTOK_RESEARCH_API; then `research` is lent and the
niche's queries are searched too. An account that is not connected, or whose consent has ended, is named and skipped:
the other accounts, and the other platforms, go on. Called by `assets.py`, which lends the connections.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import TYPE_CHECKING, Any

from ettametta_pipelines.clock import Clock
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.virality import Upload, age_hours, channel_baseline
from ettametta_pipelines.discovery.window import Window
from ettametta_pipelines.failures import NeedsPersonError
from ettametta_pipelines.untrusted import plain_text

if TYPE_CHECKING:
    from datetime import datetime

    from ettametta_pipelines.vendors.tiktok import ResearchVideo, TikTokCreator, TikTokVideo

Row = dict[str, Any]
# (keyword, first day, last day) -> public videos of those UTC days.
Research = Callable[[str, date, date], "list[ResearchVideo]"]

# Twenty posts a page: enough for a day's posts and a baseline, few enough for 30 accounts in a minute.
MAX_PAGES = 3
BASELINE_POSTS = 15
TITLE_CHARS = 300
NAME_CHARS = 100


@dataclass(frozen=True)
class TikTokAccount:
    """A connected account as far as collecting needs it."""

    account: str
    open_id: str
    name: str


@dataclass
class TikTokCollection:
    """Rows of `tiktok_candidates`, the accounts read, and a sentence for everything that was not."""

    rows: list[Row] = field(default_factory=list)
    accounts_read: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def collect_tiktok(
    niche: Niche,
    day: date,
    window: Window,
    *,
    connected: Mapping[str, TikTokAccount],
    creator_of: "Callable[[str], TikTokCreator]",
    clock: Clock,
    research: "Research | None" = None,
) -> TikTokCollection:
    """Posts published in `window` by the niche's accounts, with statistics as of now.

    `creator_of` gives the client of an account and may raise NeedsPersonError. Other failures of TikTok are raised.
    `research` searches the public videos of some days by keyword; None while that capability is off.
    """
    outcome = TikTokCollection()
    for account in niche.tiktok_accounts:
        if account not in connected:
            outcome.left_out.append(
                f"{account} is not connected: run `ettametta connect --account {account} --platform tiktok`"
            )
            continue
        try:
            videos = _recent_videos(creator_of(account), window)
        except NeedsPersonError as error:
            outcome.left_out.append(f"{account}: {error.message} {error.remedy}")
            continue
        now = clock()
        outcome.accounts_read.append(account)
        outcome.rows += [
            _row(day, niche, connected[account], video, videos, now)
            for video in videos
            if window.start <= video.created_at < window.end
        ]
    if research is not None:
        _search(niche, day, window, research, clock, outcome)
    if not niche.tiktok_accounts:
        outcome.left_out.append(_none_listed(niche, connected))
    return outcome


def _search(
    niche: Niche, day: date, window: Window, research: "Research", clock: Clock, outcome: TikTokCollection
) -> None:
    """Add what the Research API finds for the niche's queries; a refusal is named and leaves the own posts alone."""
    found: dict[str, Row] = {row["video_id"]: row for row in outcome.rows}
    for query in niche.queries:
        try:
            videos = research(query, window.start.date(), window.end.date())
        except NeedsPersonError as error:
            outcome.left_out.append(
                f"searching: {error.message} The Research API is for non-commercial research; "
                "unset ETTAMETTA_TIKTOK_RESEARCH_API without such a grant."
            )
            return
        now = clock()
        for video in videos:
            if not window.start <= video.created_at < window.end:
                continue
            row = found.setdefault(video.id, _research_row(day, niche, video, now))
            row["found_by"] = list(dict.fromkeys([*row["found_by"], f"research: {query}"]))
    outcome.rows = list(found.values())


def _research_row(day: date, niche: Niche, video: "ResearchVideo", now: "datetime") -> Row:
    return {
        "day": day,
        "niche": niche.slug,
        "platform": "tiktok",
        "video_id": video.id,
        "url": f"https://www.tiktok.com/@{video.username}/video/{video.id}",
        "title": plain_text(video.description, TITLE_CHARS),
        "channel_id": video.username,
        "channel_title": plain_text(video.username, NAME_CHARS),
        "published_at": video.created_at,
        "observed_at": now,
        "duration_s": None,
        "views": video.views,
        "likes": video.likes,
        "comments": video.comments,
        "live": None,
        "baseline_views": None,
        "baseline_uploads": 0,
        "found_by": [],
        "thumbnail_url": None,
    }


def _none_listed(niche: Niche, connected: Mapping[str, TikTokAccount]) -> str:
    listing = f"list it under tiktok_accounts of {niche.slug} in the niches file"
    if not connected:
        return (
            "No TikTok account is connected: run `ettametta connect --account A --platform tiktok` "
            f"for an account A of yours, then {listing}"
        )
    return f"{niche.slug} has no TikTok account; connected are {', '.join(sorted(connected))}: {listing}"


def _recent_videos(creator: "TikTokCreator", window: Window) -> "list[TikTokVideo]":
    """Posts up to the window's end, newest first, back to its start and far enough for a baseline."""
    videos: list[TikTokVideo] = []
    cursor = int(window.end.timestamp() * 1000)
    for _ in range(MAX_PAGES):
        page = creator.list_videos(cursor)
        videos += page.videos
        older = [video for video in videos if video.created_at < window.start]
        if not page.has_more or len(older) >= BASELINE_POSTS:
            break
        cursor = page.cursor
    return videos


def _row(
    day: date,
    niche: Niche,
    account: TikTokAccount,
    video: "TikTokVideo",
    recent: "list[TikTokVideo]",
    now: "datetime",
) -> Row:
    uploads = [Upload(v.id, v.views, age_hours(v.created_at, now)) for v in recent]
    baseline = channel_baseline(uploads, leave_out=video.id)
    return {
        "day": day,
        "niche": niche.slug,
        "platform": "tiktok",
        "video_id": video.id,
        "url": video.share_url,
        "title": plain_text(video.title or video.description, TITLE_CHARS),
        "channel_id": account.open_id,
        "channel_title": plain_text(account.name, NAME_CHARS),
        "published_at": video.created_at,
        "observed_at": now,
        "duration_s": float(video.duration_s),
        "views": video.views,
        "likes": video.likes,
        "comments": video.comments,
        "live": False,
        "baseline_views": baseline.views,
        "baseline_uploads": baseline.uploads,
        "found_by": [f"account: {account.account}"],
        "thumbnail_url": video.cover_url or None,
    }
