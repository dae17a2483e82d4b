"""Scoring in the Dagster UI: what vision models saw, the blended score with its parts, the briefs, own media judged.

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
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.range_runs import RANGE_POLICY, each_partition
from ettametta_pipelines.orchestration.resources import JudgesResource, StoreResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import DAY_NICHE, SOURCE_VIDEO
from ettametta_pipelines.scoring.contracts import (
    CANDIDATE_ASSESSMENTS,
    CREATIVE_BRIEFS,
    SCORED_CANDIDATES,
    SOURCE_ASSESSMENTS,
)
from ettametta_pipelines.settings import get_settings

GROUP = "scoring"

# With checks declared an asset has several outputs: Dagster then refuses a subscripted result annotation.


def _niche(context: dg.AssetExecutionContext) -> Niche:
    assert isinstance(context.partition_key, dg.MultiPartitionKey)
    slug = context.partition_key.keys_by_dimension["niche"]
    return find_niche(load_niches(get_settings().niches_file), slug)


MODELS_IN_ORDER = ["gemini", "openai", "groq"]
_MODELS_HELP = (
    "Who is asked, in this order: gemini, openai, groq. Sandboxed ones are left out where one is live"
)
_ACCOUNT = r"^[a-z0-9][a-z0-9-]{0,39}$"
_ACCOUNT_HELP = "Account whose daily budget for models pays"


class JudgeConfig(dg.Config):
    """Whom to ask, and what if no answer comes."""

    models: list[str] = Field(default=MODELS_IN_ORDER, description=_MODELS_HELP)
    fallback: Literal["none", "heuristics"] = Field(
        default="none",
        description="heuristics: what no model judges gets a local look at its pixels, named as such",
    )
    ask_again: bool = Field(default=False, description="Pay again for judgements that are still valid")


class AssessmentConfig(JudgeConfig):
    """How many candidates are judged, by whom and with whose money."""

    account: str = Field(default="agency", pattern=_ACCOUNT, description=_ACCOUNT_HELP)
    top: int = Field(default=12, ge=1, le=100, description="How many candidates are judged, strongest first")
    watch_up_to_s: int = Field(
        default=180,
        ge=0,
        description="Live only: YouTube videos up to this length are watched by Gemini at their address; 0 is never",
    )


@table_asset(
    CANDIDATE_ASSESSMENTS,
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    kinds={"ai", "python"},
    check_specs=[
        dg.AssetCheckSpec(
            "most_were_judged",
            asset="candidate_assessments",
            description="At least three in four of the strongest candidates have a judgement.",
        )
    ],
    description="""
What a vision model saw in each of the strongest candidates: hook and why, subjects, mood, pacing, words on screen,
looks, safety, and what to make of it. Asked are Gemini, then OpenAI, then Groq, until one answers; *models* says which
of them may be. They see the thumbnail and title (Gemini live also the public video, if short), never views or likes, so
that the judgement is a second opinion. Every row names provider, model, tokens and price, and who was left and why; a
row that failed says why and leaves the others alone.

Money comes from the account's daily budget (*budget*): the most a question can cost is set aside before it is asked.
When it is spent, nobody is asked (`budget_spent`). Judgements are kept: materializing again asks only about new and
failed candidates (*reused*, *cost_usd* of this run).

**If it fails:** nobody could be judged. `api_key_rejected`: check the key of the provider that is named.
`rate_limited` and `quota_exhausted` pass by themselves. `..._price_unknown`: add the model to the models file. The
configuration can allow `heuristics` for a night without models.
""",
)
def candidate_assessments(
    context: dg.AssetExecutionContext,
    config: AssessmentConfig,
    store: StoreResource,
    judges: JudgesResource,
    trend_candidates: pd.DataFrame,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.previews import Thumb, picture_strip
    from ettametta_pipelines.scoring import report
    from ettametta_pipelines.scoring.assessment import (
        ChainJudge,
        assess_candidates,
        gather_evidence,
        still_valid,
    )
    from ettametta_pipelines.scoring.earlier import earlier_rows
    from ettametta_pipelines.vendors.pictures import trusted_hosts

    started = monotonic()
    with failure_policy(context):
        chain = judges.chain(config.models, account=config.account)
        ranked = TREND_CANDIDATES.to_arrow(trend_candidates.sort_values("rank")).to_pylist()[: config.top]
        stored = earlier_rows(
            store.open(), CANDIDATE_ASSESSMENTS, context.partition_key, warn=context.log.warning
        )
        evidence = gather_evidence(
            ranked,
            http_hosts=trusted_hosts(get_settings().endpoint(name) for name in ("youtube", "tiktok")),
            watch_up_to_s=config.watch_up_to_s if chain.mode == "live" else 0,
        )
        judged = assess_candidates(
            ranked,
            evidence,
            niche_title=_niche(context).title,
            judge=ChainJudge(chain),
            pixels_may_judge=config.fallback == "heuristics",
            earlier=still_valid(stored, chain),
            clock=utc_now,
            ask_again=config.ask_again,
        )
        frame = CANDIDATE_ASSESSMENTS.frame(judged.rows)
    assessed = int((frame["status"] == "assessed").sum())
    strip = picture_strip(
        [
            Thumb(row["title"], pictures[0].data)
            for row in ranked[:8]
            if isinstance(pictures := evidence[row["platform"], row["video_id"]].pictures, tuple)
        ]
    )
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "judgements": dg.MetadataValue.md(report.assessment_table(judged.rows)),
            "pictures": dg.MetadataValue.md(strip or "none could be shown"),
            "vendor": chain.standing,
            "judged_by": dict(Counter(row["provider"] for row in judged.rows if row["status"] == "assessed")),
            "links_left": report.links_left(judged.rows),
            "budget": chain.purse.in_words(),
            "assessed": assessed,
            "failed": judged.failed,
            "reused": judged.reused,
            "judged_by_fallback": judged.fallbacks,
            "failures": dict(Counter(row["reason_code"] for row in judged.rows if row["status"] == "failed")),
            "unsafe": int((frame["safety"] == "unsafe").sum()),
            "cost_usd": report.usd(judged.cost_microusd),
            "cost_microusd": judged.cost_microusd,
            "took_s": round(monotonic() - started, 2),
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


@table_asset(
    SCORED_CANDIDATES,
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    kinds={"python", "parquet"},
    backfill_policy=RANGE_POLICY,
    check_specs=[
        dg.AssetCheckSpec(
            "no_unsafe_candidate_has_a_score",
            asset="scored_candidates",
            blocking=True,
            description="Nothing that was judged unsafe, or not judged, goes on to a brief.",
        ),
        dg.AssetCheckSpec(
            "scores_are_distributed_as_before",
            asset="scored_candidates",
            description="Scores look like those of the niche's last two weeks (Kolmogorov-Smirnov, p of 0.005).",
        ),
        dg.AssetCheckSpec(
            "most_parts_are_known",
            asset="scored_candidates",
            description="No part of the score is unknown for more than a third of the candidates with a score.",
        ),
    ],
    description="""
Trend and judgement in one score from 0 to 1, with every part beside it. Parts are percentiles within the partition,
so that neither a giant niche nor a generous judge moves the scale; the best is simply ahead of the others, never
clamped. A part that is unknown stays empty, counts as the middle and is named. The champion's weights rank; the
challenger's score stands beside in shadow. Which weights those are, and why, is told by `score_weights`.

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
    store: StoreResource,
    trend_candidates: pd.DataFrame,
    candidate_assessments: pd.DataFrame,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.scoring import report
    from ettametta_pipelines.scoring.blend import score_candidates
    from ettametta_pipelines.scoring.champions import read_contest
    from ettametta_pipelines.scoring.steadiness import steadiness_of

    started = monotonic()
    with failure_policy(context):
        contest = read_contest(store.open())
        rows = score_candidates(
            TREND_CANDIDATES.to_arrow(trend_candidates).to_pylist(),
            CANDIDATE_ASSESSMENTS.to_arrow(candidate_assessments).to_pylist(),
            weights=contest.champion,
            challenger=contest.challenger,
            allow_unjudged=config.allow_unjudged,
        )
        frame = SCORED_CANDIDATES.frame(rows)
        steady = steadiness_of(store.open(), rows, context.partition_key, contest.champion)
    allowed = ("safe", "unjudged") if config.allow_unjudged else ("safe",)
    leaked = [row["video_id"] for row in rows if row["score"] is not None and row["safety"] not in allowed]
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "best": dg.MetadataValue.md(report.score_table(rows)),
            "judged_but_excluded": dg.MetadataValue.md(report.exclusion_table(rows)),
            "scored": int(frame["score"].notna().sum()),
            "excluded": dict(Counter(row["excluded"] for row in rows if row["excluded"])),
            "top_score": max((row["score"] for row in rows if row["score"] is not None), default=0.0),
            "weights": dict(contest.champion.shares) | {"version": contest.champion.version},
            "pinned": contest.pinned,
            "challenger": contest.challenger.version if contest.challenger else "none",
            "unknown_parts": steady.neutral,
            "took_s": round(monotonic() - started, 2),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name="no_unsafe_candidate_has_a_score",
                passed=not leaked,
                metadata={"videos": ", ".join(leaked) or "none"},
            ),
            dg.AssetCheckResult(
                check_name="scores_are_distributed_as_before",
                passed=steady.shift.passed,
                severity=dg.AssetCheckSeverity.WARN,
                description=steady.shift.said,
                metadata={"scores": steady.shift.today, "earlier_scores": steady.shift.earlier},
            ),
            dg.AssetCheckResult(
                check_name="most_parts_are_known",
                passed=not steady.mostly_unknown,
                severity=dg.AssetCheckSeverity.WARN,
                metadata={"mostly_unknown": ", ".join(steady.mostly_unknown) or "none", **steady.neutral},
            ),
        ],
    )


class BriefConfig(dg.Config):
    """How many briefs to write, by whom and with whose money."""

    models: list[str] = Field(default=MODELS_IN_ORDER, description=_MODELS_HELP)
    account: str = Field(default="agency", pattern=_ACCOUNT, description=_ACCOUNT_HELP)
    fallback: Literal["none", "template"] = Field(
        default="template",
        description="template: what no model writes is written from a template, named as such",
    )
    top: int = Field(default=3, ge=1, le=20, description="Briefs per niche and day, best scores first")
    ask_again: bool = Field(default=False, description="Pay again for briefs that are already written")


@table_asset(
    CREATIVE_BRIEFS,
    partitions_def=DAY_NICHE,
    group_name=GROUP,
    kinds={"ai", "python"},
    check_specs=[
        dg.AssetCheckSpec(
            "every_pick_has_a_brief",
            asset="creative_briefs",
            description="Each of the best candidates has a brief that the render room can take.",
        )
    ],
    description="""
What to make: for each of the best candidates a brief for **original** footage that works for the same reason, with
hook text, titles to choose from, prompt, b-roll keywords, hashtags and one of the render presets. The same models as
for judgement are asked, from the same budget; where none writes (or `budget_spent`), a template does, and the row says
`written_by` template. The same day, niche and video keep their `brief_id`; briefs of a model are kept and not paid for
again (*reused*, *cost_usd* of this run), those of the template are asked for again.

**If it fails:** no brief at all could be written. `api_key_rejected`: check the key of the provider that is named;
`rate_limited` and `quota_exhausted` pass by themselves. A single missing brief does not fail the run: *failed* names
it, and materializing again writes only that one.
""",
)
def creative_briefs(
    context: dg.AssetExecutionContext,
    config: BriefConfig,
    store: StoreResource,
    judges: JudgesResource,
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
        chain = judges.chain(config.models, account=config.account)
        written = write_briefs(
            SCORED_CANDIDATES.to_arrow(scored).to_pylist(),
            niche_title=_niche(context).title,
            chain=chain,
            template_may_write=config.fallback == "template",
            earlier=stored,
            clock=utc_now,
            ask_again=config.ask_again,
        )
        frame = CREATIVE_BRIEFS.frame(written.rows)
    failed = [f"- {cell(f.title)}: {cell(str(f.error), limit=300)}" for f in written.failed]
    return dg.MaterializeResult(
        value=frame,
        metadata={
            "what_to_make": dg.MetadataValue.md(report.brief_table(written.rows)),
            "vendor": chain.standing,
            "links_left": report.links_left(written.rows),
            "budget": chain.purse.in_words(),
            "briefs": len(frame),
            "by_template": written.by_template,
            "reused": written.reused,
            "failed": dg.MetadataValue.md("\n".join(failed) or "none"),
            "recipes": dict(Counter(row["recipe"] for row in written.rows)),
            "cost_usd": report.usd(written.cost_microusd),
            "cost_microusd": written.cost_microusd,
            "took_s": round(monotonic() - started, 2),
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


@table_asset(
    SOURCE_ASSESSMENTS,
    partitions_def=SOURCE_VIDEO,
    group_name=GROUP,
    kinds={"ai", "ffmpeg"},
    description="""
What a vision model saw in five small frames of an accepted source video, asked as about other people's videos: hook,
mood, pacing, words on screen, looks, safety, and what an editor should make of it; beside it motion energy and cuts per
minute of the analysis and what the frames' pixels say. No job and no schedule starts it, since it sends frames of the
footage to a vendor and costs money: materialize it where that is wanted. The source's account pays from its daily
budget. A judgement that is still valid is kept.

**If it fails:** no model judged, and the message says why: `budget_spent` passes with the day, `api_key_rejected` needs
the key that is named. `decode_failed` means that the file is damaged. The configuration can allow `heuristics`.
""",
)
def source_assessments(
    context: dg.AssetExecutionContext,
    config: JudgeConfig,
    store: StoreResource,
    judges: JudgesResource,
    source_media: pd.DataFrame,
    media_analysis: pd.DataFrame,
) -> dg.MaterializeResult[pd.DataFrame]:
    from ettametta_pipelines.media.intake import require_accepted
    from ettametta_pipelines.previews import Thumb, picture_strip
    from ettametta_pipelines.scoring import report
    from ettametta_pipelines.scoring.assessment import ChainJudge, is_valid
    from ettametta_pipelines.scoring.earlier import earlier_rows
    from ettametta_pipelines.scoring.frames import assess_source, sample_frames
    from ettametta_pipelines.storage.contracts import plain_rows

    started = monotonic()
    with failure_policy(context):
        (source,), (analysis,) = plain_rows(source_media), plain_rows(media_analysis)
        require_accepted(source)
        chain = judges.chain(config.models, account=source["account"])
        opened = store.open()
        stored = earlier_rows(opened, SOURCE_ASSESSMENTS, context.partition_key, warn=context.log.warning)
        kept = [row for row in stored if is_valid(row, chain)] if not config.ask_again else []
        frames = sample_frames(opened, source["object_key"], scratch=get_settings().home_dir / "scratch")
        if kept:
            row = kept[0]
        else:
            row, failure = assess_source(
                source,
                analysis,
                frames,
                niche_title=_niche_title(source["niche"]),
                judge=ChainJudge(chain),
                pixels_may_judge=config.fallback == "heuristics",
                clock=utc_now,
            )
            if failure is not None:
                raise failure
    strip = picture_strip([Thumb(f"{frame.time_s:.1f} s", frame.jpeg) for frame in frames])
    shown = (
        "hook_strength", "hook_reason", "mood", "pacing", "text_on_screen", "aesthetics", "safety", "edit_direction",
        "motion_energy", "cuts_per_minute", "colourfulness", "sharpness", "faces", "provider", "model",
    )  # fmt: skip
    return dg.MaterializeResult(
        value=SOURCE_ASSESSMENTS.frame([row]),
        metadata={
            "vendor": chain.standing,
            "links_left": report.links_left([row]),
            "budget": chain.purse.in_words(),
            "reused": bool(kept),
            "cost_usd": 0.0 if kept else report.usd(row["cost_microusd"]),
            "frames": dg.MetadataValue.md(strip or "none could be shown"),
            **{name: row[name] for name in shown if row.get(name) is not None},
            "took_s": round(monotonic() - started, 2),
        },
    )


def _niche_title(slug: str) -> str:
    """Title of the niche a source was uploaded under; its slug where the operator has dropped the niche since."""
    niche = load_niches(get_settings().niches_file).get(slug)
    return niche.title if niche else slug


ASSETS = [candidate_assessments, scored_candidates, creative_briefs]
SOURCE_ASSETS = [source_assessments]
