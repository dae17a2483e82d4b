"""What every table tells operators without its asset having to: rows, bytes, time, and what its run is about."""

from typing import Any

import dagster as dg
import pandas as pd
import pytest

from ettametta_pipelines.orchestration.run_titles import platform_of
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.storage.contracts import Column, TableContract
from ettametta_pipelines.storage.objects import ObjectStore
from ettametta_pipelines.storage.tables import ParquetTables
from ettametta_pipelines.tags import ACCOUNT_TAG, NICHE_TAG, PLATFORM_TAGS, TITLE_TAG, YES

DAY_NICHE = dg.MultiPartitionsDefinition(
    {
        "date": dg.StaticPartitionsDefinition(["2026-11-22"]),
        "niche": dg.StaticPartitionsDefinition(["cooking"]),
    }
)
VIDEOS = dg.StaticPartitionsDefinition(["acme--1"])
SOURCE = TableContract(
    "source_media",
    "A source.",
    tuple(Column(name, "string", name) for name in ("source_id", "title", "account", "niche")),
    key=("source_id",),
)
POST = TableContract(
    "youtube_publications",
    "A post.",
    tuple(Column(name, "string", name) for name in ("source_id", "title", "account")),
    key=("source_id",),
)
OTHER = TableContract("tiktok_publications", "A post.", POST.columns, key=("source_id",))
DAILY = TableContract("trend_candidates", "Of a day and niche.", (Column("id", "string", "Id"),), key=("id",))


@table_asset(SOURCE, group_name="media", partitions_def=VIDEOS)
def source_media() -> Any:
    rows = [{"source_id": "acme--1", "title": "Ten knives", "account": "acme", "niche": "cooking"}]
    return dg.MaterializeResult(value=SOURCE.frame(rows))


@table_asset(POST, group_name="publishing", partitions_def=VIDEOS)
def youtube_publications(context: dg.AssetExecutionContext, source_media: pd.DataFrame) -> Any:
    rows = [{"source_id": "acme--1", "title": "Ten knives (you need)", "account": "acme"}]
    return dg.MaterializeResult(value=POST.frame(rows), metadata={"took_s": 99.0})


@table_asset(OTHER, group_name="publishing", partitions_def=VIDEOS)
def tiktok_publications(context: dg.AssetExecutionContext, youtube_publications: pd.DataFrame) -> Any:
    return dg.MaterializeResult(value=OTHER.frame([]))


@table_asset(DAILY, group_name="discovery", partitions_def=DAY_NICHE)
def trend_candidates(context: dg.AssetExecutionContext) -> Any:
    return dg.MaterializeResult(value=DAILY.frame([{"id": "1"}, {"id": "2"}]))


@pytest.fixture
def instance() -> dg.DagsterInstance:
    return dg.DagsterInstance.ephemeral()


@pytest.fixture
def tables(tmp_path: Any) -> ParquetTables:
    store = ObjectStore.from_url(tmp_path.as_uri())
    return ParquetTables(lambda: store, {one.name: one for one in (SOURCE, POST, OTHER, DAILY)})


def materialize(
    instance: dg.DagsterInstance,
    tables: ParquetTables,
    assets: list[Any],
    partition: str,
    only: str | None = None,
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """(Metadata by asset, tags of the run)."""
    done = dg.materialize(
        assets, instance=instance, partition_key=partition, resources={"tables": tables}, selection=only
    )
    run = instance.get_run_by_id(done.run_id)
    assert run is not None
    told = {
        event.materialization.asset_key.to_user_string(): {
            name: value.value for name, value in event.materialization.metadata.items()
        }
        for event in done.get_asset_materialization_events()
    }
    return told, dict(run.tags)


def test_every_table_tells_its_rows_its_bytes_and_how_long_it_took(
    instance: dg.DagsterInstance, tables: ParquetTables
) -> None:
    told, tags = materialize(instance, tables, [trend_candidates], "2026-11-22|cooking")
    assert told["trend_candidates"]["rows"] == 2
    assert told["trend_candidates"]["bytes"] > 100
    assert told["trend_candidates"]["took_s"] >= 0
    assert tags[NICHE_TAG] == "cooking"


def test_a_run_started_by_hand_is_named_by_its_source_and_its_platforms(
    instance: dg.DagsterInstance, tables: ParquetTables
) -> None:
    everything = [source_media, youtube_publications, tiktok_publications]
    told, tags = materialize(instance, tables, everything, "acme--1")
    assert told["youtube_publications"]["took_s"] == 99.0
    assert told["youtube_publications"]["title"] == "Ten knives", "where the page shows an id"
    assert (tags[TITLE_TAG], tags[ACCOUNT_TAG], tags[NICHE_TAG]) == ("Ten knives", "acme", "cooking")
    assert [tags.get(tag) for tag in PLATFORM_TAGS.values()] == [YES, YES]
    assert [platform_of(tags), platform_of(tags, "youtube_publications")] == [None, "youtube"]
    _, tags = materialize(instance, tables, everything, "acme--1", only="tiktok_publications")
    assert (tags[TITLE_TAG], platform_of(tags)) == ("Ten knives (you need)", "tiktok")
