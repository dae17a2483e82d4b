"""What of the automation itself stands still: schedules and sensors whose ticks fail, daemons that are not heard of.

Such a tick starts no run, so no failed run tells of it. When the daemon as a whole is gone this sensor is gone with it:
`ettametta dev` ends with it, and a pod's probe restarts it. Used by the sensor `alerts`.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

from ettametta_pipelines.automation.alert_looks import Desk
from ettametta_pipelines.operations.alert_routes import Severity
from ettametta_pipelines.operations.findings import Finding, Looked, Occurrence

DEAD_TICK, SILENT_DAEMON = "dead_tick", "silent_daemon"
KINDS = frozenset({DEAD_TICK, SILENT_DAEMON})

# A sensor looks again at once; of a schedule one failed tick may be a night.
FAILED_IN_A_ROW = {"SCHEDULE": 1, "SENSOR": 3, "AUTO_MATERIALIZE": 3}
COUNTED = 10
# Each daemon is heard of twice a minute; a restart takes one.
SILENT_AFTER = timedelta(minutes=5)
WHAT_STANDS = {
    "SCHEDULER": "no schedule ticks",
    "SENSOR": "no sensor looks: uploads, posts and alerts wait",
    "BACKFILL": "no backfill goes on",
    "QUEUED_RUN_COORDINATOR": "no queued run starts",
    "MONITORING": "runs that were killed stay as if they ran, and hold their pools",
    "EVENT_LOG_CONSUMER": "no killed run is tried again",
    "ASSET": "nothing is made again after a late change",
    "FRESHNESS_DAEMON": "the UI's freshness stands still",
}


def look_at_automation(desk: Desk) -> Looked:
    """Everything of the automation that stands still now."""
    return Looked(desk.now, (*dead_ticks(desk), *silent_daemons(desk)), KINDS)


def dead_ticks(desk: Desk) -> list[Finding]:
    """Schedules and sensors that are on and whose last ticks all failed; over with the first tick that goes well."""
    found = []
    for one in desk.instance.all_instigator_state():
        if not one.is_running:
            continue
        ticks = desk.instance.get_ticks(one.instigator_origin_id, one.selector_id, limit=COUNTED)
        failed = _failed_in_a_row(ticks)
        if len(failed) < FAILED_IN_A_ROW.get(one.instigator_type.value, 1):
            continue
        what = "schedule" if one.instigator_type.value == "SCHEDULE" else "sensor"
        found.append(
            Finding(
                DEAD_TICK, one.instigator_name, Severity.ERROR, "tick",
                f"{what} {one.instigator_name} fails and starts nothing: {_error(failed[0])}",
                "Open the tick for the whole error. When its cause is mended it goes on by itself; what a schedule "
                "missed, start as its job.",
                tuple(Occurrence(f"{one.instigator_name}/{tick.tick_id}", _at(tick)) for tick in failed),
                "operations",
                f"{desk.settings.ui_url}/locations/{quote(_location(one), safe='@')}/{what}s/{one.instigator_name}",
            )
        )  # fmt: skip
    return found


def _failed_in_a_row(ticks: Sequence[Any]) -> list[Any]:
    """The failed ticks since the last that went well, newest first. One that is under way says nothing yet."""
    failed = []
    for tick in ticks:
        if tick.status.value == "STARTED":
            continue
        if not tick.is_failure:
            break
        failed.append(tick)
    return failed


def _at(tick: Any) -> datetime:
    return datetime.fromtimestamp(tick.timestamp, UTC)


def _error(tick: Any) -> str:
    lowest = tick.error
    while lowest is not None and lowest.cause is not None:
        lowest = lowest.cause
    lines = (lowest.message if lowest else "").strip().splitlines()
    return (lines[-1] if lines else "no error was recorded")[:300]


def _location(state: Any) -> str:
    repository = state.origin.repository_origin
    return f"{repository.repository_name}@{repository.code_location_origin.location_name}"


def silent_daemons(desk: Desk) -> list[Finding]:
    """Parts of the daemon that are not heard of any more, while the part that runs this look is."""
    if desk.now - desk.up_since < SILENT_AFTER:
        return []
    heard = desk.instance.get_daemon_heartbeats()
    found = []
    for name in desk.instance.get_required_daemon_types():
        beat = heard.get(name)
        last = datetime.fromtimestamp(beat.timestamp, UTC) if beat else desk.up_since
        if desk.now - last < SILENT_AFTER:
            continue
        found.append(
            Finding(
                SILENT_DAEMON, name, Severity.CRITICAL, "daemon",
                f"the daemon's part {name} is not heard of: {WHAT_STANDS.get(name, 'its work stands')}",
                "Restart the daemon (`make dev`, or its pod); Deployment → Daemons shows each part's last error.",
                (Occurrence(name, last, f"last heard of {last:%Y-%m-%d %H:%M} UTC"),),
                "operations", f"{desk.settings.ui_url}/deployment/daemons",
            )
        )  # fmt: skip
    return found
