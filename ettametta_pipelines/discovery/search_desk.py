"""Books a run's searches from the shared inventory, and remembers what they brought.

Planning and leasing are one transaction that holds the search bucket, so runs that plan at the same time cannot
promise themselves the same search twice. What a plan promised and the bucket then could not pay is parked, and the
niche's next plan begins with it. How shares are worked out is `quota_plan.py`; called by the collector.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import Clock, business_day_bounds, business_day_of, pacific_quota_day
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.quota_plan import (
    HISTORY_DAYS,
    NEWS_DAYS,
    Choice,
    PastSearch,
    PlannedSearch,
    allowance,
    night_shares,
    rank_searches,
    wanted_searches,
)
from ettametta_pipelines.discovery.window import Window
from ettametta_pipelines.state import quota, searches
from ettametta_pipelines.state.quota import Lease, QuotaExhausted

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from ettametta_pipelines.settings import Settings
    from ettametta_pipelines.state.session import StateDatabase

BUCKET = ("youtube", "search")
WITHOUT_ZONE = ZoneInfo("UTC")


@dataclass(frozen=True)
class SearchPolicy:
    """`per_weight`: searches a day for a niche of weight 1. `rerun_reserve`: kept out of the night for re-runs.

    `timezone` is where partition days turn. Whoever looks ahead takes `configured_policy`, as runs do.
    """

    per_weight: int = 6
    rerun_reserve: int = 10
    timezone: ZoneInfo = WITHOUT_ZONE

    def news_since(self, now: datetime) -> date:
        """The first partition day that is news at this instant; earlier ones are backfills."""
        return business_day_of(now, self.timezone) - timedelta(days=NEWS_DAYS)


def configured_policy(settings: "Settings") -> SearchPolicy:
    """What runs do that are not told otherwise."""
    return SearchPolicy(settings.searches_per_niche, settings.rerun_reserve, settings.timezone)


@dataclass
class SearchPlan:
    """What one run may search. `lease` pays for `chosen` and is None when that is empty.

    `would_lose`: searches that are stored for the day, where fewer than these are left; none is made then.
    """

    niche: str
    day: date
    quota_day: date
    is_backfill: bool = False
    would_lose: int = 0
    chosen: list[Choice] = field(default_factory=list)
    left_out: list[Choice] = field(default_factory=list)
    parked: list[Choice] = field(default_factory=list)
    lease: Lease | None = None
    summary: str = ""


@dataclass(frozen=True)
class SearchOutcome:
    """What one search brought: hits on its page, videos no earlier search of the run had, outliers when known."""

    search: PlannedSearch
    hits: int
    new: int


class SearchDesk:
    """One per run. `niches` are all that share the inventory, this run's own included."""

    def __init__(
        self,
        db: "StateDatabase",
        niches: Mapping[str, Niche],
        *,
        clock: Clock,
        policy: SearchPolicy = SearchPolicy(),
    ) -> None:
        self._db = db
        self._niches = niches
        self._clock = clock
        self._policy = policy

    def book(self, niche: Niche, day: date) -> SearchPlan:
        """Lease the searches this partition may make today, best first; none at all is an empty plan.

        A backfilled day gets all its searches or none: a day half searched would look searched.
        """
        now = self._clock()
        today = pacific_quota_day(now)
        is_news = day >= self._policy.news_since(now)
        plan = SearchPlan(niche.slug, day, today, is_backfill=not is_news)
        niches = {**self._niches, niche.slug: niche}
        with self._db.session() as session:
            bucket = quota.standing_in(session, *BUCKET, self._clock)
            history = _history(session, today)
            shares = self.shares(niches, history, today)
            spent = {
                h: n
                for (b, h), n in quota.spent_by_holder(session, "youtube", today).items()
                if b == BUCKET[1]
            }
            may = allowance(
                niche.slug,
                shares=shares,
                spent=spent,
                left=bucket.left,
                rerun_reserve=self._policy.rerun_reserve,
                is_news=is_news,
            )
            parked_for = _parked_for(session, niche, day, is_news)
            local_day = business_day_of(now, self._policy.timezone)
            ranked = rank_searches(niche, history, parked_for, today=local_day)
            wants = wanted_searches(niche, self._policy.per_weight)
            granted = min(may, wants) if is_news or may >= wants else 0
            # A collection that ended knows its outliers; odd searches go round, so a repeat need not be the same ones.
            stored = {
                p.search for p in history if (p.niche, p.day) == (niche.slug, day) and p.outliers is not None
            }
            if is_news and granted < (had := min(len(stored), max(1, shares[niche.slug]))):
                granted, plan.would_lose = 0, had
            plan.chosen, plan.left_out = ranked[:granted], ranked[granted:]
            if plan.chosen:
                # A backfill does not eat into the niche's own share of news.
                holder = niche.slug if is_news else f"{niche.slug} (backfill)"
                plan.lease = quota.lease_in(session, *BUCKET, granted, self._clock, holder=holder)
            # A share that the bucket cannot pay, or a backfilled day, is owed; what the share never held is not.
            owed = min(wants, shares[niche.slug] - spent.get(niche.slug, 0)) if is_news else wants
            plan.parked = [] if plan.would_lose else ranked[granted : max(granted, owed)]
            self._keep(session, plan, plan.parked)
        others = sum(max(0, n - spent.get(s, 0)) for s, n in shares.items() if s != niche.slug)
        plan.summary = (
            f"{granted} of {wants} wanted. The niche's share of today's {bucket.limit} is {shares[niche.slug]}, of "
            f"which {spent.get(niche.slug, 0)} were booked before; {bucket.left} were left in all, {others} of them "
            "held for other niches' news"
            + ("." if is_news else f" and {self._policy.rerun_reserve} for re-runs; this day is a backfill.")
            + (
                f" YouTube said at {bucket.closed_at:%H:%M} UTC that the bucket is spent."
                if bucket.closed_at
                else ""
            )
        )
        return plan

    def window_of(self, choice: Choice, day: date, window: Window) -> Window:
        """The publication times one search of `day` asks for: `window`, begun on the day the search is owed to."""
        if choice.parked_for is None:
            return window
        midnight, owed = (
            business_day_bounds(each, self._policy.timezone)[0] for each in (day, choice.parked_for)
        )
        return Window(window.start - (midnight - owed), window.end)

    def shares(
        self, niches: Mapping[str, Niche], history: Sequence[PastSearch], today: date
    ) -> dict[str, int]:
        """Niche -> searches of today's inventory held for its news."""
        distributable = max(0, quota.daily_limits()[BUCKET] - self._policy.rerun_reserve)
        return night_shares(
            niches, history, today=today, searches=distributable, per_weight=self._policy.per_weight
        )

    def record(self, plan: SearchPlan, outcomes: Sequence[SearchOutcome]) -> list[int]:
        """Remember searches as made, in order; ids for `record_outliers`. Promised ones that are missing are parked."""
        made = {outcome.search for outcome in outcomes}
        with self._db.session() as session:
            ids = searches.record(
                session,
                [
                    {
                        "niche": plan.niche, "day": plan.day, "quota_day": plan.quota_day,
                        **dict(zip(("query", "region", "language"), _key(o.search), strict=True)),
                        "hits": o.hits, "new": o.new, "outliers": None,
                    }
                    for o in outcomes
                ],
            )  # fmt: skip
            for choice in plan.chosen:
                if choice.search in made:
                    # It reached from the day it was owed to up to today's, the days in between among them.
                    for ago in range((plan.day - (choice.parked_for or plan.day)).days + 1):
                        day = plan.day - timedelta(days=ago)
                        searches.unpark(session, plan.niche, day, [_key(choice.search)])
            unmade = [choice for choice in plan.chosen if choice.search not in made]
            self._keep(session, plan, unmade)
            plan.parked = [*unmade, *plan.parked]
            if not plan.parked:
                searches.unpark(session, plan.niche, plan.day)
        return ids

    def record_outliers(self, outliers: Mapping[int, int]) -> None:
        with self._db.session() as session:
            searches.record_outliers(session, outliers)

    def _keep(self, session: "Session", plan: SearchPlan, choices: Sequence[Choice]) -> None:
        searches.park(session, plan.niche, plan.day, [_key(c.search) for c in choices], plan.quota_day)


@dataclass(frozen=True)
class Backlog:
    """Parked work: (day, niche) -> searches its next run will make, oldest first, and what a day leaves for backfills.

    Days from `news_since` on are made up for by their niche's next night, from its own share.
    """

    today: date
    owed: Mapping[tuple[date, str], int]
    per_day: int
    left_today: int
    news_since: date

    @property
    def due(self) -> list[tuple[date, str]]:
        """Partitions that today's rest can pay in full, oldest first, those left out that news makes up for."""
        chosen, left = [], self.left_today
        for partition, searches_owed in self.owed.items():
            if searches_owed <= left and partition[0] < self.news_since:
                chosen.append(partition)
                left -= searches_owed
        return chosen


def backlog(db: "StateDatabase", niches: Mapping[str, Niche], clock: Clock, policy: SearchPolicy) -> Backlog:
    """What is parked, and how much of it today and each further day can pay beside the niches' news."""
    now = clock()
    today, news_since = pacific_quota_day(now), policy.news_since(now)
    desk = SearchDesk(db, niches, clock=clock, policy=policy)
    with db.session() as session:
        left = quota.standing_in(session, *BUCKET, clock).left
        shares = desk.shares(niches, _history(session, today), today)
        spent = {
            h: n for (b, h), n in quota.spent_by_holder(session, "youtube", today).items() if b == BUCKET[1]
        }
        owed = Counter((row.day, row.niche) for row in searches.parked(session) if row.niche in niches)
    # However few of its searches are missing, a backfilled day is searched whole.
    whole = {p: wanted_searches(niches[p[1]], policy.per_weight) for p in owed if p[0] < news_since}
    free = allowance(
        "", shares=shares, spent=spent, left=left, rerun_reserve=policy.rerun_reserve, is_news=False
    )
    per_day = max(0, quota.daily_limits()[BUCKET] - policy.rerun_reserve - sum(shares.values()))
    return Backlog(today, dict(sorted({**owed, **whole}.items())), per_day, free, news_since)


def park_night(
    db: "StateDatabase", niches: Mapping[str, Niche], day: date, *, clock: Clock, policy: SearchPolicy
) -> None:
    """Keep what every niche would search for `day`, for a night that is not run since nothing is left."""
    desk = SearchDesk(db, niches, clock=clock, policy=policy)
    for niche in niches.values():
        plan = desk.book(niche, day)
        if plan.lease is not None:
            # Something came free in the meantime. Nobody is here to make the searches.
            quota.give_back(db, plan.lease)
            desk.record(plan, [])


def refused(plan: SearchPlan, clock: Clock) -> QuotaExhausted:
    """The failure of a run that got no search and has nothing else to show."""
    from ettametta_pipelines.vendors.google_api import seconds_to_quota_reset

    short = f"{plan.would_lose} searches are stored and fewer are" if plan.would_lose else "No search is"
    return QuotaExhausted(
        f"{short} left for {plan.niche} on {plan.day}: {plan.summary}",
        code="quota_exhausted",
        remedy="Its searches are parked and made first when the quota is new, after midnight Pacific."
        if plan.parked
        else "Wait for midnight Pacific, or keep more for re-runs (ETTAMETTA_RERUN_RESERVE).",
        retry_after_s=seconds_to_quota_reset(clock),
    )


def _history(session: "Session", today: date) -> list[PastSearch]:
    return [
        PastSearch(
            row.niche, PlannedSearch(row.query, row.region or None, row.language or None),
            row.day, row.quota_day, row.new, row.outliers,
        )
        for row in searches.made_since(session, today - timedelta(days=HISTORY_DAYS))
    ]  # fmt: skip


def _parked_for(session: "Session", niche: Niche, day: date, is_news: bool) -> dict[PlannedSearch, date]:
    """Search -> day it is owed to. News also makes up for the days just before it."""
    since = day - timedelta(days=NEWS_DAYS) if is_news else day
    return {
        PlannedSearch(row.query, row.region or None, row.language or None): row.day
        for row in reversed(searches.parked(session, niche.slug))
        if since <= row.day <= day
    }


def _key(search: PlannedSearch) -> searches.SearchKey:
    return search.query, search.region or "", search.language or ""
