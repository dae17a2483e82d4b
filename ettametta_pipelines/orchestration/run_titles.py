"""Names runs by the video they are about: run pages and lists show ids of partitions, people look for titles.

Called by assets once they know the video. Sensors name the runs they start; this names those started by hand or by a
backfill, and corrects a file's name to the title the video turned out to have.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.tags import ACCOUNT_TAG, NICHE_TAG, PLATFORM_TAGS, TITLE_TAG, YES
from ettametta_pipelines.untrusted import plain_text

FACTS = {TITLE_TAG: "title", ACCOUNT_TAG: "account", NICHE_TAG: "niche"}
PLATFORM_OF = {
    "youtube_publications": "youtube", "youtube_thumbnails": "youtube", "tiktok_publications": "tiktok",
}  # fmt: skip


def name_run(context: dg.AssetExecutionContext, source: Mapping[str, Any]) -> None:
    """Tag the run with title, account and niche of a row of `source_media`."""
    _tag(context, {tag: source[fact] for tag, fact in FACTS.items()})


def title_given(inputs: Iterable[Any]) -> str | None:
    """The title of the video that one of these tables is about, as a visible line."""
    titles = (
        table.iloc[0]["title"] for table in inputs
        if isinstance(table, pd.DataFrame) and len(table) == 1 and {"source_id", "title"} <= set(table.columns)
    )  # fmt: skip
    return next((plain_text(title, 100) for title in titles if isinstance(title, str) and title), None)


def name_run_of_inputs(inputs: Iterable[Any]) -> None:
    """Tag the run by what an asset's body was given: a table of one video, a partition's niche, a platform to post to.

    A run of many partitions is about no video in particular and gets nothing.
    """
    given = list(inputs)
    context = next((one for one in given if isinstance(one, dg.AssetExecutionContext)), None)
    if context is None or not context.has_partition_key:
        return
    known, about = _fresh_tags(context), dict[str, Any]()
    if isinstance(context.partition_key, dg.MultiPartitionKey):
        about[NICHE_TAG] = context.partition_key.keys_by_dimension.get("niche")
    for table in given:
        if (
            isinstance(table, pd.DataFrame)
            and len(table) == 1
            and {"source_id", "title"} <= set(table.columns)
        ):
            row = table.iloc[0].to_dict()
            # A post has a title of its own: it names a run that has no name yet.
            is_source = "niche" in row
            about |= {t: row.get(fact) for t, fact in FACTS.items() if is_source or t not in known}
    if platform := PLATFORM_OF.get(context.asset_key.to_user_string()):
        about[PLATFORM_TAGS[platform]] = YES
    _tag(context, about)


def name_run_of_videos(context: dg.AssetExecutionContext, tables: Iterable[pd.DataFrame]) -> None:
    """Tag a run of several videos with their number, and with account and niche where all of them have the same."""
    about: dict[str, Any] = {TITLE_TAG: f"{len(context.partition_keys)} videos"}
    sources = [table.iloc[0] for table in tables if len(table) == 1 and "niche" in table.columns]
    for tag in (ACCOUNT_TAG, NICHE_TAG):
        found = {source[FACTS[tag]] for source in sources}
        about[tag] = found.pop() if len(found) == 1 else None
    _tag(context, about)


def platform_of(tags: Mapping[str, str], asset: str | None = None) -> str | None:
    """The platform that an asset posts to, or else the only one its run is tagged with."""
    tagged = [platform for platform, tag in PLATFORM_TAGS.items() if tag in tags]
    return PLATFORM_OF.get(asset or "") or (tagged[0] if len(tagged) == 1 else None)


def _tag(context: dg.AssetExecutionContext, facts: Mapping[str, Any]) -> None:
    tags = {
        tag: plain_text(str(value), 80) for tag, value in facts.items() if isinstance(value, str) and value
    }
    if missing := {tag: value for tag, value in tags.items() if context.run.tags.get(tag) != value}:
        context.instance.add_run_tags(context.run_id, missing)


def _fresh_tags(context: dg.AssetExecutionContext) -> Mapping[str, str]:
    """Of the run as it is now; the context's are those it began with."""
    run = context.instance.get_run_by_id(context.run_id)
    return run.tags if run else {}
