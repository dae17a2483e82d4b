"""The asset behind the job `try_recipe`: a recipe on a piece of one video. Thin: `trial.py` does the work."""

from typing import Any

import dagster as dg
import pandas as pd
from pydantic import Field

from ettametta_pipelines.media_links import media_url
from ettametta_pipelines.orchestration.failure_policy import failure_policy
from ettametta_pipelines.orchestration.related import SOURCE, related_pages
from ettametta_pipelines.orchestration.resources import StoreResource
from ettametta_pipelines.orchestration.table_asset import table_asset
from ettametta_pipelines.partitions import SOURCE_VIDEO
from ettametta_pipelines.renders.contracts import RECIPE_TRIALS, rendition_asset
from ettametta_pipelines.settings import get_settings
from ettametta_pipelines.storage.contracts import plain_rows

WOULD_PASS = "would_pass"


class TrialConfig(dg.Config):
    """What is tried. Everything has a default; what is left empty stays as the preset has it."""

    recipe: str | None = Field(
        default=None,
        description="Preset to begin with: cinematic, clean, narrated, noir, punchy, restless, story, vhs or vintage. "
        "Empty takes the uploader's wish, else cinematic.",
    )
    format: str = Field(default="9x16", description="9x16 (upright), 16x9 (wide) or 1x1 (square).")
    start_s: float = Field(default=0.0, ge=0, description="Where in the video the piece begins, in seconds.")
    length_s: float = Field(
        default=6.0, ge=0, description="Length of the piece in seconds; 0 tries the rest of the video."
    )
    seed: int | None = Field(
        default=None,
        ge=0,
        lt=2**31,
        description="Another seed gives other grain, sway, glitches and swells of speed.",
    )
    mirror: bool | None = Field(default=None, description="Flip left and right. Not where there is writing.")
    zoom: float | None = Field(
        default=None, description="Enlarge about the centre, 1.02 to 1.08; 0 does not."
    )
    saturation: float | None = Field(default=None, description="0.7 to 1.3; 1 leaves colours as they are.")
    contrast: float | None = Field(default=None, description="0.85 to 1.2; 1 leaves contrast as it is.")
    brightness: float | None = Field(default=None, description="-0.06 to 0.06, added; 0 leaves it as it is.")
    warmth: float | None = Field(default=None, description="-1 is bluish, 1 golden, 0 as it is.")
    fit: str | None = Field(
        default=None,
        description="How another shape is filled: crop (cut the sides) or blur (all over a blurred copy).",
    )
    framing: str | None = Field(default=None, description="What a cut format shows: subject or centre.")
    letterbox: float | None = Field(
        default=None, description="Height of black bars, 0.02 to 0.15 of the picture; 0 takes them away."
    )
    vignette: float | None = Field(default=None, description="Dark corners, 0.05 to 0.8; 0 takes them away.")
    grain: int | None = Field(default=None, description="Film grain, 1 to 20, 4 is fine; 0 takes it away.")
    grayscale: bool | None = Field(default=None, description="Black and white.")
    speed_ramp: float | None = Field(
        default=None, description="Swells of speed, 0.01 to 0.05; 0 takes them away."
    )
    jitter: float | None = Field(default=None, description="Sway, 0.002 to 0.03; 0 takes it away.")
    glitch: float | None = Field(default=None, description="Torn picture, 0.1 to 1; 0 takes it away.")
    captions: str | None = Field(
        default=None, description="Style of the source's captions: plain, bold_outline, boxed, or none."
    )


@table_asset(
    RECIPE_TRIALS,
    partitions_def=SOURCE_VIDEO,
    group_name="renders",
    kinds={"ffmpeg", "mp4"},
    pool="renders",
    check_specs=[
        dg.AssetCheckSpec(
            WOULD_PASS,
            asset=RECIPE_TRIALS.name,
            description="A rendition made like this would pass its quality checks.",
        )
    ],
    description="""
A recipe tried on a piece of one video before it is used: start it from the job *try_recipe*, choose a video, a preset
and what shall differ from it. The page then shows what came out as link, moving preview and poster, the checks'
sentences, and how long it took. A trial is no rendition: it lies apart, is never posted and counts in no month.
Voice-over and cutaways are left out, since they cost money.

**If the check fails:** nothing is kept, and its sentences say what is wrong; try another strength. **If it fails:**
*bad_recipe* names the value and its range, *unknown_recipe* the presets there are, *trial_outside* says how long the
video is. Nothing depends on a trial.
""",
)
def recipe_trials(
    context: dg.AssetExecutionContext,
    config: TrialConfig,
    store: StoreResource,
    source_media: pd.DataFrame,
) -> dg.MaterializeResult:  # type: ignore[type-arg]
    from ettametta_pipelines.media.intake import require_accepted
    from ettametta_pipelines.renders.recipe import DEFAULT_RECIPE, canonical_json, load_preset
    from ettametta_pipelines.renders.trial import CHANGES, TrialOrder, changed_recipe, try_recipe

    source = plain_rows(source_media)[0]
    changes = {name: value for name in CHANGES if (value := getattr(config, name)) is not None}
    with failure_policy(context):
        require_accepted(source)
        recipe = changed_recipe(load_preset(config.recipe or source["recipe"] or DEFAULT_RECIPE), changes)
        order = TrialOrder(
            source["source_id"], source["object_key"], recipe, config.format, config.start_s,
            config.length_s or None, config.seed, source.get("captions_key"),
        )  # fmt: skip
        trial = try_recipe(store.open(), order, get_settings().home_dir / "scratch")
    row = {
        "source_id": order.source_id,
        "format": order.format,
        "recipe_name": recipe.name,
        "recipe_json": canonical_json(recipe),
        "start_s": order.start_s,
        "length_s": order.length_s,
        "object_key": trial.object_key,
        "render_key": trial.render_key,
        "seed": trial.seed,
        "size_bytes": trial.size_bytes,
        "duration_s": trial.duration_s,
        "render_seconds": trial.seconds,
        "failed_checks": [finding.name for finding in trial.failed],
    }
    sentences = " ".join(finding.sentence for finding in trial.failed)
    return dg.MaterializeResult(
        value=RECIPE_TRIALS.frame([row]),
        metadata={
            **_pictures(row, trial.preview_key, trial.poster),
            "recipe": recipe.name,
            "changed": ", ".join(f"{name} {value}" for name, value in changes.items()) or "nothing",
            "checks": _table(trial.findings),
            "render_s": round(trial.seconds, 2),
            **({} if trial.duration_s is None else {"duration_s": trial.duration_s}),
            **related_pages(order.source_id, SOURCE, rendition_asset(order.format)),
        },
        check_results=[
            dg.AssetCheckResult(
                check_name=WOULD_PASS,
                passed=not trial.failed,
                severity=dg.AssetCheckSeverity.WARN,
                description=sentences or f"All {len(trial.findings)} checks passed.",
            )
        ],
    )


def _pictures(row: dict[str, Any], preview_key: str | None, poster: bytes | None) -> dict[str, Any]:
    from ettametta_pipelines.media.animation import markdown
    from ettametta_pipelines.media.pictures import inline_picture

    if preview_key is None or poster is None:
        return {"watch": "nothing was kept: a check failed"}
    settings = get_settings()
    return {
        "watch": dg.MetadataValue.url(media_url(settings, row["object_key"])),
        "in_motion": dg.MetadataValue.md(markdown(media_url(settings, preview_key), "trial, moving")),
        "poster": dg.MetadataValue.md(inline_picture(poster, "trial")),
    }


def _table(findings: Any) -> dg.MetadataValue:
    from ettametta_pipelines.previews import cell, markdown_table

    rows = [
        [
            "passed" if one.passed else "**failed**",
            cell(one.name.replace("_", " ")),
            cell(one.sentence, limit=300),
        ]
        for one in sorted(findings, key=lambda one: one.passed)
    ]
    return dg.MetadataValue.md(markdown_table(("", "Check", "What was found"), rows))


TRIAL_ASSETS = [recipe_trials]
