"""The schedule that has clips made of the night's briefs, for niches whose owner asked for some with `clips_a_day`.

Only orders; tier, daily money and margin are judged where clips are planned. A day and niche is ordered once.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from ettametta_pipelines.automation.jobs import SYNTHESIS_JOB
from ettametta_pipelines.partitions import day_niche_key
from ettametta_pipelines.settings import Settings
from ettametta_pipelines.tags import ACCOUNT_TAG, NICHE_TAG, NIGHTLY_PRIORITY

if TYPE_CHECKING:
    from ettametta_pipelines.discovery.niches import Niche

ORDERED_TAG = "ettametta/nightly_clips"
_BRIEFS = dg.AssetKey("creative_briefs")


def build_nightly_clips(settings: Settings, **on: Any) -> dg.ScheduleDefinition:
    """The schedule; `on` says in which time zone, and that it is on by default."""

    @dg.schedule(
        name="nightly_clips",
        job_name=SYNTHESIS_JOB,
        cron_schedule="35 3-9 * * *",
        description=(
            "03:35 to 09:35, every hour: clips of last night's best briefs, once a niche, as soon as its briefs are "
            "there. Only niches that say `clips_a_day` and whose they are; by default none does."
        ),
        **on,
    )
    def nightly_clips(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest | dg.SkipReason]:
        from ettametta_pipelines.discovery.niches import load_niches

        wanted = [niche for niche in load_niches(settings.niches_file).values() if niche.clips_a_day]
        if not wanted:
            yield dg.SkipReason(
                "No niche says under clips_a_day how many clips a night are made for its account."
            )
            return
        tick: datetime = context.scheduled_execution_time
        day = (tick.astimezone(settings.timezone).date() - timedelta(days=1)).isoformat()
        due, reasons = _due(context.instance, day, wanted)
        if not due:
            yield dg.SkipReason(f"{day}: {'; '.join(reasons)}.")
        for niche in due:
            assert niche.account is not None
            key = day_niche_key(day, niche.slug)
            plan = {"account": niche.account, "top": niche.clips_a_day}
            yield dg.RunRequest(
                run_key=f"{day}|{niche.slug}",
                partition_key=key,
                run_config={"ops": {"synthesis_plans": {"config": plan}}},
                tags={
                    NICHE_TAG: niche.slug,
                    ACCOUNT_TAG: niche.account,
                    ORDERED_TAG: f"{day}.{niche.slug}",
                    **NIGHTLY_PRIORITY,
                },
            )

    return nightly_clips


def _due(
    instance: dg.DagsterInstance, day: str, wanted: "Sequence[Niche]"
) -> "tuple[list[Niche], list[str]]":
    """The niches whose clips are to be ordered now, and of every other one why not."""
    due, reasons = [], []
    for niche in wanted:
        ordered = dg.RunsFilter(tags={ORDERED_TAG: f"{day}.{niche.slug}"})
        briefs = dg.AssetRecordsFilter(
            asset_key=_BRIEFS, asset_partitions=[str(day_niche_key(day, niche.slug))]
        )
        if instance.get_runs_count(ordered):
            reasons.append(f"{niche.slug} is ordered")
        elif not instance.fetch_materializations(briefs, limit=1).records:
            reasons.append(f"{niche.slug} has no briefs yet")
        else:
            due.append(niche)
    return due, reasons
