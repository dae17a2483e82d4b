"""Assets of the synthesis room: plans with their price, and the clips made from them. Thin: logic is beside.

`synthesized_clips` is one asset made in steps, one for each vendor and for GPU and cinematic work, so that each step
waits in the pool of what it uses. A clip whose engine fails goes to a later step, never to an earlier one.
"""

from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import (
    LakeResource,
    PexelsResource,
    StateResource,
    StoreResource,
)
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import DAY_NICHE
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.tables import table_metadata
from ettametta_pipelines.synthesis.contracts import SYNTHESIS_PLANS, SYNTHESIZED_CLIPS

if TYPE_CHECKING:
    from ettametta_pipelines.synthesis.making import Workshop

GROUP = "synthesis"
VEO_POOL, SILICONFLOW_POOL, GPU_POOL, CINEMATIC_POOL = "veo", "siliconflow", "gpu", "cinematic"
# A cost this far from its quote, as a share, means that the price table is out of date.
DRIFT_BAR = 0.05

COSTS_CHECK, COMPLETE_CHECK = "costs_are_as_quoted", "every_plan_has_a_clip"

_MONEY = "US dollars a clip is expected to bring, by niche; a niche that is not named counts as unknown"


class PlanConfig(dg.Config):
    """What to plan, for whom, and who may make it. With a prompt, that one clip is planned and the briefs are not."""

    account: str = Field(
        default="agency",
        pattern=r"^[a-z0-9-]{1,40}$",
        description="Account whose clips these are, and that pays",
    )
    prompt: str = Field(
        default="", max_length=2000, description="Order one clip from these words instead of from the briefs"
    )
    negative_prompt: str = Field(
        default="", max_length=500, description="What is not wanted, where an engine takes it"
    )
    title: str = Field(default="", max_length=100, description="Title of an order; else its first words")
    seed: int | None = Field(
        default=None, ge=0, le=2**32 - 1, description="Seed of an order; else one that follows from its words"
    )
    engine: Literal["auto", "veo", "siliconflow", "ltx", "wan", "cinematic"] = Field(
        default="auto",
        description="auto: the best that tier, daily cap and expected margin allow; or this very one",
    )
    fallback: bool = Field(
        default=True, description="Whether another engine of the chain may stand in; the clip says so then"
    )
    format: Literal["9x16", "16x9", "1x1"] = Field(default="9x16", description="Shape of the clips")
    seconds: float = Field(
        default=6.0, ge=1, le=60, description="Length; an engine takes the nearest it can make"
    )
    top: int = Field(default=3, ge=1, le=20, description="Briefs per niche and day, best scores first")
    stills: Literal["footage_then_pexels", "footage", "pexels", "none"] = Field(
        default="footage_then_pexels",
        description="Where stills come from: the account's own footage, stock photos, or none for text alone",
    )
    still: str = Field(default="", description="Object key of the picture an order starts from")
    still_right: Literal["owned", "licensed", "generated"] = Field(
        default="owned", description="By what right that picture is used"
    )
    expected_usd: dict[str, float] = Field(default={}, description=_MONEY)
    ask_again: bool = Field(
        default=False, description="Take new stills, and order clips again that failed for good"
    )
    found_orders: dict[str, str] = Field(
        default={},
        description="For parked clips: request key -> the order's id found at the vendor, or none if there is none",
    )


@table_asset(
    SYNTHESIS_PLANS,
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    kinds={"python"},
    description="""
Which engine makes a clip for each brief, and what that costs, **before anything is spent**. Every engine is asked for
its price by the table in `engines.yaml`; the first of the chain is taken that is set up here, that the account's tier
holds, that fits in what is left of its daily budget, and that leaves a margin of what a clip of the niche is expected
to bring. *Why* says why, and why not another. Where no revenue is known, only engines that cost nothing are taken.

With `prompt` in the launchpad one clip is planned from your words. Stills come from the account's own footage, else
from Pexels, and are shown here. Planning again keeps the request of a brief, so that its clip is found and not made
again.

**If it fails:** `bad_engines_file` names the key to correct; `order_not_parked` means that a request key under
`found_orders` is not waiting. A brief without an engine does not fail the run: its row says why.
""",
)
def synthesis_plans(
    context: dg.AssetExecutionContext,
    config: PlanConfig,
    store: StoreResource,
    state: StateResource,
    lake: LakeResource,
    pexels: PexelsResource,
    creative_briefs: pd.DataFrame,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.scoring.earlier import earlier_rows
    from ettametta_pipelines.synthesis import planning, report
    from ettametta_pipelines.synthesis.engines.diffusion import runner_name
    from ettametta_pipelines.synthesis.ordering import still_finder, wishes_of

    started = monotonic()
    settings = get_settings()
    key = context.partition_key
    assert isinstance(key, dg.MultiPartitionKey)
    niche, day = key.keys_by_dimension["niche"], key.keys_by_dimension["date"]
    with failure_policy(context):
        opened, db = store.open(), state.open()
        earlier = earlier_rows(opened, SYNTHESIS_PLANS, key, warn=context.log.warning)
        decisions = planning.decide_found(db, config.found_orders)
        expected = {name: round(usd * 1e6) for name, usd in config.expected_usd.items()}
        desk = planning.open_desk(
            settings, db, config.account, clock=utc_now, gpu=runner_name(settings), expected=expected
        )
        ordered = planning.still_ordered(db, earlier, key)
        taken = {(row["plan_id"], row["account"]) for row in ordered}
        wishes = wishes_of(config.model_dump(), creative_briefs, day)
        rows = ordered + planning.plan(
            [wish for wish in wishes if (wish.identity, wish.account) not in taken],
            desk=desk,
            day=pd.Timestamp(day).date(),
            niche=niche,
            still_for=still_finder(config.model_dump(), opened, lake, pexels, settings, niche),
            earlier=earlier,
            clock=utc_now,
        )
    return dg.MaterializeResult(
        value=SYNTHESIS_PLANS.frame(rows),
        metadata={
            "planned": sum(row["status"] == "planned" for row in rows),
            "engines": dict(Counter(str(row["engine"] or row["reason_code"]) for row in rows)),
            "quoted_usd": round(sum(row["quote_usd"] or 0.0 for row in rows), 4),
            **{
                f"left_of_the_day_usd_{mode}": round(left / 1e6, 4)
                for mode, left in desk.left.items()
                if mode != "local"
            },
            "tier": desk.tier,
            "what_will_be_made": dg.MetadataValue.md(report.plan_table(rows)),
            "prices": dg.MetadataValue.md(report.considered_table(rows)),
            "stills": dg.MetadataValue.md(report.still_strip(opened, rows) or "none"),
            "decided": dg.MetadataValue.md("\n".join(decisions) or "none"),
            "took_s": round(monotonic() - started, 2),
        },
    )


def _workshop(context: dg.OpExecutionContext, store: StoreResource, state: StateResource) -> "Workshop":
    from ettametta_pipelines.synthesis.making import Workshop
    from ettametta_pipelines.synthesis.planning import budget_of

    settings, db = get_settings(), state.open()
    return Workshop(
        db,
        store.open(),
        settings.home_dir / "scratch",
        lambda account, mode: budget_of(settings, db, account, mode),
        utc_now,
        say=context.log.info,
    )


@dg.op(description="What is to be made: the plan, and what earlier runs left without an end.")
def list_clips(
    context: dg.OpExecutionContext, store: StoreResource, synthesis_plans: pd.DataFrame
) -> list[dict[str, Any]]:
    from ettametta_pipelines.scoring.earlier import earlier_rows
    from ettametta_pipelines.synthesis.clip_rows import work_list

    earlier = earlier_rows(store.open(), SYNTHESIZED_CLIPS, context.partition_key, warn=context.log.warning)
    return work_list(SYNTHESIS_PLANS.to_arrow(synthesis_plans).to_pylist(), earlier)


def _making_op(name: str, pool: str, engines: tuple[str, ...], description: str) -> dg.OpDefinition:
    """The step that makes the clips of some engines and sends on those whose engine failed."""

    @dg.op(name=name, pool=pool, description=description)
    def make(
        context: dg.OpExecutionContext, store: StoreResource, state: StateResource, rows: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        from ettametta_pipelines.synthesis.ordering import make_rows

        return make_rows(
            _workshop(context, store, state), get_settings(), rows, engines, context.partition_key
        )

    return make


MAKING = (
    _making_op("veo_clips", VEO_POOL, ("veo",), "Clips by Google's video models."),
    _making_op("siliconflow_clips", SILICONFLOW_POOL, ("siliconflow",), "Clips by Wan2.2 at SiliconFlow."),
    _making_op("gpu_clips", GPU_POOL, ("ltx", "wan"), "Clips by LTX-2 and Wan2.2 on a GPU of our own."),
    _making_op("cinematic_clips", CINEMATIC_POOL, ("cinematic",), "Stills that move; no GPU and no vendor."),
)


@dg.op(
    out=dg.Out(pd.DataFrame, io_manager_key="tables", metadata=table_metadata(SYNTHESIZED_CLIPS)),
    description="Hand every clip in as an upload, and tell what was made, at what cost, and what was not.",
)
def hand_in_clips(
    context: dg.OpExecutionContext, store: StoreResource, state: StateResource, rows: list[dict[str, Any]]
) -> dg.Output[pd.DataFrame]:
    from ettametta_pipelines.synthesis import report
    from ettametta_pipelines.synthesis.clip_rows import totals
    from ettametta_pipelines.synthesis.ordering import hand_in_rows

    started, workshop = monotonic(), _workshop(context, store, state)
    handed_in = hand_in_rows(workshop, get_settings(), rows)
    cost = totals(rows)
    return dg.Output(
        SYNTHESIZED_CLIPS.frame(rows),
        metadata={
            "clips": dict(Counter(row["status"] for row in rows)),
            "handed_in": handed_in,
            "engines": dict(Counter(row["engine"] for row in rows if row["status"] == "made")),
            "quoted_usd": round(cost["quote"] / 1e6, 4),
            "cost_usd": round(cost["cost"] / 1e6, 4),
            "what_was_made": dg.MetadataValue.md(report.clip_table(rows)),
            "preview": dg.MetadataValue.md(report.clip_strip(workshop, rows) or "none"),
            "in_motion": dg.MetadataValue.md(report.clip_previews(workshop, rows, get_settings()) or "none"),
            "took_s": round(monotonic() - started, 2),
        },
    )


# Dagster takes the result for itself and hands on None, so the type of these steps' output cannot be told.
@dg.op(description="Lay what clips cost to what they were quoted at.")
def compare_costs(rows: list[dict[str, Any]]) -> Any:
    from ettametta_pipelines.synthesis.clip_rows import worst_drift

    worst, share = worst_drift(rows)
    said = "no clip cost more or less than its quote" if worst is None else f"{worst['model']}: {share:+.0%}"
    return dg.AssetCheckResult(
        check_name=COSTS_CHECK,
        passed=abs(share) <= DRIFT_BAR,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"Farthest from its quote: {said}.",
        metadata={"drift_share": share},
    )


@dg.op(description="Lay what was made to what was planned.")
def compare_plans(rows: list[dict[str, Any]]) -> Any:
    missing = Counter(str(row["reason_code"]) for row in rows if row["status"] not in ("made", "pending"))
    return dg.AssetCheckResult(
        check_name=COMPLETE_CHECK,
        passed=not missing,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"missing": dict(missing)},
    )


@dg.graph_asset(
    name=SYNTHESIZED_CLIPS.name,
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    owners=[f"team:{GROUP}"],
    kinds={"ai", "ffmpeg"},
    metadata=table_metadata(SYNTHESIZED_CLIPS),
    ins={"synthesis_plans": dg.AssetIn("synthesis_plans")},
    check_specs=[
        dg.AssetCheckSpec(
            COSTS_CHECK,
            asset=SYNTHESIZED_CLIPS.name,
            description="What clips cost is what they were quoted at; else the price table is out of date.",
        ),
        dg.AssetCheckSpec(
            COMPLETE_CHECK,
            asset=SYNTHESIZED_CLIPS.name,
            description="Every planned clip is there, or is still being made.",
        ),
    ],
    description="""
The planned clips, made and handed in under `uploads/`, where the upload sensor takes them up like any upload: probed in
the same cage, with the right *generated*, rendered and posted as synthetic media. Engine, model, seed, cost and origin
of each stand in its row; *instead_of* names the engine whose place another one took.

Everything paid is claimed before it is ordered and ordered once: a killed run is resumed by the vendor's order, and an
order whose answer was lost is *parked* until a person has looked in the vendor's console (`found_orders` of
`synthesis_plans`). What is made already is kept when others fail; their rows say why.

**If a clip is missing:** *pending* clips are taken up again every ten minutes by themselves. `content_refused` needs
another prompt, `over_daily_cap` another day. **If the step fails:** the store or the database did; run it again,
nothing is ordered twice.
""",
)
def synthesized_clips(synthesis_plans):  # type: ignore[no-untyped-def]
    rows = list_clips(synthesis_plans)
    for make in MAKING:
        rows = make(rows)
    return {
        "result": hand_in_clips(rows),
        f"{SYNTHESIZED_CLIPS.name}_{COSTS_CHECK}": compare_costs(rows),
        f"{SYNTHESIZED_CLIPS.name}_{COMPLETE_CHECK}": compare_plans(rows),
    }


ASSETS = [synthesis_plans, synthesized_clips]
