"""Names runs by the video they are about: run pages and lists show ids of partitions, people look for titles.

Called by assets once they know the video. Sensors name the runs they start; this names those started by hand or by a
backfill, and corrects a file's name to the title the video turned out to have.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from ettametta_pipelines.tags import ACCOUNT_TAG, NICHE_TAG, TITLE_TAG
from ettametta_pipelines.untrusted import plain_text


def name_run(context: dg.AssetExecutionContext, source: Mapping[str, Any]) -> None:
    """Tag the run with title, account and niche of a row of `source_media`."""
    facts = {TITLE_TAG: source["title"], ACCOUNT_TAG: source["account"], NICHE_TAG: source["niche"]}
    tags = {tag: plain_text(str(value), 80) for tag, value in facts.items() if value}
    if missing := {tag: value for tag, value in tags.items() if context.run.tags.get(tag) != value}:
        context.instance.add_run_tags(context.run_id, missing)
