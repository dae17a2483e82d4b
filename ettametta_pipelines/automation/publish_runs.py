"""The run of one post on one platform, as every sensor and schedule asks for it.

Priority and the ban on retries come from the job. Used by `publish_sensor.py`, `ordered_posts.py` and `followup.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.tags import ACCOUNT_TAG, PLATFORM_TAGS, YES

# What is run for a platform: its post, and what is set on it once it is published.
ASSETS_OF = {"youtube": ("youtube_publications", "youtube_thumbnails"), "tiktok": ("tiktok_publications",)}


def publish_run(
    run_key: str,
    platform: str,
    account: str,
    source_id: str,
    config: Mapping[str, Any],
    tags: Mapping[str, str] | None = None,
) -> dg.RunRequest:
    """`config` is that of the platform's publications asset; `tags` come on top of account and platform."""
    assets = ASSETS_OF[platform]
    return dg.RunRequest(
        run_key=run_key,
        partition_key=source_id,
        asset_selection=[dg.AssetKey(name) for name in assets],
        run_config={"ops": {assets[0]: {"config": dict(config)}}} if config else None,
        tags={ACCOUNT_TAG: account, PLATFORM_TAGS[platform]: YES, **(tags or {})},
    )


def calling_back(requests: Sequence[dg.RunRequest]) -> list[dg.AddDynamicPartitionsRequest]:
    """The partitions of these runs, asked for with them: a video may have been archived since it was planned."""
    return [SOURCE_VIDEO.build_add_request(sorted({str(request.partition_key) for request in requests}))]
