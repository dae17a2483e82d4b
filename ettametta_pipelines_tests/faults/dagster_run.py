"""One real Dagster run of a publications asset, in a process that may be killed: `python -m ... PLATFORM KILL_AT`.

Works in the ETTAMETTA_HOME and DAGSTER_HOME of its environment, against the sandbox its settings name. KILL_AT is
`table` (the post is made, its table is not written), `event` (the table is written, the materialization is not told),
`run` (it is told, the run is not marked as over) or `nowhere`. Prints what the run said of the post.
"""

import hashlib
import json
import os
import signal
import sys
from typing import Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.orchestration.resources import (
    StateResource,
    StoreResource,
    TikTokResource,
    YouTubeResource,
)
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.publishing.assets import ASSETS
from ettametta_pipelines.publishing.contracts import CONTRACTS
from ettametta_pipelines.storage.contracts import Column, TableContract
from ettametta_pipelines.storage.tables import ParquetTables
from ettametta_pipelines_tests.publishing.conftest import tiny_video

SOURCE = "acme--0123456789abcdef"
KEY = f"media/renditions/{SOURCE}/9x16/x.mp4"
SOURCE_MEDIA = TableContract(
    "source_media",
    "",
    tuple(
        Column(name, "string", "")
        for name in ("source_id", "account", "niche", "upload_key", "title", "rights", "attribution")
    ),
    key=("source_id",),
)
RENDITION = TableContract(
    "rendition_9x16",
    "",
    (
        Column("object_key", "string", ""), Column("sha256", "string", ""), Column("size_bytes", "int64", ""),
        Column("duration_s", "float64", ""),
    ),
    key=("object_key",),
)  # fmt: skip


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_at(place: str, asset: str) -> None:
    if place == "table":
        original_write = ParquetTables.handle_output

        def handle_output(self: ParquetTables, context: dg.OutputContext, value: Any) -> None:
            if context.asset_key == dg.AssetKey(asset):
                _die()
            original_write(self, context, value)

        ParquetTables.handle_output = handle_output  # type: ignore[method-assign]
    kinds = {"event": dg.DagsterEventType.ASSET_MATERIALIZATION, "run": dg.DagsterEventType.RUN_SUCCESS}
    if place in kinds:
        original_event = dg.DagsterInstance.handle_new_event

        def handle_new_event(self: dg.DagsterInstance, entry: Any, **options: Any) -> Any:
            event = entry.dagster_event
            if event is not None and event.event_type is kinds[place]:
                about = event.asset_key if place == "event" else None
                if about in (None, dg.AssetKey(asset)):
                    _die()
            return original_event(self, entry, **options)

        dg.DagsterInstance.handle_new_event = handle_new_event  # type: ignore[method-assign]


def main(platform: str, place: str) -> None:
    name = f"{platform}_publications"
    video = tiny_video()
    store = StoreResource()
    store.open().put(KEY, video)
    source = {
        "source_id": SOURCE, "account": "acme", "niche": "cooking",
        "upload_key": "uploads/acme/cooking/2026/11/22/a.mp4",
        "title": "Knife skills", "rights": "owned", "attribution": "",
    }  # fmt: skip
    rendition = {
        "object_key": KEY, "sha256": hashlib.sha256(video).hexdigest(), "size_bytes": len(video), "duration_s": 0.25,
    }  # fmt: skip

    @dg.asset(partitions_def=SOURCE_VIDEO, io_manager_key="tables")
    def source_media() -> pd.DataFrame:
        return SOURCE_MEDIA.frame([source])

    @dg.asset(partitions_def=SOURCE_VIDEO, io_manager_key="tables")
    def rendition_9x16() -> pd.DataFrame:
        return RENDITION.frame([rendition])

    contracts = {contract.name: contract for contract in (*CONTRACTS, SOURCE_MEDIA, RENDITION)}
    kill_at(place, name)
    with dg.DagsterInstance.get() as instance:
        instance.add_dynamic_partitions(str(SOURCE_VIDEO.name), [SOURCE])
        result = dg.materialize(
            [*ASSETS, source_media, rendition_9x16],
            instance=instance,
            selection=["source_media", "rendition_9x16", name],
            partition_key=SOURCE,
            run_config={"ops": {name: {"config": {"approve": True}}}},
            resources={
                "store": store, "state": StateResource(), "youtube": YouTubeResource(), "tiktok": TikTokResource(),
                "tables": ParquetTables(store.open, contracts),
            },
        )  # fmt: skip
    (event,) = [e for e in result.get_asset_materialization_events() if e.asset_key == dg.AssetKey(name)]
    metadata = event.step_materialization_data.materialization.metadata
    sys.stdout.write(json.dumps({fact: metadata[fact].value for fact in ("state", "posted")}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
