"""The one page that assembles everything the Dagster UI shows.

`build_definitions` is a factory with overrides, so that tests and the command line assemble variants. Nothing here
reads a secret, opens a connection or imports a vendor SDK: resources do that when a run uses them.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ettametta_pipelines.automation.backfill_estimate import estimate_backfill
from ettametta_pipelines.automation.conditions import AUTOMATION, automated
from ettametta_pipelines.automation.jobs import JOBS
from ettametta_pipelines.automation.safe_ticks import safe_ticks
from ettametta_pipelines.automation.schedules import build_schedules
from ettametta_pipelines.automation.sensors import SENSORS, build_upload_sensor
from ettametta_pipelines.billing.assets import ASSETS as BILLING
from ettametta_pipelines.catalog import ALL_TABLES
from ettametta_pipelines.commerce.assets import ASSETS as COMMERCE
from ettametta_pipelines.discovery.assets import ASSETS as DISCOVERY
from ettametta_pipelines.media.assets import ASSETS as MEDIA
from ettametta_pipelines.operations.assets import ASSETS as OPERATIONS
from ettametta_pipelines.operations.history_assets import HISTORY_ASSETS as HISTORY
from ettametta_pipelines.operations.overview_assets import OVERVIEW_ASSETS as OVERVIEW
from ettametta_pipelines.operations.storage_assets import ASSETS as STORAGE
from ettametta_pipelines.operations.webhook_assets import WEBHOOK_ASSETS as WEBHOOKS
from ettametta_pipelines.orchestration.executor import in_one_process
from ettametta_pipelines.orchestration.resources import (
    JudgesResource,
    LakeResource,
    PexelsResource,
    ShopifyResource,
    StateResource,
    StoreResource,
    StripeResource,
    TikTokResource,
    YouTubeResource,
)
from ettametta_pipelines.publishing.assets import ASSETS as PUBLISHING
from ettametta_pipelines.publishing.channel_assets import ASSETS as CHANNELS
from ettametta_pipelines.publishing.figures_assets import FIGURES_ASSETS as FIGURES
from ettametta_pipelines.publishing.queue_assets import QUEUE_ASSETS as QUEUE
from ettametta_pipelines.renders.assets import ASSETS as RENDERS
from ettametta_pipelines.renders.trial_assets import TRIAL_ASSETS
from ettametta_pipelines.revenue.assets import ASSETS as REVENUE
from ettametta_pipelines.scoring.assets import ASSETS as SCORING
from ettametta_pipelines.scoring.assets import SOURCE_ASSETS
from ettametta_pipelines.scoring.quality_assets import QUALITY_ASSETS as CALIBRATION
from ettametta_pipelines.settings import Settings, get_settings
from ettametta_pipelines.storage.tables import ParquetTables
from ettametta_pipelines.synthesis.assets import ASSETS as SYNTHESIS


def build_definitions(settings: Settings, overrides: Mapping[str, Any] | None = None) -> dg.Definitions:
    """Everything, for these settings; `overrides` replaces resources by name."""
    store = StoreResource()
    resources: dict[str, Any] = {
        "store": store,
        "tables": ParquetTables(store.open, ALL_TABLES),
        "lake": LakeResource(),
        "state": StateResource(),
        "youtube": YouTubeResource(),
        "tiktok": TikTokResource(),
        "judges": JudgesResource(),
        "stripe": StripeResource(),
        "shopify": ShopifyResource(),
        "pexels": PexelsResource(),
    }
    return dg.Definitions(
        assets=automated(
            [
                *DISCOVERY,
                *SCORING,
                *SOURCE_ASSETS,
                *CALIBRATION,
                *MEDIA,
                *RENDERS,
                *TRIAL_ASSETS,
                *PUBLISHING,
                *CHANNELS,
                *QUEUE,
                *FIGURES,
                *REVENUE,
                *OPERATIONS,
                *OVERVIEW,
                *STORAGE,
                *HISTORY,
                *WEBHOOKS,
                *BILLING,
                *COMMERCE,
                *SYNTHESIS,
            ]
        ),
        jobs=[*JOBS, estimate_backfill],
        schedules=safe_ticks(build_schedules(settings)),
        sensors=safe_ticks([build_upload_sensor(settings), *SENSORS, AUTOMATION]),
        resources=resources | dict(overrides or {}),
        # Runs here are one or a few short steps: starting a process per step costs seconds and buys nothing.
        executor=in_one_process,
    )


@dg.definitions
def defs() -> dg.Definitions:
    return build_definitions(get_settings())
