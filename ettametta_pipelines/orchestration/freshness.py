"""How fresh what operators rely on has to be: declared here once, for the UI's freshness and for alerts.

Dagster's own freshness looks at an asset's last materialization of any partition, which a backfill of an old day
renews; alerts therefore look for the very partitions that should be there. `orchestration/table_asset.py` puts it on
the assets.
"""

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from ettametta_pipelines.partitions import NICHE, day_niche_key
from ettametta_pipelines.settings import get_settings


@dataclass(frozen=True)
class Due:
    """One asset and when its partition of `days_ago` has to be there, by the operator's clock.

    `begins` is when its schedule starts: a system that came up later owes nothing that day. `also` names assets of the
    same runs, which the UI shows alike; what is missing of them is missing of this one.
    """

    asset: str
    what: str
    begins: time
    by: time
    days_ago: int
    remedy: str
    by_niche: bool = False
    also: tuple[str, ...] = ()

    def partitions(self, day: date) -> list[str]:
        """Keys that have to be there once `by` has come on `day`."""
        of = (day - timedelta(days=self.days_ago)).isoformat()
        return [day_niche_key(of, niche) for niche in NICHE.get_partition_keys()] if self.by_niche else [of]

    def policy(self, zone: str) -> dg.FreshnessPolicy:
        return dg.FreshnessPolicy.cron(
            deadline_cron=f"{self.by.minute} {self.by.hour} * * *",
            lower_bound_delta=timedelta(hours=self.by.hour - self.begins.hour, minutes=self.by.minute),
            timezone=zone,
        )


@dataclass(frozen=True)
class Within:
    """One asset and how old its last materialization may be."""

    asset: str
    what: str
    longest: timedelta
    remedy: str
    also: tuple[str, ...] = ()

    def policy(self, zone: str) -> dg.FreshnessPolicy:
        return dg.FreshnessPolicy.time_window(fail_window=self.longest)


Expectation = Due | Within

EXPECTATIONS: tuple[Expectation, ...] = (
    Due(
        "trend_candidates", "last night's discovery", time(2), time(6), 1,
        "Look at the runs of nightly_discovery since 02:00; materialize the missing partitions when the cause is gone.",
        by_niche=True, also=("youtube_candidates", "tiktok_candidates"),
    ),
    Due(
        "niche_trends", "the overview of all niches", time(5), time(6), 1,
        "Materialize niche_trends for that day.",
    ),
    Due(
        "daily_revenue", "yesterday's books", time(3, 30), time(7), 1,
        "Look at the last runs of book_daily_revenue; materialize the day, which books the same as the night would.",
    ),
    Within(
        "publication_metrics", "statistics of our posts", timedelta(hours=3),
        "Look at the last runs of refresh_publication_metrics; the schedule reads every hour.",
    ),
    Within(
        "api_quota_usage", "the quotas' standing", timedelta(hours=3),
        "Look at the last runs of quota_usage; if there are none, the daemon does not run.",
    ),
    Within(
        "publish_queue", "the publishing queue", timedelta(hours=2),
        "Look at the last runs of plan_publishing; a bad channels file is named there with its line.",
    ),
)  # fmt: skip


def last_deadline(due: Due, now: datetime, zone: ZoneInfo) -> tuple[date, datetime, datetime]:
    """The newest day whose deadline has passed, when its schedule started that day, and the deadline, aware."""
    day = now.astimezone(zone).date()
    if now < datetime.combine(day, due.by, tzinfo=zone):
        day -= timedelta(days=1)
    return day, datetime.combine(day, due.begins, tzinfo=zone), datetime.combine(day, due.by, tzinfo=zone)


def freshness_of(asset: str) -> dg.FreshnessPolicy | None:
    """What the UI shows as the asset's freshness; None where nothing is expected."""
    zone = get_settings().business_timezone
    return next((one.policy(zone) for one in EXPECTATIONS if asset in (one.asset, *one.also)), None)
