"""Sensors: the upload sensor turns files under `uploads/` into source videos, each with one run.

The decision what is new lives in `media/inbox.py`; here its answer becomes partitions and run requests, and the
tick says in words what was looked at, what was refused and what waits.
"""

import hashlib
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from ettametta_pipelines.automation.jobs import INGEST_JOB
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.partitions import NICHE, SOURCE_VIDEO
from ettametta_pipelines.resources import StateResource, StoreResource
from ettametta_pipelines.tags import ACCOUNT_TAG, NICHE_TAG, TITLE_TAG, UPLOAD_PRIORITY

if TYPE_CHECKING:
    from ettametta_pipelines.media.inbox import InboxScan
    from ettametta_pipelines.state.models import Upload
    from ettametta_pipelines.state.session import StateDatabase
    from ettametta_pipelines.storage.objects import ObjectStore

# A daemon killed between the seen-table and the run leaves an accepted upload without a run; arrivals of the last
# day are therefore checked against the run storage on every tick.
RECOVERY_WINDOW = timedelta(days=1)


@dg.sensor(
    name="upload_sensor",
    job_name=INGEST_JOB,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Looks under `uploads/{account}/{niche}/{yyyy}/{mm}/{dd}/` every 30 seconds and starts one run per new "
        "content. Keys it cannot use are named in the tick's log with the remedy; they are not touched."
    ),
)
def upload_sensor(
    context: dg.SensorEvaluationContext, store: StoreResource, state: StateResource
) -> dg.SensorResult | dg.SkipReason:
    from ettametta_pipelines.media.inbox import scan_inbox

    objects, database = store.open(), state.open()
    scan = scan_inbox(objects, database, NICHE.get_partition_keys())
    for refusal in scan.refusals:
        context.log.warning(f"Refused {refusal.object_key}: {refusal.reason}")
    requests = [
        request
        for request in _wanted_runs(objects, _recent_arrivals(database))
        if not _has_run(context.instance, request.run_key)
    ]
    if not requests:
        return dg.SkipReason(_in_words(scan))
    context.log.info(_in_words(scan))
    partitions = sorted({str(request.partition_key) for request in requests})
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[SOURCE_VIDEO.build_add_request(partitions)],
    )


def _recent_arrivals(database: "StateDatabase") -> "list[Upload]":
    from ettametta_pipelines.state import uploads

    with database.session() as session:
        return uploads.accepted_since(session, utc_now() - RECOVERY_WINDOW)


def _wanted_runs(store: "ObjectStore", arrivals: "list[Upload]") -> list[dg.RunRequest]:
    """One request per run key: the same content under two names is one source video."""
    return list({request.run_key: request for request in (_run_request(store, a) for a in arrivals)}.values())


def _run_request(store: "ObjectStore", upload: "Upload") -> dg.RunRequest:
    """One run per content and sidecar: the same bytes again with corrected rights or title run again."""
    assert upload.source_id is not None
    sidecar = store.get(upload.sidecar_key) if upload.sidecar_key else b""
    return dg.RunRequest(
        run_key=f"{upload.source_id}:{hashlib.sha256(sidecar).hexdigest()[:12]}",
        partition_key=upload.source_id,
        tags={
            ACCOUNT_TAG: upload.account_id,
            NICHE_TAG: upload.niche,
            TITLE_TAG: upload.object_key.rsplit("/", 1)[-1],
            **UPLOAD_PRIORITY,
        },
    )


def _has_run(instance: dg.DagsterInstance, run_key: str | None) -> bool:
    filters = dg.RunsFilter(tags={"dagster/run_key": str(run_key)})
    return instance.get_runs_count(filters) > 0


def _in_words(scan: "InboxScan") -> str:
    parts = [f"looked at {scan.looked_at} uploads", f"{len(scan.arrivals)} new"]
    if scan.refusals:
        parts.append(f"{len(scan.refusals)} refused (see the tick's log)")
    if scan.waiting:
        parts.append(f"{len(scan.waiting)} still being written")
    if scan.deferred:
        parts.append(f"{scan.deferred} left for the next tick")
    return ", ".join(parts).capitalize() + "."


def tick_upload_sensor(
    instance: dg.DagsterInstance, definitions: dg.Definitions
) -> tuple[list[dg.RunRequest], str]:
    """Evaluate `upload_sensor` once without a daemon and add its partitions; its run requests, or why there are none.

    The caller launches the runs, tagged `dagster/run_key` as the daemon would.
    """
    resources = {name: (definitions.resources or {})[name] for name in upload_sensor.required_resource_keys}
    with dg.build_sensor_context(
        instance_ref=instance.get_ref(),
        definitions=definitions,
        sensor_name=upload_sensor.name,
        resources=resources,
    ) as context:
        tick = upload_sensor.evaluate_tick(context)
    for added in tick.dynamic_partitions_requests or []:
        if isinstance(added, dg.AddDynamicPartitionsRequest):
            instance.add_dynamic_partitions(added.partitions_def_name, list(added.partition_keys))
    return list(tick.run_requests or []), tick.skip_message or ""


SENSORS = [upload_sensor]
