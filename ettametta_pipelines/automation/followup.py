"""The schedule that carries publications on: what `publishing/followup.py` finds due becomes run requests."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from ettametta_pipelines.automation.jobs import PUBLISH_JOB
from ettametta_pipelines.automation.publish_runs import publish_run
from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.orchestration.resources import StateResource
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.tags import TITLE_TAG

if TYPE_CHECKING:
    from ettametta_pipelines.publishing.followup import DueLook


def build_followup(**on: Any) -> dg.ScheduleDefinition:
    """The schedule; `on` says in which time zone, and that it is on by default."""

    @dg.schedule(
        name="publication_followup",
        job_name=PUBLISH_JOB,
        cron_schedule="*/10 * * * *",
        description=(
            "Every ten minutes: posts that are being processed, in doubt, or were left by a killed run, each run again "
            "with its own configuration when its next look is due. Never posts twice."
        ),
        **on,
    )
    def publication_followup(
        context: dg.ScheduleEvaluationContext, state: StateResource
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from ettametta_pipelines.publishing.followup import due_looks, hand_over_stranded
        from ettametta_pipelines.publishing.ledger import Ledger
        from ettametta_pipelines.publishing.tokens import open_envelope

        database = state.open()
        ledger = Ledger(database, open_envelope(get_settings()), clock=utc_now, owner="publication_followup")
        if stranded := hand_over_stranded(ledger, database):
            context.log.warning(f"{stranded} posts of disconnected channels wait for a person now.")
        known = frozenset(context.instance.get_dynamic_partitions(str(SOURCE_VIDEO.name)))
        looks = due_looks(database)
        for look in looks:
            if look.source_id not in known:
                # One request that cannot be launched would take the others of its tick with it.
                context.log.warning(
                    f"{look.source_id} is no source video any more, but has a post on its way."
                )
        requests = [_request(look) for look in looks if look.source_id in known]
        if not requests:
            yield dg.SkipReason("No post is on its way and due to be looked at.")
        yield from requests

    return publication_followup


def _request(look: "DueLook") -> dg.RunRequest:
    # An empty wish takes the video's own title, which is not known here.
    title = str(look.wishes.get("title") or "")[:80]
    tags = {TITLE_TAG: title} if title else {}
    return publish_run(look.key, look.platform, look.account, look.source_id, look.wishes, tags)
