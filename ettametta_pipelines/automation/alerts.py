"""The sensor behind alerts: looks for what is wrong, notes who is to be told, and delivers what waits.

What is wrong is found by `alert_looks.py` and `operations/findings.py`; who is told when is decided by
`operations/alerting.py`; here they are put together, once a minute. Runs know nothing of it: a mail server that is down
costs this tick a few seconds and no run anything.
"""

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.failures import PipelineError
from ettametta_pipelines.orchestration.resources import StateResource
from ettametta_pipelines.settings import Settings, get_settings

if TYPE_CHECKING:
    from ettametta_pipelines.automation.alert_looks import Desk
    from ettametta_pipelines.operations.alert_routes import Routing
    from ettametta_pipelines.state.session import StateDatabase

# Longer than any tick takes: a gap means that the daemon was off.
OFF_AFTER = timedelta(minutes=15)


@dg.sensor(
    name="alerts",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description=(
        "Every minute: looks for failed runs and checks, runs that hang, schedules and sensors whose ticks fail, "
        "tables of the night that are missing, channels to be connected again, posts in doubt, budgets and quotas "
        "nearly spent, and tells the people the alerts file names, by log, mail and webhook. Starts no run. Turn it "
        "off and nobody is told anything."
    ),
)
def alerts(context: dg.SensorEvaluationContext, state: StateResource) -> dg.SensorResult:
    said, cursor = look_and_tell(context, state.open(), get_settings(), utc_now())
    return dg.SensorResult(skip_reason=said, cursor=cursor)


def look_and_tell(
    context: dg.SensorEvaluationContext, db: "StateDatabase", settings: Settings, now: datetime
) -> tuple[str, str]:
    """One tick: the sentence it ends with, and the cursor of the next."""
    from ettametta_pipelines.automation.alert_looks import look_at_dagster
    from ettametta_pipelines.automation.tick_looks import look_at_automation
    from ettametta_pipelines.operations.alert_words import count
    from ettametta_pipelines.operations.alerting import note
    from ettametta_pipelines.operations.findings import look_at_state, merged
    from ettametta_pipelines.operations.outbox import deliver, open_senders

    routing, trouble = _routing(context, settings)
    desk = _desk(context, settings, routing, now)
    looks = (
        look_at_dagster(desk),
        look_at_automation(desk),
        look_at_state(db, settings, routing.thresholds, now),
    )
    looked = merged(looks, now)
    noted = note(db, routing, looked, settings)
    sent = deliver(db, open_senders(settings), utc_now)
    for finding in looked.findings:
        if finding.open:
            times = f" ({len(finding.open)} times)" if len(finding.open) > 1 else ""
            context.log.info(f"{finding.severity.name}: {finding.headline}{times}")
    said = (
        f"Wrong now: {count(noted.open, 'cause')}. Messages: {sent.sent} sent, {sent.waiting} waiting, "
        f"{sent.parked} not delivered."
    )
    marks = {"since": desk.since, "up_since": desk.up_since, "looked": now}
    return trouble + said, json.dumps({name: at.isoformat() for name, at in marks.items()})


def _routing(context: dg.SensorEvaluationContext, settings: Settings) -> "tuple[Routing, str]":
    """Who is told; while the files cannot be used, whom the settings name, and the log."""
    from ettametta_pipelines.operations.alert_routes import load_routing, plain_routing

    try:
        return load_routing(settings), ""
    except PipelineError as error:
        context.log.error(str(error))
        return plain_routing(settings), f"{error} "


def _desk(
    context: dg.SensorEvaluationContext, settings: Settings, routing: "Routing", now: datetime
) -> "Desk":
    from ettametta_pipelines.automation.alert_looks import Desk

    marks = {name: datetime.fromisoformat(at) for name, at in json.loads(context.cursor or "{}").items()}
    looked = marks.get("looked")
    was_off = looked is None or now - looked > OFF_AFTER
    repository: Any = context.repository_def
    definitions = set(repository.assets_defs_by_key.values())
    return Desk(
        context.instance,
        settings,
        routing.thresholds,
        now,
        since=marks.get("since", now),
        up_since=now if was_off else marks.get("up_since", now),
        looked=looked,
        groups={
            spec.key.to_user_string(): spec.group_name or "" for asset in definitions for spec in asset.specs
        },
        checks={spec.key: spec.description or "" for asset in definitions for spec in asset.check_specs},
    )
