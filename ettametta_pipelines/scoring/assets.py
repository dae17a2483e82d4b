"""Scoring in the Dagster UI: what a vision model saw, the blended score with its parts, the briefs.

Assets only: they read settings and the clock, call one function of this room and report. What was paid for stays
paid for: materializing a partition again asks only about what is new, failed, or asked differently.
"""

from collections import Counter
from time import monotonic
from typing import Literal

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.clock import utc_now
from ettametta_pipelines.discovery.contracts import TREND_CANDIDATES
from ettametta_pipelines.discovery.niches import Niche, find_niche, load_niches
from ettametta_pipelines.failure_policy import failure_policy
from ettametta_pipelines.partitions import DAY_NICHE
from ettametta_pipelines.range_runs import RANGE_POLICY, each_partition
from ettametta_pipelines.resources import GeminiResource, StoreResource
from ettametta_pipelines.scoring.contracts import CANDIDATE_ASSESSMENTS, CREATIVE_BRIEFS, SCORED_CANDIDATES
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.tables import table_metadata

GROUP = "scoring"
OWNERS = ["team:scoring"]

# With checks declared an asset has several outputs: Dagster then refuses a subscripted result annotation and needs
# the type of the value said apart.


def _niche(context: dg.AssetExecutionContext) -> Niche:
    assert isinstance(context.partition_key, dg.MultiPartitionKey)
    slug = context.partition_key.keys_by_dimension["niche"]
    return find_niche(load_niches(get_settings().niches_file), slug)


class AssessmentConfig(dg.Config):
    """Whom to ask about how many candidates, and what if the answer does not come."""

    top: int = Field(default=12, ge=1, le=100, description="How many candidates are judged, strongest first")
    fallback: Literal["none", "heuristics"] = Field(
        default="none",
        description="heuristics: what Gemini cannot judge gets a local look at its pixels, named as such",
    )
    watch_up_to_s: int = Field(
        default=180,
        ge=0,
        description="Live only: YouTube videos up to this length are watched by their public address; 0 is never",
    )
    ask_again: bool = Field(default=False, description="Pay again for judgements that are still valid")


@dg.asset(  # type: ignore[call-overload]
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"gemini", "python"},
    io_manager_key="tables",
    dagster_type=pd.DataFrame,
    metadata=table_metadata(CANDIDATE_ASSESSMENTS),
    check_specs=[
        dg.AssetCheckSpec(
            "most_were_judged",
            asset="candidate_assessments",
            description="At least three in four of the strongest candidates have a judgement.",
        )
    ],
    description="""
What Gemini saw in each of the strongest candidates: hook and why, subjects, mood, looks, safety. It sees the
thumbnail and title (live also the public video, if short), never views or likes, so that its judgement is a second
opinion. Every row names provider, model, tokens and price; a row that failed says why and leaves the others alone.

Judgements are kept: materializing again asks only about new and failed candidates (*reused*, *cost_usd* of this run).

**If it fails:** nobody could be judged. `api_key_rejected`: check GEMINI_API_KEY. `rate_limited` and
`quota_exhausted` pass by themselves. The configuration can allow `heuristics` for a night without Gemini.
""",
)
def candidate_assessments(
    context: dg.AssetExecutionContext,
    config: AssessmentConfig,
    store: StoreResource,
    gemini: GeminiResource,
    trend_candidates: pd.DataFrame,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.previews import Thumb, picture_strip
    from ettametta_pipelines.scoring import report
    from ettametta_pipelines.scoring.assessment import (
        GeminiJudge,
        PixelJudge,
        assess_candidates,
        gather_evidence,
        still_valid,
    )
    from ettametta_pipelines.scoring.earlier import earlier_rows
    from ettametta_pipelines.vendors.pictures import Picture, trusted_hosts

    started = monotonic()
    with failure_policy(context):
        client = gemini.client()
        judge = GeminiJudge(client)
        ranked = TREND_CANDIDATES.to_arrow(trend_candidates.sort_values("rank")).to_pylist()[: config.top]
        stored = earlier_rows(
            store.open(), CANDIDATE_ASSESSMENTS, context.partition_key, warn=context.log.warning
        )
        evidence = gather_evidence(
            ranked,
            http_hosts=trusted_hosts(get_settings().endpoint(name) for name in ("youtube", "tiktok")),
            watch_up_to_s=config.watch_up_to_s if client.endpoint.mode == "live" else 0,
        )
        judged = assess_candidates(
            ranked,
            evidence,
            niche_title=_niche(context).title,
            judge=judge,
            fallback=PixelJudge() if config.fallback == "heuristics" else None,
            earlier={} if config.ask_again else still_valid(stored, judge),
            clock=utc_now,
        )
        frame = CANDIDATE_ASSESSMENTS.frame(judged.rows)
    assessed = int((frame["status"] == "assessed").sum())
    strip = picture_strip(
        [
            Thumb(row["title"], seen.picture.data)
            for row in ranked[:8]
            if isinstance((seen := evidence[row["platform"], row["video_id"]]).picture, Picture)
        ]
    )
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "vendor": client.endpoint.standing,
            "assessed": assessed,
            "failed": judged.failed,
            "reused": judged.reused,
            "judged_by_fallback": judged.fallbacks,
            "failures": dict(Counter(row["reason_code"] for row in judged.rows if row["status"] == "failed")),
            "unsafe": int((frame["safety"] == "unsafe").sum()),
            "cost_usd": report.usd(judged.cost_microusd),
            "cost_microusd": judged.cost_microusd,
            "judgements": dg.MetadataValue.md(report.assessment_table(judged.rows)),
            "pictures": dg.MetadataValue.md(strip or "none could be shown"),
            "duration_s": round(monotonic() - started, 2),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="most_were_judged",
                passed=assessed >= 0.75 * len(frame),
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"assessed": assessed, "asked_for": len(frame)},
            )
        ],
    )


class ScoreConfig(dg.Config):
    """Who may have a score."""

    allow_unjudged: bool = Field(
        default=False, description="Also score candidates whose safety only a local heuristic has looked at"
    )


@dg.asset(  # type: ignore[call-overload]
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"python", "parquet"},
    io_manager_key="tables",
    dagster_type=pd.DataFrame,
    metadata=table_metadata(SCORED_CANDIDATES),
    backfill_policy=RANGE_POLICY,
    check_specs=[
        dg.AssetCheckSpec(
            "no_unsafe_candidate_has_a_score",
            asset="scored_candidates",
            blocking=True,
            description="Nothing that was judged unsafe, or not judged, goes on to a brief.",
        )
    ],
    description="""
Trend and judgement in one score from 0 to 1, with every part beside it. Parts are percentiles within the partition,
so that neither a giant niche nor a generous judge moves the scale; the best is simply ahead of the others, never
clamped. A part that is unknown stays empty, counts as the middle and is named. Weights are stated, not yet learned.

Only candidates judged safe have a score; *excluded* says why the others have none.

**If it fails:** it only computes from stored tables, so a failure is a defect: the message names table and column.
""",
)
@each_partition(
    SCORED_CANDIDATES, trend_candidates=TREND_CANDIDATES, candidate_assessments=CANDIDATE_ASSESSMENTS
)
def scored_candidates(
    context: dg.AssetExecutionContext,
    config: ScoreConfig,
    trend_candidates: pd.DataFrame,
    candidate_assessments: pd.DataFrame,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.scoring import report
    from ettametta_pipelines.scoring.blend import WEIGHTS, score_candidates

    started = monotonic()
    with failure_policy(context):
        rows = score_candidates(
            TREND_CANDIDATES.to_arrow(trend_candidates).to_pylist(),
            CANDIDATE_ASSESSMENTS.to_arrow(candidate_assessments).to_pylist(),
            allow_unjudged=config.allow_unjudged,
        )
        frame = SCORED_CANDIDATES.frame(rows)
    allowed = ("safe", "unjudged") if config.allow_unjudged else ("safe",)
    leaked = [row["video_id"] for row in rows if row["score"] is not None and row["safety"] not in allowed]
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "scored": int(frame["score"].notna().sum()),
            "excluded": dict(Counter(row["excluded"] for row in rows if row["excluded"])),
            "top_score": max((row["score"] for row in rows if row["score"] is not None), default=0.0),
            "weights": dict(WEIGHTS.shares) | {"version": WEIGHTS.version},
            "best": dg.MetadataValue.md(report.score_table(rows)),
            "judged_but_excluded": dg.MetadataValue.md(report.exclusion_table(rows)),
            "duration_s": round(monotonic() - started, 2),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="no_unsafe_candidate_has_a_score",
                passed=not leaked,
                metadata={"videos": ", ".join(leaked) or "none"},
            )
        ],
    )


class BriefConfig(dg.Config):
    """How many briefs to write."""

    top: int = Field(default=3, ge=1, le=20, description="Briefs per niche and day, best scores first")
    ask_again: bool = Field(default=False, description="Pay again for briefs that are already written")


@dg.asset(  # type: ignore[call-overload]
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    owners=OWNERS,
    kinds={"gemini", "python"},
    io_manager_key="tables",
    dagster_type=pd.DataFrame,
    metadata=table_metadata(CREATIVE_BRIEFS),
    check_specs=[
        dg.AssetCheckSpec(
            "every_pick_has_a_brief",
            asset="creative_briefs",
            description="Each of the best candidates has a brief that the render room can take.",
        )
    ],
    description="""
What to make: for each of the best candidates a brief for **original** footage that works for the same reason, with
hook text, prompt, b-roll keywords, hashtags and one of the render presets. The same day, niche and video keep their
`brief_id`; briefs already written are kept and not paid for again (*reused*, *cost_usd* of this run).

**If it fails:** no brief at all could be written. `api_key_rejected`: check GEMINI_API_KEY; `rate_limited` and
`quota_exhausted` pass by themselves. A single missing brief does not fail the run: *failed* names it, and
materializing again writes only that one.
""",
)
def creative_briefs(
    context: dg.AssetExecutionContext,
    config: BriefConfig,
    store: StoreResource,
    gemini: GeminiResource,
    scored_candidates: pd.DataFrame,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.previews import cell
    from ettametta_pipelines.scoring import report
    from ettametta_pipelines.scoring.briefs import write_briefs
    from ettametta_pipelines.scoring.earlier import earlier_rows

    started = monotonic()
    with failure_policy(context):
        scored = scored_candidates.dropna(subset=["score"]).sort_values("score_rank").head(config.top)
        stored = earlier_rows(store.open(), CREATIVE_BRIEFS, context.partition_key, warn=context.log.warning)
        client = gemini.client()
        written = write_briefs(
            SCORED_CANDIDATES.to_arrow(scored).to_pylist(),
            niche_title=_niche(context).title,
            client=client,
            earlier=[] if config.ask_again else stored,
            clock=utc_now,
        )
        frame = CREATIVE_BRIEFS.frame(written.rows)
    failed = [f"- {cell(f.title)}: {cell(str(f.error), limit=300)}" for f in written.failed]
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "vendor": client.endpoint.standing,
            "briefs": len(frame),
            "reused": written.reused,
            "failed": dg.MetadataValue.md("\n".join(failed) or "none"),
            "recipes": dict(Counter(row["recipe"] for row in written.rows)),
            "cost_usd": report.usd(written.cost_microusd),
            "cost_microusd": written.cost_microusd,
            "what_to_make": dg.MetadataValue.md(report.brief_table(written.rows)),
            "duration_s": round(monotonic() - started, 2),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="every_pick_has_a_brief",
                passed=len(frame) == len(scored),
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"picked": len(scored), "written": len(frame)},
            )
        ],
    )


ASSETS = [candidate_assessments, scored_candidates, creative_briefs]
