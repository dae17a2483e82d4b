"""One run for several videos of a cheap stage, each on its own: a video that fails takes no other with it.

Starting a run costs as much as some stages do. Such an asset is written for one video and declared with
`table_asset(..., videos_per_run=n)`; a run of one video goes as any other. In a backfill a run is given up to n, and
`each_video` takes them one after the other: reads the video's tables, calls the body, writes the video's table.
Transient failures are tried again at the end of the round, for those videos alone. What is made counts as materialized,
whatever becomes of the others; their partitions stay failed, and the run fails and names them.
"""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.range_runs import OnePartition
from ettametta_pipelines.orchestration.run_titles import name_run_of_videos
from ettametta_pipelines.previews import cell, markdown_table
from ettametta_pipelines.storage.parquet import Written
from ettametta_pipelines.storage.tables import READ_BY_ASSET
from ettametta_pipelines.tags import FAILED_VIDEOS_TAG

if TYPE_CHECKING:
    from ettametta_pipelines.storage.tables import ParquetTables

Body = Callable[..., Any]
Made = dict[str, Mapping[str, Any]]


def table_inputs(body: Body) -> dict[str, dg.AssetIn]:
    """The tables an asset's body takes, as inputs that a run of several videos does not load beforehand."""
    taken = inspect.signature(body).parameters.values()
    return {
        one.name: dg.AssetIn(metadata={READ_BY_ASSET: True})
        for one in taken
        if one.annotation is pd.DataFrame
    }


def each_video(name: str, body: Body) -> Body:
    """The body of the asset `name`, called once for each video of a run."""
    inputs = list(table_inputs(body))

    @wraps(body)
    def run(context: dg.AssetExecutionContext, **arguments: Any) -> Any:
        if len(context.partition_keys) == 1:
            return body(context, **arguments)
        tables: ParquetTables = context.resources.tables
        sources: list[pd.DataFrame] = []

        def make(one: OnePartition) -> Mapping[str, Any]:
            video = one.partition_key
            with failure_policy(one, op_retries=0):  # type: ignore[arg-type]
                read = {table: tables.read(one, table, video) for table in inputs}
                sources.extend(read.values())
                result = body(one, **(arguments | read))
                return {**(result.metadata or {}), **tables.write(one, name, result.value, video)}

        made: Made = {}
        try:
            failed = _one_by_one(context, make, made)
            name_run_of_videos(context, sources)
            if failed:
                raise _failure_of(context, failed) from list(failed.values())[-1]
        except BaseException:
            # Stored is made, also when the run is ended half-way: Dagster is told here, since it records a step's
            # own materializations only when the whole step went well.
            for video, said in made.items():
                context.log_event(dg.AssetMaterialization(context.asset_key, partition=video, metadata=said))
            raise
        for video, said in made.items():
            context.add_asset_metadata(said, partition_key=video)
        return dg.MaterializeResult(
            value=Written({video: int(said["rows"].value) for video, said in made.items()})
        )

    return run


def videos_of(run: dg.DagsterRun, live: Sequence[str]) -> Sequence[str]:
    """The source videos a run is for; `live` are the partitions there are, in Dagster's order."""
    if video := run.tags.get("dagster/partition"):
        return [video]
    first, last = (run.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    if first not in live or last not in live:
        return []
    return live[live.index(first) : live.index(last) + 1]


def _one_by_one(
    context: dg.AssetExecutionContext, make: Callable[[OnePartition], Mapping[str, Any]], made: Made
) -> dict[str, Exception]:
    """Make every video of the run, each again as often as it asks to be; fills `made`, returns what failed."""
    failed: dict[str, Exception] = {}
    left, tries = list(context.partition_keys), 0
    while left:
        again: dict[str, dg.RetryRequested] = {}
        for video in left:
            try:
                made[video] = make(OnePartition(context, video, tries))
            except dg.RetryRequested as asked:
                again[video] = asked
            except Exception as error:  # noqa: BLE001 - raised for the run once the other videos are made
                context.log.warning(f"{video} failed: {error}")
                failed[video] = error
        if again:
            time.sleep(max(float(asked.seconds_to_wait or 0) for asked in again.values()))
        left, tries = list(again), tries + 1
    return failed


def _failure_of(context: dg.AssetExecutionContext, failed: Mapping[str, Exception]) -> dg.Failure:
    """The run's failure: the last video's code and remedy, which the run was stamped with, and a table of them all."""
    context.instance.add_run_tags(context.run_id, {FAILED_VIDEOS_TAG: ",".join(failed)})
    told = {video: _told(error) for video, error in failed.items()}
    video, (code, remedy, sentence) = list(told.items())[-1]
    rows = [[cell(text, limit=300) for text in (video, *one)] for video, one in told.items()]
    return dg.Failure(
        f"{len(failed)} of {len(context.partition_keys)} videos failed, the others are made. {video}: {sentence}",
        metadata={
            "code": code,
            "remedy": remedy,
            "failed_videos": dg.MetadataValue.md(
                markdown_table(["video", "code", "what to do", "what happened"], rows)
            ),
        },
        allow_retries=False,
    )


def _told(error: Exception) -> tuple[str, str, str]:
    """(Code, remedy, sentence) of what a video failed with."""
    said = error.metadata if isinstance(error, dg.Failure) else {}
    code, remedy = (str(said[name].value) if name in said else "" for name in ("code", "remedy"))
    return (
        code or type(error).__name__,
        remedy or "Not an expected failure: open the run's log, and report it with the log if it comes back.",
        str(error.description if isinstance(error, dg.Failure) else error),
    )
