"""Sensors: the upload sensor turns files under `uploads/` into source videos, each with one run.

The decision what is new lives in `media/inbox.py`; here its answer becomes partitions and run requests, and the
tick says in words what was looked at, what was refused and what waits.
"""

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
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource
from ettametta_pipelines.partitions import NICHE, SOURCE_VIDEO
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.tags import ACCOUNT_TAG, NICHE_TAG, TITLE_TAG, UPLOAD_PRIORITY
from ettametta_pipelines.untrusted import plain_text

if TYPE_CHECKING:
    from ettametta_pipelines.settings import Settings
    from ettametta_pipelines.state.models import Upload
    from ettametta_pipelines.state.session import StateDatabase

RUN_KEY_TAG = "dagster/run_key"
UPLOAD_SENSOR = "upload_sensor"


def build_upload_sensor(settings: "Settings") -> dg.SensorDefinition:
    """`upload_sensor`, as often as the store of these settings allows."""
    every_s = settings.upload_look_s
    return dg.sensor(
        name=UPLOAD_SENSOR,
        job_name=INGEST_JOB,
        # The daemon goes round every five seconds; a round that comes a moment early must not be left out.
        minimum_interval_seconds=every_s - 1,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            f"Looks under `uploads/{{account}}/{{niche}}/{{yyyy}}/{{mm}}/{{dd}}/` every {every_s} seconds and starts "
            "one run per new content: at what the queue tells of, or at the last days' folders, and bit by bit at "
            "everything else. Keys it cannot use are named in the tick's log with the remedy; they are not touched. "
            "Resetting the cursor has everything looked at again and repeats no run."
        ),
    )(_look)


def _look(context: dg.SensorEvaluationContext, store: StoreResource, state: StateResource) -> dg.SensorResult:
    from ettametta_pipelines.media.inbox import Position, scan_inbox
    from ettametta_pipelines.storage.notifications import open_queue

    database, settings = state.open(), get_settings()
    position = Position.load(context.cursor)
    scan = scan_inbox(
        store.open(), database, NICHE.get_partition_keys(), position=position, queue=open_queue(settings),
        timezone=settings.timezone,
    )  # fmt: skip
    for trouble in (*scan.refusals, *scan.failures):
        context.log.warning(f"{plain_text(trouble.object_key, 200)}: {trouble.message}")
    requests = _wanted_runs(database, context.instance)
    if not requests:
        return dg.SensorResult(skip_reason=scan.in_words(), cursor=position.dump())
    context.log.info(scan.in_words())
    partitions = sorted({str(request.partition_key) for request in requests})
    return dg.SensorResult(
        run_requests=_by_plan(requests, database),
        dynamic_partitions_requests=[SOURCE_VIDEO.build_add_request(partitions)],
        cursor=position.dump(),
    )


def _wanted_runs(database: "StateDatabase", instance: dg.DagsterInstance) -> list[dg.RunRequest]:
    """One request per source video whose newest upload has no run yet; those that have one are settled.

    A daemon killed between the seen-table and the run leaves an arrival open, and each tick asks again.
    """
    from ettametta_pipelines.state import uploads

    with database.session(write=False) as session:
        arrivals = uploads.open_arrivals(session)
    wanted = {_run_key(upload): upload for upload in arrivals}
    if not wanted:
        return []
    runs = instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: list(wanted)}))
    started = [wanted[key] for run in runs if (key := run.tags[RUN_KEY_TAG]) in wanted]
    if started:
        with database.session() as session:
            uploads.settle(session, started, utc_now())
    return [_run_request(upload) for upload in arrivals if upload not in started]


def _run_key(upload: "Upload") -> str:
    """One run per content and words: the same bytes again with corrected rights, title or captions run again."""
    said = (upload.sidecar_sha256 or "no-sidecar")[:12]
    captions = f":{upload.captions_sha256[:12]}" if upload.captions_sha256 else ""
    return f"{upload.source_id}:{said}{captions}"


def _run_request(upload: "Upload") -> dg.RunRequest:
    return dg.RunRequest(
        run_key=_run_key(upload),
        partition_key=upload.source_id,
        tags={
            ACCOUNT_TAG: str(upload.account_id),
            NICHE_TAG: str(upload.niche),
            TITLE_TAG: _title_of(upload)[:80],
            **UPLOAD_PRIORITY,
        },
    )


def _title_of(upload: "Upload") -> str:
    """What its sidecar calls it, else what its file's name makes of it, as intake will."""
    from ettametta_pipelines.media.sidecar import title_from_name

    return upload.title or title_from_name(upload.object_key.rsplit("/", 1)[-1])


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


def tick_upload_sensor(
    instance: dg.DagsterInstance, definitions: dg.Definitions, cursor: list[str] | None = None
) -> tuple[list[dg.RunRequest], str]:
    """Evaluate `upload_sensor` once without a daemon and add its partitions; its run requests, or why there are none.

    The caller launches the runs, tagged `dagster/run_key` as the daemon would. `cursor` holds the last one, and is
    moved on; without it everything is looked at.
    """
    sensor = build_upload_sensor(get_settings())
    resources = {name: (definitions.resources or {})[name] for name in sensor.required_resource_keys}
    with dg.build_sensor_context(
        instance_ref=instance.get_ref(),
        definitions=definitions,
        sensor_name=sensor.name,
        resources=resources,
        cursor=cursor[-1] if cursor else None,
    ) as context:
        tick = sensor.evaluate_tick(context)
    if cursor is not None:
        cursor[:] = [str(tick.cursor)]
    for added in tick.dynamic_partitions_requests or []:
        if isinstance(added, dg.AddDynamicPartitionsRequest):
            instance.add_dynamic_partitions(added.partitions_def_name, list(added.partition_keys))
    return list(tick.run_requests or []), tick.skip_message or ""


SENSORS = [publish_sensor, ordered_posts, queue_aging, webhook_inbox, alerts, gpu_pod_janitor]
