"""Partitions every room shares: days, days x niches, and one dynamic partition per source video.

Niches are the operator's file (`discovery/niches.py`); editing it and reloading the code location changes the
dimension. Days are business days in the operator's time zone (`ETTAMETTA_BUSINESS_TIMEZONE`), from
`ETTAMETTA_FIRST_DAY` to today.
"""

from datetime import date, timedelta

import dagster as dg

from ettametta_pipelines.discovery.niches import load_niches
from ettametta_pipelines.settings import DEFAULT_FIRST_DAY, SettingsError, get_settings

# What Dagster's pages and daemon still handle well of one asset, counted over the days before the usual first one: so
# no house that runs comes to a stop because time goes by.
MOST_EARLIER_PARTITIONS = 100_000


def first_day(asked: date, niches: int) -> str:
    """The first day as a partition key. Raises SettingsError where earlier days times niches are too many."""
    earlier = (DEFAULT_FIRST_DAY - asked).days * niches
    if earlier > MOST_EARLIER_PARTITIONS:
        allowed = DEFAULT_FIRST_DAY - timedelta(days=MOST_EARLIER_PARTITIONS // niches)
        raise SettingsError(
            f"ETTAMETTA_FIRST_DAY={asked} makes {earlier:,} partitions of days and {niches} niches before "
            f"{DEFAULT_FIRST_DAY}, more than {MOST_EARLIER_PARTITIONS:,}.",
            code="too_many_partitions",
            remedy=f"Set ETTAMETTA_FIRST_DAY to {allowed} or later, or have fewer niches.",
        )
    return asked.isoformat()


_settings = get_settings()
_niches = sorted(load_niches(_settings.niches_file))
FIRST_DAY = first_day(_settings.first_day, len(_niches))

DAY = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, end_offset=1, timezone=_settings.business_timezone)
NICHE = dg.StaticPartitionsDefinition(_niches)
DAY_NICHE = dg.MultiPartitionsDefinition({"date": DAY, "niche": NICHE})
SOURCE_VIDEO = dg.DynamicPartitionsDefinition(name="source_video")


def day_niche_key(day: str, niche: str) -> dg.MultiPartitionKey:
    return dg.MultiPartitionKey({"date": day, "niche": niche})
