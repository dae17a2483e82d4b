"""Collects a niche's YouTube candidates for one day: search, watched channels, statistics, channel baselines.

Quota is reserved in the state database before every call (`MeteredYouTube`), shared by all runs and never
oversold; when a bucket is spent the collector keeps what it has and says what it left out. No ranking here:
what the numbers mean is `trends.py`'s business. Called by `assets.py`.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import batched
from typing import TYPE_CHECKING, Any, TypeVar
from zoneinfo import ZoneInfo

from ettametta_pipelines.clock import Clock, business_day_bounds
from ettametta_pipelines.discovery.niches import Niche
from ettametta_pipelines.discovery.virality import (
    UNKNOWN_BASELINE,
    Baseline,
    Upload,
    age_hours,
    channel_baseline,
    view_velocity,
)
