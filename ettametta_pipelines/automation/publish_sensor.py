"""The publish sensor: a planned post whose time has come gets its run.

What is due is decided by `publishing/queue.py` and claimed in the state database before a run is asked for. A claim of
the last hour without a run is asked for again, so a daemon that is killed in between loses no post; that none is made
twice is the ledger's work.
"""

import dagster as dg

from ettametta_pipelines.automation.jobs import PUBLISH_JOB
from ettametta_pipelines.automation.publish_runs import calling_back, publish_run
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.orchestration.resources import StateResource, StoreResource
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.tags import SLOT_TAG, TELL_TAG, TITLE_TAG


@dg.sensor(
    name="publish_sensor",
    job_name=PUBLISH_JOB,
    minimum_interval_seconds=180,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Every three minutes: starts the posts whose planned time has come, one run each. What is planned when, and "
        "what waits for a person, is in the asset publish_queue. Without a channels file every post waits."
    ),
)
def publish_sensor(
    context: dg.SensorEvaluationContext, store: StoreResource, state: StateResource
) -> dg.SensorResult | dg.SkipReason:
    from ettametta_pipelines.publishing.admission import live_platforms
    from ettametta_pipelines.publishing.backlog import Claimed, may_post, recent_claims, take_due, upcoming
    from ettametta_pipelines.publishing.policy import load_channels

    settings, database, now = get_settings(), state.open(), utc_now()
    channels = load_channels(settings.channels_file)
    planned = []
    if possible := may_post(database, channels):
        planned = upcoming(store.open(), database, channels, now, live=live_platforms(settings))
        take_due(database, planned, now)
    titles = {(p.entry.platform, p.entry.source_id): p.entry.title for p in planned}

    def request(claim: Claimed) -> dg.RunRequest:
        name = claim.name
        tell = channels.of(name.account, name.platform).tell
        tags = {
            TITLE_TAG: titles.get((name.platform, name.source_id), name.source_id)[:100],
            SLOT_TAG: f"{claim.slot_at:%Y-%m-%dT%H:%M:%SZ}",
        }
        # What differs from the defaults: the words are those that were approved, or the policy's.
        config = {} if name.intent_no == 1 else {"intent_no": name.intent_no}
        if tell:
            tags[TELL_TAG] = ", ".join(tell)
        return publish_run(claim.run_key, name.platform, name.account, name.source_id, config, tags)

    requests = [
        request(claim) for claim in recent_claims(database, now) if not _has_run(context, claim.run_key)
    ]
    if requests:
        return dg.SensorResult(run_requests=requests, dynamic_partitions_requests=calling_back(requests))
    if not possible:
        return dg.SkipReason(
            "No post is approved and no channel is automatic; publish_queue shows what waits."
        )
    dated = [p.at for p in planned if p.at is not None and p.at > now]
    following = f"the next on {min(dated):%Y-%m-%d %H:%M} UTC" if dated else "none has a date"
    return dg.SkipReason(f"{len(planned)} posts wait, {following}; publish_queue shows them all.")


def _has_run(context: dg.SensorEvaluationContext, run_key: str) -> bool:
    return context.instance.get_runs_count(dg.RunsFilter(tags={"dagster/run_key": run_key})) > 0
