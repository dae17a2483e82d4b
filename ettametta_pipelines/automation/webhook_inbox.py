"""The sensor that works off what vendors told: messages the gateway has stored become their effects.

What each kind leads to is the table of `webhook_effects.py`. What an effect wants read again becomes a run here, at
most one an hour, since a busy shop tells of every order.
"""

from datetime import timedelta

import dagster as dg

from ettametta_pipelines.automation.jobs import REVENUE_JOB
from ettametta_pipelines.clock import business_day_of, utc_now
from ettametta_pipelines.orchestration.resources import StateResource
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.tags import NIGHTLY_PRIORITY


@dg.sensor(
    name="webhook_inbox",
    job_name=REVENUE_JOB,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Applies what Stripe, Shopify, TikTok and the render node told the gateway: up to 200 messages every 15 "
        "seconds, oldest first. The gateway only stores and answers, so that no vendor waits for our work. A message "
        "that fails is tried again after ever longer waits and then parked; webhook_messages shows it with its reason."
    ),
)
def webhook_inbox(
    context: dg.SensorEvaluationContext, state: StateResource
) -> dg.SensorResult | dg.SkipReason:
    from ettametta_pipelines.webhook_effects import BOOKS, apply_inbox

    settings = get_settings()
    worked, rereads = apply_inbox(settings, state.open())
    for (source, kind, outcome), number in sorted(worked.outcomes.items()):
        context.log.info(f"{number} × {source} {kind}: {outcome}")
    for problem in worked.failed:
        context.log.warning(f"Will be tried again: {problem}")
    for problem in worked.parked:
        context.log.error(f"Parked: {problem}")
    if BOOKS in rereads:
        now = utc_now()
        today = business_day_of(now, settings.timezone)
        days = {"start": today - timedelta(days=1), "end": today}
        tags = {f"dagster/asset_partition_range_{end}": day.isoformat() for end, day in days.items()}
        request = dg.RunRequest(run_key=f"told:{now:%Y-%m-%dT%H}", tags=tags | NIGHTLY_PRIORITY)
        return dg.SensorResult(run_requests=[request])
    done, more = worked.outcomes.total(), " More is due." if worked.is_cut_short else ""
    return dg.SkipReason(
        f"{done} messages applied, {len(worked.failed)} to be tried again, {len(worked.parked)} parked.{more}"
        if done or worked.failed or worked.parked
        else "No message waits."
    )
