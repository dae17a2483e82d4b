"""Partitions every room shares: days, days x niches, and one dynamic partition per source video.

Niches are the operator's file (`discovery/niches.py`); editing it and reloading the code location changes the
dimension. Days are business days in the operator's time zone (`ETTAMETTA_BUSINESS_TIMEZONE`) and include today.
"""

import dagster as dg

from ettametta_pipelines.discovery.niches import load_niches
from ettametta_pipelines.settings import get_settings

FIRST_DAY = "2026-01-01"

_settings = get_settings()

DAY = dg.DailyPartitionsDefinition(start_date=FIRST_DAY, end_offset=1, timezone=_settings.business_timezone)
NICHE = dg.StaticPartitionsDefinition(sorted(load_niches(_settings.niches_file)))
DAY_NICHE = dg.MultiPartitionsDefinition({"date": DAY, "niche": NICHE})
SOURCE_VIDEO = dg.DynamicPartitionsDefinition(name="source_video")


def day_niche_key(day: str, niche: str) -> dg.MultiPartitionKey:
    return dg.MultiPartitionKey({"date": day, "niche": niche})
