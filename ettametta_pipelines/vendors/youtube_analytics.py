"""YouTube Analytics API v2: what a channel's videos did on one day, as the vendor's own books have it.

Days are Pacific. A day's figures come two to three days late and are revised after that; a video without a row had no
views, or its figures are not there yet. Reads only; calls count against a quota of their own project-wide.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import TransientError
from ettametta_pipelines.settings import VendorEndpoint
from ettametta_pipelines.vendors.google_api import GoogleService

VENDOR = "YouTube Analytics"
DATA_HOST, ANALYTICS_HOST = "youtube.googleapis.com", "youtubeanalytics.googleapis.com"
# A report by video has at most this many rows, and needs an order.
MAX_VIDEOS_PER_REPORT = 200

# Consent that figures of money need beside the one for reports.
MONETARY_SCOPE = "https://www.googleapis.com/auth/yt-analytics-monetary.readonly"
# What the API tells money in unless asked to convert; it is not asked to.
CURRENCY = "USD"
REVENUE = "estimatedRevenue"

# Metric of the vendor -> field of ours.
METRICS = {
    "views": "views",
    "engagedViews": "engaged_views",
    "estimatedMinutesWatched": "minutes_watched",
    "averageViewDuration": "average_view_s",
    "averageViewPercentage": "average_view_percent",
    "likes": "likes",
    "comments": "comments",
    "shares": "shares",
    "subscribersGained": "subscribers_gained",
}


@dataclass(frozen=True)
class VideoDay:
    """One video on one Pacific day. `engaged_views` counts views beyond a start, `views` every start."""

    video_id: str
    views: int
    engaged_views: int
    minutes_watched: float
    average_view_s: float
    average_view_percent: float
    likes: int
    comments: int
    shares: int
    subscribers_gained: int


class YouTubeAnalytics:
    """Reports of one connected channel, for the life of one access token.

    Raises NeedsPersonError `access_token_rejected`, or `permission_missing` when consent does not cover reports.
    """

    def __init__(self, endpoint: VendorEndpoint, access_token: str, *, clock: Clock = utc_now) -> None:
        # The sandbox serves both APIs at one address; Google has a host for each.
        analytics = VendorEndpoint(
            **vars(endpoint) | {"base_url": endpoint.base_url.replace(DATA_HOST, ANALYTICS_HOST)}
        )
        headers = {"authorization": f"Bearer {access_token}"}
        self._google = GoogleService(
            analytics, document="youtubeAnalytics.v2", vendor=VENDOR, headers=headers, clock=clock
        )

    def video_days(self, day: date, video_ids: Sequence[str]) -> Iterator[VideoDay]:
        """Figures of these videos on one day; those without any have no row."""
        for start in range(0, len(video_ids), MAX_VIDEOS_PER_REPORT):
            batch = video_ids[start : start + MAX_VIDEOS_PER_REPORT]
            request = self._google.resource("reports").query(
                ids="channel==MINE",
                startDate=day.isoformat(),
                endDate=day.isoformat(),
                dimensions="video",
                metrics=",".join(METRICS),
                filters="video==" + ",".join(batch),
                sort="-views",
                maxResults=MAX_VIDEOS_PER_REPORT,
            )
            yield from _rows(self._google.read(request, f"read figures of {day}"))

    def channel_revenue(self, first: date, last: date) -> dict[date, int]:
        """What the channel earned by Pacific day, in millionths of `CURRENCY`; a day that is not there yet is left out.

        Net of YouTube's share. An estimate until its month is closed.
        """
        request = self._google.resource("reports").query(
            ids="channel==MINE",
            startDate=first.isoformat(),
            endDate=last.isoformat(),
            dimensions="day",
            metrics=f"views,{REVENUE}",
            sort="day",
        )
        answer = self._google.read(request, f"read revenue of {first} to {last}")
        told = _money_by(answer, "day")
        return {date.fromisoformat(day): amount for day, amount in told.items()}

    def video_revenue(self, day: date, video_ids: Sequence[str]) -> dict[str, int]:
        """As `channel_revenue`, of these videos on one day; those without views have none."""
        found: dict[str, int] = {}
        for start in range(0, len(video_ids), MAX_VIDEOS_PER_REPORT):
            request = self._google.resource("reports").query(
                ids="channel==MINE",
                startDate=day.isoformat(),
                endDate=day.isoformat(),
                dimensions="video",
                metrics=f"views,{REVENUE}",
                filters="video==" + ",".join(video_ids[start : start + MAX_VIDEOS_PER_REPORT]),
                sort="-views",
                maxResults=MAX_VIDEOS_PER_REPORT,
            )
            found |= _money_by(self._google.read(request, f"read revenue of {day}"), "video")
        return found


def _money_by(answer: dict[str, Any], dimension: str) -> dict[str, int]:
    """Revenue in millionths. The API tells a JSON number; its shortest text is what was sent, so nothing drifts."""
    columns = [str(header.get("name")) for header in answer.get("columnHeaders", [])]
    try:
        rows = [dict(zip(columns, row, strict=True)) for row in answer.get("rows", [])]
        return {str(row[dimension]): _micro(row[REVENUE]) for row in rows}
    except (KeyError, ValueError, TypeError, ArithmeticError) as error:
        raise _unreadable(columns) from error


def _micro(amount: float) -> int:
    return int((Decimal(repr(amount)) * 1_000_000).quantize(Decimal(1), ROUND_HALF_EVEN))


def _unreadable(columns: list[str]) -> TransientError:
    return TransientError(
        f"{VENDOR} sent a report with other columns than were asked for: {', '.join(columns)}.",
        code="youtube_analytics_answer_unreadable",
        remedy="It is read again with the next run; if it lasts, compare the metrics with Google's reference.",
    )


def _rows(answer: dict[str, Any]) -> list[VideoDay]:
    """Rows by the names of their columns; an answer without data has no `rows`."""
    columns = [str(header.get("name")) for header in answer.get("columnHeaders", [])]
    try:
        found = [dict(zip(columns, row, strict=True)) for row in answer.get("rows", [])]
        return [
            VideoDay(video_id=str(row["video"]), **{ours: row[theirs] for theirs, ours in METRICS.items()})
            for row in found
        ]
    except (KeyError, ValueError, TypeError) as error:
        raise _unreadable(columns) from error
