"""Asks Dagster what partitions took when they were made last, and says what a backfill of more of them would cost.

The arithmetic is `operations/backfill_cost.py`. Used by the job `estimate_backfill` and by `ettametta backfill-cost`.
Reads only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from math import ceil
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from ettametta_pipelines.failures import PermanentError
from ettametta_pipelines.operations.backfill_cost import (
    Cost,
    Sample,
    cost_table,
    days_of_quota,
    duration,
    expected_cost,
    wall_seconds,
)
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import StoreResource
from ettametta_pipelines.partitions import DAY, DAY_NICHE, NICHE, SOURCE_VIDEO, day_niche_key
from ettametta_pipelines.settings import Settings, get_settings

if TYPE_CHECKING:
    from ettametta_pipelines.storage.objects import ObjectStore

# What operators backfill together. Nothing that posts is here: no backfill posts again.
STAGES: dict[str, tuple[str, ...]] = {
    "discovery": ("youtube_candidates", "tiktok_candidates", "trend_candidates", "quarantined_candidates"),
    "scoring": ("candidate_assessments", "scored_candidates", "creative_briefs"),
    "rescoring": ("trend_candidates", "scored_candidates"),
    "revenue": (
        "stripe_raw", "shopify_raw", "stripe_ledger", "shopify_ledger", "daily_revenue", "ledger_reconciliation",
        "affiliate_earnings", "shopify_orders", "content_costs", "revenue_attribution", "content_margin",
    ),
    "renders": ("rendition_9x16", "rendition_16x9", "rendition_1x1", "thumbnails"),
}  # fmt: skip
SAMPLES = 20
MOST_EVENTS = 10_000
RANGE_START = "dagster/asset_partition_range_start"


@dataclass(frozen=True)
class Question:
    """Which stage or asset, for which days and niches; days mean nothing for assets of source videos."""

    what: str
    first: date
    last: date
    niches: tuple[str, ...] = ()


@dataclass(frozen=True)
class Answer:
    costs: tuple[Cost, ...]
    wall_s: float | None
    quota_days: int
    scarcest: str

    def table(self) -> str:
        return cost_table(self.costs)

    def in_words(self) -> str:
        quota = (
            f" YouTube's quota *{self.scarcest}* alone takes {self.quota_days} days, since nights go first."
            if self.quota_days > 1
            else ""
        )
        took = duration(self.wall_s)
        return (
            f"{sum(one.runs for one in self.costs):,} runs; {took} if nothing else runs."
            if self.wall_s is not None
            else f"{sum(one.runs for one in self.costs):,} runs; how long is unknown: make a few partitions first."
        ) + quota


def estimate(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    settings: Settings,
    store: "ObjectStore",
    asked: Question,
) -> Answer:
    """What a backfill would cost. Raises PermanentError `unknown_backfill` for what is no stage, asset or range."""
    names = STAGES.get(asked.what) or (
        (asked.what,) if dg.AssetKey(asked.what) in repository.assets_defs_by_key else ()
    )
    unknown = set(asked.niches) - set(NICHE.get_partition_keys())
    if not names or asked.last < asked.first or unknown:
        raise PermanentError(
            f"There is no backfill of {asked.what} from {asked.first} to {asked.last}"
            + (f" for {', '.join(sorted(unknown))}." if unknown else "."),
            code="unknown_backfill",
            remedy=f"Name one of {', '.join(STAGES)} or an asset, days in their order, and niches of the niches file.",
        )
    costs = tuple(_cost_of(instance, repository, settings, store, name, asked) for name in names)
    days, scarcest = days_of_quota(costs, _left_a_day(settings))
    return Answer(costs, wall_seconds(costs), days, scarcest)


def _cost_of(
    instance: dg.DagsterInstance,
    repository: dg.RepositoryDefinition,
    settings: Settings,
    store: "ObjectStore",
    name: str,
    asked: Question,
) -> Cost:
    node = repository.assets_defs_by_key[dg.AssetKey(name)]
    keys = partition_keys(instance, node.partitions_def, asked)
    searches = {"search": _searches(settings, keys)} if name == "youtube_candidates" else {}
    return expected_cost(
        name, len(keys), _runs(keys, node.backfill_policy), _samples(instance, store, name), searches
    )


def _runs(keys: Sequence[str], policy: dg.BackfillPolicy | None) -> int:
    """Runs Dagster starts for these partitions: a range of days is of one niche."""
    if policy is None:
        return len(keys)
    days = Counter(key.rpartition("|")[2] if "|" in key else "" for key in keys)
    most = policy.max_partitions_per_run
    return sum(ceil(n / most) if most else 1 for n in days.values())


def partition_keys(
    instance: dg.DagsterInstance, partitions: dg.PartitionsDefinition | None, asked: Question
) -> Sequence[str]:
    """The partitions a question is about: days, days x niches, or every live source video."""
    if partitions == SOURCE_VIDEO:
        return instance.get_dynamic_partitions(str(SOURCE_VIDEO.name))
    days = [
        day for day in DAY.get_partition_keys() if asked.first.isoformat() <= day <= asked.last.isoformat()
    ]
    if partitions == DAY:
        return days
    if partitions == DAY_NICHE:
        return [
            day_niche_key(day, niche) for day in days for niche in asked.niches or NICHE.get_partition_keys()
        ]
    return ["the whole table"]


def _samples(instance: dg.DagsterInstance, store: "ObjectStore", asset: str) -> list[Sample]:
    """What the latest materializations took; the partitions of one run share its time."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=SAMPLES).records
    took: dict[str, float | None] = {}
    samples = []
    for record in records:
        event = record.asset_materialization
        if event is None:
            continue
        if record.run_id not in took:
            took[record.run_id] = _seconds_each(instance, record.run_id, asset)
        said: dict[str, Any] = {key: value.value for key, value in event.metadata.items()}
        microusd = said.get(
            "cost_microusd", None if "cost_usd" not in said else float(said["cost_usd"]) * 1e6
        )
        samples.append(
            Sample(
                took[record.run_id],
                _stored(store, asset, record.partition_key) + 1e6 * float(said.get("size_mb", 0.0)),
                None if microusd is None else float(microusd),
                {key.removeprefix("quota_"): float(v) for key, v in said.items() if key.startswith("quota_")},
            )
        )
    return samples


def _seconds_each(instance: dg.DagsterInstance, run_id: str, asset: str) -> float | None:
    """Seconds of a run's step, by partition; None where its events are gone."""
    steps = instance.get_run_step_stats(run_id, [asset])
    run = instance.get_run_by_id(run_id)
    if not steps or run is None or steps[0].start_time is None or steps[0].end_time is None:
        return None
    made = 1
    if RANGE_START in run.tags:
        events = instance.get_records_for_run(
            run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION, limit=MOST_EVENTS
        ).records
        told = [one.event_log_entry.dagster_event for one in events]
        made = sum(event is not None and event.asset_key == dg.AssetKey(asset) for event in told)
    return float(steps[0].end_time - steps[0].start_time) / max(1, made)


def _stored(store: "ObjectStore", asset: str, partition: str | None) -> int:
    from ettametta_pipelines.storage.parquet import table_key

    key = table_key(asset, partition)
    return store.head(key).size if store.exists(key) else 0


def _searches(settings: Settings, keys: Sequence[str]) -> int:
    """Searches these partitions of youtube_candidates would make."""
    from ettametta_pipelines.discovery.niches import load_niches
    from ettametta_pipelines.discovery.quota_plan import wanted_searches

    niches = load_niches(settings.niches_file)
    return sum(wanted_searches(niches[key.rpartition("|")[2]], settings.searches_per_niche) for key in keys)


def _left_a_day(settings: Settings) -> dict[str, int]:
    """What nights leave of each of YouTube's daily quotas."""
    from ettametta_pipelines.state.quota import daily_limits

    limits = {bucket: limit for (vendor, bucket), limit in daily_limits().items() if vendor == "youtube"}
    nightly = _searches(settings, [f"|{niche}" for niche in NICHE.get_partition_keys()])
    # A night that wants everything still leaves what it parks elsewhere: never less than one a day.
    limits["search"] = max(1, limits["search"] - nightly - settings.rerun_reserve)
    return limits


class EstimateConfig(dg.Config):
    """Of `estimate_backfill`, in the launchpad."""

    what: str = Field(description=f"{', '.join(STAGES)}, or the name of one asset")
    first: str = Field(description="First day, such as 2026-10-01")
    last: str = Field(description="Last day")
    niches: list[str] = Field(default=[], description="Only these niches; all of them if empty")


@dg.op(description="Works out what a backfill would cost. Reads only.")
def cost_of_backfill(
    context: dg.OpExecutionContext, config: EstimateConfig, store: StoreResource
) -> dg.Output[str]:
    from ettametta_pipelines.definitions import defs

    with failure_policy(context, op_retries=0):  # type: ignore[arg-type]
        asked = question(config.what, config.first, config.last, config.niches)
        repository = defs().get_repository_def()
        answer = estimate(context.instance, repository, get_settings(), store.open(), asked)
    context.log.info(answer.in_words())
    return dg.Output(
        answer.in_words(),
        metadata={"in_short": answer.in_words(), "costs": dg.MetadataValue.md(answer.table())},
    )


@dg.job(
    name="estimate_backfill",
    description="Before a large backfill: how many runs, how long, how much storage, money and quota it would take, by "
    "asset, from what the same partitions took last. Fill in what and which days; the run's output has the table.",
)
def estimate_backfill() -> None:
    cost_of_backfill()


def question(what: str, first: str, last: str, niches: Sequence[str] = ()) -> Question:
    """Raises PermanentError `unknown_backfill` for what is no day."""
    try:
        return Question(what, date.fromisoformat(first), date.fromisoformat(last), tuple(niches))
    except ValueError as error:
        raise PermanentError(
            f"{first} to {last} are no days: {error}.",
            code="unknown_backfill",
            remedy="Write days as 2026-10-01.",
        ) from error


def estimate_from_command(settings: Settings, asked: Question) -> Answer:
    from ettametta_pipelines.definitions import defs
    from ettametta_pipelines.storage.objects import open_store

    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        return estimate(instance, defs().get_repository_def(), settings, open_store(settings), asked)
