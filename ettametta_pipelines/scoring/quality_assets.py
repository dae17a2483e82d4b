"""Calibration in the Dagster UI: what became of our posts, how good the score was, and which weights rank.

Assets only: they read the lake and the clock, call one function of this room and report. Weights change in two ways,
both logged with their reason: by the test in `score_challenger`, or by an operator in `score_weights`.
"""

from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.clock import business_day_bounds, utc_now
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.resources import LakeResource, StateResource, StoreResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import DAY
from ettametta_pipelines.previews import cell
from ettametta_pipelines.scoring.quality_contracts import (
    POST_OUTCOMES,
    SCORE_CHALLENGER,
    SCORE_QUALITY,
    SCORE_WEIGHTS,
)
from ettametta_pipelines.settings import get_settings

if TYPE_CHECKING:
    from ettametta_pipelines.scoring.champions import Standing
    from ettametta_pipelines.scoring.variant_effects import Variant
    from ettametta_pipelines.storage.objects import ObjectStore

GROUP = "scoring"
LESS_VARIANTS = "less_variants"


def _known_until(partition: str) -> tuple[date, datetime]:
    """The day, and its end; or now, while it lasts."""
    day = date.fromisoformat(partition)
    return day, min(business_day_bounds(day, get_settings().timezone)[1], utc_now())


@table_asset(
    POST_OUTCOMES,
    partitions_def=DAY,
    group_name=GROUP,
    kinds={"duckdb", "python"},
    deps=[
        "publication_metrics",
        *(
            dg.AssetDep(name, partition_mapping=dg.AllPartitionMapping())
            for name in (
                "youtube_publications",
                "tiktok_publications",
                "source_media",
                "creative_briefs",
                "scored_candidates",
            )
        ),
    ],
    description="""
What became of our posts of the last 180 days, as known at the end of this day: views 24 hours and 7 days after
publication against the channel's own usual (median of its 20 nearest other posts), so that channels compare. Figures
are read between two observations, never beyond them; *unknown* says why one is missing.

A post belongs to a candidate when its upload stated the brief it was made after (`brief_id` in the sidecar, or
`ettametta upload --brief`). Private posts have no audience and do not count.

**If it fails:** it only reads stored tables, so the message names the file that cannot be read.
""",
)
def post_outcomes(
    context: dg.AssetExecutionContext, lake: LakeResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.scoring import quality_report
    from ettametta_pipelines.scoring.outcomes import HORIZONS, KNOWN, LINKED, missing_reasons, read_outcomes

    with failure_policy(context):
        day, as_of = _known_until(context.partition_key)
        with lake.open() as tables:
            rows = read_outcomes(tables, day, as_of)
        frame = POST_OUTCOMES.frame(rows)
    linked = [row for row in rows if row["link"] == LINKED]
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "posts": len(rows),
            "with_candidate": len(linked),
            **{
                f"known_after_{h.name}": sum(row[f"status_{h.name}"] == KNOWN for row in linked)
                for h in HORIZONS
            },
            "unknown": {h.name: missing_reasons(rows, h.name) for h in HORIZONS},
            "newest": dg.MetadataValue.md(quality_report.outcome_table(rows)),
        },
    )


@table_asset(
    SCORE_QUALITY,
    partitions_def=DAY,
    group_name=GROUP,
    deps=["variant_results"],
    kinds={"scipy", "python"},
    check_specs=[
        dg.AssetCheckSpec(
            "ranking_is_not_backwards",
            asset="score_quality",
            description="The score does not rank our posts worse than chance: its interval over all niches is not "
            "wholly below zero.",
        )
    ],
    description="""
How well the score told beforehand what became of our posts, per niche and over all: rank correlation (Spearman), lift
of the top fifth over a random pick, reliability by bins with its isotonic curve, Brier skill of calibration on later
posts. Intervals are 95 %, from a seeded bootstrap over account-days. Where too few outcomes are known it says how many
are missing instead of a number. Only posts whose score was there before them count, and only what was picked was
posted: figures are about the choice among picks. Where an experiment of `variant_results` has a winner, the score is
judged a second time with what the variants brought taken off the outcomes (*less_variants*).

**If it fails:** it only computes from `post_outcomes` and the variants of posts; the message names what cannot be read.
**If the check fails:** look at `score_challenger`; `score_weights` can roll back to the weights before.
""",
)
def score_quality(
    context: dg.AssetExecutionContext, store: StoreResource, state: StateResource, post_outcomes: pd.DataFrame
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.scoring import quality_report
    from ettametta_pipelines.scoring.calibration import ALL, quality_rows
    from ettametta_pipelines.scoring.champions import scores_before
    from ettametta_pipelines.scoring.plots import quality_plot
    from ettametta_pipelines.scoring.variant_effects import without_variants

    with failure_policy(context):
        day = date.fromisoformat(context.partition_key)
        outcomes, scorers = POST_OUTCOMES.rows(post_outcomes), scores_before(store.open())
        measured = quality_rows(outcomes, scorers)
        carried = _decided_variants(store, state)
        if carried:
            less = {LESS_VARIANTS: scorers["champion"]}
            measured += quality_rows(without_variants(outcomes, carried), less)
        rows: list[dict[str, Any]] = [row | {"day": day} for row in measured]
        frame = SCORE_QUALITY.frame(rows)
    overall = {
        (row["horizon"], row["measure"], row["bin"]): row
        for row in rows
        if (row["niche"], row["scorer"]) == (ALL, "champion")
    }
    ranked = {horizon: overall[horizon, "rank_correlation", 0] for horizon in ("24h", "7d")}
    shown = next((h for h in ("7d", "24h") if ranked[h]["value"] is not None), "7d")
    backwards = [h for h, row in ranked.items() if row["high"] is not None and row["high"] < 0]
    plot = quality_plot(rows, horizon=shown)
    bins = [
        row for key, row in overall.items() if key[:2] == (shown, "reliability") and row["value"] is not None
    ]
    return dg.MaterializeResult(
        value=frame,
        metadata={
            **{
                f"rank_correlation_{h}": row["value"]
                if row["value"] is not None
                else f"{row['missing']} outcomes missing"
                for h, row in ranked.items()
            },
            "outcomes": {h: row["n"] for h, row in ranked.items()},
            "missing": {h: row["missing"] for h, row in ranked.items()},
            "plot": dg.MetadataValue.md(plot or "too few outcomes to draw"),
            "quality": dg.MetadataValue.md(quality_report.quality_table(rows)),
            f"reliability_{shown}": dg.MetadataValue.md(quality_report.reliability_table(bins)),
            "less_variants": f"{len(carried)} posts of experiments with a winner"
            if carried
            else "no winner yet",
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="ranking_is_not_backwards",
                passed=not backwards,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"backwards_after": ", ".join(backwards) or "none"},
            )
        ],
    )


def _decided_variants(store: StoreResource, state: StateResource) -> "dict[str, list[Variant]]":
    """Variants that posts carry of experiments with a winner, as `variant_results` was last computed."""
    from ettametta_pipelines.publishing.figures_contracts import VARIANT_RESULTS
    from ettametta_pipelines.scoring.variant_effects import decided, variants_of
    from ettametta_pipelines.storage.parquet import PartitionMissing, read_table

    try:
        results = VARIANT_RESULTS.rows(read_table(store.open(), VARIANT_RESULTS, None))
    except PartitionMissing:
        return {}
    return variants_of(state.open(), decided(results))


@table_asset(
    SCORE_CHALLENGER,
    partitions_def=DAY,
    group_name=GROUP,
    kinds={"scipy", "python"},
    description="""
Champion and challenger of the score. A challenger is learned from outcomes known by the end of this day, then scores
every candidate in shadow (`challenger_score`), ranking nothing. Once 150 outcomes of posts made after its training are
known it is tested, once: it becomes champion if its rank correlation is at least 0.05 above the champion's with
p at most 0.025 (one-sided paired bootstrap over account-days; false promotions stay below 5 %), else it retires, and
the next one learns from all. Every decision is logged in `score_weights`; a day that was decided is not decided again.

**If it fails:** `weights_decided_meanwhile` passes by itself; anything else names the table or object it could not
read. To overrule it, pin, promote or roll back in `score_weights`.
""",
)
def score_challenger(
    context: dg.AssetExecutionContext, store: StoreResource, post_outcomes: pd.DataFrame
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.scoring import quality_report
    from ettametta_pipelines.scoring.contest import hold_contest
    from ettametta_pipelines.scoring.learning import PARTS

    with failure_policy(context):
        day, as_of = _known_until(context.partition_key)
        contest = hold_contest(
            store.open(), POST_OUTCOMES.rows(post_outcomes), day, as_of,
            by=f"test, run {context.run_id}", at=utc_now(),
        )  # fmt: skip
        frame = SCORE_CHALLENGER.frame([{"day": day} | row for row in contest.rows])
    return dg.MaterializeResult(
        value=frame,
        metadata={
            **_standing_metadata(contest.standing),
            "happened": dg.MetadataValue.md("\n".join(f"- {cell(said, limit=300)}" for said in contest.said)),
            "outcomes_missing": contest.missing,
            "weights": dg.MetadataValue.md(quality_report.contest_table(contest.rows, PARTS)),
        },
    )


class WeightsConfig(dg.Config):
    """What is to be done about the weights. Without an order it only shows the log."""

    action: Literal["show", "pin", "unpin", "promote", "rollback"] = Field(
        default="show",
        description="pin: these weights rank and no test replaces them, until unpin. promote: these weights rank, "
        "later tests may replace them. rollback: the weights before these rank again.",
    )
    version: str = Field(
        default="",
        description="For pin and promote, a version of score_challenger or stated-1; empty pins the champion, or "
        "promotes the challenger.",
    )
    reason: str = Field(default="", description="Why; needed for every order, and kept.")


@table_asset(
    SCORE_WEIGHTS,
    group_name=GROUP,
    kinds={"python"},
    description="""
Which weights rank, and every decision that led there, by test or by an operator. Materialize it with a configuration
to **pin** weights, **promote** them or **roll back**; without one it only shows what holds. Scores made from then on
use the weights of then; a stored partition keeps its own until it is scored again (`weights_version` in every row).

**If it fails:** nothing was changed. `reason_missing` asks for a reason, `unknown_weights` names the versions there
are, `no_such_weights` says that there is nothing to go to.
""",
)
def score_weights(
    context: dg.AssetExecutionContext, config: WeightsConfig, store: StoreResource
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.scoring import quality_report
    from ettametta_pipelines.scoring.champions import decision_rows, order, read_decisions, standing_of

    with failure_policy(context):
        objects = store.open()
        log = read_decisions(objects)
        if config.action != "show":
            log = order(
                objects, config.action, version=config.version, reason=config.reason,
                by=f"operator, run {context.run_id}", at=utc_now(),
            )  # fmt: skip
        rows = decision_rows(log)
        frame = SCORE_WEIGHTS.frame(rows)
    return dg.MaterializeResult(
        value=frame,
        metadata={
            **_standing_metadata(standing_of(log)),
            **_shares_metadata(objects, standing_of(log)),
            "decisions": len(log),
            "log": dg.MetadataValue.md(quality_report.decision_table(rows)),
        },
    )


def _standing_metadata(standing: "Standing") -> dict[str, Any]:
    return {
        "champion": standing.champion,
        "challenger": standing.challenger or "none",
        "pinned": standing.pinned,
        "rollback_goes_to": standing.former[-1] if standing.former else "nothing before",
    }


def _shares_metadata(store: "ObjectStore", standing: "Standing") -> dict[str, Any]:
    from ettametta_pipelines.scoring.champions import weights_of

    named = {"champion": standing.champion, "challenger": standing.challenger}
    return {
        f"{role}_shares": dict(weights_of(store, version).shares)
        for role, version in named.items()
        if version
    }


QUALITY_ASSETS = [post_outcomes, score_quality, score_challenger, score_weights]
