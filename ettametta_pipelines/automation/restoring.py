"""Calling archived source videos back: their partition exists again, so that they can be rendered or posted anew.

Called by `ettametta restore` and by the asset `archived_videos`, whose configuration names videos to call back.
"""

from collections.abc import Sequence

import dagster as dg

from ettametta_pipelines.clock import Clock, utc_now
from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.operations.archiving import record_restored
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.state.session import StateDatabase, open_state


def restore_videos(
    instance: dg.DagsterInstance, state: StateDatabase, source_ids: Sequence[str], clock: Clock = utc_now
) -> None:
    """Make partitions of these source videos again. Raises PermanentError `unknown_source` before it does any."""
    unknown = [source_id for source_id in source_ids if not record_restored(state, source_id, clock())]
    if unknown:
        raise PermanentError(
            f"{unknown[0]} is no source video.",
            code="unknown_source",
            remedy="archived_videos and `ettametta trace` name them, like studio--0123456789abcdef.",
        )
    instance.add_dynamic_partitions(str(SOURCE_VIDEO.name), list(source_ids))


def restore_from_command(settings: Settings, source_ids: Sequence[str]) -> None:
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        restore_videos(instance, open_state(settings), source_ids)
