"""Sandboxed YouTube Analytics API v2: reports by video for one day, and of a channel by day, late and revised.

A day's figures appear two days after it is over, a little low, and grow for a week as late views are counted. They
add up to the statistics that `youtube.py` shows. Revenue needs the monetary scope; it is told a little high, and
lowered on the 10th of the next month, when the month is closed. Requests are checked against Google's discovery
document.
"""

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from ettametta_pipelines.clock import PACIFIC, Clock, business_day_bounds
from ettametta_pipelines.sandbox.core import seeded_rng
from ettametta_pipelines.sandbox.google_requests import ApiCall, GoogleRefusal, load_api
from ettametta_pipelines.sandbox.youtube_accounts import Accounts, unauthorized
from ettametta_pipelines.sandbox.youtube_uploads import Uploads

LAG = timedelta(days=2)
SETTLES_AFTER_DAYS = 7
MAX_ROWS = 200
INTEGER_METRICS = ("views", "engagedViews", "likes", "comments", "shares", "subscribersGained")
REVENUE = "estimatedRevenue"
METRICS = (
    *INTEGER_METRICS,
    "estimatedMinutesWatched",
    "averageViewDuration",
    "averageViewPercentage",
    REVENUE,
)
MONETARY_SCOPE = "https://www.googleapis.com/auth/yt-analytics-monetary.readonly"
CLOSES_ON = 10

# (views, likes, comments) of an uploaded video at an instant.
StatisticsAt = Callable[[dict[str, Any], datetime], tuple[int, int, int]]


class Analytics:
    """Reports over the accounts' own uploads."""

    def __init__(
        self, accounts: Accounts, uploads: Uploads, statistics_at: StatisticsAt, clock: Clock, seed: int
    ) -> None:
        self._accounts = accounts
        self._uploads = uploads
        self._statistics_at = statistics_at
        self._clock = clock
        self._seed = seed
        self._api = load_api("youtubeAnalytics.v2")

    def answer(self, request: Request) -> Response:
        try:
            method = self._api.method("GET", "v2/reports")
            caller = self._accounts.caller(
                method, authorization=request.headers.get("authorization"), key=None
            )
            if caller.channel is None:
                raise unauthorized(missing=True)
            call = ApiCall(method, self._api.check_parameters(method, request.query_params.multi_items()))
            if REVENUE in (call.one("metrics") or "") and MONETARY_SCOPE not in caller.scopes:
                raise GoogleRefusal(
                    403, "insufficientPermissions", "Insufficient permission for monetary data."
                )
            if call.one("dimensions") == "day":
                return JSONResponse(self._by_day(call, caller.channel.account))
            return JSONResponse(self._report(call, caller.channel.account))
        except GoogleRefusal as refusal:
            return refusal.response()

    def _report(self, call: ApiCall, account: str) -> dict[str, Any]:
        metrics, day, ids = _checked(call)
        rows = []
        for video in self._uploads.videos_of(account):
            if video["id"] in ids and (figures := self._figures(video, day)):
                rows.append([video["id"], *(figures[name] for name in metrics)])
        rows.sort(key=lambda row: (-row[1 + metrics.index("views")], row[0]))
        headers = [{"name": "video", "columnType": "DIMENSION", "dataType": "STRING"}]
        headers += [
            {
                "name": name,
                "columnType": "METRIC",
                "dataType": "INTEGER" if name in INTEGER_METRICS else "FLOAT",
            }
            for name in metrics
        ]
        # As the real API: no key at all where there is no data.
        return {"kind": "youtubeAnalytics#resultTable", "columnHeaders": headers} | (
            {"rows": rows} if rows else {}
        )

    def _by_day(self, call: ApiCall, account: str) -> dict[str, Any]:
        """Views and revenue of the whole channel, day by day."""
        first, last = _dates(call)
        if (
            call.one("ids") != "channel==MINE"
            or call.one("metrics") != f"views,{REVENUE}"
            or call.one("filters")
        ):
            raise GoogleRefusal(400, "badRequest", "The query is not supported. See the supported reports.")
        rows: list[list[Any]] = []
        for offset in range((last - first).days + 1):
            day = first + timedelta(days=offset)
            found = [f for v in self._uploads.videos_of(account) if (f := self._figures(v, day))]
            if found:
                views, earned = sum(f["views"] for f in found), sum(round(f[REVENUE] * 1000) for f in found)
                rows.append([day.isoformat(), views, earned / 1000])
        headers = [
            {"name": "day", "columnType": "DIMENSION", "dataType": "STRING"},
            {"name": "views", "columnType": "METRIC", "dataType": "INTEGER"},
            {"name": REVENUE, "columnType": "METRIC", "dataType": "FLOAT"},
        ]
        return {"kind": "youtubeAnalytics#resultTable", "columnHeaders": headers} | (
            {"rows": rows} if rows else {}
        )

    def _figures(self, video: dict[str, Any], day: date) -> dict[str, Any] | None:
        """A video's day by metric; None before the lag is over and for a day without views."""
        start, end = business_day_bounds(day, PACIFIC)
        late = self._clock() - end
        if late < LAG or datetime.fromisoformat(video["published_at"]) >= end:
            return None
        rng = seeded_rng(self._seed, "analytics", video["id"], day.isoformat())
        missing = 0.01 * max(0, SETTLES_AFTER_DAYS - late.days) * rng.uniform(0.5, 1.5)
        before, after = self._statistics_at(video, start), self._statistics_at(video, end)
        views, likes, comments = (round((b - a) * (1 - missing)) for a, b in zip(before, after, strict=True))
        if views <= 0:
            return None
        length = max(1.0, float(video.get("facts", {}).get("duration_s", 1.0)))
        share = rng.uniform(0.3, 0.9)
        per_view = rng.uniform(0.0005, 0.004)
        # Invalid traffic is taken out when the month is closed.
        closed = self._clock() >= business_day_bounds(_closing_day(day), PACIFIC)[0]
        return {
            REVENUE: round(views * per_view * (0.97 if closed else 1.0), 3),
            "views": views,
            "engagedViews": round(views * rng.uniform(0.4, 0.8)),
            "likes": likes,
            "comments": comments,
            "shares": round(views * rng.uniform(0.001, 0.01)),
            "subscribersGained": round(views * rng.uniform(0.0, 0.005)),
            "estimatedMinutesWatched": round(views * length * share / 60, 2),
            "averageViewDuration": round(length * share, 1),
            "averageViewPercentage": round(100 * share, 2),
        }


def _checked(call: ApiCall) -> tuple[list[str], date, set[str]]:
    """(metrics, day, video ids) of a report this sandbox knows; refusals as Google words them for others."""
    for name in ("ids", "startDate", "endDate", "metrics"):
        if not call.one(name):
            raise GoogleRefusal(400, "required", f"Required parameter: {name}", location=name)
    metrics = (call.one("metrics") or "").split(",")
    unknown = [name for name in metrics if name not in METRICS]
    if unknown:
        raise GoogleRefusal(
            400, "badRequest", f"Unknown identifier ({unknown[0]}) given in field parameters.metrics."
        )
    start, end = _dates(call)
    kind, _, ids = (call.one("filters") or "").partition("==")
    supported = (
        call.one("ids") == "channel==MINE"
        and call.one("dimensions") == "video"
        and kind == "video"
        and call.one("sort") == "-views"
        and "views" in metrics
        and start == end
        and 0 < call.integer("maxResults") <= MAX_ROWS
    )
    if not supported:
        raise GoogleRefusal(400, "badRequest", "The query is not supported. See the supported reports.")
    return metrics, start, set(ids.split(","))


def _dates(call: ApiCall) -> tuple[date, date]:
    try:
        return date.fromisoformat(call.one("startDate") or ""), date.fromisoformat(call.one("endDate") or "")
    except ValueError:
        raise GoogleRefusal(400, "badRequest", "Dates must be in the form YYYY-MM-DD.") from None


def _closing_day(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=CLOSES_ON)
