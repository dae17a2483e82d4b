"""An asset that is a table: what `dg.asset` needs to be told alike for all of them, said once.

The asset is named after its contract, written and checked as Parquet by the table IO manager, and owned by the team of
its group. What operators find on the page of every table is added here too: `took_s`, how long making it took, beside
the IO manager's `rows` and `bytes`, and the title of the video, here and on the run. Used by the rooms' `*assets.py`.
"""

from collections.abc import Callable
from functools import wraps
from time import monotonic
from typing import Any

import dagster as dg
import pandas as pd

from ettametta_pipelines.orchestration.freshness import freshness_of
from ettametta_pipelines.orchestration.run_titles import name_run_of_inputs, title_given
from ettametta_pipelines.orchestration.video_groups import each_video, table_inputs
from ettametta_pipelines.storage.contracts import TableContract
from ettametta_pipelines.storage.tables import table_metadata


def table_asset(
    contract: TableContract, *, group_name: str, videos_per_run: int | None = None, **options: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Decorates the function that makes the table of `contract`; `options` are those of `dg.asset`.

    With `videos_per_run` a backfill takes so many source videos in one run, each on its own
    (`orchestration/video_groups.py`); for cheap stages without checks and side effects only.
    """

    def decorate(body: Callable[..., Any]) -> dg.AssetsDefinition:
        if body.__name__ != contract.name:
            raise ValueError(f"{body.__name__} makes the table {contract.name}: they must be called the same")
        told = _told(body)
        if videos_per_run is not None:
            if "check_specs" in options:
                raise ValueError(
                    f"{contract.name} has checks, which a run of several videos would not report"
                )
            options["ins"] = table_inputs(body)
            options["backfill_policy"] = dg.BackfillPolicy.multi_run(videos_per_run)
            told = each_video(contract.name, told)
        # With checks declared an asset has several outputs, of which Dagster must be told the table's type.
        made = dg.asset(
            group_name=group_name,
            owners=[f"team:{group_name}"],
            io_manager_key="tables",
            # A run of several videos has written its tables when it is done.
            dagster_type=pd.DataFrame if videos_per_run is None else Any,
            metadata=table_metadata(contract),
            freshness_policy=freshness_of(contract.name),
            **options,
        )(told)
        assert isinstance(made, dg.AssetsDefinition)
        return made

    return decorate


def _told(body: Callable[..., Any]) -> Callable[..., Any]:
    """The body, with its run named after the video it is about, and how long it took in its metadata."""

    @wraps(body)
    def told(*args: Any, **kwargs: Any) -> Any:
        started = monotonic()
        name_run_of_inputs([*args, *kwargs.values()])
        made = body(*args, **kwargs)
        if not isinstance(made, dg.MaterializeResult):
            return made
        said = dict(made.metadata or {})
        title = title_given([*args, *kwargs.values()])
        if title and "title" not in said:
            said = {"title": title, **said}
        said.setdefault("took_s", round(monotonic() - started, 2))
        return made._replace(metadata=said)

    return told
