"""Which tables are made again by themselves when what they were made from changes afterwards, and how far back.

Schedules and sensors make every table first; a condition never does, so nothing is started twice for one cause. What
conditions are for is what comes late: a niche that was repaired by hand, a parked search, YouTube's revised figures.
Only tables computed from stored ones are here: no call, no model, no post. Assets of a source video carry none, since
their partitions number tens of thousands and their one run makes them all (docs/backfills.md has the figures).
Called by `definitions.py`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import dagster as dg

from ettametta_pipelines.automation.priority import BACKFILL_CEILING
from ettametta_pipelines.tags import PRIORITY_TAG

Asset = dg.AssetsDefinition | dg.AssetSpec

SENSOR = "automation"
NICHE_DAYS = 3
# What `revenue/youtube.py` reads again, and today; importing it would cost every start half a second.
REVISED_DAYS = 51


@dataclass(frozen=True)
class Follows:
    """One table, the tables whose changes it follows, and how many of the latest days are looked at."""

    asset: str
    of: tuple[str, ...]
    days: int
    why: str


FOLLOWED = (
    Follows(
        "trend_candidates", ("youtube_candidates", "tiktok_candidates"), NICHE_DAYS,
        "candidates of one platform were read again alone, after that platform had failed in the night",
    ),
    Follows(
        "scored_candidates", ("candidate_assessments",), NICHE_DAYS,
        "judgements were made again, after a model had not answered or a budget was spent",
    ),
    Follows(
        "niche_trends", ("trend_candidates",), NICHE_DAYS,
        "a niche came later than the five o'clock overview: a repaired run, or a parked search",
    ),
    Follows(
        "content_margin", ("revenue_attribution", "content_costs"), REVISED_DAYS,
        "YouTube revised its figures, or a network decided about a commission, after the night's books",
    ),
)  # fmt: skip


def kept_current(one: Follows) -> dg.AutomationCondition[dg.AssetKey]:
    """Made again, once, when a followed table changed since it was last made or asked for.

    Latched by `since`: a change while a run is under way is not lost, and a run that fails is not asked for again
    before the next change. `~missing` leaves the first making to the schedule.
    """
    followed = dg.AssetSelection.assets(*one.of)
    changed = dg.AutomationCondition.any_deps_updated().allow(followed)
    settled = dg.AutomationCondition.newly_requested() | dg.AutomationCondition.newly_updated()
    condition = (
        dg.AutomationCondition.in_latest_time_window(timedelta(days=one.days))
        & ~dg.AutomationCondition.missing()
        & changed.since(settled)
        & ~dg.AutomationCondition.in_progress()
        & ~dg.AutomationCondition.any_deps_in_progress().allow(followed)
    )
    return condition.with_label(f"made again when {one.why}; the latest {one.days} days")


CONDITIONS = {one.asset: kept_current(one) for one in FOLLOWED}


def automated(assets: Iterable[Asset]) -> list[Asset]:
    """The assets, with the conditions of those that have one."""

    def with_condition(spec: dg.AssetSpec) -> dg.AssetSpec:
        condition = CONDITIONS.get(spec.key.to_user_string())
        return spec.replace_attributes(automation_condition=condition) if condition else spec

    return [
        asset.map_asset_specs(with_condition) if isinstance(asset, dg.AssetsDefinition) else asset
        for asset in assets
    ]


AUTOMATION = dg.AutomationConditionSensorDefinition(
    SENSOR,
    target=dg.AssetSelection.assets(*CONDITIONS),
    default_status=dg.DefaultSensorStatus.RUNNING,
    minimum_interval_seconds=60,
    # Below what the night and operators started themselves.
    run_tags={PRIORITY_TAG: str(BACKFILL_CEILING)},
    description="Every minute: tables computed from stored ones are made again when those changed after they were "
    "made. " + " ".join(f"*{one.asset}* ({one.days} days): {one.why}." for one in FOLLOWED) + " Schedules make "
    "every table first; nothing here makes a call, costs anything or posts.",
)  # fmt: skip
