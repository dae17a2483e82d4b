"""Sensors: the upload sensor turns files under `uploads/` into source videos, each with one run.

The decision what is new lives in `media/inbox.py`; here its answer becomes partitions and run requests, and the
tick says in words what was looked at, what was refused and what waits.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from ettametta_pipelines.automation.alerts import alerts
from ettametta_pipelines.automation.gpu_janitor import gpu_pod_janitor
from ettametta_pipelines.automation.jobs import INGEST_JOB
from ettametta_pipelines.automation.ordered_posts import ordered_posts
from ettametta_pipelines.automation.priority import plan_tags, queue_aging
from ettametta_pipelines.automation.publish_sensor import publish_sensor
from ettametta_pipelines.automation.webhook_inbox import webhook_inbox
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.partitions import NICHE, SOURCE_VIDEO
from ettametta_pipelines.resources import StateResource, StoreResource
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.tags import ACCOUNT_TAG, NICHE_TAG, TITLE_TAG, UPLOAD_PRIORITY

if TYPE_CHECKING:
    from ettametta_pipelines.state.models import Upload
    from ettametta_pipelines.state.session import StateDatabase

# A daemon killed between the seen-table and the run leaves an accepted upload without a run. Arrivals of the last day
# are therefore checked against the run storage on every tick; older ones are told by their missing partition.
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

    database = state.open()
    scan = scan_inbox(store.open(), database, NICHE.get_partition_keys())
    for trouble in (*scan.refusals, *scan.failures):
        context.log.warning(f"{trouble.object_key}: {trouble.message}")
    existing = frozenset(context.instance.get_dynamic_partitions(str(SOURCE_VIDEO.name)))
    requests = [
        request
        for request in _wanted_runs(_unfinished_arrivals(database, existing))
        if not _has_run(context.instance, request.run_key)
    ]
    if not requests:
        return dg.SkipReason(scan.in_words())
    context.log.info(scan.in_words())
    partitions = sorted({str(request.partition_key) for request in requests})
    return dg.SensorResult(
        run_requests=_by_plan(requests, database),
        dynamic_partitions_requests=[SOURCE_VIDEO.build_add_request(partitions)],
    )


def _unfinished_arrivals(database: "StateDatabase", existing: frozenset[str]) -> "list[Upload]":
    """Arrivals that may lack a run: those of the last day, and any older one that never got its partition."""
    from ettametta_pipelines.state import uploads

    with database.session(write=False) as session:
        recent = uploads.accepted_since(session, utc_now() - RECOVERY_WINDOW)
        lost = [
            upload
            for source_id in uploads.accepted_sources(session)
            if source_id not in existing and (upload := uploads.for_source(session, source_id)) is not None
        ]
    return [*lost, *recent]


def _wanted_runs(arrivals: "list[Upload]") -> list[dg.RunRequest]:
    """One request per source video, for its newest upload: the same content under two names is one source."""
    newest = {upload.source_id: upload for upload in sorted(arrivals, key=lambda upload: upload.seen_at)}
    return [_run_request(upload) for upload in newest.values()]


def _run_request(upload: "Upload") -> dg.RunRequest:
    """One run per content and sidecar: the same bytes again with corrected rights or title run again."""
    return dg.RunRequest(
        run_key=f"{upload.source_id}:{(upload.sidecar_sha256 or 'no-sidecar')[:12]}",
        partition_key=upload.source_id,
        tags={
            ACCOUNT_TAG: str(upload.account_id),
            NICHE_TAG: str(upload.niche),
            TITLE_TAG: upload.object_key.rsplit("/", 1)[-1],
            **UPLOAD_PRIORITY,
        },
    )


def _by_plan(requests: list[dg.RunRequest], database: "StateDatabase") -> list[dg.RunRequest]:
    """The requests with what each account's tier says about priority."""
    from ettametta_pipelines.billing.entitlements import standing
    from ettametta_pipelines.billing.tiers import open_plans

    plans = open_plans(get_settings())
    accounts = {request.tags[ACCOUNT_TAG] for request in requests}
    tags = {account: plan_tags(standing(database, plans, account).tier) for account in accounts}
    return [
        request.with_replaced_attrs(tags={**request.tags, **tags[request.tags[ACCOUNT_TAG]]})
        for request in requests
    ]


def _has_run(instance: dg.DagsterInstance, run_key: str | None) -> bool:
    filters = dg.RunsFilter(tags={"dagster/run_key": str(run_key)})
    return instance.get_runs_count(filters) > 0


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


SENSORS = [
    upload_sensor, publish_sensor, ordered_posts, queue_aging, webhook_inbox, alerts, gpu_pod_janitor,
]  # fmt: skip
