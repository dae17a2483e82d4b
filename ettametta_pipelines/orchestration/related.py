"""Links from the page of one asset's partition to those of others, so that no operator has to copy an id.

A source leads to its renditions and posts, a rendition to its source and posts, a post back to both. For assets only;
addresses are those of the Dagster UI as `settings.ui_url` knows it.
"""

from urllib.parse import quote

import dagster as dg

from ettametta_pipelines.settings import get_settings

SOURCE = "source_media"
RENDITIONS = ("rendition_9x16", "rendition_16x9", "rendition_1x1")
POSTS = ("youtube_publications", "tiktok_publications")


def partition_page(ui_url: str, asset: str, partition: str) -> str:
    """Address of a partition of an asset in the Dagster UI."""
    return f"{ui_url}/assets/{asset}?view=partitions&partition={quote(partition, safe='')}"


def related_pages(partition: str, *assets: str) -> dict[str, dg.MetadataValue]:
    """Metadata `see_{asset}`: the pages of the same partition of these assets, whether they are made by now or not."""
    ui_url = get_settings().ui_url
    return {
        f"see_{asset}": dg.MetadataValue.url(partition_page(ui_url, asset, partition)) for asset in assets
    }
